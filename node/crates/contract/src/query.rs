//! Results of queries, which arrive in portions.

use std::collections::VecDeque;

use prost::Message;
use weft_protos::ext::decode;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{QueryResponse, QueryResponseMetadata, QueryStateClose, QueryStateNext};
use weft_protos::queryresult;

use bytes::Bytes;

use crate::{Context, ContractError, Timestamp};

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
}

/// One modification of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modification {
    /// The transaction that made it.
    pub tx_id: String,
    /// The time of that transaction, as its client gave it.
    pub timestamp: Timestamp,
    /// The value; `None` where the key was deleted.
    pub value: Option<Bytes>,
}

/// One page of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Keys and values, by key.
    pub entries: Vec<KeyValue>,
    /// Where the next page starts; empty at the end.
    pub bookmark: String,
}

/// Keys and values in a range, by key.
pub type StateQuery = Query<KeyValue>;

/// The modifications of a key, the newest first.
pub type HistoryQuery = Query<Modification>;

/// The results of an open query. Dropping it before its end leaves the rest unread.
pub struct Query<T> {
    portions: Portions,
    read: fn(Bytes) -> Result<T, ContractError>,
}

impl Query<KeyValue> {
    pub(crate) fn of_state(ctx: Context, first: &Bytes) -> Result<Self, ContractError> {
        Ok(Self { portions: Portions::new(ctx, first)?, read: key_value })
    }
}

impl Query<Modification> {
    pub(crate) fn of_history(ctx: Context, first: &Bytes) -> Result<Self, ContractError> {
        Ok(Self { portions: Portions::new(ctx, first)?, read: modification })
    }
}

impl<T> Query<T> {
    /// The next result; `None` at the end.
    ///
    /// # Errors
    /// Fails when the peer cannot go on.
    pub async fn next(&mut self) -> Result<Option<T>, ContractError> {
        self.portions.next().await?.map(self.read).transpose()
    }

    /// Reads all that is left.
    ///
    /// # Errors
    /// Fails when the peer cannot go on.
    pub async fn collect(mut self) -> Result<Vec<T>, ContractError> {
        let mut entries = Vec::new();
        while let Some(entry) = self.next().await? {
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Frees what the peer holds for this query, before the transaction's end does.
    ///
    /// # Errors
    /// Fails when the connection has ended.
    pub async fn close(self) -> Result<(), ContractError> {
        self.portions.close().await
    }
}

/// Reads a page, which comes in one portion.
pub(crate) fn page(payload: &Bytes) -> Result<Page, ContractError> {
    let response = response(payload)?;
    let metadata: QueryResponseMetadata =
        decode("query metadata", response.metadata).map_err(ContractError::Decode)?;
    let entries = response.results.into_iter().map(|r| key_value(r.result_bytes));
    Ok(Page { entries: entries.collect::<Result<_, _>>()?, bookmark: metadata.bookmark })
}

/// The results of an open query.
struct Portions {
    ctx: Context,
    id: String,
    results: VecDeque<Bytes>,
    has_more: bool,
}

impl Portions {
    fn new(ctx: Context, first: &Bytes) -> Result<Self, ContractError> {
        let mut portions =
            Self { ctx, id: String::new(), results: VecDeque::new(), has_more: false };
        portions.take(first)?;
        Ok(portions)
    }

    fn take(&mut self, payload: &Bytes) -> Result<(), ContractError> {
        let response = response(payload)?;
        self.results.extend(response.results.into_iter().map(|r| r.result_bytes));
        self.has_more = response.has_more;
        self.id = response.id;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ContractError> {
        while self.results.is_empty() && self.has_more {
            let request = QueryStateNext { id: self.id.clone() };
            let payload = self.ctx.request(Type::QueryStateNext, &request).await?;
            self.take(&payload)?;
        }
        Ok(self.results.pop_front())
    }

    async fn close(self) -> Result<(), ContractError> {
        if self.has_more {
            let request = QueryStateClose { id: self.id };
            self.ctx.request(Type::QueryStateClose, &request).await?;
        }
        Ok(())
    }
}

fn response(payload: &Bytes) -> Result<QueryResponse, ContractError> {
    decode("query response", payload.clone()).map_err(ContractError::Decode)
}

fn key_value(bytes: Bytes) -> Result<KeyValue, ContractError> {
    let kv = queryresult::Kv::decode(bytes).map_err(|source| wrong("query result", source))?;
    Ok(KeyValue { key: kv.key, value: kv.value })
}

fn modification(bytes: Bytes) -> Result<Modification, ContractError> {
    let entry = queryresult::KeyModification::decode(bytes)
        .map_err(|source| wrong("history entry", source))?;
    Ok(Modification {
        tx_id: entry.tx_id,
        timestamp: entry.timestamp.map(Timestamp::from_wire).unwrap_or_default(),
        value: (!entry.is_delete).then_some(entry.value),
    })
}

fn wrong(what: &'static str, source: prost::DecodeError) -> ContractError {
    let source = weft_protos::ext::DecodeCause::Malformed(source);
    ContractError::Decode(weft_protos::ext::DecodeError { what, source })
}
