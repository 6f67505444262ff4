//! [`StateAccess`] over the ledger: one transaction's simulation.

mod private;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use weft_ledger::history::HistoryQuery;
use weft_ledger::{CursorId, Ledger, SimulationError, SimulationResults, Simulator};
use weft_protos::queryresult::Kv;

use self::private::PrivateRange;
use super::state::{QueryId, QueryResult, StateAccess, StateError};

/// A transaction's simulation on a channel's ledger.
pub struct LedgerState {
    ledger: Arc<Ledger>,
    simulator: Simulator,
    tx_id: String,
    keeps_history: bool,
    /// Whether private keys were queried, which excludes writes.
    private_queried: bool,
    queries: BTreeMap<QueryId, Query>,
    last_query: u64,
}

/// An open query.
enum Query {
    Range(CursorId),
    /// A page is read as a whole, as it is sent as a whole.
    Page {
        entries: VecDeque<Kv>,
        bookmark: String,
    },
    History(Box<HistoryQuery>),
    Private(Box<PrivateRange>),
}

impl LedgerState {
    /// Starts the simulation of a transaction on the state as it is now. `keeps_history` tells
    /// whether the peer is set up to serve the histories of keys.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, tx_id: impl Into<String>, keeps_history: bool) -> Self {
        let simulator = ledger.simulator();
        Self {
            ledger,
            simulator,
            tx_id: tx_id.into(),
            keeps_history,
            private_queried: false,
            queries: BTreeMap::new(),
            last_query: 0,
        }
    }

    /// The simulation, for reads of definitions and the like.
    pub fn simulator(&mut self) -> &mut Simulator {
        &mut self.simulator
    }

    /// Ends the simulation and gives what was read and written.
    #[must_use]
    pub fn finish(self) -> SimulationResults {
        self.simulator.finish()
    }

    fn keep(&mut self, query: Query) -> QueryId {
        self.last_query += 1;
        let id = QueryId(self.last_query);
        self.queries.insert(id, query);
        id
    }

    /// Refusals keep a text that clients know, Fabric's; failures of the store tell the step.
    fn failed(&self, step: &'static str) -> impl FnOnce(SimulationError) -> StateError {
        move |error| match error {
            SimulationError::ReadOnly { .. } => {
                let queries = match self.private_queried {
                    true => "queries on pvt data",
                    false => "a paginated query",
                };
                let why = "Transaction has already performed";
                refused(&self.tx_id, &format!("{why} {queries}. Writes are not allowed"))
            }
            SimulationError::Written { .. } => {
                let why = "Paginated queries are supported only in a read-only transaction";
                refused(&self.tx_id, why)
            }
            SimulationError::TooManyCursors { .. } => StateError::Refused(error.to_string()),
            error => StateError::Store { step, source: error.into() },
        }
    }
}

impl StateAccess for LedgerState {
    fn get_state(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, StateError> {
        self.simulator.get_state(namespace, key).map_err(self.failed("read a key"))
    }

    fn get_states(
        &mut self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        self.simulator.get_states(namespace, keys).map_err(self.failed("read keys"))
    }

    fn put_state(&mut self, namespace: &str, key: &str, value: Bytes) -> Result<(), StateError> {
        self.simulator.put_state(namespace, key, value).map_err(self.failed("write a key"))
    }

    fn delete_state(&mut self, namespace: &str, key: &str) -> Result<(), StateError> {
        self.simulator.delete_state(namespace, key).map_err(self.failed("delete a key"))
    }

    fn get_metadata(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        self.simulator
            .get_state_metadata(namespace, key)
            .map_err(self.failed("read a key's metadata"))
    }

    fn put_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError> {
        self.simulator
            .put_state_metadata(namespace, key, &entries)
            .map_err(self.failed("write a key's metadata"))
    }

    fn open_range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError> {
        let cursor = self
            .simulator
            .open_range(namespace, start, end)
            .map_err(self.failed("open a query"))?;
        Ok(self.keep(Query::Range(cursor)))
    }

    fn open_page(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        page_size: usize,
    ) -> Result<QueryId, StateError> {
        let size = if page_size == 0 { usize::MAX } else { page_size };
        let cursor = self
            .simulator
            .open_page(namespace, start, end, size)
            .map_err(self.failed("open a page"))?;
        let page = self.simulator.next_batch(cursor, size).map_err(self.failed("read a page"))?;
        Ok(self.keep(Query::Page { entries: page.entries.into(), bookmark: page.bookmark }))
    }

    fn open_history(&mut self, namespace: &str, key: &str) -> Result<QueryId, StateError> {
        if !self.keeps_history {
            return Err(StateError::Unsupported("history database is not enabled".to_owned()));
        }
        let history = self.ledger.history(namespace, key);
        Ok(self.keep(Query::History(Box::new(history))))
    }

    fn next(&mut self, query: QueryId) -> Result<Option<QueryResult>, StateError> {
        match self.queries.get_mut(&query) {
            None => Err(not_open()),
            Some(Query::Range(cursor)) => {
                let next = self.simulator.next(*cursor).map_err(self.failed("continue a query"))?;
                Ok(next.map(QueryResult::State))
            }
            Some(Query::Private(range)) => {
                Ok(range.next(&mut self.simulator)?.map(QueryResult::State))
            }
            Some(Query::Page { entries, .. }) => Ok(entries.pop_front().map(QueryResult::State)),
            Some(Query::History(history)) => {
                let next = history.next().transpose().map_err(|source| StateError::Store {
                    step: "read a key's history",
                    source: source.into(),
                })?;
                Ok(next.map(QueryResult::History))
            }
        }
    }

    fn bookmark(&mut self, query: QueryId) -> Result<String, StateError> {
        match self.queries.remove(&query) {
            Some(Query::Page { bookmark, .. }) => Ok(bookmark),
            _ => Err(not_open()),
        }
    }

    fn close(&mut self, query: QueryId) {
        if let Some(Query::Range(cursor)) = self.queries.remove(&query) {
            // The cursor is open, so closing it cannot fail.
            let _ = self.simulator.close(cursor);
        }
    }
}

fn not_open() -> StateError {
    StateError::Refused("the query is not open".to_owned())
}

/// Queries and writes that exclude each other, in Fabric's words, its spelling included
/// (core/ledger/kvledger/txmgmt/txmgr/tx_simulator.go).
fn refused(tx_id: &str, why: &str) -> StateError {
    StateError::Refused(format!("txid [{tx_id}]: unsuppored transaction. {why}"))
}
