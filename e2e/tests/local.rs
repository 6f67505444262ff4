//! `weft up` as its users meet it: again, changed, broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::LocalNetwork;
use weft_operator::local::access::Access;
use weft_operator::local::read_manifest;
use weft_protos::common::Block;

const BASIC: &str = include_str!("../../examples/basic.yaml");

fn weft(args: &[&str]) -> Output {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().and_then(Path::parent).unwrap();
    Command::new(folder.join("weft")).args(args).output().unwrap()
}

/// Every file that must not change: keys, certificates, genesis blocks, settings.
fn fingerprint(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "data" {
                walk(&path, found);
            } else if path.is_file() && !name.ends_with(".log") {
                found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn running_again_changes_nothing_and_a_restart_loses_nothing() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
    // The record now knows of the block.
    network.up().await.unwrap();
    let before = (network.settled().await.unwrap(), fingerprint(&network.dir()));
    network.up().await.unwrap();
    assert_eq!((network.settled().await.unwrap(), fingerprint(&network.dir())), before);

    assert!(network.down().await.unwrap() >= 6);
    network.up().await.unwrap();
    assert_eq!(network.settled().await.unwrap(), before.0);
    let gateway = network.gateway(1).unwrap();
    let value = gateway.evaluate(Call::new("asset", "Get", ["k"])).await.unwrap();
    assert_eq!(value, "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_manifest_adds_a_peer_an_organization_and_a_channel() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();

    let more_peers = BASIC.replacen("mspId: Org1MSP", "mspId: Org1MSP\n  peers: {replicas: 2}", 1);
    network.apply(&more_peers).await.unwrap();
    let channel = network.channel().unwrap();
    let (height, _) = network.settled().await.unwrap();
    let second = network.peer(0, 1).unwrap();
    assert!(second.chain_info(&channel).await.unwrap().height >= height);

    let third = "---\napiVersion: weft.dev/v1alpha1\nkind: Organization\nmetadata: {name: org3}\n\
                 spec: {networkRef: basic, mspId: Org3MSP}\n\
                 ---\napiVersion: weft.dev/v1alpha1\nkind: Channel\nmetadata: {name: side}\n\
                 spec: {networkRef: basic, organizations: [org2, org3]}\n";
    let all = more_peers.replace("[org1, org2]", "[org1, org2, org3]") + third;
    network.apply(&all).await.unwrap();
    let newcomer = network.gateway(2).unwrap();
    assert_eq!(newcomer.evaluate(Call::new("asset", "Get", ["k"])).await.unwrap(), "v");
    newcomer.submit(Call::new("asset", "Put", ["k", "w"])).await.unwrap();
    let mut channels = network.peer(2, 0).unwrap().channels().await.unwrap();
    channels.sort();
    assert_eq!(channels, ["side", "supply"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orderers_are_added_and_removed_one_at_a_time() {
    let one = BASIC.replacen("replicas: 3", "replicas: 1", 1);
    let network = LocalNetwork::start(&one).await.unwrap();
    let put = async |value: &str| {
        let call = Call::new("asset", "Put", ["k", value]);
        network.gateway(0).unwrap().submit(call).await.unwrap();
    };
    put("one").await;
    network.apply(BASIC).await.unwrap();
    put("three").await;
    // With three, the loss of any one is survived: the new ones do take part.
    network.kill("orderer0").await.unwrap();
    put("two of three").await;
    network.up().await.unwrap();
    network.settled().await.unwrap();
    // Those that go are consenters until the one that stays has removed them.
    network.apply(&one).await.unwrap();
    put("one again").await;
    assert_eq!(network.processes(|name| name.starts_with("orderer")).unwrap(), ["orderer0"]);
    network.settled().await.unwrap();
}

fn data(network: &LocalNetwork, name: &str) -> PathBuf {
    let nodes = network.nodes().unwrap();
    nodes.iter().find(|node| node.name == name).unwrap().folder.join("data")
}

/// Brings a network up that must not come up, and returns what it says.
async fn refusal(network: &LocalNetwork) -> String {
    format!("{:#}", network.up().await.unwrap_err())
}

/// Whether the peers know of the channel or have lost it as well, it is begun once.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_every_orderer_lost_is_not_begun_again() {
    let network =
        LocalNetwork::start(&BASIC.replacen("replicas: 3", "replicas: 1", 1)).await.unwrap();
    let call = Call::new("asset", "Put", ["k", "v"]);
    network.gateway(0).unwrap().submit(call).await.unwrap();
    let before = network.settled().await.unwrap();
    network.down().await.unwrap();
    let lost = ["orderer0", "peer0.org1", "peer0.org2"].map(|name| data(&network, name));
    for (index, data) in lost.iter().enumerate() {
        std::fs::rename(data, data.with_extension("kept")).unwrap();
        // All orderers, then all of them and a peer, then everything.
        let told = refusal(&network).await;
        assert!(told.contains("LedgerLost") && told.contains("weft down"), "{index}: {told}");
        network.down().await.unwrap();
    }
    for data in lost {
        // Those that had nothing to keep have made none.
        if data.exists() {
            std::fs::remove_dir_all(&data).unwrap();
        }
        std::fs::rename(data.with_extension("kept"), &data).unwrap();
    }
    network.up().await.unwrap();
    assert_eq!(network.settled().await.unwrap(), before);

    let genesis = network.layout().genesis(&network.channel().unwrap());
    let kept = genesis.with_extension("kept");
    std::fs::rename(&genesis, &kept).unwrap();
    let told = refusal(&network).await;
    assert!(told.contains("supply.block") && told.contains("it is gone"), "{told}");
    std::fs::rename(&kept, &genesis).unwrap();
    network.up().await.unwrap();
}

/// An orderer that was begun with the genesis block a second time is not "ready".
#[tokio::test(flavor = "multi_thread")]
async fn a_second_chain_is_not_ready() {
    let network =
        LocalNetwork::start(&BASIC.replacen("replicas: 3", "replicas: 1", 1)).await.unwrap();
    let genesis = std::fs::read(network.layout().genesis(&network.channel().unwrap())).unwrap();
    network.down().await.unwrap();
    std::fs::remove_dir_all(data(&network, "orderer0")).unwrap();
    assert!(refusal(&network).await.contains("LedgerLost"));
    let orderer = network.nodes().unwrap().remove(0);
    let (model, _) = read_manifest(&network.layout().manifest()).unwrap();
    let access = Access::open(&network.layout(), &model).unwrap();
    let genesis = Block::decode(&genesis[..]).unwrap();
    access.participation(&orderer).unwrap().join(&genesis).await.unwrap();
    let told = refusal(&network).await;
    assert!(told.contains("LedgerLost") && told.contains("have but the first"), "{told}");
}

/// By the operator's rule: removed from the consenters, joined as a follower, added again.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_that_came_back_empty_is_a_new_consenter() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let put = async |value: &str| {
        let call = Call::new("asset", "Put", ["k", value]);
        network.gateway(0).unwrap().submit(call).await.unwrap();
    };
    put("one").await;
    let (height, _) = network.settled().await.unwrap();
    network.down().await.unwrap();
    std::fs::remove_dir_all(data(&network, "orderer1")).unwrap();
    network.up().await.unwrap();
    assert!(network.settled().await.unwrap().0 >= height + 2, "two changes of the consenters");
    // It carries the channel together with another one.
    network.kill("orderer0").await.unwrap();
    put("two").await;
    network.settled().await.unwrap();
}

/// When a node's signing certificate ends, in seconds since 1970, as its metrics tell it.
async fn signing_expiry(network: &LocalNetwork, name: &str) -> anyhow::Result<f64> {
    let nodes = network.nodes()?;
    let node = nodes.iter().find(|node| node.name == *name).context("no such node")?;
    let mut stream = TcpStream::connect(("127.0.0.1", node.operations)).await?;
    let request = "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let name = r#"weft_certificate_expiry_seconds{certificate="signing"}"#;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such metric")?;
    Ok(line.trim().parse()?)
}

/// Renewed certificates are taken over by running nodes.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_taken_over_without_a_restart() {
    let lasting = |duration: &str, before: &str| {
        let certificates = format!(
            "spec:\n  certificates: {{duration: {duration}, renewBefore: {before}, caDuration: 99h}}\n  ordering:"
        );
        BASIC.replacen("spec:\n  ordering:", &certificates, 1)
    };
    let network = LocalNetwork::start(&lasting("2h", "1h")).await.unwrap();
    let nodes = |name: &str| !name.starts_with("chaincode/");
    let names = network.processes(nodes).unwrap();
    let before = network.state().unwrap().processes;
    let put = async |value: &str| {
        let call = Call::new("asset", "Put", ["k", value]);
        network.gateway(1).unwrap().submit(call).await.unwrap();
    };
    put("one").await;
    let mut expiries = Vec::new();
    for name in &names {
        expiries.push(signing_expiry(&network, name).await.unwrap());
    }
    network.apply(&lasting("4h", "3h")).await.unwrap();
    assert_eq!(names.len(), 5);
    for (name, old) in names.iter().zip(expiries) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while signing_expiry(&network, name).await.unwrap() <= old {
            assert!(Instant::now() < deadline, "{name} goes on with its old identity");
            sleep(Duration::from_millis(200)).await;
        }
    }
    put("two").await;
    network.settled().await.unwrap();
    network.up().await.unwrap();
    assert_eq!(network.state().unwrap().processes, before, "no node was restarted");
}

#[test]
fn a_broken_manifest_is_told_by_object_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("network.yaml");
    let dir = folder.path().join("net");
    let check = |from: &str, to: &str, expected: &str| {
        std::fs::write(&file, BASIC.replacen(from, to, 1)).unwrap();
        let output =
            weft(&["up", "-f", file.to_str().unwrap(), "--dir", dir.to_str().unwrap(), "--detach"]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{text}");
        assert!(!dir.join("state.json").exists(), "nothing is made for a manifest that is refused");
    };
    check("replicas: 3", "replicas: 0", "LedgerNetwork \"basic\": spec.ordering.replicas");
    check("[org1, org2]", "[org1, org9]", "Channel \"supply\": spec.organizations[1]");
    check("mspId: Org2MSP", "mspID: Org2MSP", "mspID");
    check("command: [asset-contract]", "image: asset:1", "spec.image needs a Kubernetes cluster");
}

#[test]
fn commands_without_a_network_say_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["status"][..], &["down"], &["query", "Get", "k"]] {
        let mut args = command.to_vec();
        let dir = folder.path().to_str().unwrap();
        args.splice(0..0, ["--dir", dir]);
        let output = weft(&args);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("weft up -f MANIFEST"), "{text}");
    }
}
