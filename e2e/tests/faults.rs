//! Processes that are killed, and stores that lose their tail, under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use weft_client::Call;
use weft_e2e::LocalNetwork;
use weft_e2e::load::{Load, assert_all_there};

const BASIC: &str = include_str!("../../examples/basic.yaml");

async fn loaded(network: &LocalNetwork) -> Load {
    let load = Load::start(vec![network.gateway(0).unwrap(), network.gateway(1).unwrap()]);
    load.progress(50).await.unwrap();
    load
}

/// Nothing that was acknowledged is lost, and both peers agree on everything.
async fn check(network: &LocalNetwork, keys: &[String]) {
    network.settled().await.unwrap();
    for org in 0..2 {
        assert_all_there(&network.gateway(org).unwrap(), keys).await.unwrap();
    }
    let key = keys.first().unwrap();
    let history = async |org: usize| {
        let call = Call::new("asset", "GetAssetHistory", [key.clone()]);
        network.gateway(org).unwrap().evaluate(call).await.unwrap()
    };
    assert_eq!(history(0).await, history(1).await);
}

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

/// The newest log of a store ends in half a record, as a power cut in mid-write leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn stores_with_a_torn_tail_open_and_catch_up() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let keys = loaded(&network).await.finish().await.unwrap();
    for name in network.processes(|name| !name.starts_with("chaincode/")).unwrap() {
        network.kill(&name).await.unwrap();
    }
    // Nobody was told of a write that did not end: nothing is missing.
    for (organization, node) in [("ordering", "orderer0"), ("org2", "peer0.org2")] {
        let store = network.layout().node(organization, node).join("data/channels/supply");
        tear_newest_log(&store);
    }
    network.up().await.unwrap();
    check(&network, &keys).await;
    loaded(&network).await.finish().await.unwrap();
    check(&network, &keys).await;
}

fn tear_newest_log(store: &Path) {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| path.metadata().unwrap().len() > 0)
        .collect();
    logs.sort();
    let newest = logs.last().expect("the store has a log");
    let mut file = OpenOptions::new().append(true).open(newest).unwrap();
    // A checksum, a length of 512 bytes, the type of a whole record, and 100 bytes of it.
    file.write_all(&[0x5a, 0x5a, 0x5a, 0x5a, 0x00, 0x02, 1]).unwrap();
    file.write_all(&[7; 100]).unwrap();
}
