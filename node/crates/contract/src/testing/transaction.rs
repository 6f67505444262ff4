//! A transaction on a ledger in memory: the peer's part of the protocol, without a peer.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use sha2::{Digest as _, Sha256};
use weft_protos::ext::decode;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    ChaincodeMessage, ChaincodeSpec, GetHistoryForKey, GetState, GetStateByRange, GetStateMetadata,
    GetStateMultiple, GetStateMultipleResult, QueryMetadata, QueryResponse, QueryResponseMetadata,
    QueryResultBytes, Response, SignedProposal, StateMetadata, StateMetadataResult,
    WriteBatchState, WriteRecord, write_record,
};

use super::state::{Name, Write};
use super::{MockCollection, MockLedger};
use crate::backend::Backend;
use crate::{ContractError, proposal};

/// Calls from contract to contract end here.
const MAX_DEPTH: usize = 16;

/// What a transaction has done so far, all its contracts together.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) writes: BTreeMap<Name, Vec<Write>>,
    /// What it has read that is not checked for changes, and so excludes writes.
    unchecked: Option<&'static str>,
}

const PAGES: &str = "pages";
const PRIVATE_RANGES: &str = "ranges of private keys";

impl Pending {
    fn write(&mut self, name: Name, write: Write) -> Result<(), ContractError> {
        if let Some(what) = self.unchecked {
            return Err(refused(&format!("a transaction that has read {what} may not write")));
        }
        self.writes.entry(name).or_default().push(write);
        Ok(())
    }

    fn read_unchecked(&mut self, what: &'static str) -> Result<(), ContractError> {
        if !self.writes.is_empty() {
            return Err(refused(&format!("a transaction that has written may not read {what}")));
        }
        self.unchecked = Some(what);
        Ok(())
    }
}

/// One contract's part of a transaction.
pub(super) struct Transaction {
    ledger: MockLedger,
    namespace: String,
    tx_id: String,
    channel: String,
    proposal: Option<SignedProposal>,
    /// The organization of the client.
    creator: String,
    init: bool,
    pending: Arc<Mutex<Pending>>,
    depth: usize,
}

impl Transaction {
    pub(super) fn new(
        ledger: MockLedger,
        namespace: &str,
        message: &ChaincodeMessage,
        pending: Arc<Mutex<Pending>>,
        depth: usize,
    ) -> Result<Self, ContractError> {
        let parts = proposal::parse(message.proposal.as_ref()).map_err(ContractError::Decode)?;
        Ok(Self {
            ledger,
            namespace: namespace.to_owned(),
            tx_id: message.txid.clone(),
            channel: message.channel_id.clone(),
            proposal: message.proposal.clone(),
            creator: parts.creator.msp_id().to_owned(),
            init: message.r#type() == Type::Init,
            pending,
            depth,
        })
    }

    fn name(&self, collection: &str, key: &str) -> Name {
        Name::new(&self.namespace, collection, key)
    }

    /// A collection that is there for this transaction.
    fn collection(&self, name: &str) -> Result<MockCollection, ContractError> {
        if self.init {
            return Err(refused("private data APIs are not allowed in chaincode Init()"));
        }
        self.ledger.collection(&self.namespace, name).ok_or_else(|| {
            let (channel, namespace) = (&self.channel, &self.namespace);
            refused(&format!("collection {channel}/{namespace}/{name} could not be found"))
        })
    }

    /// Whether the client may read; the empty collection stands for public data. Tells whether
    /// the peer has the values.
    fn may_read(&self, collection: &str) -> Result<bool, ContractError> {
        if collection.is_empty() {
            return Ok(true);
        }
        let found = self.collection(collection)?;
        if !found.may_read(&self.creator) {
            return Err(self.no_access("read", collection));
        }
        Ok(found.has(&self.ledger.peer()))
    }

    fn may_write(&self, collection: &str) -> Result<(), ContractError> {
        if !collection.is_empty() && !self.collection(collection)?.may_write(&self.creator) {
            return Err(self.no_access("write", collection));
        }
        Ok(())
    }

    fn no_access(&self, what: &str, collection: &str) -> ContractError {
        let namespace = &self.namespace;
        refused(&format!(
            "tx creator does not have {what} access permission on privatedata in \
             chaincodeName:{namespace} collectionName: {collection}"
        ))
    }

    fn get(&self, collection: &str, key: &str) -> Result<Bytes, ContractError> {
        let held = self.may_read(collection)?;
        let value = self.ledger.state.lock().get(&self.name(collection, key));
        if value.is_some() && !held {
            return Err(refused("private data matching public hash version is not available"));
        }
        Ok(value.unwrap_or_default())
    }

    fn hash(&self, get: &GetState) -> Result<Bytes, ContractError> {
        self.collection(&get.collection)?;
        let value = self.ledger.state.lock().get(&self.name(&get.collection, &get.key));
        Ok(value.map(|value| sha256(&value)).unwrap_or_default())
    }

    fn get_many(&self, get: &GetStateMultiple) -> Result<Bytes, ContractError> {
        let values = get.keys.iter().map(|key| self.get(&get.collection, key));
        let values = values.collect::<Result<_, _>>()?;
        Ok(encoded(&GetStateMultipleResult { values }))
    }

    fn write(&self, record: WriteRecord) -> Result<(), ContractError> {
        self.may_write(&record.collection)?;
        let write = match (record.r#type(), record.metadata) {
            (write_record::Type::PutState, _) => Write::Value(Some(record.value)),
            (write_record::Type::DelState, _) => Write::Value(None),
            (write_record::Type::PurgePrivateData, _) if !record.collection.is_empty() => {
                Write::Value(None)
            }
            (write_record::Type::PutStateMetadata, Some(entry)) => {
                Write::Metadata(entry.metakey, entry.value)
            }
            _ => return Err(refused("unknown operation type")),
        };
        let name = self.name(&record.collection, &record.key);
        self.pending.lock().write(name, write)
    }

    fn metadata(&self, get: &GetStateMetadata) -> Result<Bytes, ContractError> {
        self.may_read(&get.collection)?;
        let entries = self.ledger.state.lock().metadata(&self.name(&get.collection, &get.key));
        let entries =
            entries.into_iter().map(|(metakey, value)| StateMetadata { metakey, value }).collect();
        Ok(encoded(&StateMetadataResult { entries }))
    }

    fn range(&self, get: &GetStateByRange) -> Result<Bytes, ContractError> {
        if !get.collection.is_empty() {
            return self.private_range(get);
        }
        let page: QueryMetadata =
            decode("query metadata", get.metadata.clone()).map_err(ContractError::Decode)?;
        let start = if page.bookmark.is_empty() { &get.start_key } else { &page.bookmark };
        let mut rows = self.ledger.state.lock().range(self.name("", start), &get.end_key);
        let size = usize::try_from(page.page_size).map_err(|_| refused("negative page size"))?;
        if size == 0 {
            return Ok(results(rows.iter().map(encoded), Bytes::new()));
        }
        self.pending.lock().read_unchecked(PAGES)?;
        let bookmark = rows.get(size).map(|kv| kv.key.clone()).unwrap_or_default();
        rows.truncate(size);
        let fetched_records_count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        let metadata = QueryResponseMetadata { fetched_records_count, bookmark };
        Ok(results(rows.iter().map(encoded), encoded(&metadata)))
    }

    fn private_range(&self, get: &GetStateByRange) -> Result<Bytes, ContractError> {
        if !self.may_read(&get.collection)? {
            let (namespace, collection) = (&self.namespace, &get.collection);
            return Err(refused(&format!(
                "private data is not available: the organization of this peer is not a member \
                 of collection {collection} of chaincode {namespace}"
            )));
        }
        self.pending.lock().read_unchecked(PRIVATE_RANGES)?;
        let start = self.name(&get.collection, &get.start_key);
        let rows = self.ledger.state.lock().range(start, &get.end_key);
        Ok(results(rows.iter().map(encoded), Bytes::new()))
    }

    fn history(&self, get: &GetHistoryForKey) -> Bytes {
        let rows = self.ledger.state.lock().history(&self.name("", &get.key));
        results(rows.iter().map(encoded), Bytes::new())
    }

    async fn invoke(&self, spec: ChaincodeSpec) -> Result<Bytes, ContractError> {
        let name = spec.chaincode_id.map(|id| id.name).unwrap_or_default();
        if let Some((_, channel)) = name.split_once('/') {
            return Err(refused(&format!("channel {channel} is not part of this ledger")));
        }
        if self.depth >= MAX_DEPTH {
            return Err(refused("chaincode calls are nested too deep"));
        }
        let message = ChaincodeMessage {
            r#type: Type::Transaction.into(),
            payload: encoded(&spec.input.unwrap_or_default()),
            txid: self.tx_id.clone(),
            channel_id: self.channel.clone(),
            proposal: self.proposal.clone(),
            ..Default::default()
        };
        let called = self.ledger.call(&name, message, &self.pending, self.depth + 1);
        let response = match Box::pin(called).await {
            Ok((payload, _)) => Response { status: 200, message: String::new(), payload },
            Err(error @ ContractError::Peer(_)) => return Err(error),
            Err(error) => Response {
                status: error.status(),
                message: error.to_string(),
                payload: Bytes::new(),
            },
        };
        Ok(encoded(&ChaincodeMessage {
            r#type: Type::Completed.into(),
            payload: encoded(&response),
            ..Default::default()
        }))
    }
}

#[async_trait]
impl Backend for Transaction {
    async fn request(&self, kind: Type, payload: Bytes) -> Result<Bytes, ContractError> {
        match kind {
            Type::GetState => {
                let get: GetState = read(payload)?;
                self.get(&get.collection, &get.key)
            }
            Type::GetStateMultiple => self.get_many(&read(payload)?),
            Type::GetPrivateDataHash => self.hash(&read(payload)?),
            Type::WriteBatchState => {
                let batch: WriteBatchState = read(payload)?;
                batch.rec.into_iter().try_for_each(|record| self.write(record))?;
                Ok(Bytes::new())
            }
            Type::GetStateMetadata => self.metadata(&read(payload)?),
            Type::GetStateByRange => self.range(&read(payload)?),
            Type::GetHistoryForKey => Ok(self.history(&read(payload)?)),
            Type::InvokeChaincode => self.invoke(read(payload)?).await,
            other => Err(refused(&format!("{} is not supported", other.as_str_name()))),
        }
    }

    fn write_batch(&self) -> Option<usize> {
        Some(1000)
    }

    fn read_batch(&self) -> Option<usize> {
        Some(1000)
    }
}

/// SHA-256, as the ledger keeps it of private values.
pub(super) fn sha256(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(value))
}

fn refused(text: &str) -> ContractError {
    ContractError::Peer(text.to_owned())
}

fn read<M: Message + Default>(payload: Bytes) -> Result<M, ContractError> {
    decode("request", payload).map_err(ContractError::Decode)
}

fn encoded<M: Message>(message: &M) -> Bytes {
    message.encode_to_vec().into()
}

fn results(rows: impl Iterator<Item = Bytes>, metadata: Bytes) -> Bytes {
    let results = rows.map(|result_bytes| QueryResultBytes { result_bytes }).collect();
    encoded(&QueryResponse { results, metadata, ..Default::default() })
}
