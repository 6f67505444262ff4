//! A simulated network of orderers: the channels' cores, their stores, joins and the fetching of
//! blocks as they are, on disks, clocks and a network that are simulated, in one thread under
//! virtual time. The consensus crate's simulator lends its calendar, network and generator.
//!
//! Everything random comes from one seed, so a failing run is replayed by its seed. What is
//! simulated: messages that are delayed, lost, repeated, reordered; links cut in one or both
//! directions; processes that crash, stop in order, stall and restart; disks that lose what was
//! not synced, are full for a while, or fail a sync; joins that are slow, with the genesis block
//! or a later one, or made where a ledger is; consenters added and removed.
//!
//! Checked all the while ([`record::Violation`]):
//!
//! * **I1** a block is never lost: every consenter ends with every block that any had.
//! * **I2** the same block has the same number everywhere; numbers have no gap.
//! * **I3** what is in a block was sent, and is in one block once, or as often as it was handed to a
//!   leader without an answer: peers take the first.
//! * **I4** no panic, no channel that ends but by an injected fault, no refused restart.
//! * **I5** once all faults are healed, new envelopes are ordered within two election timeouts.
//! * **I6** an envelope that was accepted with SUCCESS is in a block, or counted as dropped,
//!   unless the orderer that had it crashed.
//! * **I7** a failed join deletes nothing that was there.

mod chaos;
mod disk;
mod fixture;
mod host;
mod mutants;
mod record;
mod scripts;
mod world;

use chaos::{Report, explore};
use world::{Bug, Counts};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn add(a: Counts, b: Counts) -> Counts {
    Counts {
        crashes: a.crashes + b.crashes,
        failures: a.failures + b.failures,
        joins: a.joins + b.joins,
        refused_joins: a.refused_joins + b.refused_joins,
        catch_ups: a.catch_ups + b.catch_ups,
        forwards: a.forwards + b.forwards,
        grown: a.grown + b.grown,
        shrunk: a.shrunk + b.shrunk,
        leader_changes: a.leader_changes + b.leader_changes,
        dropped: a.dropped + b.dropped,
    }
}

/// `WEFT_SIM_SEEDS=1000` runs more seeds, `WEFT_SIM_SEED=17` replays one; `WEFT_LOG=debug` shows
/// what the channels log.
#[test]
fn orderers_survive_every_seed() {
    if let Ok(spec) = std::env::var("WEFT_LOG") {
        let logging = weft_settings::Logging { spec, ..weft_settings::Logging::default() };
        let _ = weft_ops::logging::init(&logging);
    }
    let seeds = match variable("WEFT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("WEFT_SIM_SEEDS").unwrap_or(25),
    };
    let many = seeds.clone().count() >= 25;
    let (mut failures, mut reports) = (Vec::new(), Vec::<Report>::new());
    for seed in seeds {
        match explore(seed, Bug::default()) {
            Ok(report) => reports.push(report),
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    let blocks: u64 = reports.iter().map(|report| report.height).sum();
    let slowest = reports.iter().filter_map(|report| report.recovered_ms).max();
    let counts = reports.iter().fold(Counts::default(), |sum, report| add(sum, report.counts));
    println!("{blocks} blocks; slowest recovery {slowest:?} ms; {counts:?}");
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    // A simulation in which nothing goes wrong shows nothing.
    let Counts { crashes, failures, joins, catch_ups, forwards, grown, shrunk, .. } = counts;
    let least = [crashes, failures, joins, catch_ups, forwards, grown, shrunk].into_iter().min();
    assert!(!many || least >= Some(3), "too little happened: {counts:?}");
}

#[test]
fn a_seed_replays() {
    for seed in [3, 4] {
        assert_eq!(explore(seed, Bug::default()), explore(seed, Bug::default()));
    }
}
