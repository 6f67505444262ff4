//! Simulation of a transaction: reads see the state as of one moment, and what is read and
//! written is recorded (Fabric: core/ledger/kvledger/txmgmt/txmgr).
//!
//! A transaction does not see its own writes. A paged query excludes writes, because a page
//! cannot be checked for phantoms; the same holds for a range of private keys.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use prost::Message as _;
use weft_protos::ext::DecodeError;
use weft_protos::queryresult;
use weft_protos::rwset::{TxPvtReadWriteSet, TxReadWriteSet};

use crate::cursor::{Cursor, CursorId};
use crate::rwset::{BuiltRwSet, RwSetBuilder};
use crate::state::metadata::{self, Metadata};
use crate::state::{KvState, StateEntry, StateError, StateReader};

pub use crate::cursor::{QueryLimits, RangeBatch};

/// A step of a simulation that failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The state cannot be read.
    #[error("failed to read the state")]
    State(#[source] StateError),
    /// A key's metadata is not in its stored form.
    #[error("failed to read the metadata of key {key:?} in namespace {namespace:?}")]
    Metadata {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
        /// Why not.
        source: DecodeError,
    },
    /// A write after a query that excludes writes.
    #[error("failed to write: the transaction has performed {query}, which excludes writes")]
    ReadOnly {
        /// The query.
        query: &'static str,
    },
    /// A query that excludes writes after a write.
    #[error("failed to query: {query} is supported only in a transaction that does not write")]
    Written {
        /// The query.
        query: &'static str,
    },
    /// The cursor was never opened or is closed.
    #[error("failed to continue a query: there is no open cursor {id}")]
    NoCursor {
        /// The cursor.
        id: CursorId,
    },
    /// Too many ranges are read in one transaction.
    #[error("failed to open a query: the transaction has opened {limit} already")]
    TooManyCursors {
        /// The limit.
        limit: usize,
    },
    /// The peer does not have the private value whose hash the state holds.
    #[error(
        "failed to read a private key of {namespace:?}, {collection:?}: this peer does not have the value that belongs to the public hash"
    )]
    PrivateMissing {
        /// The namespace.
        namespace: String,
        /// The collection.
        collection: String,
    },
}

/// What a simulation came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulationResults {
    /// The encoded public read-write set: the `results` of the chaincode action.
    pub public_bytes: Bytes,
    /// The same as a message.
    pub public: TxReadWriteSet,
    /// The private writes, where there are any.
    pub private: Option<TxPvtReadWriteSet>,
    /// The collections of which private values were read: namespace and collection.
    pub private_reads: BTreeSet<(String, String)>,
}

/// A simulation in progress.
pub struct Simulator {
    state: KvState,
    builder: RwSetBuilder,
    cursors: Vec<Cursor>,
    open: HashMap<CursorId, usize>,
    limits: QueryLimits,
    written: bool,
    read_only: Option<&'static str>,
    private_reads: BTreeSet<(String, String)>,
}

const PAGED_QUERY: &str = "a paged query";
const PRIVATE_QUERY: &str = "a query of private keys";

impl Simulator {
    /// Starts on `state`, which must be a snapshot.
    pub fn new(state: KvState, limits: QueryLimits) -> Self {
        Self {
            state,
            builder: RwSetBuilder::new(),
            cursors: Vec::new(),
            open: HashMap::new(),
            limits,
            written: false,
            read_only: None,
            private_reads: BTreeSet::new(),
        }
    }

    /// The state that is read, for reads that are not to be recorded.
    pub fn state(&self) -> &KvState {
        &self.state
    }

    /// A key's value, `None` where it does not exist.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn get_state(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<Bytes>, SimulationError> {
        let found = self.state.get(namespace, key).map_err(SimulationError::State)?;
        self.builder.read(namespace, key, found.as_ref().map(|found| found.version));
        Ok(found.map(|found| found.value))
    }

    /// Several keys' values, in their order.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn get_states(
        &mut self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, SimulationError> {
        let found = self.state.get_many(namespace, keys).map_err(SimulationError::State)?;
        for (key, found) in keys.iter().zip(&found) {
            self.builder.read(namespace, key, found.as_ref().map(|found| found.version));
        }
        Ok(found.into_iter().map(|found| found.map(|found| found.value)).collect())
    }

    /// A key's metadata; none where the key does not exist. Recorded as a read of the key.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn get_state_metadata(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<Metadata, SimulationError> {
        let found = self.state.get(namespace, key).map_err(SimulationError::State)?;
        self.builder.read(namespace, key, found.as_ref().map(|found| found.version));
        let stored = found.map(|found| found.metadata).unwrap_or_default();
        parse_metadata(namespace, key, &stored)
    }

    /// Writes a key; an empty value deletes it.
    ///
    /// # Errors
    /// Fails after a query that excludes writes.
    pub fn put_state(
        &mut self,
        namespace: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), SimulationError> {
        self.before_write()?;
        self.builder.write(namespace, key, value);
        Ok(())
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// Fails after a query that excludes writes.
    pub fn delete_state(&mut self, namespace: &str, key: &str) -> Result<(), SimulationError> {
        self.put_state(namespace, key, Bytes::new())
    }

    /// Writes all of a key's metadata; none deletes it.
    ///
    /// # Errors
    /// Fails after a query that excludes writes.
    pub fn put_state_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        metadata: &Metadata,
    ) -> Result<(), SimulationError> {
        self.before_write()?;
        self.builder.write_metadata(namespace, key, metadata);
        Ok(())
    }

    /// Opens a query of the keys from `start` up to, but without, `end`; either may be empty,
    /// which is open.
    ///
    /// # Errors
    /// Fails where too many queries were opened.
    pub fn open_range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Result<CursorId, SimulationError> {
        self.open_cursor(Cursor::range(namespace, start, end, &self.limits))
    }

    /// Opens a query of one page of at most `size` keys. `start` is the bookmark of the page
    /// before, where there is one.
    ///
    /// # Errors
    /// Fails after a write, or where too many queries were opened.
    pub fn open_page(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        size: usize,
    ) -> Result<CursorId, SimulationError> {
        self.before_read_only(PAGED_QUERY)?;
        self.open_cursor(Cursor::page(namespace, start, end, size, &self.limits))
    }

    /// The next entry of a query, `None` at its end.
    ///
    /// # Errors
    /// Fails where the cursor is not open or the state cannot be read.
    pub fn next(&mut self, cursor: CursorId) -> Result<Option<queryresult::Kv>, SimulationError> {
        let state = self.state.clone();
        self.cursor(cursor)?.next(&state).map_err(SimulationError::State)
    }

    /// The next entries of a query, at most `max` of them, as the peer sends them to a
    /// contract. The query is closed with its last batch, and a page's batch has the bookmark.
    ///
    /// One entry more than is returned is read, to know whether there is one; it is part of the
    /// recorded range, as in Fabric (core/chaincode/query_response_generator.go).
    ///
    /// # Errors
    /// Fails where the cursor is not open or the state cannot be read.
    pub fn next_batch(
        &mut self,
        cursor: CursorId,
        max: usize,
    ) -> Result<RangeBatch, SimulationError> {
        let state = self.state.clone();
        let batch = self.cursor(cursor)?.next_batch(&state, max.max(1));
        let batch = batch.map_err(SimulationError::State)?;
        if !batch.has_more {
            self.open.remove(&cursor);
        }
        Ok(batch)
    }

    /// Closes a query. What it read stays recorded.
    ///
    /// # Errors
    /// Fails where the cursor is not open.
    pub fn close(&mut self, cursor: CursorId) -> Result<(), SimulationError> {
        let closed = self.open.remove(&cursor);
        closed.map(|_| ()).ok_or(SimulationError::NoCursor { id: cursor })
    }

    /// A private key's value.
    ///
    /// # Errors
    /// Fails where the state cannot be read, or this peer does not have the value.
    pub fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, SimulationError> {
        let value = self.state.get_private(namespace, collection, key);
        let value = value.map_err(SimulationError::State)?;
        let hash = self.hash_of(namespace, collection, key)?;
        let version = hash.map(|hash| hash.version);
        if value.as_ref().map(|value| value.version) != version {
            let (namespace, collection) = (namespace.to_owned(), collection.to_owned());
            return Err(SimulationError::PrivateMissing { namespace, collection });
        }
        self.builder.read_private(namespace, collection, key, version);
        self.private_reads.insert((namespace.to_owned(), collection.to_owned()));
        Ok(value.map(|value| value.value))
    }

    /// The hash of a private key's value, which every peer of the channel has.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, SimulationError> {
        let found = self.hash_of(namespace, collection, key)?;
        let version = found.as_ref().map(|found| found.version);
        self.builder.read_private(namespace, collection, key, version);
        Ok(found.map(|found| found.value))
    }

    /// A private key's metadata. Recorded as a read of the key.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn get_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Metadata, SimulationError> {
        let found = self.hash_of(namespace, collection, key)?;
        let version = found.as_ref().map(|found| found.version);
        self.builder.read_private(namespace, collection, key, version);
        parse_metadata(namespace, key, &found.map(|found| found.metadata).unwrap_or_default())
    }

    /// Up to `limit` private keys from `start` up to, but without, `end`. Not recorded.
    ///
    /// # Errors
    /// Fails after a write, or where the state cannot be read.
    pub fn private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        range: (&str, &str),
        limit: usize,
    ) -> Result<Vec<StateEntry>, SimulationError> {
        self.before_read_only(PRIVATE_QUERY)?;
        let found = self.state.private_range(namespace, collection, range, limit);
        found.map_err(SimulationError::State)
    }

    /// Writes a private key; an empty value deletes it.
    ///
    /// # Errors
    /// Fails after a query that excludes writes.
    pub fn put_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), SimulationError> {
        self.before_write()?;
        self.builder.write_private(namespace, collection, key, value);
        Ok(())
    }

    /// Deletes a private key with its history.
    ///
    /// # Errors
    /// Fails after a query that excludes writes.
    pub fn purge_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), SimulationError> {
        self.before_write()?;
        self.builder.purge_private(namespace, collection, key);
        Ok(())
    }

    /// Writes all of a private key's metadata; none deletes it.
    ///
    /// # Errors
    /// Fails after a query that excludes writes.
    pub fn put_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        metadata: &Metadata,
    ) -> Result<(), SimulationError> {
        self.before_write()?;
        self.builder.write_private_metadata(namespace, collection, key, metadata);
        Ok(())
    }

    /// Ends the simulation.
    pub fn finish(mut self) -> SimulationResults {
        for cursor in self.cursors {
            let (namespace, info) = cursor.into_info();
            self.builder.range(&namespace, info);
        }
        let BuiltRwSet { public, private } = self.builder.build();
        let public_bytes = public.encode_to_vec().into();
        SimulationResults { public_bytes, public, private, private_reads: self.private_reads }
    }

    fn hash_of(
        &self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<crate::state::VersionedValue>, SimulationError> {
        let hash = weft_crypto::sha256(key.as_bytes());
        self.state.get_hash(namespace, collection, &hash).map_err(SimulationError::State)
    }

    fn before_write(&mut self) -> Result<(), SimulationError> {
        if let Some(query) = self.read_only {
            return Err(SimulationError::ReadOnly { query });
        }
        self.written = true;
        Ok(())
    }

    fn before_read_only(&mut self, query: &'static str) -> Result<(), SimulationError> {
        if self.written {
            return Err(SimulationError::Written { query });
        }
        self.read_only = Some(query);
        Ok(())
    }

    fn open_cursor(&mut self, cursor: Cursor) -> Result<CursorId, SimulationError> {
        let limit = self.limits.cursors;
        if self.cursors.len() >= limit {
            return Err(SimulationError::TooManyCursors { limit });
        }
        let id = CursorId::new(self.cursors.len());
        self.open.insert(id, self.cursors.len());
        self.cursors.push(cursor);
        Ok(id)
    }

    fn cursor(&mut self, id: CursorId) -> Result<&mut Cursor, SimulationError> {
        let place = self.open.get(&id).copied();
        place.and_then(|place| self.cursors.get_mut(place)).ok_or(SimulationError::NoCursor { id })
    }
}

fn parse_metadata(namespace: &str, key: &str, stored: &Bytes) -> Result<Metadata, SimulationError> {
    metadata::parse(stored).map_err(|source| {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        SimulationError::Metadata { namespace, key, source }
    })
}
