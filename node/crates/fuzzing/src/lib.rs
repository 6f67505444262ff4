//! Fuzz targets: one function for each kind of message that crosses a trust border.
//!
//! A target takes bytes as a peer, client, administrator or file would bring them, and goes as far
//! with them as the node does. It must return: a panic, an abort or memory without bound is the
//! finding. What the bytes mean is asserted where a rule allows it (what was read encodes back, a
//! block that is accepted has the hash that its header names).
//!
//! `cargo fuzz` runs them for long (`node/fuzz`, `make fuzz`). `cargo test -p weft-fuzzing` runs
//! each over its corpus, so that an input which once failed is tried in every test run. The corpora
//! are in `node/fuzz/corpus`; `WEFT_UPDATE=1` writes the valid messages that they begin with, from
//! the network in `fixtures/`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::alloc::System;

use cap::Cap;

mod certificates;
pub mod chaincode;
mod channel;
mod consensus;
mod discovery;
pub mod fixture;
mod gossip;
mod grpc;
mod messages;
mod participation;
pub mod parts;
pub mod peer;

/// A target: its name and function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("block", channel::block),
    ("chaincode", chaincode::chaincode),
    ("config", channel::config),
    ("config_update", channel::config_update),
    ("consensus_step", consensus::step),
    ("discovery", discovery::discovery),
    ("envelope", messages::envelope),
    ("gossip", gossip::gossip),
    ("identity", certificates::identity),
    ("msp", certificates::msp),
    ("package", messages::package),
    ("participation", participation::participation),
    ("proposal", messages::proposal),
];

/// Memory that an input may take beside what there is before it, bytes: amplification is a finding.
/// Without a sanitizer libFuzzer sees the process's peak only.
const MEMORY: usize = 256 * 1024 * 1024;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs the target `name`. An input that takes too much memory aborts the process.
///
/// # Panics
/// Where there is no such target, or the input is a finding.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, function) = target.expect("a target of this name");
    let limit = |bytes| ALLOCATOR.set_limit(bytes).expect("a limit above what is in use");
    limit(ALLOCATOR.allocated().saturating_add(MEMORY));
    function(data);
    limit(usize::MAX);
}
