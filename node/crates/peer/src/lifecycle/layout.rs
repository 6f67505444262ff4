//! How definitions lie in the state: each structure is one key with its type and the names of its
//! fields, and one key for each field, so that only what changes is written
//! (Fabric: core/chaincode/lifecycle/serializer.go).
//!
//! | Key | Value |
//! | --- | --- |
//! | `namespaces/metadata/<name>` | type and field names |
//! | `namespaces/fields/<name>/<field>` | a field of a definition |
//! | `chaincode-sources/metadata/<name>#<sequence>` | in a collection: type and field names |
//! | `chaincode-sources/fields/<name>#<sequence>/PackageID` | in a collection: the package |
//!
//! In an organization's collection `<name>` is `<chaincode>#<sequence>`, of the definition that is
//! approved. Approvals are compared by hash, so types, names and order of the fields are part of
//! the protocol between organizations.

use bytes::Bytes;
use prost::Message;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::lifecycle::{StateData, StateMetadata, state_data};

use super::state::{AccessError, ReadHashes, ReadState, WriteState};

/// Prefix of definitions.
pub const NAMESPACES: &str = "namespaces";
/// Prefix of the packages that organizations chose.
pub const SOURCES: &str = "chaincode-sources";
/// The type of a definition.
pub const DEFINITION: &str = "ChaincodeDefinition";
/// The type of an approved definition.
pub const PARAMETERS: &str = "ChaincodeParameters";
/// The type of a chosen package.
pub const LOCAL_PACKAGE: &str = "ChaincodeLocalPackage";
/// Field of a definition: its sequence.
pub const SEQUENCE: &str = "Sequence";
/// Field of a definition: what endorsers need.
pub const ENDORSEMENT_INFO: &str = "EndorsementInfo";
/// Field of a definition: what validators need.
pub const VALIDATION_INFO: &str = "ValidationInfo";
/// Field of a definition: its collections.
pub const COLLECTIONS: &str = "Collections";
/// Field of a chosen package: its id, empty when there is none.
pub const PACKAGE_ID: &str = "PackageID";

/// A stored structure cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The state cannot be read or written.
    #[error("{0}")]
    Access(#[source] AccessError),
    /// A value is not in its form.
    #[error("could not unmarshal state for key {key}: {source}")]
    Decode {
        /// The key.
        key: String,
        /// Why not.
        source: DecodeError,
    },
    /// A field has another type than it should.
    #[error("expected key {key} to encode a value of type {expected}")]
    Kind {
        /// The key.
        key: String,
        /// The type that was expected.
        expected: &'static str,
    },
    /// The structure is another one.
    #[error("type name mismatch '{expected}' != '{found}'")]
    Datatype {
        /// The type that was expected.
        expected: &'static str,
        /// The type that is stored.
        found: String,
    },
}

/// The key of a structure's type and fields.
#[must_use]
pub fn metadata_key(prefix: &str, name: &str) -> String {
    format!("{prefix}/metadata/{name}")
}

/// The key of a field.
#[must_use]
pub fn field_key(prefix: &str, name: &str, field: &str) -> String {
    format!("{prefix}/fields/{name}/{field}")
}

/// What a sequence of a chaincode is called in a collection.
#[must_use]
pub fn private_name(chaincode: &str, sequence: i64) -> String {
    format!("{chaincode}#{sequence}")
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Bytes, mostly an encoded message.
    Bytes(Bytes),
}

impl Field {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let data = match self {
            Self::Number(number) => state_data::Type::Int64(*number),
            Self::Text(text) => state_data::Type::String(text.clone()),
            Self::Bytes(bytes) => state_data::Type::Bytes(bytes.clone()),
        };
        StateData { r#type: Some(data) }.encode_to_vec().into()
    }
}

/// A structure: its type, and its fields in the order that is part of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The type's name.
    pub datatype: &'static str,
    /// Names and values of the fields.
    pub fields: Vec<(&'static str, Field)>,
}

impl Record {
    fn metadata(&self) -> StateMetadata {
        StateMetadata {
            datatype: self.datatype.to_owned(),
            fields: self.fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }
    }

    /// Writes what differs from the stored structure, and deletes fields that it has no more.
    ///
    /// # Errors
    /// Fails where the state cannot be read or written.
    pub fn write<S: ReadState + WriteState>(
        &self,
        state: &mut S,
        prefix: &str,
        name: &str,
    ) -> Result<(), LayoutError> {
        let stored = read_metadata(state, prefix, name)?.unwrap_or_default();
        let mut existing = Vec::with_capacity(stored.fields.len());
        for field in &stored.fields {
            let key = field_key(prefix, name, field);
            let value = state.read(&key).map_err(LayoutError::Access)?;
            existing.push((key, value));
        }
        for (field, value) in &self.fields {
            let key = field_key(prefix, name, field);
            let value = value.encode();
            let position = existing.iter().position(|(other, _)| *other == key);
            let before = position.map(|position| existing.remove(position).1);
            if before.flatten().as_ref() != Some(&value) {
                state.write(&key, value).map_err(LayoutError::Access)?;
            }
        }
        if !existing.is_empty()
            || stored.datatype != self.datatype
            || stored.fields.len() != self.fields.len()
        {
            let metadata = self.metadata().encode_to_vec().into();
            state.write(&metadata_key(prefix, name), metadata).map_err(LayoutError::Access)?;
        }
        for (key, _) in existing {
            state.delete(&key).map_err(LayoutError::Access)?;
        }
        Ok(())
    }

    /// As [`write`](Self::write), where only hashes of what is stored can be relied on: a peer need
    /// not have the values of its organization's collection. What is read is the same.
    ///
    /// # Errors
    /// Fails where the state cannot be read or written.
    pub fn write_over_hashes<S: ReadHashes + WriteState>(
        &self,
        state: &mut S,
        prefix: &str,
        name: &str,
    ) -> Result<(), LayoutError> {
        let metadata = self.metadata().encode_to_vec();
        let metadata_key = metadata_key(prefix, name);
        let stored = state.read_hash(&metadata_key).map_err(LayoutError::Access)?;
        for (field, value) in &self.fields {
            let key = field_key(prefix, name, field);
            let value = value.encode();
            let same = match &stored {
                None => false,
                Some(_) => {
                    let before = state.read_hash(&key).map_err(LayoutError::Access)?;
                    is_hash_of(before.as_ref(), &value)
                }
            };
            if !same {
                state.write(&key, value).map_err(LayoutError::Access)?;
            }
        }
        if !is_hash_of(stored.as_ref(), &metadata) {
            state.write(&metadata_key, metadata.into()).map_err(LayoutError::Access)?;
        }
        Ok(())
    }

    /// Whether any structure is stored under this name.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn is_stored(
        state: &mut dyn ReadHashes,
        prefix: &str,
        name: &str,
    ) -> Result<bool, LayoutError> {
        let hash = state.read_hash(&metadata_key(prefix, name)).map_err(LayoutError::Access)?;
        Ok(hash.is_some())
    }

    /// What differs from the structure whose hashes are stored: the names of fields, or the
    /// structure's type when nothing of it can be compared. Empty when it is the same.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    pub fn mismatches(
        &self,
        state: &mut dyn ReadHashes,
        prefix: &str,
        name: &str,
    ) -> Result<Vec<String>, LayoutError> {
        let metadata = self.metadata().encode_to_vec();
        // All are read before anything is compared, so that the reads do not depend on values.
        let stored = state.read_hash(&metadata_key(prefix, name)).map_err(LayoutError::Access)?;
        let same_type = is_hash_of(stored.as_ref(), &metadata);
        let mut mismatches = Vec::new();
        for (field, value) in &self.fields {
            let stored = state.read_hash(&field_key(prefix, name, field));
            let stored = stored.map_err(LayoutError::Access)?;
            if !is_hash_of(stored.as_ref(), &value.encode()) {
                mismatches.push((*field).to_owned());
            }
        }
        Ok(if same_type { mismatches } else { vec![self.datatype.to_owned()] })
    }
}

/// Whether `hash` is the SHA-256 of `value`.
#[must_use]
pub fn is_hash_of(hash: Option<&Bytes>, value: &[u8]) -> bool {
    hash.is_some_and(|hash| hash[..] == weft_crypto::sha256(value)[..])
}

/// The type and fields of a structure; `None` when there is none.
///
/// # Errors
/// Fails where the state cannot be read, or the value is not in its form.
pub fn read_metadata<S: ReadState + ?Sized>(
    state: &mut S,
    prefix: &str,
    name: &str,
) -> Result<Option<StateMetadata>, LayoutError> {
    let key = metadata_key(prefix, name);
    let Some(value) = state.read(&key).map_err(LayoutError::Access)? else { return Ok(None) };
    decode("lifecycle metadata", value)
        .map(Some)
        .map_err(|source| LayoutError::Decode { key, source })
}

/// Checks a structure's type.
///
/// # Errors
/// Fails when it is another one.
pub fn check_datatype(metadata: &StateMetadata, expected: &'static str) -> Result<(), LayoutError> {
    if metadata.datatype == expected {
        return Ok(());
    }
    Err(LayoutError::Datatype { expected, found: metadata.datatype.clone() })
}

fn read_field<S: ReadState + ?Sized>(
    state: &mut S,
    key: &str,
) -> Result<Option<state_data::Type>, LayoutError> {
    let Some(value) = state.read(key).map_err(LayoutError::Access)? else { return Ok(None) };
    let data: StateData = decode("lifecycle field", value)
        .map_err(|source| LayoutError::Decode { key: key.to_owned(), source })?;
    Ok(data.r#type)
}

/// A field that is a number; 0 when it is not there.
///
/// # Errors
/// Fails where the state cannot be read, or the value is not in its form.
pub fn read_number<S: ReadState + ?Sized>(
    state: &mut S,
    prefix: &str,
    name: &str,
    field: &str,
) -> Result<i64, LayoutError> {
    let key = field_key(prefix, name, field);
    match read_field(state, &key)? {
        None => Ok(0),
        Some(state_data::Type::Int64(number)) => Ok(number),
        Some(_) => Err(LayoutError::Kind { key, expected: "Int64" }),
    }
}

/// A field that is a text; empty when it is not there.
///
/// # Errors
/// Fails where the state cannot be read, or the value is not in its form.
pub fn read_text<S: ReadState + ?Sized>(
    state: &mut S,
    prefix: &str,
    name: &str,
    field: &str,
) -> Result<String, LayoutError> {
    let key = field_key(prefix, name, field);
    match read_field(state, &key)? {
        None => Ok(String::new()),
        Some(state_data::Type::String(text)) => Ok(text),
        Some(_) => Err(LayoutError::Kind { key, expected: "String" }),
    }
}

/// A field that is a message; an empty one when it is not there.
///
/// # Errors
/// Fails where the state cannot be read, or the value is not in its form.
pub fn read_message<M: Message + Default, S: ReadState + ?Sized>(
    state: &mut S,
    prefix: &str,
    name: &str,
    field: &str,
) -> Result<M, LayoutError> {
    let key = field_key(prefix, name, field);
    let bytes = match read_field(state, &key)? {
        None => Bytes::new(),
        Some(state_data::Type::Bytes(bytes)) => bytes,
        Some(_) => return Err(LayoutError::Kind { key, expected: "[]byte" }),
    };
    decode("lifecycle field", bytes).map_err(|source| LayoutError::Decode { key, source })
}
