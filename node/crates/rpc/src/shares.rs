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
    free: usize,
    held: HashMap<K, usize>,
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
        Self(Arc::new(Mutex::new(Pool { free: total, held: HashMap::new() })))
    }

    /// Takes units for a holder, until the [`Share`] is dropped.
    ///
    /// # Errors
    /// [`Exhausted`] says whose limit is reached.
    pub fn try_take(&self, holder: &K, units: usize) -> Result<Share<K>, Exhausted> {
        self.0.lock().take(holder, units)?;
        Ok(Share { pool: self.clone(), holder: holder.clone(), units })
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

    fn release(&mut self, holder: &K, units: usize) {
        self.free += units;
        if let Some(held) = self.held.get_mut(holder) {
            *held = held.saturating_sub(units);
            if *held == 0 {
                self.held.remove(holder);
            }
        }
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
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.pool.0.lock().release(&self.holder, self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
