//! What is missing is asked for until it is found.

use std::slice::from_ref;

use bytes::Bytes;
use weft_peer::private::Exchange as _;
use weft_peer::private::exchange::{Push, Wanted};
use weft_protos::gossip::gossip_message::Content;

use super::fake::{self, Fake};
use super::hostile::{Raw, digest};
use super::{define, implicit, meet, only, push, shared, start, wanted, writes};
use crate::node::Node;
use crate::support::CHANNEL;
use crate::world::World;

impl Node {
    /// What comes of asking, in the order of the digests.
    pub async fn pulls(&self, wanted: &[Wanted]) -> Vec<Bytes> {
        let mut found = self.membership.pull(&self.peer.channel(), wanted.to_vec()).await;
        found.sort_by(|one, other| one.digest.cmp(&other.digest));
        let known = |digest| wanted.iter().any(|wanted| wanted.digest == digest);
        assert!(found.iter().all(|found| known(found.digest.clone())));
        found.into_iter().map(|found| found.writes).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endorser_has_what_it_endorsed() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 2, "peer0", &[&a]).await;
    meet(&[&a, &b, &c]).await;
    let secret = push(implicit(1), "value");
    b.keep(&secret);
    assert_eq!(a.pulls(&[wanted(&secret, 0, &[&b])]).await, only(&secret.writes));
    // Not known as an endorser, but of a member.
    assert_eq!(a.pulls(&[wanted(&secret, 0, &[])]).await, only(&secret.writes));
    // An endorser whose organization is no member has it as well, and members may ask it.
    let secret = push(implicit(1), "from outside");
    c.keep(&secret);
    assert_eq!(a.pulls(&[wanted(&secret, 0, &[&c])]).await, only(&secret.writes));
    // Without being an endorser it is not even asked.
    assert!(a.pulls(&[wanted(&secret, 0, &[])]).await.is_empty());
    assert!(a.pulls(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_have_what_was_committed() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 2, "peer0", &[&a]).await;
    let c = start(&world, 2, "peer1", &[&a]).await;
    let nodes = [&a, &b, &c];
    meet(&nodes).await;
    let collection = shared("shared", &[1, 2]);
    define(&world, &nodes.map(|node| &node.peer), from_ref(&collection)).await;
    let one = push(collection.clone(), "one");
    let two = push(collection.clone(), "two");
    let three = push(collection, "three");
    let all = [wanted(&one, 1, &[&b]), wanted(&two, 2, &[&b]), wanted(&three, 3, &[&b])];
    // Each at another place: the endorser's ledger, another member's, and nowhere.
    b.store(&all[0], &one.writes);
    c.store(&all[1], &two.writes);
    assert_eq!(a.pulls(&all).await, [one.writes, two.writes]);
    // Another block, another place in it.
    for other in [4, 9] {
        let mut elsewhere = all[0].clone();
        elsewhere.digest.index = other;
        assert!(a.pulls(&[elsewhere]).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_get_answers() {
    let world = World::new().await;
    let node = start(&world, 2, "peer0", &[]).await;
    let secret = push(implicit(2), "value");
    let kept = push(implicit(2), "kept");
    let [stored, kept_at] = [wanted(&secret, 0, &[]), wanted(&kept, 1, &[])];
    node.store(&stored, &secret.writes);
    node.keep(&kept);
    let digests = || vec![digest(&stored), digest(&kept_at)];
    for (org, count) in [(1, 0), (2, 2)] {
        let peer = world.network.org(org).identity("peer7", weft_msp::NodeRole::Peer);
        let mut raw = Raw::open(&node, &peer).await;
        let elements = raw.pull(CHANNEL, digests()).await;
        assert_eq!(elements.len(), count, "Org{org}MSP");
        if let [one, two] = &elements[..] {
            assert_eq!(one.digest, Some(digest(&stored)));
            assert_eq!(one.payload, only(&secret.writes));
            assert_eq!(two.payload, only(&kept.writes));
        }
        // No collection, no answer.
        let mut unknown = digest(&stored);
        unknown.collection = "none".to_owned();
        assert!(raw.pull(CHANNEL, vec![unknown]).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_are_dropped_and_others_asked() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 1, "peer2", &[&a]).await;
    meet(&[&a, &b, &c]).await;
    let secret = push(implicit(1), "value");
    let ask = wanted(&secret, 0, &[&b]);
    b.store(&ask, &writes("forged"));
    assert!(a.pulls(from_ref(&ask)).await.is_empty());
    c.store(&ask, &secret.writes);
    assert_eq!(a.pulls(from_ref(&ask)).await, only(&secret.writes));
    // Several simulations of one transaction: the one that became the transaction counts.
    let other = push(implicit(1), "this one");
    b.keep(&Push { writes: writes("not this one"), ..other.clone() });
    b.keep(&other);
    assert_eq!(a.pulls(&[wanted(&other, 1, &[&b])]).await, only(&other.writes));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_and_large_values_come_in_several_answers() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    meet(&[&a, &b]).await;
    let many: Vec<_> = (0..300).map(|n| push(implicit(1), format!("{n}"))).collect();
    let ask: Vec<_> =
        many.iter().zip(0..).map(|(push, index)| wanted(push, index, &[&b])).collect();
    for (ask, push) in ask.iter().zip(&many) {
        b.store(ask, &push.writes);
    }
    assert_eq!(a.pulls(&ask).await.len(), 300);
    let large: Vec<_> = (0..6_u8).map(|n| push(implicit(1), vec![n; 3 << 20])).collect();
    let ask: Vec<_> =
        large.iter().zip(1000..).map(|(push, index)| wanted(push, index, &[])).collect();
    large.iter().for_each(|push| b.keep(push));
    let found = a.pulls(&ask).await;
    assert!(found.iter().eq(large.iter().map(|push| &push.writes)), "{}", found.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_do_not_answer_are_passed_over() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let b = start(&world, 1, "peer1", &[&a]).await;
    let c = start(&world, 1, "peer2", &[&a]).await;
    meet(&[&a, &b, &c]).await;
    let secret = push(implicit(1), "value");
    c.keep(&secret);
    b.stop();
    assert_eq!(a.pulls(&[wanted(&secret, 0, &[&b])]).await, only(&secret.writes));
    a.sees(2).await;
    for manner in [fake::is_silent, fake::takes, fake::mistakes] {
        let fake = Fake::start(&world, 1, "fake", &a, manner).await;
        a.sees(3).await;
        // Members are asked in any order, so sooner or later the fake comes first.
        for _ in 0..64 {
            assert_eq!(a.pulls(&[wanted(&secret, 0, &[])]).await, only(&secret.writes));
            if fake.asked() > 0 {
                break;
            }
        }
        assert!(fake.asked() > 0);
        let asked = fake.asked.lock()[0].clone();
        assert!(matches!(asked.content, Some(Content::PrivateReq(_))));
        drop(fake);
        a.sees(2).await;
    }
}
