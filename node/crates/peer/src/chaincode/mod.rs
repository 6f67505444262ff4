//! The chaincode runtime: it runs a contract on behalf of a proposal and serves the contract's
//! requests for state.
//!
//! Owned here: the peer's side of the chaincode protocol (`protos.Chaincode/Connect`, where the
//! peer dials, and `protos.ChaincodeSupport/Register`, where the contract dials), connections and
//! their life, time limits, calls from contract to contract, and chaincode packages. Left to
//! others: what state is ([`StateAccess`]), which package stands behind a name, who may call it and
//! use its collections ([`Host`]), and what becomes of the results (the endorser).
//!
//! # Protocol (Fabric: core/chaincode/handler.go)
//!
//! A stream begins with REGISTER from the contract, answered by REGISTERED and READY; READY's
//! payload says that writes and reads may be batched. From then on any number of transactions
//! share the stream, told apart by channel and transaction id. The peer opens one with TRANSACTION
//! or INIT, the contract sends requests, each answered by RESPONSE or ERROR before the next one of
//! that transaction, and ends it with COMPLETED or ERROR.
//!
//! # Where this differs from Fabric
//!
//! - A contract that registers is accepted when its package is installed and is one that registers,
//!   and its TLS certificate names the package; Fabric accepts what it has started itself, with a
//!   certificate that it made, and others in development mode only.
//! - A second registration of the same package ends that stream with ALREADY_EXISTS; Fabric
//!   leaves the stream open and silent.
//! - A contract reached by `Connect` must announce the id of the package it was reached for.
//! - Rich queries are refused with an error that says so.
//! - A range of private keys fails where this peer cannot give it: its organization is not a
//!   member of the collection, or it does not have a value of the range yet. Fabric's peers leave
//!   such keys out, or give values that were replaced since.
//! - A range of private keys cannot be read in pages; Fabric ignores that pages were asked for.
//!
//! # Concurrency
//!
//! A transaction lives in the task that called [`Runtime::invoke`]: the connection's reader only
//! hands messages over. So the state of a transaction needs no lock, its cancellation frees
//! everything, and a contract that hangs holds up nobody else. The state is read where it may block
//! ([`crate::blocking`]), never on a worker of tokio's.

mod admission;
mod config;
mod connection;
mod dial;
mod error;
mod host;
mod ledger_state;
pub mod metrics;
pub mod package;
mod query;
mod register;
mod registry;
mod runtime;
mod state;
mod transaction;

pub use config::RuntimeConfig;
pub use error::{ChaincodeError, ExecuteError, LaunchError};
pub use host::{CollectionAccess, Host, HostError, Target};
pub use ledger_state::LedgerState;
pub use metrics::RuntimeMetrics;
pub use register::ChaincodeSupport;
pub use runtime::{Call, Outcome, Runtime};
pub use state::{BlockingState, PrivateAccess, QueryId, QueryResult, StateAccess, StateError};
