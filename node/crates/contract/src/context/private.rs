//! Private data: values that only the members of a collection hold. The ledger has their hashes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{GetState, WriteRecord, write_record};

use super::{Context, plain_range, present};
use crate::args::{from_json, to_json};
use crate::{ContractError, KeyPolicy, StateQuery, composite};

/// Private data. A collection is one of the contract's definition, or the one that every
/// organization has of itself, [`implicit_collection`](Context::implicit_collection).
impl Context {
    /// Name of the collection that every contract has for an organization, without defining it.
    #[must_use]
    pub fn implicit_collection(msp_id: &str) -> String {
        format!("_implicit_org_{msp_id}")
    }

    /// The committed value of a key of a private collection.
    ///
    /// # Errors
    /// Fails for an empty collection or key, for one that is not defined, where the client may
    /// not read it, and at a peer that does not have the value.
    pub async fn get_private(
        &self,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, ContractError> {
        check_collection(collection)?;
        self.get(collection, key).await
    }

    /// The committed values of several keys of a private collection, in their order, in few
    /// messages.
    ///
    /// # Errors
    /// As [`get_private`](Self::get_private).
    pub async fn get_privates(
        &self,
        collection: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, ContractError> {
        check_collection(collection)?;
        self.get_many(collection, keys).await
    }

    /// The committed value of a key of a private collection, from JSON.
    ///
    /// # Errors
    /// As [`get_private`](Self::get_private), and where the value is not that JSON.
    pub async fn get_private_json<T: DeserializeOwned>(
        &self,
        collection: &str,
        key: &str,
    ) -> Result<Option<T>, ContractError> {
        let value = self.get_private(collection, key).await?;
        value.map(|value| from_json(&format!("the value of {key:?}"), &value)).transpose()
    }

    /// SHA-256 of the committed value of a key of a private collection. It is on the ledger, so
    /// every peer of the channel has it, for every client.
    ///
    /// # Errors
    /// Fails for an empty collection or key, for a collection that is not defined, and when the
    /// peer does.
    pub async fn get_private_hash(
        &self,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, ContractError> {
        check_collection(collection)?;
        composite::check_key(key)?;
        let get = GetState { key: key.to_owned(), collection: collection.to_owned() };
        self.request(Type::GetPrivateDataHash, &get).await.map(present)
    }

    /// Sets a key of a private collection. Values belong into
    /// [transient data](Self::transient): arguments are on the ledger for everybody to see.
    ///
    /// # Errors
    /// Fails for an empty collection, key or value, for a collection that is not defined, and
    /// where the client may not write it.
    pub async fn put_private(
        &self,
        collection: &str,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Result<(), ContractError> {
        check_collection(collection)?;
        self.put(collection, key, value.into()).await
    }

    /// Sets a key of a private collection to a value's JSON.
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private), and for values that have no form in JSON.
    pub async fn put_private_json<T: Serialize + Sync + ?Sized>(
        &self,
        collection: &str,
        key: &str,
        value: &T,
    ) -> Result<(), ContractError> {
        let json = to_json(&format!("the value of {key:?}"), value)?;
        self.put_private(collection, key, json).await
    }

    /// Deletes a key of a private collection, whether it exists or not. Peers keep what it was
    /// until then; see [`purge_private`](Self::purge_private).
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private).
    pub async fn delete_private(&self, collection: &str, key: &str) -> Result<(), ContractError> {
        check_collection(collection)?;
        self.delete(collection, key).await
    }

    /// Deletes a key of a private collection together with every value that it ever had.
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private), and on channels whose capabilities do not allow it
    /// (V2_5 does).
    pub async fn purge_private(&self, collection: &str, key: &str) -> Result<(), ContractError> {
        check_collection(collection)?;
        composite::check_key(key)?;
        let record = WriteRecord {
            key: key.to_owned(),
            collection: collection.to_owned(),
            r#type: write_record::Type::PurgePrivateData.into(),
            ..Default::default()
        };
        self.write(record).await
    }

    /// Plain keys of a private collection from `start` up to but without `end`; an empty bound is
    /// open. A transaction that asks for them may not write: what it found is not checked for
    /// changes when it is committed.
    ///
    /// # Errors
    /// As [`get_private`](Self::get_private) and [`range`](Self::range), and after a write.
    pub async fn private_range(
        &self,
        collection: &str,
        start: &str,
        end: &str,
    ) -> Result<StateQuery, ContractError> {
        let start = plain_range(start, end)?;
        self.open_private_range(collection, start.to_owned(), end.to_owned()).await
    }

    /// The composite keys of a private collection that begin with these parts; see
    /// [`private_range`](Self::private_range).
    ///
    /// # Errors
    /// As [`private_range`](Self::private_range), and for parts that a composite key cannot have.
    pub async fn private_partial_composite(
        &self,
        collection: &str,
        object_type: &str,
        parts: &[&str],
    ) -> Result<StateQuery, ContractError> {
        let (start, end) = composite::range(object_type, parts)?;
        self.open_private_range(collection, start, end).await
    }

    /// The committed endorsement policy of a key of a private collection, encoded; `None` where
    /// the collection's or the contract's holds.
    ///
    /// # Errors
    /// As [`get_private`](Self::get_private), except that every peer has it.
    pub async fn private_key_policy(
        &self,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, ContractError> {
        check_collection(collection)?;
        self.policy(collection, key).await
    }

    /// Sets the endorsement policy of a key of a private collection, which later transactions that
    /// write the key must satisfy.
    ///
    /// # Errors
    /// As [`put_private`](Self::put_private).
    pub async fn set_private_key_policy(
        &self,
        collection: &str,
        key: &str,
        policy: &KeyPolicy,
    ) -> Result<(), ContractError> {
        check_collection(collection)?;
        self.set_policy(collection, key, policy).await
    }

    async fn open_private_range(
        &self,
        collection: &str,
        start: String,
        end: String,
    ) -> Result<StateQuery, ContractError> {
        check_collection(collection)?;
        // The peer refuses this after writes, so it has to know of them.
        self.flush().await?;
        self.open_range(collection, start, end).await
    }
}

fn check_collection(collection: &str) -> Result<(), ContractError> {
    if collection.is_empty() {
        return Err(ContractError::invalid("the collection's name is empty"));
    }
    Ok(())
}
