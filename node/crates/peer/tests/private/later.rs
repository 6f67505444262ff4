//! What is missing is found later.

use std::time::Duration;

use weft_ledger::kv::column::MISSING_PRIVATE;
use weft_types::ValidationCode::Valid;

use crate::world::{BOTH, ONE, SHORT, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missing_is_found_newest_first() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let old = world.tx(BOTH, &[("a", Some("1")), ("b", Some("1"))]);
    let new = world.tx(BOTH, &[("a", Some("2"))]);
    world.order(&[old.envelope()]);
    world.order(&[new.envelope()]);
    peer.reaches(4).await;
    assert!(peer.is_missing(BOTH, 2, 0) && peer.is_missing(BOTH, 3, 0));
    world.script.asked.lock().clear();

    // What is not of the hash is not taken, however often it comes.
    world.script.answer(&old, new.bytes.clone());
    world.script.answer(&new, new.bytes.clone());
    world.reconcile_until(&peer, || world.counted("reconciled") == 1).await;
    let asked = world.script.asked.lock().clone();
    let blocks: Vec<_> = asked[0].iter().map(|wanted| wanted.digest.block).collect();
    assert_eq!(blocks, [3, 2]);
    assert_eq!(asked[0][0].digest.tx_id, new.draft.id());
    assert_eq!(asked[0][0].endorsers.len(), 1);
    assert!(peer.is_missing(BOTH, 2, 0));
    assert_eq!(peer.value(BOTH, "b"), None);

    world.script.answer(&old, old.bytes.clone());
    world.reconcile_until(&peer, || world.counted("reconciled") == 2).await;
    assert_eq!(peer.count(MISSING_PRIVATE), 0);
    assert_eq!(peer.value(BOTH, "a"), Some(("2".into(), 3)), "the newer value stays");
    assert_eq!(peer.value(BOTH, "b"), Some(("1".into(), 2)));
    assert_eq!(peer.writes(BOTH, 2, 0), Some(old.bytes.clone()));
    assert_eq!(world.counted("missing"), 2);
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_key_does_not_come_back() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let first = world.tx(BOTH, &[("a", Some("1")), ("b", Some("1"))]);
    let purge = world.purge(BOTH, "a");
    world.order(&[first.envelope()]);
    world.order(&[purge.envelope()]);
    peer.reaches(4).await;
    world.script.answer(&first, first.bytes.clone());
    world.script.answer(&purge, purge.bytes.clone());
    world.reconcile_until(&peer, || peer.count(MISSING_PRIVATE) == 0).await;
    assert_eq!((peer.value(BOTH, "a"), peer.value(BOTH, "b")), (None, Some(("1".into(), 2))));
    let only = world.tx(BOTH, &[("b", Some("1"))]).bytes;
    assert_eq!(peer.writes(BOTH, 2, 0), Some(only));
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_purged_writes_is_taken() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let first = world.tx(BOTH, &[("a", Some("1")), ("b", Some("1")), ("c", None)]);
    let other = world.tx(BOTH, &[("a", Some("2"))]);
    let purge = world.purge(BOTH, "a");
    world.order(&[first.envelope(), other.envelope()]);
    world.order(&[purge.envelope()]);
    peer.reaches(4).await;
    // Other peers have purged the key, and have nothing else of the second transaction.
    let rest = world.tx(BOTH, &[("b", Some("1")), ("c", None)]).bytes;
    let less = world.tx(BOTH, &[("b", Some("1"))]).bytes;
    let changed = world.tx(BOTH, &[("b", Some("2")), ("c", None)]).bytes;
    world.script.answer(&other, bytes::Bytes::new());
    world.script.answer(&purge, bytes::Bytes::new());
    for wrong in [less, changed] {
        world.script.answer(&first, wrong);
        let asked = world.script.asked.lock().len();
        world.reconcile_until(&peer, || world.script.asked.lock().len() > asked + 2).await;
        assert!(peer.is_missing(BOTH, 2, 0));
    }
    world.script.answer(&first, rest.clone());
    world.reconcile_until(&peer, || !peer.is_missing(BOTH, 2, 0)).await;
    assert_eq!(peer.writes(BOTH, 2, 0), Some(rest));
    assert_eq!(peer.value(BOTH, "b"), Some(("1".into(), 2)));
    assert_eq!(peer.writes(BOTH, 2, 1), Some(bytes::Bytes::new()));
    assert!(peer.is_missing(BOTH, 3, 0), "the purge itself is of its own hash");
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_what_was_written_before() {
    let mut world = World::new().await;
    let peer = world.peer(2).await;
    let before = world.tx(ONE, &[("a", Some("1"))]);
    world.script.answer(&before, before.bytes.clone());
    world.order(&[before.envelope()]);
    // The definition counts from the next block on.
    let with = world.tx(ONE, &[("b", Some("1"))]);
    world.script.answer(&with, with.bytes.clone());
    world.define(&[(BOTH, &[1, 2], 0), (ONE, &[1, 2], 0), (SHORT, &[1, 2], 1)]);
    world.order(&[with.envelope()]);
    peer.reaches(5).await;
    assert_eq!(peer.codes(3), [Valid]);
    assert_eq!(peer.value(ONE, "b"), Some(("1".into(), 4)));
    assert_eq!((peer.value(ONE, "a"), peer.hash(ONE, "a")), (None, Some(2)));
    world.reconcile_until(&peer, || peer.count(MISSING_PRIVATE) == 0).await;
    assert_eq!(peer.value(ONE, "a"), Some(("1".into(), 2)));
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_for_collections_of_others() {
    let mut world = World::new().await;
    let peer = world.peer(2).await;
    let (one, both) = (world.tx(ONE, &[("a", Some("1"))]), world.tx(BOTH, &[("b", Some("1"))]));
    world.order(&[one.envelope(), both.envelope()]);
    peer.reaches(3).await;
    world.script.answer(&one, one.bytes.clone());
    world.script.answer(&both, both.bytes.clone());
    world.reconcile_until(&peer, || !peer.is_missing(BOTH, 2, 1)).await;
    let asked = world.script.asked.lock().clone();
    assert!(asked.iter().flatten().all(|wanted| wanted.digest.collection == BOTH));
    assert_eq!(peer.value(ONE, "a"), None);
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_one_question_is_found() {
    let mut world = World::new().await;
    world.pull_timeout = Duration::ZERO;
    let mut all = Vec::new();
    for block in 0..3 {
        let keys: Vec<_> = (0..50).map(|place| format!("{block}-{place}")).collect();
        let txs: Vec<_> = keys.iter().map(|key| world.tx(BOTH, &[(key, Some("1"))])).collect();
        let envelopes: Vec<_> = txs.iter().map(|tx| tx.envelope()).collect();
        world.order(&envelopes);
        txs.iter().for_each(|tx| world.script.answer(tx, tx.bytes.clone()));
        all.extend(keys);
    }
    let peer = world.peer(1).await;
    assert_eq!(peer.count(MISSING_PRIVATE), 150);
    world.reconcile_until(&peer, || peer.count(MISSING_PRIVATE) == 0).await;
    assert!(all.iter().all(|key| peer.value(BOTH, key).is_some()));
    assert!(world.script.asked.lock().iter().all(|asked| asked.len() <= 64));
    peer.channels.shutdown().await;
}
