//! What a network leaves on disk: for nobody but its owner, and not without end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::LocalNetwork;
use weft_operator::local::nodes::Node;

const BASIC: &str = include_str!("../../examples/basic.yaml");
/// Longest wait for something that should happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything below a folder, itself included.
fn walk(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            all.extend(walk(&entry.unwrap().path()));
        }
    }
    all
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A file may go while the nodes run.
fn open_to_others(folder: &Path) -> Vec<String> {
    let all = walk(folder);
    assert!(all.iter().filter(|path| path.extension().is_some_and(|e| e == "log")).count() > 5);
    let open = all.iter().filter(|path| path.exists() && mode(path) & 0o077 != 0);
    open.map(|path| format!("{:o} {}", mode(path), path.display())).collect()
}

async fn put(network: &LocalNetwork, value: &str) {
    let call = Call::new("asset", "Put", ["k", value]);
    network.gateway(0).unwrap().submit(call).await.unwrap();
}

/// Under a umask that withholds nothing: made by nodes, by the libraries below them and by `weft`,
/// and what an earlier version left open.
#[tokio::test(flavor = "multi_thread")]
async fn all_files_are_their_owners_alone() {
    umask(Mode::empty());
    let one = BASIC.replacen("replicas: 3", "replicas: 1", 1);
    let network = LocalNetwork::start(&one).await.unwrap();
    put(&network, "one").await;
    assert_eq!(open_to_others(&network.dir()), [""; 0]);
    network.down().await.unwrap();
    for path in walk(&network.dir()) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    network.up().await.unwrap();
    put(&network, "two").await;
    assert_eq!(open_to_others(&network.dir()), [""; 0]);
}

fn logs(node: &Node) -> Vec<(PathBuf, u64)> {
    let files = walk(&node.folder).into_iter();
    let logs =
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("node.log"));
    logs.map(|path| (path.clone(), fs::metadata(&path).map_or(0, |found| found.len()))).collect()
}

/// A node that nobody looks after keeps its log small, and what it prints beside it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_log_is_rotated_while_it_runs_alone() {
    const MAX_BYTES: u64 = 64 * 1024;
    let peers = "mspId: Org1MSP\n  peers: {node: {logLevel: trace, config: {logging.file.maxBytes: \
                 \"65536\", logging.file.maxFiles: \"3\"}}}";
    let one = BASIC.replacen("replicas: 3", "replicas: 1", 1);
    let network = LocalNetwork::start(&one.replacen("mspId: Org1MSP", peers, 1)).await.unwrap();
    let node = network.nodes().unwrap().into_iter().find(|node| node.name == "peer0.org1").unwrap();
    let deadline = Instant::now() + PATIENCE;
    // The oldest one is replaced, too.
    let oldest = node.folder.join("node.log.2");
    let first = loop {
        if let Ok(text) = fs::read(&oldest) {
            break text;
        }
        assert!(Instant::now() < deadline, "{:?}", logs(&node));
        put(&network, "more").await;
    };
    while fs::read(&oldest).is_ok_and(|text| text == first) {
        assert!(Instant::now() < deadline, "{:?}", logs(&node));
        put(&network, "still more").await;
    }
    // Two looks apart may see a file under its name before and after.
    sleep(Duration::from_millis(1)).await;
    let found = logs(&node);
    assert!(found.len() <= 3, "{found:?}");
    assert!(found.iter().all(|(_, bytes)| *bytes <= MAX_BYTES), "{found:?}");
    let pid = network.state().unwrap().processes["peer0.org1"].pid;
    let stderr = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
    let name = stderr.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("node.log"), "standard error follows: {name}");
    // Before it can log at all, it says why it ends in the same file.
    network.down().await.unwrap();
    fs::remove_file(node.tls_root()).unwrap();
    let told = format!("{:#}", network.up().await.unwrap_err());
    assert!(told.contains("error: failed to load TLS certificates"), "{told}");
}
