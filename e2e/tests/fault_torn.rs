//! Stores whose newest log ends in half a record, as a power cut in mid-write leaves it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use support::BASIC;
use support::faults::{check, loaded};
use weft_e2e::LocalNetwork;

#[tokio::test(flavor = "multi_thread")]
async fn stores_with_a_torn_tail_open_and_catch_up() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let keys = loaded(&network).await.finish().await.unwrap();
    for name in network.processes(|name| !name.starts_with("chaincode/")).unwrap() {
        network.kill(&name).await.unwrap();
    }
    // Nobody was told of a write that did not end: nothing is missing.
    for (organization, node) in [("ordering", "orderer0"), ("org2", "peer0.org2")] {
        let store = network.layout().node(organization, node).join("data/channels/supply");
        tear_newest_log(&store);
    }
    network.up().await.unwrap();
    check(&network, &keys).await;
    loaded(&network).await.finish().await.unwrap();
    check(&network, &keys).await;
}

fn tear_newest_log(store: &Path) {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| path.metadata().unwrap().len() > 0)
        .collect();
    logs.sort();
    let newest = logs.last().expect("the store has a log");
    let mut file = OpenOptions::new().append(true).open(newest).unwrap();
    // A checksum, a length of 512 bytes, the type of a whole record, and 100 bytes of it.
    file.write_all(&[0x5a, 0x5a, 0x5a, 0x5a, 0x00, 0x02, 1]).unwrap();
    file.write_all(&[7; 100]).unwrap();
}
