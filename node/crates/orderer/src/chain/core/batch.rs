//! Envelopes on their way from the queue to a proposal. Pure: time comes in.

use std::collections::VecDeque;

use bytes::Bytes;
use weft_config::{BatchSize, OrdererConfig};
use weft_consensus::{Change, Millis};

use super::{Ticket, millis};
use crate::blockcutter::BlockCutter;

/// Batches that wait for the engine. More are left in the queue, where they count.
const READY: usize = 2;
/// Shortest time, milliseconds, between two blocks that are cut because nothing is in flight. Alone, an envelope
/// is cut at once; under load this lets blocks grow, since every block costs every node signatures,
/// syncs and wake-ups.
const PACE: u64 = 5;
/// The pace grows by this with every further envelope of the block before, so that it follows the
/// load: few clients hardly wait, and many get large blocks.
const PACE_PER_ENVELOPE: u64 = 1;
/// Where that ends.
const MAX_PACE: u64 = 25;

/// What is to be proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// A batch of transactions.
    Normal(Vec<Bytes>),
    /// A configuration.
    Config(Config),
}

impl Proposal {
    /// Who waits for an answer to it.
    pub(crate) fn reply(&self) -> Option<Ticket> {
        match self {
            Self::Normal(_) => None,
            Self::Config(config) => config.reply,
        }
    }
}

/// A configuration on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The CONFIG envelope.
    pub envelope: Bytes,
    /// What it does to the membership.
    pub change: Change,
    /// The sequence of the configuration that it follows.
    pub sequence: u64,
    /// Who waits for an answer.
    pub reply: Option<Ticket>,
}

/// What waited in a [`Batcher`].
pub(crate) struct Taken {
    pub envelopes: Vec<Bytes>,
    pub configs: Vec<Config>,
}

/// Cuts batches and keeps them until the engine takes them.
pub(crate) struct Batcher {
    cutter: BlockCutter,
    /// BatchTimeout, milliseconds.
    timeout: u64,
    cut_when_idle: bool,
    /// When the pending envelopes are cut at the latest.
    deadline: Option<Millis>,
    last_cut: Option<Millis>,
    /// Time from the last cut to the next, milliseconds.
    pace: u64,
    /// When the pace allows the next cut, while nothing is in flight.
    paced: Option<Millis>,
    ready: VecDeque<Proposal>,
    config_waits: bool,
}

impl Batcher {
    pub(crate) fn new(cut_when_idle: bool) -> Self {
        Self {
            cutter: BlockCutter::new(BatchSize::default()),
            timeout: 2000,
            cut_when_idle,
            deadline: None,
            last_cut: None,
            pace: PACE,
            paced: None,
            ready: VecDeque::new(),
            config_waits: false,
        }
    }

    /// Takes over the channel's limits.
    pub(crate) fn configure(&mut self, orderer: &OrdererConfig) {
        self.cutter.set_limits(orderer.batch_size);
        self.timeout = millis(orderer.batch_timeout);
    }

    /// Whether more envelopes may be taken from the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.ready.len() < READY && !self.config_waits
    }

    pub(crate) fn add(&mut self, envelope: Bytes, now: Millis) {
        let full = self.cutter.add(envelope);
        let cut = !full.is_empty();
        if cut {
            self.last_cut = Some(now);
        }
        self.ready.extend(full.into_iter().map(Proposal::Normal));
        if self.cutter.is_empty() {
            self.deadline = None;
        } else if cut || self.deadline.is_none() {
            self.deadline = Some(now.plus(self.timeout));
        }
    }

    /// A configuration goes behind everything that came before it, and nothing behind it until
    /// it is proposed.
    pub(crate) fn add_config(&mut self, config: Config) {
        self.cut();
        self.ready.push_back(Proposal::Config(config));
        self.config_waits = true;
    }

    fn cut(&mut self) {
        let further = self.cutter.len().saturating_sub(1) as u64;
        self.pace = PACE.saturating_add(PACE_PER_ENVELOPE.saturating_mul(further)).min(MAX_PACE);
        self.deadline = None;
        self.ready.extend(self.cutter.cut().map(Proposal::Normal));
    }

    /// Cuts what is due: at the deadline, or while nothing is in flight.
    pub(crate) fn cut_if_due(&mut self, now: Millis, in_flight: usize) {
        self.paced = None;
        if self.cutter.is_empty() {
            return;
        }
        let idle = self.cut_when_idle && in_flight == 0 && self.ready.is_empty();
        let earliest =
            self.last_cut.map(|last| last.plus(self.pace)).filter(|earliest| *earliest > now);
        let due = self.deadline.is_some_and(|deadline| deadline <= now);
        if due || (idle && earliest.is_none()) {
            self.last_cut = Some(now);
            self.cut();
        } else if idle {
            self.paced = earliest;
        }
    }

    /// When [`Self::cut_if_due`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        [self.deadline, self.paced].into_iter().flatten().min()
    }

    pub(crate) fn next(&mut self) -> Option<Proposal> {
        let next = self.ready.pop_front()?;
        if matches!(next, Proposal::Config(..)) {
            self.config_waits = false;
        }
        Some(next)
    }

    /// Puts back what the engine does not take yet.
    pub(crate) fn put_back(&mut self, proposal: Proposal) {
        self.config_waits |= matches!(proposal, Proposal::Config(..));
        self.ready.push_front(proposal);
    }

    /// Whether nothing waits here.
    pub(crate) fn is_empty(&self) -> bool {
        self.cutter.is_empty() && self.ready.is_empty()
    }

    /// Cuts what there is: nothing more is waited for.
    pub(crate) fn cut_now(&mut self, now: Millis) {
        self.paced = None;
        if !self.cutter.is_empty() {
            self.last_cut = Some(now);
            self.cut();
        }
    }

    /// Takes out everything: leadership was lost.
    pub(crate) fn take_all(&mut self) -> Taken {
        self.cut();
        (self.config_waits, self.paced) = (false, None);
        let mut taken = Taken { envelopes: Vec::new(), configs: Vec::new() };
        for proposal in std::mem::take(&mut self.ready) {
            match proposal {
                Proposal::Normal(envelopes) => taken.envelopes.extend(envelopes),
                Proposal::Config(config) => taken.configs.push(config),
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher(cut_when_idle: bool) -> Batcher {
        let mut batcher = Batcher::new(cut_when_idle);
        batcher.cutter.set_limits(BatchSize { max_message_count: 3, ..BatchSize::default() });
        batcher.timeout = 1000;
        batcher
    }

    fn config() -> Config {
        Config { envelope: "c".into(), change: Change::None, sequence: 1, reply: Some(2) }
    }

    fn normal(batcher: &mut Batcher) -> Option<usize> {
        batcher.next().map(|proposal| match proposal {
            Proposal::Normal(envelopes) => envelopes.len(),
            Proposal::Config(..) => 0,
        })
    }

    #[test]
    fn an_envelope_alone_is_cut_at_once() {
        let (mut batcher, now) = (batcher(true), Millis(7));
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), Some(1));
        assert_eq!(batcher.deadline(), None);
    }

    #[test]
    fn what_follows_closely_waits_for_the_pace() {
        let (mut batcher, now) = (batcher(true), Millis(7));
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), Some(1));
        batcher.add("b".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), None);
        assert_eq!(batcher.deadline(), Some(now.plus(PACE)));
        batcher.cut_if_due(now.plus(PACE), 0);
        assert_eq!(normal(&mut batcher), Some(1));
    }

    #[test]
    fn the_pace_follows_the_size_of_blocks() {
        let (mut batcher, now) = (batcher(true), Millis(7));
        batcher.cutter.set_limits(BatchSize::default());
        for _ in 0..3 {
            batcher.add("a".into(), now);
        }
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), Some(3));
        batcher.add("b".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(batcher.deadline(), Some(now.plus(PACE + 2 * PACE_PER_ENVELOPE)));
        for _ in 0..99 {
            batcher.add("b".into(), now);
        }
        let later = now.plus(MAX_PACE);
        batcher.cut_if_due(later, 0);
        assert_eq!(normal(&mut batcher), Some(100));
        batcher.add("c".into(), later);
        batcher.cut_if_due(later, 0);
        assert_eq!(batcher.deadline(), Some(later.plus(MAX_PACE)));
    }

    #[test]
    fn while_something_is_in_flight_the_timeout_is_the_ceiling() {
        let (mut batcher, now) = (batcher(true), Millis(7));
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 1);
        assert_eq!(normal(&mut batcher), None);
        assert_eq!(batcher.deadline(), Some(now.plus(1000)));
        batcher.cut_if_due(now.plus(1000), 1);
        assert_eq!(normal(&mut batcher), Some(1));
    }

    #[test]
    fn without_cutting_when_idle_the_timeout_decides() {
        let (mut batcher, now) = (batcher(false), Millis(7));
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), None);
        batcher.cut_if_due(now.plus(1000), 0);
        assert_eq!(normal(&mut batcher), Some(1));
    }

    #[test]
    fn a_configuration_stands_alone_and_holds_the_queue() {
        let (mut batcher, now) = (batcher(true), Millis(7));
        batcher.add("a".into(), now);
        batcher.add_config(config());
        assert!(!batcher.has_room());
        assert_eq!(normal(&mut batcher), Some(1));
        let config = batcher.next().unwrap();
        assert!(batcher.has_room());
        batcher.put_back(config.clone());
        assert!(!batcher.has_room());
        assert_eq!(batcher.next(), Some(config));
        assert_eq!(batcher.next(), None);
    }

    #[test]
    fn lost_leadership_takes_out_everything() {
        let (mut batcher, now) = (batcher(true), Millis(7));
        for envelope in ["a", "b", "c", "d"] {
            batcher.add(envelope.into(), now);
        }
        batcher.add_config(config());
        let taken = batcher.take_all();
        assert_eq!(taken.envelopes, ["a", "b", "c", "d"]);
        assert_eq!(taken.configs, [config()]);
        assert!(batcher.is_empty());
        assert!(batcher.has_room());
        assert_eq!(batcher.next(), None);
    }
}
