//! How private data lies in the store, and what becomes of it: values only under the hash that they
//! are of, purges that last, and what ends with which block.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use weft_ledger::kv::column::{EXPIRY, MISSING_PRIVATE, PRIVATE_DATA, PRIVATE_STATE, PURGED};
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, KeyRange, Kv, KvRead};
use weft_ledger::private::{
    Ending, Expiry, PrivateBatch, WritesKey, WritesProof, decode_purge, encode_purge, ending_with,
    ends_with, expired_hashes, expiry_of_hashes, has_ended,
};
use weft_ledger::state::{KvState, OverlayState, StateReader};
use weft_ledger::updates::Update;
use weft_ledger::{UpdateBatch, Version};
use weft_protos::kvrwset::{
    HashedRwSet, KvMetadataWrite, KvMetadataWriteHash, KvWrite, KvWriteHash, KvrwSet,
};

const CC: &str = "cc";
const COLL: &str = "coll";

fn key(block: u64, place: u32) -> WritesKey<'static> {
    WritesKey { namespace: CC, collection: COLL, block, place }
}

fn hash(bytes: &str) -> Bytes {
    Bytes::copy_from_slice(&weft_crypto::sha256(bytes.as_bytes()))
}

fn set(writes: &[(&str, Option<&str>)]) -> KvrwSet {
    let write = |(key, value): &(&str, Option<&str>)| KvWrite {
        key: (*key).to_owned(),
        is_delete: value.is_none(),
        value: value.unwrap_or_default().to_owned().into(),
    };
    KvrwSet { writes: writes.iter().map(write).collect(), ..Default::default() }
}

/// A store, with what a peer does at each block.
struct Store {
    kv: Arc<MemoryKv>,
    lives: u64,
}

/// What a block does: writes to keys, with or without the values, and purges.
#[derive(Default)]
struct Block<'a> {
    writes: &'a [(&'a str, Option<&'a str>)],
    renews: &'a [&'a str],
    purges: &'a [&'a str],
    is_missing: bool,
}

impl Store {
    fn new(lives: u64) -> Self {
        Self { kv: Arc::new(MemoryKv::new()), lives }
    }

    fn state(&self) -> KvState {
        KvState::new(self.kv.snapshot())
    }

    fn commit(&self, number: u64, block: &Block<'_>) {
        let (state, version) = (self.state(), Version::new(number, 0));
        let mut updates = UpdateBatch::new();
        let mut private = set(block.writes);
        let update = |value, metadata| Update { value, metadata, version };
        for (name, value) in block.writes {
            let value = value.map(hash);
            updates.put_hash(CC, COLL, hash(name), update(value, Bytes::new()));
        }
        for name in block.renews {
            let before = state.get_hash(CC, COLL, &hash(name)).unwrap().unwrap();
            let metadata = Bytes::from_static(b"policy");
            updates.put_hash(CC, COLL, hash(name), update(Some(before.value), metadata));
            let renewed = KvMetadataWrite { key: (*name).to_owned(), entries: Vec::new() };
            private.metadata_writes.push(renewed);
        }
        for name in block.purges {
            updates.put_hash(CC, COLL, hash(name), update(None, Bytes::new()));
            private.writes.extend(set(&[(name, None)]).writes);
        }
        let ending = ending_with(self.kv.as_ref(), number).unwrap();
        let expired = expired_hashes(number, ending.iter().map(Vec::as_slice), &updates, &state);
        let expired = Arc::new(expired.unwrap());
        let mut batch = Batch::new();
        updates.write_to(&mut batch);
        expired.write_to(&mut batch);
        for key in expiry_of_hashes(&updates, number, |_, _| self.lives) {
            batch.put(EXPIRY, key, Bytes::new());
        }
        let layers = [Arc::new(updates), expired];
        let hashes = OverlayState::new(Arc::new(state.clone()), layers);
        let mut values = PrivateBatch::new(&state, &hashes);
        for name in block.purges {
            values.purge(CC, COLL, hash(name), version);
        }
        match block.is_missing {
            true => values.missing(key(number, 0), self.lives),
            false => {
                let bytes = private.encode_to_vec().into();
                values.writes(key(number, 0), bytes, private, self.lives).unwrap();
            }
        }
        values.end(&ending).unwrap();
        batch.extend(values.finish().unwrap());
        self.kv.write(batch, Durability::Buffered).unwrap();
    }

    fn find(&self, block: u64, found: KvrwSet) {
        let state = self.state();
        let mut values = PrivateBatch::for_earlier(&state);
        let bytes = found.encode_to_vec().into();
        values.writes(key(block, 0), bytes, found, self.lives).unwrap();
        self.kv.write(values.finish().unwrap(), Durability::Buffered).unwrap();
    }

    fn value(&self, name: &str) -> Option<(String, u64)> {
        let found = self.state().get_private(CC, COLL, name).unwrap()?;
        Some((String::from_utf8(found.value.to_vec()).unwrap(), found.version.block))
    }

    fn hash_version(&self, name: &str) -> Option<u64> {
        let found = self.state().get_hash(CC, COLL, &hash(name)).unwrap();
        found.map(|found| found.version.block)
    }

    fn keys(&self, block: u64) -> Option<Vec<String>> {
        let stored = self.kv.get(PRIVATE_DATA, &key(block, 0).encode()).unwrap()?;
        let set = KvrwSet::decode(stored).unwrap();
        let writes = set.writes.into_iter().map(|write| write.key);
        Some(writes.chain(set.metadata_writes.into_iter().map(|write| write.key)).collect())
    }

    fn count(&self, column: Column) -> usize {
        self.kv.scan(column, &KeyRange::all(), Direction::Forward, 1000).unwrap().len()
    }
}

#[test]
fn keys_lie_as_declared() {
    assert_eq!(key(5, 7).encode(), b"\x02cc\x04coll\0\0\0\0\0\0\0\x05\0\0\0\x07");
    assert_eq!(WritesKey::prefix(CC, COLL), b"\x02cc\x04coll");
    let of = |what| Expiry { at: 8, namespace: CC, collection: COLL, block: 5, place: 7, what };
    let expected = b"\0\0\0\0\0\0\0\x08\x01\x02cc\x04coll\0\0\0\0\0\0\0\x05\0\0\0\x07secret";
    assert_eq!(of(Ending::Value("secret")).encode(), expected);
    let expected = b"\0\0\0\0\0\0\0\x08\x00\x02cc\x04coll\0\0\0\0\0\0\0\x05\0\0\0\x07hash";
    assert_eq!(of(Ending::Hash(b"hash")).encode(), expected);
    let expected = b"\0\0\0\0\0\0\0\x08\x02\x02cc\x04coll\0\0\0\0\0\0\0\x05\0\0\0\x07";
    assert_eq!(of(Ending::Writes).encode(), expected);
    assert_eq!(encode_purge(Version::new(5, 7)), b"\0\0\0\0\0\0\0\x05\0\0\0\x07");
}

#[test]
fn what_is_no_key_is_refused() {
    let good = key(5, 7).encode();
    for length in 0..good.len() {
        assert!(WritesKey::decode(&good[..length]).is_err(), "{length}");
    }
    assert!(WritesKey::decode(&[good.as_slice(), b"x"].concat()).is_err());
    assert!(WritesKey::decode(b"\xff\xff\xff\xff\x0f").is_err());
    let what = Ending::Writes;
    let good = Expiry { at: 8, namespace: CC, collection: COLL, block: 5, place: 7, what }.encode();
    for length in 0..good.len() {
        assert!(Expiry::decode(&good[..length]).is_err(), "{length}");
    }
    let mut unknown = good;
    unknown[8] = 9;
    assert!(Expiry::decode(&unknown).is_err());
    assert!(decode_purge(b"short").is_err());
}

proptest! {
    #[test]
    fn keys_are_read_as_they_were_written(
        namespace in ".{0,40}", collection in ".{0,200}", key in ".{0,40}",
        block: u64, place: u32, at: u64, kind in 0..3,
    ) {
        let (namespace, collection) = (namespace.as_str(), collection.as_str());
        let writes = WritesKey { namespace, collection, block, place };
        let stored = writes.encode();
        prop_assert_eq!(WritesKey::decode(&stored).unwrap(), writes);
        let what = match kind {
            0 => Ending::Hash(key.as_bytes()),
            1 => Ending::Value(&key),
            _ => Ending::Writes,
        };
        let expiry = Expiry { at, namespace, collection, block, place, what };
        let stored = expiry.encode();
        prop_assert_eq!(Expiry::decode(&stored).unwrap(), expiry);
        let version = Version::new(block, place.into());
        prop_assert_eq!(decode_purge(&encode_purge(version)).unwrap(), version);
    }

    #[test]
    fn stored_bytes_of_any_kind_do_no_harm(bytes: Vec<u8>) {
        if let Ok(key) = WritesKey::decode(&bytes) {
            prop_assert_eq!(key.encode().len(), bytes.len());
        }
        let _ = Expiry::decode(&bytes);
    }

    #[test]
    fn keys_of_a_collection_lie_together_in_order(a: (u64, u32), b: (u64, u32)) {
        let (left, right) = (key(a.0, a.1).encode(), key(b.0, b.1).encode());
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert!(KeyRange::prefix(WritesKey::prefix(CC, COLL)).contains(&left));
        prop_assert!(!KeyRange::prefix(WritesKey::prefix(CC, "col")).contains(&left));
    }
}

#[test]
fn when_data_ends() {
    assert_eq!(ends_with(5, 0), None);
    assert_eq!(ends_with(5, 2), Some(8));
    assert_eq!(ends_with(u64::MAX, 1), None);
    assert_eq!(ends_with(1, u64::MAX), None);
    assert!(!has_ended(5, 2, 8) && has_ended(5, 2, 9) && !has_ended(5, 0, 1000));
}

#[test]
fn values_are_under_the_hash_that_they_are_of() {
    let store = Store::new(0);
    store.commit(1, &Block { writes: &[("a", Some("1")), ("b", Some("1"))], ..Block::default() });
    assert_eq!(store.value("a"), Some(("1".into(), 1)));
    assert_eq!(store.keys(1).unwrap(), ["a", "b"]);
    // What is missing leaves the older value, under its older version.
    let missing = Block { writes: &[("a", Some("2"))], is_missing: true, ..Block::default() };
    store.commit(2, &missing);
    assert_eq!((store.value("a"), store.hash_version("a")), (Some(("1".into(), 1)), Some(2)));
    assert_eq!((store.keys(2), store.count(MISSING_PRIVATE)), (None, 1));
    store.commit(3, &Block { writes: &[("b", None)], ..Block::default() });
    assert_eq!((store.value("b"), store.hash_version("b")), (None, None));

    store.find(2, set(&[("a", Some("2"))]));
    assert_eq!(store.value("a"), Some(("2".into(), 2)));
    assert_eq!((store.keys(2).unwrap().len(), store.count(MISSING_PRIVATE)), (1, 0));
    assert_eq!(store.count(EXPIRY), 0, "nothing ends that lives for ever");
}

#[test]
fn what_is_found_late_does_not_replace_what_is_newer() {
    let store = Store::new(0);
    let missing = Block {
        writes: &[("a", Some("1")), ("b", Some("1"))],
        is_missing: true,
        ..Block::default()
    };
    store.commit(1, &missing);
    store.commit(2, &Block { writes: &[("a", Some("2"))], ..Block::default() });
    store.commit(3, &Block { writes: &[("b", None)], ..Block::default() });
    store.find(1, set(&[("a", Some("1")), ("b", Some("1"))]));
    assert_eq!((store.value("a"), store.value("b")), (Some(("2".into(), 2)), None));
    assert_eq!(store.keys(1).unwrap(), ["a", "b"], "it is kept for others");
    // Writes that are not of the hash never become state.
    store.find(2, set(&[("a", Some("other"))]));
    assert_eq!(store.value("a"), Some(("2".into(), 2)));
}

#[test]
fn metadata_renews_a_value() {
    let store = Store::new(0);
    store.commit(1, &Block { writes: &[("a", Some("1"))], ..Block::default() });
    store.commit(2, &Block { renews: &["a"], ..Block::default() });
    assert_eq!((store.value("a"), store.hash_version("a")), (Some(("1".into(), 2)), Some(2)));
    // Where only the hash was renewed, what is found later renews the value.
    store.commit(3, &Block { renews: &["a"], is_missing: true, ..Block::default() });
    assert_eq!((store.value("a"), store.hash_version("a")), (Some(("1".into(), 2)), Some(3)));
    let renews = KvMetadataWrite { key: "a".into(), entries: Vec::new() };
    store.find(3, KvrwSet { metadata_writes: vec![renews], ..Default::default() });
    assert_eq!(store.value("a"), Some(("1".into(), 3)));
}

#[test]
fn a_purge_takes_the_key_from_everything() {
    let store = Store::new(0);
    let missing = Block {
        writes: &[("a", Some("0")), ("c", Some("0"))],
        is_missing: true,
        ..Block::default()
    };
    store.commit(1, &missing);
    store.commit(2, &Block { writes: &[("a", Some("1")), ("b", Some("1"))], ..Block::default() });
    store.commit(3, &Block { writes: &[("a", Some("2"))], ..Block::default() });
    store.commit(4, &Block { purges: &["a"], ..Block::default() });
    assert_eq!((store.value("a"), store.hash_version("a")), (None, None));
    assert_eq!(store.value("b"), Some(("1".into(), 2)));
    assert_eq!(store.keys(2).unwrap(), ["b"]);
    assert_eq!(store.keys(3).unwrap(), [""; 0]);
    assert_eq!(store.count(PURGED), 1);
    // What is found later does not bring it back, and a later write is not held back.
    store.find(1, set(&[("a", Some("0")), ("c", Some("0"))]));
    assert_eq!(store.keys(1).unwrap(), ["c"]);
    assert_eq!(store.value("c"), Some(("0".into(), 1)));
    store.commit(5, &Block { writes: &[("a", Some("3"))], ..Block::default() });
    assert_eq!(store.value("a"), Some(("3".into(), 5)));
    assert_eq!(store.keys(5).unwrap(), ["a"]);
}

#[test]
fn a_purge_whose_writes_are_missing_takes_the_value_by_its_hash() {
    let store = Store::new(0);
    store.commit(1, &Block { writes: &[("a", Some("1")), ("b", Some("1"))], ..Block::default() });
    store.commit(2, &Block { purges: &["a"], is_missing: true, ..Block::default() });
    assert_eq!((store.value("a"), store.value("b")), (None, Some(("1".into(), 1))));
    assert_eq!(store.keys(1).unwrap(), ["b"]);
}

#[test]
fn what_proves_writes() {
    let renews = KvMetadataWrite { key: "m".into(), entries: Vec::new() };
    let with = |mut set: KvrwSet| {
        set.metadata_writes.push(renews.clone());
        Bytes::from(set.encode_to_vec())
    };
    let whole = with(set(&[("a", Some("1")), ("b", Some("2")), ("c", None)]));
    let hashed = |key: &str, value: Option<&str>| KvWriteHash {
        key_hash: hash(key),
        is_delete: value.is_none(),
        value_hash: value.map(hash).unwrap_or_default(),
        is_purge: false,
    };
    let metadata = KvMetadataWriteHash { key_hash: hash("m"), entries: Vec::new() };
    let public = HashedRwSet {
        hashed_writes: vec![hashed("a", Some("1")), hashed("b", Some("2")), hashed("c", None)],
        metadata_writes: vec![metadata],
        ..Default::default()
    };
    let sum = Bytes::copy_from_slice(&weft_crypto::sha256(&whole));
    let strict = WritesProof::with_purged(sum.clone(), &public, BTreeSet::new());
    assert_eq!(strict, WritesProof::new(sum.clone()));
    let purged = WritesProof::with_purged(sum, &public, [hash("a")].into());
    let rest = with(set(&[("b", Some("2")), ("c", None)]));
    for (bytes, by_hash, by_rest) in [
        (whole.clone(), true, true),
        (rest, false, true),
        // Another value of a key that goes anyway.
        (with(set(&[("a", Some("9")), ("b", Some("2")), ("c", None)])), false, true),
        (with(set(&[("b", Some("2"))])), false, false),
        (with(set(&[("b", Some("3")), ("c", None)])), false, false),
        (with(set(&[("b", Some("2")), ("c", Some("4"))])), false, false),
        (with(set(&[("b", Some("2")), ("c", None), ("d", Some("4"))])), false, false),
        (set(&[("b", Some("2")), ("c", None)]).encode_to_vec().into(), false, false),
        (whole.slice(1..), false, false),
        (Bytes::new(), false, false),
    ] {
        assert_eq!(strict.accepts(&bytes), by_hash, "{bytes:?}");
        assert_eq!(strict.read(CC, COLL, bytes.clone()).is_ok(), by_hash, "{bytes:?}");
        assert_eq!(purged.accepts(&bytes), by_rest, "{bytes:?}");
    }
}

#[test]
fn data_ends_unless_it_was_written_again() {
    let store = Store::new(2);
    store.commit(
        1,
        &Block {
            writes: &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))],
            ..Block::default()
        },
    );
    let missing = Block { writes: &[("d", Some("1"))], is_missing: true, ..Block::default() };
    store.commit(2, &missing);
    store.commit(3, &Block { writes: &[("b", Some("2"))], ..Block::default() });
    assert_eq!(store.hash_version("a"), Some(1));
    // The block itself can write a key once more before it ends.
    store.commit(4, &Block { writes: &[("c", Some("2"))], ..Block::default() });
    assert_eq!((store.value("a"), store.hash_version("a")), (None, None));
    assert_eq!((store.value("b"), store.hash_version("b")), (Some(("2".into(), 3)), Some(3)));
    assert_eq!((store.value("c"), store.hash_version("c")), (Some(("2".into(), 4)), Some(4)));
    assert_eq!((store.keys(1), store.count(MISSING_PRIVATE)), (None, 1));
    store.commit(5, &Block::default());
    assert_eq!((store.hash_version("d"), store.count(MISSING_PRIVATE)), (None, 0));
    (6..=8).for_each(|number| store.commit(number, &Block::default()));
    assert_eq!((store.hash_version("b"), store.hash_version("c")), (None, None));
    assert_eq!(store.count(PRIVATE_STATE), 0);
    assert!(store.keys(3).is_none() && store.keys(4).is_none() && store.keys(6).is_some());
}

#[test]
fn what_is_found_late_ends_in_its_time() {
    let store = Store::new(2);
    let missing = Block { writes: &[("a", Some("1"))], is_missing: true, ..Block::default() };
    store.commit(1, &missing);
    store.commit(2, &Block::default());
    store.find(1, set(&[("a", Some("1"))]));
    assert_eq!(store.value("a"), Some(("1".into(), 1)));
    store.commit(3, &Block::default());
    assert!(store.value("a").is_some());
    store.commit(4, &Block::default());
    assert_eq!((store.value("a"), store.keys(1)), (None, None));
}

#[test]
fn a_renewed_value_lives_as_long_as_its_hash() {
    let store = Store::new(2);
    store.commit(1, &Block { writes: &[("a", Some("1"))], ..Block::default() });
    store.commit(3, &Block { renews: &["a"], is_missing: true, ..Block::default() });
    store.commit(4, &Block::default());
    assert_eq!((store.value("a"), store.hash_version("a")), (Some(("1".into(), 1)), Some(3)));
    store.commit(6, &Block::default());
    assert_eq!((store.value("a"), store.hash_version("a")), (None, None));
    let versions = |kind: fn(&Ending<'_>) -> bool| {
        let stored = store.kv.scan(EXPIRY, &KeyRange::all(), Direction::Forward, 100).unwrap();
        stored.iter().filter(|(key, _)| kind(&Expiry::decode(key).unwrap().what)).count()
    };
    assert_eq!(versions(|what| !matches!(what, Ending::Writes)), 0);
}

/// What happens in a block to each of a few keys.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    Write(u8),
    Delete,
    Renew,
    Purge,
}

const KEYS: [&str; 3] = ["a", "b", "c"];
const VALUES: [&str; 3] = ["1", "2", "3"];

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Nothing),
        4 => (0..3u8).prop_map(Change::Write),
        1 => Just(Change::Delete),
        2 => Just(Change::Renew),
        1 => Just(Change::Purge),
    ]
}

/// Commits a block; gives the private writes.
fn commit_changes(store: &Store, number: u64, changes: [Change; 3], is_missing: bool) -> KvrwSet {
    let (mut writes, mut renews, mut purges) = (Vec::new(), Vec::new(), Vec::new());
    for (name, change) in KEYS.into_iter().zip(changes) {
        match change {
            Change::Nothing => {}
            Change::Write(value) => writes.push((name, Some(VALUES[usize::from(value)]))),
            Change::Delete => writes.push((name, None)),
            Change::Renew if store.hash_version(name).is_some() => renews.push(name),
            Change::Renew => {}
            Change::Purge => purges.push(name),
        }
    }
    let block = Block { writes: &writes, renews: &renews, purges: &purges, is_missing };
    store.commit(number, &block);
    writes.extend(purges.iter().map(|name| (*name, None)));
    let renewed = |name: &&str| KvMetadataWrite { key: (*name).to_owned(), entries: Vec::new() };
    KvrwSet { metadata_writes: renews.iter().map(renewed).collect(), ..set(&writes) }
}

fn is_missing(store: &Store, block: u64) -> bool {
    store.kv.get(MISSING_PRIVATE, &key(block, 0).encode()).unwrap().is_some()
}

/// Values that a contract gets.
fn readable(store: &Store) -> Vec<Option<(String, u64)>> {
    let current = |name: &&str| store.value(name).filter(|v| Some(v.1) == store.hash_version(name));
    KEYS.iter().map(current).collect()
}

fn check_promises(store: &Store, height: u64) {
    for name in KEYS {
        let (value, version) = (store.value(name), store.hash_version(name));
        let found = store.state().get_hash(CC, COLL, &hash(name)).unwrap();
        if let (Some((value, of)), Some(version)) = (&value, version) {
            assert!(*of <= version, "{name}: no value is newer than its hash");
            let is_same = found.unwrap().value == hash(value);
            assert!(*of < version || is_same, "{name}: a value that is not of its hash");
        }
    }
    for block in 0..height {
        let (has, lacks) = (store.keys(block).is_some(), is_missing(store, block));
        let ended = has_ended(block, store.lives, height);
        assert_eq!(u8::from(has) + u8::from(lacks), u8::from(!ended), "block {block} of {height}");
    }
}

proptest! {
    /// Whatever is missing when, and found in whatever order: in the end a peer has what a peer
    /// has that was there all the time.
    #[test]
    fn who_finds_everything_late_ends_like_who_had_it(
        lives in 0..5u64,
        blocks in prop::collection::vec(([any_change(), any_change(), any_change()], any::<bool>(), any::<u16>()), 1..14),
    ) {
        let (always, late) = (Store::new(lives), Store::new(lives));
        let mut lost: Vec<(u64, KvrwSet)> = Vec::new();
        let find = |lost: &mut Vec<(u64, KvrwSet)>, which: usize| {
            let (block, writes) = lost.swap_remove(which % lost.len());
            if is_missing(&late, block) {
                late.find(block, writes);
            }
        };
        for (number, (changes, is_missing, which)) in (0..).zip(&blocks) {
            let writes = commit_changes(&always, number, *changes, false);
            let same = commit_changes(&late, number, *changes, *is_missing);
            assert_eq!(writes, same);
            if *is_missing {
                lost.push((number, writes));
            }
            if which % 3 == 0 && !lost.is_empty() {
                find(&mut lost, usize::from(*which));
            }
            check_promises(&always, number + 1);
            check_promises(&late, number + 1);
        }
        while !lost.is_empty() {
            find(&mut lost, 0);
        }
        let height = blocks.len() as u64;
        check_promises(&late, height);
        for (had, found) in readable(&always).into_iter().zip(readable(&late)) {
            // A value can outlive the writes that made it, where its metadata was written since;
            // who did not have it in time does not get it any more.
            prop_assert!(had == found || (lives > 0 && found.is_none()), "{:?} {:?}", had, found);
        }
        for block in 0..height {
            prop_assert_eq!(always.keys(block), late.keys(block), "block {}", block);
        }
        // When everything has ended, nothing is left anywhere.
        for store in [&always, &late].into_iter().filter(|_| lives > 0) {
            (height..=height + lives + 1).for_each(|number| store.commit(number, &Block { is_missing: true, ..Block::default() }));
            let values = KEYS.map(|name| (store.value(name), store.hash_version(name)));
            prop_assert_eq!(values, [const { (None, None) }; 3]);
        }
    }
}

/// What ends is a matter of each peer's store: the bytes that commit hashes cover know nothing of it.
#[test]
fn what_ends_is_not_part_of_the_commit_hash() {
    let run = |lives: u64| {
        let ledger = common::memory_ledger();
        let mut hashes = Vec::new();
        for number in 0..6u64 {
            let name = format!("k{number}");
            let value = Bytes::from_static(b"v");
            let results =
                common::simulate(&ledger, |tx| tx.put_private(CC, COLL, &name, value).unwrap());
            let sets = common::parsed(std::slice::from_ref(&results));
            let validated =
                weft_ledger::mvcc::validate(number, &common::inputs(&sets), &ledger.state())
                    .unwrap();
            let ending = ending_with(ledger.kv().as_ref(), number).unwrap();
            let keys = ending.iter().map(Vec::as_slice);
            let expired =
                expired_hashes(number, keys, &validated.updates, &ledger.state()).unwrap();
            let mut extra = Batch::new();
            expired.write_to(&mut extra);
            for key in expiry_of_hashes(&validated.updates, number, |_, _| lives) {
                extra.put(EXPIRY, key, Bytes::new());
            }
            let ids = common::tx_ids(number, 1);
            let data = vec![common::envelope(&ids[0], results)];
            let committed = ledger.commit(weft_ledger::CommitInput {
                block: common::next_block(&ledger, data),
                codes: weft_types::TxFilter::from_codes(&validated.codes),
                tx_ids: &ids,
                updates: &validated.updates,
                history: &validated.history,
                extra,
            });
            hashes.push(committed.unwrap().commit_hash);
        }
        let key_hash = hash("k1");
        (hashes, ledger.state().get_hash(CC, COLL, &key_hash).unwrap().is_some())
    };
    let ((for_ever, stays), (short, goes)) = (run(0), run(1));
    assert!(stays && !goes);
    assert_eq!(for_ever, short);
    assert_eq!(
        weft_crypto::sha256(&for_ever.concat()).map(|byte| format!("{byte:02x}")).concat(),
        "9fa63d46934b3bdf5cd05e5999fbb9e1d16b48f01d5a7269ba67c7aa3539ed03"
    );
}
