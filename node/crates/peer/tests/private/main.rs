//! Private data on a peer that takes its blocks from an orderer: held, pulled, missing and found
//! later, purged, ended, and told to those who may see it. Other members are a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod commit;
mod deliver;
mod ending;
mod later;
mod world;
