//! Values of an endorsement reach the peers that are to have them, and nobody else.

use weft_peer::private::exchange::Push;
use weft_peer::private::{Collection, Exchange as _};
use weft_protos::gossip::gossip_message::Content;

use super::fake::{self, Fake};
use super::{asking, define, implicit, meet, push, shared, start, wanted};
use crate::node::{Node, until};
use crate::world::World;

impl Node {
    /// Pushes; gives how many peers have it where those are too few, with how many must.
    pub async fn pushes(&self, push: &Push) -> Result<(), (usize, usize)> {
        let pushed = self.membership.push(&self.peer.channel(), push.clone()).await;
        pushed.map_err(|error| {
            assert_eq!(
                (&error.collection, &error.namespace),
                (&push.collection.name, &push.namespace)
            );
            (error.reached, error.required)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_get_values_and_others_do_not() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    meet(&[&a, &b, &c]).await;
    let to_two = push(asking(implicit(2), 1, 9), "for two");
    assert_eq!(a.pushes(&to_two).await, Ok(()));
    assert!(c.has(&to_two));
    let to_one = push(asking(implicit(1), 1, 9), "for one");
    assert_eq!(a.pushes(&to_one).await, Ok(()));
    assert!(b.has(&to_one));
    // Who pushes has kept it before, or has not: that is not for the exchange to do.
    assert_eq!([a.transient(), b.transient(), c.transient()], [0, 1, 1]);
}

/// A collection's policy is asked about the peer, not about its organization.
#[tokio::test(flavor = "multi_thread")]
async fn values_go_to_peers_that_satisfy_the_policy() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    meet(&[&a, &b, &c]).await;
    let policy = |text| weft_msp::policy::dsl::parse(text).unwrap();
    let mixed = Collection {
        policy: policy("OR('Org1MSP.peer', 'Org2MSP.admin')"),
        ..shared("mixed", &[1])
    };
    let admins = Collection { policy: policy("OR('Org1MSP.admin')"), ..shared("admins", &[1]) };
    define(&world, &[&a.peer, &b.peer, &c.peer], &[mixed.clone(), admins.clone()]).await;
    let push_mixed = push(asking(mixed, 1, 9), "value");
    assert_eq!(a.pushes(&push_mixed).await, Ok(()));
    assert!(b.has(&push_mixed) && c.held(&push_mixed).is_empty());
    assert_eq!(a.pushes(&push(asking(admins, 1, 9), "value")).await, Err((0, 1)));

    // What a peer of Org2 may not hold, it does not get by asking either.
    let missing = wanted(&push_mixed, 0, &[&b]);
    b.store(&missing, &push_mixed.writes);
    assert_eq!(c.membership.pull(&c.peer.channel(), vec![missing.clone()]).await.len(), 0);
    assert_eq!(a.membership.pull(&a.peer.channel(), vec![missing]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_peers_get_values_as_the_collection_says() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    let d = start(&world, 2, "peer1", &[&a]).await;
    let nodes = [&a, &b, &c, &d];
    meet(&nodes).await;
    let collection = shared("shared", &[1, 2]);
    let peers = nodes.map(|node| &node.peer);
    define(&world, &peers, &[asking(collection.clone(), 1, 2)]).await;
    // (required, maximum): reached in the pusher's own organization, in the other.
    for (required, maximum, own, other) in
        [(0, 0, 0, 0), (0, 1, 0, 1), (1, 1, 0, 1), (1, 2, 0, 2), (3, 3, 1, 2), (0, 9, 1, 2)]
    {
        let push = push(asking(collection.clone(), required, maximum), "value");
        assert_eq!(a.pushes(&push).await, Ok(()), "{required} {maximum}");
        let reached = || {
            let has = |node: &Node| usize::from(node.has(&push));
            (has(&b), has(&c) + has(&d))
        };
        // What is not required can still be on its way.
        until(|| reached() == (own, other)).await;
        assert!(a.held(&push).is_empty());
    }
    // More than there are: nobody gets anything.
    let push = push(asking(collection, 4, 4), "value");
    assert_eq!(a.pushes(&push).await, Err((0, 4)));
    assert!(nodes.iter().all(|node| node.held(&push).is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_down_are_replaced() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    let d = start(&world, 2, "peer1", &[&a]).await;
    meet(&[&a, &c, &d]).await;
    c.stop();
    for _ in 0..4 {
        let one = push(asking(implicit(2), 1, 1), "value");
        assert_eq!(a.pushes(&one).await, Ok(()));
        assert!(d.has(&one) && c.held(&one).is_empty());
    }
    let two = push(asking(implicit(2), 2, 2), "value");
    let failed = a.pushes(&two).await.unwrap_err();
    assert_eq!(failed.1, 2);
    assert!(failed.0 <= 1, "one is down");
    d.stop();
    a.sees(1).await;
    let none = push(asking(implicit(2), 1, 1), "value");
    assert_eq!(a.pushes(&none).await, Err((0, 1)));
    // Nobody has to have it.
    let none = push(asking(implicit(2), 0, 1), "value");
    assert_eq!(a.pushes(&none).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_acknowledgement_counts() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    for manner in [fake::refuses, fake::mistakes, fake::is_silent] {
        let fake = Fake::start(&world, 2, "fake", &a, manner).await;
        a.sees(2).await;
        let push = push(asking(implicit(2), 1, 1), "value");
        assert_eq!(a.pushes(&push).await, Err((0, 1)));
        assert_eq!(fake.asked(), 1, "a peer is not asked twice");
        drop(fake);
        a.sees(1).await;
    }
    let fake = Fake::start(&world, 2, "fake", &a, fake::takes).await;
    a.sees(2).await;
    let push = push(asking(implicit(2), 1, 1), "value");
    assert_eq!(a.pushes(&push).await, Ok(()));
    let asked = fake.asked.lock()[0].clone();
    assert_ne!(asked.nonce, 0);
    assert_eq!(asked.channel, crate::support::CHANNEL.as_bytes());
    let Some(Content::PrivateData(data)) = asked.content else { panic!("{asked:?}") };
    let payload = data.payload.unwrap();
    assert_eq!(payload.private_rwset, push.writes);
    assert_eq!(payload.tx_id, push.tx_id.to_string());
    assert_eq!(payload.private_sim_height, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_replaced() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    let fake = Fake::start(&world, 2, "fake", &a, fake::is_silent).await;
    a.sees(3).await;
    while fake.asked() == 0 {
        let push = push(asking(implicit(2), 1, 1), "value");
        assert_eq!(a.pushes(&push).await, Ok(()));
        assert!(c.has(&push));
    }
    // It is known to be unwell now, and who answers comes first.
    for _ in 0..8 {
        let push = push(asking(implicit(2), 1, 1), "value");
        assert_eq!(a.pushes(&push).await, Ok(()));
        assert!(c.has(&push));
    }
    assert_eq!(fake.asked(), 1);
}

/// Nobody gets values by saying to be at the address of somebody else, or that somebody else is at
/// its own.
#[tokio::test(flavor = "multi_thread")]
async fn values_go_to_peers_that_prove_to_be_members() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    meet(&[&a, &b]).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let of_two = world.network.org(2).identity("peer7", weft_msp::NodeRole::Peer);
    fake::tell(&a, of_two, b.address.clone(), stop.clone());
    a.sees(3).await;
    let push = push(asking(implicit(2), 1, 1), "value");
    assert_eq!(a.pushes(&push).await, Err((0, 1)));
    assert!(b.held(&push).is_empty());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_passed_on() {
    let world = World::new().await;
    let mut setup = super::quick();
    setup.private_data.max_bytes = 1000;
    let a = Node::start_on(&world, 1, "peer0", &[], setup).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    meet(&[&a, &c]).await;
    let large = push(asking(implicit(2), 0, 1), [7; 1000]);
    assert!(a.pushes(&large).await.is_err());
    assert_eq!(c.transient(), 0);
    let fits = push(asking(implicit(2), 1, 1), [7; 900]);
    assert_eq!(a.pushes(&fits).await, Ok(()));
    assert!(c.has(&fits));
}

/// Far more than one stream takes at a time.
#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_go_at_once() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    meet(&[&a, &c]).await;
    let pushes: Vec<_> =
        (0..400).map(|number| push(asking(implicit(2), 1, 1), format!("{number}"))).collect();
    let pushed = futures::future::join_all(pushes.iter().map(|push| a.pushes(push))).await;
    assert!(pushed.iter().all(Result::is_ok), "{pushed:?}");
    assert!(pushes.iter().all(|push| c.has(push)));
}
