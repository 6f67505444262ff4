//! Which contracts are connected, and which are being reached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{ChaincodeAdditionalParams, ChaincodeMessage};

use super::connection::{Connection, message_of};
use super::error::LaunchError;

/// After a contract could not be reached, calls fail at once for this long.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// Most writes, and most keys read, in one message: Fabric's default.
const MAX_BATCH: u32 = 1000;

/// How an attempt to reach a contract ended.
pub(super) type Launched = Result<Arc<Connection>, Arc<LaunchError>>;

/// Where a contract stands.
#[derive(Debug)]
enum Slot {
    /// It is being dialled, or waited for.
    Launching(watch::Sender<Option<Launched>>),
    Ready(Arc<Connection>),
    Failed {
        at: Instant,
        error: Arc<LaunchError>,
    },
}

/// What a caller who needs a contract is to do.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The contract is connected.
    Ready(Arc<Connection>),
    /// Wait for the outcome.
    Wait(watch::Receiver<Option<Launched>>),
    /// Start reaching it, and wait for the outcome.
    Launch(watch::Receiver<Option<Launched>>),
    /// It could not be reached a moment ago.
    Failed(Arc<LaunchError>),
}

/// A contract of this id is connected already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("duplicate chaincodeID: {0}")]
pub(super) struct Duplicate(pub(super) String);

/// The contracts by the id that they register under.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Mutex<HashMap<String, Slot>>,
}

impl Registry {
    /// Finds a contract, or marks it as being reached.
    pub(super) fn look_up(&self, id: &str) -> Lookup {
        let mut slots = self.slots.lock();
        match slots.get(id) {
            Some(Slot::Ready(connection)) if connection.is_open() => {
                return Lookup::Ready(Arc::clone(connection));
            }
            Some(Slot::Launching(outcome)) => return Lookup::Wait(outcome.subscribe()),
            Some(Slot::Failed { at, error }) if at.elapsed() < COOL_DOWN => {
                return Lookup::Failed(Arc::clone(error));
            }
            _ => {}
        }
        let (outcome, receiver) = watch::channel(None);
        slots.insert(id.to_owned(), Slot::Launching(outcome));
        Lookup::Launch(receiver)
    }

    /// The contract's connection, when it is connected.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        match self.slots.lock().get(id) {
            Some(Slot::Ready(connection)) if connection.is_open() => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// Takes in a contract that has sent REGISTER: answers REGISTERED and READY, before any
    /// transaction can be sent, and wakes those who wait for it.
    pub(super) fn register(&self, connection: &Arc<Connection>) -> Result<(), Duplicate> {
        let mut slots = self.slots.lock();
        let id = connection.id();
        if matches!(slots.get(id), Some(Slot::Ready(other)) if other.is_open()) {
            return Err(Duplicate(id.to_owned()));
        }
        // The outbox of a new stream has room for these.
        connection.try_send(message_of(Type::Registered));
        connection.try_send(ready());
        let slot = slots.insert(id.to_owned(), Slot::Ready(Arc::clone(connection)));
        drop(slots);
        if let Some(Slot::Launching(outcome)) = slot {
            outcome.send_replace(Some(Ok(Arc::clone(connection))));
        }
        Ok(())
    }

    /// Records that a contract could not be reached, unless it has registered meanwhile.
    pub(super) fn fail(&self, id: &str, error: LaunchError) {
        let error = Arc::new(error);
        let mut slots = self.slots.lock();
        if !matches!(slots.get(id), Some(Slot::Launching(_))) {
            return;
        }
        let failed = Slot::Failed { at: Instant::now(), error: Arc::clone(&error) };
        let slot = slots.insert(id.to_owned(), failed);
        drop(slots);
        if let Some(Slot::Launching(outcome)) = slot {
            outcome.send_replace(Some(Err(error)));
        }
    }

    /// Forgets a connection that has ended.
    pub(super) fn deregister(&self, connection: &Arc<Connection>) {
        let mut slots = self.slots.lock();
        let own = matches!(slots.get(connection.id()), Some(Slot::Ready(c)) if Arc::ptr_eq(c, connection));
        if own {
            slots.remove(connection.id());
        }
    }

    /// The outcome of reaching this contract, while it is being reached.
    pub(super) fn awaited(&self, id: &str) -> Option<watch::Receiver<Option<Launched>>> {
        match self.slots.lock().get(id) {
            Some(Slot::Launching(outcome)) => Some(outcome.subscribe()),
            _ => None,
        }
    }

    /// Ends every connection and every attempt.
    pub(super) fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        for slot in slots.into_values() {
            match slot {
                Slot::Ready(connection) => connection.close(),
                Slot::Launching(outcome) => {
                    outcome.send_replace(Some(Err(Arc::new(LaunchError::Shutdown))));
                }
                Slot::Failed { .. } => {}
            }
        }
    }
}

/// READY, telling that writes and reads may come in batches.
fn ready() -> ChaincodeMessage {
    let params = ChaincodeAdditionalParams {
        use_write_batch: true,
        max_size_write_batch: MAX_BATCH,
        use_get_multiple_keys: true,
        max_size_get_multiple_keys: MAX_BATCH,
    };
    ChaincodeMessage { payload: params.encode_to_vec().into(), ..message_of(Type::Ready) }
}
