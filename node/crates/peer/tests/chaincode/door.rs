//! Reads that take long hold up nobody else.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

use crate::contract::contract;
use crate::state::MemoryState;
use crate::support::{Peer, config};

/// Longest wait of a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_goes_on_while_a_contract_reads() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel();
    let (started, released) = (Mutex::new(Some(started)), Mutex::new(released));
    let mut state = MemoryState::with(&[("cc", "a", "1")]);
    state.on_read = Some(Arc::new(move || {
        started.lock().take().unwrap().send(()).unwrap();
        released.lock().recv_timeout(PATIENCE).expect("the other task ran only after the read");
    }));
    let read = tokio::spawn(async move { peer.ask(&mut state, &["Get", "a"]).await });
    has_started.await.unwrap();
    // It needs the worker that the transaction ran on.
    tokio::spawn(async move { release.send(()).unwrap() }).await.unwrap();
    assert_eq!(read.await.unwrap().unwrap(), "1");
}
