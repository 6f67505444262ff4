//! The conformance suite over every engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use common::options;
use weft_consensus::Engine;
use weft_consensus::sim::{self, Spec};
use weft_consensus::solo::SoloEngine;
use weft_consensus::suite::{self, Subject};

#[test]
fn solo() {
    let make = |spec: Spec| {
        let engine = SoloEngine::restore(spec.node, spec.applied).map_err(|e| e.to_string())?;
        Ok(Box::new(engine) as Box<dyn Engine>)
    };
    let subject = Subject { make: Arc::new(make), sizes: vec![1], election_ms: 10 };
    suite::run(&subject).unwrap_or_else(|failed| panic!("{failed}"));
}

#[test]
fn raft() {
    let election_ms = 2 * options().election_timeout_ms();
    let make = sim::raft(options());
    let subject = Subject { make, sizes: vec![1, 2, 3, 4, 5], election_ms };
    suite::run(&subject).unwrap_or_else(|failed| panic!("{failed}"));
}
