//! A network at rest as its users and their tools see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use weft_client::Call;
use weft_e2e::cluster::fixture::CHANNEL;
use weft_e2e::cluster::forward::Target;
use weft_e2e::cluster::node::operations_port;
use weft_e2e::cluster::prometheus::{Prometheus, Scraped, check_metrics};
use weft_e2e::cluster::{Fixture, KINDS, Namespace, figures, operator, tools};
use weft_operator::cluster::names::{Holder, key, port, service_host};

/// `@hyperledger/fabric-gateway` as npm has it, through the Service of the organization's peers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_unmodified_gateway_client_submits_through_the_service() {
    let Fixture { namespace, .. } = Fixture::shared("everyday").await.unwrap();
    let holder = Holder::Organization("org1".to_owned());
    let user = namespace.user(&holder, "user1").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in [key::SIGN_CERT, key::SIGN_KEY, key::TLS_CA_CERTS] {
        std::fs::write(folder.path().join(file), user.file(file).unwrap()).unwrap();
    }
    let submit = |peer: &str, host: &str| {
        let mut node = Command::new("node");
        node.current_dir(tools::checkout().join("e2e/clients")).arg("cluster/transaction.mjs");
        node.env("PEER", peer).env("HOST", host).env("IDENTITY", folder.path());
        node.env("CHANNEL", CHANNEL).env("CHAINCODE", "asset").env("MSP_ID", "Org1MSP");
        println!("{peer}: {}", tools::run(&mut node, "").unwrap());
    };
    let service = Target::Service(holder.group(), port::PEER);
    let forwarded = namespace.forward(service).await.unwrap();
    // The certificate names this machine, for whoever forwards a port.
    submit(&forwarded.replace("127.0.0.1", "localhost"), "");
    submit(&forwarded, &service_host(&holder.group(), namespace.name()));
    // Where the cluster's addresses can be reached from here: the Service itself.
    let object = namespace.get("Service", &holder.group()).await.unwrap();
    let address = format!("{}:{}", object["spec"]["clusterIP"].as_str().unwrap(), port::PEER);
    let reachable = timeout(Duration::from_secs(2), TcpStream::connect(&address)).await;
    if matches!(reachable, Ok(Ok(_))) {
        submit(&address, &service_host(&holder.group(), namespace.name()));
    }
}

/// The pods whose metrics a monitoring system takes.
async fn scraped(namespace: &Namespace, operator: &operator::Operator) -> Vec<Scraped> {
    let mut all = Vec::new();
    for pod in namespace.nodes().await.unwrap() {
        let port = operations_port(pod.node());
        all.push(Scraped { namespace: namespace.name().to_owned(), pod: pod.name, port });
    }
    for pod in operator.pod_names().await.unwrap() {
        let namespace = operator::NAMESPACE.to_owned();
        all.push(Scraped { namespace, pod, port: port::OPERATOR_OPERATIONS });
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn prometheus_scrapes_every_node_and_the_operator() {
    let Fixture { namespace, operator } = Fixture::shared("everyday").await.unwrap();
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", ["scraped", "v"])).await.unwrap();
    let targets = scraped(&namespace, &operator).await;
    assert_eq!(targets.len(), 8, "3 orderers, 4 peers, the operator: {targets:?}");
    for Scraped { namespace: of, pod, port } in &targets {
        let text = namespace.cluster().get(of, pod, *port, "/metrics").await.unwrap();
        check_metrics(&text).unwrap_or_else(|error| panic!("metrics of {pod}: {error}"));
    }
    let prometheus = Prometheus::start(&targets).await.unwrap();
    prometheus.all_up(targets.len()).await.unwrap();
    let count = async |expression: &str| prometheus.query(expression).await.unwrap().len();
    assert_eq!(count("ledger_blockchain_height").await, 4, "a height of each peer");
    assert_eq!(count("consensus_etcdraft_is_leader==1").await, 1, "one leader");
    assert_eq!(count("weft_operator_leader==1").await, 1);
    for kind in KINDS {
        let of = namespace.name();
        let ready = format!("weft_operator_ready{{namespace=\"{of}\",kind=\"{kind}\"}} == 1");
        assert!(count(&ready).await >= 1, "{kind}");
    }
}

/// The Base64 lines of every private key in the namespace's Secrets, by Secret.
async fn keys(namespace: &Namespace) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for secret in namespace.typed::<Secret>().list(&ListParams::default()).await.unwrap() {
        let name = secret.metadata.name.clone().unwrap();
        for value in secret.data.unwrap_or_default().into_values() {
            let Ok(text) = String::from_utf8(value.0) else { continue };
            if text.contains("PRIVATE KEY") {
                let lines = text.lines().filter(|line| !line.contains("-----") && line.len() >= 20);
                keys.entry(name.clone()).or_default().extend(lines.map(str::to_owned));
            }
        }
    }
    keys
}

/// Everything that people and programs without a right to Secrets may read.
async fn public(namespace: &Namespace, operator: &operator::Operator) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let kinds = [
        "LedgerNetwork",
        "Organization",
        "Channel",
        "Chaincode",
        "Pod",
        "StatefulSet",
        "Deployment",
        "ConfigMap",
        "Service",
        "Event",
        "PersistentVolumeClaim",
    ];
    for kind in kinds {
        for object in namespace.list(kind).await.unwrap() {
            texts.push((format!("{kind} {}", object["metadata"]["name"]), object.to_string()));
        }
    }
    for Scraped { namespace: of, pod, port } in scraped(namespace, operator).await {
        for path in ["/metrics", "/healthz"] {
            let answer = namespace.cluster().get(&of, &pod, port, path).await;
            texts.push((format!("{path} of {pod}"), answer.unwrap()));
        }
    }
    for of in [namespace.name(), operator::NAMESPACE] {
        let pods = tools::kubectl(&["-n", of, "get", "pods", "-o", "name"]).unwrap();
        for pod in pods.lines() {
            let log = tools::kubectl(&["-n", of, "logs", pod, "--all-containers"]).unwrap();
            texts.push((format!("log of {pod}"), log));
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn no_key_is_in_anything_that_is_not_a_secret() {
    let Fixture { namespace, operator } = Fixture::shared("everyday").await.unwrap();
    let keys = keys(&namespace).await;
    // CAs and admins of three holders, two users, seven nodes.
    assert!(keys.len() >= 18, "{:?}", keys.keys());
    let lines: Vec<&String> = keys.values().flatten().collect();
    assert!(lines.len() >= 2 * keys.len(), "keys are found where they are");
    let texts = public(&namespace, &operator).await;
    println!("{} keys, {} texts", keys.len(), texts.len());
    for (what, text) in texts {
        assert!(!text.contains("PRIVATE KEY"), "{what} has a private key");
        assert!(!lines.iter().any(|line| text.contains(line.as_str())), "{what} has a key's bytes");
    }
}

/// Versions of everything that the operator might write.
async fn versions(namespace: &Namespace) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let kinds = ["Secret", "ConfigMap", "Service", "StatefulSet", "Deployment", "Event"];
    for kind in KINDS.into_iter().chain(kinds) {
        for object in namespace.list(kind).await.unwrap() {
            let metadata = &object["metadata"];
            let version = metadata["resourceVersion"].to_string();
            versions.insert(format!("{kind} {}", metadata["name"]), version);
        }
    }
    versions
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_idle_network_costs_no_writes_and_little_memory() {
    let Fixture { namespace, operator } = Fixture::shared("everyday").await.unwrap();
    // What the tests before have caused comes to its end.
    sleep(Duration::from_secs(10)).await;
    let before = (operator.writes().await.unwrap(), versions(&namespace).await);
    sleep(Duration::from_secs(60)).await;
    let after = (operator.writes().await.unwrap(), versions(&namespace).await);
    assert!(!before.0.is_empty(), "the operator counts its writes");
    assert_eq!(before.0, after.0, "writes in an idle minute");
    assert_eq!(before.1, after.1, "objects that changed in an idle minute");
    figures::print("writes in an idle minute", 0.0, "writes", "0");
    let memory = operator.resident_mebibytes().await.unwrap();
    figures::print("operator, resident, 1 network", memory, "MiB", "at most 40 MiB");
    print_image_sizes(&namespace).await;
}

async fn print_image_sizes(namespace: &Namespace) {
    let nodes: Api<Node> = Api::all(namespace.cluster().client());
    let nodes = nodes.list(&ListParams::default()).await.unwrap().items;
    let images = nodes.into_iter().filter_map(|node| node.status?.images).flatten();
    for image in images {
        let names = image.names.unwrap_or_default();
        for name in ["weft-node", "weft-operator", "asset-contract"] {
            let own = format!("library/{name}:");
            if names.iter().any(|one| one.contains(&own)) {
                let size = image.size_bytes.unwrap_or_default() as f64 / f64::from(1 << 20);
                figures::print(&format!("image {name}"), size, "MiB", "small");
            }
        }
    }
}

/// A new user of an organization: from the change of the object to the Secret.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_changed_object_is_handled_at_once() {
    let Fixture { namespace, .. } = Fixture::shared("everyday").await.unwrap();
    let secrets = namespace.typed::<Secret>();
    let mut fastest = f64::INFINITY;
    for turn in 0..3 {
        let user = format!("quick{turn}");
        let name = Holder::Organization("org1".to_owned()).user(&user);
        let list = secrets.list(&ListParams::default()).await.unwrap();
        let from = list.metadata.resource_version.unwrap();
        let mut events = Box::pin(secrets.watch(&WatchParams::default(), &from).await.unwrap());
        let begun = Instant::now();
        let users = json!({"spec": {"users": [{"name": "user1"}, {"name": user}]}});
        namespace.patch("Organization", "org1", users).await.unwrap();
        let seen = timeout(Duration::from_secs(30), async {
            while let Some(event) = events.try_next().await.unwrap() {
                let is_it = |secret: &Secret| secret.metadata.name.as_ref() == Some(&name);
                if matches!(&event, WatchEvent::Added(secret) if is_it(secret)) {
                    return;
                }
            }
            panic!("the watch ended");
        });
        seen.await.expect("the Secret of the new user");
        fastest = fastest.min(begun.elapsed().as_secs_f64() * 1000.0);
        sleep(Duration::from_secs(1)).await;
    }
    figures::print("a changed object handled in", fastest, "ms", "at most 200 ms");
    let users = json!({"spec": {"users": [{"name": "user1"}]}});
    namespace.patch("Organization", "org1", users).await.unwrap();
}
