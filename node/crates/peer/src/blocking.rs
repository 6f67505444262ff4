//! The door between async code and the stores.
//!
//! A read of the store takes microseconds from a warm cache and milliseconds from a cold disk. On one
//! of tokio's workers it holds up everything that shares the worker: heartbeats, handshakes, other
//! streams. So async code holds a store, a snapshot or a simulation as [`Blocking`], which has no
//! other way in than [`run`](Blocking::run) and [`run_mut`](Blocking::run_mut): the work runs where it
//! may block. What has no handle to put into one, such as opening a snapshot, goes through
//! [`blocking`].
//!
//! # How
//!
//! The calling thread stops being a worker for as long as the work takes, and another thread of
//! tokio's takes its place ([`tokio::task::block_in_place`]). So work may borrow from its task, cannot
//! outlive it, and costs one wake-up of a thread instead of the two of `spawn_blocking`. At most
//! [`MAX_AT_ONCE`] pieces of work run at once; others wait without a thread, so that a disk that hangs
//! never uses up the threads that workers are replaced from. On a runtime of one thread, as tests
//! have, the work runs where it is.
//!
//! The task itself rests while its work runs: its own timers and other futures that it polls wait too.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Most pieces of work at once, in the process. Far below the threads that tokio keeps for blocking
/// work (512 by default), which joins, commits and files need as well.
pub const MAX_AT_ONCE: usize = 64;

static PERMITS: Semaphore = Semaphore::const_new(MAX_AT_ONCE);

/// A value whose use may block, such as a ledger or a simulation.
///
/// `&mut Blocking<T>` coerces to `&mut Blocking<dyn Trait>`.
#[derive(Clone)]
pub struct Blocking<T: ?Sized>(T);

impl<T> Blocking<T> {
    /// Closes the value in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Uses the value up.
    pub async fn finish<R>(self, work: impl FnOnce(T) -> R) -> R {
        blocking(|| work(self.0)).await
    }
}

impl<T: ?Sized> Blocking<T> {
    /// Works with the value where it may block.
    pub async fn run<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        blocking(|| work(&self.0)).await
    }

    /// As [`run`](Self::run), with a value that changes.
    pub async fn run_mut<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> R {
        blocking(|| work(&mut self.0)).await
    }
}

impl<T: ?Sized> std::fmt::Debug for Blocking<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocking").finish_non_exhaustive()
    }
}

/// Runs work that may block.
pub async fn blocking<R>(work: impl FnOnce() -> R) -> R {
    // Nobody closes the semaphore.
    let _permit = PERMITS.acquire().await;
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;

    use super::*;

    /// Longest wait of a test that fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The tests share the process's permits.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_worker_goes_on_while_a_read_blocks() {
        let _alone = ALONE.lock().await;
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (release, released) = mpsc::channel();
        let store = Blocking::new(Mutex::new(released));
        let reader = tokio::spawn(async move {
            store
                .run(|released| {
                    started.send(()).unwrap();
                    released.lock().unwrap().recv_timeout(PATIENCE)
                })
                .await
        });
        has_started.await.unwrap();
        // It needs the worker that the reader ran on.
        tokio::spawn(async move { release.send(()).unwrap() }).await.unwrap();
        assert_eq!(reader.await.unwrap(), Ok(()), "the other task ran only after the read");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn no_more_than_the_limit_at_once() {
        let _alone = ALONE.lock().await;
        let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let mut jobs = Vec::new();
        for _ in 0..=MAX_AT_ONCE {
            let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
            let (started, released) = (started.clone(), Arc::clone(&released));
            let work = move || {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                started.send(()).unwrap();
                released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                at_work.fetch_sub(1, Ordering::SeqCst);
            };
            jobs.push(tokio::spawn(blocking(work)));
        }
        for _ in 0..MAX_AT_ONCE {
            has_started.recv().await.unwrap();
        }
        for _ in 0..=MAX_AT_ONCE {
            release.send(()).unwrap();
        }
        for job in jobs {
            job.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), MAX_AT_ONCE);
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_the_work_itself() {
        let mut value = Blocking::new(vec![1]);
        value.run_mut(|value| value.push(2)).await;
        assert_eq!(value.finish(|value| value.len()).await, 2);
    }

    trait Counts {
        fn count(&mut self) -> usize;
    }

    impl Counts for Vec<u8> {
        fn count(&mut self) -> usize {
            self.len()
        }
    }

    #[tokio::test]
    async fn a_trait_object_behind_the_door() {
        let mut value = Blocking::new(vec![0_u8]);
        let value: &mut Blocking<dyn Counts> = &mut value;
        assert_eq!(value.run_mut(|counts| counts.count()).await, 1);
    }
}
