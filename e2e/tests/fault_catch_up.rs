//! An orderer that is too far behind for the log of the others takes the blocks from them, and is
//! killed at every step of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use support::faults::{check, loaded};
use support::{BASIC, Random, eventually, node_named, spawn};
use tokio::time::sleep;
use weft_e2e::LocalNetwork;

const LATE: &str = "orderer2";
/// Acknowledged transactions that it misses, in blocks of a few.
const MISSED: usize = 400;
/// Times that it is killed at a moment of no meaning.
const KILLS: usize = 10;

/// The example whose orderers keep nearly nothing of the log behind a snapshot.
fn manifest() -> String {
    let raft = "    raft: {snapshotIntervalBytes: 16384}\n";
    let node = "    node: {config: {raft.catchUpEntries: \"1\"}}\n";
    let ordering = format!("    replicas: 3\n{raft}{node}  batch: {{maxMessageCount: 5}}\n");
    BASIC.replacen("    replicas: 3\n", &ordering, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_killed_at_each_step_of_catching_up_ends_with_the_same_chain() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let load = loaded(&network).await;
    let node = node_named(&network, LATE);
    let mut random = Random::seeded();
    // Steps that its log tells of, then anywhere.
    let told = ["started raft", "catches up from other orderers' blocks", "the leader changed"];
    for step in told.into_iter().map(Some).chain([None; KILLS]) {
        network.kill(LATE).await.ok();
        load.progress(MISSED / 4).await.unwrap();
        let before = node.log().len();
        let mut process = spawn(&node, &[]);
        match step {
            Some(step) => {
                let seen =
                    || async { node.log().get(before..).is_some_and(|log| log.contains(step)) };
                eventually(step, seen).await;
            }
            None => sleep(Duration::from_millis(random.number() % 300)).await,
        }
        process.kill().await.unwrap();
        assert!(!node.log().contains("panicked"), "{LATE} panicked");
    }
    load.progress(MISSED).await.unwrap();
    network.up().await.unwrap();
    // With another one away, nothing is ordered without it.
    network.kill("orderer0").await.unwrap();
    load.progress(MISSED / 4).await.unwrap();
    network.up().await.unwrap();
    let keys = load.finish().await.unwrap();
    check(&network, &keys).await;
}
