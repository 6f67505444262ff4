//! More than a node can take: messages over the limit, streams by the thousand, clients that do
//! not read and do not speak. Others are served all the while.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use support::{
    BASIC, PATIENCE, Watch, call, channel, eventually, is_answer, node_named, nonce, now, user,
    user_tls,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt;
use weft_client::{Call, Connection, ConnectionSpec, Gateway};
use weft_crypto::Certificate;
use weft_e2e::LocalNetwork;
use weft_protos::discovery::SignedRequest;
use weft_protos::peer::deliver_client::DeliverClient;
use weft_protos::peer::deliver_response::Type;
use weft_protos::peer::{ChaincodeProposalPayload, Proposal, SignedProposal};
use weft_rpc::tls::TlsIdentity;
use weft_types::ChannelId;
use weft_types::seek::{Position, Seek};

fn supply() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

/// A message over the limit is refused by its length, before its bytes are kept.
#[tokio::test(flavor = "multi_thread")]
async fn messages_over_the_limit_are_refused() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let huge = Bytes::from(vec![0x7a; 101 * 1024 * 1024]);
    for (name, path) in [
        ("orderer0", "/orderer.AtomicBroadcast/Broadcast"),
        ("peer0.org1", "/protos.Endorser/ProcessProposal"),
        ("peer0.org1", "/gateway.Gateway/Endorse"),
    ] {
        let node = node_named(&network, name);
        let channel = channel(&network, &node, &node.grpc, None);
        let status = call(channel, path, vec![huge.clone()], 1).await.unwrap_err();
        assert!(
            matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
            "{path}: {status:?}"
        );
    }
    watch.unharmed(32).await;
}

/// The example with a setting for each node of org1.
fn with_setting(setting: &str) -> String {
    let node = format!("  peers: {{node: {{config: {{{setting}}}}}}}\n");
    BASIC.replacen("  mspId: Org1MSP\n", &format!("{node}  mspId: Org1MSP\n"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_and_slow_clients_stop_nobody() {
    // With the slow ones, four fifths of the limit below: what one organization gets.
    const STREAMS: usize = 1_000;
    let setting = "limits.deliverStreams: \"1375\", limits.handshakeTimeout: 2s";
    let network = LocalNetwork::start(&with_setting(setting)).await.unwrap();
    let watch = Watch::new(&network);
    let client = user(&network, "org1", "user1");
    let peer = node_named(&network, "peer0.org1");
    let seek = |from| {
        let seek = Seek::from(from).sign(&supply(), &client, now(), nonce(), Bytes::new());
        tokio_stream::once(seek.unwrap())
    };
    let channels: Vec<_> = (0..4).map(|_| channel(&network, &peer, &peer.grpc, None)).collect();
    let mut streams = Vec::new();
    for index in 0..STREAMS {
        let mut deliver = DeliverClient::new(channels[index % 4].clone());
        let mut stream = deliver.deliver(seek(Position::Newest)).await.unwrap().into_inner();
        stream.message().await.unwrap().expect("the newest block");
        streams.push(stream);
    }
    // Those that ask for everything and read no more than the first block.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut deliver = DeliverClient::new(channel(&network, &peer, &peer.grpc, None));
        let mut stream = deliver.deliver(seek(Position::Oldest)).await.unwrap().into_inner();
        stream.message().await.unwrap().expect("the first block");
        slow.push(stream);
    }
    let mut deliver = DeliverClient::new(channels[0].clone());
    let mut refused = deliver.deliver(seek(Position::Newest)).await.unwrap().into_inner();
    let status = refused.message().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    // And those that never say anything.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(&peer.grpc).await.unwrap());
    }
    let gateway = network.gateway(0).unwrap();
    for _ in 0..20 {
        gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
    }
    let (height, _) = network.settled().await.unwrap();
    // All at one time: what one of them has not read fills the connection of its neighbours.
    let mut readers = JoinSet::new();
    for mut stream in streams {
        readers.spawn(async move {
            loop {
                let message = timeout(PATIENCE, stream.message()).await.expect("a block in time");
                let Some(Type::Block(block)) = message.unwrap().unwrap().r#type else {
                    panic!("the stream ended")
                };
                if block.header.unwrap().number + 1 == height {
                    break;
                }
            }
        });
    }
    assert_eq!(readers.join_all().await.len(), STREAMS);
    for mut connection in silent {
        let mut buffer = [0; 1];
        let closed = timeout(PATIENCE, connection.read(&mut buffer)).await.expect("it is dropped");
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    drop(slow);
    watch.unharmed(128).await;
    // The places are free again.
    let mut deliver = DeliverClient::new(channels[0].clone());
    let mut again = deliver.deliver(seek(Position::Newest)).await.unwrap().into_inner();
    assert!(again.message().await.unwrap().is_some());
}

const MIB: usize = 1024 * 1024;

/// What a test may cost a node beside what its limits let strangers have in memory: buffers of
/// connections, what the allocator keeps, and the work that goes on.
const SLACK_MIB: u64 = 64;

/// A transaction of a client without a TLS certificate, at the same address as the flood.
async fn commit(network: &LocalNetwork) {
    let gateway = network.gateway(0).unwrap();
    timeout(PATIENCE, gateway.submit(Call::new("asset", "Put", ["k", "v"])))
        .await
        .unwrap()
        .unwrap();
}

/// Two bytes in a list are a message of some hundred bytes in memory.
#[tokio::test(flavor = "multi_thread")]
async fn lists_of_empty_messages_take_no_memory() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let peer = node_named(&network, "peer0.org1");
    let channel = channel(&network, &peer, &peer.grpc, None);
    // A request with empty queries (field 2), in a signed request (field 1).
    let query = |bytes: usize| {
        let payload = Bytes::from([0x12, 0x00].repeat(bytes / 2));
        Bytes::from(SignedRequest { payload, ..Default::default() }.encode_to_vec())
    };
    // Empty arguments (field 1) of a call, all the way up to a proposal.
    let proposal = |bytes: usize| {
        let wrap = |field: u8, inner: Vec<u8>| {
            let mut outer = vec![(field << 3) | 2];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        };
        let input = wrap(3, [0x0a, 0x00].repeat(bytes / 2));
        let spec = wrap(1, input);
        let payload = ChaincodeProposalPayload { input: spec.into(), ..Default::default() };
        let payload = payload.encode_to_vec().into();
        let proposal = Proposal { payload, ..Default::default() }.encode_to_vec();
        let signed = SignedProposal { proposal_bytes: proposal.into(), ..Default::default() };
        Bytes::from(signed.encode_to_vec())
    };
    let discover = "/discovery.Discovery/Discover";
    let propose = "/protos.Endorser/ProcessProposal";
    for (path, message) in [
        (discover, query(8 * MIB)),
        (discover, query(60 * MIB)),
        (discover, query(MIB / 5)),
        (propose, proposal(8 * MIB)),
        (propose, proposal(60 * MIB)),
    ] {
        let status = call(channel.clone(), path, vec![message], 1).await.unwrap_err();
        assert!(is_answer(&status), "{path}: {status:?}");
        commit(&network).await;
    }
    // The largest message is in memory twice at most: as it came, and in what is read of it.
    watch.unharmed(2 * 60 + SLACK_MIB).await;
}

/// Messages of 95 MiB by the score, of which all but the end is sent.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_hold_no_more_than_the_share_of_strangers() {
    const STREAMS: usize = 20;
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    for (name, path) in [
        ("orderer0", "/orderer.AtomicBroadcast/Broadcast"),
        ("peer0.org1", "/protos.Endorser/ProcessProposal"),
    ] {
        let node = node_named(&network, name);
        let mut calls = JoinSet::new();
        for _ in 0..STREAMS {
            let channel = channel(&network, &node, &node.grpc, None);
            calls.spawn(unfinished(channel, path, 95 * MIB, 90 * MIB));
        }
        // One fits into the share of an address; the others are refused.
        for _ in 1..STREAMS {
            let code = timeout(PATIENCE, calls.join_next()).await.expect("an answer in time");
            assert_eq!(code.unwrap().unwrap(), Code::ResourceExhausted, "{path}");
        }
        commit(&network).await;
        calls.abort_all();
    }
    watch.unharmed(128 + SLACK_MIB).await;
}

/// Sends a message without its end, and gives the status that the call ends with.
async fn unfinished(channel: Channel, path: &'static str, length: usize, sent: usize) -> Code {
    let chunk = Bytes::from(vec![0x7a; 64 * 1024]);
    let mut header = vec![0];
    header.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    let parts = std::iter::once(Bytes::from(header));
    let parts = parts.chain(std::iter::repeat_n(chunk, sent / (64 * 1024)));
    let frames = parts.map(|part| Ok::<_, Status>(Frame::data(part)));
    let frames = tokio_stream::iter(frames).chain(tokio_stream::pending());
    let request = http::Request::post(format!("https://node{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(StreamBody::new(frames)))
        .unwrap();
    let response = channel.oneshot(request).await.expect("an answer");
    let head = Status::from_header_map(response.headers());
    let trailers = response.into_body().collect().await.ok();
    let trailers = trailers.and_then(|body| body.trailers().and_then(Status::from_header_map));
    head.or(trailers).map_or(Code::Unknown, |status| status.code())
}

/// Streams by the thousand from callers that never say who they are: Deliver and Broadcast without
/// a certificate, gossip with one that its holder has signed.
#[tokio::test(flavor = "multi_thread")]
async fn silent_streams_take_no_place_of_members() {
    const STREAMS: usize = 1_000;
    let setting = "limits.firstMessageTimeout: 10m";
    let network = LocalNetwork::start(&with_setting(setting)).await.unwrap();
    let watch = Watch::new(&network);
    let made = weft_testkit::org::authority("nobody");
    let (certificate, key) = (made.certificate().pem(), made.key().to_pkcs8_pem().unwrap());
    let nobody = TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes(), "nobody").unwrap();
    let mut open = Vec::new();
    for (name, path, client) in [
        ("orderer0", "/orderer.AtomicBroadcast/Broadcast", None),
        ("peer0.org1", "/protos.Deliver/Deliver", None),
        ("peer0.org1", "/gossip.Gossip/GossipStream", Some(nobody)),
    ] {
        let node = node_named(&network, name);
        for _ in 0..3 {
            let channel = channel(&network, &node, &node.grpc, client.clone());
            let mut calls = JoinSet::new();
            for _ in 0..STREAMS {
                calls.spawn(silent(channel.clone(), path));
            }
            open.extend(calls.join_all().await);
        }
    }
    let held = open.iter().flatten().count();
    assert!(held >= STREAMS, "{held} silent streams are open");
    assert!(held < open.len(), "none was refused");
    // A client with a certificate of its organization is served as ever, and so are nodes.
    let org1 = network.connection().unwrap().orgs.into_iter().next().unwrap();
    let spec = ConnectionSpec {
        address: org1.peer.clone(),
        server_name: Some(org1.tls_server_name.clone()),
        roots: Certificate::all_from_pem(&std::fs::read_to_string(&org1.tls_ca_cert).unwrap())
            .unwrap(),
        client: Some(user_tls(&network, "org1", "user1")),
    };
    let signer = std::sync::Arc::new(user(&network, "org1", "user1"));
    let gateway = Gateway::new(Connection::new(&spec).unwrap(), supply(), signer);
    for _ in 0..5 {
        let submit = gateway.submit(Call::new("asset", "Put", ["k", "v"]));
        timeout(PATIENCE, submit).await.expect("a commit in time").unwrap();
    }
    drop(open);
    // Clients without a certificate share what their address has, and wait for the streams to end.
    let anonymous = network.gateway(0).unwrap();
    eventually("a call for this address", || async {
        anonymous.submit(Call::new("asset", "Put", ["k", "v"])).await.is_ok()
    })
    .await;
    watch.unharmed(SLACK_MIB).await;
}

/// A call that sends nothing and ends when this is dropped.
type Silent = (http::Response<tonic::body::Body>, Sender<Result<Frame<Bytes>, Status>>);

/// Begins a call that sends nothing; `None` when it was refused.
async fn silent(channel: Channel, path: &'static str) -> Option<Silent> {
    let (sender, nothing) = mpsc::channel(1);
    let request = http::Request::post(format!("https://node{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(StreamBody::new(ReceiverStream::new(nothing))))
        .unwrap();
    let response = channel.oneshot(request).await.ok()?;
    Status::from_header_map(response.headers()).is_none().then_some((response, sender))
}
