//! Nodes that are killed under load: one after the other, and all at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use support::BASIC;
use support::faults::{check, loaded};
use weft_e2e::LocalNetwork;

/// Each orderer in turn, so that the leader is one of those that are killed.
#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_when_the_leader_is_killed() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let load = loaded(&network).await;
    for orderer in ["orderer0", "orderer1", "orderer2"] {
        network.kill(orderer).await.unwrap();
        load.progress(50).await.unwrap();
        network.up().await.unwrap();
        load.progress(50).await.unwrap();
    }
    let keys = load.finish().await.unwrap();
    check(&network, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_killed_in_mid_commit_catches_up_to_the_same_state() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let load = loaded(&network).await;
    for _ in 0..3 {
        network.kill("peer0.org2").await.unwrap();
        load.progress(50).await.unwrap();
        network.up().await.unwrap();
        load.progress(50).await.unwrap();
    }
    let keys = load.finish().await.unwrap();
    check(&network, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_killed_at_once_comes_back_whole() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let load = loaded(&network).await;
    for name in network.processes(|name| !name.starts_with("chaincode/")).unwrap() {
        network.kill(&name).await.unwrap();
    }
    network.up().await.unwrap();
    load.progress(50).await.unwrap();
    let keys = load.finish().await.unwrap();
    check(&network, &keys).await;
}
