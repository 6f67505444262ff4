//! The MSPs of a channel, and the identities under them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use weft_protos::{ext::decode, msp::SerializedIdentity};
use weft_types::MspId;

use crate::{
    authenticated::Authenticated,
    cache::IdentityCache,
    identity::Identity,
    msp::{DeserializeError, MAX_SERIALIZED_IDENTITY, Msp},
    realm::Realm,
};

/// Identities that are kept by default: some kilobytes each, and more than the clients that are
/// active at once in most networks.
const DEFAULT_CAPACITY: usize = 2048;

/// Encoded identities that are longer, in octets, are read each time: text around the certificate
/// is tolerated, and a member must not be able to have it remembered over and over.
const MAX_REMEMBERED: usize = 4096;

/// Two MSPs have the same id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to set up the MSPs: {msp_id} is defined twice")]
pub struct DuplicateMsp {
    /// The id.
    pub msp_id: MspId,
}

/// The MSPs of one channel configuration (or the one of a node).
///
/// It is made anew with every configuration; what it remembers about identities is never older than
/// the configuration itself. All methods can be called from many threads.
pub struct MspManager {
    msps: BTreeMap<MspId, Arc<Msp>>,
    cache: IdentityCache,
    realm: Realm,
}

impl MspManager {
    /// Manages `msps`.
    ///
    /// # Errors
    /// [`DuplicateMsp`] when two have the same id.
    pub fn new(msps: impl IntoIterator<Item = Msp>) -> Result<Self, DuplicateMsp> {
        Self::with_capacity(msps, DEFAULT_CAPACITY)
    }

    /// Manages one MSP.
    #[must_use]
    pub fn of(msp: Msp) -> Self {
        let msps = BTreeMap::from([(msp.id().clone(), Arc::new(msp))]);
        Self { msps, cache: IdentityCache::new(DEFAULT_CAPACITY), realm: Realm::fresh() }
    }

    /// Manages `msps`, remembering about `capacity` identities.
    ///
    /// # Errors
    /// [`DuplicateMsp`] when two have the same id.
    pub fn with_capacity(
        msps: impl IntoIterator<Item = Msp>,
        capacity: usize,
    ) -> Result<Self, DuplicateMsp> {
        let mut by_id = BTreeMap::new();
        for msp in msps {
            let msp_id = msp.id().clone();
            if by_id.insert(msp_id.clone(), Arc::new(msp)).is_some() {
                return Err(DuplicateMsp { msp_id });
            }
        }
        Ok(Self { msps: by_id, cache: IdentityCache::new(capacity), realm: Realm::fresh() })
    }

    /// The MSP with the id `msp_id`.
    #[must_use]
    pub fn get(&self, msp_id: &str) -> Option<&Arc<Msp>> {
        self.msps.get(msp_id)
    }

    /// All MSPs, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Msp>> {
        self.msps.values()
    }

    /// Reads an encoded `msp.SerializedIdentity`. One that was read before comes from memory; what
    /// is refused is not remembered, so nobody can fill the memory without a trusted certificate.
    ///
    /// The identity may still be invalid: see [`Identity::validate`].
    ///
    /// # Errors
    /// [`DeserializeError`] when it is malformed, its MSP is not known, or its certificate does not
    /// lead to a root of that MSP.
    pub fn deserialize_identity(
        &self,
        serialized: &[u8],
    ) -> Result<Arc<Identity>, DeserializeError> {
        if let Some(identity) = self.cache.get(serialized) {
            return Ok(identity);
        }
        let identity = Arc::new(self.read(serialized)?);
        if serialized.len() <= MAX_REMEMBERED {
            self.cache.insert(&identity);
        }
        Ok(identity)
    }

    /// What these MSPs make of somebody who was authenticated, whichever MSPs did it.
    ///
    /// # Errors
    /// As [`deserialize_identity`](Self::deserialize_identity): here, it may be a stranger.
    pub fn identity_of(&self, who: &Authenticated) -> Result<Arc<Identity>, DeserializeError> {
        match &who.read {
            Some(identity) if identity.realm == self.realm => Ok(Arc::clone(identity)),
            _ => self.deserialize_identity(who.serialized()),
        }
    }

    fn read(&self, serialized: &[u8]) -> Result<Identity, DeserializeError> {
        if serialized.len() > MAX_SERIALIZED_IDENTITY {
            return Err(DeserializeError::TooLarge { size: serialized.len() });
        }
        // A copy: the caller's buffer is often a slice of a whole block.
        let serialized = Bytes::copy_from_slice(serialized);
        let decoded: SerializedIdentity =
            decode("serialized identity", serialized.clone()).map_err(DeserializeError::Decode)?;
        let msp = self
            .get(&decoded.mspid)
            .ok_or(DeserializeError::UnknownMsp { msp_id: decoded.mspid })?;
        let identity = msp.read_identity(serialized, &decoded.id_bytes)?;
        Ok(Identity { realm: self.realm, ..identity })
    }
}

impl std::fmt::Debug for MspManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MspManager").field("msps", &self.msps.keys()).finish_non_exhaustive()
    }
}
