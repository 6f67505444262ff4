//! Private data on real processes: values are where they belong and nowhere else, and arrive
//! whatever happens to the peers on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::LocalNetwork;

/// Three organizations on a channel. The collections are of the first two.
const EXAMPLE: &str = include_str!("../../examples/private.yaml");

/// Longest wait for something that should happen.
const PATIENCE: Duration = Duration::from_secs(60);
const MEMBERS: [usize; 2] = [0, 1];
const STRANGER: usize = 2;
/// What a peer says that has the hash of a value and not the value.
const NOT_HERE: &str = "private data matching public hash version is not available";

/// The example with peers that do not take long to look for what is missing.
fn manifest() -> String {
    let users = "  users:\n    - name: user1\n";
    let node = "privateData.pullTimeout: 2s, privateData.reconcileInterval: 1s";
    assert!(EXAMPLE.contains(users));
    EXAMPLE.replace(users, &format!("{users}  peers: {{node: {{config: {{{node}}}}}}}\n"))
}

/// A value that nothing else contains.
fn canary() -> String {
    hexadecimal(&weft_crypto::random_bytes::<24>().unwrap())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put(collection: &str, key: &str, value: &str) -> Call {
    let call = Call::new("asset", "PutPrivate", [collection, key]);
    call.with_transient("value", value.to_owned())
}

/// What the first peer of an organization answers, or why it does not.
async fn ask(
    network: &LocalNetwork,
    org: usize,
    function: &str,
    collection: &str,
    key: &str,
) -> Result<String, String> {
    let gateway = network.gateway(org).unwrap();
    // Nobody else answers in the peer's place.
    let call = Call::new("asset", function, [collection, key]);
    let call = call.endorsed_by([format!("Org{}MSP", org + 1)]);
    let answer = gateway.evaluate(call).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

async fn value(
    network: &LocalNetwork,
    org: usize,
    collection: &str,
    key: &str,
) -> Result<String, String> {
    ask(network, org, "GetPrivate", collection, key).await
}

/// The value is there, or comes soon.
async fn arrives(network: &LocalNetwork, org: usize, collection: &str, key: &str, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = value(network, org, collection, key).await;
        if found.as_deref() == Ok(expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{key} does not reach organization {org}: {found:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The peer has the hash of the value, and nothing else of it.
async fn has_only_the_hash(network: &LocalNetwork, org: usize, key: &str, secret: &str) {
    let hash = ask(network, org, "GetPrivateHash", "prices", key).await.unwrap();
    assert_eq!(hash, hexadecimal(&weft_crypto::sha256(secret.as_bytes())));
    let error = value(network, org, "prices", key).await.unwrap_err();
    assert!(error.contains(NOT_HERE), "{error}");
}

/// Neither a value nor a hash is left.
async fn is_gone(network: &LocalNetwork, org: usize, collection: &str, key: &str) {
    for function in ["GetPrivate", "GetPrivateHash"] {
        let found = ask(network, org, function, collection, key).await;
        let error = found.expect_err("the key has no value any more");
        assert!(error.contains("does not exist"), "{function} at organization {org}: {error}");
    }
}

/// The file, or those below the folder, that contain a text.
fn files_with(path: &Path, text: &str) -> Vec<String> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
        return entries.flat_map(|entry| files_with(&entry.path(), text)).collect();
    }
    // What is no file, such as a socket, holds nothing.
    let bytes = std::fs::read(path).unwrap_or_default();
    let has_it = bytes.windows(text.len()).any(|window| window == text.as_bytes());
    has_it.then(|| path.display().to_string()).into_iter().collect()
}

fn weft(network: &LocalNetwork, args: &[&str]) -> String {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().and_then(Path::parent).unwrap();
    let dir = network.dir();
    let output = Command::new(folder.join("weft")).arg("--dir").arg(dir).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_at_members_and_in_nobody_elses_files() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let secret = canary();
    network.gateway(0).unwrap().submit(put("prices", "k", &secret)).await.unwrap();
    network.settled().await.unwrap();
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", &secret).await;
    }
    has_only_the_hash(&network, STRANGER, "k", &secret).await;

    // By the command line, with the bytes of a file, through the other member.
    let from_file = canary();
    let file = network.dir().join("value");
    std::fs::write(&file, &from_file).unwrap();
    let transient = format!("value=@{}", file.display());
    weft(
        &network,
        &["invoke", "--org", "Org2MSP", "--transient", &transient, "PutPrivate", "prices", "cli"],
    );
    std::fs::remove_file(&file).unwrap();
    network.settled().await.unwrap();
    arrives(&network, 0, "prices", "cli", &from_file).await;
    assert_eq!(
        weft(&network, &["query", "--org", "Org2MSP", "GetPrivate", "prices", "cli"]),
        from_file
    );
    has_only_the_hash(&network, STRANGER, "cli", &from_file).await;

    // What is only in memory is on disk once the nodes have stopped.
    network.down().await.unwrap();
    for text in [&secret, &from_file] {
        for entry in std::fs::read_dir(network.dir()).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let files = files_with(&entry.path(), text);
            if name == "org1" || name == "org2" {
                assert!(!files.is_empty(), "{name} has stored the value");
                let logs: Vec<_> = files.iter().filter(|one| one.ends_with("node.log")).collect();
                assert!(logs.is_empty(), "the value is in {logs:?}");
            } else {
                assert!(files.is_empty(), "the value is in {files:?}");
            }
        }
    }
    network.up().await.unwrap();
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", &secret).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_peer_that_was_down_gets_the_values_when_it_is_back() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    network.kill("peer0.org2").await.unwrap();
    let gateway = network.gateway(0).unwrap();
    let mut written = Vec::new();
    for number in 0..3 {
        let (key, secret) = (format!("k{number}"), canary());
        gateway.submit(put("prices", &key, &secret)).await.unwrap();
        written.push((key, secret));
    }
    // A value that must be at another member is not endorsed as long as there is none.
    let refused = gateway.submit(put("contracts", "k", "v")).await.unwrap_err().to_string();
    assert!(refused.contains("failed to distribute private collection"), "{refused}");
    assert!(!refused.contains(&written[0].1), "{refused}");

    network.up().await.unwrap();
    network.settled().await.unwrap();
    for (key, secret) in &written {
        arrives(&network, 1, "prices", key, secret).await;
        has_only_the_hash(&network, STRANGER, key, secret).await;
    }
    let secret = canary();
    gateway.submit(put("contracts", "k", &secret)).await.unwrap();
    network.settled().await.unwrap();
    assert_eq!(value(&network, 1, "contracts", "k").await.unwrap(), secret);
}

/// The endorser, which alone has the value, is killed before the transaction is ordered, and the
/// other member is down all the time.
#[tokio::test(flavor = "multi_thread")]
async fn an_endorser_killed_before_the_commit_still_has_the_value() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    network.kill("peer0.org2").await.unwrap();
    let secret = canary();
    let endorsing = network.gateway(0).unwrap().endorse(put("prices", "k", &secret)).await;
    let (envelope, endorsed) = endorsing.unwrap();
    network.kill("peer0.org1").await.unwrap();
    let elsewhere = network.gateway(STRANGER).unwrap();
    elsewhere.send(envelope, &endorsed.tx_id).await.unwrap();
    let (code, _) = elsewhere.commit_status(&endorsed.tx_id).await.unwrap();
    assert_eq!(code, weft_types::ValidationCode::Valid);

    network.up().await.unwrap();
    network.settled().await.unwrap();
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", &secret).await;
    }
    has_only_the_hash(&network, STRANGER, "k", &secret).await;
}

/// The only peer that has the value is down when the transaction commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_not_held_up_by_a_value_that_nobody_can_give() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    network.kill("peer0.org2").await.unwrap();
    let secret = canary();
    let endorsing = network.gateway(0).unwrap().endorse(put("prices", "k", &secret)).await;
    let (envelope, endorsed) = endorsing.unwrap();
    // Started anew, the endorser has the value still, and sends it to nobody any more.
    network.kill("peer0.org1").await.unwrap();
    network.up().await.unwrap();
    network.kill("peer0.org1").await.unwrap();
    network.gateway(STRANGER).unwrap().send(envelope, &endorsed.tx_id).await.unwrap();

    let member = network.gateway(1).unwrap();
    let (code, _) = member.commit_status(&endorsed.tx_id).await.unwrap();
    assert_eq!(code, weft_types::ValidationCode::Valid);
    let error = value(&network, 1, "prices", "k").await.unwrap_err();
    assert!(error.contains(NOT_HERE), "{error}");
    let hash = ask(&network, 1, "GetPrivateHash", "prices", "k").await.unwrap();
    assert_eq!(hash, hexadecimal(&weft_crypto::sha256(secret.as_bytes())));
    member.submit(Call::new("asset", "Put", ["public", "v"])).await.unwrap();

    network.up().await.unwrap();
    network.settled().await.unwrap();
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", &secret).await;
    }
}

/// One more peer of a member begins at block 0, when every value has long been written.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_joins_later_gets_the_values_from_before() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    let mut written = Vec::new();
    for number in 0..10 {
        let (key, secret) = (format!("k{number}"), canary());
        gateway.submit(put("prices", &key, &secret)).await.unwrap();
        written.push((key, secret));
    }
    let more = manifest().replacen(
        "mspId: Org2MSP\n  users:\n    - name: user1\n  peers: {",
        "mspId: Org2MSP\n  users:\n    - name: user1\n  peers: {replicas: 2, ",
        1,
    );
    network.apply(&more).await.unwrap();
    // So that nobody else of the organization answers in its place.
    network.kill("peer0.org2").await.unwrap();
    let second = network.gateway_at(1, 1).unwrap();
    for (key, secret) in &written {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let call = Call::new("asset", "GetPrivate", ["prices", key]).endorsed_by(["Org2MSP"]);
            match second.evaluate(call).await {
                Ok(found) => {
                    assert_eq!(found, secret.as_bytes());
                    break;
                }
                Err(error) => {
                    assert!(Instant::now() < deadline, "{key} does not come: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_killed_again_and_again_have_everything_in_the_end() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let mut written = Vec::new();
    for round in 0..3 {
        for (org, peer) in [(0, "peer0.org2"), (1, "peer0.org1")] {
            // Some values are with both members when one is killed, others with one alone.
            for number in 0..4 {
                let (key, secret) = (format!("k{round}.{org}.{number}"), canary());
                if number == 2 {
                    network.kill(peer).await.unwrap();
                }
                let gateway = network.gateway(org).unwrap();
                gateway.submit(put("prices", &key, &secret)).await.unwrap();
                written.push((key, secret));
            }
            network.up().await.unwrap();
        }
    }
    network.settled().await.unwrap();
    for (key, secret) in &written {
        for org in MEMBERS {
            arrives(&network, org, "prices", key, secret).await;
        }
        has_only_the_hash(&network, STRANGER, key, secret).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_live_for_as_many_blocks_as_they_are_given() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    let (short, kept) = (canary(), canary());
    gateway.submit(put("prices", "k", &kept)).await.unwrap();
    gateway.submit(put("quotes", "k", &short)).await.unwrap();
    let (written_at, _) = network.settled().await.unwrap();
    let next = async || {
        gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
        network.settled().await.unwrap().0
    };
    // Written in block B, it is there as long as no block after B + 2 is.
    for _ in 0..2 {
        let height = next().await;
        assert!(height <= written_at + 2, "one transaction is in one block");
        for org in MEMBERS {
            arrives(&network, org, "quotes", "k", &short).await;
        }
    }
    next().await;
    for org in [0, 1, 2] {
        is_gone(&network, org, "quotes", "k").await;
    }
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", &kept).await;
    }
    // A store that is opened again does not bring it back.
    for peer in ["peer0.org1", "peer0.org2"] {
        network.kill(peer).await.unwrap();
    }
    network.up().await.unwrap();
    network.settled().await.unwrap();
    for org in MEMBERS {
        is_gone(&network, org, "quotes", "k").await;
        arrives(&network, org, "prices", "k", &kept).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_gone_and_may_be_written_again() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    let secret = canary();
    gateway.submit(put("prices", "k", &secret)).await.unwrap();
    network.settled().await.unwrap();
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", &secret).await;
    }
    gateway.submit(Call::new("asset", "PurgePrivate", ["prices", "k"])).await.unwrap();
    network.settled().await.unwrap();
    for org in [0, 1, 2] {
        is_gone(&network, org, "prices", "k").await;
    }
    gateway.submit(put("prices", "k", "again")).await.unwrap();
    network.settled().await.unwrap();
    for org in MEMBERS {
        arrives(&network, org, "prices", "k", "again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_change_as_far_as_the_channel_lets_them() {
    let network = LocalNetwork::start(&manifest()).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    gateway.submit(put("prices", "before", "v")).await.unwrap();

    let two = "name: prices\n      organizations: [org1, org2]";
    let three = "name: prices\n      organizations: [org1, org2, org3]";
    assert!(manifest().contains(two));
    let grown = manifest().replace(two, three);
    network.apply(&grown).await.unwrap();
    let (height, _) = network.settled().await.unwrap();
    network.apply(&grown).await.unwrap();
    assert_eq!(network.settled().await.unwrap().0, height, "nothing is left to commit");
    let secret = canary();
    gateway.submit(put("prices", "after", &secret)).await.unwrap();
    network.settled().await.unwrap();
    for org in [0, 1, 2] {
        arrives(&network, org, "prices", "after", &secret).await;
        // A new member gets what was written before.
        arrives(&network, org, "prices", "before", "v").await;
    }

    let refused = async |manifest: &str| {
        let error = network.apply(manifest).await.unwrap_err();
        format!("{error:#}")
    };
    let (without, _) = grown.split_once("    # Forgotten").unwrap();
    let removed = refused(without).await;
    assert!(removed.contains("\"quotes\" is committed on the channel and cannot be"), "{removed}");
    let longer = refused(&grown.replace("blockToLive: 2", "blockToLive: 3")).await;
    assert!(longer.contains("blockToLive of \"quotes\" is 2 on the channel"), "{longer}");
    network.apply(&grown).await.unwrap();
}
