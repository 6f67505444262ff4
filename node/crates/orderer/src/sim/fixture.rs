//! The organizations and orderers of all runs of a process, and who signs for them. All lengths
//! are the same in every process, so that a run depends on its seed alone.

use std::sync::LazyLock;

use bytes::Bytes;
use weft_config::block::bundle_from_block;
use weft_config::{BatchSize, Bundle, Consensus, Endpoint, RaftConfig, RaftOptions, edit, genesis};
use weft_consensus::sim::Rng;
use weft_msp::SigningIdentity;
use weft_protos::common::{Block, Config, Envelope, HeaderType};
use weft_settings::OrdererSettings;
use weft_testkit::clock::NOW;
use weft_testkit::network::{Network, OrdererNode};
use weft_testkit::{Org, tx};
use weft_types::envelope::EnvelopeSpec;
use weft_types::{ChannelId, Nonce, SignError, Signer, Timestamp};

/// Orderers there are; some of them are consenters at first.
pub const HOSTS: u64 = 6;
/// The channel's election timeout, milliseconds.
pub const ELECTION_MS: u64 = 500;
/// Draws among which the longest certificate is surely found.
const DRAWS: usize = 100;

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let orderer_org = org("OrdererMSP");
    let orderers = (0..HOSTS).map(|number| orderer(&orderer_org, number)).collect();
    Network { orderers, orgs: vec![org("Org1MSP")], orderer_org }
});

/// The network.
pub fn network() -> &'static Network {
    &NETWORK
}

/// Of many, the first that is as long as the longest.
fn longest<T>(make: impl Fn() -> T, length: impl Fn(&T) -> usize) -> T {
    let mut made: Vec<T> = (0..DRAWS).map(|_| make()).collect();
    let longest = made.iter().map(&length).max().unwrap_or_default();
    let place = made.iter().position(|one| length(one) == longest).unwrap_or_default();
    made.swap_remove(place)
}

fn org(name: &str) -> Org {
    let mut org = Org::new(name);
    let authority = |name: String| {
        longest(|| weft_testkit::org::authority(&name), |ca| ca.certificate().der().len())
    };
    org.ca = authority(format!("ca.{name}"));
    org.tls_ca = authority(format!("tlsca.{name}"));
    let of = |role: weft_msp::NodeRole| {
        let make = || org.identity(&format!("{role}0"), role);
        longest(make, |identity| identity.certificate().der().len())
    };
    let (admin, client) = (of(weft_msp::NodeRole::Admin), of(weft_msp::NodeRole::Client));
    (org.admin, org.client) = (admin, client);
    org
}

fn orderer(org: &Org, number: u64) -> OrdererNode {
    let number = u16::try_from(number).unwrap_or_default();
    let length = |node: &OrdererNode| {
        node.identity.certificate().der().len() * 10_000 + node.tls.certificate.der().len()
    };
    let identity = longest(|| OrdererNode::new(org, number), |node| length(node) / 10_000);
    let mut node = longest(|| OrdererNode::new(org, number), |node| length(node) % 10_000);
    node.identity = identity.identity;
    node
}

/// Signs so that all signatures are of one length.
pub struct Steady<'a>(pub &'a SigningIdentity);

impl Signer for Steady<'_> {
    fn serialized_identity(&self) -> Bytes {
        self.0.serialized_identity()
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        /// The DER of two integers of 32 bytes, one of them with its sign in a byte of its own.
        const LENGTH: usize = 71;
        loop {
            let signature = self.0.sign(message)?;
            if signature.len() == LENGTH {
                return Ok(signature);
            }
        }
    }
}

/// The channel of all runs.
pub fn channel() -> ChannelId {
    ChannelId::new("supply").expect("a valid channel id")
}

/// The wall clock at a virtual time.
pub fn wall(at: u64) -> Timestamp {
    NOW.saturating_add(std::time::Duration::from_millis(at))
}

/// A nonce.
pub fn nonce(rng: &mut Rng) -> Nonce {
    let mut nonce = Nonce::default();
    for chunk in nonce.chunks_mut(8) {
        let drawn = rng.draw().to_le_bytes();
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
    nonce
}

/// The genesis block of a channel with so many consenters.
pub fn genesis_block(consenters: usize) -> Block {
    let network = network();
    let mut profile = network.profile(channel().as_str());
    let members = network.orderers.iter().take(consenters).map(OrdererNode::consenter).collect();
    let options = RaftOptions {
        tick_interval: std::time::Duration::from_millis(ELECTION_MS / 10),
        snapshot_interval_size: 30_000,
        ..RaftOptions::default()
    };
    profile.orderer.consensus = Consensus::Raft(RaftConfig { consenters: members, options });
    profile.orderer.batch_size = BatchSize { max_message_count: 5, ..BatchSize::default() };
    genesis::block(&profile).expect("the profile is valid")
}

/// The bundle of a block that is trusted.
pub fn bundle(block: &Block) -> Bundle {
    bundle_from_block(block).expect("a config block")
}

/// The settings of a node.
pub fn settings(node: &OrdererNode) -> OrdererSettings {
    let mut settings = OrdererSettings {
        external_address: node.endpoint.to_string(),
        ..OrdererSettings::default()
    };
    let replication = &mut settings.cluster.replication;
    replication.pull_timeout = std::time::Duration::from_secs(1);
    replication.retry_interval = std::time::Duration::from_millis(200);
    replication.refresh_interval = std::time::Duration::from_secs(2);
    settings
}

/// A client's envelope that differs from all others.
pub fn envelope(number: u64, padding: usize, rng: &mut Rng) -> Envelope {
    let spec = EnvelopeSpec {
        header_type: HeaderType::EndorserTransaction,
        channel_id: Some(channel()),
        data: format!("tx {number:08} {}", "x".repeat(padding)).into(),
        timestamp: NOW,
        nonce: nonce(rng),
        tls_cert_hash: Bytes::new(),
    };
    spec.sign(&Steady(&network().org(1).client)).expect("an envelope can be signed")
}

/// A config update by all administrators.
pub fn update(bundle: &Bundle, change: impl FnOnce(&mut Config)) -> Envelope {
    let mut changed = bundle.config().clone();
    change(&mut changed);
    let admins: Vec<Steady<'_>> = network().admins().into_iter().map(Steady).collect();
    let signers: Vec<&dyn Signer> = admins.iter().map(|admin| admin as &dyn Signer).collect();
    tx::config_update(bundle, &changed, &signers)
}

/// Adds or removes a consenter.
pub fn change_consenter(config: &mut Config, node: &OrdererNode, add: bool) {
    let endpoint: &Endpoint = &node.endpoint;
    let changed = match add {
        true => edit::add_consenter(config, &node.consenter()),
        false => edit::remove_consenter(config, endpoint),
    };
    changed.expect("a change that fits");
}
