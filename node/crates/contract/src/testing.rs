//! Contracts under test: a ledger in memory that runs a contract's transactions, without a peer.
//!
//! ```
//! # use weft_contract::{Context, ContractError, Functions, testing::MockLedger};
//! # async fn put(ctx: Context, key: String, value: String) -> Result<(), ContractError> {
//! #     ctx.put_state(&key, value).await
//! # }
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let ledger = MockLedger::new("asset", Functions::new().on("Put", put));
//! let receipt = ledger.submit("Put", &["a", "1"]).await.unwrap();
//! assert_eq!(ledger.state("a").unwrap(), "1");
//! assert!(receipt.event.is_none());
//! ledger.submit("Put", &["a"]).await.unwrap_err();
//! # });
//! ```
//!
//! As on a real ledger, a transaction reads what earlier ones have committed, and not what it
//! has written itself; a transaction that fails leaves nothing behind.
//!
//! Private data needs a collection first, [`MockLedger::add_collection`]; implicit collections of
//! organizations are there without. Who may read and write is told by the transaction's client
//! ([`MockLedger::set_creator`]), and the peer gives values of collections of its organization
//! only ([`MockLedger::set_peer`]), but tells everybody their hashes:
//!
//! ```
//! # use weft_contract::testing::{MockCollection, MockLedger};
//! # use weft_contract::{Bytes, Context, ContractError, Functions};
//! # async fn bid(ctx: Context, item: String) -> Result<(), ContractError> {
//! #     let price = ctx.transient()?.get("price").cloned().unwrap_or_default();
//! #     ctx.put_private("bids", &item, price).await
//! # }
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let ledger = MockLedger::new("auction", Functions::new().on("Bid", bid));
//! ledger.add_collection(MockCollection::new("bids", ["Org1MSP"]).member_only_write());
//! ledger.set_transient([("price".to_owned(), Bytes::from_static(b"100"))].into());
//! ledger.submit("Bid", &["vase"]).await.unwrap();
//! assert_eq!(ledger.private("bids", "vase").unwrap(), "100");
//! ledger.set_creator("Org2MSP", "");
//! ledger.submit("Bid", &["vase"]).await.unwrap_err();
//! # });
//! ```

mod collection;
mod state;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    ChaincodeInput, ChaincodeMessage, ChaincodeProposalPayload, Proposal, SignedProposal,
};
use weft_protos::{common, msp};

use self::state::{Name, State, Write};
use self::transaction::{Pending, Transaction};
use crate::{Context, Contract, ContractError, session};

pub use self::collection::MockCollection;

/// Who proposes, when, and with which transient data.
#[derive(Debug, Clone)]
struct Surroundings {
    channel: String,
    msp_id: String,
    certificate: Bytes,
    /// The organization of the peer.
    peer: String,
    seconds: i64,
    transient: BTreeMap<String, Bytes>,
    transactions: u64,
}

/// A ledger in memory with one or more contracts.
#[derive(Clone)]
pub struct MockLedger {
    name: String,
    contracts: Arc<Mutex<BTreeMap<String, Arc<dyn Contract>>>>,
    /// By contract and name.
    collections: Arc<Mutex<BTreeMap<(String, String), MockCollection>>>,
    state: Arc<Mutex<State>>,
    surroundings: Arc<Mutex<Surroundings>>,
}

/// What a transaction has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub tx_id: String,
    /// The response's payload.
    pub payload: Bytes,
    /// The event it has set: name and payload.
    pub event: Option<(String, Bytes)>,
    /// Its writes of the contract's own keys, by key; `None` deletes.
    pub writes: BTreeMap<String, Option<Bytes>>,
    /// Its writes of the contract's own private keys, by collection and key; `None` deletes.
    pub private_writes: BTreeMap<(String, String), Option<Bytes>>,
}

impl Receipt {
    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl MockLedger {
    /// An empty ledger, of channel `mockchannel`, with a contract of this name. Transactions come
    /// from `Org1MSP`, one second apart, and run at a peer of `Org1MSP`.
    pub fn new(name: impl Into<String>, contract: impl Contract) -> Self {
        let surroundings = Surroundings {
            channel: "mockchannel".to_owned(),
            msp_id: "Org1MSP".to_owned(),
            certificate: Bytes::new(),
            peer: "Org1MSP".to_owned(),
            seconds: 1_700_000_000,
            transient: BTreeMap::new(),
            transactions: 0,
        };
        let ledger = Self {
            name: name.into(),
            contracts: Arc::default(),
            collections: Arc::default(),
            state: Arc::default(),
            surroundings: Arc::new(Mutex::new(surroundings)),
        };
        let name = ledger.name.clone();
        ledger.add_contract(name, contract);
        ledger
    }

    /// Adds a contract that others can call, or that [`of`](Self::of) reaches.
    pub fn add_contract(&self, name: impl Into<String>, contract: impl Contract) {
        self.contracts.lock().insert(name.into(), Arc::new(contract));
    }

    /// The same ledger, with transactions of another contract on it.
    #[must_use]
    pub fn of(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// Sets who proposes from now on. The certificate, PEM, may be empty when the contract does
    /// not look at it.
    pub fn set_creator(&self, msp_id: &str, certificate_pem: impl Into<Bytes>) {
        let mut surroundings = self.surroundings.lock();
        msp_id.clone_into(&mut surroundings.msp_id);
        surroundings.certificate = certificate_pem.into();
    }

    /// Adds a collection of private data to the contract, in place of one of the same name.
    pub fn add_collection(&self, collection: MockCollection) {
        let key = (self.name.clone(), collection.name.clone());
        self.collections.lock().insert(key, collection);
    }

    /// Sets the organization of the peer that runs transactions from now on: it gives values of
    /// collections that this organization is a member of.
    pub fn set_peer(&self, msp_id: &str) {
        msp_id.clone_into(&mut self.surroundings.lock().peer);
    }

    /// Sets the time of the next transaction, in seconds since the beginning of 1970.
    pub fn set_time(&self, seconds: i64) {
        self.surroundings.lock().seconds = seconds;
    }

    /// Sets the transient data that comes with each transaction from now on.
    pub fn set_transient(&self, transient: BTreeMap<String, Bytes>) {
        self.surroundings.lock().transient = transient;
    }

    /// The committed value of a key of the contract.
    #[must_use]
    pub fn state(&self, key: &str) -> Option<Bytes> {
        self.private("", key)
    }

    /// The committed value of a private key of the contract, whoever its members are.
    #[must_use]
    pub fn private(&self, collection: &str, key: &str) -> Option<Bytes> {
        self.state.lock().get(&Name::new(&self.name, collection, key))
    }

    /// Sets a key of the contract, as an earlier transaction would have.
    pub fn set_state(&self, key: &str, value: impl Into<Bytes>) {
        self.set_private("", key, value);
    }

    /// Sets a private key of the contract, as an earlier transaction would have.
    pub fn set_private(&self, collection: &str, key: &str, value: impl Into<Bytes>) {
        let write = Write::Value(Some(value.into()));
        let name = Name::new(&self.name, collection, key);
        let tx_id = self.next_id();
        let seconds = self.surroundings.lock().seconds;
        self.state.lock().commit(&tx_id, seconds, BTreeMap::from([(name, vec![write])]));
    }

    fn collection(&self, namespace: &str, name: &str) -> Option<MockCollection> {
        let key = (namespace.to_owned(), name.to_owned());
        let defined = self.collections.lock().get(&key).cloned();
        defined.or_else(|| MockCollection::implicit(name))
    }

    fn peer(&self) -> String {
        self.surroundings.lock().peer.clone()
    }

    /// Runs a transaction and commits it.
    ///
    /// # Errors
    /// Fails where the contract refuses; nothing is committed then.
    pub async fn submit(&self, function: &str, args: &[&str]) -> Result<Receipt, ContractError> {
        self.run(function, text_args(args), Type::Transaction, true).await
    }

    /// As [`submit`](Self::submit), with any bytes as arguments.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_bytes(
        &self,
        function: &str,
        args: Vec<Bytes>,
    ) -> Result<Receipt, ContractError> {
        self.run(function, args, Type::Transaction, true).await
    }

    /// Runs the contract's initialization and commits it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn init(&self, function: &str, args: &[&str]) -> Result<Receipt, ContractError> {
        self.run(function, text_args(args), Type::Init, true).await
    }

    /// Runs a transaction and drops its writes.
    ///
    /// # Errors
    /// Fails where the contract refuses.
    pub async fn evaluate(&self, function: &str, args: &[&str]) -> Result<Receipt, ContractError> {
        self.run(function, text_args(args), Type::Transaction, false).await
    }

    async fn run(
        &self,
        function: &str,
        mut args: Vec<Bytes>,
        kind: Type,
        commit: bool,
    ) -> Result<Receipt, ContractError> {
        args.insert(0, Bytes::copy_from_slice(function.as_bytes()));
        let tx_id = self.next_id();
        let (seconds, proposal, channel) = self.propose();
        let pending = Arc::new(Mutex::new(Pending::default()));
        let message = ChaincodeMessage {
            r#type: kind.into(),
            payload: ChaincodeInput { args, ..Default::default() }.encode_to_vec().into(),
            txid: tx_id.clone(),
            channel_id: channel,
            proposal: Some(proposal),
            ..Default::default()
        };
        let (payload, event) = self.call(&self.name, message, &pending, 0).await?;
        let writes = std::mem::take(&mut pending.lock().writes);
        let (mut own, mut private) = (BTreeMap::new(), BTreeMap::new());
        for (name, writes) in writes.iter().filter(|(name, _)| name.namespace == self.name) {
            let Some(value) = last_value(writes) else { continue };
            let Name { collection, key, .. } = name.clone();
            match collection.as_str() {
                "" => own.insert(key, value),
                _ => private.insert((collection, key), value),
            };
        }
        if commit {
            self.state.lock().commit(&tx_id, seconds, writes);
        }
        Ok(Receipt { tx_id, payload, event, writes: own, private_writes: private })
    }

    /// Runs one contract; calls of other contracts come back here.
    async fn call(
        &self,
        name: &str,
        message: ChaincodeMessage,
        pending: &Arc<Mutex<Pending>>,
        depth: usize,
    ) -> Result<(Bytes, Option<(String, Bytes)>), ContractError> {
        let contract = self.contracts.lock().get(name).cloned();
        let contract = contract
            .ok_or_else(|| ContractError::Peer(format!("chaincode {name} is not defined")))?;
        let backend = Transaction::new(self.clone(), name, &message, Arc::clone(pending), depth)?;
        let ctx = Context::new(Arc::new(backend), message).map_err(ContractError::Decode)?;
        let payload = session::invoke(contract.as_ref(), &ctx).await?;
        ctx.flush().await?;
        let event = ctx.take_event().map(|event| (event.event_name, event.payload));
        Ok((payload, event))
    }

    fn next_id(&self) -> String {
        let mut surroundings = self.surroundings.lock();
        surroundings.transactions += 1;
        format!("{:064x}", surroundings.transactions)
    }

    /// A proposal of the present surroundings, and its time; the clock moves on.
    fn propose(&self) -> (i64, SignedProposal, String) {
        let mut surroundings = self.surroundings.lock();
        let seconds = surroundings.seconds;
        surroundings.seconds += 1;
        let channel_header = common::ChannelHeader {
            channel_id: surroundings.channel.clone(),
            timestamp: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        let creator = msp::SerializedIdentity {
            mspid: surroundings.msp_id.clone(),
            id_bytes: surroundings.certificate.clone(),
        };
        let signature_header = common::SignatureHeader {
            creator: creator.encode_to_vec().into(),
            ..Default::default()
        };
        let header = common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let payload = ChaincodeProposalPayload {
            transient_map: surroundings.transient.clone(),
            ..Default::default()
        };
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        };
        let signed = SignedProposal {
            proposal_bytes: proposal.encode_to_vec().into(),
            ..Default::default()
        };
        (seconds, signed, surroundings.channel.clone())
    }
}

fn text_args(args: &[&str]) -> Vec<Bytes> {
    args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect()
}

fn last_value(writes: &[Write]) -> Option<Option<Bytes>> {
    writes.iter().rev().find_map(|write| match write {
        Write::Value(value) => Some(value.clone()),
        Write::Metadata(..) => None,
    })
}
