#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! The channels of one orderer: what a failure of one does to it and to the others.

mod support;

use support::*;
use weft_channels::Stores;
use weft_client::ClientError;
use weft_protos::common::Status;
use weft_testkit::network::Network;
use weft_types::ChannelId;

fn id(name: &str) -> ChannelId {
    ChannelId::new(name).unwrap()
}

fn status_code(error: &ClientError) -> u16 {
    match error {
        ClientError::Participation { status, .. } => *status,
        other => panic!("{other}"),
    }
}

/// An orderer with the channels `supply` and `other`, both with a block of their own.
async fn with_two_channels() -> (Network, Node) {
    let network = network(1);
    let node = started(&network, &network.genesis("supply")).await.remove(0);
    node.admin(&network).join(&network.genesis("other")).await.unwrap();
    let client = &network.org(1).client;
    broadcast(&node.client(client), &transaction(client, "one")).await;
    eventually("it is ordered", || node.height() == 2).await;
    (network, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_onto_a_full_disk_leaves_the_ledger_that_was_there() {
    let network = network(1);
    let mut node = started(&network, &network.genesis("supply")).await.remove(0);
    let client = &network.org(1).client;
    broadcast(&node.client(client), &transaction(client, "one")).await;
    eventually("it is ordered", || node.height() == 2).await;
    let (chain, newest) = (header_hashes(&node), config_block(&node));

    node.stores.set_full(true);
    let _ = node.client(client).broadcast(transaction(client, "two")).await;
    let registrar = node.handle.as_ref().unwrap().registrar().clone();
    eventually("it has failed", || !registrar.failures().is_empty()).await;
    // As often as it is opened again meanwhile, it is there and cannot be joined over.
    let admin = node.admin(&network);
    for _ in 0..50 {
        for block in [&network.genesis("supply"), &newest] {
            assert_eq!(status_code(&admin.join(block).await.unwrap_err()), 405);
        }
        let info = admin.channel(&channel()).await.unwrap().expect("it is listed");
        // Between its opening and its first write it serves.
        assert!(["failed", "active"].contains(&info.status.as_str()), "{}", info.status);
        assert_eq!(info.height, 2);
        assert_eq!(info.failure.is_some(), info.status == "failed");
        assert!(info.failure.is_none_or(|failure| failure.contains("no space left")));
        assert_eq!(admin.channels().await.unwrap(), ["supply"]);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    node.stores.set_full(false);
    broadcast(&node.client(client), &transaction(client, "three")).await;
    eventually("it goes on", || node.height() >= 3).await;
    assert_eq!(header_hashes(&node)[..2], chain);
    node.stop().await;
}

/// A ledger that comes while the orderer runs, as from a backup, is no join's to delete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_join_never_deletes_a_ledger_that_it_found() {
    let (network, mut first) = with_two_channels().await;
    let chain = header_hashes(&first);
    first.stop().await;
    let mut node = Node::new(&network, &network.orderers[0]);
    node.start(&network).await;
    node.stores.put(&channel(), &first.stores);
    let admin = node.admin(&network);

    // The ledger is of another channel of this name.
    let other = weft_config::genesis::block(&network.solo_profile("supply")).unwrap();
    let refused = admin.join(&other).await.unwrap_err();
    assert_eq!(status_code(&refused), 500);
    let info = admin.channel(&channel()).await.unwrap().expect("it is listed");
    assert!(info.failure.unwrap().contains("another channel of this name"));
    assert_eq!(status_code(&admin.join(&other).await.unwrap_err()), 405);
    assert_eq!(node.stores.list().unwrap(), [channel()]);
    node.stop().await;
    node.start(&network).await;
    assert_eq!(header_hashes(&node), chain);
    node.stop().await;

    // It cannot be opened.
    let mut node = Node::new(&network, &network.orderers[0]);
    node.start(&network).await;
    node.stores.put(&channel(), &first.stores);
    node.stores.set_damaged("supply", true);
    let refused = node.admin(&network).join(&network.genesis("supply")).await.unwrap_err();
    assert_eq!(status_code(&refused), 500);
    assert_eq!(node.stores.list().unwrap(), [channel()]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_join_takes_back_what_it_created() {
    let network = network(1);
    let mut node = Node::new(&network, &network.orderers[0]);
    node.start(&network).await;
    node.stores.set_full(true);
    let admin = node.admin(&network);
    let refused = admin.join(&network.genesis("supply")).await.unwrap_err();
    assert_eq!(status_code(&refused), 500);
    assert!(admin.channels().await.unwrap().is_empty());
    assert_eq!(node.stores.list().unwrap(), []);
    node.stores.set_full(false);
    admin.join(&network.genesis("supply")).await.unwrap();
    eventually("it leads", || node.leads()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_channel_leaves_the_others_serving() {
    let (network, mut node) = with_two_channels().await;
    let client = &network.org(1).client;
    node.stop().await;
    node.stores.set_damaged("other", true);
    node.start(&network).await;
    broadcast(&node.client(client), &transaction(client, "two")).await;
    eventually("the other one orders", || node.height() == 3).await;

    let admin = node.admin(&network);
    assert_eq!(admin.channels().await.unwrap(), ["other", "supply"]);
    let info = admin.channel(&id("other")).await.unwrap().unwrap();
    assert_eq!(info.status, "failed");
    assert!(info.failure.unwrap().contains("a checksum of its manifest"));
    let refused = admin.join(&network.genesis("other")).await.unwrap_err();
    assert_eq!(status_code(&refused), 405);
    let lost = transaction_of(&id("other"), client, "lost");
    let refused = node.client(client).broadcast(lost).await;
    assert_eq!(status_of(refused), Status::ServiceUnavailable);

    // An administrator may give it up, and begin anew.
    admin.remove(&id("other")).await.unwrap();
    assert_eq!(admin.channels().await.unwrap(), ["supply"]);
    node.stores.set_damaged("other", false);
    admin.join(&network.genesis("other")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_genesis_hash_tells_channels_of_one_name_apart() {
    let network = network(1);
    let mut node = started(&network, &network.genesis("supply")).await.remove(0);
    let admin = node.admin(&network);
    let hash = async || admin.channel(&channel()).await.unwrap().unwrap().genesis_hash.unwrap();
    let first = hash().await;
    let expected = header_hashes(&node)[0];
    assert_eq!(first, expected.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    admin.remove(&channel()).await.unwrap();
    let other = weft_config::genesis::block(&network.solo_profile("supply")).unwrap();
    admin.join(&other).await.unwrap();
    assert_ne!(hash().await, first);
    node.stop().await;
}

/// A store that is still open when the process ends takes it down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_waits_for_joins_that_are_under_way() {
    let network = network(1);
    let mut node = Node::new(&network, &network.orderers[0]);
    node.start(&network).await;
    let registrar = node.handle.as_ref().unwrap().registrar().clone();
    let (begun, open) = node.stores.hold();
    let (joins, genesis) = (registrar.clone(), network.genesis("supply"));
    let joining = tokio::spawn(async move { joins.join(genesis).await });
    tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
    let mut ending = Box::pin(registrar.stop());
    assert!(futures::poll!(&mut ending).is_pending(), "the join is under way");
    let late = registrar.join(network.genesis("other")).await.unwrap_err();
    assert_eq!(late.to_string(), "cannot join: the node is shutting down");
    open.send(()).unwrap();
    ending.await;
    joining.await.unwrap().unwrap();
    assert!(registrar.find("supply").unwrap().is_closed());
    drop(registrar);
    node.stop().await;
    node.start(&network).await;
    assert_eq!(node.height(), 1);
    node.stop().await;
}
