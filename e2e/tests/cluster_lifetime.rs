//! Networks that are paused, hibernated, deleted and brought back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::cluster::fixture::{CHANNEL, READY, SMALL};
use weft_e2e::cluster::{Fixture, KINDS, Namespace};
use weft_operator::cluster::names::{Holder, annotation};
use weft_operator::pki::RootUse;

async fn put(namespace: &Namespace, key: &str) {
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", [key, "v"])).await.unwrap();
}

async fn has(namespace: &Namespace, key: &str) {
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    assert_eq!(gateway.evaluate(Call::new("asset", "Get", [key])).await.unwrap(), "v");
}

async fn pods(namespace: &Namespace) -> usize {
    namespace.typed::<Pod>().list(&ListParams::default()).await.unwrap().items.len()
}

async fn volumes(namespace: &Namespace) -> Vec<(Option<String>, Option<String>)> {
    let claims = namespace.typed::<PersistentVolumeClaim>();
    let claims = claims.list(&ListParams::default()).await.unwrap().items;
    claims.into_iter().map(|claim| (claim.metadata.name, claim.metadata.uid)).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_paused_object_is_left_alone() {
    let Fixture { namespace, .. } = Fixture::own("paused", SMALL).await.unwrap();
    namespace.annotate("Organization", "org1", annotation::PAUSED, Some("true")).await.unwrap();
    let peers = json!({"spec": {"peers": {"replicas": 2}}});
    namespace.patch("Organization", "org1", peers).await.unwrap();
    // What the operator makes is not put back either.
    namespace.delete("Service", "org1-peer").await.unwrap();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        assert!(namespace.get("Pod", "org1-peer-1-0").await.is_err(), "it was scaled");
        assert!(namespace.get("Service", "org1-peer").await.is_err(), "it was mended");
        sleep(Duration::from_millis(500)).await;
    }
    namespace.annotate("Organization", "org1", annotation::PAUSED, None).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    namespace.node_ready("org1-peer-1").await.unwrap();
    namespace.settled(&[("org1", 0), ("org1", 1)], CHANNEL).await.unwrap();
    put(&namespace, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_hibernated_network_has_volumes_and_no_pods() {
    let Fixture { namespace, .. } = Fixture::own("hibernate", SMALL).await.unwrap();
    put(&namespace, "before").await;
    let (tip, kept) = (namespace.tip("org1", 0, CHANNEL).await.unwrap(), volumes(&namespace).await);
    namespace
        .annotate("LedgerNetwork", "small", annotation::HIBERNATE, Some("true"))
        .await
        .unwrap();
    let asleep = async || Ok((pods(&namespace).await == 0).then_some(()));
    namespace.until("all pods to be gone", asleep).await.unwrap();
    assert_eq!(volumes(&namespace).await, kept);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(pods(&namespace).await, 0);
    let network = namespace.get("LedgerNetwork", "small").await.unwrap();
    let said = network["status"]["message"].as_str().unwrap().to_lowercase();
    assert!(said.contains("hibernat"), "{said}");

    namespace.annotate("LedgerNetwork", "small", annotation::HIBERNATE, None).await.unwrap();
    let awake = async || Ok((pods(&namespace).await >= 3).then_some(()));
    namespace.until("pods to be back", awake).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    assert_eq!(namespace.tip("org1", 0, CHANNEL).await.unwrap(), tip);
    has(&namespace, "before").await;
    put(&namespace, "after").await;
}

/// Data of the Secrets of both authorities, and of the genesis block.
async fn made_once(namespace: &Namespace) -> Vec<String> {
    let mut made = Vec::new();
    for holder in [Holder::Organization("org1".to_owned()), Holder::Ordering("small".to_owned())] {
        for root in [RootUse::Identity, RootUse::Tls] {
            let secret = namespace.get("Secret", &holder.authority(root)).await.unwrap();
            made.push(secret["data"].to_string());
        }
    }
    let genesis = weft_operator::cluster::names::genesis(CHANNEL);
    made.push(namespace.get("ConfigMap", &genesis).await.unwrap()["binaryData"].to_string());
    made
}

async fn until_all_gone(namespace: &Namespace) {
    let gone = async || {
        for kind in KINDS {
            if !namespace.list(kind).await?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    };
    namespace.until("our objects to be gone", gone).await.unwrap();
    let gone = async || Ok((pods(namespace).await == 0).then_some(()));
    namespace.until("pods to be gone", gone).await.unwrap();
}

/// A network with channels stays although it is told to go; all objects together go, and what
/// cannot be made again stays; the same manifest finds it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_deleted_network_comes_back_from_what_was_retained() {
    // Several orderers: they know each other by keys, which must come back as well.
    let manifest = SMALL.replace("replicas: 1", "replicas: 3");
    let Fixture { namespace, operator } = Fixture::own("deleted", &manifest).await.unwrap();
    put(&namespace, "before").await;
    let before = namespace.tip("org1", 0, CHANNEL).await.unwrap();
    let (made, kept) = (made_once(&namespace).await, volumes(&namespace).await);
    let genesis = namespace.genesis_hash("org1", CHANNEL).await.unwrap();

    namespace.delete("LedgerNetwork", "small").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let network = namespace.get("LedgerNetwork", "small").await.expect("it has a channel");
    let said = network["status"]["message"].as_str().unwrap();
    assert!(said.contains(CHANNEL) || said.to_lowercase().contains("channel"), "{said}");
    put(&namespace, "meanwhile").await;

    let restless = operator.restless();
    namespace.kubectl_delete(&without(SMALL, "LedgerNetwork")).unwrap();
    until_all_gone(&namespace).await;
    restless.rest().await.unwrap();
    assert_eq!(made_once(&namespace).await, made);
    assert_eq!(volumes(&namespace).await, kept);

    namespace.apply(&manifest).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    assert_eq!(made_once(&namespace).await, made, "authorities and genesis are taken over");
    assert_eq!(namespace.genesis_hash("org1", CHANNEL).await.unwrap(), genesis);
    assert!(namespace.tip("org1", 0, CHANNEL).await.unwrap().0 > before.0);
    for key in ["before", "meanwhile"] {
        has(&namespace, key).await;
    }
    put(&namespace, "after").await;
}

/// The manifest without the documents of a kind.
fn without(manifest: &str, kind: &str) -> String {
    let stays = |document: &&str| !document.contains(&format!("kind: {kind}"));
    manifest.split("---").filter(stays).collect::<Vec<_>>().join("---")
}

/// `deletionPolicy: Delete` leaves nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_network_that_is_not_to_be_retained_leaves_nothing() {
    let delete = SMALL
        .replace("  ordering: {replicas: 1}", "  deletionPolicy: Delete\n  ordering: {replicas: 1}")
        .replace("  mspId: Org1MSP", "  deletionPolicy: Delete\n  mspId: Org1MSP")
        .replace("  organizations: [org1]", "  deletionPolicy: Delete\n  organizations: [org1]");
    let Fixture { namespace, .. } = Fixture::own("leftovers", &delete).await.unwrap();
    namespace.kubectl_delete(&delete).unwrap();
    until_all_gone(&namespace).await;
    let left = async || {
        let mut left = Vec::new();
        for kind in
            ["Secret", "ConfigMap", "Service", "StatefulSet", "Deployment", "PersistentVolumeClaim"]
        {
            for object in namespace.list(kind).await? {
                let ours =
                    object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "weft-operator";
                if ours {
                    left.push(format!("{kind} {}", object["metadata"]["name"]));
                }
            }
        }
        anyhow::ensure!(left.is_empty(), "left: {left:?}");
        Ok(Some(()))
    };
    namespace.until("everything to be gone", left).await.unwrap();
}
