//! State in the store: keys that do not run into each other, ranges, overlays, commit bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Durability, Kv};
use weft_ledger::state::composite::{self, CompositeKeyError};
use weft_ledger::state::{KvState, OverlayState, StateReader};
use weft_ledger::updates::{PrivateUpdate, Update};
use weft_ledger::{UpdateBatch, Version};

fn update(value: Option<&str>, block: u64, tx: u64) -> Update {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Update { value, metadata: Bytes::new(), version: Version::new(block, tx) }
}

fn state(batches: &[&UpdateBatch]) -> KvState {
    let kv = MemoryKv::new();
    for updates in batches {
        let mut batch = Batch::new();
        updates.write_to(&mut batch);
        kv.write(batch, Durability::Buffered).unwrap();
    }
    KvState::new(kv.snapshot())
}

/// Namespaces, collections and keys that a careless encoding would mix up.
#[test]
fn names_do_not_run_into_each_other() {
    let names = ["", "a", "aa", "a\0", "ab", "b"];
    let mut updates = UpdateBatch::new();
    for namespace in names {
        for key in names {
            let value = format!("{namespace}|{key}");
            updates.put(namespace, key, update(Some(&value), 1, 0));
            for collection in names {
                let value = format!("{namespace}|{collection}|{key}");
                let key = Bytes::from(key);
                updates.put_hash(namespace, collection, key, update(Some(&value), 1, 0));
            }
        }
    }
    let state = state(&[&updates]);
    for namespace in names {
        let mut expected = names;
        expected.sort_unstable();
        let found = state.range(namespace, "", "", 100).unwrap();
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, expected, "{namespace:?}");
        for key in names {
            let found = state.get(namespace, key).unwrap().unwrap();
            assert_eq!(found.value, format!("{namespace}|{key}"));
            for collection in names {
                let found = state.get_hash(namespace, collection, key.as_bytes()).unwrap();
                assert_eq!(found.unwrap().value, format!("{namespace}|{collection}|{key}"));
            }
        }
    }
}

#[test]
fn values_keep_metadata_and_version() {
    let mut updates = UpdateBatch::new();
    let version = Version::new(u64::MAX, 300);
    for (key, value, metadata) in [("a", "v", ""), ("b", "v", "m"), ("c", "", "m"), ("d", "", "")] {
        let value = Some(Bytes::from_static(value.as_bytes()));
        let metadata = Bytes::from_static(metadata.as_bytes());
        updates.put("cc", key, Update { value, metadata, version });
    }
    let state = state(&[&updates]);
    for (key, update) in &updates.namespaces()["cc"].public {
        assert_eq!(state.get("cc", key).unwrap(), update.to_value());
        assert_eq!(state.version("cc", key).unwrap(), Some(version));
    }
    let many = state.get_many("cc", &["d", "x", "a"]).unwrap();
    assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn private_values_are_apart() {
    let kv = MemoryKv::new();
    let write = |key: &str, value: Option<&'static str>| {
        let (namespace, collection, key) = ("cc".into(), "coll".into(), key.to_owned());
        let (value, version) = (value.map(Bytes::from), Version::new(2, 1));
        let mut batch = Batch::new();
        PrivateUpdate { namespace, collection, key, value, version }.write_to(&mut batch);
        kv.write(batch, Durability::Buffered).unwrap();
    };
    for key in ["a", "b", "c"] {
        write(key, Some("secret"));
    }
    write("b", None);
    let state = KvState::new(kv.snapshot());
    let found = state.get_private("cc", "coll", "a").unwrap().unwrap();
    assert_eq!((found.value, found.version), ("secret".into(), Version::new(2, 1)));
    assert_eq!(state.get_private("cc", "coll", "b").unwrap(), None);
    assert_eq!(state.get("cc", "a").unwrap(), None);
    let range = state.private_range("cc", "coll", ("a", "c"), 10).unwrap();
    assert_eq!(range.len(), 1);
    assert_eq!(state.private_range("cc", "coll", ("", ""), 10).unwrap().len(), 2);
}

/// The bytes that commit hashes cover, by hand: the message of `update_batch_bytes`.
#[test]
fn bytes_for_the_commit_hash() {
    let mut updates = UpdateBatch::new();
    updates.put("", "config", update(Some("left out"), 1, 0));
    updates.put("ns1", "k2", update(None, 1, 256));
    updates.put("ns1", "k1", update(Some("v"), 1, 0));
    updates.put_hash("ns1", "coll", Bytes::from("h1"), update(Some("x"), 1, 1));
    updates.put_hash("ns1", "coll", Bytes::from("h2"), update(Some("y"), 1, 1));
    updates.put_hash("ns2", "coll", Bytes::from("h"), update(Some("z"), 1, 1));
    let text = |tag: u8, text: &str| [&[tag, text.len() as u8], text.as_bytes()].concat();
    let write = |parts: &[Vec<u8>]| {
        let body = parts.concat();
        [vec![0x0a, body.len() as u8], body].concat()
    };
    let version = |bytes: &[u8]| [&[0x32, bytes.len() as u8], bytes].concat();
    let expected = [
        write(&[text(0x0a, "ns1"), text(0x1a, "k1"), text(0x2a, "v"), version(&[1, 1, 0])]),
        write(&[text(0x1a, "k2"), vec![0x20, 1], version(&[1, 1, 2, 1, 0])]),
        write(&[text(0x12, "coll"), text(0x1a, "h1"), text(0x2a, "x"), version(&[1, 1, 1, 1])]),
        write(&[text(0x1a, "h2"), text(0x2a, "y"), version(&[1, 1, 1, 1])]),
        write(&[
            text(0x0a, "ns2"),
            text(0x12, "coll"),
            text(0x1a, "h"),
            text(0x2a, "z"),
            version(&[1, 1, 1, 1]),
        ]),
    ];
    assert_eq!(hex::encode(updates.commit_bytes()), hex::encode(expected.concat()));
    assert_eq!(UpdateBatch::new().commit_bytes(), b"");
}

#[test]
fn versions_are_ordered_and_short() {
    let bytes = |block, tx| {
        let mut bytes = Vec::new();
        Version::new(block, tx).append_ordered(&mut bytes);
        bytes
    };
    assert_eq!(bytes(0, 0), [0, 0]);
    assert_eq!(bytes(1, 255), [1, 1, 1, 255]);
    assert_eq!(bytes(256, 0), [2, 1, 0, 0]);
    assert_eq!(bytes(u64::MAX, 1).len(), 11);
    let versions = [(0, 0), (0, 1), (1, 0), (255, 70_000), (256, 0), (65_536, 0)];
    assert!(versions.is_sorted_by_key(|(block, tx)| bytes(*block, *tx)));
}

#[test]
fn composite_keys() {
    let key = composite::create("owner~id", &["alice", "", "ü"]).unwrap();
    assert_eq!(key, "\0owner~id\0alice\0\0ü\0");
    assert_eq!(composite::split(&key).unwrap(), ("owner~id", vec!["alice", "", "ü"]));
    let none: [&str; 0] = [];
    assert_eq!(composite::create("t", &none).unwrap(), "\0t\0");
    assert_eq!(composite::split("\0t\0").unwrap(), ("t", vec![]));
    for plain in ["", "plain", "\0open", "\0"] {
        assert_eq!(composite::split(plain), Err(CompositeKeyError::Form), "{plain:?}");
    }
    let reserved = composite::create("t", &["ok", "\u{10FFFF}"]).unwrap_err();
    assert_eq!(reserved, CompositeKeyError::Reserved { part: 2, code: 0x10FFFF });
    assert!(composite::create("a\0", &none).is_err());
    let (start, end) = composite::range("owner~id", &["alice"]).unwrap();
    let inside = composite::create("owner~id", &["alice", "\u{10FFFE}"]).unwrap();
    assert!(start < key && key < end && inside < end);
    let outside = composite::create("owner~id", &["alicf"]).unwrap();
    assert!(end < outside);
    assert!(composite::check_plain("a").is_ok() && composite::check_plain("\0a").is_err());
}

proptest! {
    /// An overlay reads as if its layers were stored: point by point, in ranges, in pages.
    #[test]
    fn overlays_read_as_stored(
        layers in prop::collection::vec(
            prop::collection::vec((0u8..12, prop::option::of(0u8..3)), 0..12), 1..5),
        start in 0u8..13, end in 0u8..13, limit in 0usize..15,
    ) {
        let key = |n: u8| format!("k{n:02}");
        let batches: Vec<UpdateBatch> = layers.iter().enumerate().map(|(block, writes)| {
            let mut updates = UpdateBatch::new();
            for (n, value) in writes {
                let value = value.map(|value| value.to_string());
                updates.put("cc", &key(*n), update(value.as_deref(), block as u64, 0));
            }
            updates
        }).collect();
        let all: Vec<&UpdateBatch> = batches.iter().collect();
        let stored = state(&all);
        let below = Arc::new(state(&all[..1]));
        let overlay = OverlayState::new(below, batches[1..].iter().cloned().map(Arc::new));
        let (start, end) = (key(start), if end == 12 { String::new() } else { key(end) });
        prop_assert_eq!(
            overlay.range("cc", &start, &end, limit).unwrap(),
            stored.range("cc", &start, &end, limit).unwrap()
        );
        let keys: Vec<String> = (0..12).map(key).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        prop_assert_eq!(overlay.get_many("cc", &keys).unwrap(), stored.get_many("cc", &keys).unwrap());
        for key in keys {
            prop_assert_eq!(overlay.get("cc", key).unwrap(), stored.get("cc", key).unwrap());
        }
    }

    /// Splitting undoes creating, and keys sort as their parts do.
    #[test]
    fn composite_keys_round_trip(parts in prop::collection::vec("[a-zß\u{1}]{0,4}", 1..4)) {
        let key = composite::create(&parts[0], &parts[1..]).unwrap();
        let (object_type, attributes) = composite::split(&key).unwrap();
        prop_assert_eq!(object_type, &parts[0]);
        prop_assert_eq!(attributes, parts[1..].iter().map(String::as_str).collect::<Vec<_>>());
        let (start, end) = composite::range(&parts[0], &parts[1..]).unwrap();
        prop_assert!(start <= key && key < end);
    }

    /// The same updates give the same bytes, in whatever order they came.
    #[test]
    fn commit_bytes_are_of_the_content(writes in prop::collection::btree_map("[a-c]{1,2}", 0u8..9, 0..8)) {
        let build = |writes: Vec<(&String, &u8)>| {
            let mut updates = UpdateBatch::new();
            for (key, value) in writes {
                updates.put("cc", key, update(Some(&value.to_string()), 1, 0));
            }
            updates
        };
        let forward = build(writes.iter().collect());
        let backward = build(writes.iter().rev().collect());
        prop_assert_eq!(forward.commit_bytes(), backward.commit_bytes());
        let mut other: BTreeMap<String, u8> = writes.clone();
        other.insert("d".into(), 1);
        prop_assert_ne!(build(other.iter().collect()).commit_bytes(), forward.commit_bytes());
    }
}
