//! Log lines that strangers can cause at will: the first of a kind at once, the others counted.
//!
//! A kind is a place in the code and never anything that a stranger chooses, so that there are as
//! many kinds as there are uses of [`sampled!`](crate::sampled), whoever calls.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// For this long after a line of a kind, further ones are counted.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// The lines of one kind.
#[derive(Debug)]
pub struct Kind(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the present interval ends.
    ends: Option<Instant>,
    left_out: u64,
}

impl Kind {
    /// Nothing was logged yet.
    #[allow(clippy::new_without_default, reason = "made in a constant")]
    pub const fn new() -> Self {
        Self(Mutex::new(State { ends: None, left_out: 0 }))
    }

    /// Whether a line is written now. `report` writes how many were not, at the end of the
    /// interval in which they came; without a runtime to wait for that, with the next line.
    pub fn admits(&'static self, report: fn(u64)) -> bool {
        let now = Instant::now();
        let mut state = self.0.lock();
        if let Some(ends) = state.ends.filter(|ends| now < *ends) {
            state.left_out += 1;
            if state.left_out == 1
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                runtime.spawn(async move {
                    tokio::time::sleep_until(ends).await;
                    self.report(report);
                });
            }
            return false;
        }
        state.ends = Some(now + INTERVAL);
        drop(state);
        self.report(report);
        true
    }

    fn report(&self, report: fn(u64)) {
        let left_out = std::mem::take(&mut self.0.lock().left_out);
        if left_out > 0 {
            report(left_out);
        }
    }
}

/// Logs what a stranger can cause, at a level and under the name of its kind: the first line at
/// once, then one a minute that counts the others.
///
/// ```
/// # let error = "no certificate";
/// weft_rpc::sampled!(warn, "TLS handshake", error, "a TLS handshake failed");
/// ```
#[macro_export]
macro_rules! sampled {
    ($level:ident, $kind:literal, $($line:tt)+) => {{
        static KIND: $crate::sample::Kind = $crate::sample::Kind::new();
        if KIND.admits(|count| {
            ::tracing::$level!(kind = $kind, count, "more of the same were left out");
        }) {
            ::tracing::$level!($($line)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_a_line_and_a_count() {
        static FLOOD: Kind = Kind::new();
        static OTHER: Kind = Kind::new();
        static REPORTED: AtomicU64 = AtomicU64::new(0);
        let report = |count| {
            assert_eq!(REPORTED.swap(count, Ordering::Relaxed), 0);
        };
        let written = (0..10_000).filter(|_| FLOOD.admits(report)).count();
        assert_eq!(written, 1);
        assert!(OTHER.admits(report), "kinds do not hide each other");
        tokio::time::sleep(INTERVAL * 2).await;
        assert_eq!(REPORTED.swap(0, Ordering::Relaxed), 9_999, "counted though none follows");
        assert!(FLOOD.admits(report));
        tokio::time::sleep(INTERVAL * 2).await;
        assert!(FLOOD.admits(report));
        assert_eq!(REPORTED.load(Ordering::Relaxed), 0, "nothing was left out");
    }
}
