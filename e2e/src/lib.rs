//! A harness for tests with real processes on loopback.
//!
//! [`LocalNetwork`] is what `weft up` makes, in a folder of its own; it stops its processes
//! when it is dropped. [`load`] keeps transactions coming and remembers which of them were
//! acknowledged, so that a test can ask for every one of them afterwards.
//!
//! [`proxy`] stands in front of a node and makes its links slow, silent or cut.
//!
//! [`cluster`] is the same for pods: namespaces of a Kubernetes cluster and the operator in it.
//!
//! The programs are those beside the test's own: build `weft-node`, `weft` and
//! `asset-contract` first (`make test` does).

pub mod cluster;
pub mod load;
mod network;
pub mod proxy;

pub use network::LocalNetwork;
