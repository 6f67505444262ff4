#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! What becomes of an envelope that a leader does not answer any more.

mod support;

use std::time::Duration;

use support::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use weft_testkit::free_port;

/// Passes connections on to a node, and holds their bytes back while it is shut.
struct Gate {
    shut: watch::Sender<bool>,
}

impl Gate {
    async fn before(node: &Node) -> (Gate, String) {
        let listener = TcpListener::bind(node.node.endpoint.to_string()).await.unwrap();
        let inside = format!("127.0.0.1:{}", free_port());
        let (shut, watched) = watch::channel(false);
        let target = inside.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, watched) = (target.clone(), watched.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = pass(from_client, to_server, watched.clone()) => {}
                        () = pass(from_server, to_client, watched) => {}
                    }
                });
            }
        });
        (Gate { shut }, inside)
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut shut: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        if shut.wait_for(|shut| !shut).await.is_err()
            || to.write_all(&piece[..count]).await.is_err()
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_does_not_answer_is_handed_to_the_next() {
    let network = network(3);
    let genesis = network.genesis("supply");
    let (mut nodes, mut gates) = (Vec::new(), Vec::new());
    for orderer in &network.orderers {
        let mut node = Node::new(&network, orderer);
        let (gate, listen) = Gate::before(&node).await;
        let mut settings = node.settings();
        settings.listen = listen;
        // A call to a leader that hangs is not what ends the waiting.
        settings.cluster.rpc_timeout = Duration::from_secs(3600);
        node.start_with(&network, settings).await;
        node.admin(&network).join(&genesis).await.unwrap();
        nodes.push(node);
        gates.push(gate);
    }
    let client = &network.org(1).client;
    let first = leader(&nodes).await;
    let asked = nodes[(first + 1) % 3].client(client);
    broadcast(&asked, &transaction(client, "before")).await;

    gates[first].shut.send_replace(true);
    let envelope = transaction(client, "unanswered");
    let taken = timeout(PATIENCE, broadcast(&asked, &envelope)).await;
    taken.expect("nobody answers for the leader that hangs");
    let others: Vec<&Node> = (1..3).map(|step| &nodes[(first + step) % 3]).collect();
    let has_it = |node: &&Node| transactions(node).contains(&encoded(&envelope));
    eventually("the others have it", || others.iter().all(has_it)).await;

    gates[first].shut.send_replace(false);
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 3).await;
    for node in &mut nodes {
        node.stop().await;
    }
}
