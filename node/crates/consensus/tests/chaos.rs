//! Raft under random faults, many seeds.
//!
//! `WEFT_SIM_SEEDS=10000` runs more seeds, `WEFT_SIM_SEED=17` replays one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{chaos, options};
use weft_consensus::sim::{self, Counts, explore};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn add(a: Counts, b: Counts) -> Counts {
    Counts {
        crashes: a.crashes + b.crashes,
        catch_ups: a.catch_ups + b.catch_ups,
        evictions: a.evictions + b.evictions,
        wipes: a.wipes + b.wipes,
        joins: a.joins + b.joins,
        leader_changes: a.leader_changes + b.leader_changes,
        trapped: a.trapped + b.trapped,
    }
}

#[test]
fn raft_survives_every_seed() {
    let chaos = chaos(sim::raft(options()));
    let seeds = match variable("WEFT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("WEFT_SIM_SEEDS").unwrap_or(200),
    };
    let many = seeds.clone().count() >= 200;
    let mut failures = Vec::new();
    let (mut blocks, mut terms, mut slowest, mut counts) = (0, 0, 0, Counts::default());
    for seed in seeds {
        match explore(&chaos, seed) {
            Ok(report) => {
                blocks += report.height;
                terms += report.terms;
                slowest = slowest.max(report.recovered_ms);
                counts = add(counts, report.counts);
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    println!("{blocks} blocks in {terms} terms; slowest recovery {slowest} ms; {counts:?}");
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    // A simulation in which nothing goes wrong shows nothing.
    let Counts { crashes, catch_ups, evictions, wipes, joins, leader_changes, trapped } = counts;
    let counted = [crashes, catch_ups, evictions, wipes, joins, leader_changes, trapped];
    let least = counted.into_iter().min();
    assert!(!many || least >= Some(20), "too little happened: {counts:?}");
}

#[test]
fn a_seed_replays() {
    let chaos = chaos(sim::raft(options()));
    for seed in [3, 4, 5] {
        assert_eq!(explore(&chaos, seed), explore(&chaos, seed));
    }
}
