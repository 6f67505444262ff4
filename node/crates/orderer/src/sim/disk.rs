//! A node's disk: it loses what was not synced, it can be full, and a sync can fail.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weft_channels::{Created, Opened, Removal, Stores};
use weft_consensus::sim::Rng;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, Entry, KeyRange, Kv, KvError, KvRead};
use weft_types::ChannelId;

/// The batches written, in their order, and how many of them are durable.
#[derive(Default)]
struct State {
    view: Arc<MemoryKv>,
    journal: Vec<Batch>,
    durable: usize,
    made: bool,
    /// Whether a join was brought to its end.
    kept: bool,
    full: bool,
    stopped: bool,
}

/// The disk of one node, with the store of one channel on it. Clones share it.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Whether there is a store, as after an unfinished join.
    pub fn is_made(&self) -> bool {
        self.0.lock().made
    }

    /// Whether the store is that of a channel which was joined.
    pub fn is_kept(&self) -> bool {
        self.0.lock().kept
    }

    /// Deletes the store.
    pub fn wipe(&self) {
        let full = self.0.lock().full;
        *self.0.lock() = State { full, ..State::default() };
    }

    /// Lets it be full, or have room again.
    pub fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// How much is written; what [`Self::sync`] is given.
    pub fn written(&self) -> usize {
        self.0.lock().journal.len()
    }

    /// What was written up to there is durable.
    pub fn sync(&self, written: usize) {
        let mut state = self.0.lock();
        state.durable = state.durable.max(written.min(state.journal.len()));
    }

    /// A power cut: some prefix of what was not synced made it.
    pub fn crash(&self, rng: &mut Rng) {
        let mut state = self.0.lock();
        let unsynced = (state.journal.len() - state.durable) as u64;
        let kept = state.durable + rng.range(0, unsynced + 1) as usize;
        state.journal.truncate(kept);
        let view = MemoryKv::new();
        for batch in &state.journal {
            let _ = view.write(batch.clone(), Durability::Synced);
        }
        (state.view, state.durable, state.stopped) = (Arc::new(view), kept, false);
    }

    fn view(&self) -> Arc<MemoryKv> {
        self.0.lock().view.clone()
    }
}

impl KvRead for Disk {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.view().get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        self.view().scan(column, range, direction, limit)
    }
}

impl Kv for Disk {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        self.view().snapshot()
    }

    /// Syncing takes time, which passes elsewhere; see [`Disk::sync`].
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let mut state = self.0.lock();
        if state.stopped {
            return Err(KvError::Stopped { reason: "the disk was full".to_owned() });
        }
        if state.full {
            state.stopped = true;
            return Err(KvError::Full { source: Arc::new(std::io::Error::other("full")) });
        }
        state.journal.push(batch.clone());
        state.view.write(batch, durability)
    }
}

impl Stores for Disk {
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError> {
        let mut state = self.0.lock();
        (state.made, state.stopped) = (true, false);
        let kv = Arc::new(self.clone());
        Ok(match state.kept {
            true => Opened::Found(kv),
            false => Opened::Created(kv, Created::new(channel.clone())),
        })
    }

    fn keep(&self, _: &Created) -> Result<(), KvError> {
        self.0.lock().kept = true;
        Ok(())
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        Ok(if self.is_made() { vec![super::fixture::channel()] } else { Vec::new() })
    }

    fn remove(&self, _: &Removal) -> Result<(), KvError> {
        self.wipe();
        Ok(())
    }
}
