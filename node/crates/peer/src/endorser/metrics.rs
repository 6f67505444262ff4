//! Metrics of the endorser, with Fabric's names (core/endorser/metrics.go).

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::error::{EndorserError, RunError};
use crate::commit::metrics::field::CHANNEL;

/// The name of a chaincode, in labels and fields.
pub const CHAINCODE: &str = "chaincode";
/// Whether a proposal was endorsed.
const SUCCESS: &str = "success";
/// Stands for chaincodes that are not defined: clients can name any number of them.
const UNKNOWN: &str = "(not defined)";

const BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Metrics of an endorser. Clones share them.
#[derive(Debug, Clone)]
pub struct EndorserMetrics {
    received: IntCounter,
    successful: IntCounter,
    invalid: IntCounter,
    busy: IntCounter,
    denied: IntCounter,
    duplicates: IntCounter,
    simulation_failures: IntCounterVec,
    duration: HistogramVec,
}

impl EndorserMetrics {
    /// Makes the metrics in a registry.
    ///
    /// # Errors
    /// Fails when the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let failures = Opts::new(
            "endorser_proposal_simulation_failures",
            "Proposals whose chaincode could not be run.",
        );
        let simulation_failures = IntCounterVec::new(failures, &[CHANNEL, CHAINCODE])?;
        registry.register(Box::new(simulation_failures.clone()))?;
        let duration = HistogramOpts::new(
            "endorser_proposal_duration",
            "Time to answer an acceptable proposal, in seconds.",
        );
        let duration = duration.buckets(BUCKETS.to_vec());
        let duration = HistogramVec::new(duration, &[CHANNEL, CHAINCODE, SUCCESS])?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self {
            received: counter("endorser_proposals_received", "Proposals received.")?,
            successful: counter("endorser_successful_proposals", "Proposals endorsed.")?,
            invalid: counter(
                "endorser_proposal_validation_failures",
                "Proposals that were not acceptable.",
            )?,
            busy: counter(
                "endorser_proposals_rejected_busy",
                "Proposals refused because too many were at work.",
            )?,
            denied: counter(
                "endorser_proposal_acl_failures",
                "Proposals whose creator may not propose.",
            )?,
            duplicates: counter(
                "endorser_duplicate_transaction_failures",
                "Proposals whose transaction was on the ledger.",
            )?,
            simulation_failures,
            duration,
        })
    }

    pub(super) fn received(&self) {
        self.received.inc();
    }

    pub(super) fn refused(&self, error: &EndorserError) {
        match error {
            EndorserError::Busy { .. } => self.busy.inc(),
            EndorserError::Access(_) => self.denied.inc(),
            EndorserError::Duplicate { .. } => self.duplicates.inc(),
            _ => self.invalid.inc(),
        }
    }

    /// An acceptable proposal was answered: whether it was successful, or why it was not run.
    pub(super) fn answered(
        &self,
        channel: &str,
        chaincode: &str,
        outcome: Result<bool, &RunError>,
        took: Duration,
    ) {
        let chaincode = match outcome {
            Err(RunError::Undefined { .. }) => UNKNOWN,
            _ => chaincode,
        };
        let success = matches!(outcome, Ok(true));
        if outcome.is_err() {
            self.simulation_failures.with_label_values(&[channel, chaincode]).inc();
        }
        if success {
            self.successful.inc();
        }
        let labels = [channel, chaincode, if success { "true" } else { "false" }];
        self.duration.with_label_values(&labels).observe(took.as_secs_f64());
    }
}
