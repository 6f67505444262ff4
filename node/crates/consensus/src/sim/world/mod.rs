//! The event loop: nodes, their disks, and the network between them.

mod control;
mod life;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Block, Disk};
use super::net::{Calendar, Cuts, Network};
use super::record::{Record, Violation};
use super::witness::{Promise, Reader, Witness, no_promises};
use super::{Make, consenter};
use crate::engine::{Action, Delivered, Engine, EngineError, Event, Millis, NodeId, Severity};
use crate::entry::Entry;
use crate::membership::{Change, Membership};
use crate::raft::Start;
use crate::rng::Rng;

/// How a world is.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// The network.
    pub network: Network,
    /// The longest that a sync takes, in milliseconds.
    pub sync_ms: u64,
    /// Whether every block is synced. If not, it goes out with the next synced write of the log,
    /// as it may where both share a journal.
    pub sync_blocks: bool,
    /// Of a thousand messages, how many come up to [`LATE_MS`] later than the network's delay:
    /// after elections, and after restarts of sender and receiver.
    pub late: u64,
    /// Reads what the engine's messages promise.
    pub promises: Reader,
}

/// How late late messages are at most, in milliseconds.
const LATE_MS: u64 = 1_000;

impl Default for WorldOptions {
    fn default() -> Self {
        let (sync_ms, sync_blocks, late) = (3, true, 0);
        Self { network: Network::good(), sync_ms, sync_blocks, late, promises: no_promises }
    }
}

#[derive(Debug)]
enum What {
    Arrive { from: NodeId, to: NodeId, message: Bytes },
    Timer { node: NodeId, life: u64 },
    Synced { node: NodeId, life: u64 },
    Fetch { node: NodeId, life: u64 },
    Found { node: NodeId, height: u64 },
    Restart { node: NodeId },
}

/// After which promises the next node to make one crashes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// Votes, its own candidacy included.
    Vote,
    /// Any.
    Promise,
}

struct Node {
    engine: Option<Box<dyn Engine>>,
    /// Which process this is; events for an earlier one are dropped.
    life: u64,
    disk: Disk,
    inbox: VecDeque<Event>,
    queue: VecDeque<Action>,
    syncing: bool,
    paused: bool,
    removed: bool,
    timer: Option<u64>,
    fetch: Option<(Vec<NodeId>, u64)>,
    /// A block on its way to the disk; it counts as delivered once it is there.
    writing: Option<Block>,
    start: Start,
}

impl Node {
    fn new(disk: Disk, start: Start) -> Self {
        Self {
            engine: None,
            life: 0,
            disk,
            inbox: VecDeque::new(),
            queue: VecDeque::new(),
            syncing: false,
            paused: false,
            removed: false,
            timer: None,
            fetch: None,
            writing: None,
            start,
        }
    }
}

/// How often things happened: whether a run tested what it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes killed.
    pub crashes: u64,
    /// Catch-ups asked for.
    pub catch_ups: u64,
    /// Nodes that learnt that they were removed.
    pub evictions: u64,
    /// Logs lost.
    pub wipes: u64,
    /// Nodes that were added.
    pub joins: u64,
    /// Changes of the leader that some node saw.
    pub leader_changes: u64,
    /// Processes killed right after they sent a promise.
    pub trapped: u64,
}

/// A simulated cluster.
pub struct World {
    make: Make,
    /// Its options; may be changed at any time.
    pub options: WorldOptions,
    rng: Rng,
    calendar: Calendar<What>,
    nodes: BTreeMap<NodeId, Node>,
    cuts: Cuts,
    record: Record,
    witness: Witness,
    trap: Option<Trap>,
    /// Whether the action that is being carried out sprang the trap.
    trapped: bool,
    last_arrival: u64,
    proposals: u64,
    violation: Option<Violation>,
    counts: Counts,
    /// A hash over all that was sent and delivered: equal for equal runs.
    trace: u64,
}

impl World {
    /// A channel with `size` consenters, all running.
    ///
    /// # Errors
    /// A [`Violation`] if an engine does not start.
    pub fn new(make: Make, size: u64, seed: u64, options: WorldOptions) -> Result<Self, Violation> {
        let consenters: Vec<Bytes> = (1..=size).map(consenter).collect();
        let membership = Membership::genesis(&consenters)
            .map_err(|e| Violation::Expected(format!("a genesis membership: {e}")))?;
        let envelope = Bytes::from_static(b"genesis");
        let genesis = Block {
            index: 0,
            number: 0,
            entry: Entry::config(envelope, Change::None),
            membership: Arc::new(membership),
        };
        let nodes = (1..=size)
            .map(|id| (id, Node::new(Disk::with_ledger(vec![genesis.clone()]), Start::Bootstrap)))
            .collect();
        let mut world = Self {
            make,
            options,
            rng: Rng::new(seed),
            calendar: Calendar::default(),
            nodes,
            cuts: Cuts::default(),
            record: Record::new(genesis),
            witness: Witness::default(),
            trap: None,
            trapped: false,
            last_arrival: 0,
            proposals: 0,
            violation: None,
            counts: Counts::default(),
            trace: 0,
        };
        (1..=size).for_each(|id| world.start(id));
        world.check()?;
        Ok(world)
    }

    /// The first violation so far.
    ///
    /// # Errors
    /// That violation.
    pub fn check(&self) -> Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Virtual milliseconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.calendar.now()
    }

    /// A number that two runs share only if the same happened in both.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// When the last message arrives of those sent so far.
    #[must_use]
    pub fn last_arrival(&self) -> u64 {
        self.last_arrival
    }

    /// Blocks that any node ever delivered, the genesis block included.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.record.height()
    }

    /// The history.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// How often things happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many terms had a leader that took proposals.
    #[must_use]
    pub fn terms_led(&self) -> usize {
        self.witness.terms_led()
    }

    /// Lets `ms` milliseconds pass.
    ///
    /// # Errors
    /// The first violation.
    pub fn run(&mut self, ms: u64) -> Result<(), Violation> {
        let end = self.now() + ms;
        while self.violation.is_none() {
            let Some(what) = self.calendar.next(end) else { break };
            self.happen(what);
        }
        self.calendar.pass(end);
        self.check()
    }

    /// Lets time pass until `done`, at most `ms` milliseconds.
    ///
    /// # Errors
    /// The first violation, or that `what` did not come about.
    pub fn run_until(
        &mut self,
        ms: u64,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        let end = self.now() + ms;
        while !done(self) {
            if self.now() >= end {
                return Err(Violation::Expected(format!("{what} within {ms} ms")));
            }
            self.run(5)?;
        }
        Ok(())
    }

    fn at(&mut self, delay: u64, what: What) {
        self.calendar.after(delay, what);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive { from, to, message } => {
                self.give(to, Event::Message { from, message });
            }
            What::Timer { node, life } if self.is_life(node, life) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.timer = None;
                }
                self.give(node, Event::Tick);
            }
            What::Synced { node, life } if self.is_life(node, life) => self.synced(node),
            What::Fetch { node, life } if self.is_life(node, life) => self.fetch(node),
            What::Found { node, height } => self.found(node, height),
            What::Restart { node } => self.start(node),
            What::Timer { .. } | What::Synced { .. } | What::Fetch { .. } => {}
        }
    }

    fn is_life(&self, node: NodeId, life: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.life == life && node.engine.is_some())
    }

    /// Puts an event into a running node's inbox and lets it work.
    fn give(&mut self, id: NodeId, event: Event) {
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.engine.is_some()) {
            node.inbox.push_back(event);
            self.work(id);
        }
    }

    /// The orderer's actor: take in what arrived, carry out what comes of it, wait for the disk.
    fn work(&mut self, id: NodeId) {
        loop {
            if self.violation.is_some() || !self.execute(id) {
                return;
            }
            let Some(node) = self.nodes.get_mut(&id) else { return };
            let Some(engine) = node.engine.as_mut().filter(|_| !node.paused) else { return };
            let events = std::mem::take(&mut node.inbox);
            let now = Millis(self.calendar.now());
            let errors: Vec<EngineError> =
                events.into_iter().filter_map(|event| engine.receive(now, event).err()).collect();
            node.queue.extend(engine.drain());
            let idle = node.queue.is_empty();
            for error in errors {
                self.refused(id, &error);
            }
            if idle {
                return self.set_timer(id);
            }
        }
    }

    /// Stray answers to what an earlier process asked, and messages of nodes that were removed,
    /// are refused rightly; an engine that has to stop, or has lost its log, is not as it should.
    fn refused(&mut self, node: NodeId, error: &EngineError) {
        use crate::engine::MessageError as M;
        let rightly = match error {
            EngineError::BadMessage { reason, .. } => matches!(reason, M::UnknownSender),
            EngineError::CatchUpMismatch { .. } => true,
            other => other.severity() == Severity::Retry,
        };
        if !rightly {
            self.fail(Violation::Refused { node, error: format!("{error:?}") });
        }
    }

    fn fail(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn set_timer(&mut self, id: NodeId) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(wakeup) = node.engine.as_ref().and_then(|engine| engine.wakeup()) else { return };
        let at = wakeup.0.max(now + 1);
        if node.timer.is_none_or(|set| at < set) {
            node.timer = Some(at);
            let life = node.life;
            self.at(at - now, What::Timer { node: id, life });
        }
    }

    /// Carries out actions until one has to wait for the disk. Whether all are done.
    fn execute(&mut self, id: NodeId) -> bool {
        loop {
            let Some(node) = self.nodes.get_mut(&id) else { return false };
            if node.syncing || node.paused {
                return false;
            }
            let Some(action) = node.queue.pop_front() else { return true };
            let sync = match action {
                Action::Persist(persist) => {
                    let sync = persist.sync;
                    node.disk.write_log(persist);
                    sync
                }
                Action::Deliver(delivered) => self.deliver(id, delivered),
                other => {
                    self.act(id, other);
                    false
                }
            };
            if sync {
                self.begin_sync(id);
            }
            if std::mem::take(&mut self.trapped) {
                self.spring(id);
                return false;
            }
        }
    }

    fn begin_sync(&mut self, id: NodeId) {
        let delay = self.rng.range(0, self.options.sync_ms + 1);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.syncing = true;
            let life = node.life;
            self.at(delay, What::Synced { node: id, life });
        }
    }

    fn synced(&mut self, id: NodeId) {
        let block = self.nodes.get_mut(&id).and_then(|node| node.writing.take());
        if let Some(block) = block {
            self.add_block(id, block);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.disk.sync();
            node.syncing = false;
            self.work(id);
        }
    }

    fn deliver(&mut self, id: NodeId, delivered: Delivered) -> bool {
        let Delivered { index, number, entry, membership, .. } = delivered;
        self.mix(&[id, index, number]);
        let block = Block { index, number, entry, membership };
        if !self.options.sync_blocks {
            self.add_block(id, block);
        } else if let Some(node) = self.nodes.get_mut(&id) {
            node.writing = Some(block);
        }
        self.options.sync_blocks
    }

    fn add_block(&mut self, id: NodeId, block: Block) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let known = self.record.height();
        // As long as no leader was seen, it is not known in which term a block was decided.
        let moment = (self.calendar.now(), self.witness.last_term_led().unwrap_or(u64::MAX));
        let checked = self.record.deliver(id, &block, node.disk.ledger().last(), moment);
        node.disk.write_block(block.clone());
        if let Err(violation) = checked {
            return self.fail(violation);
        }
        if self.record.height() > known {
            self.start_newcomer(&block);
        }
    }

    fn act(&mut self, id: NodeId, action: Action) {
        match action {
            Action::Send { to, message } => self.send(id, to, message),
            Action::Leading { term } => {
                let ledger = self.nodes.get(&id).and_then(|node| node.disk.ledger().last());
                let last = ledger.map_or(0, |block| block.index);
                let one = self.witness.leads(id, term).map(|_| ());
                let complete = one.and(self.record.leads(id, term, last));
                complete.unwrap_or_else(|violation| self.fail(violation));
            }
            Action::CatchUp { from, height, .. } => {
                self.counts.catch_ups += 1;
                self.begin_fetch(id, from, height);
            }
            Action::LeaderChanged { .. } => self.counts.leader_changes += 1,
            Action::Evicted => {
                self.counts.evictions += 1;
                self.stop(id);
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.removed = true;
                }
            }
            // Engines that ask for these are simulated with their own answers.
            _ => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Bytes) {
        let network = self.options.network;
        self.mix(&[from, to, message.len() as u64]);
        if let Some(promise) = (self.options.promises)(from, to, &message) {
            self.promised(from, promise);
        }
        if self.cuts.is_cut(from, to) || network.loses(&mut self.rng) {
            if self.rng.range(0, 4) == 0 {
                let node = to;
                if let Some(sender) = self.nodes.get_mut(&from) {
                    sender.inbox.push_back(Event::Unreachable { node });
                }
            }
            return;
        }
        for delay in network.copies(&mut self.rng) {
            let late = self.rng.range(0, 1000) < self.options.late;
            let delay = delay + if late { self.rng.range(0, LATE_MS) } else { 0 };
            self.last_arrival = self.last_arrival.max(self.now() + delay);
            self.at(delay, What::Arrive { from, to, message: message.clone() });
        }
    }

    fn promised(&mut self, node: NodeId, promise: Promise) {
        let complete = match self.witness.see(node, promise) {
            Ok(Some(term)) => self.log_is_complete(node, term),
            Ok(None) => Ok(()),
            Err(violation) => Err(violation),
        };
        complete.unwrap_or_else(|violation| self.fail(violation));
        self.trapped = match self.trap {
            Some(Trap::Promise) => true,
            Some(Trap::Vote) => matches!(promise, Promise::Vote { .. }),
            None => false,
        };
        self.trap = self.trap.filter(|_| !self.trapped);
    }

    /// Checks a new leader's log, unless the node has moved on since it wrote the message.
    fn log_is_complete(&self, node: NodeId, term: u64) -> Result<(), Violation> {
        match self.status(node).filter(|status| status.term == term) {
            Some(status) => self.record.leads(node, term, status.last_index),
            None => Ok(()),
        }
    }

    fn mix(&mut self, values: &[u64]) {
        let now = self.now();
        for value in values.iter().chain(&[now]) {
            self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
    }

    /// A new batch that differs from all others.
    pub fn batch(&mut self) -> Entry {
        self.proposals += 1;
        let envelopes = (0..self.rng.range(1, 4)).map(|part| {
            let padding = "x".repeat(self.rng.range(0, 200) as usize);
            Bytes::from(format!("{}-{part}-{padding}", self.proposals))
        });
        Entry::normal(envelopes.collect())
    }

    /// A new config entry that leads to these consenters.
    ///
    /// # Errors
    /// That the membership cannot be changed so.
    pub fn config(&mut self, consenters: &[Bytes]) -> Result<Entry, Violation> {
        self.proposals += 1;
        let envelope = Bytes::from(format!("{}-config", self.proposals));
        let membership = self.membership();
        let change = membership.as_ref().map(|now| Ok(now.change_to(&now.updated(consenters)?)));
        match change {
            Some(Ok(change)) => Ok(Entry::config(envelope, change)),
            Some(Err::<_, crate::MembershipError>(e)) => Err(Violation::Expected(e.to_string())),
            None => Err(Violation::Expected("a membership".into())),
        }
    }

    /// Proposes at a node.
    ///
    /// # Errors
    /// The engine's refusal; `None` if the node does not run, or is busy with its disk.
    pub fn propose(&mut self, id: NodeId, entry: Entry) -> Result<(), Option<EngineError>> {
        let now = self.now();
        let node = self.nodes.get_mut(&id).filter(|node| !node.paused && !node.syncing);
        // Rule 3 of the engine's contract: what was delivered is applied first.
        let node = node.filter(|node| node.queue.is_empty());
        let engine = node.and_then(|node| node.engine.as_mut()).ok_or(None)?;
        let taken = engine.receive(Millis(now), Event::Propose(entry.clone()));
        if taken.is_ok() {
            self.record.proposed(&entry, now);
        }
        self.work(id);
        taken.map_err(Some)
    }
}
