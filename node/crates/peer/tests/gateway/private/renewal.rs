//! Streams for private data outlive neither a certificate nor a peer.

use weft_types::Signer as _;

use super::{asking, implicit, only, push, wanted};
use crate::node::{Node, until};
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
