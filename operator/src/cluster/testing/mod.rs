//! A Kubernetes API server in memory that fails, delays and reorders, for tests.
//!
//! It serves the kinds that the operator reads and writes, to a [`kube::Client`] like any other:
//! get, list, watch, create, replace, merge patch, server-side apply, delete, statuses apart,
//! generations, finalizers, preconditions, immutable fields, garbage collection when asked.
//! Left out: schemas and defaults (but for addresses of Services), `managedFields` and conflicts
//! of field managers, JSON patches, and lists in pieces.

mod contracts_tests;
mod controllers_tests;
mod faults;
mod kinds;
mod lifecycle_tests;
mod merging;
mod normal;
mod objects;
mod operator;
mod request;
mod runs;
mod selecting;
mod server;
mod server_tests;

pub use faults::{Fault, Plan, at_every, at_write, crash_after};
pub use request::{Call, Verb};
pub use server::ApiServer;
