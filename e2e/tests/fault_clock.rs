//! Clocks of nodes that jump by an hour, forward and back, while they run. Only what depends on the
//! date is judged anew: requests out of the time window, certificates. Commits go on, and nothing is
//! lost. Needs Debian's package libfaketime: `make faults`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::{Path, PathBuf};

use support::faults::{SOME, check, is_channel, leader};
use support::{BASIC, Node, eventually, http, node_named, now, spawn};
use weft_e2e::LocalNetwork;
use weft_e2e::load::Load;
use weft_types::Timestamp;

/// The library that is loaded before the C library's clock.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.is_file()).expect("Debian's package libfaketime")
}

/// Sets how far the clock is from the true one, as faketime(1) has it.
fn set(clock: &Path, offset: &str) {
    // Never seen half written.
    let next = clock.with_extension("next");
    std::fs::write(&next, offset).unwrap();
    std::fs::rename(next, clock).unwrap();
}

/// Whether a node says that it is so many hours from the true time, within half an hour.
async fn is_ahead(network: &LocalNetwork, node: &Node, hours: i64) -> bool {
    let url = format!("http://{}/healthz", node.operations);
    let answer = http(network, node, None).get(&url).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    let at = |seconds| Timestamp::from_seconds(now().seconds() + seconds).to_string();
    // RFC 3339 sorts by time.
    let (from, to) = (at(3600 * hours - 1800), at(3600 * hours + 1800));
    (from.as_str()..to.as_str()).contains(&told["time"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and packages of Debian: make faults"]
async fn commits_go_on_when_a_clock_jumps() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let library = library().display().to_string();
    for name in [leader(&network).await, "peer0.org2"] {
        let node = node_named(&network, name);
        let clock = node.folder.join("clock");
        let file = clock.display().to_string();
        set(&clock, "+0");
        network.kill(name).await.unwrap();
        let mut process = spawn(
            &node,
            &[
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME_TIMESTAMP_FILE", &file),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ],
        );
        eventually("the node serves", || is_channel(&network, name, "running")).await;
        // Clients whose peer has the right time.
        let load = Load::start(vec![network.gateway(0).unwrap()]);
        for hours in [1, 0, -1, 0] {
            set(&clock, &format!("{hours:+}h"));
            let jumped = || is_ahead(&network, &node, hours);
            eventually("the clock jumps", jumped).await;
            load.progress(SOME).await.unwrap();
        }
        let keys = load.finish().await.unwrap();
        check(&network, &keys).await;
        assert!(process.try_wait().unwrap().is_none(), "{name} has ended");
        assert!(!node.log().contains("panicked"), "{name} panicked");
        process.kill().await.unwrap();
        network.up().await.unwrap();
    }
}
