//! Private data between peers, over real streams.

mod commit;
mod fake;
pub mod hostile;
mod impostor;
mod pull;
mod push;
mod renewal;

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::kv::column::{PRIVATE_DATA, TRANSIENT};
use weft_ledger::kv::{Batch, Direction, Durability, KeyRange};
use weft_ledger::private::{WritesKey, WritesProof};
use weft_msp::policy::dsl;
use weft_package::Connection;
use weft_peer::commit::private;
use weft_peer::private::Collection;
use weft_peer::private::exchange::{Digest, Push, Wanted};
use weft_protos::kvrwset::{KvWrite, KvrwSet};
use weft_protos::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, CommitChaincodeDefinitionArgs,
};
use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_protos::peer::{
    CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
};
use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use weft_settings::PrivateData;
use weft_testkit::tx;
use weft_types::{MspId, Signer as _, TxId, ValidationCode};

use crate::node::{Node, Setup};
use crate::world::{Draft, TestPeer, World, propose};

/// The chaincode that writes.
pub const CHAINCODE: &str = "asset";

/// An organization's implicit collection, which needs no definition.
pub fn implicit(org: usize) -> Collection {
    let org = format!("Org{org}MSP");
    Collection::implicit(&format!("_implicit_org_{org}"), &MspId::new(&org).unwrap())
}

/// A collection that peers have to find in a definition.
pub fn shared(name: &str, orgs: &[usize]) -> Collection {
    let members = orgs.iter().map(|org| format!("'Org{org}MSP.member'")).collect::<Vec<_>>();
    let policy = dsl::parse(&format!("OR({})", members.join(", "))).unwrap();
    Collection { name: name.to_owned(), policy, ..implicit(1) }
}

pub fn asking(collection: Collection, required: usize, maximum: usize) -> Collection {
    Collection { required_peers: required, maximum_peers: maximum, ..collection }
}

/// Private writes with one value.
pub fn writes(value: impl AsRef<[u8]>) -> Bytes {
    let value = Bytes::copy_from_slice(value.as_ref());
    let write = KvWrite { key: "key".to_owned(), value, ..KvWrite::default() };
    KvrwSet { writes: vec![write], ..KvrwSet::default() }.encode_to_vec().into()
}

/// A list with one value.
pub fn only(writes: &Bytes) -> Vec<Bytes> {
    vec![writes.clone()]
}

pub fn new_tx() -> TxId {
    TxId::compute(&tx::nonce(), b"creator")
}

pub fn push(collection: Collection, value: impl AsRef<[u8]>) -> Push {
    let (tx_id, namespace) = (new_tx(), CHAINCODE.to_owned());
    Push { tx_id, namespace, collection, height: 1, writes: writes(value) }
}

/// What is asked for when `push` is missing in block 7, which `endorsers` endorsed.
pub fn wanted(push: &Push, index: u32, endorsers: &[&Node]) -> Wanted {
    let digest = Digest {
        block: 7,
        index,
        tx_id: push.tx_id.to_string(),
        namespace: push.namespace.clone(),
        collection: push.collection.name.clone(),
    };
    let proof = WritesProof::new(weft_crypto::sha256(&push.writes).to_vec().into());
    let endorsers = endorsers.iter().map(|node| node.identity.serialized_identity()).collect();
    Wanted { digest, collection: push.collection.clone(), proof, endorsers }
}

/// Settings that let tests wait shortly for who is not there.
pub fn quick() -> Setup {
    let private_data = PrivateData { push_timeout: Duration::from_secs(2), ..Default::default() };
    Setup { private_data, ..Setup::default() }
}

pub async fn start(world: &World, org: usize, name: &str, known: &[&Node]) -> Node {
    Node::start_on(world, org, name, known, quick()).await
}

/// Waits until all know each other.
pub async fn meet(nodes: &[&Node]) {
    for node in nodes {
        node.sees(nodes.len()).await;
    }
}

impl Node {
    /// The writes of a push that wait for its commit here.
    pub fn held(&self, push: &Push) -> Vec<Bytes> {
        let channel = self.peer.channel();
        let (tx_id, name) = (push.tx_id.to_string(), &push.collection.name);
        let slot = private::Slot { tx_id: &tx_id, namespace: &push.namespace, collection: name };
        private::held(channel.ledger(), slot, usize::MAX).unwrap()
    }

    /// Whether exactly this waits for its commit here.
    pub fn has(&self, push: &Push) -> bool {
        self.held(push) == only(&push.writes)
    }

    /// Records in the transient store.
    pub fn transient(&self) -> usize {
        let channel = self.peer.channel();
        let kv = channel.ledger().kv();
        kv.scan(TRANSIENT, &KeyRange::all(), Direction::Forward, usize::MAX).unwrap().len()
    }

    /// Keeps what an endorser has.
    pub fn keep(&self, push: &Push) {
        let collection = CollectionPvtReadWriteSet {
            collection_name: push.collection.name.clone(),
            rwset: push.writes.clone(),
        };
        let namespace = NsPvtReadWriteSet {
            namespace: push.namespace.clone(),
            collection_pvt_rwset: vec![collection],
        };
        let values = TxPvtReadWriteSet { ns_pvt_rwset: vec![namespace], ..Default::default() };
        let channel = self.peer.channel();
        private::keep(channel.ledger(), &push.tx_id.to_string(), &values).unwrap();
    }

    /// Stores writes as those of a committed transaction.
    pub fn store(&self, wanted: &Wanted, writes: &Bytes) {
        let digest = &wanted.digest;
        let key = WritesKey {
            namespace: &digest.namespace,
            collection: &digest.collection,
            block: digest.block,
            place: digest.index,
        };
        let mut batch = Batch::new();
        batch.put(PRIVATE_DATA, key.encode(), writes.clone());
        let channel = self.peer.channel();
        channel.ledger().kv().write(batch, Durability::Buffered).unwrap();
    }
}

/// Defines the chaincode with collections, on all peers.
pub async fn define(world: &World, peers: &[&TestPeer], collections: &[Collection]) {
    let package = package(collections);
    let draft = Draft::new(CHAINCODE);
    let connection = Connection::plain("127.0.0.1:1");
    let mut package_id = String::new();
    for peer in peers {
        package_id = peer.install(world.admin(peer.org), CHAINCODE, &connection).await;
    }
    let call = |admin, function: &str, args: Vec<u8>| {
        propose(admin, "_lifecycle", &[function.as_bytes(), &args])
    };
    for org in [1, 2] {
        let own: Vec<_> = peers.iter().copied().filter(|peer| peer.org == org).collect();
        let args = ApproveChaincodeDefinitionForMyOrgArgs {
            collections: Some(package.clone()),
            ..draft.approve_args(&package_id)
        };
        let built =
            call(world.admin(org), "ApproveChaincodeDefinitionForMyOrg", args.encode_to_vec());
        let code = world.transact(world.admin(org), &built, &own[..1], peers).await;
        assert_eq!(code, ValidationCode::Valid);
    }
    let args = CommitChaincodeDefinitionArgs { collections: Some(package), ..draft.commit_args() };
    let built = call(world.admin(1), "CommitChaincodeDefinition", args.encode_to_vec());
    let endorsers: Vec<_> =
        [1, 2].into_iter().map(|org| *peers.iter().find(|peer| peer.org == org).unwrap()).collect();
    let code = world.transact(world.admin(1), &built, &endorsers, peers).await;
    assert_eq!(code, ValidationCode::Valid);
}

fn package(collections: &[Collection]) -> CollectionConfigPackage {
    let config = collections.iter().map(|collection| {
        let policy = collection.policy.clone();
        let config = StaticCollectionConfig {
            name: collection.name.clone(),
            member_orgs_policy: Some(CollectionPolicyConfig {
                payload: Some(Members::SignaturePolicy(policy)),
            }),
            required_peer_count: collection.required_peers.try_into().unwrap(),
            maximum_peer_count: collection.maximum_peers.try_into().unwrap(),
            ..StaticCollectionConfig::default()
        };
        CollectionConfig { payload: Some(Payload::StaticCollectionConfig(config)) }
    });
    CollectionConfigPackage { config: config.collect() }
}
