//! Read-write sets: the form that endorsers sign, and summaries of ranges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use weft_crypto::{sha256, sha256_parts};
use weft_ledger::Version;
use weft_ledger::rwset::{
    DegreeError, RangeReads, RangeResults, RwSetBuilder, RwSetError, TxRwSet, is_delete,
    is_hash_delete, private_writes,
};
use weft_ledger::state::metadata::{self, Metadata, VALIDATION_PARAMETER};
use weft_protos::kvrwset::{KvRead, KvWrite, KvWriteHash, QueryReads, RangeQueryInfo};

fn version(block: u64, tx: u64) -> Version {
    Version::new(block, tx)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Everything in sorted order, whatever the order of the calls; the last call of a key counts.
#[test]
fn sets_are_sorted() {
    let mut builder = RwSetBuilder::new();
    builder.write("ns2", "b", bytes("lost"));
    builder.write("ns2", "b", bytes("2"));
    builder.write("ns2", "a", Bytes::new());
    builder.read("ns1", "z", None);
    builder.read("ns1", "k", Some(version(3, 4)));
    builder.write_metadata(
        "ns1",
        "m",
        &Metadata::from([("y".into(), bytes("2")), ("x".into(), bytes("1"))]),
    );
    builder.write_private("ns1", "coll2", "secret", bytes("s"));
    builder.read_private("ns1", "coll1", "secret", Some(version(1, 0)));
    let built = builder.build();
    let set = TxRwSet::from_proto(built.public.clone()).unwrap();
    let names: Vec<&str> = set.namespaces.iter().map(|part| part.namespace.as_str()).collect();
    assert_eq!(names, ["ns1", "ns2"]);

    let ns1 = set.namespace("ns1").unwrap();
    let reads: Vec<_> = ns1.public.reads.iter().map(|r| (r.key.as_str(), r.version)).collect();
    assert_eq!(reads, [("k", Some(version(3, 4).to_proto())), ("z", None)]);
    let entries = &ns1.public.metadata_writes[0].entries;
    let entries: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.value.clone())).collect();
    assert_eq!(entries, [("x", bytes("1")), ("y", bytes("2"))]);
    let collections: Vec<&str> = ns1.collections.iter().map(|c| c.collection.as_str()).collect();
    assert_eq!(collections, ["coll1", "coll2"]);
    assert!(ns1.collections[0].private_hash.is_empty());
    let hashed = &ns1.collections[1].hashed.hashed_writes[0];
    assert_eq!(hashed.key_hash, sha256(b"secret")[..]);
    assert_eq!(hashed.value_hash, sha256(b"s")[..]);
    assert!(!hashed.is_delete && !hashed.is_purge);

    let ns2 = &set.namespace("ns2").unwrap().public.writes;
    let writes: Vec<_> =
        ns2.iter().map(|w| (w.key.as_str(), w.is_delete, w.value.clone())).collect();
    assert_eq!(writes, [("a", true, Bytes::new()), ("b", false, bytes("2"))]);

    let private = built.private.unwrap();
    let part = &private.ns_pvt_rwset[0].collection_pvt_rwset[0];
    assert_eq!((private.ns_pvt_rwset.len(), part.collection_name.as_str()), (1, "coll2"));
    assert_eq!(sha256(&part.rwset)[..], ns1.collections[1].private_hash);
}

/// The bytes themselves: fields by number, a version of zeros present, nothing for defaults.
#[test]
fn bytes_of_a_set() {
    let mut builder = RwSetBuilder::new();
    builder.read("cc", "k", Some(version(0, 0)));
    builder.write("cc", "k", bytes("v"));
    builder.write("cc", "x", Bytes::new());
    let bytes = builder.build().public.encode_to_vec();
    // ns_rwset { "cc", rwset { reads {"k", version {}}, writes {"k", value "v"},
    // writes {"x", is_delete} } }
    let set = "0a050a016b1200 1a060a016b1a0176 1a050a01781001".replace(' ', "");
    let expected = format!("121c0a02636312{:02x}{set}", set.len() / 2);
    assert_eq!(hex::encode(&bytes), expected);
    assert_eq!(RwSetBuilder::new().build().public.encode_to_vec(), b"");
}

#[test]
fn equal_ranges_are_recorded_once() {
    let info = |exhausted| RangeQueryInfo {
        start_key: "a".into(),
        end_key: "b".into(),
        itr_exhausted: exhausted,
        reads_info: None,
    };
    let mut builder = RwSetBuilder::new();
    for exhausted in [true, false, true] {
        builder.range("cc", info(exhausted));
    }
    let set = TxRwSet::from_proto(builder.build().public).unwrap();
    assert_eq!(set.namespaces[0].public.range_queries_info, [info(true), info(false)]);
}

#[test]
fn an_empty_value_deletes() {
    let write = |is_delete, value| KvWrite { key: "k".into(), is_delete, value };
    assert!(is_delete(&write(true, bytes("v"))));
    assert!(is_delete(&write(false, Bytes::new())));
    assert!(!is_delete(&write(false, bytes("v"))));
    let hash = |is_delete, hash: &[u8]| KvWriteHash {
        is_delete,
        value_hash: Bytes::copy_from_slice(hash),
        ..KvWriteHash::default()
    };
    assert!(is_hash_delete(&hash(true, b"h")));
    assert!(is_hash_delete(&hash(false, b"")));
    assert!(is_hash_delete(&hash(false, &sha256(b""))));
    assert!(!is_hash_delete(&hash(false, &sha256(b"v"))));
}

#[test]
fn broken_sets_are_refused() {
    let broken = TxRwSet::parse(bytes("\x12\x05")).unwrap_err();
    assert!(matches!(broken, RwSetError::Decode(_)));
    let mut public = RwSetBuilder::new().build().public;
    public.ns_rwset.push(Default::default());
    public.ns_rwset[0].namespace = "cc".into();
    public.ns_rwset[0].rwset = bytes("\x0a\x05");
    let broken = TxRwSet::from_proto(public).unwrap_err();
    assert!(matches!(broken, RwSetError::Namespace { namespace, .. } if namespace == "cc"));
}

#[test]
fn private_writes_must_have_the_hash_of_the_transaction() {
    let mut builder = RwSetBuilder::new();
    builder.write_private("cc", "coll", "k", bytes("v"));
    builder.purge_private("cc", "coll", "old");
    let built = builder.build();
    let set = TxRwSet::from_proto(built.public).unwrap();
    let private = built.private.unwrap();
    let part = &set.namespaces[0].collections[0];
    let bytes = private.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset.clone();
    let read = |bytes: Bytes| private_writes("cc", "coll", &part.private_hash, bytes);
    let writes = read(bytes.clone()).unwrap().writes;
    let found: Vec<_> =
        writes.iter().map(|w| (w.key.as_str(), &w.value[..], w.is_delete)).collect();
    assert_eq!(found, [("k", &b"v"[..], false), ("old", b"", true)]);
    assert!(part.hashed.hashed_writes.iter().any(|w| w.is_purge));

    let refused = read(bytes.slice(1..)).unwrap_err();
    assert!(matches!(refused, RwSetError::PrivateHash { collection, .. } if collection == "coll"));
}

#[test]
fn metadata_is_kept_by_name() {
    let mut metadata = Metadata::new();
    assert_eq!(metadata::validation_parameter(&Bytes::new()).unwrap(), None);
    metadata.insert(VALIDATION_PARAMETER.into(), bytes("policy"));
    metadata.insert("other".into(), bytes("x"));
    let stored = metadata::encode(&metadata::to_entries(&metadata));
    assert_eq!(metadata::parse(&stored).unwrap(), metadata);
    assert_eq!(metadata::validation_parameter(&stored).unwrap(), Some(bytes("policy")));
    assert!(metadata::parse(&bytes("\x12\x7f")).is_err());
}

fn reads(count: usize) -> Vec<KvRead> {
    let read = |n| KvRead { key: format!("k{n:05}"), version: Some(version(1, n).to_proto()) };
    (0..count as u64).map(read).collect()
}

fn collect(degree: u32, reads: &[KvRead]) -> RangeReads {
    let mut results = RangeResults::new(degree).unwrap();
    reads.iter().for_each(|read| results.add(read.clone()));
    results.finish()
}

fn leaf(reads: &[KvRead]) -> Bytes {
    let message = QueryReads { kv_reads: reads.to_vec() };
    Bytes::copy_from_slice(&sha256(&message.encode_to_vec()))
}

fn combine(hashes: &[Bytes]) -> Bytes {
    Bytes::copy_from_slice(&sha256_parts(hashes))
}

fn summary(reads: RangeReads) -> (u32, Vec<Bytes>) {
    match reads {
        RangeReads::Summary(summary) => (summary.max_level, summary.max_level_hashes),
        RangeReads::Raw(reads) => panic!("{} results in full", reads.len()),
    }
}

#[test]
fn few_results_stand_in_full() {
    for count in [0, 1, 49, 50] {
        assert_eq!(collect(50, &reads(count)), RangeReads::Raw(reads(count)));
    }
    assert_eq!(RangeResults::new(1).unwrap_err(), DegreeError { degree: 1 });
}

/// Degree 2: three results make a hash, three hashes the next.
#[test]
fn summaries_of_degree_two() {
    let r = reads(30);
    let leaves: Vec<Bytes> = r.chunks(3).map(leaf).collect();
    assert_eq!(summary(collect(2, &r[..3])), (1, leaves[..1].to_vec()));
    assert_eq!(summary(collect(2, &r[..4])), (1, vec![leaves[0].clone(), leaf(&r[3..4])]));
    assert_eq!(summary(collect(2, &r[..6])), (1, leaves[..2].to_vec()));
    // A seventh result makes a third hash, so all three become one of the second level.
    let third = leaf(&r[6..7]);
    let second = combine(&[leaves[0].clone(), leaves[1].clone(), third]);
    assert_eq!(summary(collect(2, &r[..7])), (2, vec![second]));
    // What is left below is lifted: alone as it is.
    let second = combine(&leaves[..3]);
    let expected = vec![second.clone(), leaf(&r[9..10])];
    assert_eq!(summary(collect(2, &r[..10])), (2, expected));
    // Two left below are combined.
    let expected = vec![second.clone(), combine(&[leaves[3].clone(), leaf(&r[12..13])])];
    assert_eq!(summary(collect(2, &r[..13])), (2, expected));
    // 27 results: a full third level of one hash.
    let seconds: Vec<Bytes> = leaves[..9].chunks(3).map(combine).collect();
    assert_eq!(summary(collect(2, &r[..27])), (3, vec![combine(&seconds)]));
    // 25: eight full leaves and one short one come to the same shape.
    let mut short: Vec<Bytes> = r[..25].chunks(3).map(leaf).collect();
    let last = combine(&short.split_off(6));
    let seconds: Vec<Bytes> = short.chunks(3).map(combine).chain([last]).collect();
    assert_eq!(summary(collect(2, &r[..25])), (3, vec![combine(&seconds)]));
}

proptest! {
    /// A summary is small, and another list of results has another summary.
    #[test]
    fn summaries_tell_lists_apart(degree in 2u32..6, count in 1usize..200, change in 0usize..200) {
        let original = reads(count);
        let mut changed = original.clone();
        let place = change % count;
        changed[place].version = Some(version(2, 0).to_proto());
        prop_assert_ne!(collect(degree, &original), collect(degree, &changed));
        changed.remove(place);
        prop_assert_ne!(collect(degree, &original), collect(degree, &changed));
        if let RangeReads::Summary(summary) = collect(degree, &original) {
            prop_assert!(summary.max_level_hashes.len() <= degree as usize);
            prop_assert_eq!(summary.max_degree, degree);
        } else {
            prop_assert!(count <= degree as usize);
        }
    }
}
