//! [`StateAccess`] over the ledger: one transaction's simulation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use weft_ledger::history::HistoryQuery;
use weft_ledger::{CursorId, Ledger, SimulationError, SimulationResults, Simulator};
use weft_protos::queryresult::Kv;

use super::state::{QueryId, QueryResult, StateAccess, StateError};

/// A transaction's simulation on a channel's ledger.
pub struct LedgerState {
    ledger: Arc<Ledger>,
    simulator: Simulator,
    keeps_history: bool,
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
}

impl LedgerState {
    /// Starts a simulation on the state as it is now. `keeps_history` tells whether the peer is
    /// set up to serve the histories of keys.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, keeps_history: bool) -> Self {
        let simulator = ledger.simulator();
        Self { ledger, simulator, keeps_history, queries: BTreeMap::new(), last_query: 0 }
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
}

impl StateAccess for LedgerState {
    fn get_state(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, StateError> {
        self.simulator.get_state(namespace, key).map_err(failed("read a key"))
    }

    fn get_states(
        &mut self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        self.simulator.get_states(namespace, keys).map_err(failed("read keys"))
    }

    fn put_state(&mut self, namespace: &str, key: &str, value: Bytes) -> Result<(), StateError> {
        self.simulator.put_state(namespace, key, value).map_err(failed("write a key"))
    }

    fn delete_state(&mut self, namespace: &str, key: &str) -> Result<(), StateError> {
        self.simulator.delete_state(namespace, key).map_err(failed("delete a key"))
    }

    fn get_metadata(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        self.simulator.get_state_metadata(namespace, key).map_err(failed("read a key's metadata"))
    }

    fn put_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError> {
        self.simulator
            .put_state_metadata(namespace, key, &entries)
            .map_err(failed("write a key's metadata"))
    }

    fn open_range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError> {
        let cursor =
            self.simulator.open_range(namespace, start, end).map_err(failed("open a query"))?;
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
        let cursor =
            self.simulator.open_page(namespace, start, end, size).map_err(failed("open a page"))?;
        let page = self.simulator.next_batch(cursor, size).map_err(failed("read a page"))?;
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
                let next = self.simulator.next(*cursor).map_err(failed("continue a query"))?;
                Ok(next.map(QueryResult::State))
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

/// Refusals keep their text; failures of the store tell the step.
fn failed(step: &'static str) -> impl FnOnce(SimulationError) -> StateError {
    move |error| match error {
        SimulationError::ReadOnly { .. }
        | SimulationError::Written { .. }
        | SimulationError::TooManyCursors { .. } => StateError::Refused(error.to_string()),
        error => StateError::Store { step, source: error.into() },
    }
}
