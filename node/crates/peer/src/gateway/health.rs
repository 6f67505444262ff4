//! What is remembered of the nodes that calls are sent to, orderers and endorsers, shared by all
//! calls of this peer: who answers, how fast, and who gives no sign of life.
//!
//! [`Health`] and [`Budget`] are values; the time is an input. A node is
//!
//! - *healthy* while it answers;
//! - *suspect* when calls wait for it and none was answered for longer than [`Health::delay`], when
//!   it failed, or when another node, asked later, was faster. A suspect is asked last;
//! - *probing* when its rest, which doubles with every failure, is over: one call may ask it again.
//!   Any answer makes it healthy.
//!
//! A call is noted by an [`Asked`], which goes with the call to whoever waits for the answer, not
//! with the client: a client that gives up first takes nothing away of what was learnt.
//!
//! The delay before another node is asked follows the latencies of late (Dean and Barroso, "The Tail
//! at Scale", Communications of the ACM 56(2), 2013). Fabric's gateway waits for the whole timeout.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Latencies that are remembered of a node.
const WINDOW: usize = 128;
/// The delay is this many times the 99th percentile.
const FACTOR: u32 = 3;
/// What is known to be suspect is waited for this part of the delay only.
const SUSPECT_PART: u32 = 4;
/// First and longest rest of a node that failed.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Nodes that are remembered, at most.
const MAX_NODES: usize = 1024;

/// What a node is good for at a moment; the better ones are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It answers, as far as is known.
    Healthy,
    /// It failed some time ago; one call may find out whether it is well again.
    Probing,
    /// It failed, or gives no sign of life.
    Suspect,
}

/// Between which times the delay of a kind of call lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// The shortest.
    pub floor: Duration,
    /// The longest.
    pub ceiling: Duration,
}

/// What is known of one node.
#[derive(Debug, Clone)]
pub struct Health {
    delays: Delays,
    unanswered: usize,
    /// Since when calls wait and none was answered.
    silent_since: Option<Instant>,
    rest: Option<Rest>,
    latencies: Latencies,
}

/// A node is left alone until a time.
#[derive(Debug, Clone, Copy)]
struct Rest {
    failures: u32,
    until: Instant,
}

impl Health {
    /// A node that nothing is known of.
    #[must_use]
    pub fn new(delays: Delays) -> Self {
        Self {
            delays,
            unanswered: 0,
            silent_since: None,
            rest: None,
            latencies: Latencies::default(),
        }
    }

    /// A call was sent.
    pub fn sent(&mut self, now: Instant) {
        self.unanswered += 1;
        self.silent_since.get_or_insert(now);
    }

    /// A call was answered after so long, whatever the answer.
    pub fn answered(&mut self, now: Instant, took: Duration) {
        // A suspect's answers say nothing about what is usual.
        if self.standing(now) == Standing::Healthy {
            self.latencies.record(took.min(self.delays.ceiling));
        }
        self.rest = None;
        self.gone();
        self.silent_since = (self.unanswered > 0).then_some(now);
    }

    /// A call ended without an answer: the node cannot be reached, broke off, or took too long.
    pub fn failed(&mut self, now: Instant) {
        self.suspect(now);
        self.gone();
    }

    /// Nobody waits any more for the answer of a call that was sent at `sent`.
    pub fn withdrawn(&mut self, now: Instant, sent: Instant) {
        let silent = self.silent_since.map(|since| since.max(sent));
        if silent.is_some_and(|since| now.duration_since(since) >= self.usual()) {
            self.suspect(now);
        }
        self.gone();
    }

    /// Another node, asked later, answered first.
    pub fn overtaken(&mut self, now: Instant) {
        self.suspect(now);
    }

    fn gone(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.silent_since = None;
        }
    }

    /// Failures during one rest count once.
    fn suspect(&mut self, now: Instant) {
        let failures = match self.rest {
            Some(rest) if rest.until > now => return,
            Some(rest) => rest.failures.saturating_add(1),
            None => 1,
        };
        let wait = REST.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(REST.1);
        self.rest = Some(Rest { failures, until: now + wait });
    }

    /// Whether calls wait and none was answered for the delay.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silent_since.is_some_and(|since| now.duration_since(since) >= self.usual())
    }

    /// What the node is good for now.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        match self.rest {
            _ if self.is_silent(now) => Standing::Suspect,
            None => Standing::Healthy,
            Some(rest) if rest.until <= now && self.unanswered == 0 => Standing::Probing,
            Some(_) => Standing::Suspect,
        }
    }

    /// How long an answer is waited for before another node is asked too.
    #[must_use]
    pub fn delay(&self, now: Instant) -> Duration {
        match self.standing(now) {
            Standing::Healthy => self.usual(),
            Standing::Probing | Standing::Suspect => self.usual() / SUSPECT_PART,
        }
    }

    fn usual(&self) -> Duration {
        let usual = self.latencies.high().saturating_mul(FACTOR);
        usual.clamp(self.delays.floor, self.delays.ceiling.max(self.delays.floor))
    }
}

/// The last latencies.
#[derive(Debug, Clone, Default)]
struct Latencies {
    ring: Vec<Duration>,
    next: usize,
}

impl Latencies {
    fn record(&mut self, took: Duration) {
        match self.ring.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.ring.push(took),
        }
        self.next = (self.next + 1) % WINDOW;
    }

    /// The 99th percentile: all but the slowest of a full window.
    fn high(&self) -> Duration {
        let (mut first, mut second) = (Duration::ZERO, Duration::ZERO);
        for took in self.ring.iter().copied() {
            second = second.max(took.min(first));
            first = first.max(took);
        }
        if self.ring.len() < WINDOW { first } else { second }
    }
}

/// How many calls may be sent twice only because an answer is slow: a part of all calls, and a few at
/// once. A token bucket that calls fill, not time.
#[derive(Debug, Clone)]
pub struct Budget {
    credit: u32,
}

impl Budget {
    /// One call in so many may be sent twice.
    pub const ONE_IN: u32 = 20;
    /// So many may be at once.
    pub const BURST: u32 = 10;

    /// A call was made.
    pub fn earn(&mut self) {
        self.credit = (self.credit + 1).min(Self::BURST * Self::ONE_IN);
    }

    /// Takes leave to send a call twice.
    pub fn spend(&mut self) -> bool {
        let left = self.credit.checked_sub(Self::ONE_IN);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { credit: Self::BURST * Self::ONE_IN }
    }
}

/// The health of all nodes of one kind, by address. Clones share it.
#[derive(Debug, Clone)]
pub struct HealthTable(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    delays: Delays,
    nodes: HashMap<String, Health>,
    budget: Budget,
}

impl HealthTable {
    /// A table of nodes that nothing is known of.
    #[must_use]
    pub fn new(delays: Delays) -> Self {
        let table = Table { delays, nodes: HashMap::new(), budget: Budget::default() };
        Self(Arc::new(Mutex::new(table)))
    }

    fn with<T>(&self, address: &str, act: impl FnOnce(&mut Health) -> T) -> T {
        let mut table = self.0.lock();
        let delays = table.delays;
        if !table.nodes.contains_key(address) {
            if table.nodes.len() >= MAX_NODES {
                // Addresses come and go with configurations. Calls under way end on fresh records.
                table.nodes.clear();
            }
            table.nodes.insert(address.to_owned(), Health::new(delays));
        }
        match table.nodes.get_mut(address) {
            Some(health) => act(health),
            None => act(&mut Health::new(delays)),
        }
    }

    /// Notes a call to a node, until it is answered, fails, or is dropped.
    #[must_use]
    pub fn ask(&self, address: &str) -> Asked {
        let now = Instant::now();
        self.with(address, |health| health.sent(now));
        Asked { table: self.clone(), address: address.to_owned(), at: now, open: true }
    }

    /// What a node is good for now.
    #[must_use]
    pub fn standing(&self, address: &str, now: Instant) -> Standing {
        self.with(address, |health| health.standing(now))
    }

    /// How long an answer of a node is waited for before another one is asked too.
    #[must_use]
    pub fn delay(&self, address: &str, now: Instant) -> Duration {
        self.with(address, |health| health.delay(now))
    }

    /// Another node, asked later, answered first.
    pub fn overtaken(&self, address: &str) {
        self.with(address, |health| health.overtaken(Instant::now()));
    }

    /// A call was made, to whichever node.
    pub fn earn(&self) {
        self.0.lock().budget.earn();
    }

    /// Whether a call that waits for this node may be sent to another one as well: always when the
    /// node gives no sign of life, else within the budget.
    #[must_use]
    pub fn may_hedge(&self, address: &str, now: Instant) -> bool {
        self.with(address, |health| health.is_silent(now)) || self.0.lock().budget.spend()
    }
}

/// A call that a node has not answered.
#[derive(Debug)]
pub struct Asked {
    table: HealthTable,
    address: String,
    at: Instant,
    open: bool,
}

impl Asked {
    /// The node answered, whatever it said.
    pub fn answered(mut self) {
        self.open = false;
        let now = Instant::now();
        let took = now.duration_since(self.at);
        self.table.with(&self.address, |health| health.answered(now, took));
    }

    /// There will be no answer.
    pub fn failed(mut self) {
        self.open = false;
        self.table.with(&self.address, |health| health.failed(Instant::now()));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open {
            let at = self.at;
            self.table.with(&self.address, |health| health.withdrawn(Instant::now(), at));
        }
    }
}
