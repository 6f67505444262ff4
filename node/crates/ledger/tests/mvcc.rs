//! Validation, case by case: what makes a transaction invalid, and what valid ones leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{commit, inputs, memory_ledger, parsed, simulate};
use weft_ledger::mvcc::{self, Transaction};
use weft_ledger::rwset::TxRwSet;
use weft_ledger::state::{StateReader, metadata::Metadata};
use weft_ledger::{Ledger, Simulator, UpdateBatch, Version};
use weft_protos::kvrwset::range_query_info::ReadsInfo;
use weft_protos::kvrwset::{KvWrite, QueryReadsMerkleSummary};
use weft_types::ValidationCode::{
    self, BadRwset, EndorsementPolicyFailure, MvccReadConflict, PhantomReadConflict, Valid,
};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A ledger whose namespace `cc` has these keys, written by block 1.
fn ledger(keys: &[&str]) -> Ledger {
    let ledger = memory_ledger();
    commit(&ledger, &[]);
    let fill = simulate(&ledger, |tx| {
        for key in keys {
            tx.put_state("cc", key, bytes("v")).unwrap();
        }
    });
    commit(&ledger, &[fill]);
    ledger
}

type Step = fn(&mut Simulator);

/// All steps are simulated on the same state and committed as one block.
#[track_caller]
fn check(keys: &[&str], steps: &[Step], expected: &[ValidationCode]) -> Ledger {
    let ledger = ledger(keys);
    let results: Vec<Bytes> = steps.iter().map(|step| simulate(&ledger, step)).collect();
    let (validated, _) = commit(&ledger, &results);
    assert_eq!(validated.codes, expected);
    ledger
}

fn put(tx: &mut Simulator, key: &str) {
    tx.put_state("cc", key, bytes("new")).unwrap();
}

fn read_all(tx: &mut Simulator, start: &str, end: &str) {
    let cursor = tx.open_range("cc", start, end).unwrap();
    while tx.next(cursor).unwrap().is_some() {}
}

fn metadata(value: Option<&'static str>) -> Metadata {
    value.map(|value| ("m".to_owned(), bytes(value))).into_iter().collect()
}

#[test]
fn reads_of_touched_keys_conflict() {
    // Two blind writes do not conflict; the later one counts.
    check(&[], &[|tx| put(tx, "a"), |tx| put(tx, "a")], &[Valid, Valid]);
    let read: Step = |tx| drop(tx.get_state("cc", "a").unwrap());
    check(&["a"], &[read, |tx| put(tx, "a"), read], &[Valid, Valid, MvccReadConflict]);
    check(&[], &[read, |tx| put(tx, "a"), read], &[Valid, Valid, MvccReadConflict]);
    check(&["a"], &[|tx| put(tx, "b"), read], &[Valid, Valid]);
    // Deleting a key that is not there touches it all the same.
    let delete: Step = |tx| tx.delete_state("cc", "a").unwrap();
    check(&[], &[delete, read], &[Valid, MvccReadConflict]);
    // An invalid transaction touches nothing.
    let read_b_write_a: Step = |tx| {
        tx.get_state("cc", "b").unwrap();
        put(tx, "a");
    };
    let steps = [|tx: &mut Simulator| put(tx, "b"), read_b_write_a, read];
    check(&["a"], &steps, &[Valid, MvccReadConflict, Valid]);
    // Another namespace's key of the same name is another key.
    let other: Step = |tx| tx.put_state("dd", "a", bytes("x")).unwrap();
    check(&["a"], &[other, read], &[Valid, Valid]);
}

#[test]
fn reads_of_an_older_state_conflict() {
    let ledger = ledger(&["a", "b"]);
    let old = simulate(&ledger, |tx| drop(tx.get_state("cc", "a").unwrap()));
    let absent = simulate(&ledger, |tx| drop(tx.get_state("cc", "c").unwrap()));
    let same = simulate(&ledger, |tx| drop(tx.get_state("cc", "b").unwrap()));
    let change = simulate(&ledger, |tx| {
        put(tx, "a");
        put(tx, "c");
    });
    commit(&ledger, &[change]);
    let (validated, _) = commit(&ledger, &[old.clone(), absent, same]);
    assert_eq!(validated.codes, [MvccReadConflict, MvccReadConflict, Valid]);
    // A value that is as before does not make its old version valid.
    let back = simulate(&ledger, |tx| tx.put_state("cc", "a", bytes("v")).unwrap());
    commit(&ledger, &[back]);
    assert_eq!(commit(&ledger, &[old]).0.codes, [MvccReadConflict]);
}

#[test]
fn phantoms_are_found() {
    let all: Step = |tx| read_all(tx, "b", "e");
    let cases: [(Step, ValidationCode); 8] = [
        (|tx| put(tx, "bb"), PhantomReadConflict),
        (|tx| put(tx, "c"), PhantomReadConflict),
        (|tx| tx.delete_state("cc", "b").unwrap(), PhantomReadConflict),
        (|tx| put(tx, "a"), Valid),
        (|tx| put(tx, "e"), Valid),
        (|tx| tx.put_state("dd", "bb", bytes("x")).unwrap(), Valid),
        // Deleting what is not there changes no range.
        (|tx| tx.delete_state("cc", "bb").unwrap(), Valid),
        (|tx| tx.put_state_metadata("cc", "c", &metadata(Some("1"))).unwrap(), PhantomReadConflict),
    ];
    for (change, code) in cases {
        check(&["a", "b", "c", "e"], &[change, all], &[Valid, code]);
    }
}

/// A reader that stopped early depends on what it saw, its last key included, and no more.
#[test]
fn ranges_that_were_not_read_to_the_end() {
    let two: Step = |tx| {
        let cursor = tx.open_range("cc", "", "").unwrap();
        tx.next(cursor).unwrap();
        tx.next(cursor).unwrap();
    };
    let cases: [(Step, ValidationCode); 5] = [
        (|tx| put(tx, "aa"), PhantomReadConflict),
        (|tx| put(tx, "b"), PhantomReadConflict),
        (|tx| tx.delete_state("cc", "b").unwrap(), PhantomReadConflict),
        (|tx| put(tx, "bb"), Valid),
        (|tx| put(tx, "c"), Valid),
    ];
    for (change, code) in cases {
        check(&["a", "b", "c"], &[change, two], &[Valid, code]);
    }
    // One that never read depends on there being nothing at all from its start on.
    let none: Step = |tx| {
        tx.open_range("cc", "b", "c").unwrap();
    };
    check(&["a"], &[none], &[Valid]);
    check(&["a", "z"], &[none], &[PhantomReadConflict]);
    check(&["a"], &[|tx| put(tx, "z"), none], &[Valid, PhantomReadConflict]);
}

#[test]
fn phantoms_in_summarised_ranges() {
    let keys: Vec<String> = (0..200).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let all: Step = |tx| read_all(tx, "", "");
    let some: Step = |tx| {
        let cursor = tx.open_range("cc", "", "").unwrap();
        for _ in 0..120 {
            tx.next(cursor).unwrap();
        }
    };
    let cases: [(Step, ValidationCode, ValidationCode); 6] = [
        (|tx| put(tx, "j"), PhantomReadConflict, PhantomReadConflict),
        (|tx| put(tx, "k000"), PhantomReadConflict, PhantomReadConflict),
        (|tx| put(tx, "k119"), PhantomReadConflict, PhantomReadConflict),
        (|tx| put(tx, "k120"), PhantomReadConflict, Valid),
        (|tx| tx.delete_state("cc", "k199").unwrap(), PhantomReadConflict, Valid),
        (|tx| tx.put_state("dd", "x", bytes("x")).unwrap(), Valid, Valid),
    ];
    for (change, whole, part) in cases {
        check(&keys, &[change, all], &[Valid, whole]);
        check(&keys, &[change, some], &[Valid, part]);
    }
}

/// Sets that no honest endorser makes end in a code, never in a stop.
#[test]
fn impossible_sets_are_invalid() {
    let ledger = ledger(&["a", "b"]);
    let results = simulate(&ledger, |tx| read_all(tx, "", ""));
    let original = TxRwSet::parse(results).unwrap();
    let with = |change: &dyn Fn(&mut weft_protos::kvrwset::RangeQueryInfo)| {
        let mut set = original.clone();
        change(&mut set.namespaces[0].public.range_queries_info[0]);
        let state = ledger.state();
        mvcc::validate(2, &inputs(std::slice::from_ref(&set)), &state).unwrap().codes[0]
    };
    assert_eq!(with(&|_| {}), Valid);
    let summary = |max_degree, max_level, hashes: usize| {
        let max_level_hashes = vec![bytes("no hash"); hashes];
        ReadsInfo::ReadsMerkleHashes(QueryReadsMerkleSummary {
            max_degree,
            max_level,
            max_level_hashes,
        })
    };
    for degree in [0, 1] {
        assert_eq!(with(&|range| range.reads_info = Some(summary(degree, 1, 1))), BadRwset);
    }
    for (level, hashes) in [(0, 0), (0, 1), (1, 0), (1, 9), (u32::MAX, 1)] {
        let code = with(&|range| range.reads_info = Some(summary(2, level, hashes)));
        assert_eq!(code, PhantomReadConflict, "{level} {hashes}");
    }
    assert_eq!(with(&|range| range.reads_info = None), PhantomReadConflict);
    let no_version = with(&|range| {
        let Some(ReadsInfo::RawReads(reads)) = &mut range.reads_info else { panic!() };
        reads.kv_reads[0].version = None;
    });
    assert_eq!(no_version, PhantomReadConflict);
    // An inverted range is empty.
    let inverted = with(&|range| (range.start_key, range.end_key) = ("z".into(), "a".into()));
    assert_eq!(inverted, PhantomReadConflict);
}

#[test]
fn only_transactions_that_are_valid_so_far_count() {
    let ledger = ledger(&["a"]);
    let write = parsed(&[simulate(&ledger, |tx| put(tx, "a"))]).remove(0);
    let read = parsed(&[simulate(&ledger, |tx| drop(tx.get_state("cc", "a").unwrap()))]).remove(0);
    let with = |code, rwset| Transaction { code, rwset, in_history: true };
    let transactions = [
        with(EndorsementPolicyFailure, Some(&write)),
        with(Valid, None),
        with(Valid, Some(&read)),
        Transaction { code: Valid, rwset: Some(&write), in_history: false },
    ];
    let validated = mvcc::validate(2, &transactions, &ledger.state()).unwrap();
    assert_eq!(validated.codes, [EndorsementPolicyFailure, Valid, Valid, Valid]);
    assert_eq!(validated.updates.get("cc", "a").unwrap().version, Version::new(2, 3));
    assert_eq!(validated.history, []);
}

/// What a block makes of a key's value and metadata, step by step.
#[test]
fn values_and_metadata_are_merged() {
    const META: Step = |tx| tx.put_state_metadata("cc", "a", &metadata(Some("1"))).unwrap();
    const META2: Step = |tx| tx.put_state_metadata("cc", "a", &metadata(Some("2"))).unwrap();
    const NO_META: Step = |tx| tx.put_state_metadata("cc", "a", &metadata(None)).unwrap();
    const PUT: Step = |tx| put(tx, "a");
    const DELETE: Step = |tx| tx.delete_state("cc", "a").unwrap();
    const BOTH: Step = |tx| {
        PUT(tx);
        META(tx);
    };
    const PUT_NO_META: Step = |tx| {
        PUT(tx);
        NO_META(tx);
    };
    const DELETE_META: Step = |tx| {
        DELETE(tx);
        META(tx);
    };
    /// Whether the key is there at first, the transactions, and what is left: value, metadata
    /// and place of the last effective transaction.
    type Row = (bool, &'static [Step], Option<(&'static str, Option<&'static str>, u64)>);
    let rows: [Row; 17] = [
        (true, &[META], Some(("v", Some("1"), 0))),
        (false, &[META], None),
        (true, &[META, PUT], Some(("new", Some("1"), 1))),
        (true, &[PUT, META], Some(("new", Some("1"), 1))),
        (false, &[PUT, META], Some(("new", Some("1"), 1))),
        (true, &[META, META2], Some(("v", Some("2"), 1))),
        (true, &[META, NO_META], Some(("v", None, 1))),
        (false, &[BOTH], Some(("new", Some("1"), 0))),
        (true, &[META2, BOTH], Some(("new", Some("1"), 1))),
        (true, &[META, PUT_NO_META], Some(("new", None, 1))),
        (true, &[DELETE], None),
        (true, &[META, DELETE], None),
        (true, &[DELETE_META], None),
        (true, &[META, DELETE, PUT], Some(("new", None, 2))),
        // Metadata of a key that an earlier transaction deleted.
        (true, &[DELETE, META], None),
        (true, &[DELETE, META, PUT], Some(("new", None, 2))),
        (true, &[NO_META], Some(("v", None, 0))),
    ];
    for (row, (there, steps, expected)) in rows.into_iter().enumerate() {
        let keys: &[&str] = if there { &["a"] } else { &[] };
        let ledger = check(keys, steps, &vec![Valid; steps.len()]);
        let found = ledger.state().get("cc", "a").unwrap();
        let found = found.map(|found| {
            let metadata = weft_ledger::state::metadata::parse(&found.metadata).unwrap();
            (found.value, metadata.get("m").cloned(), found.version)
        });
        let expected = expected.map(|(value, metadata, place)| {
            (bytes(value), metadata.map(bytes), Version::new(2, place))
        });
        assert_eq!(found, expected, "row {row}");
    }
}

/// A set that names a key twice ends as it does in Fabric, where the marks of writes add up: two
/// values count as a change of metadata, so that the old value stays.
#[test]
fn a_key_named_twice() {
    let ledger = ledger(&["a"]);
    let mut set = parsed(&[simulate(&ledger, |tx| put(tx, "a"))]).remove(0);
    let write = KvWrite { key: "a".into(), is_delete: false, value: bytes("again") };
    set.namespaces[0].public.writes.push(write);
    let validated = mvcc::validate(2, &inputs(&[set]), &ledger.state()).unwrap();
    let update = validated.updates.get("cc", "a").unwrap();
    assert_eq!(update.value, Some(bytes("v")));
    assert_eq!(update.version, Version::new(2, 0));
}

#[test]
fn hashes_of_private_keys_are_checked_and_updated() {
    let private: Step = |tx| tx.put_private("cc", "coll", "k", bytes("secret")).unwrap();
    let read: Step = |tx| drop(tx.get_private_hash("cc", "coll", "k").unwrap());
    let other: Step = |tx| drop(tx.get_private_hash("cc", "other", "k").unwrap());
    let ledger =
        check(&[], &[read, private, read, other], &[Valid, Valid, MvccReadConflict, Valid]);
    let hash = weft_crypto::sha256(b"k");
    let found = ledger.state().get_hash("cc", "coll", &hash).unwrap().unwrap();
    assert_eq!(found.value, weft_crypto::sha256(b"secret")[..]);
    assert_eq!(found.version, Version::new(2, 1));
    // A public key of the same name is another key.
    let public: Step = |tx| put(tx, "k");
    check(&[], &[public, read], &[Valid, Valid]);
    // Metadata keeps the hash and renews the version; a deletion ends both.
    let meta = simulate(&ledger, |tx| {
        tx.put_private_metadata("cc", "coll", "k", &metadata(Some("1"))).unwrap();
    });
    let stale = simulate(&ledger, read);
    let (validated, _) = commit(&ledger, &[meta, stale]);
    assert_eq!(validated.codes, [Valid, MvccReadConflict]);
    let found = ledger.state().get_hash("cc", "coll", &hash).unwrap().unwrap();
    assert_eq!(found.value, weft_crypto::sha256(b"secret")[..]);
    assert!(!found.metadata.is_empty());
    let purge = simulate(&ledger, |tx| tx.purge_private("cc", "coll", "k").unwrap());
    commit(&ledger, &[purge]);
    assert_eq!(ledger.state().get_hash("cc", "coll", &hash).unwrap(), None);
}

/// One hundred transactions spend the same coin: one is valid, whatever their order in blocks,
/// and the sum of all accounts stays.
#[test]
fn a_coin_is_spent_once() {
    let ledger = memory_ledger();
    commit(&ledger, &[]);
    let balance = |ledger: &Ledger, name: &str| -> u64 {
        let found = ledger.state().get("cc", name).unwrap().unwrap();
        std::str::from_utf8(&found.value).unwrap().parse().unwrap()
    };
    let names: Vec<String> = (0..10).map(|n| format!("account{n}")).collect();
    let fill = simulate(&ledger, |tx| {
        for name in &names {
            tx.put_state("cc", name, bytes("100")).unwrap();
        }
    });
    commit(&ledger, &[fill]);
    let transfer = |from: usize, to: usize, amount: u64| {
        simulate(&ledger, |tx| {
            let mut move_by = |name: &String, sign: i64| {
                let old = tx.get_state("cc", name).unwrap().unwrap();
                let old: i64 = std::str::from_utf8(&old).unwrap().parse().unwrap();
                let new = old + sign * amount as i64;
                tx.put_state("cc", name, new.to_string().into()).unwrap();
            };
            move_by(&names[from], -1);
            move_by(&names[to], 1);
        })
    };
    let spends: Vec<Bytes> = (0..100).map(|n| transfer(0, 1 + n % 9, 60)).collect();
    let mut valid = 0;
    for block in spends.chunks(7) {
        let (validated, _) = commit(&ledger, block);
        valid += validated.codes.iter().filter(|code| **code == Valid).count();
    }
    assert_eq!(valid, 1);
    assert_eq!(balance(&ledger, "account0"), 40);
    // Independent transfers of one block all count.
    let (validated, _) =
        commit(&ledger, &[transfer(2, 3, 5), transfer(4, 5, 5), transfer(3, 6, 1)]);
    assert_eq!(validated.codes, [Valid, Valid, MvccReadConflict]);
    assert_eq!(names.iter().map(|name| balance(&ledger, name)).sum::<u64>(), 1000);
}

/// The block after one that is not stored yet is validated as if it were.
#[test]
fn blocks_in_flight_count() {
    let ledger = ledger(&["a", "b"]);
    let read_and_put: Step = |tx| {
        tx.get_state("cc", "a").unwrap();
        read_all(tx, "", "");
        put(tx, "a");
    };
    let first = parsed(&[simulate(&ledger, read_and_put)]);
    let second = parsed(&[
        simulate(&ledger, read_and_put),
        simulate(&ledger, |tx| drop(tx.get_state("cc", "b").unwrap())),
        simulate(&ledger, |tx| tx.put_state_metadata("cc", "a", &metadata(Some("1"))).unwrap()),
    ]);
    let in_flight = mvcc::validate(2, &inputs(&first), &ledger.state()).unwrap();
    let state = ledger.state_after([Arc::new(in_flight.updates)]);
    let validated = mvcc::validate(3, &inputs(&second), &state).unwrap();
    assert_eq!(validated.codes, [MvccReadConflict, Valid, Valid]);
    assert_eq!(validated.updates.get("cc", "a").unwrap().value, Some(bytes("new")));
    let without = mvcc::validate(3, &inputs(&second), &ledger.state()).unwrap();
    assert_eq!(without.codes[0], Valid);
    assert_ne!(without.updates, UpdateBatch::new());
}
