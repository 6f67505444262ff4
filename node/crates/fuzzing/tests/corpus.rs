//! Runs every target over its corpus, and makes the valid messages that corpora begin with.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use weft_config::update;
use weft_fuzzing::{TARGETS, run};
use weft_msp::SigningIdentity;
use weft_package::{Connection, Label, Package};
use weft_protos::common::{Block, Envelope};
use weft_protos::msp::MspConfig;
use weft_testkit::tx;
use weft_testkit::Network;
use weft_types::{ChannelId, Signer};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder(target));
    let listed = listed.unwrap_or_else(|error| panic!("no corpus of {target}: {error}"));
    listed.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_input_of_the_corpora_is_survived() {
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "the corpus of {target} is empty");
        for input in inputs {
            run(target, &fs::read(input).unwrap());
        }
    }
}

/// With `WEFT_UPDATE=1`: a new network, and the messages that its members would send.
#[test]
fn the_fixture_can_be_made_again() {
    let seeds = Seeds::new();
    if std::env::var_os("WEFT_UPDATE").is_none() {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    fs::create_dir_all(&fixtures).unwrap();
    fs::write(fixtures.join("genesis.block"), seeds.genesis.encode_to_vec()).unwrap();
    for (target, name, bytes) in seeds.messages() {
        let folder = folder(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
    }
}

struct Seeds {
    network: Network,
    channel: ChannelId,
    client: SigningIdentity,
    genesis: Block,
}

impl Seeds {
    fn new() -> Self {
        let network = Network::new(2, 3);
        let client = network.org(1).identity("client", weft_msp::NodeRole::Client);
        let genesis = network.genesis("supply");
        Self { network, channel: ChannelId::new("supply").unwrap(), client, genesis }
    }

    fn transaction(&self) -> Envelope {
        let peer = self.network.org(1).identity("peer", weft_msp::NodeRole::Peer);
        let results = Bytes::new();
        tx::endorser_transaction(&self.channel, "asset", results, &self.client, &[&peer]).1
    }

    fn update(&self) -> Envelope {
        let bundle = self.network.bundle("supply");
        let admins = self.network.admins();
        let signers: Vec<&dyn Signer> = admins.iter().map(|admin| *admin as &dyn Signer).collect();
        let mut changed = bundle.config().clone();
        let group = changed.channel_group.as_mut().unwrap();
        group.values.remove("OrdererAddresses");
        group.mod_policy = "/Channel/Orderer/Admins".to_owned();
        tx::config_update(&bundle, &changed, &signers)
    }

    fn messages(&self) -> Vec<(&'static str, &'static str, Vec<u8>)> {
        let transaction = self.transaction();
        let update = self.update();
        let org = self.network.org(1);
        let proposal = tx::proposal(&self.channel, "asset", &[b"CreateAsset", b"1"], &self.client);
        let orderer = &self.network.orderers[0].identity;
        let block = tx::next_block(&self.genesis, 0, &[transaction.clone()], orderer);
        let fabric = org.msp_config();
        let msp = MspConfig { r#type: 0, config: fabric.encode_to_vec().into() };
        let package = Package::build(
            &Label::new("asset").unwrap(),
            &Connection::plain("127.0.0.1:7070"),
        );
        let signed = update::update_of(&update).unwrap();
        vec![
            ("envelope", "transaction", transaction.encode_to_vec()),
            ("envelope", "update", update.encode_to_vec()),
            ("block", "genesis", self.genesis.encode_to_vec()),
            ("block", "transactions", block.encode_to_vec()),
            ("config", "genesis", self.network.config("supply").encode_to_vec()),
            ("config", "bft", bft(&self.network).encode_to_vec()),
            ("config_update", "addresses", signed.config_update.to_vec()),
            ("proposal", "invoke", proposal.signed.encode_to_vec()),
            ("identity", "client", self.client.serialized_identity().to_vec()),
            ("identity", "der", self.client.certificate().der().to_vec()),
            ("identity", "pem", self.client.certificate().pem().into_bytes()),
            ("msp", "org1", msp.encode_to_vec()),
            ("package", "service", package.unwrap().to_vec()),
            ("consensus_step", "empty", vec![0, 0, 1, 0]),
        ]
    }
}

fn bft(network: &Network) -> weft_protos::common::Config {
    let mut network_of_four = Network::new(2, 4);
    network_of_four.orgs.clone_from(&network.orgs);
    weft_config::genesis::config(&network_of_four.bft_profile("supply")).unwrap()
}
