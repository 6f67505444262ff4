//! A node's operations: the port with `/healthz`, `/metrics`, `/logspec` and `/version`, the
//! set-up of logging, and files that are their owner's alone. What is healthy and what is counted is for the crates that know;
//! they register a [`health::Health`] check or a metric.
//!
//! Paths and JSON are those of Fabric's operations service, so that its dashboards and probes
//! work unchanged.

pub mod certificates;
pub mod channel_states;
pub mod health;
pub mod logging;
pub mod logspec;
pub mod metrics;
pub mod private;
pub mod rotate;
pub mod service;

pub use weft_rpc::metrics::field;
