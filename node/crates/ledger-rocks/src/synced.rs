//! The end of what was synced, recorded beside the database.
//!
//! RocksDB cannot tell a record that a crash cut short from one whose length is damaged: both end
//! beyond the end of the log, and recovery drops them, with everything behind them. This record
//! tells them apart. It holds the sequence number of the last synced write, and recovery that ends
//! below it has lost acknowledged data.
//!
//! **Order.** The number is written only after the sync of the log that holds the write, so that
//! the record is never ahead of the log. It may be behind it after a power cut: it is synced
//! itself only once in [`SYNC_EVERY`], and when the database is closed, because a sync for each
//! commit would double a commit's cost. What is written here survives the end of the process at
//! once.
//!
//! **Promise.** After the end of the process however it came, every synced write is covered; after
//! a power cut, those that were synced more than about [`SYNC_EVERY`] and one write before it.
//! Writes that were only buffered are not covered until a synced one follows.
//!
//! **Form.** Two slots, a page apart and written by turns, each an 8-byte little-endian number and
//! the first 8 bytes of its SHA-256. A slot that was cut short leaves the other one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// The record's name in the database's folder. RocksDB ignores names that it does not know.
pub(crate) const NAME: &str = "SYNCED";

/// How long the record may be behind the log after a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Distance of the slots, bytes: no page and no sector holds parts of both.
const SLOT_BYTES: u64 = 4096;

const NUMBER_BYTES: usize = 8;

/// Keeps a number of another file from being taken for one of these.
const DOMAIN: &[u8] = b"weft synced sequence";

type Slot = [u8; 2 * NUMBER_BYTES];

/// The record of one open database.
pub(crate) struct Synced {
    file: File,
    state: Mutex<State>,
}

struct State {
    sequence: u64,
    /// Slot that is written next.
    next: u64,
    /// When the file was last synced.
    synced: Instant,
}

impl Synced {
    /// Makes the record in a folder, whole or not at all, over one that may be there.
    pub(crate) fn create(folder: &Path, sequence: u64) -> io::Result<()> {
        let beside = folder.join(format!("{NAME}.new"));
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        // Both slots take their place on disk now: a full disk does not stop a later write.
        for slot in 0..2 {
            file.write_all_at(&encode(sequence), slot * SLOT_BYTES)?;
        }
        file.sync_all()?;
        std::fs::rename(&beside, folder.join(NAME))?;
        File::open(folder)?.sync_all()
    }

    /// Opens the record of a folder; `None` where there is none.
    ///
    /// # Errors
    /// `InvalidData` when neither slot can be read.
    pub(crate) fn open(folder: &Path) -> io::Result<Option<Self>> {
        let opened = OpenOptions::new().read(true).write(true).open(folder.join(NAME));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let slots = [read(&file, 0)?, read(&file, 1)?];
        let Some(sequence) = slots.into_iter().flatten().max() else {
            let what = format!("both slots of {NAME} are damaged");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        // The slot that is older, or damaged, is the one to write over.
        let next = u64::from(slots[0] == Some(sequence));
        let state = Mutex::new(State { sequence, next, synced: Instant::now() });
        Ok(Some(Self { file, state }))
    }

    /// The last synced write that is known.
    pub(crate) fn sequence(&self) -> u64 {
        self.state.lock().sequence
    }

    /// Records that everything up to `sequence` is synced.
    pub(crate) fn advance(&self, sequence: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if sequence <= state.sequence {
            return Ok(());
        }
        self.file.write_all_at(&encode(sequence), state.next * SLOT_BYTES)?;
        state.sequence = sequence;
        state.next ^= 1;
        if state.synced.elapsed() >= SYNC_EVERY {
            self.file.sync_data()?;
            state.synced = Instant::now();
        }
        Ok(())
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        // The record stays behind if this fails, which is sound.
        let _ = self.file.sync_data();
    }
}

fn digest(number: [u8; NUMBER_BYTES]) -> [u8; NUMBER_BYTES] {
    let digest = Sha256::new().chain_update(DOMAIN).chain_update(number).finalize();
    let mut first = [0; NUMBER_BYTES];
    first.copy_from_slice(&digest[..NUMBER_BYTES]);
    first
}

fn encode(sequence: u64) -> Slot {
    let number = sequence.to_le_bytes();
    let mut slot = [0; 2 * NUMBER_BYTES];
    slot[..NUMBER_BYTES].copy_from_slice(&number);
    slot[NUMBER_BYTES..].copy_from_slice(&digest(number));
    slot
}

/// The number in a slot; `None` for one that is damaged or cut short.
fn read(file: &File, slot: u64) -> io::Result<Option<u64>> {
    let mut bytes: Slot = [0; 2 * NUMBER_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_BYTES) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut number = [0; NUMBER_BYTES];
    number.copy_from_slice(&bytes[..NUMBER_BYTES]);
    Ok((bytes[NUMBER_BYTES..] == digest(number)).then(|| u64::from_le_bytes(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(folder: &Path) -> Vec<u8> {
        std::fs::read(folder.join(NAME)).unwrap()
    }

    #[test]
    fn the_greatest_number_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Synced::open(folder.path()).unwrap().is_none());
        Synced::create(folder.path(), 3).unwrap();
        for expected in [3, 9, 10, 10, 12] {
            let record = Synced::open(folder.path()).unwrap().unwrap();
            record.advance(expected).unwrap();
            record.advance(2).unwrap();
            assert_eq!(record.sequence(), expected);
            drop(record);
            assert_eq!(Synced::open(folder.path()).unwrap().unwrap().sequence(), expected);
        }
    }

    /// Whatever becomes of one slot, the other one counts; without any the record is damaged.
    #[test]
    fn a_damaged_slot_leaves_the_other_one() {
        let folder = tempfile::tempdir().unwrap();
        Synced::create(folder.path(), 3).unwrap();
        Synced::open(folder.path()).unwrap().unwrap().advance(9).unwrap();
        let good = bytes(folder.path());
        for bit in 0..8 * good.len().min(16) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(folder.path().join(NAME), &bad).unwrap();
            let found = Synced::open(folder.path()).unwrap().unwrap().sequence();
            assert!([3, 9].contains(&found), "{found}");
            let second = usize::try_from(SLOT_BYTES).unwrap();
            bad.truncate(second + 5);
            std::fs::write(folder.path().join(NAME), &bad).unwrap();
            let error = Synced::open(folder.path()).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
