//! State in memory that shows what was written to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weft_peer::chaincode::{PrivateAccess, QueryId, QueryResult, StateAccess, StateError};
use weft_protos::queryresult::{KeyModification, Kv};

pub type Name = (String, String);
/// Namespace, collection and key.
pub type PrivateName = (String, String, String);

/// What is done to a private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivateWrite {
    Put(Bytes),
    Delete,
    Purge,
    Metadata(BTreeMap<String, Bytes>),
}

#[derive(Default)]
pub struct Committed {
    pub values: BTreeMap<Name, Bytes>,
    pub metadata: BTreeMap<Name, BTreeMap<String, Bytes>>,
    pub history: BTreeMap<Name, Vec<KeyModification>>,
    pub private: BTreeMap<PrivateName, Bytes>,
    pub private_metadata: BTreeMap<PrivateName, BTreeMap<String, Bytes>>,
}

/// One transaction's view: reads of what was committed, and its writes.
#[derive(Clone, Default)]
pub struct MemoryState {
    pub committed: Arc<Mutex<Committed>>,
    /// Called before a key is read.
    pub on_read: Option<Arc<dyn Fn() + Send + Sync>>,
    pub writes: BTreeMap<Name, Option<Bytes>>,
    pub metadata_writes: BTreeMap<Name, BTreeMap<String, Bytes>>,
    /// Private writes in their order.
    pub private_writes: Vec<(PrivateName, PrivateWrite)>,
    /// Results read from the store, over all queries.
    pub results_read: usize,
    queries: BTreeMap<QueryId, Open>,
    opened: u64,
    paged: bool,
}

#[derive(Clone, Default)]
struct Open {
    rows: Vec<QueryResult>,
    at: usize,
}

pub fn name(namespace: &str, key: &str) -> Name {
    (namespace.to_owned(), key.to_owned())
}

pub fn private_name(namespace: &str, collection: &str, key: &str) -> PrivateName {
    (namespace.to_owned(), collection.to_owned(), key.to_owned())
}

impl MemoryState {
    pub fn with(values: &[(&str, &str, &str)]) -> Self {
        let state = Self::default();
        for (namespace, key, value) in values {
            let value = Bytes::copy_from_slice(value.as_bytes());
            state.committed.lock().values.insert(name(namespace, key), value);
        }
        state
    }

    pub fn open_queries(&self) -> usize {
        self.queries.len()
    }

    /// Takes over the writes of a transaction.
    pub fn commit(&mut self) {
        let mut committed = self.committed.lock();
        for (name, value) in std::mem::take(&mut self.writes) {
            match value {
                Some(value) => committed.values.insert(name, value),
                None => committed.values.remove(&name),
            };
        }
        committed.metadata.extend(std::mem::take(&mut self.metadata_writes));
    }

    fn open(&mut self, rows: Vec<QueryResult>) -> QueryId {
        self.opened += 1;
        let id = QueryId(self.opened);
        self.queries.insert(id, Open { rows, at: 0 });
        id
    }

    fn rows(&self, namespace: &str, start: &str, end: &str) -> Vec<QueryResult> {
        let committed = self.committed.lock();
        committed
            .values
            .iter()
            .filter(|((of, key), _)| {
                of == namespace && key.as_str() >= start && (end.is_empty() || key.as_str() < end)
            })
            .map(|((namespace, key), value)| {
                QueryResult::State(Kv {
                    namespace: namespace.clone(),
                    key: key.clone(),
                    value: value.clone(),
                })
            })
            .collect()
    }

    fn write_private(&mut self, name: PrivateName, write: PrivateWrite) -> Result<(), StateError> {
        self.check_write()?;
        self.private_writes.push((name, write));
        Ok(())
    }

    fn check_write(&self) -> Result<(), StateError> {
        if self.paged {
            return Err(StateError::Refused("a paged query excludes writes".into()));
        }
        Ok(())
    }
}

impl StateAccess for MemoryState {
    fn get_state(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, StateError> {
        if let Some(on_read) = &self.on_read {
            on_read();
        }
        Ok(self.committed.lock().values.get(&name(namespace, key)).cloned())
    }

    fn put_state(&mut self, namespace: &str, key: &str, value: Bytes) -> Result<(), StateError> {
        self.check_write()?;
        self.writes.insert(name(namespace, key), Some(value));
        Ok(())
    }

    fn delete_state(&mut self, namespace: &str, key: &str) -> Result<(), StateError> {
        self.check_write()?;
        self.writes.insert(name(namespace, key), None);
        Ok(())
    }

    fn get_metadata(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        let committed = self.committed.lock();
        Ok(committed.metadata.get(&name(namespace, key)).cloned().unwrap_or_default())
    }

    fn put_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError> {
        self.check_write()?;
        self.metadata_writes.insert(name(namespace, key), entries);
        Ok(())
    }

    fn open_range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError> {
        let rows = self.rows(namespace, start, end);
        Ok(self.open(rows))
    }

    fn open_page(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        _page_size: usize,
    ) -> Result<QueryId, StateError> {
        if !self.writes.is_empty() {
            return Err(StateError::Refused("a paged query excludes writes".into()));
        }
        self.paged = true;
        self.open_range(namespace, start, end)
    }

    fn open_history(&mut self, namespace: &str, key: &str) -> Result<QueryId, StateError> {
        let history = self.committed.lock().history.get(&name(namespace, key)).cloned();
        let rows = history.unwrap_or_default().into_iter().rev().map(QueryResult::History);
        Ok(self.open(rows.collect()))
    }

    fn next(&mut self, query: QueryId) -> Result<Option<QueryResult>, StateError> {
        let open = self.queries.get_mut(&query);
        let open = open.ok_or_else(|| StateError::Refused("not open".into()))?;
        let row = open.rows.get(open.at).cloned();
        open.at += 1;
        self.results_read += usize::from(row.is_some());
        Ok(row)
    }

    fn bookmark(&mut self, query: QueryId) -> Result<String, StateError> {
        let open = self.queries.remove(&query).unwrap_or_default();
        Ok(match open.rows.get(open.at) {
            Some(QueryResult::State(kv)) => kv.key.clone(),
            _ => String::new(),
        })
    }

    fn close(&mut self, query: QueryId) {
        self.queries.remove(&query);
    }
}

impl PrivateAccess for MemoryState {
    fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, StateError> {
        let name = private_name(namespace, collection, key);
        Ok(self.committed.lock().private.get(&name).cloned())
    }

    fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, StateError> {
        let value = self.get_private(namespace, collection, key)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&weft_crypto::sha256(&value))))
    }

    fn put_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), StateError> {
        self.write_private(private_name(namespace, collection, key), PrivateWrite::Put(value))
    }

    fn delete_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), StateError> {
        self.write_private(private_name(namespace, collection, key), PrivateWrite::Delete)
    }

    fn purge_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), StateError> {
        self.write_private(private_name(namespace, collection, key), PrivateWrite::Purge)
    }

    fn get_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        let name = private_name(namespace, collection, key);
        Ok(self.committed.lock().private_metadata.get(&name).cloned().unwrap_or_default())
    }

    fn put_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError> {
        let name = private_name(namespace, collection, key);
        self.write_private(name, PrivateWrite::Metadata(entries))
    }

    fn open_private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError> {
        if !self.writes.is_empty() || !self.private_writes.is_empty() {
            return Err(StateError::Refused("a query of private keys excludes writes".into()));
        }
        self.paged = true;
        let inside = |key: &str| key >= start && (end.is_empty() || key < end);
        let committed = self.committed.lock();
        let found = committed
            .private
            .iter()
            .filter(|((of, name, key), _)| of == namespace && name == collection && inside(key));
        let row = |((namespace, _, key), value): (&PrivateName, &Bytes)| {
            let (namespace, key, value) = (namespace.clone(), key.clone(), value.clone());
            QueryResult::State(Kv { namespace, key, value })
        };
        let rows = found.map(row).collect();
        drop(committed);
        Ok(self.open(rows))
    }
}
