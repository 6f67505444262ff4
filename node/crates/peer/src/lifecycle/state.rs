//! The state that definitions are read from and written to: a snapshot, or a simulation with its
//! public keys or one organization's collection.

use bytes::Bytes;
use weft_ledger::state::{StateError, StateReader};
use weft_ledger::{SimulationError, Simulator};

use super::NAMESPACE;

/// State of `_lifecycle` cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A snapshot cannot be read.
    #[error("failed to read the lifecycle's state: {0}")]
    State(#[source] StateError),
    /// A simulation failed.
    #[error("failed to simulate on the lifecycle's state: {0}")]
    Simulation(#[source] SimulationError),
    /// A contract's simulation failed.
    #[error("failed to read the lifecycle's state: {0}")]
    Contract(#[source] crate::chaincode::StateError),
}

/// Keys with values that can be read.
pub trait ReadState {
    /// The value of a key.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, AccessError>;
}

/// Keys of which only the hashes of values can be read.
pub trait ReadHashes {
    /// The SHA-256 of a key's value.
    ///
    /// # Errors
    /// Fails where the state cannot be read.
    fn read_hash(&mut self, key: &str) -> Result<Option<Bytes>, AccessError>;
}

/// Keys that can be written.
pub trait WriteState {
    /// Sets a key.
    ///
    /// # Errors
    /// Fails where the simulation does not allow it.
    fn write(&mut self, key: &str, value: Bytes) -> Result<(), AccessError>;

    /// Deletes a key.
    ///
    /// # Errors
    /// Fails where the simulation does not allow it.
    fn delete(&mut self, key: &str) -> Result<(), AccessError>;
}

/// Public keys of a snapshot. Reads are not recorded.
pub struct Snapshot<'a>(pub &'a dyn StateReader);

impl ReadState for Snapshot<'_> {
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        let found = self.0.get(NAMESPACE, key).map_err(AccessError::State)?;
        Ok(found.map(|found| found.value))
    }
}

/// Hashes of one organization's collection in a snapshot. Reads are not recorded.
pub struct SnapshotHashes<'a> {
    /// The snapshot.
    pub state: &'a dyn StateReader,
    /// The collection.
    pub collection: &'a str,
}

impl ReadHashes for SnapshotHashes<'_> {
    fn read_hash(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        let hash = weft_crypto::sha256(key.as_bytes());
        let found = self.state.get_hash(NAMESPACE, self.collection, &hash);
        Ok(found.map_err(AccessError::State)?.map(|found| found.value))
    }
}

/// Public keys of a simulation.
pub struct Public<'a>(pub &'a mut Simulator);

impl ReadState for Public<'_> {
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        self.0.get_state(NAMESPACE, key).map_err(AccessError::Simulation)
    }
}

impl WriteState for Public<'_> {
    fn write(&mut self, key: &str, value: Bytes) -> Result<(), AccessError> {
        self.0.put_state(NAMESPACE, key, value).map_err(AccessError::Simulation)
    }

    fn delete(&mut self, key: &str) -> Result<(), AccessError> {
        self.0.delete_state(NAMESPACE, key).map_err(AccessError::Simulation)
    }
}

/// One organization's collection in a simulation.
pub struct Private<'a> {
    /// The simulation.
    pub simulator: &'a mut Simulator,
    /// The collection.
    pub collection: &'a str,
}

impl ReadState for Private<'_> {
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        let found = self.simulator.get_private(NAMESPACE, self.collection, key);
        found.map_err(AccessError::Simulation)
    }
}

impl ReadHashes for Private<'_> {
    fn read_hash(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        let found = self.simulator.get_private_hash(NAMESPACE, self.collection, key);
        found.map_err(AccessError::Simulation)
    }
}

impl WriteState for Private<'_> {
    fn write(&mut self, key: &str, value: Bytes) -> Result<(), AccessError> {
        let written = self.simulator.put_private(NAMESPACE, self.collection, key, value);
        written.map_err(AccessError::Simulation)
    }

    fn delete(&mut self, key: &str) -> Result<(), AccessError> {
        self.write(key, Bytes::new())
    }
}
