//! Queries that a contract has open, and the portions in which it gets their results (Fabric:
//! core/chaincode/query_response_generator.go).

use prost::Message;
use weft_protos::peer::{QueryResponse, QueryResponseMetadata, QueryResultBytes};

use super::state::{QueryId, QueryResult, StateAccess, StateError};

/// A portion is sent when its results reach this size in bytes, whatever their number.
const PORTION_BYTES: usize = 1024 * 1024;

/// Limits of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryLimits {
    /// Most results in all.
    pub(super) total: usize,
    /// Most results in one portion.
    pub(super) portion: usize,
}

/// An open query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) id: QueryId,
    /// Whether the contract asked for one page with a bookmark at its end.
    pub(super) paged: bool,
    /// Results sent so far.
    sent: usize,
    /// A result read to see whether there are more, to be sent with the next portion.
    held: Option<QueryResultBytes>,
}

/// Results to send, and whether the query stays open for more.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) response: QueryResponse,
    pub(super) done: bool,
}

impl Query {
    pub(super) fn new(id: QueryId, paged: bool) -> Self {
        Self { id, paged, sent: 0, held: None }
    }

    /// Reads the next portion.
    pub(super) fn portion(
        &mut self,
        state: &mut dyn StateAccess,
        limits: QueryLimits,
    ) -> Result<Portion, StateError> {
        let mut results = Vec::new();
        let mut bytes = 0;
        let mut has_more = false;
        while let Some(result) = self.next(state, limits.total)? {
            let full = results.len() >= limits.portion || bytes >= PORTION_BYTES;
            if full && !self.paged {
                self.sent -= 1;
                self.held = Some(result);
                has_more = true;
                break;
            }
            bytes += result.result_bytes.len();
            results.push(result);
        }
        let metadata = if self.paged { self.page_metadata(state)? } else { Vec::new() };
        let response =
            QueryResponse { results, has_more, metadata: metadata.into(), ..Default::default() };
        Ok(Portion { response, done: !has_more })
    }

    fn next(
        &mut self,
        state: &mut dyn StateAccess,
        total: usize,
    ) -> Result<Option<QueryResultBytes>, StateError> {
        // At the limit nothing more is read, so that nothing more is recorded as read.
        if self.sent >= total {
            return Ok(None);
        }
        let result = match self.held.take() {
            Some(held) => Some(held),
            None => state.next(self.id)?.map(encode),
        };
        self.sent += usize::from(result.is_some());
        Ok(result)
    }

    fn page_metadata(&self, state: &mut dyn StateAccess) -> Result<Vec<u8>, StateError> {
        let bookmark = state.bookmark(self.id)?;
        let fetched_records_count = i32::try_from(self.sent).unwrap_or(i32::MAX);
        Ok(QueryResponseMetadata { fetched_records_count, bookmark }.encode_to_vec())
    }
}

fn encode(result: QueryResult) -> QueryResultBytes {
    let bytes = match result {
        QueryResult::State(kv) => kv.encode_to_vec(),
        QueryResult::History(modification) => modification.encode_to_vec(),
    };
    QueryResultBytes { result_bytes: bytes.into() }
}
