//! State: what every key of every namespace is now, and how it lies in the store.
//!
//! A namespace is a chaincode's name. Its public keys, the hashes of its private keys and the
//! private keys themselves are three separate maps.

pub mod composite;
pub(crate) mod encoding;
pub mod metadata;
pub(crate) mod overlay;
mod reader;

use bytes::Bytes;

use crate::Version;
use crate::kv::KvError;

pub use encoding::{CollectionKey, StateKey};
pub use overlay::OverlayState;
pub use reader::{KvState, StateReader};

/// A key's value with what comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedValue {
    /// The value; for a private key's hash, the hash of the value.
    pub value: Bytes,
    /// The key's metadata in its stored form, empty without any: see [`metadata`].
    pub metadata: Bytes,
    /// The transaction that wrote it.
    pub version: Version,
}

/// A key found in a range, with its value.
pub type StateEntry = (String, VersionedValue);

/// A failure to read state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// The store below failed.
    #[error("failed to {step}")]
    Store {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: KvError,
    },
    /// A stored record is not what was written.
    #[error("failed to decode a record of namespace {namespace:?}: {reason}")]
    Corrupt {
        /// The namespace.
        namespace: String,
        /// What is wrong with the record.
        reason: &'static str,
    },
}

impl StateError {
    /// Whether the same call can succeed later without a repair of the data.
    pub fn can_retry(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.can_retry())
    }
}
