//! A contract's requests for state. They are carried out without waiting for anything but the
//! store, and so run behind its door ([`crate::blocking`]) only. A request that names a collection
//! is for its private data; [`private`] decides whether it is allowed.

mod private;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Name};
use weft_protos::ext::{DecodeError, decode_bounded};
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    self, GetState, GetStateByRange, GetStateMetadata, GetStateMultiple, GetStateMultipleResult,
    PurgePrivateState, PutState, PutStateMetadata, QueryMetadata, QueryResponse, StateMetadata,
    StateMetadataResult, WriteBatchState, WriteRecord, write_record,
};

use self::private::{Collections, PrivateError};
use crate::chaincode::config::RuntimeConfig;
use crate::chaincode::error::ExecuteError;
use crate::chaincode::host::{Host, HostError};
use crate::chaincode::query::{Query, QueryLimits};
use crate::chaincode::state::{QueryId, StateAccess, StateError};

/// Most queries that one transaction may have open.
const MAX_QUERIES: usize = 1000;

/// Why a request was not carried out. The contract gets the text and may go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("unmarshal failed: {0}")]
    Decode(#[source] DecodeError),
    #[error("{0}")]
    State(#[source] StateError),
    #[error("{0}")]
    Host(#[source] HostError),
    #[error("execute failed: {0}")]
    Call(#[source] ExecuteError),
    #[error("{0}")]
    Refused(&'static str),
    #[error("{0}")]
    Private(#[source] PrivateError),
}

pub(super) type Answer = Result<Bytes, RequestError>;

const NO_RICH_QUERIES: RequestError =
    RequestError::Refused("ExecuteQuery not supported for the peer's key/value state database");

/// What is remembered from one request of a call to the next.
#[derive(Debug, Default)]
pub(super) struct Kept {
    collections: Collections,
    queries: BTreeMap<String, Query>,
    last_query: u64,
}

impl Kept {
    /// Closes the queries that are still open.
    pub(super) fn close(&mut self, state: &mut dyn StateAccess) {
        for query in std::mem::take(&mut self.queries).into_values() {
            state.close(query.id);
        }
    }
}

/// The requests of one call of a contract, on the state that it works on.
pub(super) struct Requests<'s> {
    pub(super) config: &'s RuntimeConfig,
    pub(super) host: &'s dyn Host,
    pub(super) state: &'s mut dyn StateAccess,
    pub(super) channel: &'s str,
    pub(super) namespace: &'s str,
    pub(super) init: bool,
    pub(super) kept: &'s mut Kept,
}

impl Requests<'_> {
    /// Carries out one request.
    pub(super) fn serve(&mut self, kind: Type, payload: Bytes) -> Answer {
        match kind {
            Type::GetState => self.get_state(&request(payload)?),
            Type::GetStateMultiple => self.get_states(&request(payload)?),
            Type::PutState => self.put_state(request(payload)?),
            Type::DelState => self.delete_state(&request(payload)?),
            Type::WriteBatchState => self.write_batch(request(payload)?),
            Type::GetStateMetadata => self.get_metadata(&request(payload)?),
            Type::PutStateMetadata => self.put_metadata(request(payload)?),
            Type::GetStateByRange => self.range(&request(payload)?),
            Type::GetHistoryForKey => self.history(&request(payload)?),
            Type::QueryStateNext => self.next(&request(payload)?),
            Type::QueryStateClose => Ok(self.close(request(payload)?)),
            Type::GetQueryResult => self.rich_query(&request(payload)?),
            Type::GetPrivateDataHash => self.private_hash(&request(payload)?),
            Type::PurgePrivateData => {
                let PurgePrivateState { key, collection } = request(payload)?;
                self.purge(&collection, &key)?;
                Ok(Bytes::new())
            }
            _ => Err(RequestError::Refused("unknown kind of request")),
        }
    }

    fn get_state(&mut self, get: &GetState) -> Answer {
        Ok(self.get(&get.collection, &get.key)?.unwrap_or_default())
    }

    fn get_states(&mut self, get: &GetStateMultiple) -> Answer {
        let values = if get.collection.is_empty() {
            let keys: Vec<&str> = get.keys.iter().map(String::as_str).collect();
            self.state.get_states(self.namespace, &keys).map_err(RequestError::State)?
        } else {
            let values = get.keys.iter().map(|key| self.get(&get.collection, key));
            values.collect::<Result<_, _>>()?
        };
        let values = values.into_iter().map(Option::unwrap_or_default).collect();
        self.sendable(&GetStateMultipleResult { values })
    }

    /// An answer, unless it is too large to be sent. The values of a key that is asked for many times
    /// share their memory only until they are encoded.
    fn sendable(&self, answer: &impl Message) -> Answer {
        let (size, limit) = (answer.encoded_len(), self.config.max_message_bytes);
        if size > limit {
            return Err(RequestError::Call(ExecuteError::TooLarge { size, limit }));
        }
        Ok(encoded(answer))
    }

    fn get(&mut self, collection: &str, key: &str) -> Result<Option<Bytes>, RequestError> {
        let value = if collection.is_empty() {
            self.state.get_state(self.namespace, key)
        } else {
            self.may_read(collection)?;
            self.state.get_private(self.namespace, collection, key)
        };
        value.map_err(RequestError::State)
    }

    fn put_state(&mut self, put: PutState) -> Answer {
        self.put(&put.collection, &put.key, put.value)?;
        Ok(Bytes::new())
    }

    fn put(&mut self, collection: &str, key: &str, value: Bytes) -> Result<(), RequestError> {
        self.may_write(collection)?;
        written_key(key)?;
        let done = match collection {
            "" => self.state.put_state(self.namespace, key, value),
            _ => self.state.put_private(self.namespace, collection, key, value),
        };
        done.map_err(RequestError::State)
    }

    fn delete_state(&mut self, delete: &peer::DelState) -> Answer {
        self.delete(&delete.collection, &delete.key)?;
        Ok(Bytes::new())
    }

    fn delete(&mut self, collection: &str, key: &str) -> Result<(), RequestError> {
        self.may_write(collection)?;
        written_key(key)?;
        let done = match collection {
            "" => self.state.delete_state(self.namespace, key),
            _ => self.state.delete_private(self.namespace, collection, key),
        };
        done.map_err(RequestError::State)
    }

    fn write_batch(&mut self, batch: WriteBatchState) -> Answer {
        for record in batch.rec {
            self.write_record(record)?;
        }
        Ok(Bytes::new())
    }

    fn write_record(&mut self, record: WriteRecord) -> Result<(), RequestError> {
        let kind = record.r#type();
        let WriteRecord { key, value, collection, metadata, .. } = record;
        match kind {
            write_record::Type::PutState => self.put(&collection, &key, value),
            write_record::Type::DelState => self.delete(&collection, &key),
            write_record::Type::PutStateMetadata => self.set_metadata(&collection, &key, metadata),
            write_record::Type::PurgePrivateData => self.purge(&collection, &key),
            write_record::Type::Undefined => Err(RequestError::Refused("unknown operation type")),
        }
    }

    fn get_metadata(&mut self, get: &GetStateMetadata) -> Answer {
        self.metadata_allowed()?;
        let entries = if get.collection.is_empty() {
            self.state.get_metadata(self.namespace, &get.key)
        } else {
            self.may_read(&get.collection)?;
            self.state.get_private_metadata(self.namespace, &get.collection, &get.key)
        };
        let entries = entries.map_err(RequestError::State)?;
        let entries =
            entries.into_iter().map(|(metakey, value)| StateMetadata { metakey, value }).collect();
        Ok(encoded(&StateMetadataResult { entries }))
    }

    fn put_metadata(&mut self, put: PutStateMetadata) -> Answer {
        self.set_metadata(&put.collection, &put.key, put.metadata)?;
        Ok(Bytes::new())
    }

    fn set_metadata(
        &mut self,
        collection: &str,
        key: &str,
        metadata: Option<StateMetadata>,
    ) -> Result<(), RequestError> {
        self.metadata_allowed()?;
        self.may_write(collection)?;
        written_key(key)?;
        let entry = metadata.ok_or(RequestError::Refused("the metadata is missing"))?;
        let entries = BTreeMap::from([(entry.metakey, entry.value)]);
        let done = match collection {
            "" => self.state.put_metadata(self.namespace, key, entries),
            _ => self.state.put_private_metadata(self.namespace, collection, key, entries),
        };
        done.map_err(RequestError::State)
    }

    fn metadata_allowed(&self) -> Result<(), RequestError> {
        if self.host.key_level_endorsement(self.channel) {
            return Ok(());
        }
        Err(RequestError::Refused(
            "key level endorsement is not enabled, channel application capability of V1_3 or \
             later is required",
        ))
    }

    fn range(&mut self, get: &GetStateByRange) -> Answer {
        let page: QueryMetadata = request(get.metadata.clone())?;
        if !get.collection.is_empty() {
            return self.private_range(get, &page);
        }
        let limit = usize::try_from(page.page_size)
            .map_err(|_| RequestError::Refused("the page size is negative"))?;
        if limit == 0 && page.bookmark.is_empty() {
            let query = self.state.open_range(self.namespace, &get.start_key, &get.end_key);
            return self.open(query, false, usize::MAX);
        }
        let start = if page.bookmark.is_empty() { &get.start_key } else { &page.bookmark };
        let query = self.state.open_page(self.namespace, start, &get.end_key, limit);
        self.open(query, true, if limit == 0 { usize::MAX } else { limit })
    }

    fn rich_query(&mut self, query: &peer::GetQueryResult) -> Answer {
        if !query.collection.is_empty() {
            self.may_read(&query.collection)?;
        }
        Err(NO_RICH_QUERIES)
    }

    fn history(&mut self, get: &peer::GetHistoryForKey) -> Answer {
        let query = self.state.open_history(self.namespace, &get.key);
        self.open(query, false, usize::MAX)
    }

    /// Keeps a query and reads its first portion.
    fn open(&mut self, query: Result<QueryId, StateError>, paged: bool, limit: usize) -> Answer {
        let query = Query::new(query.map_err(RequestError::State)?, paged);
        if self.kept.queries.len() >= MAX_QUERIES {
            self.state.close(query.id);
            return Err(RequestError::Refused("too many queries are open"));
        }
        self.kept.last_query += 1;
        self.advance(self.kept.last_query.to_string(), query, limit)
    }

    fn next(&mut self, next: &peer::QueryStateNext) -> Answer {
        let query = self
            .kept
            .queries
            .remove(&next.id)
            .ok_or(RequestError::Refused("query iterator not found"))?;
        self.advance(next.id.clone(), query, usize::MAX)
    }

    /// Reads a portion; the query stays while there is more.
    fn advance(&mut self, name: String, mut query: Query, limit: usize) -> Answer {
        let config = self.config;
        let limits = QueryLimits {
            total: config.total_query_limit.min(limit),
            portion: config.query_page_size.max(1),
        };
        let portion = match query.portion(self.state, limits) {
            Ok(portion) => portion,
            Err(error) => {
                self.state.close(query.id);
                return Err(RequestError::State(error));
            }
        };
        let response = encoded(&QueryResponse { id: name.clone(), ..portion.response });
        if portion.done {
            self.state.close(query.id);
        } else {
            self.kept.queries.insert(name, query);
        }
        Ok(response)
    }

    fn close(&mut self, close: peer::QueryStateClose) -> Bytes {
        if let Some(query) = self.kept.queries.remove(&close.id) {
            self.state.close(query.id);
        }
        encoded(&QueryResponse { id: close.id, ..Default::default() })
    }
}

/// A request, unless it would take much more memory than its bytes.
pub(super) fn request<M: Message + Name + Default>(payload: Bytes) -> Result<M, RequestError> {
    decode_bounded("the request", payload).map_err(RequestError::Decode)
}

pub(super) fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn written_key(key: &str) -> Result<(), RequestError> {
    if key.is_empty() {
        return Err(RequestError::Refused("key must not be an empty string"));
    }
    Ok(())
}
