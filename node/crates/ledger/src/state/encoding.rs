//! How keys and values of state lie in the store. The formats are named at the declarations of
//! the columns ([`crate::kv::column`]).

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use super::{StateError, VersionedValue};
use crate::Version;
use crate::kv::KeyRange;

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateKey<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The key.
    pub key: &'a str,
}

impl StateKey<'_> {
    /// The key in the store.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.namespace.len() + self.key.len());
        append_text(&mut bytes, self.namespace);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }
}

/// A key of a collection: the hash of a private key, or the private key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionKey<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// The hash of the key, or the key.
    pub key: &'a [u8],
}

impl CollectionKey<'_> {
    /// The key in the store.
    pub fn encode(self) -> Vec<u8> {
        let length = 4 + self.namespace.len() + self.collection.len() + self.key.len();
        let mut bytes = Vec::with_capacity(length);
        append_text(&mut bytes, self.namespace);
        append_text(&mut bytes, self.collection);
        bytes.extend_from_slice(self.key);
        bytes
    }
}

/// Appends a text behind its length, so that no text's form is the beginning of another's.
pub(crate) fn append_text(to: &mut Vec<u8>, text: &str) {
    encode_varint(text.len() as u64, to);
    to.extend_from_slice(text.as_bytes());
}

/// The range of keys behind `prefix` from `start` up to, but without, `end`; either may be
/// empty, which is open.
pub(crate) fn key_range(prefix: Vec<u8>, start: &str, end: &str) -> KeyRange {
    let from = [&prefix, start.as_bytes()].concat();
    if end.is_empty() {
        return KeyRange { start: Some(from.into()), end: KeyRange::prefix(prefix).end };
    }
    KeyRange::new(from, [&prefix, end.as_bytes()].concat())
}

/// The text behind the first `prefix` bytes of a stored key.
pub(crate) fn decode_key(
    namespace: &str,
    stored: &[u8],
    prefix: usize,
) -> Result<String, StateError> {
    let key = stored.get(prefix..).map(<[u8]>::to_vec);
    key.and_then(|key| String::from_utf8(key).ok()).ok_or_else(|| corrupt(namespace, "key"))
}

/// Block, place, length of the metadata (each a varint), metadata, value.
pub(crate) fn encode_value(value: &[u8], metadata: &[u8], version: Version) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + metadata.len() + value.len());
    for number in [version.block, version.tx, metadata.len() as u64] {
        encode_varint(number, &mut bytes);
    }
    bytes.extend_from_slice(metadata);
    bytes.extend_from_slice(value);
    bytes
}

pub(crate) fn decode_value(
    namespace: &str,
    mut stored: Bytes,
) -> Result<VersionedValue, StateError> {
    let mut number = || decode_varint(&mut stored).map_err(|_| corrupt(namespace, "version"));
    let version = Version::new(number()?, number()?);
    let metadata_length = number()?;
    let metadata_length = usize::try_from(metadata_length)
        .ok()
        .filter(|&length| length <= stored.len())
        .ok_or_else(|| corrupt(namespace, "metadata"))?;
    let metadata = stored.split_to(metadata_length);
    Ok(VersionedValue { value: stored, metadata, version })
}

pub(crate) fn corrupt(namespace: &str, reason: &'static str) -> StateError {
    StateError::Corrupt { namespace: namespace.to_owned(), reason }
}
