//! How nodes talk: TLS with certificates and roots that can be exchanged while connections
//! are open, gRPC and HTTPS listeners with limits, connections to other nodes, and the
//! logic of the Deliver service that orderers and peers share.
//!
//! What the calls mean is for the crates that offer the services. A node is put together
//! from four parts:
//!
//! 1. [`tls::ReloadingTls`] holds the node's TLS certificate and the two root sets.
//! 2. [`server::GrpcServer`] and [`https::HttpsServer`] serve over it; every request carries
//!    a [`listen::PeerInfo`] extension with the client's certificate.
//!    What its callers take of memory, calls and connections is bounded by a [`budget::Budget`].
//! 3. [`connect::ChannelPool`] hands out lazy, reconnecting channels to other nodes.
//! 4. [`deliver::DeliverService`] answers Deliver streams from any chain of blocks.

pub mod budget;
pub mod connect;
mod deadline;
pub mod deliver;
pub mod https;
pub mod listen;
pub mod metrics;
pub mod sample;
pub mod server;
pub mod shares;
pub mod tls;
