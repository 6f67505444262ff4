//! Specs that cannot be carried out: who refuses them, and with which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use weft_client::Call;
use weft_e2e::cluster::fixture::{CHANNEL, READY, SMALL};
use weft_e2e::cluster::namespace::condition_of;
use weft_e2e::cluster::{Fixture, Namespace};

/// Merges a change into an object and gives what refuses it: the API server's answer, or, where
/// it lets the change through (rules in CEL are not enforced everywhere), a condition.
async fn refused(namespace: &Namespace, kind: &str, name: &str, change: Value) -> String {
    if let Err(error) = namespace.patch(kind, name, change.clone()).await {
        return format!("{error:#}");
    }
    let what = format!("somebody to refuse {kind} {name} with {change}");
    let said = async || {
        let object = namespace.get(kind, name).await?;
        let conditions = ["Progressing", "Ready"].map(|one| condition_of(&object, one));
        let refusal = conditions.into_iter().flatten().find(|one| one["status"] == "False");
        Ok(refusal.and_then(|one| one["message"].as_str().map(str::to_owned)))
    };
    namespace.until(&what, said).await.unwrap()
}

/// What is wrong, where, and words that the refusal must have.
fn mistakes() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    vec![
        ("LedgerNetwork", "small", json!({"ordering": {"replicas": 26}}), "replicas"),
        ("LedgerNetwork", "small", json!({"ordering": {"consensus": "Kafka"}}), "consensus"),
        ("LedgerNetwork", "small", json!({"certificates": {"duration": "soon"}}), "duration"),
        ("LedgerNetwork", "small", json!({"batch": {"timeout": "later"}}), "timeout"),
        ("LedgerNetwork", "small", json!({"batch": {"maxMessageCount": 0}}), "maxMessageCount"),
        ("LedgerNetwork", "small", json!({"node": {"config": {"no.such": "1"}}}), "no.such"),
        ("Organization", "org1", json!({"mspId": "Org9MSP"}), "MSP"),
        ("Organization", "org1", json!({"networkRef": "elsewhere"}), "network"),
        ("Organization", "org1", json!({"peers": {"replicas": -1}}), "replicas"),
        ("Channel", CHANNEL, json!({"organizations": ["org1", "nobody"]}), "nobody"),
        ("Channel", CHANNEL, json!({"policies": {"admins": "MOST Admins"}}), "MOST"),
        ("Chaincode", "asset", json!({"endorsementPolicy": "AND('Org1MSP.peer'"}), "olicy"),
        ("Chaincode", "asset", json!({"address": "contract:9999"}), "address"),
        ("Chaincode", "asset", json!({"collections": [{"name": "a"}]}), "organizations"),
        (
            "Chaincode",
            "asset",
            json!({"collections": [{"name": "a", "organizations": ["nobody"]}]}),
            "nobody",
        ),
    ]
}

/// Each mistake is named, the network goes on meanwhile, and taking it back mends everything.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_mistake_is_named_and_hurts_nothing() {
    let Fixture { namespace, .. } = Fixture::own("invalid", SMALL).await.unwrap();
    let pods = namespace.nodes().await.unwrap();
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    for (turn, (kind, name, change, word)) in mistakes().into_iter().enumerate() {
        let before = namespace.get(kind, name).await.unwrap()["spec"].clone();
        let said = refused(&namespace, kind, name, json!({"spec": change})).await;
        println!("{kind} {change}: {said}");
        assert!(said.contains(word), "{kind} {change} is refused without {word:?}: {said}");
        let key = format!("mistake-{turn}");
        gateway.submit(Call::new("asset", "Put", [key, "v".to_owned()])).await.unwrap();
        take_back(&namespace, kind, name, &before, &change).await;
        namespace.wait_all_ready(READY).await.unwrap();
        assert_eq!(namespace.nodes().await.unwrap(), pods, "{kind} {change} restarted something");
    }
}

/// Puts the spec back as it was: what the change added goes.
async fn take_back(namespace: &Namespace, kind: &str, name: &str, before: &Value, change: &Value) {
    let mut undo = before.clone();
    for (field, value) in change.as_object().unwrap() {
        match (before.get(field), value.as_object()) {
            (None, _) => undo[field] = Value::Null,
            (Some(old), Some(inner)) => {
                for key in inner.keys().filter(|key| old.get(*key).is_none()) {
                    undo[field][key] = Value::Null;
                }
            }
            (Some(_), None) => {}
        }
    }
    namespace.patch(kind, name, json!({"spec": undo})).await.unwrap();
}

/// One orderer that is to become three of a consensus without fault tolerance, from the start.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_network_that_can_never_be_is_refused_before_anything_is_made() {
    let Fixture { namespace, .. } = Fixture::empty("never").await.unwrap();
    let solo = "apiVersion: weft.dev/v1alpha1\nkind: LedgerNetwork\nmetadata: {name: solo}\n\
                spec: {ordering: {consensus: Solo, replicas: 3}}\n";
    let said = match namespace.apply(solo).await {
        Err(error) => format!("{error:#}"),
        Ok(()) => {
            let found = namespace.wait_condition("LedgerNetwork", "solo", "Ready", "False", READY);
            found.await.unwrap()["message"].to_string()
        }
    };
    assert!(said.contains("Solo"), "{said}");
    assert!(namespace.list("Pod").await.unwrap().is_empty());
    let statefulsets = namespace.list("StatefulSet").await.unwrap();
    assert!(statefulsets.is_empty(), "{statefulsets:?}");
}
