//! What those who run nodes rely on: the operations port, renewed certificates, an orderly end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::{
    BASIC, Node, authority, eventually, http, is_healthy, node_named, nodes, now, spawn, tls_of,
    valid,
};
use tokio::time::{Instant, timeout};
use weft_client::Call;
use weft_crypto::{
    Certificate, LeafProfile, LeafUsage, Name, PrivateKey, SubjectAltName, Validity,
};
use weft_e2e::LocalNetwork;
use weft_e2e::load::{Load, assert_all_there};
use weft_operator::pki::RootUse;
use weft_rpc::connect::{ConnectOptions, Connector, Endpoint, EndpointTls};
use weft_rpc::https::{Client, ClientOptions};
use weft_rpc::tls::{ReloadingTls, RootSet};

/// The example with settings for every node.
fn with_settings(settings: &str) -> String {
    let node = format!("node: {{config: {{{settings}}}}}");
    BASIC
        .replacen("replicas: 3", &format!("replicas: 3\n    {node}"), 1)
        .replace("  mspId:", &format!("  peers: {{{node}}}\n  mspId:"))
}

async fn get(network: &LocalNetwork, node: &Node, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", node.operations);
    let answer = http(network, node, None).get(&url).await.unwrap();
    (answer.status.as_u16(), answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_its_health_its_version_and_its_level() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    for node in nodes(&network) {
        let (status, health) = get(&network, &node, "/healthz").await;
        let health: serde_json::Value = serde_json::from_str(&health).unwrap();
        assert_eq!((status, health["status"].as_str()), (200, Some("OK")), "{}", node.name);
        let (status, version) = get(&network, &node, "/version").await;
        let version: serde_json::Value = serde_json::from_str(&version).unwrap();
        let expected = env!("CARGO_PKG_VERSION");
        assert_eq!((status, version["Version"].as_str()), (200, Some(expected)), "{}", node.name);
        assert!(version["CommitSHA"].is_string());
        assert_eq!(get(&network, &node, "/logspec").await, (200, r#"{"spec":"info"}"#.to_owned()));
        assert_eq!(get(&network, &node, "/nothing").await.0, 404);
    }
}

/// Lines of a node's log that were written at the level DEBUG.
fn debug_lines(node: &Node) -> usize {
    node.log().lines().filter(|line| line.contains("DEBUG")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_of_the_log_changes_while_a_node_runs() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    for name in ["orderer0", "peer0.org1"] {
        let node = node_named(&network, name);
        let client = http(&network, &node, None);
        let url = format!("http://{}/logspec", node.operations);
        let set = async |spec: &str| {
            let answer = client.put_json(&url, &serde_json::json!({ "spec": spec })).await.unwrap();
            answer.status.as_u16()
        };
        gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
        assert_eq!(debug_lines(&node), 0, "{name} starts at info");
        assert_eq!(set("loud").await, 400);
        assert_eq!(get(&network, &node, "/logspec").await.1, r#"{"spec":"info"}"#);
        assert_eq!(set("debug").await, 204);
        assert_eq!(get(&network, &node, "/logspec").await.1, r#"{"spec":"debug"}"#);
        eventually("debug lines", async || {
            gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
            debug_lines(&node) > 0
        })
        .await;
        assert_eq!(set("info").await, 204);
        // What was under way when the level changed may still be written.
        gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
        let before = debug_lines(&node);
        for _ in 0..3 {
            gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
        }
        assert_eq!(debug_lines(&node), before, "{name} is quiet again");
    }
}

/// Series of Prometheus's text format by name with labels. Fails on a line that is not one.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut typed = Vec::new();
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some(kind)) => {
                    assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                    typed.push(name.to_owned());
                }
                (Some("HELP"), Some(_), Some(help)) => assert!(!help.is_empty(), "{line}"),
                _ => panic!("not a comment of the format: {line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let bare = name.split('{').next().unwrap();
        assert!(name.contains('{') == name.ends_with('}'), "{line}");
        assert!(typed.iter().any(|known| bare.starts_with(known.as_str())), "no type: {line}");
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    series
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_the_heights_the_leader_and_the_calls() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    for value in ["a", "b", "c"] {
        gateway.submit(Call::new("asset", "Put", ["k", value])).await.unwrap();
    }
    let (height, _) = network.settled().await.unwrap();
    let mut leaders = 0.0;
    let mut terms = Vec::new();
    for node in nodes(&network) {
        let (status, text) = get(&network, &node, "/metrics").await;
        assert_eq!(status, 200);
        let series = series(&text);
        let sum = |name: &str, label: &str| -> f64 {
            let is_one = |key: &str| key.starts_with(name) && key.contains(label);
            series.iter().filter(|(key, _)| is_one(key)).map(|(_, value)| value).sum()
        };
        let on = |name: &str| {
            let key = format!("{name}{{channel=\"supply\"}}");
            *series.get(&key).unwrap_or_else(|| panic!("{} has no {key}:\n{text}", node.name))
        };
        #[allow(clippy::cast_precision_loss)]
        let expected = height as f64;
        assert!(sum("process_resident_memory_bytes", "") > 0.0, "{}", node.name);
        assert_eq!(sum("weft_build_info", "version="), 1.0);
        if node.is_orderer() {
            assert_eq!(on("participation_height"), expected, "{}", node.name);
            assert!(on("consensus_etcdraft_leader_id") > 0.0);
            leaders += on("consensus_etcdraft_is_leader");
            terms.push(on("consensus_term"));
        } else {
            assert_eq!(on("ledger_blockchain_height"), expected, "{}", node.name);
            let valid = sum("ledger_transaction_count", "VALID\"");
            assert!(valid >= 4.0, "{} counts {valid} transactions", node.name);
            assert!(sum("grpc_server_calls_completed", "method=") > 0.0, "{text}");
        }
    }
    assert_eq!(leaders, 1.0, "one leader");
    assert!(terms.iter().all(|term| *term >= 1.0 && *term == terms[0]), "{terms:?}");
}

/// A TLS certificate for the key that a node has: what renewing means.
fn renew(network: &LocalNetwork, node: &Node) -> Certificate {
    let ca = authority(network, &node.organization, RootUse::Tls);
    let tls = node.folder.join("tls");
    let key = std::fs::read_to_string(tls.join("server.key")).unwrap();
    let key = PrivateKey::from_pkcs8_pem(&key).unwrap();
    let profile = LeafProfile {
        name: Name::common("renewed"),
        sans: ["localhost", "127.0.0.1", "renewed.example"].map(SubjectAltName::host).to_vec(),
        usage: LeafUsage::Tls,
        validity: Validity {
            not_before: ca.certificate().not_before(),
            not_after: now().saturating_add(Duration::from_secs(3600)),
        },
    };
    let renewed = ca.issue(key.public_key(), &profile).unwrap();
    // As a rename, so that the node never reads half a file.
    std::fs::write(tls.join("next.crt"), renewed.pem()).unwrap();
    std::fs::rename(tls.join("next.crt"), tls.join("server.crt")).unwrap();
    renewed
}

/// Whether a port shows the renewed certificate, which alone names `renewed.example`.
async fn shows_renewed(network: &LocalNetwork, node: &Node, address: &str, grpc: bool) -> bool {
    let ca = authority(network, &node.organization, RootUse::Tls);
    let roots = RootSet::fixed(vec![ca.certificate().der().to_vec().into()]).unwrap();
    let own = tls_of(&ca, valid(&ca));
    let tls = ReloadingTls::from_parts(Some(own), roots, RootSet::new());
    let name = "renewed.example".to_owned();
    if grpc {
        let endpoint = Endpoint {
            address: address.to_owned(),
            tls: Some(EndpointTls { server_name: Some(name), ..EndpointTls::default() }),
        };
        let options = ConnectOptions {
            dial_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
        };
        return Connector::new(tls, options).connect(&endpoint).await.is_ok();
    }
    let client = Client::new(tls, ClientOptions::default()).with_server_name(name);
    client.get(&format!("https://{address}/version")).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_shown_without_a_restart() {
    let manifest = with_settings("tls.reloadInterval: 200ms");
    let network = LocalNetwork::start(&manifest).await.unwrap();
    // Operations with TLS, which `weft up` does not set up by itself.
    for name in ["orderer0", "peer0.org1"] {
        network.kill(name).await.unwrap();
        let node = node_named(&network, name);
        let _child = spawn(&node, &[("WEFT_OPERATIONS_TLS_ENABLED", "true")]);
        let url = format!("https://{}/healthz", node.operations);
        eventually("the node serves", async || http(&network, &node, None).get(&url).await.is_ok())
            .await;
        let ports = [
            ("gRPC", &node.grpc, true),
            ("other", &node.extra, !node.is_orderer()),
            ("operations", &node.operations, false),
        ];
        for (_, address, grpc) in ports {
            assert!(!shows_renewed(&network, &node, address, grpc).await);
        }
        renew(&network, &node);
        for (port, address, grpc) in ports {
            let what = format!("the renewed certificate at the {port} port of {name}");
            eventually(&what, async || shows_renewed(&network, &node, address, grpc).await).await;
        }
    }
    network.up().await.unwrap();
    // Nodes go on knowing each other: the key is the same.
    let gateway = network.gateway(0).unwrap();
    gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
    network.settled().await.unwrap();
}

/// Each node in turn is asked to end while transactions keep coming.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_end_in_order_under_load_and_nothing_is_lost() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let load = Load::start(vec![network.gateway(0).unwrap(), network.gateway(1).unwrap()]);
    load.progress(20).await.unwrap();
    // The limit for open calls, and as much again for the rest.
    let limit = weft_settings::Limits::default().shutdown_timeout * 2;
    // Peers several times: what a commit is doing when the request comes differs.
    let peers = ["peer0.org1", "peer0.org2"].repeat(4);
    for name in ["orderer0", "orderer1", "orderer2"].into_iter().chain(peers) {
        network.kill(name).await.unwrap();
        let node = node_named(&network, name);
        let mut child = spawn(&node, &[]);
        eventually("the node is well", async || is_healthy(&network, &node).await).await;
        load.progress(50).await.unwrap();
        let pid = i32::try_from(child.id().unwrap()).ok().and_then(Pid::from_raw).unwrap();
        let asked = Instant::now();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = timeout(limit, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{name} does not end in {limit:?}")).unwrap();
        assert_eq!(
            ended.code(),
            Some(0),
            "{name} ended with {ended:?} after {:?}",
            asked.elapsed()
        );
        println!("{name} ended in {:?}", asked.elapsed());
        network.up().await.unwrap();
        load.progress(50).await.unwrap();
    }
    let keys = load.finish().await.unwrap();
    network.settled().await.unwrap();
    for org in 0..2 {
        assert_all_there(&network.gateway(org).unwrap(), &keys).await.unwrap();
    }
}
