//! The registry of a node's metrics.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};

/// What a binary is, for `/version` and the metric `weft_build_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// Kind of node: `orderer` or `peer`.
    pub component: String,
    /// Version of the release.
    pub version: String,
    /// Commit it was built from; empty when unknown.
    pub commit: String,
}

/// A registry with the metrics of the process (CPU, memory, file descriptors, start time) and
/// `weft_build_info`.
///
/// # Errors
/// The registry's, when the labels cannot be used.
pub fn registry(build: &BuildInfo) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let info = IntGaugeVec::new(
        Opts::new("weft_build_info", "What is running; the value is always 1."),
        &["component", "version", "commit"],
    )?;
    info.with_label_values(&[&build.component, &build.version, &build.commit]).set(1);
    registry.register(Box::new(info))?;
    Ok(registry)
}

/// All metrics in Prometheus's text format.
///
/// # Errors
/// The encoder's.
pub fn encode(registry: &Registry) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// Registers a collector, or leaves the one that has its name in place; for parts that are
/// made more than once in a process.
///
/// # Errors
/// The registry's, other than that the name is taken.
pub fn register_once(
    registry: &Registry,
    collector: impl Collector + 'static,
) -> Result<(), prometheus::Error> {
    match registry.register(Box::new(collector)) {
        Err(prometheus::Error::AlreadyReg) => Ok(()),
        result => result,
    }
}
