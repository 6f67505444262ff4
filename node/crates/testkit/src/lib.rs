//! What the tests of the other crates are built from.
//!
//! - [`Org`]: an organization in memory: authorities, MSP definition, identities, TLS certificates,
//!   and the folders a node reads;
//! - [`Network`]: organizations and orderers with a channel profile, genesis block and bundle;
//! - [`tx`]: signed proposals, transactions, configuration updates and blocks;
//! - [`free_port`]: for servers that start again.
//!
//! Keys are drawn anew in every test; everything else is the same each time. Certificates are valid
//! from 2020 to 2049 ([`clock`]), so that tests with real connections work too. This crate is for
//! tests only, so its helpers panic where something cannot be made.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod clock;
pub mod network;
pub mod org;
mod ports;
pub mod tx;

pub use network::{Network, OrdererNode};
pub use org::{Org, TlsIdentity};
pub use ports::free_port;
