//! What is lost or broken: pods, volumes, authorities, the operator itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::cluster::fixture::{BASIC, CHANNEL, PEERS, READY};
use weft_e2e::cluster::load::ClusterLoad;
use weft_e2e::cluster::{Fixture, Namespace};
use weft_operator::cluster::names::{Holder, key};
use weft_operator::pki::RootUse;

const ORGS: [&str; 2] = ["org1", "org2"];

/// The network does not need its operator to go on, nor to come back from restarts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn nodes_restart_while_the_operator_is_away() {
    let Fixture { namespace, operator } = Fixture::shared("faults").await.unwrap();
    operator.scale(0).await.unwrap();
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    for node in [Holder::Ordering(BASIC.to_owned()).node(1), "org2-peer-0".to_owned()] {
        namespace.delete_pod(&node).await.unwrap();
        load.progress(10).await.unwrap();
        namespace.node_ready(&node).await.unwrap();
    }
    load.progress(10).await.unwrap();
    load.finish(&PEERS).await.unwrap();
    let before = namespace.nodes().await.unwrap();
    operator.scale(1).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(namespace.nodes().await.unwrap(), before, "an operator that comes restarts nothing");
}

/// A peer and an orderer begin again with nothing and get everything from the others.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn nodes_that_lost_their_volumes_resync() {
    let Fixture { namespace, operator } = Fixture::shared("faults").await.unwrap();
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    let restless = operator.restless();
    namespace.delete_volume("org1-peer-1").await.unwrap();
    load.progress(10).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    let orderer = Holder::Ordering(BASIC.to_owned()).node(2);
    namespace.delete_volume(&orderer).await.unwrap();
    load.progress(10).await.unwrap();
    restless.rest().await.unwrap();
    let height = load.finish(&PEERS).await.unwrap();
    let caught_up = async || {
        let at = namespace.orderer_height(BASIC, 2, CHANNEL).await?;
        Ok((at >= height).then_some(()))
    };
    namespace.until("the orderer to catch up", caught_up).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    // It counts again: without another one the rest is a quorum.
    namespace.delete_pod(&Holder::Ordering(BASIC.to_owned()).node(0)).await.unwrap();
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    let submit = async || {
        gateway.submit(Call::new("asset", "Put", ["quorum", "v"])).await?;
        Ok(Some(()))
    };
    namespace.until("a transaction with the other two", submit).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
}

/// A Secret without what the API server put into it.
async fn copy_of(namespace: &Namespace, name: &str) -> Value {
    let mut secret = namespace.get("Secret", name).await.unwrap();
    let metadata = secret["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    secret["apiVersion"] = "v1".into();
    secret["kind"] = "Secret".into();
    secret
}

/// What must not change while an authority is gone: pods, and certificates in Secrets.
async fn identities(namespace: &Namespace) -> BTreeMap<String, String> {
    let secrets = namespace.list("Secret").await.unwrap();
    let all = secrets.iter().filter(|secret| !secret["data"][key::SIGN_CERT].is_null());
    all.map(|secret| (secret["metadata"]["name"].to_string(), secret["data"].to_string())).collect()
}

async fn stays_broken(namespace: &Namespace, secret: &str, expected: Option<&Value>) {
    let before = (namespace.nodes().await.unwrap(), identities(namespace).await);
    let condition = namespace
        .wait_condition("Organization", "org1", "CertificatesReady", "False", READY)
        .await
        .unwrap();
    assert!(condition["message"].as_str().unwrap().contains(secret), "{condition}");
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        let now = namespace.get("Secret", secret).await.ok();
        let data = now.as_ref().map(|secret| &secret["data"]);
        assert_eq!(data, expected.map(|secret| &secret["data"]), "{secret} was made anew");
        sleep(Duration::from_millis(500)).await;
    }
    let after = (namespace.nodes().await.unwrap(), identities(namespace).await);
    assert_eq!(before, after, "something was rolled out");
    let ready = namespace.wait_condition("Organization", "org1", "Ready", "False", READY).await;
    ready.unwrap();
    // The network goes on meanwhile.
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", ["without", "authority"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_authority_that_is_gone_or_altered_is_not_replaced() {
    let Fixture { namespace, .. } = Fixture::shared("faults").await.unwrap();
    let holder = Holder::Organization("org1".to_owned());
    let name = holder.authority(RootUse::Identity);
    let original = copy_of(&namespace, &name).await;

    namespace.delete("Secret", &name).await.unwrap();
    stays_broken(&namespace, &name, None).await;
    namespace.apply_one(&original).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();

    // Another authority's keys under this one's name.
    let other = Holder::Organization("org2".to_owned()).authority(RootUse::Identity);
    let mut altered = original.clone();
    altered["data"] = namespace.get("Secret", &other).await.unwrap()["data"].clone();
    namespace.apply_one(&altered).await.unwrap();
    stays_broken(&namespace, &name, Some(&altered)).await;
    namespace.apply_one(&original).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    let users = json!({"spec": {"users": [{"name": "user1"}, {"name": "later"}]}});
    namespace.patch("Organization", "org1", users).await.unwrap();
    namespace.wait_ready("Organization", "org1", READY).await.unwrap();
    let later = namespace.gateway("org1", "later", CHANNEL).await.unwrap();
    later.submit(Call::new("asset", "Put", ["later", "v"])).await.unwrap();
}
