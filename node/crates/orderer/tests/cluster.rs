#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! Orderers on loopback: ordering, fail-over, growth, eviction, restart.

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::*;
use weft_config::edit;
use weft_msp::NodeRole;
use weft_protos::common::Status;
use weft_types::Signer as _;
use weft_types::block::metadata::{self, BlockSigner};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_orderer_without_agreement_orders_and_restarts() {
    let network = network(1);
    let genesis = weft_config::genesis::block(&network.solo_profile("supply")).unwrap();
    let mut nodes = started(&network, &genesis).await;
    let client = &network.org(1).client;
    let orderer = nodes[0].client(client);
    let sent: Vec<_> = (0..5).map(|n| transaction(client, &format!("tx {n}"))).collect();
    for envelope in &sent {
        broadcast(&orderer, envelope).await;
    }
    eventually("all are ordered", || transactions(&nodes[0]).len() == 5).await;
    let expected: Vec<_> = sent.iter().map(encoded).collect();
    assert_eq!(transactions(&nodes[0]), expected);

    let before = header_hashes(&nodes[0]);
    nodes[0].stop().await;
    nodes[0].start(&network).await;
    assert_eq!(header_hashes(&nodes[0]), before);
    broadcast(&nodes[0].client(client), &transaction(client, "after")).await;
    eventually("it goes on", || transactions(&nodes[0]).len() == 6).await;
    nodes[0].stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_orderers_agree_whoever_is_asked() {
    let network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = &network.org(1).client;
    leader(&nodes).await;
    let mut sent = Vec::new();
    for n in 0..12 {
        let envelope = transaction(client, &format!("tx {n}"));
        broadcast(&nodes[n % 3].client(client), &envelope).await;
        sent.push(encoded(&envelope));
    }
    eventually("all are ordered", || nodes.iter().all(|n| transactions(n).len() >= 12)).await;
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 2).await;
    let mut ordered = transactions(&nodes[0]);
    ordered.sort();
    sent.sort();
    assert_eq!(ordered, sent);
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordering_goes_on_without_the_leader_and_it_catches_up() {
    let network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = &network.org(1).client;
    let first = leader(&nodes).await;
    broadcast(&nodes[first].client(client), &transaction(client, "one")).await;
    eventually("all have it", || nodes.iter().all(|n| n.height() == 2)).await;
    nodes[first].stop().await;
    let other = (first + 1) % 3;
    broadcast(&nodes[other].client(client), &transaction(client, "two")).await;
    let running = |n: &Node| n.handle.is_some();
    eventually("the others have it", || {
        nodes.iter().filter(|n| running(n)).all(|n| n.height() == 3)
    })
    .await;
    nodes[first].start(&network).await;
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 3).await;
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_restart_from_what_they_stored() {
    let network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = &network.org(1).client;
    broadcast(&nodes[0].client(client), &transaction(client, "one")).await;
    eventually("all have it", || nodes.iter().all(|n| n.height() == 2)).await;
    for node in &mut nodes {
        node.stop().await;
    }
    for node in &mut nodes {
        node.start(&network).await;
    }
    broadcast(&nodes[1].client(client), &transaction(client, "two")).await;
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 3).await;
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_orderer_follows_then_becomes_a_consenter_and_is_evicted() {
    let mut network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = network.org(1).client.clone();
    broadcast(&nodes[0].client(&client), &transaction(&client, "one")).await;

    eventually("all have it", || nodes.iter().all(|n| n.height() == 2)).await;

    // Joins with the genesis block, in which it is no consenter.
    let added = one_more(&mut network);
    let mut newcomer = Node::new(&network, &added);
    newcomer.start(&network).await;
    let info = newcomer.admin(&network).join(&network.genesis("supply")).await.unwrap();
    assert_eq!(info.consensus_relation, "follower");
    eventually("it follows", || newcomer.height() >= 2).await;

    let status = reconfigure(&nodes[0], &network, |config| {
        edit::add_consenter(config, &added.consenter()).unwrap();
    })
    .await;
    assert_eq!(status, Status::Success);
    let relation = |node: &Node| node.channel().status().relation.as_str();
    eventually("it is a consenter", || relation(&newcomer) == "consenter").await;
    broadcast(&newcomer.client(&client), &transaction(&client, "two")).await;
    let mut all: Vec<&Node> = nodes.iter().collect();
    all.push(&newcomer);
    agreed(&all, 4).await;

    // Its vote counts: three of four go on without one of the old ones.
    let gone = (leader(&nodes).await + 1) % 3;
    nodes[gone].stop().await;
    broadcast(&newcomer.client(&client), &transaction(&client, "three")).await;
    eventually("they go on", || newcomer.height() >= 5).await;
    nodes[gone].start(&network).await;
    eventually("it is back", || nodes[gone].height() >= 5).await;

    let asked = leader(&nodes).await;
    let status = reconfigure(&nodes[asked], &network, |config| {
        edit::remove_consenter(config, &added.endpoint).unwrap();
    })
    .await;
    assert_eq!(status, Status::Success);
    eventually("it is evicted", || relation(&newcomer) == "follower").await;
    broadcast(&nodes[0].client(&client), &transaction(&client, "four")).await;
    let mut all: Vec<&Node> = nodes.iter().collect();
    all.push(&newcomer);
    agreed(&all, 7).await;
    newcomer.stop().await;
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_orderer_grows_to_two_by_a_config_block() {
    let mut network = network(1);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = network.org(1).client.clone();
    broadcast(&nodes[0].client(&client), &transaction(&client, "one")).await;
    let added = one_more(&mut network);
    let status = reconfigure(&nodes[0], &network, |config| {
        edit::add_consenter(config, &added.consenter()).unwrap();
    })
    .await;
    assert_eq!(status, Status::Success);
    eventually("the change is written", || nodes[0].height() == 3).await;
    let mut newcomer = Node::new(&network, &added);
    newcomer.start(&network).await;
    let info = newcomer.admin(&network).join(&config_block(&nodes[0])).await.unwrap();
    assert_eq!((info.status.as_str(), info.height), ("onboarding", 0));
    let client_of = newcomer.client(&client);
    eventually("it has onboarded", || newcomer.height() == 3).await;
    broadcast(&client_of, &transaction(&client, "two")).await;
    agreed(&[&nodes[0], &newcomer], 4).await;
    newcomer.stop().await;
    nodes[0].stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_loses_the_quorum_is_refused() {
    let mut network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = network.org(1).client.clone();
    let first = leader(&nodes).await;
    broadcast(&nodes[first].client(&client), &transaction(&client, "one")).await;
    eventually("all have it", || nodes.iter().all(|n| n.height() == 2)).await;
    let down = (first + 1) % 3;
    nodes[down].stop().await;
    // Long enough for the leader to miss it (an election timeout of 10 × 50 ms).
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let first = leader(&nodes).await;
    // Two alive of four would be no quorum.
    let added = one_more(&mut network);
    let refused = reconfigure(&nodes[first], &network, |config| {
        edit::add_consenter(config, &added.consenter()).unwrap();
    })
    .await;
    assert_eq!(refused, Status::BadRequest);
    // Removing the dead one is what an administrator does instead.
    let dead = nodes[down].node.endpoint.clone();
    let other = (0..3).find(|n| *n != down && *n != first).unwrap();
    let status = reconfigure(&nodes[other], &network, |config| {
        edit::remove_consenter(config, &dead).unwrap();
    })
    .await;
    assert_eq!(status, Status::Success);
    eventually("it is removed", || nodes[first].height() == 3 && nodes[other].height() == 3).await;

    // The one that was removed while it was down learns of it when it is back.
    nodes[down].start(&network).await;
    let relation = |node: &Node| node.channel().status().relation.as_str();
    eventually("it has learnt of it", || {
        relation(&nodes[down]) == "follower" && nodes[down].height() == 3
    })
    .await;
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_catches_up_from_blocks() {
    let network = network(3);
    let mut profile = network.profile("supply");
    if let weft_config::Consensus::Raft(raft) = &mut profile.orderer.consensus {
        raft.options.snapshot_interval_size = 4096;
    }
    let genesis = weft_config::genesis::block(&profile).unwrap();
    let mut nodes = started(&network, &genesis).await;
    let client = &network.org(1).client;
    let first = leader(&nodes).await;
    broadcast(&nodes[first].client(client), &transaction(client, "one")).await;
    eventually("all have it", || nodes.iter().all(|n| n.height() == 2)).await;
    let behind = (first + 1) % 3;
    nodes[behind].stop().await;
    let orderer = nodes[first].client(client);
    for n in 0..40 {
        broadcast(&orderer, &transaction(client, &format!("{n} {}", "x".repeat(1000)))).await;
    }
    eventually("all are ordered", || transactions(&nodes[first]).len() == 41).await;
    let height = nodes[first].height();
    nodes[behind].start(&network).await;
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, height).await;
    broadcast(&nodes[behind].client(client), &transaction(client, "last")).await;
    agreed(&all, height + 1).await;
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tls_certificates_are_rotated_one_by_one() {
    let mut network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = network.org(1).client.clone();
    leader(&nodes).await;
    for place in 0..3 {
        let old = network.orderers[place].endpoint.clone();
        network.orderers[place].tls = network.orderer_org.tls("renewed", &[]);
        let renewed = network.orderers[place].consenter();
        let asked = (place + 1) % 3;
        let height = nodes[asked].height();
        let update = support::update(&nodes[asked].channel().bundle(), &network, |config| {
            edit::replace_consenter(config, &old, &renewed).unwrap();
        });
        // The answer may be lost where the leader's own certificate is exchanged.
        let admin = nodes[asked].client(&network.org(1).admin);
        while nodes[asked].height() == height {
            let _ = admin.broadcast(update.clone()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        nodes[place].stop().await;
        nodes[place].node.tls = network.orderers[place].tls.clone();
        nodes[place].start(&network).await;
        let sent = transaction(&client, &format!("after {place}"));
        broadcast(&nodes[place].client(&client), &sent).await;
        let all: Vec<&Node> = nodes.iter().collect();
        agreed(&all, height + 2).await;
        assert_eq!(nodes[place].channel().status().relation.as_str(), "consenter");
    }
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consenter_that_lost_its_disk_rejoins() {
    let network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let client = &network.org(1).client;
    broadcast(&nodes[0].client(client), &transaction(client, "one")).await;
    eventually("all have it", || nodes.iter().all(|n| n.height() == 2)).await;
    nodes[2].stop().await;
    nodes[2] = Node::new(&network, &network.orderers[2]);
    nodes[2].start(&network).await;
    nodes[2].admin(&network).join(&network.genesis("supply")).await.unwrap();
    broadcast(&nodes[0].client(client), &transaction(client, "two")).await;
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 3).await;
    // It counts again: with it and one of the others there is a quorum.
    nodes[0].stop().await;
    broadcast(&nodes[2].client(client), &transaction(client, "three")).await;
    agreed(&[&nodes[1], &nodes[2]], 4).await;
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_channel_until_there_is_space() {
    let network = network(1);
    let mut node = started(&network, &network.genesis("supply")).await.remove(0);
    let client = &network.org(1).client;
    broadcast(&node.client(client), &transaction(client, "one")).await;
    eventually("it is ordered", || node.height() == 2).await;
    node.stores.set_full(true);
    // Accepted into the queue, as nobody knows yet.
    let _ = node.client(client).broadcast(transaction(client, "two")).await;
    let registrar = node.handle.as_ref().unwrap().registrar().clone();
    eventually("the failure is told", || !registrar.failures().is_empty()).await;
    assert_eq!(registrar.info("supply").unwrap().status, "failed");
    let refused = node.client(client).broadcast(transaction(client, "three")).await;
    assert_eq!(status_of(refused), Status::ServiceUnavailable);
    node.stores.set_full(false);
    broadcast(&node.client(client), &transaction(client, "four")).await;
    eventually("it goes on", || transactions(&node).len() >= 2).await;
    assert!(registrar.failures().is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_consenters_are_heard_by_the_cluster() {
    use weft_protos::orderer::cluster_client::ClusterClient;
    use weft_protos::orderer::step_request::Payload;
    use weft_protos::orderer::{ConsensusRequest, StepRequest, SubmitRequest};

    let network = network(1);
    let mut node = started(&network, &network.genesis("supply")).await.remove(0);
    eventually("it leads", || node.leads()).await;
    let envelope = transaction(&network.org(1).client, "one");
    let consensus = |channel: &str| {
        let channel = channel.to_owned();
        let request = ConsensusRequest { channel, payload: "x".into(), metadata: "".into() };
        StepRequest { payload: Some(Payload::ConsensusRequest(request)) }
    };
    let submit = |channel: &str| {
        let (channel, payload) = (channel.to_owned(), Some(envelope.clone()));
        let request = SubmitRequest { channel, last_validation_seq: 9, payload };
        StepRequest { payload: Some(Payload::SubmitRequest(request)) }
    };
    let empty = StepRequest { payload: None };
    let code = async |identity: Option<weft_rpc::tls::TlsIdentity>, request: StepRequest| {
        let mut client = ClusterClient::new(node.transport(identity));
        let requests = tokio_stream::iter([request]);
        match client.step(requests).await {
            Err(status) => status.code(),
            Ok(answers) => answers.into_inner().message().await.unwrap_err().code(),
        }
    };
    let member = || Some(tls_identity(&network.org(1).tls("member", &[])));
    let same_org = || Some(tls_identity(&network.orderer_org.tls("other", &[])));
    let itself = || Some(tls_identity(&network.orderers[0].tls));
    use tonic::Code;
    for request in [consensus("supply"), submit("supply")] {
        assert_eq!(code(None, request.clone()).await, Code::PermissionDenied);
        assert_eq!(code(member(), request.clone()).await, Code::PermissionDenied);
        assert_eq!(code(same_org(), request).await, Code::PermissionDenied);
    }
    assert_eq!(code(itself(), consensus("elsewhere")).await, Code::NotFound);
    assert_eq!(code(itself(), empty).await, Code::InvalidArgument);
    // A malformed message of a consenter changes nothing.
    let mut client = ClusterClient::new(node.transport(itself()));
    let garbage = tokio_stream::iter([consensus("supply"), submit("supply")]);
    let answer = client.step(garbage).await.unwrap().into_inner().message().await;
    assert!(answer.unwrap().is_some());
    eventually("what it forwarded is ordered", || node.height() == 2).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consenter_may_join_late_while_certificates_are_rotated() {
    let mut network = network(3);
    let genesis = network.genesis("supply");
    let mut nodes = Vec::new();
    for orderer in &network.orderers[..2] {
        let mut node = Node::new(&network, orderer);
        node.start(&network).await;
        node.admin(&network).join(&genesis).await.unwrap();
        nodes.push(node);
    }
    let client = network.org(1).client.clone();
    leader(&nodes).await;
    broadcast(&nodes[0].client(&client), &transaction(&client, "one")).await;
    eventually("both have it", || nodes.iter().all(|n| n.height() == 2)).await;
    let mut late = Node::new(&network, &network.orderers[2]);
    late.start(&network).await;
    late.admin(&network).join(&genesis).await.unwrap();
    nodes.push(late);
    let old = network.orderers[0].endpoint.clone();
    network.orderers[0].tls = network.orderer_org.tls("renewed", &[]);
    let renewed = network.orderers[0].consenter();
    let update = support::update(&nodes[1].channel().bundle(), &network, |config| {
        edit::replace_consenter(config, &old, &renewed).unwrap();
    });
    let admin = nodes[1].client(&network.org(1).admin);
    while nodes[1].height() == 2 {
        let _ = admin.broadcast(update.clone()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes[0].stop().await;
    nodes[0].node.tls = network.orderers[0].tls.clone();
    nodes[0].start(&network).await;
    broadcast(&nodes[0].client(&client), &transaction(&client, "two")).await;
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 4).await;
    for node in &mut nodes {
        node.stop().await;
    }
}

/// The certificate of whoever signed a block.
fn signer_of(node: &Node, number: u64) -> Bytes {
    let block = node.channel().store().block(number).unwrap().unwrap();
    match metadata::signatures(&block).unwrap().signatures.remove(0).signer {
        BlockSigner::Creator(header) => header.creator,
        BlockSigner::Consenter(_) => panic!("signed as in BFT"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_certificates_are_renewed_while_blocks_are_made() {
    let network = network(3);
    let mut nodes = started(&network, &network.genesis("supply")).await;
    let org = &network.orderer_org;
    let client = &network.org(1).client;
    leader(&nodes).await;
    let mut expected: Vec<Bytes> =
        nodes.iter().map(|node| node.node.identity.serialized_identity()).collect();
    let mut sent = 0;
    for round in 0..3 {
        for n in 0..4 {
            let envelope = transaction(client, &format!("tx {round} {n}"));
            broadcast(&nodes[n % 3].client(client), &envelope).await;
            sent += 1;
        }
        eventually("all are ordered", || nodes.iter().all(|node| transactions(node).len() == sent))
            .await;
        for (node, expected) in nodes.iter().zip(&expected) {
            assert_eq!(&signer_of(node, node.height() - 1), expected);
        }
        // What is refused changes nothing: somebody else's, and one of another role.
        for (node, expected) in nodes.iter().zip(&mut expected) {
            let stranger = weft_testkit::Org::new("OrdererMSP").orderer;
            node.msp.renew(org.msp_config(), stranger, now()).unwrap_err();
            node.msp.renew(org.msp_config(), org.client.clone(), now()).unwrap_err();
            if round == 0 {
                let renewed = org.identity(&node.node.name, NodeRole::Orderer);
                *expected = renewed.serialized_identity();
                assert!(node.msp.renew(org.msp_config(), renewed, now()).unwrap().identity);
            }
        }
    }
    // Who was signed by which certificate makes no difference to the chain, nor to who follows it.
    let all: Vec<&Node> = nodes.iter().collect();
    agreed(&all, 2).await;
    let mut network = network;
    let added = one_more(&mut network);
    let mut newcomer = Node::new(&network, &added);
    newcomer.start(&network).await;
    newcomer.admin(&network).join(&config_block(&nodes[0])).await.unwrap();
    agreed(&[&nodes[0], &newcomer], nodes[0].height()).await;
    newcomer.stop().await;
    for node in &mut nodes {
        node.stop().await;
    }
}
