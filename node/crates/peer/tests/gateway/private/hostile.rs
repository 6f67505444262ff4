//! What other peers send that they should not.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel as Transport;
use weft_msp::{NodeRole, SigningIdentity};
use weft_peer::membership::message;
use weft_peer::private::Exchange as _;
use weft_peer::private::exchange::{Push, Wanted};
use weft_protos::gossip::gossip_client::GossipClient;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{Envelope, PrivatePayload, PvtDataDigest, PvtDataElement};
use weft_types::ChannelId;

use super::fake::id_of;
use super::{asking, define, implicit, meet, push, quick, shared, start, wanted, writes};
use crate::node::{Node, until};
use crate::support::CHANNEL;
use crate::world::World;

const SOON: Duration = Duration::from_secs(10);

/// A stream to a node, in the hands of somebody who sends what he likes.
pub struct Raw {
    to: mpsc::Sender<Envelope>,
    answers: Streaming<Envelope>,
    /// The node's first message.
    pub hello: Envelope,
}

impl Raw {
    pub async fn open(node: &Node, signer: &SigningIdentity) -> Self {
        Self::try_open(node, signer).await.expect("a stream")
    }

    pub async fn try_open(node: &Node, signer: &SigningIdentity) -> Result<Self, tonic::Status> {
        let hello = message::connect(signer, id_of(signer), Default::default()).unwrap();
        Self::open_on(node.transport.clone(), hello).await
    }

    /// A stream that begins with `hello`.
    pub async fn open_on(transport: Transport, hello: Envelope) -> Result<Self, tonic::Status> {
        let (to, messages) = mpsc::channel(1);
        let mut client = GossipClient::new(transport).max_decoding_message_size(64 << 20);
        let opened = client.gossip_stream(ReceiverStream::new(messages));
        let (opened, _) = tokio::join!(opened, to.send(hello));
        let mut answers = opened?.into_inner();
        let hello = answers.message().await?.expect("a first message");
        let first = message::open(&hello).unwrap();
        assert!(matches!(first.content, Some(Content::Conn(_))));
        Ok(Self { to, answers, hello })
    }

    /// The answer to a question; `None` when the stream ends instead.
    pub async fn ask(&mut self, nonce: u64, question: Envelope) -> Option<Content> {
        self.to.send(question).await.ok()?;
        let answer = tokio::time::timeout(SOON, self.answers.message()).await.expect("an answer");
        let answer = message::open(&answer.ok()??).unwrap();
        assert_eq!(answer.nonce, nonce);
        answer.content
    }

    /// What is said to a push: nothing when it is taken.
    pub async fn push(&mut self, channel: &str, payload: Option<PrivatePayload>) -> String {
        let channel = ChannelId::new(channel).unwrap();
        let mut question = message::private_data(5, &channel, payload.clone().unwrap_or_default());
        if payload.is_none() {
            let mut opened = message::open(&question).unwrap();
            opened.content = Some(Content::PrivateData(Default::default()));
            question.payload = prost::Message::encode_to_vec(&opened).into();
        }
        match self.ask(5, question).await {
            Some(Content::Ack(ack)) => ack.error,
            other => panic!("{other:?}"),
        }
    }

    pub async fn pull(
        &mut self,
        channel: &str,
        digests: Vec<PvtDataDigest>,
    ) -> Vec<PvtDataElement> {
        let question = message::private_request(6, &ChannelId::new(channel).unwrap(), digests);
        match self.ask(6, question).await {
            Some(Content::PrivateRes(response)) => response.elements,
            other => panic!("{other:?}"),
        }
    }
}

pub fn payload(push: &Push) -> PrivatePayload {
    PrivatePayload {
        collection_name: push.collection.name.clone(),
        namespace: push.namespace.clone(),
        tx_id: push.tx_id.to_string(),
        private_rwset: push.writes.clone(),
        private_sim_height: 1,
        collection_configs: None,
    }
}

pub fn digest(wanted: &Wanted) -> PvtDataDigest {
    let digest = &wanted.digest;
    PvtDataDigest {
        tx_id: digest.tx_id.clone(),
        namespace: digest.namespace.clone(),
        collection: digest.collection.clone(),
        block_seq: digest.block,
        seq_in_block: digest.index.into(),
    }
}

/// Makes a good push a bad one.
type Spoil = fn(&mut PrivatePayload);

pub fn peer_of(world: &World, org: usize, name: &str) -> SigningIdentity {
    world.network.org(org).identity(name, NodeRole::Peer)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pushes_are_refused_with_a_reason() {
    let world = World::new().await;
    let mut setup = quick();
    setup.private_data.max_bytes = 10_000;
    let node = Node::start_on(&world, 2, "peer0", &[], setup).await;
    let mut raw = Raw::open(&node, &peer_of(&world, 1, "peer7")).await;
    let good = payload(&push(implicit(2), "value"));
    // A transaction that is committed.
    let channel = ChannelId::new(CHANNEL).unwrap();
    let (creator, endorser) = (world.client(1), &world.network.org(1).peer);
    let (committed, envelope) = weft_testkit::tx::endorser_transaction(
        &channel,
        "nothing",
        Default::default(),
        creator,
        &[endorser],
    );
    world.order(&[&node.peer], &[envelope]).await;
    let cases: [(&str, &str, Spoil); 9] = [
        (CHANNEL, "is not one", |p| p.tx_id = "x".repeat(1000)),
        (CHANNEL, "is not one", |p| p.tx_id = p.tx_id.to_uppercase()),
        (CHANNEL, "more than 10000", |p| p.private_rwset = writes([1; 10_000])),
        (CHANNEL, "cannot be read", |p| p.private_rwset = Bytes::new()),
        (CHANNEL, "cannot be read", |p| p.private_rwset = Bytes::from_static(b"\xff\xff\xff")),
        (CHANNEL, "collection none of chaincode asset is not known", |p| {
            p.collection_name = "none".to_owned();
        }),
        (CHANNEL, "is not known", |p| p.collection_name = "_implicit_org_Org9MSP".to_owned()),
        (CHANNEL, "is not a member", |p| p.collection_name = implicit(1).name),
        ("other", "the channel is not known", |_| {}),
    ];
    for (channel, reason, spoil) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        let said = raw.push(channel, Some(bad)).await;
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert!(said.len() < 400, "{said}");
        assert_eq!(node.transient(), 0, "{reason}");
    }
    assert!(raw.push(CHANNEL, None).await.contains("is not one"));
    let bad = PrivatePayload { tx_id: committed.to_string(), ..good.clone() };
    assert_eq!(raw.push(CHANNEL, Some(bad)).await, "the transaction is committed");
    assert_eq!(node.transient(), 0);
    assert_eq!(raw.push(CHANNEL, Some(good)).await, "");
    assert_eq!(node.transient(), 1);
}

/// The orderers' organization is known on the channel, but transacts nothing there.
#[tokio::test(flavor = "multi_thread")]
async fn only_organizations_of_the_channel_push_and_ask() {
    let world = World::new().await;
    let node = start(&world, 2, "peer0", &[]).await;
    let stranger = world.network.orderer_org.identity("peer7", NodeRole::Peer);
    let mut raw = Raw::open(&node, &stranger).await;
    let secret = push(implicit(2), "value");
    let said = raw.push(CHANNEL, Some(payload(&secret))).await;
    assert_eq!(said, "the channel is not known, or the sender does not belong to it");
    assert_eq!(node.transient(), 0);
    node.keep(&secret);
    assert!(raw.pull(CHANNEL, vec![digest(&wanted(&secret, 0, &[]))]).await.is_empty());
}

/// An MSP id can stand for others in another channel. What is kept in a channel is not for them.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_of_another_channel_is_not_the_one_of_the_same_name() {
    let world = World::new().await;
    let node = start(&world, 1, "peer0", &[]).await;
    let mut other = weft_testkit::Network::new(2, 1);
    other.orderers[0].endpoint = weft_config::Endpoint::new("127.0.0.1", 1);
    node.peer.channels.join(other.genesis("other")).await.unwrap();
    let secret = push(implicit(2), "value");
    node.keep(&secret);
    let ask = || vec![digest(&wanted(&secret, 0, &[]))];
    let mut raw = Raw::open(&node, &peer_of(&world, 2, "peer7")).await;
    assert_eq!(raw.pull(CHANNEL, ask()).await.len(), 1);
    let namesake = other.org(2).identity("peer7", NodeRole::Peer);
    let mut raw = Raw::open(&node, &namesake).await;
    assert!(raw.pull(CHANNEL, ask()).await.is_empty());
    let said = raw.push(CHANNEL, Some(payload(&push(implicit(1), "value")))).await;
    assert!(said.ends_with("the sender does not belong to it"), "{said}");
    assert_eq!(node.transient(), 1);
}

/// Not hostile, but as early: the sender has the block that defines the collection, the receiver
/// has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_the_block_that_defines_its_collection() {
    let world = World::new().await;
    let mut setup = quick();
    setup.private_data.push_timeout = Duration::from_secs(60);
    let a = start(&world, 1, "peer0", &[]).await;
    let node = Node::start_on(&world, 2, "peer0", &[], setup).await;
    let mut raw = Raw::open(&node, &peer_of(&world, 1, "peer7")).await;
    let collection = shared("late", &[1, 2]);
    let early = push(collection.clone(), "value");
    // Nobody can wait for a block that is here.
    let said = raw.push(CHANNEL, Some(payload(&early))).await;
    assert!(said.contains("is not known"), "{said}");
    // Two approvals and the definition.
    let height = node.peer.channel().height() + 3;
    let ahead = PrivatePayload { private_sim_height: height, ..payload(&early) };
    let peers = [&a.peer, &node.peer];
    let collections = [collection];
    let (said, ()) =
        tokio::join!(raw.push(CHANNEL, Some(ahead)), define(&world, &peers, &collections));
    assert_eq!(said, "");
    assert!(node.has(&early));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_does_not_fill_the_store() {
    let world = World::new().await;
    let node = start(&world, 2, "peer0", &[]).await;
    let mut raw = Raw::open(&node, &peer_of(&world, 1, "peer7")).await;
    let first = push(implicit(2), "0");
    for _ in 0..3 {
        assert_eq!(raw.push(CHANNEL, Some(payload(&first))).await, "");
        assert_eq!(node.transient(), 1, "the same is kept once");
    }
    let mut refused = 0;
    for value in 1..40 {
        let other = Push { writes: writes(format!("{value}")), ..first.clone() };
        refused += usize::from(!raw.push(CHANNEL, Some(payload(&other))).await.is_empty());
    }
    assert_eq!(refused, 32);
    assert_eq!(node.transient(), 8);
}

/// What one organization sends keeps nothing of another's out.
#[tokio::test(flavor = "multi_thread")]
async fn junk_of_one_organization_hides_nothing_of_another() {
    let world = World::new().await;
    let node = start(&world, 2, "peer0", &[]).await;
    let mut hostile = Raw::open(&node, &peer_of(&world, 1, "peer7")).await;
    let mut honest = Raw::open(&node, &peer_of(&world, 2, "peer6")).await;
    let right = push(implicit(2), "right");
    for junk in 0..20 {
        let junk = Push { writes: writes(format!("junk {junk}")), ..right.clone() };
        let _ = hostile.push(CHANNEL, Some(payload(&junk))).await;
    }
    assert_eq!(honest.push(CHANNEL, Some(payload(&right))).await, "");
    assert!(node.held(&right).contains(&right.writes));
    // Who may have it gets the right one among what the first of each organization is.
    let elements = honest.pull(CHANNEL, vec![digest(&wanted(&right, 0, &[]))]).await;
    assert!(elements[0].payload[..2].contains(&right.writes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_floods_does_not_hold_up_others() {
    let world = World::new().await;
    let a = start(&world, 1, "peer0", &[]).await;
    let node = start(&world, 2, "peer0", &[&a]).await;
    meet(&[&a, &node]).await;
    let signer = peer_of(&world, 1, "peer7");
    // Streams that never read an answer, up to where they can send no more.
    let mut raws = Vec::new();
    for _ in 0..12 {
        raws.extend(Raw::try_open(&node, &signer).await.ok());
    }
    let large = push(implicit(1), vec![1; 1 << 20]);
    node.keep(&large);
    let channel = ChannelId::new(CHANNEL).unwrap();
    let question =
        message::private_request(6, &channel, vec![digest(&wanted(&large, 0, &[])); 100]);
    // Stuck, and not ended.
    let is_stuck = raws.iter().map(async |raw| {
        let send = async { while raw.to.send(question.clone()).await.is_ok() {} };
        tokio::time::timeout(Duration::from_millis(500), send).await.is_err()
    });
    let open = futures::future::join_all(is_stuck).await.into_iter().filter(|is| *is).count();
    assert_eq!(open, 8, "one peer has no more streams than it needs");
    for number in 0..20 {
        let push = push(asking(implicit(2), 1, 1), format!("{number}"));
        assert_eq!(a.pushes(&push).await, Ok(()));
        let wanted = wanted(&push, 0, &[&node]);
        assert_eq!(a.membership.pull(&a.peer.channel(), vec![wanted]).await.len(), 0);
    }
    // Who stops flooding is served again.
    drop(raws);
    let mut again = None;
    for _ in 0..100 {
        if let Ok(mut raw) = Raw::try_open(&node, &signer).await {
            let question = message::private_request(6, &channel, Vec::new());
            assert!(raw.ask(6, question).await.is_some());
            again = Some(raw);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(again.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_within_bounds() {
    let world = World::new().await;
    let node = start(&world, 2, "peer0", &[]).await;
    let mut raw = Raw::open(&node, &peer_of(&world, 2, "peer7")).await;
    let small = wanted(&push(implicit(2), "small"), 0, &[]);
    let other = |index: u32| {
        let mut other = small.clone();
        other.digest.index = index;
        other
    };
    let all: Vec<_> = (0..600).map(other).collect();
    all.iter().for_each(|wanted| node.store(wanted, &writes("small")));
    let many = raw.pull(CHANNEL, all.iter().map(digest).collect()).await;
    assert_eq!(many.len(), 512);
    let same = raw.pull(CHANNEL, vec![digest(&small); 20_000]).await;
    assert_eq!(same.len(), 1, "asking for one thing often gives it once");
    let large = push(implicit(2), vec![1; 3 << 20]);
    node.keep(&large);
    let large = wanted(&large, 1, &[]);
    let some = raw.pull(CHANNEL, vec![digest(&large); 10]).await;
    assert_eq!(some.len(), 1, "what does not fit is left out");
    // Blocks do not have so many transactions.
    let none = PvtDataDigest { seq_in_block: u64::MAX, ..digest(&small) };
    assert!(raw.pull(CHANNEL, vec![none]).await.is_empty());
    assert!(raw.pull("other", vec![digest(&small)]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_all_bounds_ends_the_stream_and_nothing_else() {
    let world = World::new().await;
    let node = start(&world, 2, "peer0", &[]).await;
    let signer = peer_of(&world, 1, "peer7");
    let mut raw = Raw::open(&node, &signer).await;
    let mut other = Raw::open(&node, &signer).await;
    let huge = Push { writes: vec![0; 30 << 20].into(), ..push(implicit(2), "") };
    let question = message::private_data(5, &ChannelId::new(CHANNEL).unwrap(), payload(&huge));
    assert!(raw.ask(5, question).await.is_none());
    let good = push(implicit(2), "value");
    assert_eq!(other.push(CHANNEL, Some(payload(&good))).await, "");
    until(|| node.has(&good)).await;
}
