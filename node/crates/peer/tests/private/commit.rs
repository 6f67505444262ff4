//! What a block does with private writes.

use std::sync::Arc;
use std::time::Duration;

use weft_ledger::kv::column::{MISSING_PRIVATE, PRIVATE_DATA, PRIVATE_STATE};
use weft_ledger::kv::memory::MemoryKv;
use weft_peer::commit::private::{Slot, held, keep};
use weft_types::ValidationCode::{EndorsementPolicyFailure, Valid};

use crate::support::CHAINCODE;
use crate::world::{BOTH, ONE, SOON, World, values};

#[tokio::test(flavor = "multi_thread")]
async fn what_endorsers_sent_is_taken_by_collection() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    // One transaction with two collections, which came from two peers.
    let mut tx = world.tx(BOTH, &[("a", Some("1"))]);
    let mut other = world.tx(ONE, &[("b", Some("2"))]);
    let part = other.draft.set.namespace(CHAINCODE).2.remove(0);
    tx.draft.set.namespace(CHAINCODE).2.push(part);
    other.draft = tx.draft.clone();
    tx.keep(&peer);
    other.keep(&peer);
    // Simulated again with another result, later.
    let again = world.tx(BOTH, &[("a", Some("3"))]);
    keep(peer.channel.ledger(), &tx.draft.id(), &values(BOTH, &again.bytes)).unwrap();
    let slot = Slot { tx_id: &tx.draft.id(), namespace: CHAINCODE, collection: BOTH };
    let waiting = held(peer.channel.ledger(), slot, usize::MAX).unwrap();
    assert_eq!(waiting.len(), 2);
    assert!(waiting.contains(&tx.bytes) && waiting.contains(&again.bytes));

    world.order(&[tx.envelope()]);
    peer.reaches(3).await;
    assert_eq!(peer.codes(2), [Valid]);
    assert_eq!(peer.value(BOTH, "a"), Some(("1".into(), 2)));
    assert_eq!(peer.value(ONE, "b"), Some(("2".into(), 2)));
    assert_eq!(peer.writes(BOTH, 2, 0), Some(tx.bytes.clone()));
    assert_eq!(peer.writes(ONE, 2, 0), Some(other.bytes.clone()));
    assert_eq!((peer.waits(), peer.count(MISSING_PRIVATE), world.script.asked()), (0, 0, 0));
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_is_pulled_at_once_for_the_block() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let (kept, pulled) = (world.tx(BOTH, &[("a", Some("1"))]), world.tx(BOTH, &[("b", Some("2"))]));
    let (wrong, nobody) = (world.tx(ONE, &[("c", Some("3"))]), world.tx(ONE, &[("d", Some("4"))]));
    kept.keep(&peer);
    world.script.answer(&pulled, pulled.bytes.clone());
    world.script.answer(&wrong, kept.bytes.clone());
    let all = [&kept, &pulled, &wrong, &nobody].map(|tx| tx.envelope());
    world.order(&all);
    peer.reaches(3).await;
    assert_eq!(peer.codes(2), [Valid; 4]);
    assert_eq!(peer.value(BOTH, "b"), Some(("2".into(), 2)));
    assert_eq!(peer.writes(BOTH, 2, 1), Some(pulled.bytes.clone()));
    assert_eq!((peer.value(ONE, "c"), peer.writes(ONE, 2, 2)), (None, None));
    assert!(peer.is_missing(ONE, 2, 2) && peer.is_missing(ONE, 2, 3));
    assert_eq!(peer.count(MISSING_PRIVATE), 2);
    let state = peer.channel.ledger().simulator().get_private(CHAINCODE, ONE, "c");
    assert!(state.is_err(), "a value that is not here is not told to be none");

    let counted = ["pulled", "missing", "reconciled", "expired"].map(|name| world.counted(name));
    assert_eq!(counted, [1, 2, 0, 0]);

    let asked = world.script.asked.lock().clone();
    assert_eq!(asked.len(), 1, "one question for the block");
    let places: Vec<_> = asked[0].iter().map(|wanted| wanted.digest.index).collect();
    assert_eq!(places, [1, 2, 3]);
    let wanted = &asked[0][0];
    assert_eq!((wanted.digest.block, &wanted.digest.tx_id), (2, &pulled.draft.id()));
    assert_eq!(*wanted.proof.hash(), weft_crypto::sha256(&pulled.bytes)[..]);
    assert_eq!(wanted.collection.policy.identities.len(), 2);
    let endorser = weft_types::Signer::serialized_identity(&world.network.org(1).peer);
    assert_eq!(wanted.endorsers, [endorser]);
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_not_valid_leaves_nothing() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let mut failing = world.tx(BOTH, &[("a", Some("1"))]);
    failing.draft.endorsers.clear();
    failing.keep(&peer);
    let mut unheld = world.tx(BOTH, &[("b", Some("1"))]);
    unheld.draft.endorsers.clear();
    world.order(&[failing.envelope(), unheld.envelope()]);
    peer.reaches(3).await;
    assert_eq!(peer.codes(2), [EndorsementPolicyFailure; 2]);
    assert_eq!((peer.waits(), world.script.asked()), (0, 0));
    for column in [PRIVATE_STATE, PRIVATE_DATA, MISSING_PRIVATE] {
        assert_eq!(peer.count(column), 0, "{column}");
    }
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_no_member_has_hashes_only() {
    let mut world = World::new().await;
    let peer = world.peer(2).await;
    let tx = world.tx(ONE, &[("a", Some("1"))]);
    // Even where it endorsed the transaction itself.
    tx.keep(&peer);
    world.script.answer(&tx, tx.bytes.clone());
    world.order(&[tx.envelope()]);
    peer.reaches(3).await;
    assert_eq!((peer.hash(ONE, "a"), peer.value(ONE, "a")), (Some(2), None));
    assert_eq!((peer.writes(ONE, 2, 0), world.script.asked()), (None, 0));
    assert_eq!(peer.waits(), 0);
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_waits_holds_nobody_before_it_and_no_shutdown() {
    let mut world = World::new().await;
    let waits = world.tx(BOTH, &[("a", Some("1"))]);
    world.order_other();
    world.order_other();
    world.order(&[waits.envelope()]);
    world.order_other();
    world.script.open.send_replace(false);
    world.pull_timeout = Duration::from_secs(3600);
    let channels = world.channels(1);
    let channel = channels.join(world.chain[0].clone()).await.unwrap();
    let mut height = channel.height_watch();
    let told = tokio::time::timeout(SOON, height.wait_for(|height| *height == 4)).await;
    told.expect("blocks before the one that waits are made known").unwrap();
    while world.script.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(channel.block(4).unwrap(), None);
    let stopped = tokio::time::timeout(Duration::from_secs(10), channels.shutdown()).await;
    assert!(stopped.is_ok(), "a peer that stops waits for nobody");
    assert!(channel.fault().is_none());
    assert!(channel.ledger().height() > 4, "what was received is committed");
    drop((channel, channels));

    // What was missing then is still known to be, and other blocks go on.
    world.script.open.send_replace(true);
    let peer = world.peer_again(1).await;
    peer.reaches(6).await;
    assert!(peer.is_missing(BOTH, 4, 0));
    world.script.answer(&waits, waits.bytes.clone());
    world.reconcile_until(&peer, || !peer.is_missing(BOTH, 4, 0)).await;
    assert_eq!(peer.value(BOTH, "a"), Some(("1".into(), 4)));
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_waits_no_longer_than_is_set() {
    for timeout in [Duration::ZERO, Duration::from_millis(10)] {
        let mut world = World::new().await;
        world.pull_timeout = timeout;
        world.script.open.send_replace(false);
        let tx = world.tx(BOTH, &[("a", Some("1"))]);
        world.order(&[tx.envelope()]);
        let peer = world.peer(1).await;
        assert!(peer.is_missing(BOTH, 2, 0));
        assert_eq!(world.script.asked(), usize::from(!timeout.is_zero()));
        peer.channels.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_the_block_waits_is_taken() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    world.script.open.send_replace(false);
    let tx = world.tx(BOTH, &[("a", Some("1"))]);
    world.order(&[tx.envelope()]);
    while world.script.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tx.keep(&peer);
    // Nobody else has it.
    world.script.open.send_replace(true);
    peer.reaches(3).await;
    assert_eq!(peer.value(BOTH, "a"), Some(("1".into(), 2)));
    assert_eq!((peer.waits(), peer.count(MISSING_PRIVATE)), (0, 0));
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_a_key_from_state_and_kept_writes() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let first = world.tx(BOTH, &[("a", Some("1")), ("b", Some("1"))]);
    let purge = world.purge(BOTH, "a");
    first.keep(&peer);
    purge.keep(&peer);
    world.order(&[first.envelope()]);
    world.order(&[purge.envelope()]);
    peer.reaches(4).await;
    assert_eq!((peer.value(BOTH, "a"), peer.hash(BOTH, "a")), (None, None));
    assert_eq!(peer.value(BOTH, "b"), Some(("1".into(), 2)));
    let kept = peer.writes(BOTH, 2, 0).unwrap();
    let only = world.tx(BOTH, &[("b", Some("1"))]).bytes;
    assert_eq!(kept, only, "nothing of the purged key is left");
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_policy_of_its_own_stays_readable() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let first = world.tx(BOTH, &[("a", Some("1"))]);
    let mut policy = world.tx(BOTH, &[]);
    policy.set_policy("a", "OR('Org2MSP.peer')");
    let against = world.tx(BOTH, &[("a", Some("2"))]);
    for tx in [&first, &policy, &against] {
        tx.keep(&peer);
        world.order(&[tx.envelope()]);
    }
    peer.reaches(5).await;
    assert_eq!((peer.codes(3), peer.codes(4)), (vec![Valid], vec![EndorsementPolicyFailure]));
    assert_eq!(peer.hash(BOTH, "a"), Some(3));
    let found = peer.channel.ledger().simulator().get_private(CHAINCODE, BOTH, "a").unwrap();
    assert_eq!(found.unwrap(), "1");
    peer.channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_survive_a_restart_and_peers_agree() {
    let mut world = World::new().await;
    let first = world.tx(BOTH, &[("a", Some("1"))]);
    let second = world.tx(ONE, &[("b", Some("1"))]);
    for tx in [&first, &second] {
        world.script.answer(tx, tx.bytes.clone());
        world.order(&[tx.envelope()]);
    }
    let peer = world.peer(1).await;
    let hash = peer.channel.ledger().commit_hash();
    peer.channels.shutdown().await;
    drop(peer);
    let peer = world.peer_again(1).await;
    assert_eq!(peer.value(BOTH, "a"), Some(("1".into(), 2)));
    assert_eq!(peer.writes(ONE, 3, 0), Some(second.bytes.clone()));
    peer.channels.shutdown().await;

    // Nobody else sees from the hashes who has which values.
    world.store = Arc::new(MemoryKv::new());
    let other = world.peer(2).await;
    assert_eq!(other.channel.ledger().commit_hash(), hash);
    assert_eq!((other.value(BOTH, "a").is_some(), other.value(ONE, "b")), (true, None));
    other.channels.shutdown().await;
}
