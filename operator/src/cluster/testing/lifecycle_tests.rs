//! What happens to a network after it was made: deletion, return, growth, rest, upgrades. And
//! what never leaves its Secrets.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::operator::{Died, NAMESPACE, Operator, apply_manifest, start_pods};
use super::runs::{PLURAL, SMALL, bring_about, check_made_once, condition};
use super::{ApiServer, crash_after, normal};

const OURS: [(&str, &str); 4] = [
    ("Chaincode", "asset"),
    ("Channel", "supply"),
    ("Organization", "org1"),
    ("LedgerNetwork", "basic"),
];

/// Names of all objects but those that Kubernetes would have taken away with others.
fn left(server: &ApiServer) -> BTreeSet<String> {
    let names = normal::objects(server).into_keys();
    names.filter(|name| !name.starts_with("Pod/")).collect()
}

/// Deletes everything of ours at once, as `kubectl delete -f` does.
fn delete_all(server: &ApiServer) {
    for (kind, name) in OURS {
        server.delete(kind, NAMESPACE, name);
    }
}

async fn settle(server: &ApiServer) {
    let mut operator = Operator::start(server).await;
    for _ in 0..2 {
        while let Err(Died) = operator.settle().await {
            server.restart();
            operator = Operator::start(server).await;
        }
        server.collect_garbage();
    }
}

#[tokio::test]
async fn what_cannot_be_made_again_stays_and_comes_back() {
    let server = ApiServer::new();
    bring_about(&server, SMALL, None).await;
    let before = normal::objects(&server);
    delete_all(&server);
    settle(&server).await;
    let expected = [
        "ConfigMap/supply-genesis",
        "PersistentVolumeClaim/basic-orderer-0",
        "PersistentVolumeClaim/org1-peer-0",
        "Secret/basic-orderer-0-identity",
        "Secret/basic-orderer-ca",
        "Secret/basic-orderer-tlsca",
        "Secret/org1-ca",
        "Secret/org1-tlsca",
    ];
    assert_eq!(left(&server), expected.map(str::to_owned).into());

    bring_about(&server, SMALL, None).await;
    check_made_once(&server);
    let after = normal::objects(&server);
    let names = |of: &std::collections::BTreeMap<String, Value>| -> Vec<String> {
        of.keys().cloned().collect()
    };
    assert_eq!(names(&before), names(&after));
    for name in ["Organization/org1", "Channel/supply"] {
        assert_eq!(before[name]["status"], after[name]["status"], "{name}");
    }
}

#[tokio::test]
async fn with_the_policy_delete_nothing_stays_whenever_the_operator_dies() {
    let manifest = SMALL
        .replace("spec: {ordering", "spec: {deletionPolicy: Delete, ordering")
        .replace("spec: {networkRef", "spec: {deletionPolicy: Delete, networkRef");
    for number in 1..40 {
        let server = ApiServer::new();
        bring_about(&server, &manifest, None).await;
        delete_all(&server);
        server.fail(crash_after(number));
        let died = Operator::start(&server).await.settle().await.is_err();
        server.restart();
        settle(&server).await;
        assert_eq!(left(&server), BTreeSet::new(), "died after write {number}");
        if !died {
            assert!(number > 5, "something is deleted by the operator");
            return;
        }
    }
    panic!("a deletion of so small a network has an end");
}

#[tokio::test]
async fn a_network_with_channels_is_not_deleted_unless_told() {
    let server = ApiServer::new();
    bring_about(&server, SMALL, None).await;
    let before = left(&server);
    server.delete("LedgerNetwork", NAMESPACE, "basic");
    settle(&server).await;
    assert_eq!(left(&server), before);
    let told = condition(&server, "LedgerNetwork", "basic", "Progressing");
    assert_eq!(told, ("False".to_owned(), "HoldsChannels".to_owned()));

    server.edit("LedgerNetwork", NAMESPACE, "basic", |network| {
        network["metadata"]["annotations"] = serde_json::json!({ "weft.dev/force-delete": "true" });
    });
    settle(&server).await;
    assert!(server.object("LedgerNetwork", NAMESPACE, "basic").is_none());
    assert!(server.object("Secret", NAMESPACE, "basic-orderer-ca").is_some());
}

#[tokio::test]
async fn peers_come_and_go() {
    scale_peers(usize::MAX).await;
}

/// A process that dies between the objects of a node that goes leaves the rest of them behind:
/// the next one finds nodes by their StatefulSets alone.
#[tokio::test]
async fn peers_come_and_go_whenever_the_operator_dies() {
    for writes in 1..8 {
        scale_peers(writes).await;
    }
}

/// From one peer to three and back; each process dies after so many writes.
async fn scale_peers(writes: usize) {
    let scaled = |replicas: usize| {
        SMALL.replace("peers: {replicas: 1}", &format!("peers: {{replicas: {replicas}}}"))
    };
    let server = ApiServer::new();
    bring_about(&server, SMALL, None).await;
    let before = left(&server);
    for replicas in [3, 1] {
        apply_manifest(&server, &scaled(replicas));
        loop {
            server.fail(crash_after(writes));
            let settled = Operator::start(&server).await.settle().await;
            server.restart();
            if settled.is_ok() {
                break;
            }
        }
        start_pods(&server);
        settle(&server).await;
        let peers = condition(&server, "Organization", "org1", "PeersReady");
        assert_eq!(peers, ("True".to_owned(), "Serving".to_owned()), "{replicas}");
        for index in 0..3 {
            let set = server.object("StatefulSet", NAMESPACE, &format!("org1-peer-{index}"));
            assert_eq!(set.is_some(), index < replicas, "org1-peer-{index} of {replicas}");
        }
    }
    let more: Vec<String> = left(&server).difference(&before).cloned().collect();
    let volumes = ["PersistentVolumeClaim/org1-peer-1", "PersistentVolumeClaim/org1-peer-2"];
    assert_eq!(more, volumes, "ledgers stay");
    check_made_once(&server);
}

/// The pass that takes the last orderers away tells of those that stay.
#[tokio::test]
async fn a_network_that_has_shrunk_says_so_as_soon_as_it_is_ready() {
    let server = ApiServer::new();
    let manifest = "apiVersion: weft.dev/v1alpha1\nkind: LedgerNetwork\nmetadata: {name: basic}\n\
                    spec: {ordering: {replicas: 3}}\n";
    bring_about(&server, manifest, None).await;
    let ready = condition(&server, "LedgerNetwork", "basic", "Ready");
    assert_eq!(ready.0, "True");
    // Nothing runs that could leave its channels: these have left, and then the operator died.
    server.edit("LedgerNetwork", NAMESPACE, "basic", |one| {
        one["spec"]["ordering"]["replicas"] = 1.into();
    });
    for index in [1, 2] {
        server.delete("StatefulSet", NAMESPACE, &format!("basic-orderer-{index}"));
    }
    settle(&server).await;
    let told = server.history().into_iter().filter_map(|change| change.after).filter(|after| {
        let generation = &after["metadata"]["generation"];
        after["kind"] == "LedgerNetwork" && after["status"]["observedGeneration"] == *generation
    });
    let is_ready = |after: &Value| {
        let conditions = after["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let told: Vec<Value> = told.filter(is_ready).collect();
    for after in &told {
        let replicas = &after["spec"]["ordering"]["replicas"];
        assert_eq!(after["status"]["orderers"], format!("{replicas}/{replicas}"));
    }
    assert_eq!(told.last().unwrap()["status"]["orderers"], "1/1");
}

fn replicas(server: &ApiServer) -> BTreeSet<i64> {
    let objects = server.objects().into_iter();
    let sets = objects.filter(|((kind, _, _), _)| matches!(*kind, "StatefulSet" | "Deployment"));
    sets.map(|(_, set)| set["spec"]["replicas"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_network_that_hibernates_has_no_pods_and_keeps_the_rest() {
    let server = ApiServer::new();
    bring_about(&server, SMALL, None).await;
    let before = left(&server);
    assert_eq!(replicas(&server), [1].into());
    for (value, expected) in [("true", 0), ("false", 1)] {
        server.edit("LedgerNetwork", NAMESPACE, "basic", |network| {
            network["metadata"]["annotations"] = serde_json::json!({ "weft.dev/hibernate": value });
        });
        settle(&server).await;
        assert_eq!(replicas(&server), [expected].into());
        assert_eq!(left(&server), before);
        start_pods(&server);
    }
    check_made_once(&server);
}

fn images(server: &ApiServer, group: &str) -> Vec<String> {
    let objects = server.objects().into_iter();
    let sets =
        objects.filter(|((kind, _, name), _)| *kind == "StatefulSet" && name.starts_with(group));
    sets.map(|(_, set)| {
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        container["image"].as_str().unwrap().to_owned()
    })
    .collect()
}

#[tokio::test]
async fn peers_are_upgraded_one_after_the_other() {
    let server = ApiServer::new();
    bring_about(&server, PLURAL, None).await;
    server.edit("Organization", NAMESPACE, "org1", |one| {
        one["spec"]["peers"]["node"]["image"] = "weft-node:9".into();
    });
    let new = |server: &ApiServer| {
        images(server, "org1-peer").iter().filter(|image| *image == "weft-node:9").count()
    };
    for expected in [1, 2] {
        settle(&server).await;
        assert_eq!(new(&server), expected);
        // The pods of the last one are there only now.
        start_pods(&server);
    }
    assert_eq!(images(&server, "org2-peer"), ["weft-node:0.1.0"]);
}

#[tokio::test]
async fn orderers_that_cannot_be_asked_are_not_restarted() {
    let server = ApiServer::new();
    bring_about(&server, PLURAL, None).await;
    let before = images(&server, "trade-orderer");
    server.edit("LedgerNetwork", NAMESPACE, "trade", |one| {
        one["spec"]["ordering"]["node"]["image"] = "weft-node:9".into();
    });
    settle(&server).await;
    assert_eq!(images(&server, "trade-orderer"), before);
    assert_eq!(condition(&server, "LedgerNetwork", "trade", "Progressing").1, "RollingOut");
}

#[tokio::test]
async fn no_key_leaves_its_secret() {
    let server = ApiServer::new();
    bring_about(&server, PLURAL, None).await;
    let mut keys: BTreeSet<String> = BTreeSet::new();
    let mut others = String::new();
    for ((kind, _, _), object) in server.objects() {
        if kind != "Secret" {
            others.push_str(&object.to_string());
            continue;
        }
        for (name, value) in object["data"].as_object().unwrap() {
            if name.ends_with("key.pem") || name == "tls.key" {
                let value = value.as_str().unwrap();
                keys.insert(value.to_owned());
                let pem = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
                keys.extend(pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
            }
        }
    }
    assert!(keys.len() > 30 && others.contains("\"kind\":\"Event\""));
    assert!(!others.contains("PRIVATE KEY"));
    for key in keys {
        // Every key of a curve begins with the same bytes.
        let tail = key.get(40..).unwrap_or(&key);
        assert!(!others.contains(tail), "a part of a key is in an object that is no Secret");
    }
}
