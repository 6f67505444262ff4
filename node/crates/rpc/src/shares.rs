//! Fair shares of a bounded resource: bytes, streams, connections, table entries.
//!
//! A holder may take units while it holds at most [`FACTOR`] times of what stays free. Without
//! rivals that is four fifths of the pool; with more holders, each gets less, and some of the pool
//! is free for the next one whoever fills it: nobody can take all. No holder has to be known in
//! advance (dynamic thresholds: Choudhury and Hahne, "Dynamic Queue Length Thresholds for
//! Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998).
//!
//! Callers who have proved nothing belong in a smaller pool of their own, by address: a pool
//! bounds what its holders take together, but not how many holders there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// A holder's units are at most this many times the free ones.
pub const FACTOR: usize = 4;

/// No units for this holder now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// The pool has not as many free units.
    #[error("the limit for all callers is reached")]
    Pool,
    /// The holder has its fair share.
    #[error("the fair share of one caller is reached")]
    Holder,
}

/// A pool of units and who holds them. Clones share it.
#[derive(Debug)]
pub struct Shares<K>(Arc<Mutex<Pool<K>>>);

#[derive(Debug)]
struct Pool<K> {
    total: usize,
    free: usize,
    held: HashMap<K, usize>,
    /// Those that wait for units to be free again.
    waiting: Vec<Waker>,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// A pool of `total` units.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self(Arc::new(Mutex::new(Pool {
            total,
            free: total,
            held: HashMap::new(),
            waiting: Vec::new(),
        })))
    }

    /// Takes units for a holder, until the [`Share`] is dropped.
    ///
    /// # Errors
    /// [`Exhausted`] says whose limit is reached.
    pub fn try_take(&self, holder: &K, units: usize) -> Result<Share<K>, Exhausted> {
        self.0.lock().take(holder, units)?;
        Ok(Share { pool: self.clone(), holder: holder.clone(), units })
    }

    /// As [`try_take`](Self::try_take), and waits while the units are not there. More than a lone
    /// holder gets counts as that much.
    pub fn poll_take(&self, holder: &K, units: usize, cx: &mut Context<'_>) -> Poll<Share<K>> {
        let mut pool = self.0.lock();
        let units = units.min(pool.total / (FACTOR + 1) * FACTOR);
        match pool.take(holder, units) {
            Ok(()) => Poll::Ready(Share { pool: self.clone(), holder: holder.clone(), units }),
            Err(_) => {
                if !pool.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
                    pool.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Units in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.lock().total
    }

    /// Units that nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.lock().free
    }

    /// Units of one holder.
    #[must_use]
    pub fn held_by(&self, holder: &K) -> usize {
        self.0.lock().held.get(holder).copied().unwrap_or(0)
    }
}

impl<K: Clone + Eq + Hash> Pool<K> {
    fn take(&mut self, holder: &K, units: usize) -> Result<(), Exhausted> {
        let free = self.free.checked_sub(units).ok_or(Exhausted::Pool)?;
        let held = self.held.get(holder).copied().unwrap_or(0).saturating_add(units);
        if held > free.saturating_mul(FACTOR) {
            return Err(Exhausted::Holder);
        }
        self.free = free;
        self.held.insert(holder.clone(), held);
        Ok(())
    }

    /// Returns those that wait, to be woken without the lock.
    #[must_use]
    fn release(&mut self, holder: &K, units: usize) -> Vec<Waker> {
        self.free += units;
        if let Some(held) = self.held.get_mut(holder) {
            *held = held.saturating_sub(units);
            if *held == 0 {
                self.held.remove(holder);
            }
        }
        std::mem::take(&mut self.waiting)
    }
}

/// Units that are held until this is dropped.
#[derive(Debug)]
#[must_use = "the units are free again when this is dropped"]
pub struct Share<K: Clone + Eq + Hash> {
    pool: Shares<K>,
    holder: K,
    units: usize,
}

impl<K: Clone + Eq + Hash> Share<K> {
    /// Units held.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }

    /// Takes more units for the same holder.
    ///
    /// # Errors
    /// [`Exhausted`]; what is held already stays.
    pub fn grow(&mut self, units: usize) -> Result<(), Exhausted> {
        self.pool.0.lock().take(&self.holder, units)?;
        self.units += units;
        Ok(())
    }

    /// Gives units back until `units` are left.
    pub fn shrink_to(&mut self, units: usize) {
        let surplus = self.units.saturating_sub(units);
        if surplus > 0 {
            self.units = units;
            self.give_back(surplus);
        }
    }

    fn give_back(&self, units: usize) {
        let waiting = self.pool.0.lock().release(&self.holder, units);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.give_back(self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl Count {
        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn counting_waker() -> (Waker, Arc<Count>) {
        let count = Arc::<Count>::default();
        (Waker::from(Arc::clone(&count)), count)
    }

    /// Takes single units until there are no more for this holder.
    fn fill(pool: &Shares<&'static str>, holder: &'static str) -> Vec<Share<&'static str>> {
        std::iter::from_fn(|| pool.try_take(&holder, 1).ok()).collect()
    }

    #[test]
    fn a_lone_holder_leaves_a_fifth_and_each_rival_some_more() {
        let pool = Shares::new(1000);
        let first = fill(&pool, "first");
        assert_eq!(first.len(), 800);
        assert_eq!(pool.try_take(&"first", 1).unwrap_err(), Exhausted::Holder);
        let second = fill(&pool, "second");
        assert_eq!(second.len(), 160);
        assert_eq!(pool.free(), 40);
        assert!(!fill(&pool, "third").is_empty());
    }

    #[test]
    fn what_is_dropped_is_free_again() {
        let pool = Shares::new(10);
        let mut share = pool.try_take(&"a", 2).unwrap();
        share.grow(3).unwrap();
        assert_eq!((share.units(), pool.held_by(&"a"), pool.free()), (5, 5, 5));
        assert_eq!(share.grow(4).unwrap_err(), Exhausted::Holder);
        assert_eq!(share.grow(6).unwrap_err(), Exhausted::Pool);
        assert_eq!(share.units(), 5);
        drop(share);
        assert_eq!((pool.held_by(&"a"), pool.free()), (0, 10));
        assert!(pool.0.lock().held.is_empty());
    }

    #[test]
    fn who_waits_is_woken_when_units_are_free() {
        let (waker, woken) = counting_waker();
        let mut cx = Context::from_waker(&waker);
        let pool = Shares::new(10);
        let mut share = pool.try_take(&"a", 8).unwrap();
        assert!(pool.poll_take(&"a", 4, &mut cx).is_pending());
        assert!(pool.poll_take(&"a", 4, &mut cx).is_pending());
        assert_eq!(woken.count(), 0);
        share.shrink_to(2);
        assert_eq!((woken.count(), share.units(), pool.free()), (1, 2, 8));
        let Poll::Ready(more) = pool.poll_take(&"a", 4, &mut cx) else { panic!("it waits on") };
        drop((share, more));
        // More than there is can be taken as all that one holder gets.
        let Poll::Ready(all) = pool.poll_take(&"a", 1000, &mut cx) else { panic!("it waits") };
        assert_eq!(all.units(), 8);
    }

    #[test]
    fn a_newcomer_finds_room_however_many_holders_there_are() {
        let pool = Shares::new(100_000);
        let mut held = Vec::new();
        for holder in ["a", "b", "c", "d", "e"] {
            held.push(fill(&pool, holder));
            assert!(pool.free() > 0);
        }
        assert!(held.iter().all(|shares| !shares.is_empty()));
    }
}
