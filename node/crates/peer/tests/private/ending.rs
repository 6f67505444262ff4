//! Collections whose data lives for some blocks.

use std::sync::Arc;

use weft_ledger::kv::Kv;
use weft_ledger::kv::column::{EXPIRY, MISSING_PRIVATE, PRIVATE_DATA, PRIVATE_STATE};
use weft_ledger::kv::memory::MemoryKv;
use weft_types::ValidationCode::{MvccReadConflict, Valid};

use crate::world::{BOTH, Peer, SHORT, SlowKv, World};

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_when_its_time_is_over() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let first = world.tx(SHORT, &[("a", Some("1")), ("b", Some("1"))]);
    let again = world.tx(SHORT, &[("b", Some("2"))]);
    let unheld = world.tx(SHORT, &[("c", Some("1"))]);
    let stays = world.tx(BOTH, &[("a", Some("1"))]);
    for tx in [&first, &again, &stays] {
        tx.keep(&peer);
    }
    world.order(&[first.envelope(), unheld.envelope(), stays.envelope()]);
    world.order(&[again.envelope()]);
    peer.reaches(4).await;
    assert_eq!(peer.value(SHORT, "a"), Some(("1".into(), 2)));
    assert!(peer.is_missing(SHORT, 2, 1) && peer.hash(SHORT, "c").is_some());
    world.order_other();
    peer.reaches(5).await;
    assert_eq!((peer.value(SHORT, "a"), peer.hash(SHORT, "a")), (None, None));
    assert_eq!((peer.writes(SHORT, 2, 0), peer.hash(SHORT, "c")), (None, None));
    assert_eq!(peer.count(MISSING_PRIVATE), 0, "what has ended is not looked for");
    assert_eq!(peer.value(SHORT, "b"), Some(("2".into(), 3)));
    world.order_other();
    peer.reaches(6).await;
    assert_eq!((peer.value(SHORT, "b"), peer.hash(SHORT, "b")), (None, None));
    assert_eq!(peer.value(BOTH, "a"), Some(("1".into(), 2)));
    assert_eq!((peer.count(PRIVATE_STATE), peer.count(PRIVATE_DATA)), (1, 1));
    assert_eq!(peer.count(EXPIRY), 0);
    assert_eq!(world.counted("expired"), 3);
    peer.channels.shutdown().await;
}

/// Blocks that each write a key, read the one that is about to end, and one that has ended.
fn chain(world: &mut World, blocks: u64) {
    for _ in 0..blocks {
        let number = world.chain.len() as u64;
        let key = |of: u64| format!("k{of}");
        let mut writes = world.tx(SHORT, &[(&key(number), Some("1"))]);
        world.script.answer(&writes, writes.bytes.clone());
        let mut envelopes = Vec::new();
        if number >= 5 {
            // Block n - 2's key ends with this block, so the block is still validated with it.
            writes.read(&key(number - 2), Some((number - 2, 0)));
            let mut gone = world.tx(SHORT, &[("gone", None)]);
            gone.read(&key(number - 3), None);
            let mut stale = world.tx(SHORT, &[("stale", None)]);
            stale.read(&key(number - 3), Some((number - 3, 0)));
            let mut early = world.tx(SHORT, &[("early", None)]);
            early.read(&key(number - 2), None);
            for tx in [&gone, &stale, &early] {
                world.script.answer(tx, tx.bytes.clone());
            }
            envelopes = vec![gone.envelope(), stale.envelope(), early.envelope()];
        }
        envelopes.insert(0, writes.envelope());
        world.order(&envelopes);
    }
}

fn check(peer: &Peer, height: usize) {
    for number in 5..height {
        let expected = [Valid, Valid, MvccReadConflict, MvccReadConflict];
        assert_eq!(peer.codes(number), expected, "block {number}");
    }
    let hashes = (2..height).filter(|block| peer.hash(SHORT, &format!("k{block}")).is_some());
    assert_eq!(hashes.collect::<Vec<_>>(), [height - 2, height - 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_in_flight_see_what_has_ended() {
    let mut world = World::new().await;
    chain(&mut world, 40);
    let height = world.chain.len();
    let mut hashes = Vec::new();
    for (org, store) in [
        (1, Arc::new(SlowKv::default()) as Arc<dyn Kv>),
        (2, Arc::new(SlowKv::default())),
        (1, Arc::new(MemoryKv::new())),
    ] {
        world.store = store;
        let peer = world.peer(org).await;
        check(&peer, height);
        assert_eq!(peer.count(MISSING_PRIVATE), 0);
        hashes.push(peer.channel.ledger().commit_hash());
        peer.channels.shutdown().await;
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing_that_ends() {
    let mut world = World::new().await;
    chain(&mut world, 6);
    let peer = world.peer(1).await;
    peer.channels.shutdown().await;
    drop(peer);
    let peer = world.peer_again(1).await;
    chain(&mut world, 4);
    peer.reaches(world.chain.len()).await;
    check(&peer, world.chain.len());
    peer.channels.shutdown().await;
}
