//! Raft under random faults, many seeds; and that the simulation finds engines that are wrong.
//!
//! `WEFT_SIM_SEEDS=10000` runs more seeds, `WEFT_SIM_SEED=17` replays one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use weft_consensus::raft::Options;
use weft_consensus::sim::{self, Chaos, Make, explore};

fn options() -> Options {
    Options {
        tick_interval_ms: 100,
        snapshot_interval_bytes: 6 << 10,
        max_inflight_entries: 8,
        max_append_bytes: 2 << 10,
        ..Options::default()
    }
}

fn chaos(make: Make) -> Chaos {
    Chaos { make, election_timeout_ms: options().election_timeout_ms(), duration_ms: 20_000 }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn raft_survives_every_seed() {
    let chaos = chaos(sim::raft(options()));
    let seeds = match variable("WEFT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("WEFT_SIM_SEEDS").unwrap_or(200),
    };
    let mut failures = Vec::new();
    let (mut blocks, mut terms, mut slowest) = (0, 0, 0);
    for seed in seeds {
        match explore(&chaos, seed) {
            Ok(report) => {
                blocks += report.height;
                terms += report.terms;
                slowest = slowest.max(report.recovered_ms);
            }
            Err(failure) => failures.push(failure),
        }
    }
    println!("{blocks} blocks in {terms} terms; slowest recovery {slowest} ms");
    let shown: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", shown.len(), shown.join("\n"));
}

#[test]
fn a_seed_replays() {
    let chaos = chaos(sim::raft(options()));
    for seed in [3, 4, 5] {
        assert_eq!(explore(&chaos, seed), explore(&chaos, seed));
    }
}
