//! The binary itself, as an orderer and as a peer, whose identity is renewed while it runs as
//! Kubernetes renews a mounted secret: all files at once, by turning a link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use weft_client::{Connection, ConnectionSpec, Operations, Orderer, Participation, Peer};
use weft_config::Endpoint;
use weft_msp::{NodeRole, SigningIdentity};
use weft_protos::common::Block;
use weft_protos::peer::endorser_client::EndorserClient;
use weft_rpc::tls::TlsIdentity;
use weft_settings::{Msp, OrdererSettings, PeerSettings, Tls};
use weft_testkit::{Network, Org, tx};
use weft_types::block::metadata::{self, BlockSigner};
use weft_types::envelope::EnvelopeSpec;
use weft_types::proposal::ProposalSpec;
use weft_types::seek::Position;
use weft_types::{ChannelId, Signer as _, Timestamp};

const CHANNEL: &str = "supply";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOKS: Duration = Duration::from_millis(50);

fn channel() -> ChannelId {
    ChannelId::new(CHANNEL).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A node's process, its files and its log.
struct Node {
    process: Child,
    dir: PathBuf,
    versions: usize,
    org: Org,
    tls: weft_testkit::org::TlsIdentity,
    operations: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Puts a version of the identity in place of the one before.
fn put(dir: &Path, version: usize, org: &Org, signer: &SigningIdentity) {
    let name = format!("..version{version}");
    org.write_msp(&dir.join(&name).join("msp"), Some(signer));
    let link = dir.join("..data_tmp");
    symlink(&name, &link).unwrap();
    std::fs::rename(link, dir.join("..data")).unwrap();
}

fn msp(dir: &Path, org: &Org, signer: &SigningIdentity) -> Msp {
    std::fs::create_dir_all(dir).unwrap();
    put(dir, 0, org, signer);
    symlink("..data/msp", dir.join("msp")).unwrap();
    Msp { id: org.msp_id.to_string(), dir: dir.join("msp") }
}

fn tls(dir: &Path, tls: &weft_testkit::org::TlsIdentity) -> Tls {
    tls.write(dir);
    Tls {
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
        root_cas: vec![dir.join("ca.crt")],
        reload_interval: LOOKS,
        ..Tls::default()
    }
}

impl Node {
    async fn start(
        kind: &str,
        dir: &Path,
        settings: String,
        org: &Org,
        tls: weft_testkit::org::TlsIdentity,
        operations: String,
    ) -> Self {
        let file = dir.join("node.yaml");
        std::fs::write(&file, settings).unwrap();
        let log = || {
            Stdio::from(
                std::fs::File::options().append(true).create(true).open(dir.join("log")).unwrap(),
            )
        };
        let process = Command::new(env!("CARGO_BIN_EXE_weft-node"))
            .args([kind, "--config"])
            .arg(&file)
            .stdout(log())
            .stderr(log())
            .spawn()
            .unwrap();
        let dir = dir.to_owned();
        let mut node = Self { process, dir, versions: 0, org: org.clone(), tls, operations };
        let deadline = Instant::now() + PATIENCE;
        while node.operations().healthy().await.is_err() {
            assert!(node.process.try_wait().unwrap().is_none(), "it ended:\n{}", node.log());
            assert!(Instant::now() < deadline, "not healthy in time:\n{}", node.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        node
    }

    async fn orderer(dir: &Path, network: &Network, participation: &str) -> Self {
        let node = &network.orderers[0];
        let mut settings = OrdererSettings {
            listen: node.endpoint.to_string(),
            external_address: node.endpoint.to_string(),
            data_dir: dir.join("data"),
            msp: msp(dir, &network.orderer_org, &node.identity),
            tls: tls(&dir.join("tls"), &node.tls),
            ..OrdererSettings::default()
        };
        settings.participation.listen = participation.to_owned();
        settings.operations.listen = address();
        let (text, at) = (serde_yaml::to_string(&settings).unwrap(), settings.operations.listen);
        Self::start("orderer", dir, text, &network.orderer_org, node.tls.clone(), at).await
    }

    async fn peer(dir: &Path, org: &Org, at: &str) -> Self {
        let own = org.tls("peer0", &[]);
        let mut settings = PeerSettings {
            listen: at.to_owned(),
            external_address: at.to_owned(),
            data_dir: dir.join("data"),
            msp: msp(dir, org, &org.peer),
            tls: tls(&dir.join("tls"), &own),
            ..PeerSettings::default()
        };
        settings.chaincode.listen = String::new();
        settings.operations.listen = address();
        let (text, operations) =
            (serde_yaml::to_string(&settings).unwrap(), settings.operations.listen);
        Self::start("peer", dir, text, org, own, operations).await
    }

    fn renew(&mut self, org: &Org, to: &SigningIdentity) {
        self.versions += 1;
        put(&self.dir, self.versions, org, to);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn operations(&self) -> Operations {
        Operations::new(self.operations.clone(), Duration::from_secs(5))
    }

    async fn shows(&self, line: &str) -> bool {
        self.operations().metrics().await.unwrap().lines().any(|shown| shown == line)
    }

    async fn until_it_shows(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shows(line).await {
            let all = self.operations().metrics().await.unwrap();
            assert!(Instant::now() < deadline, "{line} is not in\n{all}\n{}", self.log());
            tokio::time::sleep(LOOKS).await;
        }
    }

    fn spec(&self, address: &str) -> ConnectionSpec {
        let client = self.org.tls("admin", &[]);
        let key = client.key_pem();
        ConnectionSpec {
            address: address.to_owned(),
            server_name: None,
            roots: vec![self.tls.authority.clone()],
            client: Some(
                TlsIdentity::from_pem(&client.cert_pem(), key.as_bytes(), "test").unwrap(),
            ),
        }
    }

    /// Asks it to end and waits until it has.
    fn end(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it did not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.process.wait().unwrap().success(), "{}", self.log());
    }
}

fn expiry(identity: &SigningIdentity) -> String {
    let end = identity.certificate().not_after().seconds();
    format!("weft_certificate_expiry_seconds{{certificate=\"signing\"}} {end}")
}

/// An identity that ends at a time of its own, by which the metric tells that it is in use.
fn renewed(org: &Org, role: NodeRole, days: i64) -> SigningIdentity {
    let mut validity = weft_testkit::clock::ALWAYS;
    let end = validity.not_after.seconds() - days * 24 * 3600;
    validity.not_after = Timestamp::from_seconds(end);
    org.identity_valid(&format!("{role}0.{}", org.msp_id), role, validity)
}

fn signer_of(block: &Block) -> Bytes {
    match metadata::signatures(block).unwrap().signatures.remove(0).signer {
        BlockSigner::Creator(header) => header.creator,
        BlockSigner::Consenter(_) => panic!("signed as in BFT"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_signs_blocks_with_a_renewed_certificate() {
    let dir = TempDir::new().unwrap();
    let mut network = Network::new(1, 1);
    network.orderers[0].endpoint = Endpoint::new("127.0.0.1", free_port());
    let participation = address();
    let mut node = Node::orderer(dir.path(), &network, &participation).await;
    let org = network.orderer_org.clone();
    let admin = Participation::new(&node.spec(&participation)).unwrap();
    admin.join(&network.genesis(CHANNEL)).await.unwrap();
    let client = network.org(1).client.clone();
    let connection = Connection::new(&node.spec(&network.orderers[0].endpoint.to_string()));
    let orderer = Orderer::new(connection.unwrap(), Arc::new(client.clone()));
    let order = async || {
        let spec = EnvelopeSpec {
            header_type: weft_protos::common::HeaderType::EndorserTransaction,
            channel_id: Some(channel()),
            data: "data".into(),
            timestamp: now(),
            nonce: tx::nonce(),
            tls_cert_hash: Bytes::new(),
        };
        let envelope = spec.sign(&client).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let before = orderer.block(&channel(), Position::Newest).await.unwrap();
        while let Err(error) = orderer.broadcast(envelope.clone()).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(LOOKS).await;
        }
        let next = before.header.unwrap().number + 1;
        loop {
            match orderer.block(&channel(), Position::Block(next)).await {
                Ok(block) => break block,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(LOOKS).await;
        }
    };
    let first = network.orderers[0].identity.clone();
    assert_eq!(signer_of(&order().await), first.serialized_identity());

    let next = renewed(&org, NodeRole::Orderer, 10);
    node.renew(&org, &next);
    node.until_it_shows(&expiry(&next)).await;
    assert_eq!(signer_of(&order().await), next.serialized_identity());

    let stranger = renewed(&Org::new("OrdererMSP"), NodeRole::Orderer, 20);
    node.renew(&org, &stranger);
    node.until_it_shows("weft_identity_refused 1").await;
    assert!(node.shows(&expiry(&next)).await);
    assert_eq!(signer_of(&order().await), next.serialized_identity());

    let last = renewed(&org, NodeRole::Orderer, 30);
    node.renew(&org, &last);
    node.until_it_shows(&expiry(&last)).await;
    node.until_it_shows("weft_identity_refused 0").await;
    assert_eq!(signer_of(&order().await), last.serialized_identity());
    assert_eq!(node.log().matches("kept the identity").count(), 1, "{}", node.log());
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_endorses_with_a_renewed_certificate() {
    let dir = TempDir::new().unwrap();
    let mut network = Network::new(1, 1);
    // Nobody orders here.
    network.orderers[0].endpoint = Endpoint::new("127.0.0.1", free_port());
    let org = network.org(1).clone();
    let at = address();
    let mut node = Node::peer(dir.path(), &org, &at).await;
    let spec = node.spec(&at);
    let admin = Peer::new(Connection::new(&spec).unwrap(), Arc::new(org.admin.clone()));
    admin.join(&network.genesis(CHANNEL)).await.unwrap();
    let transport = transport(&node, &at);
    let endorser = async || {
        let spec = ProposalSpec {
            channel_id: Some(channel()),
            chaincode: "qscc".to_owned(),
            args: vec!["GetChainInfo".into(), CHANNEL.into()],
            transient: Default::default(),
            is_init: false,
            timestamp: now(),
            nonce: tx::nonce(),
        };
        let proposal = spec.sign(&org.client).unwrap().signed;
        let response = EndorserClient::new(transport.clone()).process_proposal(proposal).await;
        let response = response.unwrap().into_inner();
        response.endorsement.expect("it is endorsed").endorser
    };
    assert_eq!(endorser().await, org.peer.serialized_identity());

    let next = renewed(&org, NodeRole::Peer, 10);
    node.renew(&org, &next);
    node.until_it_shows(&expiry(&next)).await;
    assert_eq!(endorser().await, next.serialized_identity());

    // Another role, and files that cannot be read.
    node.renew(&org, &renewed(&org, NodeRole::Client, 20));
    node.until_it_shows("weft_identity_refused 1").await;
    assert_eq!(endorser().await, next.serialized_identity());
    node.renew(&org, &next);
    node.until_it_shows("weft_identity_refused 0").await;
    std::fs::write(dir.path().join("msp/signcerts/cert.pem"), "nothing").unwrap();
    node.until_it_shows("weft_identity_refused 1").await;
    assert_eq!(endorser().await, next.serialized_identity());
    node.end();
}

fn transport(node: &Node, at: &str) -> tonic::transport::Channel {
    use weft_rpc::connect::{
        ClientIdentity, ConnectOptions, Connector, Endpoint, EndpointTls, Roots,
    };
    let nobody =
        weft_rpc::tls::ReloadingTls::from_parts(None, Default::default(), Default::default());
    let options = ConnectOptions::new(Duration::from_secs(5), &weft_settings::Limits::default());
    let tls = EndpointTls {
        roots: Roots::Fixed(vec![node.tls.authority.der().to_vec().into()]),
        client: ClientIdentity::Anonymous,
        ..EndpointTls::default()
    };
    let endpoint = Endpoint { address: at.to_owned(), tls: Some(tls) };
    Connector::new(nobody, options).channel(&endpoint).unwrap()
}
