//! Submit through the gateway: which orderer, and what clients are told.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};
use weft_config::Endpoint;
use weft_config::genesis;
use weft_peer::gateway;
use weft_peer::gateway::error::details;
use weft_protos::common::{self, Envelope};
use weft_protos::gateway::SubmitRequest;
use weft_testkit::{Network, OrdererNode};

use crate::broadcast::{Answer, Orderer};
use crate::node::Node;
use crate::world::World;

/// A node on a channel that these orderers order.
async fn network(orderers: u16, bft: bool) -> (World, Node, Vec<Orderer>) {
    network_within(orderers, bft, Duration::from_secs(2)).await
}

/// The same with another time for an orderer to answer.
async fn network_within(
    orderers: u16,
    bft: bool,
    broadcast_timeout: Duration,
) -> (World, Node, Vec<Orderer>) {
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
    let options = gateway::Options { broadcast_timeout, ..gateway::Options::default() };
    let node = Node::start_with(&world, 1, "peer0", &[], options).await;
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

/// The time that an orderer has is far longer than the test may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_orderer_is_not_waited_for() {
    let (_world, node, orderers) = network_within(3, false, Duration::from_secs(3600)).await;
    submit(&node, "other").await.unwrap();
    let at = orderers.iter().position(|orderer| !orderer.taken.lock().is_empty()).unwrap();
    script(&orderers[at..=at], &[Answer::Silence; 64]);
    let calls = async {
        for _ in 0..50 {
            submit(&node, "other").await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), calls).await.unwrap();
    // Each was taken once, and the silent one was not asked again and again.
    assert_eq!(taken(&orderers), 51);
    assert!(orderers[at].script.lock().len() > 50, "{}", orderers[at].script.lock().len());
}

/// While nobody leads, the calls do not all ask; when somebody does, all of them are served.
#[tokio::test(flavor = "multi_thread")]
async fn one_call_asks_for_all_while_there_is_no_leader() {
    let (_world, node, orderers) = network(2, false).await;
    submit(&node, "other").await.unwrap();
    script(&orderers, &[UNAVAILABLE; 1000]);
    let first = submit(&node, "other");
    // As many as strangers, which these callers are, find places for.
    let (mut first, others) = (std::pin::pin!(first), 20);
    // Until it is known that nobody leads.
    tokio::select! {
        answer = &mut first => panic!("{answer:?}"),
        () = crate::node::until(|| asked(&orderers) >= 4) => {}
    }
    let before = asked(&orderers);
    let calls = futures::future::join_all((0..others).map(|_| submit(&node, "other")));
    let (mut calls, rounds) = (std::pin::pin!(calls), 6);
    tokio::select! {
        _ = &mut first => panic!("nobody leads"),
        _ = &mut calls => panic!("nobody leads"),
        () = crate::node::until(|| asked(&orderers) >= before + 2 * rounds) => {}
    }
    // More calls than questions: most have not asked at all.
    assert!(asked(&orderers) - before < others, "{}", asked(&orderers) - before);
    script(&orderers, &[]);
    first.await.unwrap();
    for answer in calls.await {
        answer.unwrap();
    }
    assert_eq!(taken(&orderers), 1 + 1 + others);
}

/// Of the answers that a script of a thousand held.
fn asked(orderers: &[Orderer]) -> usize {
    orderers.iter().map(|orderer| 1000 - orderer.script.lock().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_without_the_channel_is_passed_over() {
    let (_world, node, orderers) = network(2, false).await;
    submit(&node, "other").await.unwrap();
    let at = orderers.iter().position(|orderer| !orderer.taken.lock().is_empty()).unwrap();
    script(&orderers[at..=at], &[Answer::Status(common::Status::NotFound)]);
    submit(&node, "other").await.unwrap();
    assert_eq!(orderers[1 - at].taken.lock().len(), 1);
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
