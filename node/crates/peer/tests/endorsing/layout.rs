//! Keys and bytes of definitions, against values made by hand from the wire format.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use weft_ledger::rwset::TxRwSet;
use weft_peer::lifecycle::layout::{Field, Record};
use weft_peer::lifecycle::state::{AccessError, ReadHashes, ReadState, WriteState};
use weft_peer::lifecycle::{Definition, Parameters};
use weft_protos::peer::{ChaincodeAction, ProposalResponsePayload};

use crate::world::{Draft, World};

/// State in a map.
#[derive(Default)]
struct Map {
    values: BTreeMap<String, Bytes>,
    written: Vec<String>,
}

impl ReadState for Map {
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        Ok(self.values.get(key).cloned())
    }
}

impl ReadHashes for Map {
    fn read_hash(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        let value = self.values.get(key);
        Ok(value.map(|value| Bytes::copy_from_slice(&weft_crypto::sha256(value))))
    }
}

impl WriteState for Map {
    fn write(&mut self, key: &str, value: Bytes) -> Result<(), AccessError> {
        self.written.push(key.to_owned());
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<(), AccessError> {
        self.written.push(format!("-{key}"));
        self.values.remove(key);
        Ok(())
    }
}

type Change = fn(&mut Parameters);

fn parameters() -> Parameters {
    Parameters {
        version: "1.0".to_owned(),
        init_required: true,
        endorsement_plugin: "escc".to_owned(),
        validation_plugin: "vscc".to_owned(),
        validation_parameter: Bytes::from_static(b"policy"),
        ..Parameters::default()
    }
}

#[test]
fn a_definition_is_stored_as_fabric_stores_it() {
    let mut state = Map::default();
    let definition = Definition { name: "asset".to_owned(), sequence: 5, parameters: parameters() };
    definition.record().write(&mut state, "namespaces", "asset").unwrap();
    let expected: [(&str, &[u8]); 5] = [
        // A field of bytes with no bytes.
        ("namespaces/fields/asset/Collections", b"\x12\x00"),
        (
            "namespaces/fields/asset/EndorsementInfo",
            b"\x12\x0d\x0a\x031.0\x10\x01\x1a\x04escc",
        ),
        ("namespaces/fields/asset/Sequence", b"\x08\x05"),
        (
            "namespaces/fields/asset/ValidationInfo",
            b"\x12\x0e\x0a\x04vscc\x12\x06policy",
        ),
        (
            "namespaces/metadata/asset",
            b"\x0a\x13ChaincodeDefinition\x12\x08Sequence\x12\x0fEndorsementInfo\x12\x0eValidationInfo\x12\x0bCollections",
        ),
    ];
    let stored: Vec<(&str, &[u8])> =
        state.values.iter().map(|(key, value)| (key.as_str(), value.as_ref())).collect();
    assert_eq!(stored, expected);
    assert_eq!(Definition::read(&mut state, "asset").unwrap(), Some(definition));
    assert_eq!(Definition::read(&mut state, "other").unwrap(), None);
}

#[test]
fn only_what_changes_is_written() {
    let mut state = Map::default();
    let mut definition =
        Definition { name: "asset".to_owned(), sequence: 1, parameters: parameters() };
    definition.record().write(&mut state, "namespaces", "asset").unwrap();
    state.written.clear();
    definition.sequence = 2;
    definition.record().write(&mut state, "namespaces", "asset").unwrap();
    assert_eq!(state.written, ["namespaces/fields/asset/Sequence"]);
    state.written.clear();
    // A structure of another shape takes the place of this one.
    let other = Record { datatype: "Other", fields: vec![("Sequence", Field::Number(2))] };
    other.write(&mut state, "namespaces", "asset").unwrap();
    assert_eq!(
        state.written,
        [
            "namespaces/metadata/asset",
            "-namespaces/fields/asset/EndorsementInfo",
            "-namespaces/fields/asset/ValidationInfo",
            "-namespaces/fields/asset/Collections",
        ]
    );
    let refused = Definition::read(&mut state, "asset").unwrap_err();
    assert_eq!(refused.to_string(), "type name mismatch 'ChaincodeDefinition' != 'Other'");
}

#[test]
fn hashes_tell_in_what_an_approval_differs() {
    let mut state = Map::default();
    let approved = parameters();
    let none = approved.record().mismatches(&mut state, "namespaces", "asset#1").unwrap();
    assert_eq!(none, ["ChaincodeParameters"]);
    approved.record().write_over_hashes(&mut state, "namespaces", "asset#1").unwrap();
    let changes: [(&[&str], Change); 5] = [
        (&[], |_| ()),
        (&["EndorsementInfo"], |p| p.version = "2.0".to_owned()),
        (&["EndorsementInfo"], |p| p.init_required = false),
        (&["ValidationInfo"], |p| p.validation_parameter = Bytes::from_static(b"other")),
        (&["EndorsementInfo", "ValidationInfo", "Collections"], |p| {
            *p = Parameters { collections: collections(), ..Parameters::default() };
        }),
    ];
    for (expected, change) in changes {
        let mut other = parameters();
        change(&mut other);
        let found = other.record().mismatches(&mut state, "namespaces", "asset#1").unwrap();
        assert_eq!(found, expected);
    }
    state.written.clear();
    let mut next = parameters();
    next.version = "2.0".to_owned();
    next.record().write_over_hashes(&mut state, "namespaces", "asset#1").unwrap();
    assert_eq!(state.written, ["namespaces/fields/asset#1/EndorsementInfo"]);
}

fn collections() -> weft_protos::peer::CollectionConfigPackage {
    weft_protos::peer::CollectionConfigPackage { config: vec![Default::default()] }
}

/// What an approval and a commit read and write is part of what endorsers sign, so it must be the
/// same at Fabric's peers.
#[tokio::test(flavor = "multi_thread")]
async fn the_read_write_sets_are_those_of_fabric() {
    let world = World::new().await;
    let peer = world.peer(1).await;
    let response = peer.send(&Draft::new("asset").approve(world.admin(1), "label:ab")).await;
    let set = rwset(response);
    let read: Vec<&str> = reads(&set, "_lifecycle");
    assert_eq!(read, ["namespaces/fields/asset/Sequence", "namespaces/metadata/asset"]);
    assert_eq!(reads(&set, "lscc"), ["asset"]);
    let part = set.namespace("_lifecycle").unwrap();
    assert!(part.public.writes.is_empty());
    let [collection] = part.collections.as_slice() else { panic!("{part:?}") };
    assert_eq!(collection.collection, "_implicit_org_Org1MSP");
    let hash = |key: &str| Bytes::copy_from_slice(&weft_crypto::sha256(key.as_bytes()));
    let mut written: Vec<Bytes> =
        collection.hashed.hashed_writes.iter().map(|write| write.key_hash.clone()).collect();
    let mut expected = [
        "namespaces/metadata/asset#1",
        "namespaces/fields/asset#1/EndorsementInfo",
        "namespaces/fields/asset#1/ValidationInfo",
        "namespaces/fields/asset#1/Collections",
        "chaincode-sources/metadata/asset#1",
        "chaincode-sources/fields/asset#1/PackageID",
    ]
    .map(hash);
    written.sort();
    expected.sort();
    assert_eq!(written, expected);
    let package = collection
        .hashed
        .hashed_writes
        .iter()
        .find(|write| write.key_hash == hash("chaincode-sources/fields/asset#1/PackageID"));
    assert_eq!(package.unwrap().value_hash, hash("\u{1a}\u{8}label:ab"));
    let read = collection.hashed.hashed_reads.len();
    assert_eq!(read, 2, "the types of both structures");
}

fn reads<'a>(set: &'a TxRwSet, namespace: &str) -> Vec<&'a str> {
    let part = set.namespace(namespace).unwrap();
    part.public.reads.iter().map(|read| read.key.as_str()).collect()
}

pub fn rwset(response: weft_protos::peer::ProposalResponse) -> TxRwSet {
    assert!(response.endorsement.is_some(), "{:?}", response.response);
    let payload = ProposalResponsePayload::decode(response.payload).unwrap();
    let action = ChaincodeAction::decode(payload.extension).unwrap();
    TxRwSet::parse(action.results).unwrap()
}
