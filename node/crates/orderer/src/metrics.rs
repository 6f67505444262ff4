//! What an orderer counts.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};
use weft_ops::field;

use crate::chain::core::Loss;

/// Label: the header type of an envelope.
const TYPE: &str = "type";
/// Label: why an envelope was given up.
const REASON: &str = "reason";
/// Buckets of durations, seconds.
const BUCKETS: [f64; 13] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// The metrics of an orderer. Clones share them. Names follow Fabric's where it has them.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) broadcast: IntCounterVec,
    pub(crate) validate: HistogramVec,
    pub(crate) enqueue: HistogramVec,
    pub(crate) height: IntGaugeVec,
    pub(crate) leader: IntGaugeVec,
    pub(crate) is_leader: IntGaugeVec,
    pub(crate) role: IntGaugeVec,
    pub(crate) term: IntGaugeVec,
    pub(crate) committed: IntGaugeVec,
    pub(crate) applied: IntGaugeVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) leader_changes: IntCounterVec,
    pub(crate) batch: HistogramVec,
    pub(crate) dropped: IntCounterVec,
    pub(crate) log_write: Histogram,
    pub(crate) block_write: Histogram,
    pub(crate) messages_dropped: IntCounter,
}

impl Metrics {
    /// Makes the metrics in a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &[field::CHANNEL])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let histogram = HistogramVec::new(options, labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let processed = [field::CHANNEL, TYPE, field::STATUS];
        let sizes = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
        let messages_dropped = IntCounter::new(
            "cluster_comm_msg_dropped_count",
            "Messages to and from other orderers that found a queue full.",
        )?;
        registry.register(Box::new(messages_dropped.clone()))?;
        Ok(Self {
            broadcast: counter(
                "broadcast_processed_count",
                "Envelopes that were answered.",
                &processed,
            )?,
            validate: histograms(
                "broadcast_validate_duration",
                "Time to check an envelope, seconds.",
                &processed,
                &BUCKETS,
            )?,
            enqueue: histograms(
                "broadcast_enqueue_duration",
                "Time from a checked envelope to its place in the leader's queue, seconds.",
                &processed,
                &BUCKETS,
            )?,
            height: gauge("participation_height", "Number of blocks.")?,
            leader: gauge("consensus_etcdraft_leader_id", "Id of the leader; 0 without one.")?,
            is_leader: gauge("consensus_etcdraft_is_leader", "1 on the leader.")?,
            role: gauge(
                "consensus_role",
                "0 follower without a vote, 1 follower, 2 candidate, 3 leader, 4 quarantined.",
            )?,
            term: gauge("consensus_term", "The engine's term.")?,
            committed: gauge(
                "consensus_etcdraft_committed_index",
                "Highest index of the log that is final.",
            )?,
            applied: gauge("consensus_applied_index", "Index of the newest block.")?,
            in_flight: gauge("consensus_in_flight", "Proposals that are not yet blocks.")?,
            leader_changes: counter(
                "consensus_etcdraft_leader_changes",
                "Changes of the leader.",
                &[field::CHANNEL],
            )?,
            batch: histograms(
                "blockcutter_block_size",
                "Envelopes in a block.",
                &[field::CHANNEL],
                &sizes,
            )?,
            dropped: counter(
                "consensus_envelopes_dropped_count",
                "Envelopes that were accepted with SUCCESS and given up: no_leader (none was known \
                 for too long), unanswered (handed to a leader that did not say whether it has \
                 them), refused (by the engine, or by a newer configuration), stopped (the channel \
                 ended).",
                &[field::CHANNEL, REASON],
            )?,
            log_write: histogram(
                "consensus_etcdraft_data_persist_duration",
                "Time to write the log durably, seconds.",
            )?,
            block_write: histogram(
                "consensus_block_write_duration",
                "Time to form, sign and write a block, seconds.",
            )?,
            messages_dropped,
        })
    }

    /// Lets the series of a channel go.
    pub(crate) fn forget(&self, channel: &str) {
        for gauge in [
            &self.height,
            &self.leader,
            &self.is_leader,
            &self.role,
            &self.term,
            &self.committed,
            &self.applied,
            &self.in_flight,
        ] {
            let _ = gauge.remove_label_values(&[channel]);
        }
        let _ = self.leader_changes.remove_label_values(&[channel]);
        let _ = self.batch.remove_label_values(&[channel]);
        for reason in Loss::ALL {
            let _ = self.dropped.remove_label_values(&[channel, reason.as_str()]);
        }
    }
}
