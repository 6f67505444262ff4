//! Streams between the orderers of a channel (Fabric: `orderer/common/cluster`).
//!
//! A node opens two `orderer.Cluster/Step` streams to every other consenter of a channel when it
//! first has something for it: one for the engine's messages and one for envelopes that are
//! forwarded to the leader, so that neither waits behind the other. Who may send on a stream is
//! decided by the key of the TLS certificate that the sender presents: it has to be a consenter's
//! of the very channel.

mod links;
mod server;

pub(crate) use links::LinkOptions;
pub use links::{Links, Submitted};
pub use server::ClusterService;
