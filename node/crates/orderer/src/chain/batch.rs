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
        self.deadline = None;
        self.ready.extend(self.cutter.cut().map(Proposal::Normal));
    }

    /// Cuts what is due: at the deadline, or while nothing is in flight.
    pub(crate) fn cut_if_due(&mut self, now: Instant, in_flight: usize) {
        let idle = self.cut_when_idle && in_flight == 0 && self.ready.is_empty();
        if idle || self.deadline.is_some_and(|deadline| deadline <= now) {
            self.cut();
        }
    }

    /// When [`Self::cut_if_due`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
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
