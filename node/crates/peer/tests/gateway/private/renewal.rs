//! Streams for private data outlive neither a certificate nor a peer.

use weft_types::Signer as _;

use super::hostile::{Raw, digest, payload, peer_of};
use super::{asking, implicit, only, push, wanted};
use crate::node::{Node, until};
use crate::support::CHANNEL;
use crate::world::World;

/// A connection shows the certificate of its handshake, and a stream on it that names a newer one
/// is refused: both sides are renewed here while streams are open.
#[tokio::test(flavor = "multi_thread")]
async fn exchanges_go_on_when_all_certificates_are_renewed() {
    let world = World::new().await;
    let a = Node::start_secure(&world, 1, "peer0", &[]).await;
    let b = Node::start_secure(&world, 2, "peer0", &[&a]).await;
    for node in [&a, &b] {
        node.sees(2).await;
    }
    let exchange = async || {
        let one = push(asking(implicit(2), 1, 1), "one");
        assert_eq!(a.pushes(&one).await, Ok(()));
        assert!(b.has(&one));
        let two = push(asking(implicit(1), 1, 1), "two");
        assert_eq!(b.pushes(&two).await, Ok(()));
        assert!(a.has(&two));
        assert_eq!(b.pulls(&[wanted(&two, 0, &[&a])]).await, Vec::<bytes::Bytes>::new());
        let three = push(implicit(1), "three");
        b.keep(&three);
        let mut ask = wanted(&three, 0, &[]);
        ask.endorsers = vec![b.membership.own().identity.serialized().clone()];
        assert_eq!(a.pulls(&[ask]).await, only(&three.writes));
    };
    exchange().await;
    for _ in 0..2 {
        let renewed = [a.renew(&world, 1, "peer0"), b.renew(&world, 2, "peer0")];
        for (node, other) in [(&a, &renewed[1]), (&b, &renewed[0])] {
            until(|| {
                let peers = node.membership.peers();
                peers.iter().any(|one| *one.identity.serialized() == other.serialized_identity())
            })
            .await;
            node.sees(2).await;
        }
        exchange().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_go_on_after_a_rest() {
    let world = World::new().await;
    let a = super::start(&world, 1, "peer0", &[]).await;
    let b = super::start(&world, 2, "peer0", &[&a]).await;
    super::meet(&[&a, &b]).await;
    // Longer than streams stay open here without being used, and than the other side waits.
    for rest in [0, 1500, 2500] {
        tokio::time::sleep(std::time::Duration::from_millis(rest)).await;
        let push = push(asking(implicit(2), 1, 1), "value");
        assert_eq!(a.pushes(&push).await, Ok(()));
        assert!(b.has(&push));
    }
}

/// A stream is as old as it is, but what is sent on it is judged by what holds now.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_gets_nothing_on_streams_that_are_open() {
    let world = World::new().await;
    let node = super::start(&world, 2, "peer0", &[]).await;
    let mut good = Raw::open(&node, &peer_of(&world, 2, "peer6")).await;
    let revoked = peer_of(&world, 1, "peer7");
    let mut raw = Raw::open(&node, &revoked).await;
    // Of the other organization, so that only the channel's configuration says who it is.
    let secret = push(implicit(1), "value");
    node.keep(&secret);
    let digest = digest(&wanted(&secret, 0, &[]));
    assert_eq!(raw.pull(CHANNEL, vec![digest.clone()]).await.len(), 1);
    let mut network = world.network.clone();
    network.orgs[0].revoke(&[revoked.certificate().clone()]);
    world.configure(&[&node.peer], &network.config(CHANNEL)).await;
    assert!(raw.pull(CHANNEL, vec![digest]).await.is_empty());
    let before = node.transient();
    let pushed = push(implicit(2), "value");
    let said = raw.push(CHANNEL, Some(payload(&pushed))).await;
    assert!(said.ends_with("the sender does not belong to it"), "{said}");
    assert_eq!(node.transient(), before);
    assert_eq!(good.push(CHANNEL, Some(payload(&pushed))).await, "");
}
