//! Contracts that fail, hang and crash, and others that must not notice.

use std::time::Duration;

use weft_peer::chaincode::ExecuteError;
use weft_peer::chaincode::package::Connection;

use crate::contract::contract;
use crate::state::MemoryState;
use crate::support::{Peer, Process, call, config, eventually, free_address};

#[tokio::test]
async fn errors_of_the_contract_are_responses() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::default();
    assert_eq!(peer.ask(&mut state, &["Fail", "404", "gone"]).await.unwrap_err(), "404 gone");
    assert!(state.writes.is_empty(), "what a refused transaction wrote is not even sent");
    assert_eq!(peer.ask(&mut state, &["Fail", "200", "odd"]).await.unwrap_err(), "500 odd");
    let panicked = peer.ask(&mut state, &["Panic"]).await.unwrap_err();
    assert_eq!(panicked, "500 the contract failed unexpectedly: the sky falls");
}

#[tokio::test]
async fn a_contract_that_hangs_holds_up_nobody() {
    let mut config = config();
    config.execute_timeout = Duration::from_millis(300);
    let mut peer = Peer::new(config);
    let service = peer.serve("cc", contract()).await;
    let (mut hanging, mut other) = (MemoryState::default(), MemoryState::default());
    let hang = peer.invoke(&mut hanging, call("tx1", &["Hang"]));
    let others = async {
        for _ in 0..20 {
            peer.ask(&mut other, &["Get", "a"]).await.unwrap();
        }
    };
    let (hung, ()) = tokio::join!(hang, others);
    let error = hung.unwrap_err();
    assert!(matches!(error.source, ExecuteError::Timeout));
    assert_eq!(
        error.to_string(),
        "failed to execute transaction tx1: error sending: timeout expired while executing \
         transaction"
    );
    // The stream lives on, and on this side the transaction is over.
    assert!(peer.runtime.is_connected(&service.id));
    assert_eq!(peer.ask(&mut other, &["Get", "a"]).await.unwrap(), "none");
}

#[tokio::test]
async fn a_time_limit_covers_the_calls_below() {
    let mut config = config();
    config.execute_timeout = Duration::from_millis(300);
    let mut peer = Peer::new(config);
    peer.serve("cc", contract()).await;
    peer.serve("other", contract()).await;
    let call = call("tx", &["CallOn", "", "other", r#"["Hang"]"#]);
    let error = peer.invoke(&mut MemoryState::default(), call).await.unwrap_err();
    assert!(matches!(error.source, ExecuteError::Timeout));
}

#[tokio::test]
async fn giving_up_frees_the_transaction() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::default();
    let hang = peer.invoke(&mut state, call("tx", &["Hang"]));
    assert!(tokio::time::timeout(Duration::from_millis(300), hang).await.is_err());
    // The contract still hangs in it, and says so; the peer knows it no longer.
    let again = peer.ask(&mut state, &["Get", "a"]).await.unwrap_err();
    assert!(again.ends_with("the contract works on this transaction already"), "{again}");
}

#[tokio::test]
async fn a_crash_fails_what_is_pending_at_once_and_a_restart_heals() {
    let mut peer = Peer::new(config());
    let address = free_address().await;
    let id = peer.install("cc", &Connection::plain(address.to_string()));
    let process = Process::start(&id, address, contract()).await;
    let bystander = peer.serve("other", contract()).await;
    peer.runtime.connect(&id).await.unwrap();
    peer.runtime.connect(&bystander.id).await.unwrap();
    let mut states = vec![MemoryState::default(); 10];
    let pending = states.iter_mut().enumerate().map(|(n, state)| {
        let peer = &peer;
        async move { peer.invoke(state, call(&format!("tx{n}"), &["Hang"])).await }
    });
    let crash = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(process);
    };
    let both = async { tokio::join!(futures::future::join_all(pending), crash) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(2), both).await.expect("at once");
    for result in ended {
        let error = result.unwrap_err();
        assert!(matches!(error.source, ExecuteError::StreamTerminated), "{error}");
        assert!(error.is_transient());
        assert!(error.to_string().ends_with("chaincode stream terminated"));
    }
    eventually("the connection is gone", || !peer.runtime.is_connected(&id)).await;
    assert!(peer.runtime.is_connected(&bystander.id));
    let _process = Process::start(&id, address, contract()).await;
    assert_eq!(peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap(), "none");
}

#[tokio::test]
async fn messages_over_the_limit_fail_alone() {
    let mut config = config();
    config.max_message_bytes = 64 * 1024;
    let mut peer = Peer::new(config);
    let service = peer.serve("cc", contract()).await;
    let mut state = MemoryState::default();
    let argument = "x".repeat(70 * 1024);
    let error = peer.invoke(&mut state, call("tx", &["Put", "a", &argument])).await.unwrap_err();
    assert!(matches!(error.source, ExecuteError::TooLarge { limit: 65_536, .. }), "{error}");
    assert!(peer.runtime.is_connected(&service.id));
    let value = bytes::Bytes::from(vec![b'v'; 70 * 1024]);
    state.committed.lock().values.insert(crate::state::name("cc", "a"), value);
    let refused = peer.ask(&mut state, &["Get", "a"]).await.unwrap_err();
    assert!(refused.contains("is larger than the limit of 65536 bytes"), "{refused}");
    assert!(peer.runtime.is_connected(&service.id));
    // What the contract sends too much of ends its stream, as it does in gRPC; then it is back.
    let error = peer.invoke(&mut state, call("tx", &["Big", "70000"])).await.unwrap_err();
    assert!(matches!(error.source, ExecuteError::StreamTerminated), "{error}");
    assert_eq!(peer.ask(&mut state, &["Get", "b"]).await.unwrap(), "none");
}
