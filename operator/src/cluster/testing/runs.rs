//! Whole runs of the operator: from a manifest to objects, and what must be true of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::operator::{Died, NAMESPACE, Operator, apply_manifest, context, start_pods};
use super::{ApiServer, Plan, normal};
use crate::cluster::controllers;
use crate::cluster::names::label;

/// Nothing but what has no default.
pub const MINIMAL: &str = include_str!("../../../tests/golden/resources/minimal.manifest.yaml");

/// As small as a network can be: for what is done once for every write.
pub const SMALL: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: LedgerNetwork
metadata: {name: basic}
spec: {ordering: {replicas: 1}}
---
apiVersion: weft.dev/v1alpha1
kind: Organization
metadata: {name: org1}
spec: {networkRef: basic, mspId: Org1MSP, peers: {replicas: 1}}
---
apiVersion: weft.dev/v1alpha1
kind: Channel
metadata: {name: supply}
spec: {networkRef: basic, organizations: [org1]}
---
apiVersion: weft.dev/v1alpha1
kind: Chaincode
metadata: {name: asset}
spec: {channelRef: supply, version: "1.0", image: "asset-contract:0.1.0"}
"#;

/// Two organizations, three orderers: more of everything that is done in turn.
pub const PLURAL: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: LedgerNetwork
metadata: {name: trade}
spec: {ordering: {replicas: 3}}
---
apiVersion: weft.dev/v1alpha1
kind: Organization
metadata: {name: org1}
spec: {networkRef: trade, mspId: Org1MSP, peers: {replicas: 2}, users: [{name: auditor}]}
---
apiVersion: weft.dev/v1alpha1
kind: Organization
metadata: {name: org2}
spec: {networkRef: trade, mspId: Org2MSP, deletionPolicy: Delete}
---
apiVersion: weft.dev/v1alpha1
kind: Channel
metadata: {name: supply}
spec: {networkRef: trade, organizations: [org1, org2]}
---
apiVersion: weft.dev/v1alpha1
kind: Chaincode
metadata: {name: asset}
spec: {channelRef: supply, version: "1.0", image: "asset-contract:0.1.0"}
"#;

/// Brings a manifest about, from nothing to pods that run, under a plan of faults. A process
/// that dies is followed by a new one. Returns how many died.
pub async fn bring_about(server: &ApiServer, manifest: &str, plan: Option<Plan>) -> usize {
    apply_manifest(server, manifest);
    if let Some(plan) = plan {
        server.fail(plan);
    }
    let mut deaths = 0;
    let mut operator = Operator::start(server).await;
    for _ in 0..2 {
        while let Err(Died) = operator.settle().await {
            deaths += 1;
            server.restart();
            operator = Operator::start(server).await;
        }
        start_pods(server);
    }
    while let Err(Died) = operator.settle().await {
        deaths += 1;
        server.restart();
        operator = Operator::start(server).await;
    }
    deaths
}

pub async fn undisturbed(manifest: &str) -> (BTreeMap<String, Value>, usize) {
    let server = ApiServer::new();
    bring_about(&server, manifest, None).await;
    check_made_once(&server);
    (normal::objects(&server), server.writes().len())
}

/// What must be made exactly once: authorities and genesis blocks. Keys of identities stay.
pub fn check_made_once(server: &ApiServer) {
    let mut made: BTreeMap<String, Value> = BTreeMap::new();
    let mut keys: BTreeMap<String, Value> = BTreeMap::new();
    for change in server.history() {
        let object = change.after.as_ref().or(change.before.as_ref()).unwrap();
        let name = format!("{}/{}", change.kind.name, object["metadata"]["name"]);
        let component = object["metadata"]["labels"][label::COMPONENT].as_str().unwrap_or_default();
        let once = matches!(component, "authority" | "genesis");
        if once {
            let data = if component == "genesis" { &object["binaryData"] } else { &object["data"] };
            let first = made.entry(name.clone()).or_insert_with(|| data.clone());
            assert_eq!(first, data, "{name} was made again");
            assert!(change.after.is_some(), "{name} was deleted");
        }
        if change.kind.name == "Secret" && !once {
            for key in ["key.pem", "tls.key"] {
                if change.after.is_none() {
                    keys.remove(&format!("{name} {key}"));
                    continue;
                }
                let value = &object["data"][key];
                let first = keys.entry(format!("{name} {key}")).or_insert_with(|| value.clone());
                assert_eq!(first, value, "{name} has another {key}");
            }
        }
    }
    assert!(made.len() >= 5, "two authorities for each of two holders, and a genesis block");
    assert!(!keys.is_empty());
}

pub fn check_same(expected: &BTreeMap<String, Value>, server: &ApiServer, what: &str) {
    let found = normal::objects(server);
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(expected), names(&found), "{what}");
    for (name, object) in expected {
        assert_eq!(object, &found[name], "{what}: {name}");
    }
    check_made_once(server);
}

pub fn condition(server: &ApiServer, kind: &str, name: &str, condition: &str) -> (String, String) {
    let object = server.object(kind, NAMESPACE, name).unwrap();
    let conditions = object["status"]["conditions"].as_array().unwrap().clone();
    let found = conditions.iter().find(|one| one["type"] == condition).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

/// The controllers as they run, with their queues and pauses.
pub struct Running {
    server: ApiServer,
    stop: oneshot::Sender<()>,
    controllers: JoinHandle<()>,
    drive: JoinHandle<()>,
}

impl Running {
    pub async fn start(server: &ApiServer) -> Running {
        let (context, requests, drive) = context(server);
        let stores = context.stores.clone();
        let drive = tokio::spawn(drive);
        stores.wait_until_ready().await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let controllers = tokio::spawn(controllers::run(context, requests, async move {
            let _ = stopped.await;
        }));
        Running { server: server.clone(), stop, controllers, drive }
    }

    /// Waits until nothing was written for longer than anything waits that is on its way.
    pub async fn quiet(&self) {
        let mut before = usize::MAX;
        for _ in 0..60 {
            let now = self.server.writes().len();
            if now == before && now > 0 {
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        panic!("the controllers write without end");
    }

    /// They end when they are told to.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.controllers.await.unwrap();
        self.drive.abort();
    }
}
