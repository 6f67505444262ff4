//! New versions of contracts and nodes while transactions go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::sleep;
use weft_client::Call;
use weft_e2e::cluster::fixture::{BASIC, CHANNEL, NEXT_CONTRACT, NEXT_NODE, PEERS, READY};
use weft_e2e::cluster::load::ClusterLoad;
use weft_e2e::cluster::operator::is_ready;
use weft_e2e::cluster::{Fixture, Namespace};
use weft_operator::cluster::names::label;

const ORGS: [&str; 2] = ["org1", "org2"];

async fn sequence(namespace: &Namespace) -> i64 {
    namespace.get("Chaincode", "asset").await.unwrap()["status"]["sequence"].as_i64().unwrap()
}

/// Images that pods of contracts run.
async fn contract_images(namespace: &Namespace) -> BTreeSet<String> {
    let pods = namespace.list("Pod").await.unwrap();
    let contracts =
        pods.iter().filter(|pod| !pod["metadata"]["labels"]["weft.dev/chaincode"].is_null());
    let alive = contracts.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
    alive.filter_map(image).collect()
}

/// A new version, then a new image, under load and with an operator that is killed; what the
/// ledger held before is there afterwards.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_contract_is_upgraded_under_load() {
    let Fixture { namespace, operator } = Fixture::shared("grow").await.unwrap();
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", ["before", "v"])).await.unwrap();
    let before = sequence(&namespace).await;
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    let restless = operator.restless();
    // A version is a new definition; another program of the same version is only approved anew.
    for (spec, further) in [(json!({"version": "2.0"}), 1), (json!({"image": NEXT_CONTRACT}), 1)] {
        namespace.patch("Chaincode", "asset", json!({"spec": spec})).await.unwrap();
        namespace.wait_ready("Chaincode", "asset", READY).await.unwrap();
        assert!(sequence(&namespace).await >= before + further, "{spec}");
        load.progress(20).await.unwrap();
    }
    restless.rest().await.unwrap();
    let status = namespace.get("Chaincode", "asset").await.unwrap()["status"].clone();
    assert_eq!(status["approvals"], json!({"Org1MSP": true, "Org2MSP": true}));
    load.finish(&PEERS).await.unwrap();
    assert_eq!(gateway.evaluate(Call::new("asset", "Get", ["before"])).await.unwrap(), "v");
    let only_the_new = async || {
        let images = contract_images(&namespace).await;
        Ok((images == BTreeSet::from([NEXT_CONTRACT.to_owned()])).then_some(()))
    };
    namespace.until("the old program to be gone", only_the_new).await.unwrap();
}

/// Fails when more than one node of a group is away.
async fn one_away_at_most(namespace: &Namespace) {
    let pods = namespace.cluster().pods(namespace.name(), label::NODE).await.unwrap();
    for (group, wanted) in [("basic-orderer-", 3), ("org1-peer-", 2), ("org2-peer-", 2)] {
        let serves = |pod: &&Pod| pod.name_any().starts_with(group) && is_ready(pod);
        let ready = pods.iter().filter(serves).count();
        assert!(ready + 1 >= wanted, "{ready} of {wanted} of {group} are ready");
    }
}

/// Every node runs another image in the end; never are two orderers, or both peers of an
/// organization, away at once, and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn nodes_are_upgraded_one_at_a_time_under_load() {
    let Fixture { namespace, operator } = Fixture::shared("grow").await.unwrap();
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    let leader = namespace.leader(CHANNEL).await.unwrap();
    let restless = operator.restless();
    let image = json!({"spec": {"node": {"image": NEXT_NODE}}});
    namespace.patch("LedgerNetwork", BASIC, image).await.unwrap();
    let mut order = Vec::new();
    let everywhere = async || {
        one_away_at_most(&namespace).await;
        let now = namespace.nodes().await?;
        for pod in now.iter().filter(|pod| pod.image == NEXT_NODE) {
            if !order.contains(&pod.name) {
                order.push(pod.name.clone());
            }
        }
        let is_whole = now.len() == 3 + PEERS.len();
        Ok((is_whole && now.iter().all(|pod| pod.image == NEXT_NODE)).then_some(()))
    };
    namespace.until("every node to be upgraded", everywhere).await.unwrap();
    println!("upgraded in this order: {order:?}; {leader} led");
    restless.rest().await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    load.progress(20).await.unwrap();
    load.finish(&PEERS).await.unwrap();
    let orderers: Vec<&String> = order.iter().filter(|pod| !pod.contains("-peer-")).collect();
    assert_ne!(*orderers[0], format!("{leader}-0"), "the leader was upgraded first");

    // Back again, by taking the field away: the operator's own image is the default.
    namespace
        .patch("LedgerNetwork", BASIC, json!({"spec": {"node": {"image": null}}}))
        .await
        .unwrap();
    let back = async || {
        let now = namespace.nodes().await?;
        let is_whole = now.len() == 3 + PEERS.len();
        Ok((is_whole && now.iter().all(|pod| pod.image != NEXT_NODE)).then_some(()))
    };
    namespace.until("every node to be back", back).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(namespace.nodes().await.unwrap().iter().all(|pod| pod.restarts == 0));
}
