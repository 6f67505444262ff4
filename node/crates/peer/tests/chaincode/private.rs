//! Private data: what contracts ask for, and what they may not.

use bytes::Bytes;
use prost::Message;
use weft_peer::chaincode::CollectionAccess;
use weft_protos::peer;

use crate::contract::contract;
use crate::state::{MemoryState, PrivateWrite, private_name};
use crate::support::{Peer, call, config};

/// All may be done, and this peer has the values.
const OPEN: CollectionAccess = CollectionAccess { may_read: true, may_write: true, held: true };

fn allow(peer: &mut Peer, chaincode: &str, collection: &str, access: CollectionAccess) {
    peer.host.collections.insert((chaincode.to_owned(), collection.to_owned()), access);
}

/// A peer with the contracts `cc` and `other`, each with a collection `secrets` for everybody.
async fn peer() -> Peer {
    let mut peer = Peer::new(config());
    for name in ["cc", "other"] {
        peer.serve(name, contract()).await;
        allow(&mut peer, name, "secrets", OPEN);
    }
    peer
}

fn with(values: &[(&str, &str, &str, &str)]) -> MemoryState {
    let state = MemoryState::default();
    for (namespace, collection, key, value) in values {
        let value = Bytes::copy_from_slice(value.as_bytes());
        state.committed.lock().private.insert(private_name(namespace, collection, key), value);
    }
    state
}

/// Text of a refusal of the request `kind`.
fn refused(kind: &str, why: &str) -> String {
    format!("500 {kind} failed: transaction ID: tx: {why}")
}

#[tokio::test]
async fn values_are_read_from_their_collection() {
    let mut peer = peer().await;
    allow(&mut peer, "cc", "more", OPEN);
    let mut state = with(&[
        ("cc", "secrets", "a", "1"),
        ("cc", "secrets", "b", "2"),
        ("cc", "more", "a", "3"),
        ("other", "secrets", "a", "4"),
    ]);
    assert_eq!(peer.ask(&mut state, &["GetPrivate", "secrets", "a"]).await.unwrap(), "1");
    assert_eq!(peer.ask(&mut state, &["GetPrivate", "more", "a"]).await.unwrap(), "3");
    assert_eq!(peer.ask(&mut state, &["GetPrivate", "more", "b"]).await.unwrap(), "none");
    assert_eq!(peer.ask(&mut state, &["Get", "a"]).await.unwrap(), "none");
    let many = peer.ask(&mut state, &["GetPrivates", "secrets", r#"["b","x","a"]"#]).await;
    assert_eq!(many.unwrap(), r#"["2",null,"1"]"#);
    let called = peer.ask(&mut state, &["CallOn", "", "other", r#"["GetPrivate","secrets","a"]"#]);
    assert_eq!(called.await.unwrap(), "200 4", "a called contract has collections of its own");
}

#[tokio::test]
async fn hashes_are_those_of_the_values() {
    let mut peer = peer().await;
    let mut state = with(&[("cc", "secrets", "a", "1")]);
    // Whoever may not read may still see what is on the ledger.
    let none = CollectionAccess { may_read: false, may_write: false, held: false };
    allow(&mut peer, "cc", "secrets", none);
    let outcome = peer.invoke(&mut state, call("tx", &["HashPrivate", "secrets", "a"])).await;
    assert_eq!(outcome.unwrap().response.payload, weft_crypto::sha256(b"1").as_slice());
    let missing = peer.ask(&mut state, &["HashPrivate", "secrets", "b"]).await;
    assert_eq!(missing.unwrap(), "");
}

#[tokio::test]
async fn writes_go_to_their_collection() {
    let peer = peer().await;
    let mut state = with(&[("cc", "secrets", "a", "1")]);
    for call in [
        vec!["PutPrivate", "secrets", "b", "2"],
        vec!["DeletePrivate", "secrets", "a"],
        vec!["PurgePrivate", "secrets", "a"],
        vec!["CallOn", "", "other", r#"["PutPrivate","secrets","a","3"]"#],
    ] {
        peer.ask(&mut state, &call).await.unwrap();
    }
    let put = |value: &'static str| PrivateWrite::Put(Bytes::from_static(value.as_bytes()));
    let expect = [
        (private_name("cc", "secrets", "b"), put("2")),
        (private_name("cc", "secrets", "a"), PrivateWrite::Delete),
        (private_name("cc", "secrets", "a"), PrivateWrite::Purge),
        (private_name("other", "secrets", "a"), put("3")),
    ];
    assert_eq!(state.private_writes, expect);
    assert!(state.writes.is_empty());
}

#[tokio::test]
async fn policies_of_private_keys() {
    let peer = peer().await;
    let mut state = with(&[("cc", "secrets", "a", "1")]);
    assert_eq!(peer.ask(&mut state, &["PrivatePolicy", "secrets", "a"]).await.unwrap(), "");
    peer.ask(&mut state, &["LockPrivate", "secrets", "a", "Org1MSP"]).await.unwrap();
    let [(name, PrivateWrite::Metadata(entries))] = &state.private_writes[..] else {
        panic!("{:?}", state.private_writes)
    };
    let written = entries["VALIDATION_PARAMETER"].clone();
    assert!(String::from_utf8_lossy(&written).contains("Org1MSP"));
    state.committed.lock().private_metadata.insert(name.clone(), entries.clone());
    let call = call("tx", &["PrivatePolicy", "secrets", "a"]);
    let outcome = peer.invoke(&mut state, call).await.unwrap();
    assert_eq!(outcome.response.payload, written);
    assert!(state.metadata_writes.is_empty());
}

#[tokio::test]
async fn ranges_come_in_portions() {
    let mut config = config();
    config.query_page_size = 10;
    let mut peer = Peer::new(config);
    peer.serve("cc", contract()).await;
    allow(&mut peer, "cc", "secrets", OPEN);
    let mut state = MemoryState::default();
    let keys: Vec<String> = (0..35).map(|n| format!("k{n:02}")).collect();
    for key in &keys {
        let name = private_name("cc", "secrets", key);
        state.committed.lock().private.insert(name, Bytes::from_static(b"v"));
    }
    let listed = peer.ask(&mut state, &["ListPrivate", "secrets", "", ""]).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(&listed).unwrap(), keys);
    let some = peer.ask(&mut state, &["ListPrivate", "secrets", "k05", "k07"]).await.unwrap();
    assert_eq!(some, r#"["k05","k06"]"#);
    assert_eq!(state.open_queries(), 0);
}

#[tokio::test]
async fn collections_that_are_not_defined() {
    let peer = peer().await;
    let mut state = MemoryState::default();
    let unknown = "collection supply/cc/nothing could not be found";
    let cases: [(&[&str], &str); 7] = [
        (&["GetPrivate", "nothing", "a"], "GET_STATE"),
        (&["GetPrivates", "nothing", r#"["a"]"#], "GET_STATE_MULTIPLE"),
        (&["HashPrivate", "nothing", "a"], "GET_PRIVATE_DATA_HASH"),
        (&["ListPrivate", "nothing", "", ""], "GET_STATE_BY_RANGE"),
        (&["PrivatePolicy", "nothing", "a"], "GET_STATE_METADATA"),
        (&["PutPrivate", "nothing", "a", "1"], "WRITE_BATCH_STATE"),
        (&["PurgePrivate", "nothing", "a"], "WRITE_BATCH_STATE"),
    ];
    for (args, kind) in cases {
        let error = peer.ask(&mut state, args).await.unwrap_err();
        assert_eq!(error, refused(kind, unknown), "{args:?}");
    }
    let broken = peer.ask(&mut state, &["GetPrivate", "broken", "a"]).await.unwrap_err();
    assert_eq!(broken, refused("GET_STATE", "the definition cannot be read"));
    // What an error repeats is bounded.
    let long = "x".repeat(10_000);
    let error = peer.ask(&mut state, &["GetPrivate", &long, "a"]).await.unwrap_err();
    assert!(error.len() < 300, "{}", error.len());
    assert!(state.private_writes.is_empty());
}

#[tokio::test]
async fn who_may_read_and_who_may_write() {
    let mut peer = peer().await;
    allow(&mut peer, "cc", "written", CollectionAccess { may_read: false, ..OPEN });
    allow(&mut peer, "cc", "read", CollectionAccess { may_write: false, ..OPEN });
    let mut state = with(&[("cc", "written", "a", "1"), ("cc", "read", "a", "2")]);
    let may_not = |what: &str, name: &str| {
        format!(
            "tx creator does not have {what} access permission on privatedata in \
             chaincodeName:cc collectionName: {name}"
        )
    };
    let reads: [(&[&str], &str); 4] = [
        (&["GetPrivate", "written", "a"], "GET_STATE"),
        (&["GetPrivates", "written", r#"["a"]"#], "GET_STATE_MULTIPLE"),
        (&["ListPrivate", "written", "", ""], "GET_STATE_BY_RANGE"),
        (&["PrivatePolicy", "written", "a"], "GET_STATE_METADATA"),
    ];
    for (args, kind) in reads {
        let error = peer.ask(&mut state, args).await.unwrap_err();
        assert_eq!(error, refused(kind, &may_not("read", "written")), "{args:?}");
    }
    let writes: [&[&str]; 4] = [
        &["PutPrivate", "read", "a", "1"],
        &["DeletePrivate", "read", "a"],
        &["PurgePrivate", "read", "a"],
        &["LockPrivate", "read", "a", "Org1MSP"],
    ];
    for args in writes {
        let error = peer.ask(&mut state, args).await.unwrap_err();
        assert_eq!(error, refused("WRITE_BATCH_STATE", &may_not("write", "read")), "{args:?}");
    }
    assert!(state.private_writes.is_empty());
    assert_eq!(peer.ask(&mut state, &["GetPrivate", "read", "a"]).await.unwrap(), "2");
    peer.ask(&mut state, &["PutPrivate", "written", "a", "3"]).await.unwrap();
    assert_eq!(state.private_writes.len(), 1);
}

#[tokio::test]
async fn a_peer_of_another_organization_lists_nothing_and_writes() {
    let mut peer = peer().await;
    allow(&mut peer, "cc", "theirs", CollectionAccess { held: false, ..OPEN });
    let mut state = MemoryState::default();
    let error = peer.ask(&mut state, &["ListPrivate", "theirs", "", ""]).await.unwrap_err();
    let expect = "private data is not available: the organization of this peer is not a member of \
                  collection theirs of chaincode cc";
    assert_eq!(error, refused("GET_STATE_BY_RANGE", expect));
    peer.ask(&mut state, &["PutPrivate", "theirs", "a", "1"]).await.unwrap();
    assert_eq!(state.private_writes.len(), 1);
}

#[tokio::test]
async fn a_collection_is_looked_up_once_for_each_contract() {
    let peer = peer().await;
    let mut state = with(&[("cc", "secrets", "a", "1")]);
    peer.ask(&mut state, &["GetPrivates", "secrets", r#"["a","b","c"]"#]).await.unwrap();
    assert_eq!(*peer.host.looked_up.lock(), ["supply/cc/secrets"]);
    let inner = r#"["GetPrivates","secrets","[\"a\",\"b\"]"]"#;
    peer.ask(&mut state, &["CallOn", "", "other", inner]).await.unwrap();
    assert_eq!(*peer.host.looked_up.lock(), ["supply/cc/secrets", "supply/other/secrets"]);
}

#[tokio::test]
async fn initialization_has_no_private_data() {
    let mut peer = peer().await;
    peer.host.init.insert("cc".into());
    let mut state = MemoryState::default();
    let expect = "private data APIs are not allowed in chaincode Init()";
    let requests: [&[&str]; 4] = [
        &["GetPrivate", "secrets", "a"],
        &["HashPrivate", "secrets", "a"],
        &["PutPrivate", "secrets", "a", "1"],
        &["PurgePrivate", "secrets", "a"],
    ];
    for args in requests {
        let mut init = call("tx", args);
        init.input.is_init = true;
        let error = peer.invoke(&mut state, init).await.unwrap_err().to_string();
        assert!(error.ends_with(expect), "{error}");
    }
    assert!(state.private_writes.is_empty());
}

#[tokio::test]
async fn channels_without_the_capability_do_not_purge() {
    let peer = peer().await;
    let mut state = MemoryState::default();
    let mut old = call("tx", &["PurgePrivate", "secrets", "a"]);
    old.channel_id = "old".into();
    let outcome = peer.invoke(&mut state, old).await.unwrap();
    assert_eq!(
        outcome.response.message,
        "WRITE_BATCH_STATE failed: transaction ID: tx: purge private data is not enabled, \
         channel application capability of V2_5 or later is required"
    );
    assert!(state.private_writes.is_empty());
}

#[tokio::test]
async fn queries_of_private_keys_exclude_writes_and_pages() {
    let peer = peer().await;
    let mut state = MemoryState::default();
    peer.ask(&mut state, &["ListPrivate", "secrets", "", ""]).await.unwrap();
    let error = peer.ask(&mut state, &["PutPrivate", "secrets", "a", "1"]).await.unwrap_err();
    assert_eq!(error, refused("WRITE_BATCH_STATE", "a paged query excludes writes"));

    let page = peer::QueryMetadata { page_size: 10, ..Default::default() };
    let range = peer::GetStateByRange {
        collection: "secrets".into(),
        metadata: page.encode_to_vec().into(),
        ..Default::default()
    };
    let answer = crate::misbehaving::answer_with(
        |peer| allow(peer, "cc", "secrets", OPEN),
        peer::chaincode_message::Type::GetStateByRange,
        range.encode_to_vec(),
    );
    assert_eq!(
        answer.await,
        "ERROR GET_STATE_BY_RANGE failed: transaction ID: tx: \
         pagination is not supported for private data"
    );
}

#[tokio::test]
async fn what_is_written_on_another_channel_is_dropped() {
    let mut peer = peer().await;
    let elsewhere = with(&[("other", "secrets", "a", "there")]);
    peer.host.channels.insert("trade".into(), elsewhere.clone());
    let mut state = MemoryState::default();
    let get = r#"["GetPrivate","secrets","a"]"#;
    let got = peer.ask(&mut state, &["CallOn", "trade", "other", get]).await;
    assert_eq!(got.unwrap(), "200 there");
    let put = r#"["PutPrivate","secrets","a","2"]"#;
    let done = peer.ask(&mut state, &["CallOn", "trade", "other", put]).await;
    assert_eq!(done.unwrap(), "200 ");
    assert!(state.private_writes.is_empty());
    let name = private_name("other", "secrets", "a");
    assert_eq!(elsewhere.committed.lock().private[&name], "there");
    assert_eq!(peer.host.looked_up.lock()[0], "trade/other/secrets");
}
