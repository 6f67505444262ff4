//! What was accepted and ordered anywhere, and whether that may be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weft_protos::common::Block;
use weft_types::block;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// I1.
    #[error("host {host} ends with {height} of {expected} blocks")]
    Lost {
        /// The orderer.
        host: u64,
        /// Its ledger's height.
        height: u64,
        /// The height of the longest ledger there ever was.
        expected: u64,
    },
    /// I2.
    #[error("host {host} has another block {number} than was written before")]
    Fork {
        /// The orderer.
        host: u64,
        /// The block.
        number: u64,
    },
    /// I3.
    #[error(
        "host {host} wrote as block {number} an envelope that nobody sent, or for the second time"
    )]
    Foreign {
        /// The orderer.
        host: u64,
        /// The block.
        number: u64,
    },
    /// I4.
    #[error("host {host} stopped: {error}")]
    Stopped {
        /// The orderer.
        host: u64,
        /// Why.
        error: String,
    },
    /// I4.
    #[error("an orderer panicked: {0}")]
    Panic(String),
    /// I5.
    #[error("nothing was ordered for {waited} ms after healing")]
    Stuck {
        /// How long was waited, milliseconds.
        waited: u64,
    },
    /// I6.
    #[error("{missing} accepted envelopes are in no block, and {dropped} were counted as dropped")]
    Uncounted {
        /// Accepted, in no block, and not with an orderer that crashed.
        missing: usize,
        /// Counted.
        dropped: usize,
    },
    /// I7.
    #[error("a failed join left host {host} with {after} of {before} blocks")]
    Deleted {
        /// The orderer.
        host: u64,
        /// Blocks before.
        before: u64,
        /// Blocks after.
        after: u64,
    },
}

/// An envelope's way.
#[derive(Debug, Default)]
struct Way {
    sent: u64,
    accepted: bool,
    ordered: Option<u64>,
    excused: bool,
    /// How often it was handed to a leader that may not have said that it has it.
    handed: u64,
    copies: u64,
}

/// The history over all orderers.
#[derive(Default)]
pub struct Record {
    hashes: Vec<[u8; 32]>,
    ways: BTreeMap<Bytes, Way>,
    /// Envelopes that were counted as given up.
    pub dropped: usize,
}

impl Record {
    /// The number of blocks of the longest chain.
    pub fn height(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Somebody sends this envelope.
    pub fn sent(&mut self, envelope: Bytes, sent: u64) {
        self.ways.entry(envelope).or_insert(Way { sent, ..Way::default() });
    }

    /// It was answered with SUCCESS, or taken from an orderer that had.
    pub fn accepted(&mut self, envelope: &Bytes) {
        if let Some(way) = self.ways.get_mut(envelope) {
            way.accepted = true;
            way.excused = false;
        }
    }

    /// It was handed to a leader by an orderer that had accepted it.
    pub fn handed(&mut self, envelope: &Bytes) {
        if let Some(way) = self.ways.get_mut(envelope) {
            way.handed += 1;
        }
    }

    /// Whoever had these has crashed.
    pub fn excuse(&mut self, envelopes: &BTreeSet<Bytes>) {
        for envelope in envelopes {
            if let Some(way) = self.ways.get_mut(envelope) {
                way.excused = true;
            }
        }
    }

    /// When an envelope was first ordered that was sent at `since` or later.
    pub fn first_ordered_since(&self, since: u64) -> Option<u64> {
        self.ways.values().filter(|way| way.sent >= since).filter_map(|way| way.ordered).min()
    }

    /// An orderer writes a block.
    pub fn block(&mut self, host: u64, block: &Block, now: u64) -> Result<(), Violation> {
        let Some(header) = &block.header else { return Ok(()) };
        let (number, hash) = (header.number, block::header_hash(header));
        match self.hashes.get(number as usize) {
            Some(known) if *known == hash => return Ok(()),
            Some(_) => return Err(Violation::Fork { host, number }),
            None if number != self.height() => return Err(Violation::Fork { host, number }),
            None => self.hashes.push(hash),
        }
        if number == 0 || weft_config::block::is_config_block(block) {
            return Ok(());
        }
        for envelope in block::transactions(block) {
            match self.ways.get_mut(envelope) {
                Some(way) if way.ordered.is_none() => way.ordered = Some(now),
                Some(way) if way.copies < way.handed => way.copies += 1,
                _ => return Err(Violation::Foreign { host, number }),
            }
        }
        Ok(())
    }

    /// How many envelopes were accepted.
    pub fn accepted_count(&self) -> usize {
        self.ways.values().filter(|way| way.accepted).count()
    }

    /// How many envelopes are in a block.
    pub fn ordered_count(&self) -> usize {
        self.ways.values().filter(|way| way.ordered.is_some()).count()
    }

    /// Checks that what was accepted is in a block, or counted, or was with a crashed orderer.
    pub fn check_counted(&self) -> Result<(), Violation> {
        let missing = self.ways.values();
        let missing = missing.filter(|way| way.accepted && way.ordered.is_none() && !way.excused);
        let (missing, dropped) = (missing.count(), self.dropped);
        if missing > dropped { Err(Violation::Uncounted { missing, dropped }) } else { Ok(()) }
    }
}
