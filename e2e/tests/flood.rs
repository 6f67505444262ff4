//! More than a node can take: messages over the limit, streams by the thousand, clients that do
//! not read and do not speak. Others are served all the while.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use bytes::Bytes;
use support::{BASIC, PATIENCE, Watch, call, channel, node_named, nonce, now, user};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use weft_client::Call;
use weft_e2e::LocalNetwork;
use weft_protos::peer::deliver_client::DeliverClient;
use weft_protos::peer::deliver_response::Type;
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
    const STREAMS: usize = 1_000;
    let setting = "limits.deliverStreams: \"1100\", limits.handshakeTimeout: 2s";
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
        streams.push(deliver.deliver(seek(Position::Newest)).await.unwrap().into_inner());
    }
    // Those that ask for everything and read nothing.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut deliver = DeliverClient::new(channel(&network, &peer, &peer.grpc, None));
        slow.push(deliver.deliver(seek(Position::Oldest)).await.unwrap().into_inner());
    }
    let mut deliver = DeliverClient::new(channels[0].clone());
    let status = deliver.deliver(seek(Position::Newest)).await.unwrap_err();
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
