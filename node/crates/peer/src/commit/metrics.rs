//! Metrics of validation and commit.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use weft_channels::State;
use weft_ops::channel_states::ChannelStates;
use weft_types::{ChannelId, ValidationCode};

use super::values::Counts;

/// Names shared by metrics' labels and traces' fields.
pub mod field {
    /// Channel id.
    pub const CHANNEL: &str = "channel";
    /// Validation code, such as `VALID`.
    pub const CODE: &str = "validation_code";
    /// Number of a block.
    pub const BLOCK: &str = "block";
    /// `host:port` of an orderer.
    pub const ORDERER: &str = "orderer";
    /// Why a source of blocks was left.
    pub const REASON: &str = "reason";
}

const BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Metrics of one peer's channels. Clones share them.
#[derive(Debug, Clone)]
pub struct CommitMetrics {
    states: ChannelStates,
    height: IntGaugeVec,
    transactions: IntCounterVec,
    verify: HistogramVec,
    validate: HistogramVec,
    write: HistogramVec,
    queued: IntGaugeVec,
    sources_left: IntCounterVec,
    blocks_received: IntCounterVec,
    private_pulled: IntCounterVec,
    private_missing: IntCounterVec,
    private_reconciled: IntCounterVec,
    private_expired: IntCounterVec,
}

/// What one block took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    /// Decoding and signatures.
    pub(crate) verify: Duration,
    /// Duplicates, policies and versions.
    pub(crate) validate: Duration,
    /// The write with its sync.
    pub(crate) write: Duration,
}

impl CommitMetrics {
    /// Makes the metrics in a registry.
    ///
    /// # Errors
    /// Fails when the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            let made = HistogramVec::new(options, &[field::CHANNEL])?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGaugeVec::new(Opts::new(name, help), &[field::CHANNEL])?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        Ok(Self {
            states: ChannelStates::register(registry, &State::WORDS)?,
            height: gauge("ledger_blockchain_height", "Height of the chain in blocks.")?,
            transactions: counter(
                "ledger_transaction_count",
                "Transactions committed, by validation code.",
                &[field::CHANNEL, field::CODE],
            )?,
            verify: histogram(
                "committer_block_verification_seconds",
                "Time to decode a block's transactions and verify their signatures.",
            )?,
            validate: histogram(
                "committer_block_validation_seconds",
                "Time to check a block's duplicates, endorsement policies and versions.",
            )?,
            write: histogram(
                "committer_block_write_seconds",
                "Time to write a block with its state and to sync it.",
            )?,
            queued: gauge(
                "committer_queued_blocks",
                "Blocks received from orderers and not yet committed.",
            )?,
            sources_left: counter(
                "deliver_client_sources_left",
                "Orderers left for another, by reason.",
                &[field::CHANNEL, field::REASON],
            )?,
            blocks_received: counter(
                "deliver_client_blocks_received",
                "Blocks received from orderers and found sound.",
                &[field::CHANNEL],
            )?,
            private_pulled: counter(
                "private_data_pulled",
                "Collections of transactions whose private writes came from other peers in time for the block.",
                &[field::CHANNEL],
            )?,
            private_missing: counter(
                "private_data_missing",
                "Collections of transactions that were committed without their private writes.",
                &[field::CHANNEL],
            )?,
            private_reconciled: counter(
                "private_data_reconciled",
                "Collections of transactions whose private writes were found after the block.",
                &[field::CHANNEL],
            )?,
            private_expired: counter(
                "private_data_expired",
                "Collections of transactions whose time is over.",
                &[field::CHANNEL],
            )?,
        })
    }

    /// The states of all channels there are.
    pub(crate) fn states<'a>(&self, states: impl Iterator<Item = (&'a str, &'static str)>) {
        self.states.show(states);
    }

    pub(crate) fn height(&self, channel: &ChannelId, height: u64) {
        let height = i64::try_from(height).unwrap_or(i64::MAX);
        self.height.with_label_values(&[channel.as_str()]).set(height);
    }

    pub(crate) fn committed(
        &self,
        channel: &ChannelId,
        codes: impl Iterator<Item = ValidationCode>,
        timing: Timing,
    ) {
        let mut counts = std::collections::BTreeMap::<i32, (ValidationCode, u64)>::new();
        for code in codes {
            counts.entry(code as i32).or_insert((code, 0)).1 += 1;
        }
        let channel = channel.as_str();
        for (code, count) in counts.into_values() {
            self.transactions.with_label_values(&[channel, code.as_str_name()]).inc_by(count);
        }
        let seconds = [
            (&self.verify, timing.verify),
            (&self.validate, timing.validate),
            (&self.write, timing.write),
        ];
        for (histogram, took) in seconds {
            histogram.with_label_values(&[channel]).observe(took.as_secs_f64());
        }
    }

    pub(crate) fn private(&self, channel: &ChannelId, counts: Counts) {
        let Counts { pulled, missing, ended } = counts;
        let counters = [
            (&self.private_pulled, pulled),
            (&self.private_missing, missing),
            (&self.private_expired, ended),
        ];
        for (counter, count) in counters.into_iter().filter(|(_, count)| *count > 0) {
            counter.with_label_values(&[channel.as_str()]).inc_by(count);
        }
    }

    pub(crate) fn reconciled(&self, channel: &ChannelId, count: u64) {
        self.private_reconciled.with_label_values(&[channel.as_str()]).inc_by(count);
    }

    pub(crate) fn received(&self, channel: &ChannelId) {
        self.blocks_received.with_label_values(&[channel.as_str()]).inc();
        self.queued.with_label_values(&[channel.as_str()]).inc();
    }

    pub(crate) fn dequeued(&self, channel: &ChannelId) {
        self.queued.with_label_values(&[channel.as_str()]).dec();
    }

    pub(crate) fn left(&self, channel: &ChannelId, reason: &'static str) {
        self.sources_left.with_label_values(&[channel.as_str(), reason]).inc();
    }
}
