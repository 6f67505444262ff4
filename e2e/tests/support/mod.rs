//! What these tests share: the nodes of a network with their ports, identities that its
//! authorities sign, calls of raw bytes, and nodes that are children of the test.
#![allow(dead_code)]

pub mod faults;
pub mod links;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use weft_crypto::{Certificate, CertificateAuthority, PrivateKey, Validity};
use weft_e2e::LocalNetwork;
use weft_msp::SigningIdentity;
use weft_operator::local::layout::ORDERING;
use weft_operator::pki::RootUse;
use weft_rpc::connect::{
    ClientIdentity, ConnectError, ConnectOptions, Connector, Endpoint, EndpointTls, Roots,
};
use weft_rpc::https::{Client, ClientOptions};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity};
use weft_settings::{OrdererSettings, PeerSettings};
use weft_testkit::org;
use weft_types::{MspId, Nonce, Timestamp};

pub const BASIC: &str = include_str!("../../../examples/basic.yaml");

/// Longest wait for something that should happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A node with its ports on 127.0.0.1.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub organization: String,
    pub msp_id: MspId,
    pub folder: PathBuf,
    pub grpc: String,
    /// An orderer's participation API, or a peer's listener for contracts.
    pub extra: String,
    pub operations: String,
}

impl Node {
    pub fn is_orderer(&self) -> bool {
        self.organization == ORDERING
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("node.log")).unwrap_or_default()
    }
}

/// Every node of a network, as its settings file says.
pub fn nodes(network: &LocalNetwork) -> Vec<Node> {
    let mut nodes = Vec::new();
    for organization in [ORDERING, "org1", "org2"] {
        let folder = network.dir().join(organization).join("nodes");
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        nodes.extend(folders.into_iter().map(|folder| node(organization, folder)));
    }
    nodes
}

fn node(organization: &str, folder: PathBuf) -> Node {
    let text = std::fs::read_to_string(folder.join("node.yaml")).unwrap();
    let none = std::iter::empty;
    let (msp_id, grpc, extra, operations) = if organization == ORDERING {
        let settings = OrdererSettings::load(&text, none()).unwrap();
        let extra = settings.participation.listen;
        (settings.msp.id, settings.listen, extra, settings.operations.listen)
    } else {
        let settings = PeerSettings::load(&text, none()).unwrap();
        let extra = settings.chaincode.listen;
        (settings.msp.id, settings.listen, extra, settings.operations.listen)
    };
    Node {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        organization: organization.to_owned(),
        msp_id: MspId::new(&msp_id).unwrap(),
        folder,
        grpc,
        extra,
        operations,
    }
}

pub fn node_named(network: &LocalNetwork, name: &str) -> Node {
    nodes(network).into_iter().find(|node| node.name == name).unwrap()
}

/// One of an organization's two authorities.
pub fn authority(
    network: &LocalNetwork,
    organization: &str,
    use_: RootUse,
) -> CertificateAuthority {
    let folder = network.layout().authority(organization, use_);
    CertificateAuthority::from_pem(&read(&folder.join("ca.pem")), &read(&folder.join("key.pem")))
        .unwrap()
}

/// The identity of a user of an organization.
pub fn user(network: &LocalNetwork, organization: &str, name: &str) -> SigningIdentity {
    let msp = network.layout().user(organization, name).join("msp");
    let certificate = Certificate::from_pem(&read(&msp.join("signcerts/cert.pem"))).unwrap();
    let key = PrivateKey::from_pkcs8_pem(&read(&msp.join("keystore/key.pem"))).unwrap();
    SigningIdentity::new(msp_id(network, organization), certificate, key).unwrap()
}

pub fn msp_id(network: &LocalNetwork, organization: &str) -> MspId {
    nodes(network).into_iter().find(|node| node.organization == organization).unwrap().msp_id
}

/// The TLS certificate of a user.
pub fn user_tls(network: &LocalNetwork, organization: &str, name: &str) -> TlsIdentity {
    let tls = network.layout().user(organization, name).join("tls");
    TlsIdentity::load(&tls.join("client.crt"), &tls.join("client.key")).unwrap()
}

/// The TLS certificate of a node.
pub fn node_tls(node: &Node) -> TlsIdentity {
    let tls = node.folder.join("tls");
    TlsIdentity::load(&tls.join("server.crt"), &tls.join("server.key")).unwrap()
}

/// A TLS certificate that an authority signs now.
pub fn tls_of(authority: &CertificateAuthority, validity: Validity) -> TlsIdentity {
    let made = org::tls_identity(authority, "someone", &["localhost", "127.0.0.1"], validity);
    TlsIdentity::from_pem(&made.cert_pem(), made.key_pem().as_bytes(), "test").unwrap()
}

/// From the authority's first moment to an hour from now.
pub fn valid(authority: &CertificateAuthority) -> Validity {
    Validity {
        not_before: authority.certificate().not_before(),
        not_after: now().saturating_add(Duration::from_secs(3600)),
    }
}

/// From the authority's first moment to a second ago.
pub fn expired(authority: &CertificateAuthority) -> Validity {
    Validity {
        not_before: authority.certificate().not_before(),
        not_after: now().saturating_sub(Duration::from_secs(1)),
    }
}

pub fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

pub fn nonce() -> Nonce {
    weft_crypto::random_bytes().unwrap()
}

/// A gRPC connection to a port of a node, recognised by the root of its organization.
pub fn channel(
    network: &LocalNetwork,
    node: &Node,
    address: &str,
    client: Option<TlsIdentity>,
) -> Channel {
    let root = authority(network, &node.organization, RootUse::Tls);
    let endpoint = Endpoint {
        address: address.to_owned(),
        tls: Some(EndpointTls {
            server_name: None,
            roots: Roots::Fixed(vec![root.certificate().der().to_vec().into()]),
            pinned: None,
            client: client.map_or(ClientIdentity::Anonymous, ClientIdentity::Fixed),
        }),
    };
    let options = ConnectOptions {
        dial_timeout: Duration::from_secs(10),
        keepalive_interval: Duration::ZERO,
        keepalive_timeout: Duration::ZERO,
    };
    let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
    Connector::new(tls, options).channel(&endpoint).unwrap()
}

/// A client for a node's HTTP ports.
pub fn http(network: &LocalNetwork, node: &Node, client: Option<TlsIdentity>) -> Client {
    let root = authority(network, &node.organization, RootUse::Tls);
    let roots = RootSet::fixed(vec![root.certificate().der().to_vec().into()]).unwrap();
    let tls = ReloadingTls::from_parts(client, roots, RootSet::new());
    Client::new(tls, ClientOptions::default())
}

/// Whether the node says that it is well.
pub async fn is_healthy(network: &LocalNetwork, node: &Node) -> bool {
    let url = format!("http://{}/healthz", node.operations);
    http(network, node, None).get(&url).await.is_ok_and(|answer| answer.status.is_success())
}

/// Sends messages of raw bytes and gives what comes back, up to `most` messages.
pub async fn call(
    channel: Channel,
    path: &'static str,
    messages: Vec<Bytes>,
    most: usize,
) -> Result<Vec<Bytes>, Status> {
    let exchange = async {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| Status::unavailable(format!("not ready: {error}")))?;
        let request = Request::new(tokio_stream::iter(messages));
        let path = http::uri::PathAndQuery::from_static(path);
        let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
        let mut all = Vec::new();
        while all.len() < most
            && let Some(answer) = answers.next().await
        {
            all.push(answer?);
        }
        Ok(all)
    };
    timeout(PATIENCE, exchange).await.map_err(|_| Status::deadline_exceeded("no answer"))?
}

/// Whether a status was made by the server, and not by a connection that failed.
pub fn is_answer(status: &Status) -> bool {
    ConnectError::of_status(status).is_none()
        && status.code() != Code::DeadlineExceeded
        && !status.message().contains("transport error")
        && !status.message().contains("not ready")
}

/// Messages as they are, whatever the service says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Starts a node as a child of the test, so that its exit code can be seen. Its own process must
/// have ended.
pub fn spawn(node: &Node, variables: &[(&str, &str)]) -> Child {
    // A killed process counts as ended when its first thread has; the others still hold its ports.
    let is_free = |address: &str| std::net::TcpListener::bind(address).is_ok();
    let deadline = Instant::now() + PATIENCE;
    while ![&node.grpc, &node.extra, &node.operations].into_iter().all(|port| is_free(port)) {
        assert!(Instant::now() < deadline, "the ports of {} are not free", node.name);
        std::thread::sleep(Duration::from_millis(10));
    }
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join("weft-node");
    let log = std::fs::OpenOptions::new().append(true).open(node.folder.join("node.log")).unwrap();
    Command::new(program)
        .arg(if node.is_orderer() { "orderer" } else { "peer" })
        .arg("--config")
        .arg(node.folder.join("node.yaml"))
        .envs(variables.iter().copied())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until something holds.
#[track_caller]
pub fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !check().await {
            assert!(Instant::now() < deadline, "{place}: {what} did not come about");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The nodes are the same processes as before, well, and commits go on.
pub struct Watch<'a> {
    network: &'a LocalNetwork,
    nodes: Vec<Node>,
    memory: BTreeMap<String, u64>,
}

impl<'a> Watch<'a> {
    pub fn new(network: &'a LocalNetwork) -> Watch<'a> {
        let mut watch = Watch { network, nodes: nodes(network), memory: BTreeMap::new() };
        watch.memory = watch.peaks();
        watch
    }

    /// The most memory that each node has had, KiB (proc(5), VmHWM).
    fn peaks(&self) -> BTreeMap<String, u64> {
        let state = self.network.state().unwrap();
        let peak = |node: &Node| {
            let process = state.processes[&node.name];
            assert!(process.is_running(), "{} has ended", node.name);
            let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
            let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        self.nodes.iter().map(|node| (node.name.clone(), peak(node))).collect()
    }

    pub async fn unharmed(&self, growth_mib: u64) {
        for node in &self.nodes {
            assert!(is_healthy(self.network, node).await, "{} is not well", node.name);
            assert!(!node.log().contains("panicked"), "{} panicked", node.name);
        }
        for (name, peak) in self.peaks() {
            let grown = peak.saturating_sub(self.memory[&name]) / 1024;
            println!("{name} took {grown} MiB more, of {growth_mib}");
            assert!(grown <= growth_mib, "{name} took {grown} MiB more");
        }
        let gateway = self.network.gateway(0).unwrap();
        gateway.submit(weft_client::Call::new("asset", "Put", ["k", "v"])).await.unwrap();
        self.network.settled().await.unwrap();
    }
}

/// Random numbers from a seed that is printed (SplitMix64); `WEFT_E2E_SEED` sets it.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Random {
        let given = std::env::var("WEFT_E2E_SEED").ok().map(|text| text.parse().unwrap());
        let seed =
            given.unwrap_or_else(|| u64::from_le_bytes(weft_crypto::random_bytes().unwrap()));
        println!("WEFT_E2E_SEED={seed}");
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
