//! A disk that loses what was not synced.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Applied, Index, LogWrite, Persist};
use crate::entry::Entry;
use crate::membership::Membership;
use crate::rng::Rng;

/// A block as far as the simulation goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub index: Index,
    pub number: u64,
    pub entry: Entry,
    pub membership: Arc<Membership>,
}

/// What a write changes; one write is atomic.
#[derive(Clone, Debug)]
enum Write {
    Log(Persist),
    Block(Block),
}

#[derive(Clone, Debug, Default)]
struct State {
    log: BTreeMap<Bytes, Bytes>,
    ledger: Vec<Block>,
}

impl State {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Block(block) => self.ledger.push(block.clone()),
            Write::Log(persist) => persist.writes.iter().for_each(|write| match write {
                LogWrite::Put { key, value } => {
                    self.log.insert(key.clone(), value.clone());
                }
                LogWrite::Delete { key } => {
                    self.log.remove(key);
                }
            }),
        }
    }
}

/// One store for log and ledger, with one journal: after a crash a prefix of the unsynced writes
/// is there.
#[derive(Debug, Default)]
pub struct Disk {
    durable: State,
    view: State,
    unsynced: Vec<Write>,
}

impl Disk {
    /// A disk with these blocks and no log.
    pub fn with_ledger(ledger: Vec<Block>) -> Self {
        let durable = State { log: BTreeMap::new(), ledger };
        Self { view: durable.clone(), durable, unsynced: Vec::new() }
    }

    pub fn ledger(&self) -> &[Block] {
        &self.view.ledger
    }

    pub fn height(&self) -> u64 {
        self.view.ledger.len() as u64
    }

    pub fn records(&self) -> Vec<(Bytes, Bytes)> {
        self.view.log.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// What an engine is told about the ledger; `None` without a genesis block.
    pub fn applied(&self) -> Option<Applied> {
        let last = self.view.ledger.last()?;
        let membership = Arc::clone(&last.membership);
        Some(Applied { index: last.index, height: self.height(), membership })
    }

    pub fn write_log(&mut self, persist: Persist) {
        self.write(Write::Log(persist));
    }

    pub fn write_block(&mut self, block: Block) {
        self.write(Write::Block(block));
    }

    fn write(&mut self, write: Write) {
        self.view.apply(&write);
        self.unsynced.push(write);
    }

    /// All that was written is durable.
    pub fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
        }
    }

    /// A power cut: some prefix of the unsynced writes made it.
    pub fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.range(0, self.unsynced.len() as u64 + 1) as usize;
        for write in self.unsynced.drain(..).take(kept) {
            self.durable.apply(&write);
        }
        self.view = self.durable.clone();
    }

    /// Loses the log; the ledger stays.
    pub fn wipe_log(&mut self) {
        self.unsynced.clear();
        self.durable.log.clear();
        self.view = self.durable.clone();
    }
}
