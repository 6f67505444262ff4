//! Stores in memory, for tests and as the reference of what [`Stores`] means.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Kv, KvError};
use weft_types::ChannelId;

use crate::stores::{Created, Opened, Removal, Stores};

/// Makes the store of a channel.
type Make = Box<dyn Fn() -> Arc<dyn Kv> + Send + Sync>;

/// Stores in memory. They outlive the node that uses them.
pub struct MemoryStores {
    make: Make,
    kept: Mutex<BTreeMap<ChannelId, Entry>>,
}

struct Entry {
    kv: Arc<dyn Kv>,
    finished: bool,
}

impl MemoryStores {
    /// Stores made by `make`.
    #[must_use]
    pub fn new(make: impl Fn() -> Arc<dyn Kv> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), kept: Mutex::default() }
    }

    /// Puts a finished store in the place of a channel's.
    pub fn put(&self, channel: ChannelId, kv: Arc<dyn Kv>) {
        self.kept.lock().insert(channel, Entry { kv, finished: true });
    }
}

impl Default for MemoryStores {
    fn default() -> Self {
        Self::new(|| Arc::new(MemoryKv::new()))
    }
}

impl Stores for MemoryStores {
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError> {
        let mut kept = self.kept.lock();
        let made = || Entry { kv: (self.make)(), finished: false };
        let entry = kept.entry(channel.clone()).or_insert_with(made);
        let kv = Arc::clone(&entry.kv);
        Ok(match entry.finished {
            true => Opened::Found(kv),
            false => Opened::Created(kv, Created::new(channel.clone())),
        })
    }

    fn keep(&self, created: &Created) -> Result<(), KvError> {
        if let Some(entry) = self.kept.lock().get_mut(created.channel()) {
            entry.finished = true;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        Ok(self.kept.lock().keys().cloned().collect())
    }

    fn remove(&self, removal: &Removal) -> Result<(), KvError> {
        self.kept.lock().remove(removal.channel());
        Ok(())
    }
}
