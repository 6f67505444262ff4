//! What a crash, damage and failing disks leave: batches whole or absent, nothing silently lost,
//! nothing acknowledged after a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use weft_ledger::kv::column::{BLOCKS, CHAIN, STATE};
use weft_ledger::kv::{Batch, Column, Direction, Durability, KeyRange, Kv, KvError, KvRead};
use weft_ledger_rocks::{RocksKv, RocksOptions};

const COLUMNS: &[Column] = &[CHAIN, BLOCKS, STATE];

fn open(path: &Path) -> Result<Arc<RocksKv>, KvError> {
    RocksKv::open(path, COLUMNS, RocksOptions::default())
}

/// One batch over all columns; block `number` of a chain, so to speak.
fn write(kv: &dyn Kv, number: u8, durability: Durability) -> Result<(), KvError> {
    let mut batch = Batch::new();
    batch.put(CHAIN, "height", vec![number]);
    batch.put(BLOCKS, vec![number], vec![number; 3000]);
    batch.put(STATE, vec![number], vec![number; 20]);
    batch.put(STATE, "newest", vec![number]);
    kv.write(batch, durability)
}

/// The height that is there, after a check that everything of each block up to it is.
fn height(kv: &dyn Kv) -> u8 {
    let height = kv.get(CHAIN, b"height").unwrap().map_or(0, |value| value[0]);
    let newest = kv.get(STATE, b"newest").unwrap().map_or(0, |value| value[0]);
    assert_eq!(height, newest);
    let blocks = kv.scan(BLOCKS, &KeyRange::all(), Direction::Forward, 1000).unwrap();
    assert_eq!(blocks.len(), usize::from(height));
    for (number, (key, block)) in (1..=height).zip(blocks) {
        assert_eq!((&key[..], &block[..]), (&[number][..], &vec![number; 3000][..]));
        assert_eq!(kv.get(STATE, &[number]).unwrap().unwrap(), vec![number; 20]);
    }
    height
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The newest of the database's write-ahead logs.
fn log(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs.pop().unwrap()
}

/// A database that was stopped in the middle of its work: its folder as a crash leaves it, and
/// the length of the log after every batch. The first batches are synced, the others buffered.
fn crashed(synced: u8, buffered: u8) -> (TempDir, Vec<usize>) {
    let (work, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let kv = open(work.path()).unwrap();
    let end = || usize::try_from(fs::metadata(log(work.path())).unwrap().len()).unwrap();
    let mut ends = vec![end()];
    for number in 1..=synced + buffered {
        let synced = number <= synced;
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        write(&*kv, number, durability).unwrap();
        ends.push(end());
    }
    copy(work.path(), left.path());
    (left, ends)
}

#[test]
fn a_crash_loses_nothing_synced() {
    let (dir, _) = crashed(5, 0);
    for _ in 0..3 {
        assert_eq!(height(&*open(dir.path()).unwrap()), 5);
    }
    let kv = open(dir.path()).unwrap();
    write(&*kv, 6, Durability::Buffered).unwrap();
    drop(kv);
    assert_eq!(height(&*open(dir.path()).unwrap()), 6);
}

/// The log is cut in its last four batches, of which two were synced: around their ends, and all
/// along at steps that meet every alignment. A store that has lost what was synced does not open.
#[test]
fn a_torn_tail_opens_without_the_torn_batch_unless_it_was_synced() {
    let (dir, ends) = crashed(3, 2);
    let full = fs::read(log(dir.path())).unwrap();
    let name = log(dir.path()).file_name().unwrap().to_owned();
    let near = |cut: usize| ends.iter().any(|end| cut.abs_diff(*end) <= 4);
    for cut in (ends[1]..=ends[5]).filter(|cut| cut % 127 == 0 || near(*cut)) {
        let torn = TempDir::new().unwrap();
        copy(dir.path(), torn.path());
        fs::write(torn.path().join(&name), &full[..cut]).unwrap();
        if cut < ends[3] {
            is_refused(torn.path(), &format!("cut at {cut} of {}", full.len()));
            continue;
        }
        let kv = open(torn.path()).unwrap();
        let expected = ends.iter().rposition(|end| *end <= cut).unwrap();
        assert_eq!(usize::from(height(&*kv)), expected, "cut at {cut} of {}", full.len());
        // The chain goes on from there, and the repair lasts.
        let next = u8::try_from(expected).unwrap() + 1;
        write(&*kv, next, Durability::Synced).unwrap();
        drop(kv);
        assert_eq!(height(&*open(torn.path()).unwrap()), next);
    }
}

/// A damaged store does not open, however often it is tried.
fn is_refused(dir: &Path, what: &str) {
    for _ in 0..2 {
        let Err(error) = open(dir) else { panic!("{what}: opened") };
        assert!(error.is_corruption(), "{what}: {error}");
    }
}

/// Where the headers of a log's records begin (RocksDB's wiki, "Write Ahead Log File Format").
fn headers(log: &[u8]) -> Vec<usize> {
    let (mut at, mut all) = (0, Vec::new());
    while at + 7 <= log.len() {
        let left = 32_768 - at % 32_768;
        if left < 7 {
            at += left;
            continue;
        }
        all.push(at);
        at += 7 + usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
    }
    all
}

/// Every bit of the headers of a log's first and last records and of those around the end of a
/// block, which a record crosses: checksum, length and type.
#[test]
fn a_flipped_bit_in_a_header_loses_nothing_synced_in_silence() {
    let (dir, _) = crashed(12, 0);
    let name = log(dir.path()).file_name().unwrap().to_owned();
    let full = fs::read(log(dir.path())).unwrap();
    let all = headers(&full);
    let crosses = all.iter().position(|at| *at >= 32_768).unwrap();
    let mut tried = vec![0, 1, crosses - 1, crosses, all.len() - 2, all.len() - 1];
    tried.dedup();
    for header in tried.into_iter().map(|index| all[index]) {
        for bit in 0..7 * 8 {
            let damaged = TempDir::new().unwrap();
            copy(dir.path(), damaged.path());
            let mut bytes = full.clone();
            bytes[header + bit / 8] ^= 1 << (bit % 8);
            fs::write(damaged.path().join(&name), bytes).unwrap();
            is_refused(damaged.path(), &format!("bit {bit} of the header at {header}"));
        }
    }
}

/// Small buffers give several logs, tables and blobs.
fn with_several_logs() -> TempDir {
    let (work, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let options = RocksOptions { write_buffer_bytes: 256 * 1024, ..RocksOptions::default() };
    let kv = RocksKv::open(work.path(), COLUMNS, options).unwrap();
    for number in 1..=250 {
        write(&*kv, number, Durability::Synced).unwrap();
    }
    copy(work.path(), left.path());
    left
}

/// The end of a log that is not the newest one: what is behind it must not hide its loss.
#[test]
fn a_loss_in_an_older_log_is_detected() {
    let dir = with_several_logs();
    let logs: Vec<String> =
        names(dir.path()).into_iter().filter(|name| name.ends_with(".log")).collect();
    let mut refused = vec![0; logs.len()];
    for (log, refused) in logs.iter().zip(&mut refused) {
        let full = fs::read(dir.path().join(log)).unwrap();
        let last = *headers(&full).last().unwrap();
        let flips = (4 * 8..7 * 8).map(|bit| {
            let mut bytes = full.clone();
            bytes[last + bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        let cuts = [last, last + 7, full.len() - 1].map(|cut| full[..cut].to_vec());
        for bytes in flips.chain(cuts) {
            let damaged = TempDir::new().unwrap();
            copy(dir.path(), damaged.path());
            fs::write(damaged.path().join(log), bytes).unwrap();
            match open(damaged.path()) {
                // A log that is not needed any more.
                Ok(kv) => assert_eq!(height(&*kv), 250, "{log}"),
                Err(error) => {
                    assert!(error.is_corruption(), "{log}: {error}");
                    *refused += 1;
                }
            }
        }
    }
    assert!(refused.iter().filter(|count| **count > 0).count() > 1, "{refused:?} of {logs:?}");
}

/// A changed bit in a batch that is followed by others is damage: the store does not open, since
/// the batches behind it were acknowledged.
#[test]
fn damage_in_the_middle_is_detected() {
    let (dir, ends) = crashed(5, 0);
    let full = fs::read(log(dir.path())).unwrap();
    let name = log(dir.path()).file_name().unwrap().to_owned();
    for place in [10, ends[1] - 1, ends[1] + 100, ends[2] + 9, ends[4] - 1, ends[5] - 1] {
        let damaged = TempDir::new().unwrap();
        copy(dir.path(), damaged.path());
        let mut bytes = full.clone();
        bytes[place] ^= 0x10;
        fs::write(damaged.path().join(&name), bytes).unwrap();
        let error = open(damaged.path()).err().unwrap();
        assert!(error.is_corruption(), "{error}");
        assert!(!error.can_retry());
    }
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// Of the files that a store is made of, each but the blobs is missed when the store is opened.
#[test]
fn a_missing_file_is_detected() {
    let left = with_several_logs();
    let mut tried = [0; 3];
    for name in names(left.path()) {
        let without = TempDir::new().unwrap();
        copy(left.path(), without.path());
        fs::remove_file(without.path().join(&name)).unwrap();
        let kind = [".log", ".sst", ".blob"].iter().position(|end| name.ends_with(end));
        kind.into_iter().for_each(|kind| tried[kind] += 1);
        let must_be_there = name.starts_with("MANIFEST") || name == "CURRENT" || name == "SYNCED";
        if must_be_there || kind.is_some_and(|kind| kind < 2) {
            match open(without.path()) {
                Err(error) => assert!(!error.can_retry(), "{name}: {error}"),
                // One that is not needed any more and was not deleted yet.
                Ok(kv) => assert!(!must_be_there && height(&*kv) == 250, "{name}"),
            }
        } else if kind == Some(2) {
            // A blob is missed where it is read, and never taken for an absent block.
            let kv = open(without.path()).unwrap();
            assert!(kv.scan(BLOCKS, &KeyRange::all(), Direction::Forward, 1000).is_err());
        }
    }
    assert!(tried.iter().all(|count| *count > 1), "{tried:?}");
}

#[test]
fn a_store_without_any_log_is_damaged() {
    let (dir, _) = crashed(3, 0);
    fs::remove_file(log(dir.path())).unwrap();
    is_refused(dir.path(), "without its log");
}

/// Files without `CURRENT`, with it unreadable, or a stranger's: never a new, empty store.
#[test]
fn only_an_empty_folder_is_no_store() {
    let (dir, _) = crashed(3, 0);
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    let before = names(dir.path()).len();
    is_refused(dir.path(), "without CURRENT");
    fs::remove_file(log(dir.path())).unwrap();
    is_refused(dir.path(), "without CURRENT and log");
    assert_eq!(names(dir.path()).len(), before - 1, "nothing was made");
    let (dir, _) = crashed(3, 0);
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    fs::create_dir(dir.path().join("CURRENT")).unwrap();
    assert!(open(dir.path()).is_err(), "the list of columns cannot be read");
    let (parent, _) = crashed(0, 0);
    let path = parent.path().join("channels/supply");
    assert_eq!(height(&*open(&path).unwrap()), 0, "no folder is no store");
    fs::create_dir(parent.path().join("channels/trade")).unwrap();
    assert_eq!(height(&*open(&parent.path().join("channels/trade")).unwrap()), 0);
}

/// A store that a crash left half made is made, and not taken for one.
#[test]
fn a_store_has_its_name_when_it_is_complete() {
    let parent = TempDir::new().unwrap();
    let half = parent.path().join("NEW-supply");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("MANIFEST-000001"), "half").unwrap();
    let path = parent.path().join("supply");
    let kv = open(&path).unwrap();
    write(&*kv, 1, Durability::Synced).unwrap();
    drop(kv);
    assert_eq!(height(&*open(&path).unwrap()), 1);
    assert_eq!(names(parent.path()), ["supply"]);
}

/// A changed bit in a stored table or blob is told, and never read as another value or as none.
#[test]
fn damaged_tables_are_not_read() {
    let work = TempDir::new().unwrap();
    let options = RocksOptions { write_buffer_bytes: 64 * 1024, ..RocksOptions::default() };
    let kv = RocksKv::open(work.path(), COLUMNS, options).unwrap();
    for number in 1..=200 {
        write(&*kv, number, Durability::Buffered).unwrap();
    }
    drop(kv);
    // Opening and closing brings what is left of the log into tables.
    drop(open(work.path()).unwrap());
    let files = fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().path());
    let blobs: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "blob")).collect();
    assert!(!blobs.is_empty(), "blocks are kept in blob files");
    for blob in blobs {
        let mut bytes = fs::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&blob, bytes).unwrap();
    }
    let kv = open(work.path()).unwrap();
    let mut damaged = 0;
    for number in 1..=200u8 {
        match kv.get(BLOCKS, &[number]) {
            Ok(block) => assert_eq!(block.unwrap(), vec![number; 3000]),
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
}

#[test]
fn one_process_opens_a_store_at_a_time() {
    let dir = TempDir::new().unwrap();
    let kv = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, KvError::Locked { .. }), "{error:?}");
    assert!(error.can_retry());
    // A snapshot keeps the store open.
    let snapshot = kv.snapshot();
    drop(kv);
    assert!(open(dir.path()).is_err());
    drop(snapshot);
    open(dir.path()).unwrap();
}

#[test]
fn columns_are_those_of_the_call_and_of_the_store() {
    let dir = TempDir::new().unwrap();
    let kv = RocksKv::open(dir.path(), &[CHAIN, STATE], RocksOptions::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(STATE, "a", "1");
    batch.put(BLOCKS, "a", "1");
    let error = kv.write(batch, Durability::Synced).unwrap_err();
    assert!(matches!(error, KvError::UnknownColumn { column } if column == BLOCKS));
    assert!(matches!(kv.get(BLOCKS, b"a"), Err(KvError::UnknownColumn { .. })));
    assert!(kv.multi_get(BLOCKS, &[b"a"]).is_err());
    assert!(kv.scan(BLOCKS, &KeyRange::all(), Direction::Forward, 1).is_err());
    // A mistake of the caller does not stop the store, and leaves nothing behind.
    assert_eq!(kv.get(STATE, b"a").unwrap(), None);
    let mut batch = Batch::new();
    batch.put(STATE, "a", "1");
    kv.write(batch, Durability::Synced).unwrap();
    drop(kv);
    // A new column is added, one that is not named is kept.
    let kv = RocksKv::open(dir.path(), &[CHAIN, BLOCKS], RocksOptions::default()).unwrap();
    assert_eq!(kv.get(BLOCKS, b"a").unwrap(), None);
    drop(kv);
    let kv = open(dir.path()).unwrap();
    assert_eq!(kv.get(STATE, b"a").unwrap().unwrap(), "1");
}

#[test]
fn a_folder_that_cannot_be_used_is_told() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let error = open(&file).err().unwrap();
    assert!(matches!(error, KvError::Open { .. }), "{error:?}");
    let good = dir.path().join("store");
    drop(open(&good).unwrap());
    fs::write(good.join("CURRENT"), "nonsense").unwrap();
    assert!(open(&good).is_err());
}

/// Set for the process that the next test starts: the store's folder.
const FOLDER: &str = "WEFT_TEST_FOLDER";

/// A process whose files cannot grow past 200 KiB writes until a write fails. It must then be
/// told that the store has stopped, go on reading, and the store must open with every
/// acknowledged block once there is room again.
#[test]
fn nothing_is_acknowledged_after_a_failed_write() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_failure(Path::new(&folder));
    }
    let dir = TempDir::new().unwrap();
    // The shell's unit is 512 bytes; with the signal ignored the write fails instead.
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$@\"";
    let child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_acknowledged_after_a_failed_write", "--nocapture"])
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    let acknowledged = output.split_once("acknowledged ").unwrap().1;
    let acknowledged: u8 = acknowledged.split_whitespace().next().unwrap().parse().unwrap();
    assert!(acknowledged > 10);
    let kv = open(dir.path()).unwrap();
    let there = height(&*kv);
    assert!([acknowledged, acknowledged + 1].contains(&there), "{there} of {acknowledged}");
    write(&*kv, there + 1, Durability::Synced).unwrap();
}

fn write_until_failure(folder: &Path) {
    let kv = open(folder).unwrap();
    let failed = (1..=u8::MAX).find_map(|number| {
        let error = write(&*kv, number, Durability::Synced).err()?;
        Some((number, error))
    });
    let (number, error) = failed.unwrap();
    assert!(matches!(error, KvError::Write { .. }), "{error:?}");
    for durability in [Durability::Synced, Durability::Buffered] {
        let error = write(&*kv, number, durability).unwrap_err();
        assert!(matches!(error, KvError::Stopped { .. }), "{error:?}");
        assert!(!error.can_retry());
    }
    assert_eq!(height(&*kv), number - 1);
    println!("acknowledged {}", number - 1);
}
