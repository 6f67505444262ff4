//! The gauge of the states of a node's channels.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Opts, Registry};

use crate::field;

/// Label: the state of a channel.
const STATE: &str = "state";

/// `channel_state` (channel, state): 1 for the state that a channel is in, 0 for the others, and
/// no series for a channel that the node does not have. Clones share it.
#[derive(Debug, Clone)]
pub struct ChannelStates {
    gauge: IntGaugeVec,
    words: &'static [&'static str],
    shown: Arc<Mutex<BTreeSet<String>>>,
}

impl ChannelStates {
    /// The gauge, with these states.
    ///
    /// # Errors
    /// The registry's, when it has a metric of this name.
    pub fn register(
        registry: &Registry,
        words: &'static [&'static str],
    ) -> Result<Self, prometheus::Error> {
        let help = "1 for the state that a channel is in: joining, running, failed or leaving.";
        let gauge = IntGaugeVec::new(Opts::new("channel_state", help), &[field::CHANNEL, STATE])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Self { gauge, words, shown: Arc::default() })
    }

    /// Shows the states of all channels there are.
    pub fn show<'a>(&self, states: impl Iterator<Item = (&'a str, &'static str)>) {
        let mut shown = self.shown.lock();
        let before = std::mem::take(&mut *shown);
        for (channel, state) in states {
            for word in self.words {
                let series = self.gauge.with_label_values(&[channel, word]);
                series.set(i64::from(*word == state));
            }
            shown.insert(channel.to_owned());
        }
        for gone in before.difference(&shown) {
            for word in self.words {
                let _ = self.gauge.remove_label_values(&[gone.as_str(), word]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::encode;

    #[test]
    fn a_channel_is_in_one_state_and_goes_with_its_series() {
        let registry = Registry::new();
        let states = ChannelStates::register(&registry, &["running", "failed"]).unwrap();
        states.show([("a", "running"), ("b", "failed")].into_iter());
        let text = encode(&registry).unwrap();
        assert!(text.contains(r#"channel_state{channel="a",state="running"} 1"#), "{text}");
        assert!(text.contains(r#"channel_state{channel="b",state="running"} 0"#), "{text}");
        states.show([("a", "failed")].into_iter());
        let text = encode(&registry).unwrap();
        assert!(text.contains(r#"channel_state{channel="a",state="failed"} 1"#), "{text}");
        assert!(!text.contains(r#"channel="b""#), "{text}");
    }
}
