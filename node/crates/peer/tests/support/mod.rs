//! Fixtures that the tests share: a draft of a transaction that can be spoilt in one place, a state
//! in memory, and definitions of chaincodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use weft_config::Bundle;
use weft_ledger::mvcc::Validated;
use weft_ledger::state::{StateEntry, StateError, StateReader, VersionedValue, metadata};
use weft_ledger::{BlockStoreError, Version};
use weft_msp::SigningIdentity;
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::policy::dsl;
use weft_peer::commit::endorsement::{Definitions, RuleBook, Rules, RulesError};
use weft_peer::commit::transaction;
use weft_peer::commit::validate::{KnownIds, validate};
use weft_protos::common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader};
use weft_protos::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvWrite,
    KvWriteHash, KvrwSet,
};
use weft_protos::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeEvent,
    ChaincodeHeaderExtension, ChaincodeId, ChaincodeProposalPayload, Endorsement,
    ProposalResponsePayload, Response, Transaction, TransactionAction,
};
use weft_protos::rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet};
use weft_testkit::Network;
use weft_types::{Signer, Timestamp, TxId, ValidationCode};

pub mod orderer;

pub const CHANNEL: &str = "supply";
pub const CHAINCODE: &str = "asset";

/// Two organizations, a channel, and a chaincode that both must endorse.
pub struct World {
    pub network: Network,
    pub bundle: Bundle,
    pub definitions: Arc<FixedDefinitions>,
    pub state: MapState,
    pub known: KnownSet,
}

impl World {
    pub fn new() -> Self {
        let network = Network::new(2, 1);
        let bundle = network.bundle(CHANNEL);
        let definitions =
            FixedDefinitions::default().with(CHAINCODE, "AND('Org1MSP.peer', 'Org2MSP.peer')");
        Self {
            network,
            bundle,
            definitions: Arc::new(definitions),
            state: MapState::default(),
            known: KnownSet::default(),
        }
    }

    pub fn client(&self) -> &SigningIdentity {
        &self.network.org(1).client
    }

    pub fn peer(&self, org: usize) -> &SigningIdentity {
        &self.network.org(org).peer
    }

    /// A transaction that is valid: it writes one key and both organizations endorsed it.
    pub fn draft(&self) -> Draft {
        let mut draft = Draft::new(self.client().clone());
        draft.endorsers = vec![self.peer(1).clone(), self.peer(2).clone()];
        draft.set.write(CHAINCODE, "key", "value");
        draft
    }

    pub fn validate(&self, block: u64, raw: &[Bytes]) -> Validated {
        let checked: Vec<_> =
            raw.iter().map(|raw| transaction::check(&self.bundle, raw.clone())).collect();
        let definitions: Arc<dyn Definitions> = self.definitions.clone();
        let mut book = RuleBook::new(definitions);
        validate(block, &self.bundle, &checked, &mut book, &self.state, &self.known).unwrap()
    }

    pub fn codes(&self, raw: &[Bytes]) -> Vec<ValidationCode> {
        self.validate(9, raw).codes
    }

    pub fn code(&self, raw: Bytes) -> ValidationCode {
        self.codes(&[raw])[0]
    }
}

/// Everything a transaction is made of, before it is signed.
#[derive(Clone)]
pub struct Draft {
    pub creator: SigningIdentity,
    pub endorsers: Vec<SigningIdentity>,
    pub channel_header: ChannelHeader,
    pub nonce: Bytes,
    pub tx_id: Option<String>,
    pub set: SetDraft,
    pub results: Option<Bytes>,
    pub events: Bytes,
    pub executed: Option<ChaincodeId>,
    pub extension: Option<Bytes>,
    pub actions: usize,
    pub proposal_hash: Option<Bytes>,
    pub action_header: Option<Bytes>,
    pub response_extension: Option<Bytes>,
    pub data: Option<Bytes>,
}

impl Draft {
    pub fn new(creator: SigningIdentity) -> Self {
        let now = Timestamp::from_seconds(1_700_000_000);
        let invoked = ChaincodeId { name: CHAINCODE.to_owned(), ..Default::default() };
        let extension = ChaincodeHeaderExtension { chaincode_id: Some(invoked.clone()) };
        Self {
            creator,
            endorsers: Vec::new(),
            channel_header: ChannelHeader {
                r#type: HeaderType::EndorserTransaction.into(),
                timestamp: Some(now.into()),
                channel_id: CHANNEL.to_owned(),
                extension: extension.encode_to_vec().into(),
                ..Default::default()
            },
            nonce: Bytes::copy_from_slice(&weft_testkit::tx::nonce()),
            tx_id: None,
            set: SetDraft::default(),
            results: None,
            events: Bytes::new(),
            executed: Some(ChaincodeId { version: "1.0".to_owned(), ..invoked }),
            extension: None,
            actions: 1,
            proposal_hash: None,
            action_header: None,
            response_extension: None,
            data: None,
        }
    }

    pub fn id(&self) -> String {
        TxId::compute(&self.nonce, &self.creator.serialized_identity()).to_string()
    }

    pub fn event(&mut self, chaincode: &str) {
        let event = ChaincodeEvent { chaincode_id: chaincode.to_owned(), ..Default::default() };
        self.events = event.encode_to_vec().into();
    }

    pub fn invoke(&mut self, chaincode: &str) {
        let id = ChaincodeId { name: chaincode.to_owned(), ..Default::default() };
        let extension = ChaincodeHeaderExtension { chaincode_id: Some(id.clone()) };
        self.channel_header.extension = extension.encode_to_vec().into();
        self.executed = Some(ChaincodeId { version: "1.0".to_owned(), ..id });
    }

    pub fn payload(&self) -> Payload {
        let mut channel_header = self.channel_header.clone();
        channel_header.tx_id = self.tx_id.clone().unwrap_or_else(|| self.id());
        if let Some(extension) = &self.extension {
            channel_header.extension = extension.clone();
        }
        let channel_header: Bytes = channel_header.encode_to_vec().into();
        let signature_header: Bytes = SignatureHeader {
            creator: self.creator.serialized_identity(),
            nonce: self.nonce.clone(),
        }
        .encode_to_vec()
        .into();
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| self.transaction(&channel_header, &signature_header));
        Payload { header: Some(Header { channel_header, signature_header }), data }
    }

    fn transaction(&self, channel_header: &Bytes, signature_header: &Bytes) -> Bytes {
        let proposal: Bytes =
            ChaincodeProposalPayload { input: "input".into(), ..Default::default() }
                .encode_to_vec()
                .into();
        let header = self.action_header.clone().unwrap_or_else(|| signature_header.clone());
        let hash = weft_crypto::sha256_parts([channel_header, &header, &proposal]);
        let action = ChaincodeAction {
            results: self.results.clone().unwrap_or_else(|| self.set.encode()),
            events: self.events.clone(),
            response: Some(Response { status: 200, ..Default::default() }),
            chaincode_id: self.executed.clone(),
        };
        let extension =
            self.response_extension.clone().unwrap_or_else(|| action.encode_to_vec().into());
        let response: Bytes = ProposalResponsePayload {
            proposal_hash: self.proposal_hash.clone().unwrap_or(Bytes::copy_from_slice(&hash)),
            extension,
        }
        .encode_to_vec()
        .into();
        let endorse = |endorser: &SigningIdentity| {
            let identity = endorser.serialized_identity();
            let signed = [response.as_ref(), identity.as_ref()].concat();
            Endorsement { signature: endorser.sign(&signed).unwrap(), endorser: identity }
        };
        let payload = ChaincodeActionPayload {
            chaincode_proposal_payload: proposal,
            action: Some(ChaincodeEndorsedAction {
                endorsements: self.endorsers.iter().map(endorse).collect(),
                proposal_response_payload: response.clone(),
            }),
        };
        let action = TransactionAction { header, payload: payload.encode_to_vec().into() };
        Transaction { actions: vec![action; self.actions] }.encode_to_vec().into()
    }

    pub fn envelope(&self) -> Envelope {
        self.sign(self.payload().encode_to_vec().into())
    }

    pub fn sign(&self, payload: Bytes) -> Envelope {
        Envelope { signature: self.creator.sign(&payload).unwrap(), payload }
    }

    pub fn raw(&self) -> Bytes {
        self.envelope().encode_to_vec().into()
    }
}

/// A read-write set to be.
#[derive(Clone, Default)]
pub struct SetDraft {
    pub namespaces: Vec<(String, KvrwSet, Vec<CollectionDraft>)>,
}

#[derive(Clone, Default)]
pub struct CollectionDraft {
    pub name: String,
    pub private_hash: Bytes,
    pub hashed: HashedRwSet,
}

impl SetDraft {
    pub fn namespace(&mut self, name: &str) -> &mut (String, KvrwSet, Vec<CollectionDraft>) {
        if let Some(at) = self.namespaces.iter().position(|(known, ..)| known == name) {
            return &mut self.namespaces[at];
        }
        self.namespaces.push((name.to_owned(), KvrwSet::default(), Vec::new()));
        self.namespaces.last_mut().unwrap()
    }

    pub fn read(&mut self, namespace: &str, key: &str, version: Option<(u64, u64)>) {
        let version = version.map(|(block, tx)| Version::new(block, tx).to_proto());
        self.namespace(namespace).1.reads.push(KvRead { key: key.to_owned(), version });
    }

    pub fn write(&mut self, namespace: &str, key: &str, value: &str) {
        let write =
            KvWrite { key: key.to_owned(), value: value.to_owned().into(), is_delete: false };
        self.namespace(namespace).1.writes.push(write);
    }

    pub fn write_policy(&mut self, namespace: &str, key: &str, policy: &str) {
        let entries = vec![policy_entry(policy)];
        let write = KvMetadataWrite { key: key.to_owned(), entries };
        self.namespace(namespace).1.metadata_writes.push(write);
    }

    pub fn collection(&mut self, namespace: &str, name: &str) -> &mut HashedRwSet {
        let collections = &mut self.namespace(namespace).2;
        if let Some(at) = collections.iter().position(|known| known.name == name) {
            return &mut collections[at].hashed;
        }
        collections.push(CollectionDraft { name: name.to_owned(), ..Default::default() });
        &mut collections.last_mut().unwrap().hashed
    }

    pub fn write_hash(&mut self, namespace: &str, collection: &str, key: &str) {
        let write = KvWriteHash {
            key_hash: Bytes::copy_from_slice(&weft_crypto::sha256(key.as_bytes())),
            value_hash: Bytes::copy_from_slice(&weft_crypto::sha256(b"private")),
            ..Default::default()
        };
        self.collection(namespace, collection).hashed_writes.push(write);
    }

    pub fn write_hash_policy(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        policy: &str,
    ) {
        let write = KvMetadataWriteHash {
            key_hash: Bytes::copy_from_slice(&weft_crypto::sha256(key.as_bytes())),
            entries: vec![policy_entry(policy)],
        };
        self.collection(namespace, collection).metadata_writes.push(write);
    }

    pub fn encode(&self) -> Bytes {
        let ns_rwset = self.namespaces.iter().map(|(namespace, public, collections)| {
            let collection_hashed_rwset = collections
                .iter()
                .map(|collection| CollectionHashedReadWriteSet {
                    collection_name: collection.name.clone(),
                    hashed_rwset: collection.hashed.encode_to_vec().into(),
                    pvt_rwset_hash: collection.private_hash.clone(),
                })
                .collect();
            NsReadWriteSet {
                namespace: namespace.clone(),
                rwset: public.encode_to_vec().into(),
                collection_hashed_rwset,
            }
        });
        TxReadWriteSet { ns_rwset: ns_rwset.collect(), ..Default::default() }.encode_to_vec().into()
    }
}

pub fn policy_entry(policy: &str) -> KvMetadataEntry {
    let envelope = dsl::parse(policy).unwrap();
    KvMetadataEntry {
        name: metadata::VALIDATION_PARAMETER.to_owned(),
        value: envelope.encode_to_vec().into(),
    }
}

pub fn application_policy(policy: &str) -> Bytes {
    match policy.starts_with('/') {
        true => ApplicationPolicy::ChannelReference(policy.to_owned()).encode(),
        false => ApplicationPolicy::Signature(dsl::parse(policy).unwrap()).encode(),
    }
}

/// Definitions that the test sets down.
#[derive(Clone, Default)]
pub struct FixedDefinitions(pub BTreeMap<String, Rules>);

impl FixedDefinitions {
    pub fn with(mut self, name: &str, policy: &str) -> Self {
        let rules = Rules { policy: application_policy(policy), ..Default::default() };
        self.0.insert(name.to_owned(), rules);
        self
    }

    pub fn with_collection(mut self, name: &str, collection: &str, policy: Option<&str>) -> Self {
        let rules = self.0.get_mut(name).unwrap();
        rules.collections.insert(collection.to_owned(), policy.map(application_policy));
        self
    }
}

impl Definitions for FixedDefinitions {
    fn rules(&self, _: &dyn StateReader, name: &str) -> Result<Option<Rules>, RulesError> {
        Ok(self.0.get(name).cloned())
    }
}

/// State in maps.
#[derive(Clone, Default)]
pub struct MapState {
    pub public: BTreeMap<(String, String), VersionedValue>,
    pub hashed: BTreeMap<(String, String, Vec<u8>), VersionedValue>,
}

impl MapState {
    pub fn put(&mut self, namespace: &str, key: &str, version: (u64, u64), policy: Option<&str>) {
        let value = versioned(version, policy);
        self.public.insert((namespace.to_owned(), key.to_owned()), value);
    }

    pub fn put_hash(&mut self, namespace: &str, collection: &str, key: &str, policy: Option<&str>) {
        let hash = weft_crypto::sha256(key.as_bytes()).to_vec();
        let key = (namespace.to_owned(), collection.to_owned(), hash);
        self.hashed.insert(key, versioned((1, 0), policy));
    }
}

fn versioned((block, tx): (u64, u64), policy: Option<&str>) -> VersionedValue {
    let entries: Vec<_> = policy.map(policy_entry).into_iter().collect();
    VersionedValue {
        value: "before".into(),
        metadata: metadata::encode(&entries),
        version: Version::new(block, tx),
    }
}

impl StateReader for MapState {
    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError> {
        Ok(self.public.get(&(namespace.to_owned(), key.to_owned())).cloned())
    }

    fn get_hash(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        let key = (namespace.to_owned(), collection.to_owned(), key_hash.to_vec());
        Ok(self.hashed.get(&key).cloned())
    }

    fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        let inside = |key: &str| key >= start && (end.is_empty() || key < end);
        let found = self.public.iter().filter(|((ns, key), _)| ns == namespace && inside(key));
        Ok(found.map(|((_, key), value)| (key.clone(), value.clone())).take(limit).collect())
    }
}

/// Transaction ids that earlier blocks have.
#[derive(Clone, Default)]
pub struct KnownSet(pub BTreeSet<String>);

impl KnownIds for KnownSet {
    fn known(&self, ids: &[&str]) -> Result<Vec<bool>, BlockStoreError> {
        Ok(ids.iter().map(|id| self.0.contains(*id)).collect())
    }
}
