//! Envelopes on their way from the queue to a proposal. Pure: time comes in.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weft_config::{BatchSize, OrdererConfig};
use weft_consensus::Change;

use crate::blockcutter::BlockCutter;

/// Batches that wait for the engine. More are left in the queue, where they count.
const READY: usize = 2;
/// Shortest time between two blocks that are cut because nothing is in flight. Alone, an envelope
/// is cut at once; under load this lets blocks grow, since every block costs every node signatures,
/// syncs and wake-ups.
const PACE: Duration = Duration::from_millis(5);
/// The pace grows by this with every further envelope of the block before, so that it follows the
/// load: few clients hardly wait, and many get large blocks.
const PACE_PER_ENVELOPE: Duration = Duration::from_millis(1);
/// Where that ends.
const MAX_PACE: Duration = Duration::from_millis(25);

/// What is to be proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// A batch of transactions.
    Normal(Vec<Bytes>),
    /// A configuration with what it does to the membership.
    Config(Bytes, Change),
}

/// Cuts batches and keeps them until the engine takes them.
pub(crate) struct Batcher {
    cutter: BlockCutter,
    timeout: Duration,
    cut_when_idle: bool,
    /// When the pending envelopes are cut at the latest.
    deadline: Option<Instant>,
    last_cut: Option<Instant>,
    /// Time from the last cut to the next.
    pace: Duration,
    /// When the pace allows the next cut, while nothing is in flight.
    paced: Option<Instant>,
    ready: VecDeque<Proposal>,
    config_waits: bool,
}

impl Batcher {
    pub(crate) fn new(cut_when_idle: bool) -> Self {
        Self {
            cutter: BlockCutter::new(BatchSize::default()),
            timeout: Duration::from_secs(2),
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
        self.timeout = orderer.batch_timeout;
    }

    /// Whether more envelopes may be taken from the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.ready.len() < READY && !self.config_waits
    }

    pub(crate) fn add(&mut self, envelope: Bytes, now: Instant) {
        let full = self.cutter.add(envelope);
        let cut = !full.is_empty();
        if cut {
            self.last_cut = Some(now);
        }
        self.ready.extend(full.into_iter().map(Proposal::Normal));
        if self.cutter.is_empty() {
            self.deadline = None;
        } else if cut || self.deadline.is_none() {
            self.deadline = Some(now + self.timeout);
        }
    }

    /// A configuration goes behind everything that came before it, and nothing behind it until
    /// it is proposed.
    pub(crate) fn add_config(&mut self, envelope: Bytes, change: Change) {
        self.cut();
        self.ready.push_back(Proposal::Config(envelope, change));
        self.config_waits = true;
    }

    fn cut(&mut self) {
        let further = u32::try_from(self.cutter.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.pace = PACE.saturating_add(PACE_PER_ENVELOPE.saturating_mul(further)).min(MAX_PACE);
        self.deadline = None;
        self.ready.extend(self.cutter.cut().map(Proposal::Normal));
    }

    /// Cuts what is due: at the deadline, or while nothing is in flight.
    pub(crate) fn cut_if_due(&mut self, now: Instant, in_flight: usize) {
        self.paced = None;
        if self.cutter.is_empty() {
            return;
        }
        let idle = self.cut_when_idle && in_flight == 0 && self.ready.is_empty();
        let earliest =
            self.last_cut.map(|last| last + self.pace).filter(|earliest| *earliest > now);
        let due = self.deadline.is_some_and(|deadline| deadline <= now);
        if due || (idle && earliest.is_none()) {
            self.last_cut = Some(now);
            self.cut();
        } else if idle {
            self.paced = earliest;
        }
    }

    /// When [`Self::cut_if_due`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
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

    /// Takes out everything: leadership was lost. Configurations are given up.
    pub(crate) fn take_all(&mut self) -> Vec<Bytes> {
        self.cut();
        self.config_waits = false;
        let normal = std::mem::take(&mut self.ready).into_iter().map(|proposal| match proposal {
            Proposal::Normal(envelopes) => envelopes,
            Proposal::Config(..) => Vec::new(),
        });
        normal.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher(cut_when_idle: bool) -> Batcher {
        let mut batcher = Batcher::new(cut_when_idle);
        batcher.cutter.set_limits(BatchSize { max_message_count: 3, ..BatchSize::default() });
        batcher.timeout = Duration::from_secs(1);
        batcher
    }

    fn normal(batcher: &mut Batcher) -> Option<usize> {
        batcher.next().map(|proposal| match proposal {
            Proposal::Normal(envelopes) => envelopes.len(),
            Proposal::Config(..) => 0,
        })
    }

    #[test]
    fn an_envelope_alone_is_cut_at_once() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), Some(1));
        assert_eq!(batcher.deadline(), None);
    }

    #[test]
    fn what_follows_closely_waits_for_the_pace() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), Some(1));
        batcher.add("b".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), None);
        assert_eq!(batcher.deadline(), Some(now + PACE));
        batcher.cut_if_due(now + PACE, 0);
        assert_eq!(normal(&mut batcher), Some(1));
    }

    #[test]
    fn the_pace_follows_the_size_of_blocks() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        batcher.cutter.set_limits(BatchSize::default());
        for _ in 0..3 {
            batcher.add("a".into(), now);
        }
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), Some(3));
        batcher.add("b".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(batcher.deadline(), Some(now + PACE + 2 * PACE_PER_ENVELOPE));
        for _ in 0..99 {
            batcher.add("b".into(), now);
        }
        let later = now + MAX_PACE;
        batcher.cut_if_due(later, 0);
        assert_eq!(normal(&mut batcher), Some(100));
        batcher.add("c".into(), later);
        batcher.cut_if_due(later, 0);
        assert_eq!(batcher.deadline(), Some(later + MAX_PACE));
    }

    #[test]
    fn while_something_is_in_flight_the_timeout_is_the_ceiling() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 1);
        assert_eq!(normal(&mut batcher), None);
        assert_eq!(batcher.deadline(), Some(now + Duration::from_secs(1)));
        batcher.cut_if_due(now + Duration::from_secs(1), 1);
        assert_eq!(normal(&mut batcher), Some(1));
    }

    #[test]
    fn without_cutting_when_idle_the_timeout_decides() {
        let (mut batcher, now) = (batcher(false), Instant::now());
        batcher.add("a".into(), now);
        batcher.cut_if_due(now, 0);
        assert_eq!(normal(&mut batcher), None);
        batcher.cut_if_due(now + Duration::from_secs(1), 0);
        assert_eq!(normal(&mut batcher), Some(1));
    }

    #[test]
    fn a_configuration_stands_alone_and_holds_the_queue() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        batcher.add("a".into(), now);
        batcher.add_config("c".into(), Change::None);
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
    fn lost_leadership_leaves_the_transactions() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        for envelope in ["a", "b", "c", "d"] {
            batcher.add(envelope.into(), now);
        }
        batcher.add_config("x".into(), Change::None);
        assert_eq!(batcher.take_all(), ["a", "b", "c", "d"]);
        assert!(batcher.has_room());
        assert_eq!(batcher.next(), None);
    }
}
