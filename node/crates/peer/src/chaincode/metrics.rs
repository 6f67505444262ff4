//! Metrics of the runtime, with Fabric's names (core/chaincode/metrics.go). The label
//! `chaincode` is the id that the contract registers under.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use weft_protos::peer::chaincode_message::Type;

use crate::commit::metrics::field::CHANNEL;

/// What a contract registers under, in labels and fields.
pub const CHAINCODE: &str = "chaincode";
/// Kind of a request, in labels and fields.
const TYPE: &str = "type";
/// Whether it was carried out.
const SUCCESS: &str = "success";

const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Metrics of a runtime. Clones share them.
#[derive(Debug, Clone)]
pub struct RuntimeMetrics {
    connected: IntGaugeVec,
    launch_duration: HistogramVec,
    launch_failures: IntCounterVec,
    execute_duration: HistogramVec,
    execute_timeouts: IntCounterVec,
    requests: IntCounterVec,
}

impl RuntimeMetrics {
    /// Makes the metrics in a registry.
    ///
    /// # Errors
    /// Fails when the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            let made = HistogramVec::new(options, labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let connected = Opts::new("chaincode_connections", "Whether the chaincode is connected.");
        let connected = IntGaugeVec::new(connected, &[CHAINCODE])?;
        registry.register(Box::new(connected.clone()))?;
        Ok(Self {
            connected,
            launch_duration: histogram(
                "chaincode_launch_duration",
                "Time to reach a chaincode, in seconds.",
                &[CHAINCODE, SUCCESS],
            )?,
            launch_failures: counter(
                "chaincode_launch_failures",
                "Attempts to reach a chaincode that failed.",
                &[CHAINCODE],
            )?,
            execute_duration: histogram(
                "chaincode_execute_duration",
                "Time of a chaincode's transaction, in seconds.",
                &[CHANNEL, CHAINCODE],
            )?,
            execute_timeouts: counter(
                "chaincode_execute_timeouts",
                "Transactions that a chaincode did not answer in time.",
                &[CHAINCODE],
            )?,
            requests: counter(
                "chaincode_shim_requests_completed",
                "Requests of chaincodes that were answered.",
                &[TYPE, CHANNEL, CHAINCODE, SUCCESS],
            )?,
        })
    }

    pub(super) fn connected(&self, chaincode: &str, is_connected: bool) {
        self.connected.with_label_values(&[chaincode]).set(is_connected.into());
    }

    pub(super) fn launched(&self, chaincode: &str, took: Duration, success: bool) {
        let labels = [chaincode, text(success)];
        self.launch_duration.with_label_values(&labels).observe(took.as_secs_f64());
        if !success {
            self.launch_failures.with_label_values(&[chaincode]).inc();
        }
    }

    pub(super) fn executed(&self, channel: &str, chaincode: &str, took: Duration) {
        let labels = [channel, chaincode];
        self.execute_duration.with_label_values(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn timed_out(&self, chaincode: &str) {
        self.execute_timeouts.with_label_values(&[chaincode]).inc();
    }

    pub(super) fn answered(&self, kind: Type, channel: &str, chaincode: &str, success: bool) {
        let labels = [kind.as_str_name(), channel, chaincode, text(success)];
        self.requests.with_label_values(&labels).inc();
    }
}

fn text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
