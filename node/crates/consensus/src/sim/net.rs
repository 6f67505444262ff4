//! Virtual time and a network with faults, for simulations of nodes of any kind.

use std::collections::{BTreeMap, BTreeSet};

use crate::rng::Rng;

/// What is to happen when, in virtual milliseconds. What was planned first comes first.
#[derive(Debug)]
pub struct Calendar<T> {
    now: u64,
    order: u64,
    events: BTreeMap<(u64, u64), T>,
}

impl<T> Default for Calendar<T> {
    fn default() -> Self {
        Self { now: 0, order: 0, events: BTreeMap::new() }
    }
}

impl<T> Calendar<T> {
    /// Milliseconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Plans something for `delay` milliseconds from now.
    pub fn after(&mut self, delay: u64, what: T) {
        self.order += 1;
        self.events.insert((self.now + delay, self.order), what);
    }

    /// What happens next, if that is at `end` or before; it is its time then.
    pub fn next(&mut self, end: u64) -> Option<T> {
        let entry = self.events.first_entry().filter(|entry| entry.key().0 <= end)?;
        self.now = self.now.max(entry.key().0);
        Some(entry.remove())
    }

    /// Nothing more happens before `end`.
    pub fn pass(&mut self, end: u64) {
        self.now = self.now.max(end);
    }
}

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// The least delay in milliseconds.
    pub min_delay: u64,
    /// The greatest delay; messages overtake each other within these bounds.
    pub max_delay: u64,
    /// Of a thousand messages, how many are lost.
    pub lost: u64,
    /// Of a thousand messages, how many come twice.
    pub repeated: u64,
}

impl Network {
    /// A network without faults.
    #[must_use]
    pub fn good() -> Self {
        Self { min_delay: 1, max_delay: 5, lost: 0, repeated: 0 }
    }

    /// One delay.
    pub fn delay(&self, rng: &mut Rng) -> u64 {
        rng.range(self.min_delay, self.max_delay + 1)
    }

    /// Whether a message is lost.
    pub fn loses(&self, rng: &mut Rng) -> bool {
        rng.range(0, 1000) < self.lost
    }

    /// The delays after which the copies of a message arrive that is not lost.
    pub fn copies(&self, rng: &mut Rng) -> Vec<u64> {
        let copies = if rng.range(0, 1000) < self.repeated { 2 } else { 1 };
        (0..copies).map(|_| self.delay(rng)).collect()
    }
}

/// The links that are cut, each in one direction.
#[derive(Clone, Debug, Default)]
pub struct Cuts(BTreeSet<(u64, u64)>);

impl Cuts {
    /// Cuts the link from one node to another, in that direction.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.0.insert((from, to));
    }

    /// Cuts all links between a group and the others, in both directions.
    pub fn partition(&mut self, all: &[u64], group: &BTreeSet<u64>) {
        for &a in all {
            for &b in all.iter().filter(|b| group.contains(&a) != group.contains(b)) {
                self.cut(a, b);
            }
        }
    }

    /// Restores all links.
    pub fn heal(&mut self) {
        self.0.clear();
    }

    /// Whether nothing comes from one node to another.
    #[must_use]
    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.0.contains(&(from, to))
    }

    /// Whether two nodes reach each other.
    #[must_use]
    pub fn are_linked(&self, a: u64, b: u64) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }
}
