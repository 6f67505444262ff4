//! What a contract may do with private data, and the requests that are for private data only
//! (Fabric: core/chaincode/handler.go).

use std::collections::BTreeMap;

use weft_protos::peer::{GetState, GetStateByRange, QueryMetadata};

use super::{Answer, RequestError, Requests, written_key};
use crate::chaincode::host::{CollectionAccess, HostError};

/// Longest name of a collection that an error repeats, in characters.
const SHOWN: usize = 100;

/// A request for private data that is refused. The texts reach contracts and clients, who know
/// Fabric's.
#[derive(Debug, thiserror::Error)]
pub(in crate::chaincode::transaction) enum PrivateError {
    #[error("private data APIs are not allowed in chaincode Init()")]
    Init,
    #[error("collection must not be an empty string")]
    Unnamed,
    #[error("collection {channel}/{chaincode}/{collection} could not be found")]
    Unknown { channel: String, chaincode: String, collection: String },
    #[error(
        "tx creator does not have read access permission on privatedata in chaincodeName:{chaincode} collectionName: {collection}"
    )]
    MayNotRead { chaincode: String, collection: String },
    #[error(
        "tx creator does not have write access permission on privatedata in chaincodeName:{chaincode} collectionName: {collection}"
    )]
    MayNotWrite { chaincode: String, collection: String },
    #[error(
        "private data is not available: the organization of this peer is not a member of collection {collection} of chaincode {chaincode}"
    )]
    NotHeld { chaincode: String, collection: String },
    #[error("pagination is not supported for private data")]
    Paged,
    #[error("only applicable for private data")]
    PurgeOfPublic,
    #[error(
        "purge private data is not enabled, channel application capability of V2_5 or later is required"
    )]
    PurgeDisabled,
    #[error("{0}")]
    Host(#[source] HostError),
}

/// Collections that this call of the contract has used, by name: a definition cannot change while
/// a transaction works.
#[derive(Debug, Default)]
pub(super) struct Collections(BTreeMap<String, CollectionAccess>);

impl Requests<'_> {
    /// Whether values of a collection may be read, as far as the creator goes. A peer that does
    /// not hold them can still tell that a key does not exist.
    pub(super) fn may_read(&mut self, collection: &str) -> Result<CollectionAccess, RequestError> {
        let access = self.access(collection)?;
        if access.may_read {
            return Ok(access);
        }
        let (chaincode, collection) = self.named(collection);
        Err(RequestError::Private(PrivateError::MayNotRead { chaincode, collection }))
    }

    /// Whether `collection` may be written to; the empty one stands for public data. Any peer can
    /// endorse writes, also one that will not hold the values.
    pub(super) fn may_write(&mut self, collection: &str) -> Result<(), RequestError> {
        if collection.is_empty() || self.access(collection)?.may_write {
            return Ok(());
        }
        let (chaincode, collection) = self.named(collection);
        Err(RequestError::Private(PrivateError::MayNotWrite { chaincode, collection }))
    }

    /// The hash of a value, which anybody may see: it is on the ledger.
    pub(super) fn private_hash(&mut self, get: &GetState) -> Answer {
        if get.collection.is_empty() {
            return Err(RequestError::Private(PrivateError::Unnamed));
        }
        self.access(&get.collection)?;
        let hash = self.state.get_private_hash(self.namespace, &get.collection, &get.key);
        Ok(hash.map_err(RequestError::State)?.unwrap_or_default())
    }

    pub(super) fn purge(&mut self, collection: &str, key: &str) -> Result<(), RequestError> {
        if !self.host.purges_private_data(self.channel) {
            return Err(RequestError::Private(PrivateError::PurgeDisabled));
        }
        if collection.is_empty() {
            return Err(RequestError::Private(PrivateError::PurgeOfPublic));
        }
        self.may_write(collection)?;
        written_key(key)?;
        let done = self.state.purge_private(self.namespace, collection, key);
        done.map_err(RequestError::State)
    }

    pub(super) fn private_range(&mut self, get: &GetStateByRange, page: &QueryMetadata) -> Answer {
        let access = self.may_read(&get.collection)?;
        if page.page_size != 0 || !page.bookmark.is_empty() {
            return Err(RequestError::Private(PrivateError::Paged));
        }
        if !access.held {
            let (chaincode, collection) = self.named(&get.collection);
            return Err(RequestError::Private(PrivateError::NotHeld { chaincode, collection }));
        }
        let (start, end) = (&get.start_key, &get.end_key);
        let query = self.state.open_private_range(self.namespace, &get.collection, start, end);
        self.open(query, false, usize::MAX)
    }

    fn access(&mut self, collection: &str) -> Result<CollectionAccess, RequestError> {
        if self.init {
            return Err(RequestError::Private(PrivateError::Init));
        }
        if let Some(known) = self.kept.collections.0.get(collection) {
            return Ok(*known);
        }
        let found = self.host.collection(self.channel, self.namespace, collection);
        let found = found.map_err(|e| RequestError::Private(PrivateError::Host(e)))?;
        let access = found.ok_or_else(|| {
            let (chaincode, collection) = self.named(collection);
            let channel = self.channel.to_owned();
            RequestError::Private(PrivateError::Unknown { channel, chaincode, collection })
        })?;
        self.kept.collections.0.insert(collection.to_owned(), access);
        Ok(access)
    }

    /// The chaincode and a collection, for errors.
    fn named(&self, collection: &str) -> (String, String) {
        (self.namespace.to_owned(), collection.chars().take(SHOWN).collect())
    }
}
