//! What the operator does to the running nodes of a network, without a cluster: a channel and a
//! chaincode of their own on the nodes of a local network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_config::genesis;
use weft_config::{AnchorPeer, Endpoint};
use weft_e2e::LocalNetwork;
use weft_operator::api::{ConsensusType, PolicyOverrides};
use weft_operator::channel_config::{DesiredChannel, DesiredMember, DesiredOrderer};
use weft_operator::cluster::ledger::chaincode::{self, ChaincodeInput, ChaincodeState};
use weft_operator::cluster::ledger::channel::{
    self, ChannelInput, ChannelOutcome, ConfigState, SignedUpdate,
};
use weft_operator::cluster::ledger::{Access, Connections, NodeRef};
use weft_operator::cluster::topology::NodeKind;
use weft_operator::local::access::{ADMIN, load_actor};
use weft_operator::local::layout::ORDERING;
use weft_operator::local::material::load_tls_root;
use weft_operator::local::nodes::{HOST, Kind, Node};
use weft_operator::model::{self, Batch, Endorsement, Program, Raft};
use weft_protos::common::Block;
use weft_types::config::sign_update;
use weft_types::{ChannelId, MspId, Timestamp};

const BASIC: &str = include_str!("../../examples/basic.yaml");
/// Longest wait for something that should happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A local network whose nodes serve a second channel, which the operator's code looks after.
struct Case {
    network: LocalNetwork,
    nodes: Vec<Node>,
    access: Access,
    desired: DesiredChannel,
    genesis: Block,
    known_height: u64,
}

/// Who is known: everybody's TLS root; the administrators of those named.
fn access(network: &LocalNetwork, nodes: &[Node], admins: &[&str]) -> Access {
    let layout = network.layout();
    let holders: BTreeMap<&str, &MspId> =
        nodes.iter().map(|node| (node.organization.as_str(), &node.msp_id)).collect();
    holders.into_iter().fold(Access::new(Connections::default()), |access, (holder, msp_id)| {
        let roots = vec![load_tls_root(&layout, holder).unwrap()];
        let known = admins.contains(&holder);
        let admin = known.then(|| load_actor(&layout, holder, ADMIN, msp_id).unwrap());
        access.with_holder(holder, msp_id.clone(), roots, admin)
    })
}

fn endpoint(node: &Node) -> Endpoint {
    Endpoint::new(HOST, node.grpc)
}

fn node_ref(node: &Node) -> NodeRef {
    let orderer = node.kind == Kind::Orderer;
    NodeRef {
        name: node.name.clone(),
        kind: if orderer { NodeKind::Orderer } else { NodeKind::Peer },
        holder: node.organization.clone(),
        msp_id: node.msp_id.clone(),
        endpoint: endpoint(node),
        address: node.address(),
        server_name: HOST.to_owned(),
        participation: orderer.then(|| node.participation()),
        operations: Some(format!("{HOST}:{}", node.operations)),
    }
}

fn desired_orderer(node: &Node) -> DesiredOrderer {
    let tls_cert = Bytes::from(std::fs::read(node.tls_cert()).unwrap());
    DesiredOrderer { endpoint: endpoint(node), tls_cert }
}

fn desired(network: &LocalNetwork, nodes: &[Node], orderers: usize) -> DesiredChannel {
    let msp = |node: &Node| {
        let folder = network.dir().join(&node.organization).join("msp");
        weft_msp::folder::load_definition(&folder, &node.msp_id).unwrap()
    };
    let of = |kind| nodes.iter().filter(move |node| node.kind == kind);
    let first = of(Kind::Orderer).next().unwrap();
    let member = |node: &Node| {
        let anchor = AnchorPeer { host: HOST.to_owned(), port: i32::from(node.grpc) };
        (node.msp_id.clone(), DesiredMember { msp: msp(node), anchor_peers: vec![anchor] })
    };
    DesiredChannel {
        id: ChannelId::new("ledger").unwrap(),
        consensus: ConsensusType::Raft,
        raft: Raft {
            tick_interval: Duration::from_millis(100),
            election_ticks: 10,
            heartbeat_ticks: 1,
            max_inflight_blocks: 5,
            snapshot_interval_bytes: 16 * 1024 * 1024,
        },
        orderer_msp_id: first.msp_id.clone(),
        orderer_msp: msp(first),
        orderers: of(Kind::Orderer).take(orderers).map(desired_orderer).collect(),
        batch: Batch {
            timeout: Duration::from_millis(500),
            max_message_count: 100,
            absolute_max_bytes: 1024 * 1024,
            preferred_max_bytes: 512 * 1024,
        },
        members: of(Kind::Peer).map(member).collect(),
        policies: PolicyOverrides::default(),
        acls: BTreeMap::new(),
    }
}

impl Case {
    /// A network of `running` orderers, `wanted` of which are consenters of the channel at first.
    async fn start(running: usize, wanted: usize, admins: &[&str]) -> Case {
        let manifest = BASIC.replacen("replicas: 3", &format!("replicas: {running}"), 1);
        let network = LocalNetwork::start(&manifest).await.unwrap();
        let nodes = network.nodes().unwrap();
        let access = access(&network, &nodes, admins);
        let desired = desired(&network, &nodes, wanted);
        let now = Timestamp::from_system_time(SystemTime::now());
        let genesis = genesis::block(&desired.profile(now).unwrap()).unwrap();
        Case { network, nodes, access, desired, genesis, known_height: 0 }
    }

    fn of(&self, kind: Kind) -> Vec<NodeRef> {
        self.nodes.iter().filter(|node| node.kind == kind).map(node_ref).collect()
    }

    fn want_orderers(&mut self, names: &[&str]) {
        let orderers = self.nodes.iter().filter(|node| names.contains(&node.name.as_str()));
        self.desired.orderers = orderers.map(desired_orderer).collect();
    }

    async fn once(&self, signatures: &[SignedUpdate]) -> ChannelOutcome {
        let (orderers, all) = (self.of(Kind::Orderer), self.of(Kind::Peer));
        let here = |node: &NodeRef| self.access.admin(&node.holder).is_some();
        let peers: Vec<NodeRef> = all.into_iter().filter(here).collect();
        let mut signers: Vec<String> = peers.iter().map(|node| node.holder.clone()).collect();
        signers.push(ORDERING.to_owned());
        let input = ChannelInput {
            desired: &self.desired,
            genesis: &self.genesis,
            orderers: &orderers,
            peers: &peers,
            ordering: ORDERING,
            signers: &signers,
            signatures,
            known_height: self.known_height,
            never_begun: self.known_height == 0,
        };
        channel::converge(&self.access, &input).await.unwrap()
    }

    /// Again and again, as a controller does, until `done`; with everything that was done.
    async fn until(
        &mut self,
        what: &str,
        signatures: &[SignedUpdate],
        done: impl Fn(&ChannelOutcome) -> bool,
    ) -> (ChannelOutcome, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut did = Vec::new();
        loop {
            let outcome = self.once(signatures).await;
            let height = outcome.heights.values().copied().max().unwrap_or(0);
            self.known_height = self.known_height.max(height);
            did.extend(outcome.did.iter().cloned());
            if done(&outcome) {
                return (outcome, did);
            }
            let (state, peers) = (&outcome.config, &outcome.peers);
            assert!(Instant::now() < deadline, "{what}: {state:?} {peers:?} {did:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn settle(&mut self, what: &str) -> (ChannelOutcome, Vec<String>) {
        let in_sync = |outcome: &ChannelOutcome| {
            outcome.config == ConfigState::InSync && outcome.peers.is_none()
        };
        self.until(what, &[], in_sync).await
    }

    /// Kills an orderer, deletes its volume and starts it again.
    async fn lose_volume(&self, name: &str) {
        self.network.kill(name).await.unwrap();
        let node = self.nodes.iter().find(|node| node.name == name).unwrap();
        std::fs::remove_dir_all(node.folder.join("data")).unwrap();
        self.network.up().await.unwrap();
    }
}

#[track_caller]
fn order(did: &[String], expected: &[&str]) {
    let mut rest = did.iter();
    for text in expected {
        assert!(rest.any(|one| one.contains(text)), "{text:?} is not in its place: {did:#?}");
    }
}

/// Orderers come, lose everything, come back and go; a channel of three grows to four and
/// shrinks again, and goes on ordering throughout.
#[tokio::test(flavor = "multi_thread")]
async fn orderers_come_go_and_lose_their_volumes() {
    let mut case = Case::start(4, 3, &[ORDERING, "org1", "org2"]).await;
    let (begun, did) = case.settle("the channel begins").await;
    assert_eq!(begun.consenters, ["orderer0", "orderer1", "orderer2"]);
    assert_eq!(did.len(), 5, "three orderers and two peers join: {did:#?}");
    assert!(!begun.joined.contains("orderer3"));
    let again = case.once(&[]).await;
    assert_eq!((again.did, again.config), (Vec::new(), ConfigState::InSync));

    case.want_orderers(&["orderer0", "orderer1", "orderer2", "orderer3"]);
    let (grown, did) = case.settle("a fourth orderer").await;
    order(&did, &["Joined orderer3", "Added orderer3 to the consenters"]);
    assert_eq!(grown.consenters.len(), 4);

    case.lose_volume("orderer1").await;
    let (healed, did) = case.settle("an orderer without its volume").await;
    let steps = ["Removed orderer1", "Joined orderer1", "Added orderer1"];
    order(&did, &steps);
    assert!(did.iter().any(|one| one.contains("lost its ledger")), "{did:#?}");
    assert_eq!(healed.consenters.len(), 4);

    case.want_orderers(&["orderer0", "orderer1", "orderer2"]);
    let (shrunk, _) = case.settle("three orderers again").await;
    assert_eq!(shrunk.removable, ["orderer3"]);
    let orderers = case.of(Kind::Orderer);
    let last = orderers.iter().find(|node| node.name == "orderer3").unwrap();
    let id = case.desired.id.clone();
    let listed = channel::is_consenter(&case.access, &orderers, &id, &last.endpoint);
    assert!(!listed.await.unwrap());
    assert!(channel::leave(&case.access, last, &id).await.unwrap());
    assert!(!channel::leave(&case.access, last, &id).await.unwrap());

    // Two of three are no quorum of two once one of them is down.
    case.network.kill("orderer0").await.unwrap();
    case.want_orderers(&["orderer0", "orderer1"]);
    let refused = |outcome: &ChannelOutcome| matches!(&outcome.config, ConfigState::Refused(refused) if refused.reason == "QuorumAtRisk");
    case.until("a removal that costs the quorum", &[], refused).await;
    case.network.up().await.unwrap();
    let (two, _) = case.settle("two orderers").await;
    assert_eq!(two.consenters, ["orderer0", "orderer1"]);
    let leader = two.leader.unwrap();
    assert!(two.observation.leads(&leader) && two.term.unwrap() > 0);
    assert!(two.observation.orderers.values().all(|facts| facts.healthy));
}

/// A channel that is known to have had blocks is not begun a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_every_orderer_has_lost_is_not_begun_anew() {
    let mut case = Case::start(1, 1, &[ORDERING, "org1", "org2"]).await;
    case.settle("the channel begins").await;
    case.desired.batch.max_message_count = 7;
    let (outcome, did) = case.settle("a second block").await;
    order(&did, &["set the batch size"]);
    assert_eq!((outcome.sequence, case.known_height), (Some(1), 2));
    let orderers = case.of(Kind::Orderer);
    assert!(channel::leave(&case.access, &orderers[0], &case.desired.id).await.unwrap());
    let outcome = case.once(&[]).await;
    let ConfigState::Refused(refused) = outcome.config else { panic!("{:?}", outcome.config) };
    assert_eq!(refused.reason, "LedgerLost");
}

/// What those here may change is changed; the rest waits for a signature and takes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_others_have_to_agree_to_waits_for_their_signature() {
    let mut case = Case::start(1, 1, &[ORDERING, "org1"]).await;
    case.settle("the channel begins").await;
    case.desired.batch.max_message_count = 7;
    case.desired.policies.endorsement = Some("ANY Endorsement".to_owned());
    let needs =
        |outcome: &ChannelOutcome| matches!(outcome.config, ConfigState::NeedsSignatures(_));
    let (outcome, did) = case.until("a signature is missing", &[], needs).await;
    order(&did, &["set the batch size"]);
    let ConfigState::NeedsSignatures(needed) = outcome.config else { panic!("not needed") };
    assert_eq!(
        (needed.missing.as_slice(), &needed.problem),
        (["Org2MSP".to_owned()].as_slice(), &None)
    );
    let other = load_actor(&case.network.layout(), "org2", ADMIN, &MspId::new("Org2MSP").unwrap());
    let nonce = weft_crypto::random_bytes().unwrap();
    let signature = sign_update(&needed.update, other.unwrap().signer.as_ref(), nonce).unwrap();
    let given = [SignedUpdate { update: needed.update, signatures: vec![signature] }];
    let in_sync = |outcome: &ChannelOutcome| outcome.config == ConfigState::InSync;
    let (_, did) = case.until("it is signed", &given, in_sync).await;
    order(&did, &["set policy Endorsement"]);
}

/// Certificates that were issued anew are exchanged in the config one after the other; a node
/// that hangs holds nothing up but itself.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_exchanged_and_a_hanging_node_is_left_out() {
    let mut case = Case::start(3, 3, &[ORDERING, "org1", "org2"]).await;
    case.settle("the channel begins").await;
    let certificates = "spec:\n  certificates: {duration: 9000h, renewBefore: 8999h59m59s, caDuration: 99999h}\n  ordering:";
    case.network.apply(&BASIC.replacen("spec:\n  ordering:", certificates, 1)).await.unwrap();
    case.want_orderers(&["orderer0", "orderer1", "orderer2"]);
    let (_, did) = case.settle("renewed certificates").await;
    let exchanged = did.iter().filter(|one| one.contains("Exchanged")).count();
    assert_eq!(exchanged, 3, "{did:#?}");
    let wanted: Vec<(String, [u8; 32])> = (case.nodes.iter())
        .filter(|node| node.kind == Kind::Orderer)
        .zip(&case.desired.orderers)
        .map(|(node, orderer)| {
            let pem = std::str::from_utf8(&orderer.tls_cert).unwrap();
            let wanted = weft_crypto::Certificate::from_pem(pem).unwrap().fingerprint();
            (node.name.clone(), wanted)
        })
        .collect();
    // Running nodes take renewed certificates over when they next look at their files.
    let taken_over = |outcome: &ChannelOutcome| {
        let orderers = &outcome.observation.orderers;
        wanted.iter().all(|(node, wanted)| orderers[node].served_tls == Some(*wanted))
    };
    case.until("the certificates of the config to be served", &[], taken_over).await;

    let process = case.network.state().unwrap().processes["orderer2"];
    let pid = Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    case.desired.batch.max_message_count = 7;
    let changed = |outcome: &ChannelOutcome| {
        outcome.config == ConfigState::InSync && outcome.did.iter().any(|one| one.contains("batch"))
    };
    let (outcome, _) = case.until("a change beside a hanging node", &[], changed).await;
    let facts = &outcome.observation.orderers["orderer2"];
    assert!(facts.channels.is_none() && facts.problem.is_some());
    assert!(outcome.observation.may_stop("orderer0").is_err());
    kill_process(pid, Signal::CONT).unwrap();
    case.settle("it goes on").await;
}

fn asset(version: &str) -> model::Chaincode {
    model::Chaincode {
        name: "asset".to_owned(),
        version: version.to_owned(),
        program: Program::Image("asset-contract".to_owned()),
        env: Vec::new(),
        endorsement: Endorsement::Signature("OR('Org1MSP.peer','Org2MSP.peer')".to_owned()),
        init_required: false,
        collections: Vec::new(),
    }
}

/// A chaincode gets usable, its next version takes its place, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_chaincode_is_installed_approved_committed_and_upgraded() {
    let mut case = Case::start(1, 1, &[ORDERING, "org1", "org2"]).await;
    case.settle("the channel begins").await;
    // The program of the network's own channel serves this one, too: same label, same address.
    let port = case.network.state().unwrap().ports["chaincode/supply.asset"];
    let address = format!("{HOST}:{port}");
    let (orderers, peers) = (case.of(Kind::Orderer), case.of(Kind::Peer));
    let members: Vec<MspId> = case.desired.members.keys().cloned().collect();
    let once = async |chaincode: &model::Chaincode| {
        let package = chaincode::package(chaincode, &address).unwrap();
        let input = ChaincodeInput {
            channel: &case.desired.id,
            chaincode,
            package: &package,
            peers: &peers,
            members: &members,
            orderers: &orderers,
        };
        chaincode::converge(&case.access, &input).await
    };
    let converge_to = async |chaincode: &model::Chaincode| {
        let deadline = Instant::now() + PATIENCE;
        let mut did = Vec::new();
        loop {
            let outcome = once(chaincode).await.unwrap();
            did.extend(outcome.did.iter().cloned());
            if outcome.state == ChaincodeState::Ready {
                return (outcome, did);
            }
            assert!(Instant::now() < deadline, "{:?} {did:#?}", outcome.state);
            sleep(Duration::from_millis(100)).await;
        }
    };
    let converge = async |version: &str| converge_to(&asset(version)).await;
    let (outcome, did) = converge("1.0").await;
    order(&did, &["Approved asset 1.0", "Committed asset 1.0 as sequence 1"]);
    assert_eq!((outcome.sequence, outcome.installed.len()), (Some(1), 2));
    assert!(outcome.approvals.values().all(|yes| *yes));
    let (_, did) = converge("1.0").await;
    assert_eq!(did, Vec::<String>::new());

    let gateway = case.network.gateway_of(0, &case.desired.id).unwrap();
    gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
    assert_eq!(gateway.evaluate(Call::new("asset", "Get", ["k"])).await.unwrap(), "v");

    let (outcome, did) = converge("1.1").await;
    order(
        &did,
        &["Installed asset_1.1", "Approved asset 1.1", "Committed asset 1.1 as sequence 2"],
    );
    assert_eq!((outcome.sequence, outcome.version.as_deref()), (Some(2), Some("1.1")));

    // A collection more is the next definition, which has private values; one less never is.
    // The program that runs is the first version's.
    let collections = vec![collection("deals")];
    let with = model::Chaincode { collections, ..asset("1.0") };
    let (outcome, did) = converge_to(&with).await;
    order(&did, &["Approved asset 1.0", "Committed asset 1.0 as sequence 3"]);
    assert_eq!(outcome.sequence, Some(3));
    assert_eq!(converge_to(&with).await.1, Vec::<String>::new());
    let call = Call::new("asset", "PutPrivate", ["deals", "k"]).with_transient("value", "s3cret");
    gateway.submit(call).await.unwrap();
    let get = Call::new("asset", "GetPrivate", ["deals", "k"]);
    assert_eq!(gateway.evaluate(get).await.unwrap(), "s3cret");
    let error = once(&asset("1.0")).await.unwrap_err().to_string();
    assert!(error.contains("cannot be removed"), "{error}");
}

fn collection(name: &str) -> model::Collection {
    model::Collection {
        name: name.to_owned(),
        members: weft_msp::policy::dsl::parse("OR('Org1MSP.member','Org2MSP.member')").unwrap(),
        required_peers: 1,
        maximum_peers: 1,
        block_to_live: 0,
        member_only_read: true,
        member_only_write: true,
        endorsement: None,
    }
}
