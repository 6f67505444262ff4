//! What a transaction can see and do.

mod private;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    self, ChaincodeEvent, ChaincodeInput, ChaincodeMessage, DelState, GetHistoryForKey, GetState,
    GetStateByRange, GetStateMetadata, GetStateMultiple, GetStateMultipleResult, PurgePrivateState,
    PutState, PutStateMetadata, QueryMetadata, SignedProposal, StateMetadata, StateMetadataResult,
    WriteBatchState, WriteRecord, write_record,
};

use crate::args::{from_json, to_json};
use crate::backend::Backend;
use crate::policy::METADATA_KEY;
use crate::proposal::{self, Parts};
use crate::{
    ContractError, Creator, HistoryQuery, KeyPolicy, Page, Query, StateQuery, Timestamp, composite,
    query,
};

/// Collected writes are sent when they reach this size in bytes.
const WRITES_BYTES: usize = 1024 * 1024;
/// First key of an open range: composite keys sort before it.
const FIRST_PLAIN_KEY: &str = "\u{1}";

/// What a transaction can see and do. Clones are the same transaction.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    channel_id: String,
    tx_id: String,
    function: String,
    args: Vec<Bytes>,
    decorations: BTreeMap<String, Bytes>,
    is_init: bool,
    proposal: Option<SignedProposal>,
    /// The proposal taken apart, when somebody asks.
    parts: OnceLock<Result<Parts, DecodeError>>,
    event: Mutex<Option<ChaincodeEvent>>,
    writes: Mutex<Writes>,
}

/// Writes that have not been sent.
#[derive(Default)]
struct Writes {
    records: Vec<WriteRecord>,
    bytes: usize,
}

impl Context {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        message: ChaincodeMessage,
    ) -> Result<Self, DecodeError> {
        let is_init = message.r#type() == Type::Init;
        let input: ChaincodeInput = decode("chaincode input", message.payload)?;
        let mut args = input.args.into_iter();
        let function = args.next().unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                channel_id: message.channel_id,
                tx_id: message.txid,
                function: String::from_utf8_lossy(&function).into_owned(),
                args: args.collect(),
                decorations: input.decorations,
                is_init,
                proposal: message.proposal,
                parts: OnceLock::new(),
                event: Mutex::new(None),
                writes: Mutex::default(),
            }),
        })
    }

    /// The function that is called: the first argument as text, empty when there is none.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.inner.function
    }

    /// The arguments after the function's name.
    #[must_use]
    pub fn args(&self) -> &[Bytes] {
        &self.inner.args
    }

    /// Id of the transaction.
    #[must_use]
    pub fn tx_id(&self) -> &str {
        &self.inner.tx_id
    }

    /// Channel on whose ledger the transaction works.
    #[must_use]
    pub fn channel_id(&self) -> &str {
        &self.inner.channel_id
    }

    /// Whether this is the initialization that the contract's definition requires.
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.inner.is_init
    }

    /// Who proposed the transaction.
    ///
    /// # Errors
    /// Fails where the proposal is malformed, which a peer does not let pass.
    pub fn creator(&self) -> Result<&Creator, ContractError> {
        Ok(&self.parts()?.creator)
    }

    /// The time that the client has put on the proposal: equal on all endorsers, and as true as
    /// the client is.
    ///
    /// # Errors
    /// Fails where the proposal is malformed, which a peer does not let pass.
    pub fn timestamp(&self) -> Result<Timestamp, ContractError> {
        Ok(self.parts()?.timestamp)
    }

    /// Data from the client that does not go to the ledger.
    ///
    /// # Errors
    /// Fails where the proposal is malformed, which a peer does not let pass.
    pub fn transient(&self) -> Result<&BTreeMap<String, Bytes>, ContractError> {
        Ok(&self.parts()?.transient)
    }

    /// Data that the peer has added to the input.
    #[must_use]
    pub fn decorations(&self) -> &BTreeMap<String, Bytes> {
        &self.inner.decorations
    }

    /// The proposal as the client signed it; `None` for calls without one.
    #[must_use]
    pub fn signed_proposal(&self) -> Option<&SignedProposal> {
        self.inner.proposal.as_ref()
    }

    fn parts(&self) -> Result<&Parts, ContractError> {
        let inner = &self.inner;
        let parts = inner.parts.get_or_init(|| proposal::parse(inner.proposal.as_ref()));
        parts.as_ref().map_err(|error| ContractError::Decode(error.clone()))
    }

    /// The committed value of a key.
    ///
    /// # Errors
    /// Fails for an empty key, and when the peer does.
    pub async fn get_state(&self, key: &str) -> Result<Option<Bytes>, ContractError> {
        self.get("", key).await
    }

    /// The committed values of several keys, in their order, in few messages.
    ///
    /// # Errors
    /// Fails for an empty key, and when the peer does.
    pub async fn get_states(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, ContractError> {
        self.get_many("", keys).await
    }

    /// The committed value of a key, from JSON.
    ///
    /// # Errors
    /// As [`get_state`](Self::get_state), and where the value is not that JSON.
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, ContractError> {
        let value = self.get_state(key).await?;
        value.map(|value| from_json(&format!("the value of {key:?}"), &value)).transpose()
    }

    /// Sets a key. The write takes effect when the transaction is committed.
    ///
    /// # Errors
    /// Fails for an empty key or value, and when the peer does.
    pub async fn put_state(&self, key: &str, value: impl Into<Bytes>) -> Result<(), ContractError> {
        self.put("", key, value.into()).await
    }

    /// Sets a key to a value's JSON.
    ///
    /// # Errors
    /// As [`put_state`](Self::put_state), and for values that have no form in JSON.
    pub async fn put_json<T: Serialize + Sync + ?Sized>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<(), ContractError> {
        let json = to_json(&format!("the value of {key:?}"), value)?;
        self.put_state(key, json).await
    }

    /// Deletes a key, whether it exists or not.
    ///
    /// # Errors
    /// Fails for an empty key, and when the peer does.
    pub async fn delete_state(&self, key: &str) -> Result<(), ContractError> {
        self.delete("", key).await
    }

    /// Plain keys from `start` up to but without `end`; an empty bound is open. Composite keys
    /// are not among them.
    ///
    /// # Errors
    /// Fails for bounds that are composite keys, and when the peer does.
    pub async fn range(&self, start: &str, end: &str) -> Result<StateQuery, ContractError> {
        let start = plain_range(start, end)?;
        self.open_range("", start.to_owned(), end.to_owned()).await
    }

    /// One page of [`range`](Self::range), of at most `size` keys; `bookmark` is empty for the
    /// first page and then the previous page's. Such a transaction may not write: what follows a
    /// page is not checked for changes when it is committed.
    ///
    /// # Errors
    /// As [`range`](Self::range), and after a write.
    pub async fn range_page(
        &self,
        start: &str,
        end: &str,
        size: u32,
        bookmark: &str,
    ) -> Result<Page, ContractError> {
        let start = plain_range(start, end)?;
        self.open_page(start.to_owned(), end.to_owned(), size, bookmark).await
    }

    /// A key made of parts, which [`partial_composite`](Self::partial_composite) finds by its
    /// first parts.
    ///
    /// # Errors
    /// Fails for parts that hold U+0000 or U+10FFFF.
    pub fn composite_key(object_type: &str, parts: &[&str]) -> Result<String, ContractError> {
        composite::join(object_type, parts)
    }

    /// The type and parts of a composite key.
    ///
    /// # Errors
    /// Fails for a key that is not composite.
    pub fn split_composite_key(key: &str) -> Result<(String, Vec<String>), ContractError> {
        composite::split(key)
    }

    /// The composite keys that begin with these parts.
    ///
    /// # Errors
    /// Fails for parts that a composite key cannot have, and when the peer does.
    pub async fn partial_composite(
        &self,
        object_type: &str,
        parts: &[&str],
    ) -> Result<StateQuery, ContractError> {
        let (start, end) = composite::range(object_type, parts)?;
        self.open_range("", start, end).await
    }

    /// One page of [`partial_composite`](Self::partial_composite); see
    /// [`range_page`](Self::range_page).
    ///
    /// # Errors
    /// As [`partial_composite`](Self::partial_composite), and after a write.
    pub async fn partial_composite_page(
        &self,
        object_type: &str,
        parts: &[&str],
        size: u32,
        bookmark: &str,
    ) -> Result<Page, ContractError> {
        let (start, end) = composite::range(object_type, parts)?;
        self.open_page(start, end, size, bookmark).await
    }

    /// The committed modifications of a key, the newest first. They are not checked for changes
    /// when the transaction is committed.
    ///
    /// # Errors
    /// Fails for an empty key, where the peer keeps no history, and when the peer does.
    pub async fn history(&self, key: &str) -> Result<HistoryQuery, ContractError> {
        composite::check_key(key)?;
        let get = GetHistoryForKey { key: key.to_owned() };
        let first = self.request(Type::GetHistoryForKey, &get).await?;
        Query::of_history(self.clone(), &first)
    }

    /// The committed endorsement policy of a key, encoded; `None` where the contract's holds.
    ///
    /// # Errors
    /// Fails for an empty key, and when the peer does.
    pub async fn key_policy(&self, key: &str) -> Result<Option<Bytes>, ContractError> {
        self.policy("", key).await
    }

    /// Sets a key's endorsement policy, which later transactions that write the key must satisfy.
    ///
    /// # Errors
    /// Fails for an empty key, and when the peer does.
    pub async fn set_key_policy(&self, key: &str, policy: &KeyPolicy) -> Result<(), ContractError> {
        self.set_policy("", key, policy).await
    }

    /// Sets the transaction's event, in place of an earlier one. Clients that listen get it when
    /// the transaction is committed and valid.
    ///
    /// # Errors
    /// Fails for an empty name.
    pub fn set_event(&self, name: &str, payload: impl Into<Bytes>) -> Result<(), ContractError> {
        if name.is_empty() {
            return Err(ContractError::invalid("the event's name is empty"));
        }
        *self.inner.event.lock() = Some(ChaincodeEvent {
            event_name: name.to_owned(),
            payload: payload.into(),
            ..Default::default()
        });
        Ok(())
    }

    /// Sets the transaction's event to a value's JSON.
    ///
    /// # Errors
    /// As [`set_event`](Self::set_event), and for values that have no form in JSON.
    pub fn set_json_event<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), ContractError> {
        self.set_event(name, to_json("the event's payload", value)?)
    }

    /// Calls another chaincode in this transaction; its reads and writes become this
    /// transaction's. On another channel (`channel` not empty) only its response counts. Any
    /// response comes back, also one that tells an error.
    ///
    /// # Errors
    /// Fails when the peer cannot carry out the call.
    pub async fn invoke_chaincode_raw(
        &self,
        chaincode: &str,
        args: Vec<Bytes>,
        channel: &str,
    ) -> Result<peer::Response, ContractError> {
        // The called contract's requests must find this one's writes recorded.
        self.flush().await?;
        let name = match channel {
            "" => chaincode.to_owned(),
            channel => format!("{chaincode}/{channel}"),
        };
        let spec = peer::ChaincodeSpec {
            chaincode_id: Some(peer::ChaincodeId { name, ..Default::default() }),
            input: Some(ChaincodeInput { args, ..Default::default() }),
            ..Default::default()
        };
        let payload = self.request(Type::InvokeChaincode, &spec).await?;
        let message: ChaincodeMessage =
            decode("answer of the called chaincode", payload).map_err(ContractError::Decode)?;
        if message.r#type() != Type::Completed {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            return Err(ContractError::Peer(text));
        }
        decode("response of the called chaincode", message.payload).map_err(ContractError::Decode)
    }

    /// Calls a function of another chaincode of this channel and gives the response's payload.
    ///
    /// # Errors
    /// Fails when the peer cannot carry out the call, and when the response tells an error.
    pub async fn invoke_chaincode(
        &self,
        chaincode: &str,
        function: &str,
        args: &[&str],
    ) -> Result<Bytes, ContractError> {
        let function = std::iter::once(&function);
        let args = function.chain(args).map(|&arg| Bytes::copy_from_slice(arg.as_bytes()));
        let response = self.invoke_chaincode_raw(chaincode, args.collect(), "").await?;
        if response.status >= 400 {
            let (status, message) = (response.status, response.message);
            let chaincode = chaincode.to_owned();
            return Err(ContractError::Called { chaincode, status, message });
        }
        Ok(response.payload)
    }

    /// Carries out a request of the protocol.
    pub(crate) async fn request(
        &self,
        kind: Type,
        request: &impl Message,
    ) -> Result<Bytes, ContractError> {
        self.inner.backend.request(kind, request.encode_to_vec().into()).await
    }

    /// Sends the writes that have been collected.
    pub(crate) async fn flush(&self) -> Result<(), ContractError> {
        let batch = self.inner.backend.write_batch().unwrap_or(1).max(1);
        let mut records = std::mem::take(&mut *self.inner.writes.lock()).records.into_iter();
        loop {
            let rec: Vec<_> = records.by_ref().take(batch).collect();
            if rec.is_empty() {
                return Ok(());
            }
            self.request(Type::WriteBatchState, &WriteBatchState { rec }).await?;
        }
    }

    /// The event that was set.
    pub(crate) fn take_event(&self) -> Option<ChaincodeEvent> {
        self.inner.event.lock().take()
    }

    async fn get(&self, collection: &str, key: &str) -> Result<Option<Bytes>, ContractError> {
        composite::check_key(key)?;
        let get = GetState { key: key.to_owned(), collection: collection.to_owned() };
        self.request(Type::GetState, &get).await.map(present)
    }

    async fn get_many(
        &self,
        collection: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, ContractError> {
        let mut values = Vec::with_capacity(keys.len());
        let Some(batch) = self.inner.backend.read_batch() else {
            for key in keys {
                values.push(self.get(collection, key).await?);
            }
            return Ok(values);
        };
        for keys in keys.chunks(batch.max(1)) {
            keys.iter().try_for_each(|key| composite::check_key(key))?;
            let keys = keys.iter().map(|&key| key.to_owned()).collect();
            let get = GetStateMultiple { keys, collection: collection.to_owned() };
            let payload = self.request(Type::GetStateMultiple, &get).await?;
            let result: GetStateMultipleResult =
                decode("values", payload).map_err(ContractError::Decode)?;
            values.extend(result.values.into_iter().map(present));
        }
        Ok(values)
    }

    async fn policy(&self, collection: &str, key: &str) -> Result<Option<Bytes>, ContractError> {
        composite::check_key(key)?;
        let get = GetStateMetadata { key: key.to_owned(), collection: collection.to_owned() };
        let payload = self.request(Type::GetStateMetadata, &get).await?;
        let result: StateMetadataResult =
            decode("metadata", payload).map_err(ContractError::Decode)?;
        let entry = result.entries.into_iter().find(|entry| entry.metakey == METADATA_KEY);
        Ok(entry.and_then(|entry| present(entry.value)))
    }

    async fn set_policy(
        &self,
        collection: &str,
        key: &str,
        policy: &KeyPolicy,
    ) -> Result<(), ContractError> {
        composite::check_key(key)?;
        let metadata = StateMetadata { metakey: METADATA_KEY.to_owned(), value: policy.to_bytes() };
        let record = WriteRecord {
            key: key.to_owned(),
            collection: collection.to_owned(),
            metadata: Some(metadata),
            r#type: write_record::Type::PutStateMetadata.into(),
            ..Default::default()
        };
        self.write(record).await
    }

    async fn put(&self, collection: &str, key: &str, value: Bytes) -> Result<(), ContractError> {
        composite::check_key(key)?;
        if value.is_empty() {
            return Err(ContractError::EmptyValue { key: key.to_owned() });
        }
        let record = WriteRecord {
            key: key.to_owned(),
            value,
            collection: collection.to_owned(),
            r#type: write_record::Type::PutState.into(),
            ..Default::default()
        };
        self.write(record).await
    }

    async fn delete(&self, collection: &str, key: &str) -> Result<(), ContractError> {
        composite::check_key(key)?;
        let record = WriteRecord {
            key: key.to_owned(),
            collection: collection.to_owned(),
            r#type: write_record::Type::DelState.into(),
            ..Default::default()
        };
        self.write(record).await
    }

    /// Collects a write to be sent with others, or sends it at once to a peer without batches.
    async fn write(&self, record: WriteRecord) -> Result<(), ContractError> {
        let Some(batch) = self.inner.backend.write_batch() else {
            return self.write_alone(record).await;
        };
        let full = {
            let mut writes = self.inner.writes.lock();
            writes.bytes += record.key.len() + record.value.len();
            writes.records.push(record);
            writes.records.len() >= batch || writes.bytes >= WRITES_BYTES
        };
        if full { self.flush().await } else { Ok(()) }
    }

    async fn write_alone(&self, record: WriteRecord) -> Result<(), ContractError> {
        let kind = record.r#type();
        let WriteRecord { key, value, collection, metadata, .. } = record;
        let done = match kind {
            write_record::Type::PutState => {
                self.request(Type::PutState, &PutState { key, value, collection }).await
            }
            write_record::Type::PutStateMetadata => {
                let put = PutStateMetadata { key, collection, metadata };
                self.request(Type::PutStateMetadata, &put).await
            }
            write_record::Type::PurgePrivateData => {
                let purge = PurgePrivateState { key, collection };
                self.request(Type::PurgePrivateData, &purge).await
            }
            write_record::Type::DelState | write_record::Type::Undefined => {
                self.request(Type::DelState, &DelState { key, collection }).await
            }
        };
        done.map(drop)
    }

    async fn open_range(
        &self,
        collection: &str,
        start_key: String,
        end_key: String,
    ) -> Result<StateQuery, ContractError> {
        let collection = collection.to_owned();
        let get = GetStateByRange { start_key, end_key, collection, metadata: Bytes::new() };
        let first = self.request(Type::GetStateByRange, &get).await?;
        Query::of_state(self.clone(), &first)
    }

    async fn open_page(
        &self,
        start_key: String,
        end_key: String,
        size: u32,
        bookmark: &str,
    ) -> Result<Page, ContractError> {
        let page_size = i32::try_from(size)
            .ok()
            .filter(|&size| size > 0)
            .ok_or_else(|| ContractError::invalid("a page's size is between 1 and 2147483647"))?;
        // The peer refuses pages after writes, so it has to know of them.
        self.flush().await?;
        let metadata = QueryMetadata { page_size, bookmark: bookmark.to_owned() };
        let get = GetStateByRange {
            start_key,
            end_key,
            collection: String::new(),
            metadata: metadata.encode_to_vec().into(),
        };
        query::page(&self.request(Type::GetStateByRange, &get).await?)
    }
}

fn present(value: Bytes) -> Option<Bytes> {
    (!value.is_empty()).then_some(value)
}

fn plain_range<'a>(start: &'a str, end: &str) -> Result<&'a str, ContractError> {
    composite::check_bound(start)?;
    composite::check_bound(end)?;
    Ok(if start.is_empty() { FIRST_PLAIN_KEY } else { start })
}
