//! Submit through the gateway: which orderer, and what clients are told.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};
use weft_config::Endpoint;
use weft_config::genesis;
use weft_peer::gateway::error::details;
use weft_protos::common::{self, Envelope};
use weft_protos::gateway::SubmitRequest;
use weft_testkit::{Network, OrdererNode};

use crate::broadcast::{Answer, Orderer};
use crate::node::Node;
use crate::world::World;

/// A node on a channel that these orderers order.
async fn network(orderers: u16, bft: bool) -> (World, Node, Vec<Orderer>) {
    let world = World::new().await;
    let mut network = Network {
        orderer_org: world.network.orderer_org.clone(),
        orgs: world.network.orgs.clone(),
        orderers: (0..orderers)
            .map(|number| OrdererNode::new(&world.network.orderer_org, number))
            .collect(),
    };
    let mut fakes = Vec::new();
    for orderer in &mut network.orderers {
        let (fake, endpoint) = Orderer::start().await;
        let (host, port) = endpoint.address.rsplit_once(':').unwrap();
        orderer.endpoint = Endpoint::new(host, port.parse().unwrap());
        fakes.push(fake);
    }
    let profile = match bft {
        true => network.bft_profile("other"),
        false => network.profile("other"),
    };
    let node = Node::start(&world, 1, "peer0", &[]).await;
    node.peer.channels.join(genesis::block(&profile).unwrap()).await.unwrap();
    (world, node, fakes)
}

async fn submit(node: &Node, channel: &str) -> Result<(), Status> {
    let envelope =
        Envelope { payload: Bytes::from_static(b"p"), signature: Bytes::from_static(b"s") };
    let request = SubmitRequest {
        transaction_id: "1".to_owned(),
        channel_id: channel.to_owned(),
        prepared_transaction: Some(envelope),
    };
    node.gateway().submit(request).await.map(|_| ())
}

fn taken(orderers: &[Orderer]) -> usize {
    orderers.iter().map(|orderer| orderer.taken.lock().len()).sum()
}

fn script(orderers: &[Orderer], answers: &[Answer]) {
    for orderer in orderers {
        *orderer.script.lock() = answers.iter().copied().collect();
    }
}

const UNAVAILABLE: Answer = Answer::Status(common::Status::ServiceUnavailable);
const INTERNAL: Answer = Answer::Status(common::Status::InternalServerError);

#[tokio::test(flavor = "multi_thread")]
async fn stays_with_an_orderer_that_works() {
    let (_world, node, orderers) = network(3, false).await;
    for _ in 0..5 {
        submit(&node, "other").await.unwrap();
    }
    let mut counts: Vec<_> = orderers.iter().map(|orderer| orderer.taken.lock().len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 5]);
    let at = orderers.iter().position(|orderer| !orderer.taken.lock().is_empty()).unwrap();
    // When that one stops, another takes over, and keeps the place.
    orderers[at].stop();
    for _ in 0..5 {
        submit(&node, "other").await.unwrap();
    }
    let mut counts: Vec<_> = orderers.iter().map(|orderer| orderer.taken.lock().len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 5, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_orderer_is_passed_over() {
    let (_world, node, orderers) = network(2, false).await;
    script(&orderers, &[INTERNAL]);
    let status = submit(&node, "other").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "no orderers could successfully process transaction");
    let told = details(&status);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|one| one.msp_id == "OrdererMSP"));
    assert_eq!(
        told[0].message,
        "received unsuccessful response from orderer: status=INTERNAL_SERVER_ERROR, info=told so"
    );
    script(&orderers[..1], &[INTERNAL]);
    submit(&node, "other").await.unwrap();
    submit(&node, "other").await.unwrap();
    assert_eq!(taken(&orderers), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_may_take_a_moment() {
    let (_world, node, orderers) = network(2, false).await;
    script(&orderers, &[UNAVAILABLE, UNAVAILABLE]);
    submit(&node, "other").await.unwrap();
    assert_eq!(taken(&orderers), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_at_fault_is_not_sent_elsewhere() {
    let (_world, node, orderers) = network(2, false).await;
    script(&orderers, &[Answer::Status(common::Status::Forbidden)]);
    let status = submit(&node, "other").await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "received unsuccessful response from orderer: status=FORBIDDEN, info=told so"
    );
    let left: usize = orderers.iter().map(|orderer| orderer.script.lock().len()).sum();
    assert_eq!(left, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_nowhere() {
    let (_world, node, orderers) = network(2, false).await;
    orderers.iter().for_each(Orderer::stop);
    // Until the servers have noticed.
    let status = loop {
        match submit(&node, "other").await {
            Err(status) => break status,
            Ok(()) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(details(&status).len(), 2);
    let status = submit(&node, "nowhere").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_byzantine_orderers() {
    let (_world, node, orderers) = network(4, true).await;
    script(&orderers[..1], &[UNAVAILABLE]);
    submit(&node, "other").await.unwrap();
    crate::node::until(|| taken(&orderers) == 3).await;
    script(&orderers[..2], &[UNAVAILABLE]);
    let status = submit(&node, "other").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("insufficient number of orderers"));
    assert_eq!(details(&status).len(), 2);
}
