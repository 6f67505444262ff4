//! Contracts that call chaincodes.

use bytes::Bytes;

use crate::contract::contract;
use crate::state::{MemoryState, name};
use crate::support::{Peer, call, config};

async fn two(max_call_depth: usize) -> Peer {
    let mut config = config();
    config.max_call_depth = max_call_depth;
    let mut peer = Peer::new(config);
    peer.serve("cc", contract()).await;
    peer.serve("other", contract()).await;
    peer
}

#[tokio::test]
async fn on_the_same_channel_it_is_one_transaction() {
    let peer = two(16).await;
    let mut state = MemoryState::with(&[("other", "a", "theirs"), ("cc", "a", "mine")]);
    let answer = peer.ask(&mut state, &["Call", "other", "Get", "a"]).await;
    assert_eq!(answer.unwrap(), "theirs");
    let put = r#"["Put","b","2"]"#;
    assert_eq!(peer.ask(&mut state, &["CallOn", "", "other", put]).await.unwrap(), "200 ");
    let expect = Some(Bytes::from_static(b"2"));
    assert_eq!(state.writes.get(&name("other", "b")), Some(&expect));
}

#[tokio::test]
async fn the_called_ones_event_does_not_count() {
    let peer = two(16).await;
    let call = call("tx", &["CallOn", "", "other", r#"["Emit","e","x"]"#]);
    let outcome = peer.invoke(&mut MemoryState::default(), call).await.unwrap();
    assert_eq!((outcome.response.status, outcome.event), (200, None));
}

#[tokio::test]
async fn on_another_channel_only_reads_count() {
    let mut peer = two(16).await;
    let elsewhere = MemoryState::with(&[("other", "a", "elsewhere")]);
    peer.host.channels.insert("trade".into(), elsewhere.clone());
    let mut state = MemoryState::default();
    let get = peer.ask(&mut state, &["CallOn", "trade", "other", r#"["Get","a"]"#]).await;
    assert_eq!(get.unwrap(), "200 elsewhere");
    let put = peer.ask(&mut state, &["CallOn", "trade", "other", r#"["Put","a","2"]"#]).await;
    assert_eq!(put.unwrap(), "200 ");
    assert!(state.writes.is_empty());
    assert_eq!(elsewhere.committed.lock().values[&name("other", "a")], "elsewhere");
    let missing = peer.ask(&mut state, &["CallOn", "moon", "other", r#"["Get","a"]"#]).await;
    assert_eq!(
        missing.unwrap_err(),
        "500 INVOKE_CHAINCODE failed: transaction ID: tx: failed to find ledger for channel: moon"
    );
}

#[tokio::test]
async fn errors_of_the_called_one() {
    let peer = two(16).await;
    let mut state = MemoryState::default();
    let refused = peer.ask(&mut state, &["CallOn", "", "other", r#"["Fail","409","taken"]"#]).await;
    assert_eq!(refused.unwrap(), "409 taken");
    let refused = peer.ask(&mut state, &["Call", "other", "Get", "x"]).await;
    assert_eq!(refused.unwrap(), "none");
    let refused = peer.ask(&mut state, &["Call", "other", "Nothing", ""]).await.unwrap_err();
    assert!(refused.starts_with("500 chaincode other returned status 400: function"), "{refused}");
    let unknown = peer.ask(&mut state, &["Call", "third", "Get", "a"]).await.unwrap_err();
    assert_eq!(
        unknown,
        "500 INVOKE_CHAINCODE failed: transaction ID: tx: execute failed: invalid invocation: \
         [channel supply] chaincode third is not defined"
    );
}

#[tokio::test]
async fn permission_is_asked() {
    let mut peer = two(16).await;
    peer.host.forbidden.insert("other".into());
    let refused = peer.ask(&mut MemoryState::default(), &["Call", "other", "Get", "a"]).await;
    assert_eq!(
        refused.unwrap_err(),
        "500 INVOKE_CHAINCODE failed: transaction ID: tx: access denied to other"
    );
}

#[tokio::test]
async fn system_chaincodes() {
    let peer = two(16).await;
    let answer =
        peer.ask(&mut MemoryState::default(), &["CallOn", "", "qscc", r#"["Info"]"#]).await;
    assert_eq!(answer.unwrap(), "200 from qsccInfo");
}

#[tokio::test]
async fn a_chain_that_comes_back_is_refused() {
    let peer = two(16).await;
    let mut state = MemoryState::default();
    let itself = peer.ask(&mut state, &["Call", "cc", "Get", "a"]).await.unwrap_err();
    assert!(itself.contains("txid: tx(supply) exists"), "{itself}");
    let back = r#"["Call","cc","Get","a"]"#;
    let back = peer.ask(&mut state, &["CallOn", "", "other", back]).await.unwrap();
    assert!(back.contains("txid: tx(supply) exists"), "{back}");
    // Nothing is left behind.
    assert_eq!(peer.ask(&mut state, &["Get", "a"]).await.unwrap(), "none");
}

#[tokio::test]
async fn depth_is_bounded() {
    let peer = two(1).await;
    let mut state = MemoryState::default();
    assert_eq!(peer.ask(&mut state, &["Call", "other", "Get", "a"]).await.unwrap(), "none");
    let deeper = r#"["Call","qscc","x","y"]"#;
    let deeper = peer.ask(&mut state, &["CallOn", "", "other", deeper]).await.unwrap();
    assert!(deeper.contains("chaincode calls are nested more than 1 deep"), "{deeper}");
}
