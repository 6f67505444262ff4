//! The peer's ledger: commits, history, queries of blocks, crashes, damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    Fault, FaultyKv, channel, commit, envelope, inputs, memory_ledger, next_block, parsed,
    simulate, try_commit, tx_id, tx_ids,
};
use prost::Message as _;
use weft_ledger::kv::column::CHAIN;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Durability, Kv};
use weft_ledger::mvcc::{self, Validated};
use weft_ledger::state::StateReader;
use weft_ledger::{CommitInput, Ledger, LedgerError};
use weft_protos::queryresult::KeyModification;
use weft_types::block::{self, metadata};
use weft_types::{ChannelId, TxFilter, ValidationCode};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(ledger: &Ledger, key: &str, value: &'static str) -> Bytes {
    simulate(ledger, |tx| tx.put_state("cc", key, bytes(value)).unwrap())
}

fn history(ledger: &Ledger, key: &str) -> Vec<KeyModification> {
    ledger.history("cc", key).map(Result::unwrap).collect()
}

#[test]
fn a_block_and_its_state_are_committed_at_once() {
    let ledger = memory_ledger();
    assert_eq!(ledger.info().height, 0);
    commit(&ledger, &[]);
    let results = [put(&ledger, "a", "1"), put(&ledger, "b", "2")];
    let (_, committed) = commit(&ledger, &results);
    assert_eq!(ledger.height(), 2);
    let state = ledger.state();
    assert_eq!(state.get("cc", "a").unwrap().unwrap().value, "1");
    assert_eq!(state.version("cc", "b").unwrap(), Some(weft_ledger::Version::new(1, 1)));
    let info = ledger.info();
    let header = committed.block.header.as_ref().unwrap();
    assert_eq!(info.current_block_hash, block::header_hash(header)[..]);
    assert_eq!(info.previous_block_hash, header.previous_hash);
    assert_eq!(ledger.blocks().get(1).unwrap().unwrap(), committed.encoded);
    assert_eq!(committed.encoded, committed.block.encode_to_vec());

    let found = ledger.transaction(&tx_id(1, 1)).unwrap().unwrap();
    assert_eq!(found.validation_code, 0);
    let stored = found.transaction_envelope.unwrap().encode_to_vec();
    assert_eq!(stored, envelope(&tx_id(1, 1), results[1].clone()));
    assert_eq!(ledger.transaction("nobody's").unwrap(), None);
}

/// Each hash covers the codes, the updates and the hash before (Fabric: kv_ledger.go).
#[test]
fn commit_hashes_are_chained() {
    let ledger = memory_ledger();
    let (_, genesis) = commit(&ledger, &[]);
    assert!(genesis.commit_hash.is_empty());
    assert!(metadata::commit_hash(&genesis.block).unwrap().is_empty());
    let mut previous = Bytes::new();
    for value in ["1", "2"] {
        let results = [put(&ledger, "a", value)];
        let (validated, committed) = commit(&ledger, &results);
        let codes = TxFilter::from_codes(&validated.codes);
        let bytes = validated.updates.commit_bytes();
        let expected = weft_crypto::sha256_parts([&[1][..], codes.as_bytes(), &bytes, &previous]);
        assert_eq!(committed.commit_hash, expected[..]);
        assert_eq!(metadata::commit_hash(&committed.block).unwrap(), expected[..]);
        assert_eq!(metadata::filter(&committed.block), Some(codes));
        previous = committed.commit_hash;
    }
    assert_eq!(ledger.commit_hash(), previous);
}

#[test]
fn history_is_newest_first_with_deletions() {
    let ledger = memory_ledger();
    commit(&ledger, &[]);
    commit(&ledger, &[put(&ledger, "a", "1"), put(&ledger, "a", "2"), put(&ledger, "ab", "x")]);
    let delete = simulate(&ledger, |tx| tx.delete_state("cc", "a").unwrap());
    commit(&ledger, &[put(&ledger, "b", "y"), delete]);
    let metadata = simulate(&ledger, |tx| {
        let metadata = [("m".to_owned(), bytes("1"))].into();
        tx.put_state_metadata("cc", "b", &metadata).unwrap();
    });
    commit(&ledger, &[metadata]);
    let before = ledger.history("cc", "a");
    commit(&ledger, &[put(&ledger, "a", "3")]);

    let found = history(&ledger, "a");
    let expected = [
        (tx_id(4, 0), "3", false),
        (tx_id(2, 1), "", true),
        (tx_id(1, 1), "2", false),
        (tx_id(1, 0), "1", false),
    ];
    let found: Vec<_> = found
        .iter()
        .map(|m| (m.tx_id.clone(), std::str::from_utf8(&m.value).unwrap(), m.is_delete))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(history(&ledger, "a")[0].timestamp.unwrap().nanos, 5);
    // Metadata alone is not in the history, a key's prefix is another key.
    assert_eq!(history(&ledger, "b").len(), 1);
    assert_eq!(history(&ledger, "ab").len(), 1);
    assert_eq!(history(&ledger, "nobody's").len(), 0);
    // A query sees the chain as it was when it began.
    let mut before = before;
    assert_eq!(before.next().unwrap().unwrap().tx_id, tx_id(2, 1));
}

#[test]
fn long_histories_are_read_in_full() {
    let ledger = memory_ledger();
    for _ in 0..70 {
        let results = vec![put(&ledger, "a", "1"); 3];
        commit(&ledger, &results);
    }
    let found = history(&ledger, "a");
    assert_eq!(found.len(), 210);
    assert_eq!(found[209].tx_id, tx_id(0, 0));
    assert_eq!(found[0].tx_id, tx_id(69, 2));
}

#[test]
fn invalid_transactions_leave_nothing_but_their_code() {
    let ledger = memory_ledger();
    commit(&ledger, &[put(&ledger, "a", "1")]);
    let read = |value| {
        simulate(&ledger, |tx| {
            tx.get_state("cc", "a").unwrap();
            tx.put_state("cc", "a", bytes(value)).unwrap();
        })
    };
    let (validated, _) = commit(&ledger, &[read("2"), read("3")]);
    assert_eq!(validated.codes, [ValidationCode::Valid, ValidationCode::MvccReadConflict]);
    assert_eq!(ledger.state().get("cc", "a").unwrap().unwrap().value, "2");
    assert_eq!(history(&ledger, "a").len(), 2);
    let found = ledger.transaction(&tx_id(1, 1)).unwrap().unwrap();
    assert_eq!(found.validation_code, ValidationCode::MvccReadConflict as i32);
}

#[test]
fn what_does_not_belong_to_the_block_is_refused() {
    let ledger = memory_ledger();
    commit(&ledger, &[]);
    let results = [put(&ledger, "a", "1")];
    let wrong = |codes: usize, ids: usize, number: u64| {
        let mut block = next_block(&ledger, vec![envelope("x", results[0].clone())]);
        block.header.as_mut().unwrap().number = number;
        let (ids, empty) = (tx_ids(1, ids), Validated::default());
        ledger.commit(CommitInput {
            block,
            codes: TxFilter::new(codes),
            tx_ids: &ids,
            updates: &empty.updates,
            history: &[],
            extra: Batch::new(),
        })
    };
    for (codes, ids, number) in [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 2), (1, 1, 0)] {
        assert!(wrong(codes, ids, number).is_err(), "{codes} {ids} {number}");
    }
    assert_eq!((ledger.height(), ledger.commit_hash()), (1, Bytes::new()));
    wrong(1, 1, 1).unwrap();
}

/// At whichever write the machine stops, before or after it reaches the disk: after the restart
/// the block, its state, its history and its indexes are there together or not at all, and the
/// chain goes on to the same end.
#[test]
fn a_crash_leaves_a_block_whole_or_absent() {
    let run = |stop: Option<(usize, Fault)>| {
        let inner = Arc::new(MemoryKv::new());
        let kv: Arc<dyn Kv> = match stop {
            Some((writes, fault)) => Arc::new(FaultyKv::new(Arc::clone(&inner), writes, fault)),
            None => Arc::clone(&inner) as _,
        };
        let mut ledger = Ledger::open(kv, channel()).unwrap();
        let mut crashed = false;
        while ledger.height() < 6 {
            let height = ledger.height();
            let results = [put(&ledger, "a", "1"), put(&ledger, "b", "2")];
            let sets = parsed(&results);
            let validated = mvcc::validate(height, &inputs(&sets), &ledger.state()).unwrap();
            if try_commit(&ledger, &results, &validated).is_err() {
                assert!(!crashed);
                crashed = true;
                assert_eq!(ledger.height(), height, "an unacknowledged block is not visible");
                ledger = Ledger::open(Arc::clone(&inner) as _, channel()).unwrap();
                let there = stop.unwrap().1 == Fault::After;
                let reached = height + u64::from(there);
                assert_eq!(ledger.height(), reached);
                assert_eq!(ledger.blocks().get(height).unwrap().is_some(), there);
                assert_eq!(history(&ledger, "a").len() as u64, reached);
                assert_eq!(ledger.transaction(&tx_id(height, 0)).unwrap().is_some(), there);
                let version = ledger.state().version("cc", "a").unwrap();
                assert_eq!(version.map_or(0, |version| version.block + 1), reached);
            }
        }
        assert_eq!(crashed, stop.is_some());
        (ledger.commit_hash(), ledger.info())
    };
    let expected = run(None);
    for writes in 0..6 {
        for fault in [Fault::Before, Fault::After] {
            assert_eq!(run(Some((writes, fault))), expected, "{writes} {fault:?}");
        }
    }
}

#[test]
fn a_ledger_is_opened_again() {
    let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
    let ledger = Ledger::open(Arc::clone(&kv), channel()).unwrap();
    commit(&ledger, &[]);
    commit(&ledger, &[put(&ledger, "a", "1")]);
    let again = Ledger::open(Arc::clone(&kv), channel()).unwrap();
    assert_eq!((again.info(), again.commit_hash()), (ledger.info(), ledger.commit_hash()));
    let other = ChannelId::new("other").unwrap();
    let refused = Ledger::open(kv, other).err().unwrap();
    assert!(matches!(refused, LedgerError::Channel { found, .. } if found == "supply"));
}

#[test]
fn state_that_does_not_belong_to_the_blocks_is_noticed() {
    let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
    let ledger = Ledger::open(Arc::clone(&kv), channel()).unwrap();
    commit(&ledger, &[]);
    let old = kv.get(CHAIN, b"savepoint").unwrap().unwrap();
    commit(&ledger, &[put(&ledger, "a", "1")]);
    let good = kv.get(CHAIN, b"savepoint").unwrap().unwrap();
    let set = |savepoint: Option<Bytes>| {
        let mut batch = Batch::new();
        match savepoint {
            Some(bytes) => batch.put(CHAIN, "savepoint", bytes),
            None => batch.delete(CHAIN, "savepoint"),
        }
        kv.write(batch, Durability::Synced).unwrap();
    };
    let mut other_hash = good.to_vec();
    *other_hash.last_mut().unwrap() ^= 1;
    for damaged in [Some(old), None, Some(bytes("\x0a\x7f")), Some(other_hash.into())] {
        set(damaged);
        let error = Ledger::open(Arc::clone(&kv), channel()).err().unwrap();
        assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
        assert!(!error.can_retry());
    }
    set(Some(good));
    Ledger::open(kv, channel()).unwrap();
}
