//! Reading state.

use std::sync::Arc;

use bytes::Bytes;

use super::encoding::{self, CollectionKey, StateKey};
use super::{StateEntry, StateError, VersionedValue};
use crate::Version;
use crate::kv::column::{Column, PRIVATE_STATE, STATE, STATE_HASHES};
use crate::kv::{Direction, KvError, KvRead};

/// State as of one moment.
pub trait StateReader: Send + Sync {
    /// A public key's value, `None` where the key does not exist.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError>;

    /// The hash of a private key's value, by the hash of the key.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn get_hash(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, StateError>;

    /// The first `limit` public keys from `start` up to, but without, `end`, in byte order.
    /// An empty `start` or `end` is open.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError>;

    /// Several public keys of a namespace, in their order.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn get_many(
        &self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<VersionedValue>>, StateError> {
        keys.iter().map(|key| self.get(namespace, key)).collect()
    }

    /// A public key's version, `None` where the key does not exist.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn version(&self, namespace: &str, key: &str) -> Result<Option<Version>, StateError> {
        Ok(self.get(namespace, key)?.map(|found| found.version))
    }
}

/// State in a store, or in a snapshot of one.
#[derive(Clone)]
pub struct KvState {
    reader: Arc<dyn KvRead>,
}

impl KvState {
    /// Reads state from here.
    pub fn new(reader: Arc<dyn KvRead>) -> Self {
        Self { reader }
    }

    /// What the state is read from.
    pub fn reader(&self) -> &Arc<dyn KvRead> {
        &self.reader
    }

    /// A private key's value, where this peer has it. It may be older than the hash of the same
    /// key: compare the versions.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn get_private(
        &self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<VersionedValue>, StateError> {
        let stored = CollectionKey { namespace, collection, key: key.as_bytes() }.encode();
        self.value(PRIVATE_STATE, namespace, &stored)
    }

    /// The first `limit` private keys that this peer has, as [`StateReader::range`].
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn private_range(
        &self,
        namespace: &str,
        collection: &str,
        range: (&str, &str),
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        let prefix = CollectionKey { namespace, collection, key: &[] }.encode();
        self.entries(PRIVATE_STATE, namespace, prefix, range, limit)
    }

    fn entries(
        &self,
        column: Column,
        namespace: &str,
        prefix: Vec<u8>,
        (start, end): (&str, &str),
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        let skip = prefix.len();
        let range = encoding::key_range(prefix, start, end);
        let found = self.reader.scan(column, &range, Direction::Forward, limit);
        let decode = |(key, value): (Bytes, Bytes)| {
            let key = encoding::decode_key(namespace, &key, skip)?;
            Ok((key, encoding::decode_value(namespace, value)?))
        };
        found.map_err(failed("read a range"))?.into_iter().map(decode).collect()
    }

    fn value(
        &self,
        column: Column,
        namespace: &str,
        stored: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        let bytes = self.reader.get(column, stored).map_err(failed("read a key"))?;
        bytes.map(|bytes| encoding::decode_value(namespace, bytes)).transpose()
    }
}

impl StateReader for KvState {
    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError> {
        self.value(STATE, namespace, &StateKey { namespace, key }.encode())
    }

    fn get_hash(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        let stored = CollectionKey { namespace, collection, key: key_hash }.encode();
        self.value(STATE_HASHES, namespace, &stored)
    }

    fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        let prefix = StateKey { namespace, key: "" }.encode();
        self.entries(STATE, namespace, prefix, (start, end), limit)
    }

    fn get_many(
        &self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<VersionedValue>>, StateError> {
        let stored: Vec<Vec<u8>> =
            keys.iter().map(|key| StateKey { namespace, key }.encode()).collect();
        let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
        let found = self.reader.multi_get(STATE, &stored).map_err(failed("read keys"))?;
        let decode = |bytes: Bytes| encoding::decode_value(namespace, bytes);
        found.into_iter().map(|bytes| bytes.map(decode).transpose()).collect()
    }
}

fn failed(step: &'static str) -> impl FnOnce(KvError) -> StateError {
    move |source| StateError::Store { step, source }
}
