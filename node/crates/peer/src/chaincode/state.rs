//! What a contract's requests for state are carried out on.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_protos::queryresult::{KeyModification, Kv};

use crate::blocking::Blocking;

/// A transaction's state, as async code holds it.
pub type BlockingState = Blocking<dyn StateAccess>;

/// Names an open query of one transaction's state. It is the implementation that hands them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// One result of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryResult {
    /// A key and its value.
    State(Kv),
    /// One modification of a key.
    History(KeyModification),
}

/// A request that the state cannot serve. Its text reaches the contract and the client.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The request is not acceptable, such as a write after a query in pages.
    #[error("{0}")]
    Refused(String),
    /// This peer has no such feature, such as the history of keys.
    #[error("{0}")]
    Unsupported(String),
    /// The store failed.
    #[error("failed to {step}: {source}")]
    Store {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Private data as one transaction sees it, beside [`StateAccess`] (Fabric: core/ledger
/// TxSimulator). Who may use a collection is not asked here: that is done before
/// ([`super::Host::collection`]).
pub trait PrivateAccess: Send {
    /// The committed value of a private key. Writes of this transaction do not show.
    ///
    /// # Errors
    /// Fails where this peer does not have the value whose hash is on the ledger, and when the
    /// store fails.
    fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, StateError>;

    /// SHA-256 of the committed value of a private key, which every peer of the channel has.
    ///
    /// # Errors
    /// Fails when the store does.
    fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, StateError>;

    /// Sets a private key.
    ///
    /// # Errors
    /// Fails where writes are not allowed, as after a query of private keys.
    fn put_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), StateError>;

    /// Deletes a private key, whether it exists or not.
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private).
    fn delete_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), StateError>;

    /// Deletes a private key together with all values that it ever had.
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private).
    fn purge_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), StateError>;

    /// The metadata of a private key, which every peer of the channel has; empty when it has none.
    ///
    /// # Errors
    /// Fails when the store does.
    fn get_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError>;

    /// Replaces all metadata of a private key by `entries`.
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private).
    fn put_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError>;

    /// Opens a query over private keys from `start` up to but without `end`, in byte order; an
    /// empty bound is open. What it reads is not recorded, so the transaction may not write.
    ///
    /// # Errors
    /// Fails when the store does, or where the transaction has written already.
    fn open_private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError>;
}

/// State of one channel as one transaction sees it: reads come from a snapshot and are recorded,
/// writes are collected (Fabric: core/ledger TxSimulator). The namespace is the name of the
/// contract at work. Calls do not wait for anything but the local store, so async code makes them
/// through [`BlockingState`].
pub trait StateAccess: PrivateAccess {
    /// The committed value of a key. Writes of this transaction do not show.
    ///
    /// # Errors
    /// Fails when the store does.
    fn get_state(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, StateError>;

    /// The committed values of several keys, in their order.
    ///
    /// # Errors
    /// Fails when the store does.
    fn get_states(
        &mut self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        keys.iter().map(|key| self.get_state(namespace, key)).collect()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// Fails where writes are not allowed, as after a query in pages.
    fn put_state(&mut self, namespace: &str, key: &str, value: Bytes) -> Result<(), StateError>;

    /// Deletes a key, whether it exists or not.
    ///
    /// # Errors
    /// Fails where writes are not allowed, as after a query in pages.
    fn delete_state(&mut self, namespace: &str, key: &str) -> Result<(), StateError>;

    /// The metadata of a key, empty when it has none.
    ///
    /// # Errors
    /// Fails when the store does.
    fn get_metadata(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError>;

    /// Replaces all metadata of a key by `entries`, as Fabric does.
    ///
    /// # Errors
    /// Fails where writes are not allowed, as after a query in pages.
    fn put_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError>;

    /// Opens a query over keys from `start` up to but without `end`, in byte order; an empty
    /// bound is open.
    ///
    /// # Errors
    /// Fails when the store does.
    fn open_range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError>;

    /// As [`open_range`](Self::open_range), for one page of `page_size` keys (0: as many as
    /// there are); the caller asks for no more than that and then for the bookmark.
    ///
    /// # Errors
    /// Fails when the store does, or where the transaction has written already.
    fn open_page(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        page_size: usize,
    ) -> Result<QueryId, StateError>;

    /// Opens a query over the modifications of a key, the newest first.
    ///
    /// # Errors
    /// Fails when the store does, or where the peer keeps no history.
    fn open_history(&mut self, namespace: &str, key: &str) -> Result<QueryId, StateError>;

    /// The next result of a query; `None` at its end.
    ///
    /// # Errors
    /// Fails when the store does, or for a query that is not open.
    fn next(&mut self, query: QueryId) -> Result<Option<QueryResult>, StateError>;

    /// Closes a query in pages and gives the key at which the next page starts, empty at the end.
    ///
    /// # Errors
    /// Fails when the store does, or for a query that is not open.
    fn bookmark(&mut self, query: QueryId) -> Result<String, StateError>;

    /// Closes a query; closing one that is not open does nothing.
    fn close(&mut self, query: QueryId);
}
