//! What every store must do: one suite, run by each implementation's tests.

use std::sync::Arc;

use bytes::Bytes;

use super::column::{BLOCKS, CHAIN, HISTORY, STATE};
use super::{Batch, Column, Direction, Durability, Entries, KeyRange, Kv, KvError, KvRead};

const DURABILITY: [Durability; 2] = [Durability::Synced, Durability::Buffered];

/// The columns that the suite uses; open the store with them.
pub const COLUMNS: &[Column] = &[STATE, BLOCKS, CHAIN, HISTORY];

/// A case of the suite: it gets an empty store and panics where the store does wrong.
type Case = fn(&dyn Kv) -> Result<(), KvError>;

const CASES: &[(&str, Case)] = &[
    ("put, get and delete", put_get_delete),
    ("empty keys and values", empty_keys_and_values),
    ("the last change of a batch wins", last_change_wins),
    ("columns are separate", columns_are_separate),
    ("several keys at once", several_keys),
    ("order of bytes", order),
    ("bounds of ranges", bounds),
    ("ranges of prefixes", prefixes),
    ("reverse", reverse),
    ("limits and chunks", chunks),
    ("ranges are deleted", ranges_are_deleted),
    ("snapshots do not change", snapshots),
    ("a snapshot outlives deleted ranges", snapshot_of_range),
    ("values of all sizes", value_sizes),
    ("batches are seen whole", batches_are_whole),
];

/// Runs every case, each on a store that `open` makes anew.
///
/// # Errors
/// Fails where the store does; panics where it does the wrong thing.
pub fn run(open: impl Fn() -> Arc<dyn Kv>) -> Result<(), (&'static str, KvError)> {
    for (name, case) in CASES {
        case(&*open()).map_err(|error| (*name, error))?;
    }
    Ok(())
}

fn write(kv: &dyn Kv, fill: impl FnOnce(&mut Batch)) -> Result<(), KvError> {
    let mut batch = Batch::new();
    fill(&mut batch);
    kv.write(batch, Durability::Buffered)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn keys(
    reader: &dyn KvRead,
    range: KeyRange,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Bytes>, KvError> {
    let entries = reader.scan(STATE, &range, direction, limit)?;
    Ok(entries.into_iter().map(|(key, _)| key).collect())
}

fn put_get_delete(kv: &dyn Kv) -> Result<(), KvError> {
    assert_eq!(kv.get(STATE, b"a")?, None);
    for durability in DURABILITY {
        let mut batch = Batch::new();
        batch.put(STATE, bytes("a"), bytes("1"));
        kv.write(batch, durability)?;
        assert_eq!(kv.get(STATE, b"a")?, Some(bytes("1")));
        let mut batch = Batch::new();
        batch.delete(STATE, bytes("a"));
        batch.delete(STATE, bytes("never there"));
        kv.write(batch, durability)?;
        assert_eq!(kv.get(STATE, b"a")?, None);
        kv.write(Batch::new(), durability)?;
    }
    Ok(())
}

fn empty_keys_and_values(kv: &dyn Kv) -> Result<(), KvError> {
    write(kv, |batch| {
        batch.put(STATE, Bytes::new(), bytes("of the empty key"));
        batch.put(STATE, bytes("a"), Bytes::new());
    })?;
    assert_eq!(kv.get(STATE, b"")?, Some(bytes("of the empty key")));
    assert_eq!(kv.get(STATE, b"a")?, Some(Bytes::new()));
    let all = keys(kv, KeyRange::all(), Direction::Forward, 10)?;
    assert_eq!(all, [Bytes::new(), bytes("a")]);
    let all = keys(kv, KeyRange::all(), Direction::Reverse, 10)?;
    assert_eq!(all, [bytes("a"), Bytes::new()]);
    write(kv, |batch| batch.delete(STATE, Bytes::new()))?;
    assert_eq!(kv.get(STATE, b"")?, None);
    Ok(())
}

fn last_change_wins(kv: &dyn Kv) -> Result<(), KvError> {
    write(kv, |batch| {
        batch.put(STATE, bytes("a"), bytes("1"));
        batch.delete(STATE, bytes("a"));
        batch.put(STATE, bytes("a"), bytes("2"));
        batch.put(STATE, bytes("b"), bytes("1"));
        batch.delete(STATE, bytes("b"));
        batch.put(STATE, bytes("c1"), bytes("1"));
        batch.delete_range(STATE, bytes("c"), bytes("d"));
        batch.put(STATE, bytes("c2"), bytes("1"));
    })?;
    let all = keys(kv, KeyRange::all(), Direction::Forward, 10)?;
    assert_eq!(all, [bytes("a"), bytes("c2")]);
    assert_eq!(kv.get(STATE, b"a")?, Some(bytes("2")));
    Ok(())
}

fn columns_are_separate(kv: &dyn Kv) -> Result<(), KvError> {
    write(kv, |batch| {
        for column in COLUMNS {
            batch.put(*column, bytes("a"), column.name().as_bytes().to_vec());
        }
        batch.delete(HISTORY, bytes("a"));
    })?;
    for column in COLUMNS.iter().filter(|column| **column != HISTORY) {
        assert_eq!(kv.get(*column, b"a")?, Some(bytes(column.name())));
    }
    assert_eq!(kv.get(HISTORY, b"a")?, None);
    Ok(())
}

fn several_keys(kv: &dyn Kv) -> Result<(), KvError> {
    write(kv, |batch| {
        batch.put(STATE, bytes("a"), bytes("1"));
        batch.put(STATE, bytes("c"), bytes("3"));
    })?;
    let wanted: [&[u8]; 5] = [b"c", b"b", b"a", b"c", b""];
    let expected = [Some(bytes("3")), None, Some(bytes("1")), Some(bytes("3")), None];
    assert_eq!(kv.multi_get(STATE, &wanted)?, expected);
    let snapshot = kv.snapshot();
    write(kv, |batch| batch.delete_range(STATE, bytes("a"), bytes("z")))?;
    assert_eq!(snapshot.multi_get(STATE, &wanted)?, expected);
    assert_eq!(kv.multi_get(STATE, &[])?, []);
    Ok(())
}

fn order(kv: &dyn Kv) -> Result<(), KvError> {
    let sorted: [&[u8]; 7] = [b"\0", b"\0\0", b"A", b"a", b"a\0", b"a\xff", b"\xff\xff"];
    write(kv, |batch| {
        for key in sorted.iter().rev() {
            batch.put(STATE, key.to_vec(), bytes("1"));
        }
    })?;
    assert_eq!(keys(kv, KeyRange::all(), Direction::Forward, 10)?, sorted);
    Ok(())
}

fn letters(kv: &dyn Kv) -> Result<(), KvError> {
    write(kv, |batch| {
        for letter in ["a", "b", "c", "d", "e"] {
            batch.put(STATE, bytes(letter), bytes(letter));
        }
    })
}

fn bounds(kv: &dyn Kv) -> Result<(), KvError> {
    letters(kv)?;
    let cases: [(KeyRange, &[&'static str]); 8] = [
        (KeyRange::new("b", "d"), &["b", "c"]),
        (KeyRange::new("aa", "cc"), &["b", "c"]),
        (KeyRange::from("d"), &["d", "e"]),
        (KeyRange { start: None, end: Some("b".into()) }, &["a"]),
        (KeyRange::new("c", "c"), &[]),
        (KeyRange::new("d", "b"), &[]),
        (KeyRange::from("f"), &[]),
        (KeyRange { start: None, end: Some(Bytes::new()) }, &[]),
    ];
    for (range, expected) in cases {
        let found = keys(kv, range.clone(), Direction::Forward, 10)?;
        assert_eq!(found, expected, "{range:?}");
        let mut found = keys(kv, range.clone(), Direction::Reverse, 10)?;
        found.reverse();
        assert_eq!(found, expected, "{range:?} in reverse");
    }
    Ok(())
}

fn prefixes(kv: &dyn Kv) -> Result<(), KvError> {
    let all: [&[u8]; 6] = [b"a", b"a\0", b"a\xff", b"a\xff\xff", b"b", b"\xff\xff"];
    write(kv, |batch| {
        for key in all {
            batch.put(STATE, key.to_vec(), Bytes::new());
        }
    })?;
    let cases: [(&'static [u8], &[&[u8]]); 5] =
        [(b"a", &all[..4]), (b"a\xff", &all[2..4]), (b"\xff", &all[5..]), (b"", &all), (b"c", &[])];
    for (prefix, expected) in cases {
        let found = keys(kv, KeyRange::prefix(prefix), Direction::Forward, 10)?;
        assert_eq!(found, expected, "{prefix:?}");
    }
    Ok(())
}

fn reverse(kv: &dyn Kv) -> Result<(), KvError> {
    letters(kv)?;
    assert_eq!(keys(kv, KeyRange::all(), Direction::Reverse, 2)?, ["e", "d"]);
    assert_eq!(keys(kv, KeyRange::new("b", "d"), Direction::Reverse, 1)?, ["c"]);
    Ok(())
}

fn chunks(kv: &dyn Kv) -> Result<(), KvError> {
    letters(kv)?;
    assert_eq!(keys(kv, KeyRange::all(), Direction::Forward, 0)?, Vec::<Bytes>::new());
    assert_eq!(keys(kv, KeyRange::all(), Direction::Forward, 3)?, ["a", "b", "c"]);
    for chunk in 0..7 {
        for (direction, expected) in [
            (Direction::Forward, ["a", "b", "c", "d", "e"]),
            (Direction::Reverse, ["e", "d", "c", "b", "a"]),
        ] {
            let entries = Entries::new(kv, STATE, KeyRange::all(), direction, chunk);
            let found: Vec<Bytes> =
                entries.map(|entry| entry.map(|(key, _)| key)).collect::<Result<_, _>>()?;
            assert_eq!(found, expected, "chunks of {chunk}");
        }
    }
    Ok(())
}

fn ranges_are_deleted(kv: &dyn Kv) -> Result<(), KvError> {
    letters(kv)?;
    write(kv, |batch| {
        batch.delete_range(STATE, bytes("b"), bytes("d"));
        batch.delete_range(STATE, bytes("z"), bytes("a"));
        batch.delete_range(STATE, bytes("e"), bytes("e"));
    })?;
    assert_eq!(keys(kv, KeyRange::all(), Direction::Forward, 10)?, ["a", "d", "e"]);
    letters(kv)?;
    assert_eq!(keys(kv, KeyRange::all(), Direction::Forward, 10)?.len(), 5);
    Ok(())
}

fn snapshots(kv: &dyn Kv) -> Result<(), KvError> {
    letters(kv)?;
    let first = kv.snapshot();
    write(kv, |batch| {
        batch.put(STATE, bytes("a"), bytes("changed"));
        batch.delete(STATE, bytes("b"));
        batch.put(STATE, bytes("bb"), bytes("new"));
    })?;
    let second = kv.snapshot();
    write(kv, |batch| batch.put(STATE, bytes("b"), bytes("again")))?;
    assert_eq!(first.get(STATE, b"a")?, Some(bytes("a")));
    assert_eq!(keys(&*first, KeyRange::new("a", "c"), Direction::Forward, 10)?, ["a", "b"]);
    assert_eq!(second.get(STATE, b"a")?, Some(bytes("changed")));
    assert_eq!(keys(&*second, KeyRange::new("a", "c"), Direction::Forward, 10)?, ["a", "bb"]);
    drop(first);
    assert_eq!(second.get(STATE, b"b")?, None);
    assert_eq!(kv.get(STATE, b"b")?, Some(bytes("again")));
    Ok(())
}

fn snapshot_of_range(kv: &dyn Kv) -> Result<(), KvError> {
    letters(kv)?;
    let snapshot = kv.snapshot();
    write(kv, |batch| batch.delete_range(STATE, bytes("a"), bytes("z")))?;
    assert_eq!(keys(&*snapshot, KeyRange::all(), Direction::Reverse, 10)?.len(), 5);
    assert_eq!(keys(kv, KeyRange::all(), Direction::Forward, 10)?.len(), 0);
    Ok(())
}

/// Large values may be kept elsewhere than small ones, in a column that asks for it.
fn value_sizes(kv: &dyn Kv) -> Result<(), KvError> {
    for column in [BLOCKS, STATE] {
        for (number, size) in [0, 1, 1023, 1024, 1025, 70_000, 3_000_000].into_iter().enumerate() {
            let (key, value) = (vec![number as u8], vec![number as u8 + 1; size]);
            write(kv, |batch| batch.put(column, key.clone(), value.clone()))?;
            assert!(kv.get(column, &key)?.is_some_and(|found| found == value), "{size} bytes");
        }
        assert_eq!(kv.scan(column, &KeyRange::all(), Direction::Forward, 10)?.len(), 7);
    }
    Ok(())
}

/// A reader never sees one half of a batch: two keys that are always written together are
/// always equal.
fn batches_are_whole(kv: &dyn Kv) -> Result<(), KvError> {
    let written = |number: u32, batch: &mut Batch| {
        batch.put(STATE, bytes("a"), number.to_be_bytes().to_vec());
        batch.put(CHAIN, bytes("z"), number.to_be_bytes().to_vec());
    };
    write(kv, |batch| written(0, batch))?;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<(), KvError> {
            for _ in 0..500 {
                let snapshot = kv.snapshot();
                assert_eq!(snapshot.get(STATE, b"a")?, snapshot.get(CHAIN, b"z")?);
            }
            Ok(())
        });
        for number in 1..500 {
            write(kv, |batch| written(number, batch))?;
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
