//! Parsed read-write sets.

use std::sync::OnceLock;

use bytes::Bytes;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::kvrwset::{HashedRwSet, KvWrite, KvWriteHash, KvrwSet};
use weft_protos::rwset::{NsReadWriteSet, TxReadWriteSet};

/// A read-write set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RwSetError {
    /// The outer message cannot be decoded.
    #[error("failed to read a read-write set")]
    Decode(#[source] DecodeError),
    /// A namespace's part cannot be decoded.
    #[error("failed to read the read-write set of namespace {namespace:?}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// What could not be decoded.
        source: DecodeError,
    },
    /// Private writes do not have the hash that the transaction carries.
    #[error("failed to match private writes of {namespace:?}, {collection:?}: the hash differs")]
    PrivateHash {
        /// The namespace.
        namespace: String,
        /// The collection.
        collection: String,
    },
}

/// What a transaction read and wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxRwSet {
    /// By namespace, in the order of the message.
    pub namespaces: Vec<NsRwSet>,
}

/// Reads and writes in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NsRwSet {
    /// The namespace: a chaincode's name.
    pub namespace: String,
    /// Public reads and writes.
    pub public: KvrwSet,
    /// Reads and writes of collections, hashed.
    pub collections: Vec<CollectionRwSet>,
}

/// Hashed reads and writes in one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionRwSet {
    /// The collection.
    pub collection: String,
    /// The reads and writes.
    pub hashed: HashedRwSet,
    /// The hash of the private writes themselves; empty where there are none.
    pub private_hash: Bytes,
}

impl TxRwSet {
    /// Parses a `ChaincodeAction`'s results.
    ///
    /// # Errors
    /// Fails where a part cannot be decoded.
    pub fn parse(results: Bytes) -> Result<Self, RwSetError> {
        let message: TxReadWriteSet =
            decode("read-write set", results).map_err(RwSetError::Decode)?;
        Self::from_proto(message)
    }

    /// Parses the parts of a decoded message.
    ///
    /// # Errors
    /// Fails where a part cannot be decoded.
    pub fn from_proto(message: TxReadWriteSet) -> Result<Self, RwSetError> {
        let namespaces = message.ns_rwset.into_iter().map(NsRwSet::from_proto);
        Ok(Self { namespaces: namespaces.collect::<Result<_, _>>()? })
    }

    /// The part of a namespace.
    pub fn namespace(&self, namespace: &str) -> Option<&NsRwSet> {
        self.namespaces.iter().find(|part| part.namespace == namespace)
    }
}

impl NsRwSet {
    fn from_proto(message: NsReadWriteSet) -> Result<Self, RwSetError> {
        let namespace = message.namespace;
        let failed = |source| RwSetError::Namespace { namespace: namespace.clone(), source };
        let public = decode("read-write set of a namespace", message.rwset).map_err(failed)?;
        let mut collections = Vec::with_capacity(message.collection_hashed_rwset.len());
        for part in message.collection_hashed_rwset {
            let hashed =
                decode("read-write set of a collection", part.hashed_rwset).map_err(failed)?;
            let (collection, private_hash) = (part.collection_name, part.pvt_rwset_hash);
            collections.push(CollectionRwSet { collection, hashed, private_hash });
        }
        Ok(Self { namespace, public, collections })
    }

    /// Whether anything is written: a key, its metadata, or a hash of either.
    pub fn has_writes(&self) -> bool {
        !self.public.writes.is_empty()
            || !self.public.metadata_writes.is_empty()
            || self.collections.iter().any(|part| {
                !part.hashed.hashed_writes.is_empty() || !part.hashed.metadata_writes.is_empty()
            })
    }
}

/// Whether a write deletes its key. An empty value does, as in Fabric since its FAB-18386.
pub fn is_delete(write: &KvWrite) -> bool {
    write.is_delete || write.value.is_empty()
}

/// Whether a write of a private key's hash deletes it; the hash of an empty value does.
pub fn is_hash_delete(write: &KvWriteHash) -> bool {
    static EMPTY: OnceLock<[u8; 32]> = OnceLock::new();
    write.is_delete
        || write.value_hash.is_empty()
        || write.value_hash == EMPTY.get_or_init(|| weft_crypto::sha256(&[]))[..]
}

/// Reads private writes, after a check that they are the ones with the hash that a read-write set
/// names for the collection ([`CollectionRwSet::private_hash`]).
///
/// # Errors
/// Fails where they do not have the hash or cannot be decoded.
pub fn private_writes(
    namespace: &str,
    collection: &str,
    hash: &[u8],
    writes: Bytes,
) -> Result<KvrwSet, RwSetError> {
    if weft_crypto::sha256(&writes)[..] != *hash {
        let (namespace, collection) = (namespace.to_owned(), collection.to_owned());
        return Err(RwSetError::PrivateHash { namespace, collection });
    }
    decode("private writes", writes)
        .map_err(|source| RwSetError::Namespace { namespace: namespace.to_owned(), source })
}
