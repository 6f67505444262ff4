//! Peers find each other over real streams.

use crate::node::{Node, Setup, until};
use crate::support::CHANNEL;
use crate::world::World;
use weft_types::ChannelId;

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_knows_itself() {
    let world = World::new().await;
    let node = Node::start(&world, 1, "peer0", &[]).await;
    let peers = node.membership.channel_peers(&node.peer.channel());
    assert_eq!(peers.len(), 1);
    assert!(peers[0].member.is_self);
    assert_eq!(peers[0].member.endpoint, node.address);
    assert_eq!(peers[0].state.height, 1);
    assert!(peers[0].state.has_version("asset", "1"));
    assert!(peers[0].state.has_version("_lifecycle", "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_learn_of_each_other_and_of_third_ones() {
    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    let c = Node::start(&world, 1, "peer1", &[&b]).await;
    for node in [&a, &b, &c] {
        node.sees(3).await;
        let mut found: Vec<_> =
            node.membership.peers().iter().map(|peer| peer.endpoint.clone()).collect();
        found.sort();
        let mut expected = vec![a.address.clone(), b.address.clone(), c.address.clone()];
        expected.sort();
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heights_and_chaincodes_spread() {
    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    a.sees(2).await;
    let before = a.membership.generation();
    b.chaincodes.0.lock().push(("other".to_owned(), 4));
    let channel = ChannelId::new(CHANNEL).unwrap();
    let endorser = &world.network.org(1).peer;
    let (_, envelope) = weft_testkit::tx::endorser_transaction(
        &channel,
        "nothing",
        Default::default(),
        world.client(1),
        &[endorser],
    );
    world.order(&[&a.peer, &b.peer], &[envelope]).await;
    let of_b = || {
        let peers = a.membership.channel_peers(&a.peer.channel());
        peers.into_iter().find(|peer| peer.member.endpoint == b.address).unwrap().state
    };
    until(|| of_b().has_version("other", "4") && of_b().height == 2).await;
    assert_ne!(a.membership.generation(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_are_dropped_and_come_back() {
    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    a.sees(2).await;
    b.stop();
    a.sees(1).await;
    let again = Node::start(&world, 2, "peer0", &[&a]).await;
    a.sees(2).await;
    drop(again);
}

/// A renewed certificate gives a peer another id. Nobody misses it meanwhile or counts it twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_a_renewed_certificate_takes_its_own_place() {
    use weft_types::Signer as _;

    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    let c = Node::start(&world, 1, "peer1", &[&b]).await;
    let nodes = [&a, &b, &c];
    for node in nodes {
        node.sees(3).await;
    }
    for _ in 0..2 {
        let before = b.membership.own().id;
        let renewed = b.renew(&world, 2, "peer0");
        let is_renewed = |node: &Node| {
            let peers = node.membership.channel_peers(&node.peer.channel());
            assert_eq!(peers.len(), 3, "one is missing, or counted twice");
            let of_b = peers.iter().find(|peer| peer.member.endpoint == b.address).unwrap();
            assert!(of_b.state.has("asset"));
            *of_b.member.identity.serialized() == renewed.serialized_identity()
        };
        // The peer itself has nothing to tell for an instant; the others never lose it.
        until(|| b.membership.own().id != before).await;
        b.sees(3).await;
        for node in [&a, &c] {
            until(|| is_renewed(node)).await;
        }
        // What was signed under the new id is taken as well.
        b.chaincodes.0.lock().push((format!("more{before:?}"), 1));
        let known = b.chaincodes.0.lock().len() + 1;
        for node in [&a, &c] {
            until(|| {
                let peers = node.membership.channel_peers(&node.peer.channel());
                let of_b = peers.iter().find(|peer| peer.member.endpoint == b.address).unwrap();
                of_b.state.chaincodes.len() == known
            })
            .await;
        }
        assert!(nodes.iter().all(|node| node.membership.peers().len() == 3));
    }
}

/// A connection shows the TLS certificate of its handshake for as long as it lasts, and a stream
/// on it that names a newer one is refused. So after a renewal peers have to connect anew.
#[tokio::test(flavor = "multi_thread")]
async fn peers_find_each_other_again_when_all_certificates_are_renewed() {
    use weft_types::Signer as _;

    let world = World::new().await;
    let a = Node::start_secure(&world, 1, "peer0", &[]).await;
    let b = Node::start_secure(&world, 2, "peer0", &[&a]).await;
    for node in [&a, &b] {
        node.sees(2).await;
    }
    for _ in 0..2 {
        let renewed = [a.renew(&world, 1, "peer0"), b.renew(&world, 2, "peer0")];
        for (node, other) in [(&a, &renewed[1]), (&b, &renewed[0])] {
            until(|| {
                let peers = node.membership.peers();
                peers.iter().any(|one| *one.identity.serialized() == other.serialized_identity())
            })
            .await;
            node.sees(2).await;
            assert_eq!(node.membership.peers().len(), 2);
        }
    }
}

/// A client's certificate is no peer's, whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn only_peers_are_taken_for_peers() {
    use tokio_stream::wrappers::ReceiverStream;
    use weft_peer::membership::message::{self, PkiId, Time};
    use weft_protos::gossip::gossip_client::GossipClient;
    use weft_types::Signer;

    let world = World::new().await;
    let node = Node::start(&world, 1, "peer0", &[]).await;
    let talk = async |signer: weft_msp::SigningIdentity, as_id: PkiId| {
        let (to, messages) = tokio::sync::mpsc::channel(8);
        let time = Time { started: 1, sequence: 1 };
        let channel = ChannelId::new(CHANNEL).unwrap();
        to.send(message::connect(&signer, as_id, Default::default()).unwrap()).await.unwrap();
        to.send(message::alive(&signer, as_id, "127.0.0.1:1", time).unwrap()).await.unwrap();
        let state = message::state_info(&signer, as_id, &channel, time, 7, Vec::new()).unwrap();
        to.send(state).await.unwrap();
        to.send(message::state_request(as_id, &channel)).await.unwrap();
        let mut client = GossipClient::new(node.transport.clone());
        let mut answers =
            client.gossip_stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
        assert!(answers.message().await?.is_some());
        let answer = answers.message().await;
        drop(to);
        answer
    };
    let client = world.client(2).clone();
    let id = PkiId::of(&client.serialized_identity()).unwrap();
    assert_eq!(talk(client, id).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let peer = world.network.org(2).peer.clone();
    assert_eq!(
        talk(peer.clone(), PkiId([7; 32])).await.unwrap_err().code(),
        tonic::Code::Unauthenticated
    );
    assert_eq!(node.membership.peers().len(), 1);
    let id = PkiId::of(&peer.serialized_identity()).unwrap();
    assert!(talk(peer, id).await.unwrap().is_some());
    assert_eq!(node.membership.peers().len(), 2);
    let peers = node.membership.channel_peers(&node.peer.channel());
    assert_eq!(peers.iter().map(|peer| peer.state.height).collect::<Vec<_>>(), [1, 7]);
}

/// A peer of an organization that has the name of one here in another channel only.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_channels_authority_is_no_peer_of_this_channel() {
    use tokio_stream::wrappers::ReceiverStream;
    use weft_peer::membership::message::{self, PkiId, Time};
    use weft_protos::gossip::gossip_client::GossipClient;
    use weft_testkit::Network;
    use weft_types::Signer;

    let world = World::new().await;
    let node = Node::start(&world, 1, "peer0", &[]).await;
    let side = Network::new(2, 1);
    let other = node.peer.channels.join(side.genesis("side")).await.unwrap();
    let signer = side.org(2).peer.clone();
    let id = PkiId::of(&signer.serialized_identity()).unwrap();
    let (to, messages) = tokio::sync::mpsc::channel(8);
    let time = Time { started: 1, sequence: 1 };
    let supply = ChannelId::new(CHANNEL).unwrap();
    let send = async |message| to.send(message).await.unwrap();
    send(message::connect(&signer, id, Default::default()).unwrap()).await;
    send(message::alive(&signer, id, "127.0.0.1:1", time).unwrap()).await;
    for channel in [&supply, other.id()] {
        send(message::state_info(&signer, id, channel, time, 7, Vec::new()).unwrap()).await;
    }
    // The second question is answered and the first is not.
    for channel in [&supply, other.id()] {
        send(message::state_request(id, channel)).await;
    }
    let mut client = GossipClient::new(node.transport.clone());
    let mut answers =
        client.gossip_stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
    let _hello = answers.message().await.unwrap().unwrap();
    let answer = message::open(&answers.message().await.unwrap().unwrap()).unwrap();
    let Some(weft_protos::gossip::gossip_message::Content::StateSnapshot(snapshot)) =
        answer.content
    else {
        panic!("{answer:?}");
    };
    let own = message::open(&snapshot.elements[0]).unwrap();
    let Some(weft_protos::gossip::gossip_message::Content::StateInfo(own)) = own.content else {
        panic!("{own:?}");
    };
    let of_side = message::channel_mac(node.membership.own().id, other.id());
    assert_eq!(own.channel_mac, of_side);
    assert_eq!(node.membership.channel_peers(&other).len(), 2);
    let here = node.membership.channel_peers(&node.peer.channel());
    assert!(here.iter().all(|peer| peer.member.is_self), "{here:?}");
}

/// Signs of life do not say when they were made. Old ones are no sign of a peer that is gone, however
/// new they look.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_does_not_come_back_by_its_messages() {
    use tokio_stream::wrappers::ReceiverStream;
    use weft_peer::membership::message::{self, PkiId, Time};
    use weft_protos::gossip::gossip_client::GossipClient;
    use weft_protos::gossip::gossip_message::Content;
    use weft_types::Signer;

    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    a.sees(2).await;
    // What it had told nobody else until it went.
    let gone = PkiId::of(&b.identity.serialized_identity()).unwrap();
    let kept: Vec<_> = (0..5)
        .map(|sequence| {
            let time = Time { started: u64::MAX, sequence };
            message::alive(&b.identity, gone, &b.address, time).unwrap()
        })
        .collect();
    b.stop();
    until(|| a.membership.peers().len() == 1).await;
    let hostile = world.network.org(1).identity("peer7", weft_msp::NodeRole::Peer);
    let id = PkiId::of(&hostile.serialized_identity()).unwrap();
    let (to, messages) = tokio::sync::mpsc::channel(8);
    to.send(message::connect(&hostile, id, Default::default()).unwrap()).await.unwrap();
    let mut client = GossipClient::new(a.transport.clone());
    let answers = client.gossip_stream(ReceiverStream::new(messages)).await.unwrap();
    let mut answers = answers.into_inner();
    assert!(answers.message().await.unwrap().is_some());
    for (sequence, kept) in (1..).zip(kept) {
        to.send(message::membership_response(vec![kept])).await.unwrap();
        let time = Time { started: 1, sequence };
        let own = message::alive(&hostile, id, "127.0.0.1:1", time).unwrap();
        to.send(message::membership_request(own)).await.unwrap();
        // The answer comes when what was told before has been taken in.
        let answer = answers.message().await.unwrap().unwrap();
        let Some(Content::MemRes(told)) = message::open(&answer).unwrap().content else { panic!() };
        assert_eq!(told.alive.len(), 1, "it tells of itself only");
        assert!(a.membership.peers().iter().all(|peer| peer.id != gone));
    }
}

/// Streams of one organization leave places for others.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_organization_leave_places_for_others() {
    use crate::private::hostile::{Raw, peer_of};

    let world = World::new().await;
    let setup = Setup { max_streams: Some(4), ..Setup::default() };
    let a = Node::start_on(&world, 1, "peer0", &[], setup).await;
    let mut open = Vec::new();
    for peer in 0..3 {
        let signer = peer_of(&world, 2, &format!("peer{peer}"));
        for _ in 0..8 {
            open.extend(Raw::try_open(&a, &signer).await.ok());
        }
    }
    assert_eq!(open.len(), 9, "of twelve");
    let b = Node::start(&world, 1, "peer1", &[&a]).await;
    b.sees(2).await;
    a.sees(2).await;
}

/// Who says nothing gets no place, and not for long what he has instead.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_begin_with_nothing_take_no_places() {
    use tokio_stream::wrappers::ReceiverStream;
    use weft_protos::gossip::gossip_client::GossipClient;

    let world = World::new().await;
    let setup = Setup { max_streams: Some(8), ..Setup::default() };
    let a = Node::start_on(&world, 1, "peer0", &[], setup).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    a.sees(2).await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let (to, messages) = tokio::sync::mpsc::channel(1);
        let mut client = GossipClient::new(a.transport.clone());
        match client.gossip_stream(ReceiverStream::new(messages)).await {
            Ok(answers) => open.push((to, answers.into_inner())),
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::ResourceExhausted);
                refused += 1;
            }
        }
    }
    assert!((40..64).contains(&open.len()) && refused > 0, "{} {refused}", open.len());
    a.sees(2).await;
    let (_to, mut answers) = open.remove(0);
    let ended = answers.message().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);
    drop(b);
}
