//! Metadata of keys: named values beside the value, above all the key's own endorsement policy.
//!
//! Stored, the entries stand in a `KVMetadataWrite` without its key, sorted by name
//! (Fabric: core/ledger/kvledger/txmgmt/statemetadata).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::kvrwset::{KvMetadataEntry, KvMetadataWrite};

/// The name under which a key's own endorsement policy is kept: an encoded
/// `common.SignaturePolicyEnvelope` or `ApplicationPolicy`.
pub const VALIDATION_PARAMETER: &str = "VALIDATION_PARAMETER";

/// Named values of a key.
pub type Metadata = BTreeMap<String, Bytes>;

/// The entries in the order of their names.
pub fn to_entries(metadata: &Metadata) -> Vec<KvMetadataEntry> {
    let entry = |(name, value): (&String, &Bytes)| KvMetadataEntry {
        name: name.clone(),
        value: value.clone(),
    };
    metadata.iter().map(entry).collect()
}

/// The stored form of entries; empty where there are none.
pub fn encode(entries: &[KvMetadataEntry]) -> Bytes {
    KvMetadataWrite { key: String::new(), entries: entries.to_vec() }.encode_to_vec().into()
}

/// The entries of the stored form; of two with one name the later counts.
///
/// # Errors
/// Fails where the bytes are not the stored form.
pub fn parse(stored: &Bytes) -> Result<Metadata, DecodeError> {
    let metadata: KvMetadataWrite = decode("metadata of a key", stored.clone())?;
    Ok(metadata.entries.into_iter().map(|entry| (entry.name, entry.value)).collect())
}

/// The key's own endorsement policy, where it has one.
///
/// # Errors
/// Fails where the bytes are not the stored form.
pub fn validation_parameter(stored: &Bytes) -> Result<Option<Bytes>, DecodeError> {
    if stored.is_empty() {
        return Ok(None);
    }
    Ok(parse(stored)?.remove(VALIDATION_PARAMETER))
}
