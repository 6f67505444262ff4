//! Ranges, pages, histories and metadata.

use bytes::Bytes;
use weft_protos::queryresult::KeyModification;

use crate::contract::contract;
use crate::state::{MemoryState, name};
use crate::support::{Peer, call, config};

fn numbered(count: usize) -> MemoryState {
    let state = MemoryState::default();
    for n in 0..count {
        let key = name("cc", &format!("k{n:04}"));
        state.committed.lock().values.insert(key, Bytes::from_static(b"v"));
    }
    state
}

fn keys(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("k{n:04}")).collect()
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn ranges_come_in_portions() {
    let mut config = config();
    config.query_page_size = 100;
    let mut peer = Peer::new(config);
    peer.serve("cc", contract()).await;
    for count in [0, 1, 99, 100, 101, 250] {
        let mut state = numbered(count);
        let listed = peer.ask(&mut state, &["List", "", ""]).await.unwrap();
        assert_eq!(parse::<Vec<String>>(&listed), keys(0..count), "{count}");
        assert_eq!(state.open_queries(), 0);
    }
    let mut state = numbered(250);
    let listed = peer.ask(&mut state, &["List", "k0120", "k0130"]).await.unwrap();
    assert_eq!(parse::<Vec<String>>(&listed), keys(120..130));
}

#[tokio::test]
async fn plain_ranges_leave_composite_keys_out() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::with(&[("cc", "\0t\0a\0", "1"), ("cc", "plain", "1")]);
    assert_eq!(peer.ask(&mut state, &["List", "", ""]).await.unwrap(), r#"["plain"]"#);
}

#[tokio::test]
async fn large_values_come_in_smaller_portions() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::default();
    for n in 0..5 {
        let value = Bytes::from(vec![b'v'; 700 * 1024]);
        state.committed.lock().values.insert(name("cc", &format!("k{n:04}")), value);
    }
    peer.ask(&mut state, &["First", "false"]).await.unwrap();
    // Two results pass the mark, and one more is read to know that there are more.
    assert_eq!(state.results_read, 3);
    let listed = peer.ask(&mut state, &["List", "", ""]).await.unwrap();
    assert_eq!(parse::<Vec<String>>(&listed), keys(0..5));
}

#[tokio::test]
async fn the_total_limit_ends_a_query_without_reading_on() {
    let mut config = config();
    config.query_page_size = 10;
    config.total_query_limit = 25;
    let mut peer = Peer::new(config);
    peer.serve("cc", contract()).await;
    let mut state = numbered(100);
    let listed = peer.ask(&mut state, &["List", "", ""]).await.unwrap();
    assert_eq!(parse::<Vec<String>>(&listed), keys(0..25));
    assert_eq!(state.results_read, 25);
}

#[tokio::test]
async fn queries_left_open_are_closed_in_the_end() {
    let mut config = config();
    config.query_page_size = 10;
    let mut peer = Peer::new(config);
    peer.serve("cc", contract()).await;
    for close in ["true", "false"] {
        let mut state = numbered(100);
        assert_eq!(peer.ask(&mut state, &["First", close]).await.unwrap(), "k0000");
        assert_eq!(state.open_queries(), 0);
        assert_eq!(state.results_read, 11);
    }
}

#[tokio::test]
async fn pages_and_bookmarks() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = numbered(25);
    let (mut all, mut bookmark, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = peer.ask(&mut state, &["Page", "10", &bookmark]).await.unwrap();
        let (keys, next): (Vec<String>, String) = parse(&page);
        all.extend(keys);
        pages += 1;
        if next.is_empty() {
            break;
        }
        bookmark = next;
    }
    assert_eq!((all, pages), (keys(0..25), 3));
    let refused = peer.ask(&mut state, &["Page", "0", ""]).await.unwrap_err();
    assert!(refused.starts_with("400 a page's size is"), "{refused}");
}

#[tokio::test]
async fn pages_exclude_writes() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let refused = peer.ask(&mut numbered(3), &["WriteThenPage"]).await.unwrap_err();
    assert_eq!(
        refused,
        "500 GET_STATE_BY_RANGE failed: transaction ID: tx: a paged query excludes writes"
    );
}

#[tokio::test]
async fn history_is_newest_first() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::default();
    let entry = |value: &str| KeyModification {
        tx_id: "t".into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        is_delete: value.is_empty(),
        ..Default::default()
    };
    let entries = vec![entry("1"), entry(""), entry("2")];
    state.committed.lock().history.insert(name("cc", "a"), entries);
    assert_eq!(peer.ask(&mut state, &["History", "a"]).await.unwrap(), r#"["2",null,"1"]"#);
}

#[tokio::test]
async fn policies_of_keys() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::with(&[("cc", "a", "1")]);
    assert_eq!(peer.ask(&mut state, &["Policy", "a"]).await.unwrap(), "");
    peer.ask(&mut state, &["Lock", "a", "Org1MSP"]).await.unwrap();
    let written = state.metadata_writes[&name("cc", "a")]["VALIDATION_PARAMETER"].clone();
    assert!(String::from_utf8_lossy(&written).contains("Org1MSP"));
    state.commit();
    let outcome = peer.invoke(&mut state, call("tx", &["Policy", "a"])).await.unwrap();
    assert_eq!(outcome.response.payload, written);
    let mut old = call("tx", &["Policy", "a"]);
    old.channel_id = "old".into();
    let refused = peer.invoke(&mut state, old).await.unwrap();
    assert!(refused.response.message.contains("key level endorsement is not enabled"));
}
