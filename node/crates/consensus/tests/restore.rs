//! What an engine is made from: a log that contradicts itself is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::options;
use weft_consensus::raft::{Options, OptionsError, RaftEngine, RestoreError as E, Start};
use weft_consensus::{
    Action, Applied, Engine, Entry, Event, LogWrite, Membership, Millis, NodeId, Role,
};

type Store = BTreeMap<Bytes, Bytes>;

fn applied(size: u64, index: u64, height: u64) -> Applied {
    let keys: Vec<Bytes> = (1..=size).map(|id| Bytes::from(format!("c{id}"))).collect();
    let membership = Arc::new(Membership::genesis(&keys).unwrap());
    Applied { index, height, membership }
}

fn restore(node: NodeId, applied: Applied, store: &Store, start: Start) -> Result<RaftEngine, E> {
    let records = store.iter().map(|(key, value)| (key.clone(), value.clone()));
    RaftEngine::restore(node, options(), applied, records, start, Millis(0))
}

/// Carries out what there is to do, on a store; gives what was delivered last.
fn carry_out(engine: &mut RaftEngine, store: &mut Store, applied: &mut Applied) {
    for action in engine.drain() {
        match action {
            Action::Persist(persist) => persist.writes.into_iter().for_each(|write| match write {
                LogWrite::Put { key, value } => drop(store.insert(key, value)),
                LogWrite::Delete { key } => drop(store.remove(&key)),
            }),
            Action::Deliver(delivered) => {
                assert_eq!(delivered.number, applied.height);
                let (index, membership) = (delivered.index, delivered.membership);
                *applied = Applied { index, height: delivered.number + 1, membership };
            }
            _ => {}
        }
    }
}

/// A lone node's store and ledger after some entries.
fn ran(entries: usize) -> (Store, Applied) {
    let (mut store, mut applied) = (Store::new(), applied(1, 0, 1));
    let mut engine = restore(1, applied.clone(), &store, Start::Bootstrap).unwrap();
    engine.receive(Millis(10_000), Event::Tick).unwrap();
    engine.receive(Millis(20_000), Event::Tick).unwrap();
    carry_out(&mut engine, &mut store, &mut applied);
    for n in 0..entries {
        let entry = Entry::normal(vec![Bytes::from(format!("envelope {n}"))]);
        engine.receive(Millis(20_000), Event::Propose(entry)).unwrap();
        carry_out(&mut engine, &mut store, &mut applied);
    }
    assert_eq!(applied.height, 1 + entries as u64);
    (store, applied)
}

fn entry_key(index: u64) -> Bytes {
    [&b"e"[..], &index.to_be_bytes()].concat().into()
}

#[test]
fn goes_on_where_it_was() {
    for entries in [0, 1, 10, 500] {
        let (mut store, mut applied) = ran(entries);
        let engine = restore(1, applied.clone(), &store, Start::Restart).unwrap();
        let status = engine.status();
        assert_eq!(status.height, applied.height);
        assert_eq!((status.role, status.accepts_proposals), (Role::Follower, false));
        let mut engine = engine;
        engine.receive(Millis(10_000), Event::Tick).unwrap();
        engine.receive(Millis(20_000), Event::Tick).unwrap();
        carry_out(&mut engine, &mut store, &mut applied);
        let entry = Entry::normal(vec![Bytes::from_static(b"one more")]);
        engine.receive(Millis(20_000), Event::Propose(entry)).unwrap();
        carry_out(&mut engine, &mut store, &mut applied);
        assert_eq!(applied.height, 2 + entries as u64);
    }
}

/// Blocks that the ledger lost are delivered again, from the log.
#[test]
fn delivers_again_what_the_ledger_lost() {
    let (store, end) = ran(10);
    let mut early = applied(1, 0, 1);
    let mut engine = restore(1, early.clone(), &store, Start::Restart).unwrap();
    engine.receive(Millis(10_000), Event::Tick).unwrap();
    engine.receive(Millis(20_000), Event::Tick).unwrap();
    let mut store = store;
    carry_out(&mut engine, &mut store, &mut early);
    assert_eq!(early, end);
}

#[test]
fn the_log_is_bounded() {
    let (store, _) = ran(2_000);
    let bytes: usize = store.values().map(Bytes::len).sum();
    assert!(bytes <= options().snapshot_interval_bytes, "{bytes} bytes are kept");
    assert!(store.len() < 500, "{} records are kept", store.len());
}

#[test]
fn an_empty_log_has_to_be_explained() {
    let none = Store::new();
    let at = |size, index, height, start| {
        restore(1, applied(size, index, height), &none, start).map(|e| e.status().role)
    };
    assert_eq!(at(3, 0, 1, Start::Bootstrap).unwrap(), Role::Follower);
    assert_eq!(at(3, 90, 50, Start::Join).unwrap(), Role::Follower);
    assert_eq!(at(3, 90, 50, Start::Rejoin).unwrap(), Role::Quarantined);
    let missing = at(3, 90, 50, Start::Restart);
    assert!(matches!(missing, Err(E::LogMissing { node: 1, applied: 90 })), "{missing:?}");
    let anew = at(3, 90, 50, Start::Bootstrap);
    assert!(matches!(anew, Err(E::NotFresh { height: 50 })), "{anew:?}");
    let alone = at(1, 90, 50, Start::Rejoin);
    assert!(matches!(alone, Err(E::SoleConsenter { node: 1 })), "{alone:?}");
    let stranger = restore(4, applied(3, 0, 1), &none, Start::Bootstrap);
    assert!(matches!(stranger, Err(E::NotAMember { node: 4 })), "{stranger:?}");
}

#[test]
fn damage_is_refused() {
    #[track_caller]
    fn check(damage: impl Fn(&mut Store), expected: impl Fn(&E) -> bool) {
        let (mut store, applied) = ran(10);
        damage(&mut store);
        let error = restore(1, applied, &store, Start::Restart).unwrap_err();
        assert!(expected(&error), "{error:?}");
    }
    let put = |store: &mut Store, key: &'static [u8], value: &[u8]| {
        store.insert(Bytes::from_static(key), Bytes::copy_from_slice(value));
    };
    check(|s| s.clear(), |e| matches!(e, E::LogMissing { .. }));
    check(|s| drop(s.remove(&entry_key(4))), |e| matches!(e, E::Hole { expected: 4, found: 5 }));
    check(
        |s| drop(s.remove(&entry_key(11))),
        |e| matches!(e, E::Contradiction { .. } | E::LedgerAhead { .. }),
    );
    check(|s| drop(s.remove(&b"m"[..])), |e| matches!(e, E::Incomplete(_)));
    check(|s| drop(s.remove(&b"h"[..])), |e| matches!(e, E::Incomplete(_)));
    check(|s| drop(s.remove(&b"b"[..])), |e| matches!(e, E::Incomplete(_)));
    check(|s| put(s, b"z", b""), |e| matches!(e, E::UnknownKey(_)));
    check(|s| put(s, b"e123", b""), |e| matches!(e, E::UnknownKey(_)));
    check(|s| put(s, b"m", b"\x02\x01\x00\x00"), |e| matches!(e, E::Version(2)));
    let other = |e: &E| matches!(e, E::WrongNode { expected: 1, found: 9 });
    check(|s| put(s, b"m", b"\x01\x09\x00\x00"), other);
    check(|s| put(s, b"h", b"\x01"), |e| matches!(e, E::Damaged { .. }));
    check(|s| put(s, b"h", b"\x00\x00\x00"), |e| matches!(e, E::Contradiction { .. }));
    check(|s| put(s, b"h", b"\x05\x01\x7f"), |e| matches!(e, E::Contradiction { .. }));
    check(|s| put(s, b"b", b"\x00\x00\x00\x09"), |e| matches!(e, E::Damaged { .. }));
    let swap = |s: &mut Store| {
        let value = s[&entry_key(3)].clone();
        s.insert(entry_key(4), value);
    };
    check(swap, |e| matches!(e, E::Damaged { what: "an entry", .. }));
}

/// Whatever a byte of the store becomes, the engine starts or says why not.
#[test]
fn flipped_bits_do_not_panic() {
    let (store, applied) = ran(6);
    for (key, value) in &store {
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut flipped = value.to_vec();
                flipped[at] ^= 1 << bit;
                let mut damaged = store.clone();
                damaged.insert(key.clone(), flipped.into());
                if let Ok(mut engine) = restore(1, applied.clone(), &damaged, Start::Restart) {
                    let _ = engine.receive(Millis(10_000), Event::Tick);
                    engine.drain();
                }
            }
        }
    }
}

#[test]
fn options_are_checked() {
    let check = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        options.validate()
    };
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(check(|o| o.tick_interval_ms = 0), Err(OptionsError::Zero("tick_interval")));
    let ticks = OptionsError::Ticks { election_tick: 3, heartbeat_tick: 3 };
    assert_eq!(check(|o| (o.election_tick, o.heartbeat_tick) = (3, 3)), Err(ticks));
    let slow = check(|o| o.tick_interval_ms = u64::MAX);
    assert!(matches!(slow, Err(OptionsError::TooLarge { .. })));
    assert_eq!(Options::default().election_timeout_ms(), 5_000);
    // Ticks finer than a millisecond there are not.
    assert_eq!(check(|o| o.tick_interval_ms = 1), Ok(()));
}
