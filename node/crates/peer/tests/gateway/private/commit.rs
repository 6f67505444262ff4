//! From an endorsement to the private state of peers that were not pushed to.

use bytes::Bytes;
use weft_peer::commit::private;
use weft_testkit::tx;
use weft_types::{ChannelId, Signer, ValidationCode};

use super::hostile::{Raw, payload, peer_of};
use super::{CHAINCODE, define, meet, push, shared, start};
use crate::node::Node;
use crate::support::CHANNEL;
use crate::world::World;

/// A member that nobody pushed to asks the endorser when the block comes; others get hashes only.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_finds_what_is_missing() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    let nodes = [&a, &b, &c];
    meet(&nodes).await;
    let peers = nodes.map(|node| &node.peer);
    define(&world, &peers, &[shared("ours", &[1])]).await;
    let channel = a.peer.channel();
    let mut simulator = channel.ledger().simulator();
    simulator.put_private(CHAINCODE, "ours", "key", Bytes::from_static(b"value")).unwrap();
    let results = simulator.finish();
    let id = ChannelId::new(CHANNEL).unwrap();
    let signers = nodes.map(|node| &node.identity as &dyn Signer);
    let (tx_id, envelope) = tx::endorser_transaction(
        &id,
        CHAINCODE,
        results.public_bytes.clone(),
        world.client(1),
        &[signers[0], signers[2]],
    );
    let values = results.private.unwrap();
    private::keep(channel.ledger(), &tx_id.to_string(), &values).unwrap();
    assert_eq!(world.order(&peers, &[envelope]).await, [ValidationCode::Valid]);
    let value = |node: &Node| {
        let channel = node.peer.channel();
        let mut simulator = channel.ledger().simulator();
        simulator.get_private(CHAINCODE, "ours", "key").ok().flatten()
    };
    assert_eq!(value(&a), Some(Bytes::from_static(b"value")));
    assert_eq!(value(&b), Some(Bytes::from_static(b"value")));
    assert_ne!(value(&c), Some(Bytes::from_static(b"value")));
    assert_eq!([a.transient(), b.transient(), c.transient()], [0, 0, 0]);
    // A push that comes now is late. It is taken for what it is: the same, or not.
    let mut late = push(shared("ours", &[1]), "other");
    late.tx_id = tx_id;
    let mut raw = Raw::open(&b, &peer_of(&world, 2, "peer7")).await;
    assert_eq!(raw.push(CHANNEL, Some(payload(&late))).await, "the transaction is committed");
    late.writes = values.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset.clone();
    assert_eq!(raw.push(CHANNEL, Some(payload(&late))).await, "");
    assert_eq!(b.transient(), 0);
}
