//! The threads that verify signatures, shared by all channels.

use std::sync::Arc;

use rayon::prelude::*;

/// Items that are not worth waking the pool.
const IN_PLACE: usize = 4;

/// A fixed set of threads for work that needs a processor and nothing else.
#[derive(Clone, Debug)]
pub struct Pool(Arc<rayon::ThreadPool>);

/// The threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start {workers} threads for validation")]
pub struct PoolError {
    /// How many were asked for; 0 is one a core.
    pub workers: usize,
    /// The cause.
    #[source]
    pub source: rayon::ThreadPoolBuildError,
}

impl Pool {
    /// Starts `workers` threads; 0 is one a core.
    ///
    /// # Errors
    /// [`PoolError`] when the system refuses a thread.
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|index| format!("verify-{index}"))
            .build()
            .map(|pool| Self(Arc::new(pool)))
            .map_err(|source| PoolError { workers, source })
    }

    /// Applies `work` to every item and keeps their order. The calling thread waits. A few items are
    /// worked on where they are: waking the pool, whose threads look for work for a while before
    /// they sleep again, would cost more than it saves.
    pub fn map<T, R, F>(&self, items: &[T], work: F) -> Vec<R>
    where
        T: Sync,
        R: Send,
        F: Fn(usize, &T) -> R + Sync + Send,
    {
        if items.len() <= IN_PLACE {
            return items.iter().enumerate().map(|(index, item)| work(index, item)).collect();
        }
        self.0.install(|| {
            items.par_iter().enumerate().map(|(index, item)| work(index, item)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Pool;

    #[test]
    fn keeps_the_order() {
        let pool = Pool::new(2).unwrap();
        let items: Vec<u32> = (0..1000).collect();
        let doubled = pool.map(&items, |index, item| (index, item * 2));
        assert!(doubled.iter().enumerate().all(|(i, (at, v))| i == *at && *v == 2 * items[i]));
        assert!(pool.map(&[] as &[u32], |_, item| *item).is_empty());
        assert_eq!(pool.map(&[7], |index, item| (index, *item)), [(0, 7)]);
    }
}
