//! Simulation: what is read, what is recorded, and which combinations are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::{commit, memory_ledger, results, simulate};
use weft_ledger::simulator::QueryLimits;
use weft_ledger::state::metadata::Metadata;
use weft_ledger::{Ledger, SimulationError, Simulator, Version};
use weft_protos::kvrwset::RangeQueryInfo;
use weft_protos::kvrwset::range_query_info::ReadsInfo;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A ledger with `count` keys `k000…` in namespace `cc`.
fn ledger(count: usize) -> Ledger {
    let ledger = memory_ledger();
    commit(&ledger, &[]);
    let fill = simulate(&ledger, |tx| {
        for n in 0..count {
            tx.put_state("cc", &format!("k{n:03}"), format!("v{n}").into()).unwrap();
        }
    });
    commit(&ledger, &[fill]);
    ledger
}

/// The one range that was recorded.
fn range(simulator: Simulator) -> RangeQueryInfo {
    let mut ranges = results(simulator).namespaces.remove(0).public.range_queries_info;
    assert_eq!(ranges.len(), 1);
    ranges.remove(0)
}

fn keys_of(info: &RangeQueryInfo) -> Vec<&str> {
    match &info.reads_info {
        Some(ReadsInfo::RawReads(reads)) => reads.kv_reads.iter().map(|r| r.key.as_str()).collect(),
        Some(ReadsInfo::ReadsMerkleHashes(_)) => panic!("a summary"),
        None => Vec::new(),
    }
}

#[test]
fn a_transaction_does_not_see_its_own_writes() {
    let ledger = ledger(1);
    let mut tx = ledger.simulator();
    tx.put_state("cc", "k000", bytes("new")).unwrap();
    tx.put_state("cc", "new", bytes("new")).unwrap();
    assert_eq!(tx.get_state("cc", "k000").unwrap(), Some(bytes("v0")));
    assert_eq!(tx.get_state("cc", "new").unwrap(), None);
    let cursor = tx.open_range("cc", "", "").unwrap();
    assert_eq!(tx.next(cursor).unwrap().unwrap().key, "k000");
    assert_eq!(tx.next(cursor).unwrap(), None);
    let set = results(tx);
    let public = &set.namespaces[0].public;
    let reads: Vec<_> = public.reads.iter().map(|r| (r.key.as_str(), r.version)).collect();
    assert_eq!(reads, [("k000", Some(Version::new(1, 0).to_proto())), ("new", None)]);
    assert_eq!(public.writes.len(), 2);
}

#[test]
fn a_simulation_reads_one_moment() {
    let ledger = ledger(2);
    let mut tx = ledger.simulator();
    let change = simulate(&ledger, |tx| {
        tx.delete_state("cc", "k001").unwrap();
        tx.put_state("cc", "k000", bytes("changed")).unwrap();
        tx.put_state("cc", "k002", bytes("new")).unwrap();
    });
    commit(&ledger, &[change]);
    let values = tx.get_states("cc", &["k002", "k001", "k000"]).unwrap();
    assert_eq!(values, [None, Some(bytes("v1")), Some(bytes("v0"))]);
    let cursor = tx.open_range("cc", "", "").unwrap();
    assert_eq!(tx.next_batch(cursor, 10).unwrap().entries.len(), 2);
}

#[test]
fn a_range_is_recorded_as_far_as_it_was_read() {
    let ledger = ledger(5);
    let run = |steps: usize| {
        let mut tx = ledger.simulator();
        let cursor = tx.open_range("cc", "k001", "k004").unwrap();
        for _ in 0..steps {
            tx.next(cursor).unwrap();
        }
        range(tx)
    };
    let info = run(0);
    assert_eq!((info.end_key.as_str(), info.itr_exhausted, keys_of(&info).len()), ("", false, 0));
    let info = run(2);
    assert_eq!((info.end_key.as_str(), info.itr_exhausted), ("k002", false));
    assert_eq!(keys_of(&info), ["k001", "k002"]);
    let info = run(3);
    assert_eq!((info.end_key.as_str(), info.itr_exhausted), ("k003", false));
    let info = run(4);
    assert_eq!((info.end_key.as_str(), info.itr_exhausted), ("k004", true));
    assert_eq!(keys_of(&info), ["k001", "k002", "k003"]);
    assert_eq!(info.start_key, "k001");
}

#[test]
fn an_empty_range_has_no_reads() {
    let ledger = ledger(1);
    let mut tx = ledger.simulator();
    let cursor = tx.open_range("cc", "x", "z").unwrap();
    assert_eq!(tx.next(cursor).unwrap(), None);
    let info = range(tx);
    assert_eq!((info.end_key.as_str(), info.itr_exhausted, info.reads_info), ("z", true, None));
}

#[test]
fn a_large_range_is_summarised() {
    let ledger = ledger(300);
    let mut tx = ledger.simulator();
    let cursor = tx.open_range("cc", "", "").unwrap();
    while tx.next(cursor).unwrap().is_some() {}
    let info = range(tx);
    let Some(ReadsInfo::ReadsMerkleHashes(summary)) = info.reads_info else { panic!() };
    // 300 results in hashes of 51.
    assert_eq!((summary.max_degree, summary.max_level), (50, 1));
    assert_eq!(summary.max_level_hashes.len(), 6);
}

/// Batches as the peer sends them: one entry is read ahead, and is part of the record.
#[test]
fn batches_read_one_ahead() {
    let ledger = ledger(5);
    let mut tx = ledger.simulator();
    let cursor = tx.open_range("cc", "", "").unwrap();
    let keys = |batch: &weft_ledger::simulator::RangeBatch| {
        batch.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>()
    };
    let first = tx.next_batch(cursor, 2).unwrap();
    assert_eq!(
        (keys(&first), first.has_more, first.returned),
        (vec!["k000".into(), "k001".into()], true, 2)
    );
    let second = tx.next_batch(cursor, 2).unwrap();
    assert_eq!(
        (keys(&second), second.has_more, second.returned),
        (vec!["k002".into(), "k003".into()], true, 4)
    );
    let third = tx.next_batch(cursor, 2).unwrap();
    assert_eq!((keys(&third), third.has_more, third.returned), (vec!["k004".into()], false, 5));
    assert_eq!(third.bookmark, "");
    assert!(matches!(tx.next_batch(cursor, 2), Err(SimulationError::NoCursor { .. })));
    assert!(range(tx).itr_exhausted);

    let mut tx = ledger.simulator();
    let cursor = tx.open_range("cc", "", "").unwrap();
    assert!(tx.next_batch(cursor, 2).unwrap().has_more);
    tx.close(cursor).unwrap();
    assert!(matches!(tx.close(cursor), Err(SimulationError::NoCursor { .. })));
    let info = range(tx);
    assert_eq!((info.end_key.as_str(), keys_of(&info).len()), ("k002", 3));
}

#[test]
fn pages_follow_bookmarks() {
    let ledger = ledger(5);
    let page = |start: &str, size: usize| {
        let mut tx = ledger.simulator();
        let cursor = tx.open_page("cc", start, "k004", size).unwrap();
        let batch = tx.next_batch(cursor, 100).unwrap();
        let keys: Vec<String> = batch.entries.into_iter().map(|entry| entry.key).collect();
        (keys.join(","), batch.bookmark, batch.returned)
    };
    assert_eq!(page("", 3), ("k000,k001,k002".into(), "k003".into(), 3));
    assert_eq!(page("k003", 3), ("k003".into(), "".into(), 1));
    assert_eq!(page("", 4), ("k000,k001,k002,k003".into(), "".into(), 4));
    assert_eq!(page("", 0), ("".into(), "k000".into(), 0));
    assert_eq!(page("x", 3), ("".into(), "".into(), 0));
}

#[test]
fn pages_end_where_their_bytes_do() {
    // A key of four bytes and a value.
    let one = page_of(usize::MAX, 1).1;
    for (entries, room) in [(1, 0), (1, one), (2, one + 1), (2, 2 * one), (3, 2 * one + 1)] {
        let (keys, _, bookmark) = page_of(room, 5);
        assert_eq!((keys.len(), bookmark), (entries, format!("k00{entries}")), "{room}");
    }
}

/// The keys of a page with room for so many bytes, the bytes that they take with their values, and
/// the bookmark.
fn page_of(room: usize, size: usize) -> (Vec<String>, usize, String) {
    let limits = QueryLimits { page_bytes: room, ..QueryLimits::default() };
    let ledger = ledger(10).with_query_limits(limits);
    let mut tx = ledger.simulator();
    let cursor = tx.open_page("cc", "", "", size).unwrap();
    let batch = tx.next_batch(cursor, 100).unwrap();
    let bytes = batch.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    (batch.entries.into_iter().map(|entry| entry.key).collect(), bytes, batch.bookmark)
}

#[test]
fn limits_hold() {
    let ledger = ledger(10).with_query_limits(QueryLimits {
        entries: 4,
        cursors: 2,
        ..QueryLimits::default()
    });
    let mut tx = ledger.simulator();
    let cursor = tx.open_range("cc", "", "").unwrap();
    let batch = tx.next_batch(cursor, 100).unwrap();
    assert_eq!((batch.entries.len(), batch.has_more), (4, false));
    let cursor = tx.open_range("cc", "", "").unwrap();
    let batch = tx.next_batch(cursor, 3).unwrap();
    assert_eq!((batch.entries.len(), batch.has_more), (3, true));
    let batch = tx.next_batch(cursor, 3).unwrap();
    assert_eq!((batch.entries.len(), batch.has_more), (1, false));
    let refused = tx.open_range("cc", "", "").unwrap_err();
    assert!(matches!(refused, SimulationError::TooManyCursors { limit: 2 }));
    // The range ends where the limit cut it, not where the state does.
    let info = range(tx);
    assert_eq!((info.end_key.as_str(), info.itr_exhausted), ("k003", false));
}

#[test]
fn writes_and_unchecked_queries_exclude_each_other() {
    let ledger = ledger(1);
    let mut tx = ledger.simulator();
    tx.put_state("cc", "a", bytes("1")).unwrap();
    assert!(matches!(tx.open_page("cc", "", "", 1), Err(SimulationError::Written { .. })));
    assert!(tx.private_range("cc", "coll", ("", ""), 1).is_err());
    assert!(tx.open_range("cc", "", "").is_ok());

    type Write = fn(&mut Simulator) -> Result<(), SimulationError>;
    let writes: [Write; 5] = [
        |tx| tx.put_state("cc", "a", bytes("1")),
        |tx| tx.delete_state("cc", "a"),
        |tx| tx.put_state_metadata("cc", "a", &Metadata::new()),
        |tx| tx.put_private("cc", "coll", "a", bytes("1")),
        |tx| tx.purge_private("cc", "coll", "a"),
    ];
    for write in writes {
        let mut tx = ledger.simulator();
        tx.open_page("cc", "", "", 1).unwrap();
        assert!(matches!(write(&mut tx), Err(SimulationError::ReadOnly { .. })));
        let mut tx = ledger.simulator();
        tx.private_range("cc", "coll", ("", ""), 1).unwrap();
        assert!(matches!(write(&mut tx), Err(SimulationError::ReadOnly { .. })));
    }
}

#[test]
fn metadata_is_read_and_written() {
    let ledger = ledger(1);
    let metadata = Metadata::from([("VALIDATION_PARAMETER".to_owned(), bytes("policy"))]);
    let write = simulate(&ledger, |tx| tx.put_state_metadata("cc", "k000", &metadata).unwrap());
    commit(&ledger, &[write]);
    let mut tx = ledger.simulator();
    assert_eq!(tx.get_state_metadata("cc", "k000").unwrap(), metadata);
    assert_eq!(tx.get_state_metadata("cc", "nobody's").unwrap(), Metadata::new());
    assert_eq!(tx.get_state("cc", "k000").unwrap(), Some(bytes("v0")));
    let reads = results(tx).namespaces.remove(0).public.reads;
    // The metadata's write renewed the version.
    assert_eq!(reads[0].version, Some(Version::new(2, 0).to_proto()));
    assert_eq!(reads[1].version, None);
}

#[test]
fn private_values_are_read_where_their_hash_agrees() {
    let ledger = ledger(0);
    let mut tx = ledger.simulator();
    tx.put_private("cc", "coll", "k", bytes("secret")).unwrap();
    let done = tx.finish();
    assert!(done.private.is_some());
    commit(&ledger, &[done.public_bytes]);

    // The hash is there, the value is not.
    let mut tx = ledger.simulator();
    let missing = tx.get_private("cc", "coll", "k").unwrap_err();
    assert!(matches!(missing, SimulationError::PrivateMissing { .. }));
    let hash = weft_crypto::sha256(b"secret");
    assert_eq!(tx.get_private_hash("cc", "coll", "k").unwrap().unwrap(), hash[..]);
    assert_eq!(tx.get_private("cc", "coll", "other").unwrap(), None);
    let done = tx.finish();
    assert!(done.private_reads.contains(&("cc".into(), "coll".into())));
    let set = weft_ledger::rwset::TxRwSet::parse(done.public_bytes).unwrap();
    let reads = &set.namespaces[0].collections[0].hashed.hashed_reads;
    let versions: Vec<_> = reads.iter().map(|read| read.version).collect();
    assert_eq!(versions, [Some(Version::new(2, 0).to_proto()), None]);
}
