//! Which installed package runs a chaincode for the peer's organization
//! (Fabric: core/chaincode/lifecycle/cache.go, endorsement_info.go).
//!
//! The chain has the hash of the package id that the organization approved. Whichever installed
//! package's id has this hash is the one, so a peer needs no private value to find it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use weft_ledger::state::StateReader;
use weft_types::{ChannelId, MspId};

use super::approve::source_record;
use super::definition::{Definition, DefinitionError, definition};
use super::implicit_collection;
use super::layout::{
    Field, LayoutError, NAMESPACES, PACKAGE_ID, SOURCES, field_key, is_hash_of, private_name,
};
use super::state::{ReadHashes, SnapshotHashes};
use crate::chaincode::package::{PackageStore, StoreError};

/// What an endorser has to know of a chaincode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsable {
    /// The version of its definition.
    pub version: String,
    /// Whether a first call must initialize it.
    pub init_required: bool,
    /// Id of the package that runs it.
    pub package_id: String,
}

/// A chaincode that this peer cannot run. The texts reach clients, who know Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// It has no definition.
    #[error("chaincode {0} not found")]
    NotFound(String),
    /// The definition changed under the simulation. Trying again helps.
    #[error(
        "chaincode cache at sequence {current} but current sequence is {seen}, chaincode definition for '{name}' changed during invoke"
    )]
    Changed {
        /// The chaincode.
        name: String,
        /// The newest sequence.
        current: i64,
        /// The sequence that the simulation saw.
        seen: i64,
    },
    /// The organization has not approved the definition.
    #[error(
        "chaincode definition for '{name}' at sequence {sequence} on channel '{channel}' has not yet been approved by this org"
    )]
    NotApproved {
        /// The chaincode.
        name: String,
        /// The sequence.
        sequence: i64,
        /// The channel.
        channel: String,
    },
    /// No installed package is the one that was approved.
    #[error("chaincode definition for '{0}' exists, but chaincode is not installed")]
    NotInstalled(String),
    /// The definition cannot be read.
    #[error("{0}")]
    Definition(#[source] DefinitionError),
    /// The approval cannot be read.
    #[error("could not get approved chaincode info: {0}")]
    Approval(#[source] LayoutError),
}

/// The installed packages, and what they run.
pub struct Sources {
    msp_id: MspId,
    collection: String,
    packages: PackageStore,
    installed: RwLock<BTreeSet<String>>,
    known: RwLock<HashMap<ChannelId, HashMap<String, Arc<Known>>>>,
}

/// What was worked out. It holds as long as the definition has this sequence and the approved
/// package this hash: the other parts of an approval can then only become what they are.
struct Known {
    sequence: i64,
    package: Bytes,
    endorsable: Arc<Endorsable>,
}

impl Sources {
    /// The packages in `packages`, for a peer of the organization `msp_id`.
    ///
    /// # Errors
    /// Fails where the packages cannot be listed.
    pub fn new(packages: PackageStore, msp_id: MspId) -> Result<Self, StoreError> {
        let installed = packages.list()?.into_iter().map(|package| package.id.to_string());
        Ok(Self {
            collection: implicit_collection(msp_id.as_str()),
            msp_id,
            installed: RwLock::new(installed.collect()),
            packages,
            known: RwLock::default(),
        })
    }

    /// The peer's organization.
    #[must_use]
    pub fn msp_id(&self) -> &MspId {
        &self.msp_id
    }

    /// The packages on disk.
    #[must_use]
    pub fn packages(&self) -> &PackageStore {
        &self.packages
    }

    /// The ids of all installed packages.
    #[must_use]
    pub fn installed(&self) -> Vec<String> {
        self.installed.read().iter().cloned().collect()
    }

    /// Takes in a package that was installed.
    pub(super) fn add(&self, package_id: String) {
        self.installed.write().insert(package_id);
    }

    /// What runs `name` at `sequence`, the sequence of its definition that a simulation saw (0 for
    /// none). `state` is what the simulation reads, or newer.
    ///
    /// # Errors
    /// [`SourcesError`] when this peer cannot run it.
    pub fn endorsable(
        &self,
        channel: &ChannelId,
        state: &dyn StateReader,
        name: &str,
        sequence: i64,
    ) -> Result<Arc<Endorsable>, SourcesError> {
        if sequence <= 0 {
            return Err(SourcesError::NotFound(name.to_owned()));
        }
        let package = self.approved_package(state, name, sequence)?;
        if let (Some(known), Some(package)) = (self.known(channel, name), &package)
            && known.sequence == sequence
            && known.package == *package
        {
            return Ok(Arc::clone(&known.endorsable));
        }
        let current = definition(state, name).map_err(SourcesError::Definition)?;
        let current = current.ok_or_else(|| SourcesError::NotFound(name.to_owned()))?;
        if current.sequence != sequence {
            let (name, current) = (name.to_owned(), current.sequence);
            return Err(SourcesError::Changed { name, current, seen: sequence });
        }
        let package_id = self.package_of(channel, state, &current)?;
        let endorsable = Arc::new(Endorsable {
            version: current.parameters.version,
            init_required: current.parameters.init_required,
            package_id,
        });
        if let Some(package) = package {
            let known = Known { sequence, package, endorsable: Arc::clone(&endorsable) };
            let mut all = self.known.write();
            all.entry(channel.clone()).or_default().insert(name.to_owned(), Arc::new(known));
        }
        Ok(endorsable)
    }

    /// The installed package that the organization approved for a definition.
    ///
    /// # Errors
    /// [`SourcesError`] when there is none.
    pub fn package_of(
        &self,
        channel: &ChannelId,
        state: &dyn StateReader,
        definition: &Definition,
    ) -> Result<String, SourcesError> {
        let private = private_name(&definition.name, definition.sequence);
        let mut hashes = SnapshotHashes { state, collection: &self.collection };
        let differs = definition.parameters.record().mismatches(&mut hashes, NAMESPACES, &private);
        if !differs.map_err(SourcesError::Approval)?.is_empty() {
            return Err(SourcesError::NotApproved {
                name: definition.name.clone(),
                sequence: definition.sequence,
                channel: channel.to_string(),
            });
        }
        let approved = self.approved_package(state, &definition.name, definition.sequence)?;
        let installed = self.installed.read();
        let package = installed.iter().find(|id| is_hash_of(approved.as_ref(), &stored_form(id)));
        package.cloned().ok_or_else(|| SourcesError::NotInstalled(definition.name.clone()))
    }

    /// The hash of the approved package's id, as it is stored.
    fn approved_package(
        &self,
        state: &dyn StateReader,
        name: &str,
        sequence: i64,
    ) -> Result<Option<Bytes>, SourcesError> {
        let key = field_key(SOURCES, &private_name(name, sequence), PACKAGE_ID);
        let mut hashes = SnapshotHashes { state, collection: &self.collection };
        hashes.read_hash(&key).map_err(|e| SourcesError::Approval(LayoutError::Access(e)))
    }

    fn known(&self, channel: &ChannelId, name: &str) -> Option<Arc<Known>> {
        self.known.read().get(channel)?.get(name).cloned()
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("installed", &self.installed()).finish_non_exhaustive()
    }
}

/// The value under which a package's id is stored.
fn stored_form(package_id: &str) -> Bytes {
    let record = source_record(package_id);
    let value = record.fields.into_iter().next().map(|(_, value)| value);
    value.unwrap_or(Field::Text(String::new())).encode()
}
