//! The chaincode runtime against real contracts over real sockets, on state in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod calls;
mod connect;
mod contract;
mod door;
mod faults;
mod host;
mod ledger;
mod misbehaving;
mod packages;
mod pki;
mod private;
mod queries;
mod register;
mod state;
mod support;
