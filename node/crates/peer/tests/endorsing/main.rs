//! Access rules, the chaincode lifecycle, system chaincodes and the endorser, on peers that take
//! their blocks from an orderer over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod channels;
mod collections;
mod contracts;
mod door;
mod layout;
mod lifecycle;
mod queries;
mod refusals;
mod renewal;
mod world;
