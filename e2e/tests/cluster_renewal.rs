//! Certificates that end in minutes are renewed without anyone noticing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use weft_client::ConnectionSpec;
use weft_crypto::Certificate;
use weft_e2e::cluster::fixture::{BASIC, CHANNEL, NETWORK, PEERS, READY};
use weft_e2e::cluster::forward::Target;
use weft_e2e::cluster::load::ClusterLoad;
use weft_e2e::cluster::node::operations_port;
use weft_e2e::cluster::{Fixture, Namespace};
use weft_operator::cluster::names::{Holder, port, service_host};

/// How long certificates live; half of it is left when they are renewed.
const LIFETIME: Duration = Duration::from_secs(180);

fn manifest() -> String {
    let spec = "spec:\n  ordering: {replicas: 3}\n";
    let certificates = "  certificates: {duration: 180s, renewBefore: 90s}\n";
    let manifest = NETWORK.replacen(spec, &format!("{spec}{certificates}"), 1);
    assert!(manifest.contains("renewBefore"));
    manifest
}

/// The TLS certificate that each node shows.
async fn served(namespace: &Namespace) -> BTreeMap<String, Certificate> {
    let mut served = BTreeMap::new();
    for pod in namespace.nodes().await.unwrap() {
        let node = pod.node().to_owned();
        let is_peer = operations_port(&node) == port::PEER_OPERATIONS;
        let (holder, port) = match node.split_once("-peer-") {
            Some((org, _)) => (Holder::Organization(org.to_owned()), port::PEER),
            None => (Holder::Ordering(BASIC.to_owned()), port::ORDERER),
        };
        assert_eq!(is_peer, port == port::PEER);
        let admin = namespace.user(&holder, "admin").await.unwrap();
        let address = namespace.forward(Target::Pod(pod.name, port)).await.unwrap();
        let host = service_host(&node, namespace.name());
        let way: ConnectionSpec = admin.way_to(address, host).unwrap();
        let what = format!("the certificate of {node}");
        let ask = async || Ok(Some(way.served_certificate().await?));
        served.insert(node, namespace.until(&what, ask).await.unwrap());
    }
    served
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn certificates_are_renewed_under_load_and_nodes_go_on() {
    let Fixture { namespace, .. } = Fixture::own("renewal", &manifest()).await.unwrap();
    let begun = Instant::now();
    let (pods, first) = (namespace.nodes().await.unwrap(), served(&namespace).await);
    assert_eq!(first.len(), 7);
    // Past the end of every certificate that there was in the beginning.
    while begun.elapsed() < LIFETIME + Duration::from_secs(10) {
        // A user fetches a renewed certificate, too.
        let load = ClusterLoad::start(&namespace, &["org1", "org2"], CHANNEL).await.unwrap();
        load.progress(100).await.unwrap();
        load.finish(&PEERS).await.unwrap();
        assert_eq!(namespace.nodes().await.unwrap(), pods, "no node was restarted or replaced");
    }
    let last = served(&namespace).await;
    for (node, certificate) in &last {
        let before = &first[node];
        assert_ne!(certificate.der(), before.der(), "{node} shows its first certificate");
        assert!(certificate.not_after() > before.not_after(), "{node}");
    }
    namespace.wait_all_ready(READY).await.unwrap();
    let events = namespace.list("Event").await.unwrap();
    let renewals = events
        .iter()
        .filter(|event| event["reason"].as_str().is_some_and(|reason| reason.contains("Renew")));
    assert!(renewals.count() > 0, "an event tells of renewals");
}
