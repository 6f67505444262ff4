//! Both charts through Helm: installed, upgraded, uninstalled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use weft_client::Call;
use weft_e2e::cluster::fixture::{CHANNEL, READY, SMALL};
use weft_e2e::cluster::{Fixture, KINDS, Namespace, Operator, tools};

async fn put(namespace: &Namespace, key: &str) {
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", [key, "v"])).await.unwrap();
}

/// A network of values: one orderer and one organization, for speed.
fn values(peers: u32) -> String {
    format!(
        "network: {{ordering: {{replicas: 1}}}}\n\
         organizations:\n- {{name: org1, mspId: Org1MSP, peers: {{replicas: {peers}}}, users: [{{name: user1}}]}}\n\
         channels: [{{name: {CHANNEL}, organizations: [org1]}}]\n\
         chaincodes: [{{name: asset, channelRef: {CHANNEL}, version: \"1.0\", image: \"asset-contract:0.1.0\"}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_network_of_values_is_installed_upgraded_and_uninstalled() {
    let Fixture { namespace, .. } = Fixture::empty("chart").await.unwrap();
    let chart = tools::checkout().join("charts/weft-network");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    let helm = |verb: &str, peers: u32| {
        std::fs::write(&file, values(peers)).unwrap();
        let (chart, file) = (chart.to_str().unwrap(), file.to_str().unwrap());
        tools::helm(&[verb, "net", chart, "-n", namespace.name(), "-f", file]).unwrap();
    };
    helm("install", 1);
    namespace.wait_all_ready(READY).await.unwrap();
    put(&namespace, "installed").await;
    helm("upgrade", 2);
    namespace.node_ready("org1-peer-1").await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    namespace.settled(&[("org1", 0), ("org1", 1)], CHANNEL).await.unwrap();

    tools::helm(&["uninstall", "net", "-n", namespace.name()]).unwrap();
    let gone = async || {
        for kind in KINDS {
            if !namespace.list(kind).await?.is_empty() {
                return Ok(None);
            }
        }
        Ok(namespace.list("Pod").await?.is_empty().then_some(()))
    };
    namespace.until("the network to be gone", gone).await.unwrap();
    assert!(namespace.list("PersistentVolumeClaim").await.unwrap().len() >= 3, "volumes stay");

    helm("install", 2);
    namespace.wait_all_ready(READY).await.unwrap();
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    assert_eq!(gateway.evaluate(Call::new("asset", "Get", ["installed"])).await.unwrap(), "v");
    tools::helm(&["uninstall", "net", "-n", namespace.name()]).unwrap();
    namespace.until("the network to be gone", gone).await.unwrap();
}

/// How many of the operator's pods say that they lead.
async fn leaders(operator: &Operator) -> Vec<String> {
    let mut leaders = Vec::new();
    for pod in operator.pod_names().await.unwrap() {
        let text = operator.metrics_text(&pod).await.unwrap_or_default();
        if text.lines().any(|line| line == "weft_operator_leader 1") {
            leaders.push(pod);
        }
    }
    leaders
}

/// `helm upgrade` to two replicas, of which one leads; the other takes over. `helm uninstall`
/// leaves kinds and networks; `helm install` takes them up again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_operator_is_upgraded_to_two_replicas_and_uninstalled() {
    let Fixture { namespace, operator } = Fixture::own("uninstall", SMALL).await.unwrap();
    operator.upgrade(&["replicas=2"]).unwrap();
    operator.wait_replicas(2).await.unwrap();
    let one = async || {
        let leaders = leaders(&operator).await;
        assert!(leaders.len() <= 1, "{leaders:?} lead");
        Ok(leaders.into_iter().next())
    };
    let first = namespace.until("a leader", one).await.unwrap();
    let api: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(namespace.cluster().client(), weft_e2e::cluster::operator::NAMESPACE);
    api.delete(&first, &kube::api::DeleteParams::default()).await.unwrap();
    let another = async || Ok(one().await?.filter(|leader| *leader != first));
    namespace.until("another leader", another).await.unwrap();
    let users = json!({"spec": {"users": [{"name": "user1"}, {"name": "second"}]}});
    namespace.patch("Organization", "org1", users).await.unwrap();
    namespace.wait_ready("Organization", "org1", READY).await.unwrap();
    namespace.secret("org1-user-second").await.unwrap();

    let pods = namespace.nodes().await.unwrap();
    operator.uninstall().unwrap();
    operator.wait_replicas(0).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(namespace.nodes().await.unwrap(), pods, "nodes go on");
    assert!(namespace.get("LedgerNetwork", "small").await.is_ok(), "kinds and objects stay");
    put(&namespace, "without").await;

    operator.install(&[]).unwrap();
    operator.wait_replicas(1).await.unwrap();
    let third = json!({"spec": {"users": [{"name": "user1"}, {"name": "third"}]}});
    namespace.patch("Organization", "org1", third).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    namespace.secret("org1-user-third").await.unwrap();
    assert_eq!(namespace.nodes().await.unwrap(), pods, "nothing was restarted");
}
