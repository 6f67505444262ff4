//! The runtime's state over a real ledger.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Durability};
use weft_ledger::rwset::TxRwSet;
use weft_ledger::updates::{PrivateUpdate, Update};
use weft_ledger::{Ledger, UpdateBatch, Version};
use weft_peer::chaincode::{LedgerState, PrivateAccess, QueryResult, StateAccess, StateError};
use weft_protos::kvrwset::KvrwSet;
use weft_types::ChannelId;

fn ledger() -> Arc<Ledger> {
    let channel = ChannelId::new("supply").unwrap();
    Arc::new(Ledger::open(Arc::new(MemoryKv::default()), channel).unwrap())
}

#[test]
fn reads_and_writes_are_recorded() {
    let mut state = LedgerState::new(ledger(), "tx", true);
    assert_eq!(state.get_state("cc", "a").unwrap(), None);
    state.put_state("cc", "b", Bytes::from_static(b"1")).unwrap();
    state.put_metadata("cc", "b", [("m".to_owned(), Bytes::from_static(b"2"))].into()).unwrap();
    state.delete_state("cc", "c").unwrap();
    let range = state.open_range("cc", "", "").unwrap();
    assert_eq!(state.next(range).unwrap(), None::<QueryResult>);
    state.close(range);
    state.close(range);
    assert!(matches!(state.next(range), Err(StateError::Refused(_))));
    let history = state.open_history("cc", "a").unwrap();
    assert_eq!(state.next(history).unwrap(), None);
    let results = state.finish();
    assert_eq!(results.public.ns_rwset.len(), 1);
    assert!(!results.public_bytes.is_empty());
}

#[test]
fn pages_exclude_writes() {
    let mut state = LedgerState::new(ledger(), "tx", true);
    let page = state.open_page("cc", "", "", 10).unwrap();
    assert_eq!(state.next(page).unwrap(), None);
    assert_eq!(state.bookmark(page).unwrap(), "");
    let refused = state.put_state("cc", "a", Bytes::from_static(b"1")).unwrap_err();
    assert!(matches!(refused, StateError::Refused(_)), "{refused}");
}

#[test]
fn history_can_be_off() {
    let mut state = LedgerState::new(ledger(), "tx", false);
    let error = state.open_history("cc", "a").unwrap_err();
    assert_eq!(error.to_string(), "history database is not enabled");
}

/// A private key in the state: the version of its hash and that of this peer's value, each where
/// there is one.
type Stored = (&'static str, Option<u64>, Option<u64>);

/// State as blocks have left it, in collection `c` of `cc`.
fn with_private(keys: impl IntoIterator<Item = Stored>) -> Arc<Ledger> {
    let ledger = ledger();
    let mut batch = Batch::new();
    let mut updates = UpdateBatch::new();
    for (key, hash, value) in keys {
        if let Some(block) = hash {
            let update = Update {
                value: Some(sha256(format!("{key}{block}").as_bytes())),
                metadata: Bytes::new(),
                version: Version::new(block, 0),
            };
            updates.put_hash("cc", "c", sha256(key.as_bytes()), update);
        }
        if let Some(block) = value {
            let update = PrivateUpdate {
                namespace: "cc".to_owned(),
                collection: "c".to_owned(),
                key: key.to_owned(),
                value: Some(format!("{key}{block}").into()),
                version: Version::new(block, 0),
            };
            update.write_to(&mut batch);
        }
    }
    updates.write_to(&mut batch);
    ledger.kv().write(batch, Durability::Buffered).unwrap();
    ledger
}

fn sha256(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&weft_crypto::sha256(bytes))
}

/// Keys of a range, to its end or its error.
fn listed(state: &mut LedgerState, start: &str, end: &str) -> (Vec<String>, Option<String>) {
    let range = state.open_private_range("cc", "c", start, end).unwrap();
    let mut keys = Vec::new();
    loop {
        match state.next(range) {
            Ok(Some(QueryResult::State(kv))) => {
                assert!(kv.value.starts_with(kv.key.as_bytes()));
                keys.push(kv.key);
            }
            Ok(None) => return (keys, None),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (keys, Some(error.to_string())),
        }
    }
}

const NOT_AVAILABLE: &str = "private data matching public hash version is not available. ";

#[test]
fn private_values_belong_to_the_public_hash() {
    let ledger = with_private([
        ("both", Some(5), Some(5)),
        ("stale", Some(7), Some(5)),
        ("elsewhere", Some(7), None),
        ("gone", None, Some(5)),
    ]);
    let mut state = LedgerState::new(ledger, "tx", true);
    assert_eq!(state.get_private("cc", "c", "both").unwrap().unwrap(), "both5");
    assert_eq!(state.get_private("cc", "c", "never").unwrap(), None);
    assert_eq!(state.get_private_hash("cc", "c", "both").unwrap().unwrap(), sha256(b"both5"));
    assert_eq!(
        state.get_private_hash("cc", "c", "elsewhere").unwrap().unwrap(),
        sha256(b"elsewhere7")
    );
    let five = "{BlockNum: 5, TxNum: 0}";
    let seven = "{BlockNum: 7, TxNum: 0}";
    for (key, hash, value) in
        [("stale", seven, five), ("elsewhere", seven, "<nil>"), ("gone", "<nil>", five)]
    {
        let error = state.get_private("cc", "c", key).unwrap_err();
        assert!(matches!(error, StateError::Refused(_)));
        assert_eq!(
            error.to_string(),
            format!("{NOT_AVAILABLE}Public hash version = {hash}, Private data version = {value}")
        );
    }
    let results = state.finish();
    assert_eq!(results.private_reads, [("cc".to_owned(), "c".to_owned())].into());
    assert!(results.private.is_none());
}

#[test]
fn ranges_give_nothing_that_was_replaced() {
    let mut state = LedgerState::new(
        with_private([
            ("a", Some(5), Some(5)),
            ("b", None, Some(5)),
            ("c", Some(6), Some(6)),
            ("d", Some(7), Some(5)),
            ("e", Some(5), Some(5)),
        ]),
        "tx",
        true,
    );
    assert_eq!(listed(&mut state, "", "d"), (vec!["a".to_owned(), "c".to_owned()], None));
    assert_eq!(listed(&mut state, "e", ""), (vec!["e".to_owned()], None));
    assert_eq!(listed(&mut state, "b", "c"), (vec![], None));
    let (keys, error) = listed(&mut state, "", "");
    assert_eq!(keys, ["a", "c"]);
    assert!(error.unwrap().starts_with(NOT_AVAILABLE));
    // A range is not recorded.
    let results = state.finish();
    assert!(results.public.ns_rwset.is_empty() && results.private_reads.is_empty());
}

#[test]
fn long_ranges_are_read_in_parts() {
    let keys: Vec<&'static str> =
        (0..350).map(|n| &*Box::leak(format!("k{n:03}").into_boxed_str())).collect();
    let ledger = with_private(keys.iter().map(|&key| (key, Some(5), Some(5))));
    let mut state = LedgerState::new(ledger, "tx", true);
    for (start, end, expect) in [
        ("", "", &keys[..]),
        ("k100", "k300", &keys[100..300]),
        ("k100", "k200", &keys[100..200]),
        ("k200", "k200", &[][..]),
    ] {
        assert_eq!(
            listed(&mut state, start, end),
            (expect.iter().map(|key| (*key).to_owned()).collect(), None)
        );
    }
}

#[test]
fn ranges_of_private_keys_exclude_writes() {
    let value = || Bytes::from_static(b"1");
    let unsupported = "txid [tx]: unsuppored transaction. ";
    let mut state = LedgerState::new(ledger(), "tx", true);
    let range = state.open_private_range("cc", "c", "", "").unwrap();
    state.close(range);
    assert!(state.next(range).is_err());
    let expect = format!(
        "{unsupported}Transaction has already performed queries on pvt data. Writes are not allowed"
    );
    let writes = [
        state.put_state("cc", "a", value()),
        state.put_private("cc", "c", "a", value()),
        state.delete_private("cc", "c", "a"),
        state.purge_private("cc", "c", "a"),
        state.put_private_metadata("cc", "c", "a", [("m".to_owned(), value())].into()),
    ];
    for error in writes {
        assert_eq!(error.unwrap_err().to_string(), expect);
    }

    let mut state = LedgerState::new(ledger(), "tx", true);
    state.put_private("cc", "c", "a", value()).unwrap();
    assert_eq!(
        state.open_private_range("cc", "c", "", "").unwrap_err().to_string(),
        format!("{unsupported}Queries on pvt data is supported only in a read-only transaction")
    );
    assert_eq!(
        state.open_page("cc", "", "", 1).unwrap_err().to_string(),
        format!("{unsupported}Paginated queries are supported only in a read-only transaction")
    );
    // A refused query leaves the transaction as it was.
    state.put_private("cc", "c", "b", value()).unwrap();

    let mut state = LedgerState::new(ledger(), "tx", true);
    state.open_page("cc", "", "", 1).unwrap();
    assert_eq!(
        state.put_state("cc", "a", value()).unwrap_err().to_string(),
        format!(
            "{unsupported}Transaction has already performed a paginated query. Writes are not allowed"
        )
    );
}

#[test]
fn private_writes_are_collected() {
    let mut state = LedgerState::new(with_private([("a", Some(5), Some(5))]), "tx", true);
    state.put_private("cc", "c", "b", Bytes::from_static(b"1")).unwrap();
    state.purge_private("cc", "c", "a").unwrap();
    let entry = ("VALIDATION_PARAMETER".to_owned(), Bytes::from_static(b"p"));
    state.put_private_metadata("cc", "c", "b", [entry].into()).unwrap();
    assert!(state.get_private_metadata("cc", "c", "b").unwrap().is_empty());
    let results = state.finish();
    let private = results.private.unwrap();
    let [namespace] = &private.ns_pvt_rwset[..] else { panic!("{private:?}") };
    let [collection] = &namespace.collection_pvt_rwset[..] else { panic!("{namespace:?}") };
    let writes = KvrwSet::decode(collection.rwset.clone()).unwrap();
    let written: Vec<_> = writes.writes.iter().map(|w| (w.key.as_str(), w.is_delete)).collect();
    assert_eq!(written, [("a", true), ("b", false)]);
    let public = TxRwSet::from_proto(results.public).unwrap();
    let hashed = &public.namespace("cc").unwrap().collections[0];
    assert_eq!(hashed.private_hash, sha256(&collection.rwset));
    let purged: Vec<_> = hashed.hashed.hashed_writes.iter().map(|w| w.is_purge).collect();
    assert_eq!(purged.iter().filter(|purged| **purged).count(), 1);
}
