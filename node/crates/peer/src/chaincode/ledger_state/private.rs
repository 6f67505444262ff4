//! Private data in a simulation.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use weft_ledger::state::{StateEntry, StateReader};
use weft_ledger::{SimulationError, Simulator, Version};
use weft_protos::queryresult::Kv;

use super::{LedgerState, Query, refused};
use crate::chaincode::state::{PrivateAccess, QueryId, StateError};

/// Keys of a range that are read in one go.
const CHUNK: usize = 100;

/// An open query of private keys.
pub(super) struct PrivateRange {
    namespace: String,
    collection: String,
    /// Where the next chunk starts; `None` at the end.
    start: Option<String>,
    end: String,
    entries: VecDeque<StateEntry>,
}

impl PrivateRange {
    /// The next key with its value. Only values that belong to the hash on the ledger are given:
    /// what is left of keys that do not exist any more is passed over, and a value that this peer
    /// does not have in its newest version is an error.
    pub(super) fn next(&mut self, simulator: &mut Simulator) -> Result<Option<Kv>, StateError> {
        while let Some((key, found)) = self.entry(simulator)? {
            match hash_version(simulator, &self.namespace, &self.collection, &key)? {
                None => {}
                Some(version) if version == found.version => {
                    let namespace = self.namespace.clone();
                    return Ok(Some(Kv { namespace, key, value: found.value }));
                }
                version => return Err(not_available(version, Some(found.version))),
            }
        }
        Ok(None)
    }

    fn entry(&mut self, simulator: &mut Simulator) -> Result<Option<StateEntry>, StateError> {
        if self.entries.is_empty() {
            self.read(simulator).map_err(store("continue a query of private keys"))?;
        }
        Ok(self.entries.pop_front())
    }

    fn read(&mut self, simulator: &mut Simulator) -> Result<(), SimulationError> {
        let Some(start) = self.start.take() else { return Ok(()) };
        let range = (start.as_str(), self.end.as_str());
        let found = simulator.private_range(&self.namespace, &self.collection, range, CHUNK)?;
        if found.len() >= CHUNK {
            self.start = found.last().map(|(key, _)| format!("{key}\0"));
        }
        self.entries = found.into();
        Ok(())
    }
}

impl PrivateAccess for LedgerState {
    fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, StateError> {
        match self.simulator.get_private(namespace, collection, key) {
            Err(SimulationError::PrivateMissing { .. }) => {
                Err(self.missing(namespace, collection, key))
            }
            found => found.map_err(self.failed("read a private key")),
        }
    }

    fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, StateError> {
        let hash = self.simulator.get_private_hash(namespace, collection, key);
        hash.map_err(self.failed("read the hash of a private key"))
    }

    fn put_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), StateError> {
        let done = self.simulator.put_private(namespace, collection, key, value);
        done.map_err(self.failed("write a private key"))
    }

    fn delete_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), StateError> {
        let done = self.simulator.put_private(namespace, collection, key, Bytes::new());
        done.map_err(self.failed("delete a private key"))
    }

    fn purge_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), StateError> {
        let done = self.simulator.purge_private(namespace, collection, key);
        done.map_err(self.failed("purge a private key"))
    }

    fn get_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        let metadata = self.simulator.get_private_metadata(namespace, collection, key);
        metadata.map_err(self.failed("read a private key's metadata"))
    }

    fn put_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        entries: BTreeMap<String, Bytes>,
    ) -> Result<(), StateError> {
        let done = self.simulator.put_private_metadata(namespace, collection, key, &entries);
        done.map_err(self.failed("write a private key's metadata"))
    }

    fn open_private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryId, StateError> {
        let mut range = PrivateRange {
            namespace: namespace.to_owned(),
            collection: collection.to_owned(),
            start: Some(start.to_owned()),
            end: end.to_owned(),
            entries: VecDeque::new(),
        };
        range.read(&mut self.simulator).map_err(|error| match error {
            SimulationError::Written { .. } => refused(
                &self.tx_id,
                "Queries on pvt data is supported only in a read-only transaction",
            ),
            error => self.failed("open a query of private keys")(error),
        })?;
        self.private_queried = true;
        Ok(self.keep(Query::Private(Box::new(range))))
    }
}

impl LedgerState {
    /// Why this peer cannot give a private value.
    fn missing(&self, namespace: &str, collection: &str, key: &str) -> StateError {
        let state = self.simulator.state();
        let value = state.get_private(namespace, collection, key);
        let value = value.map_err(|error| StateError::Store {
            step: "read a private key",
            source: error.into(),
        });
        let versions = value.and_then(|value| {
            let hash = hash_version(&self.simulator, namespace, collection, key)?;
            Ok((hash, value.map(|value| value.version)))
        });
        versions.map_or_else(|error| error, |(hash, value)| not_available(hash, value))
    }
}

/// The version in which the ledger has a private key's hash; `None` where it does not exist.
fn hash_version(
    simulator: &Simulator,
    namespace: &str,
    collection: &str,
    key: &str,
) -> Result<Option<Version>, StateError> {
    let hash = weft_crypto::sha256(key.as_bytes());
    let found = simulator.state().get_hash(namespace, collection, &hash);
    let found = found.map_err(|error| StateError::Store {
        step: "read the hash of a private key",
        source: error.into(),
    })?;
    Ok(found.map(|found| found.version))
}

/// This peer does not have the value whose hash is on the ledger. The text is Fabric's.
fn not_available(hash: Option<Version>, value: Option<Version>) -> StateError {
    let text = |version: Option<Version>| match version {
        Some(Version { block, tx }) => format!("{{BlockNum: {block}, TxNum: {tx}}}"),
        None => "<nil>".to_owned(),
    };
    StateError::Refused(format!(
        "private data matching public hash version is not available. Public hash version = {}, Private data version = {}",
        text(hash),
        text(value)
    ))
}

fn store(step: &'static str) -> impl FnOnce(SimulationError) -> StateError {
    move |error| StateError::Store { step, source: error.into() }
}
