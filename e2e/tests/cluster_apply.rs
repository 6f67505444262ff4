//! From `kubectl apply` to a committed transaction, in every order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::cluster::fixture::{BASIC, CHANNEL, MINIMAL, NETWORK, PEERS, READY, SMALL};
use weft_e2e::cluster::namespace::documents;
use weft_e2e::cluster::{Fixture, KINDS, Namespace, figures, tools};

#[test]
fn a_network_is_forty_lines_and_a_minimal_one_twenty_five() {
    assert!(NETWORK.lines().count() <= 40);
    assert!(MINIMAL.lines().count() <= 25);
}

async fn transaction(namespace: &Namespace, key: &str) {
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", [key, "v"])).await.unwrap();
    let value = gateway.evaluate(Call::new("asset", "Get", [key])).await.unwrap();
    assert_eq!(value, "v");
}

/// The first steps of a new user: apply, wait, submit.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn one_apply_leads_to_a_network_that_takes_transactions() {
    let Fixture { namespace, .. } = Fixture::empty("apply").await.unwrap();
    let begun = Instant::now();
    namespace.kubectl_apply(NETWORK).unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    figures::print("apply to Ready", begun.elapsed().as_secs_f64(), "s", "at most 60 s");

    transaction(&namespace, "first").await;
    let (height, _) = namespace.settled(&PEERS, CHANNEL).await.unwrap();
    for orderer in 0..3 {
        let at = namespace.orderer_height(BASIC, orderer, CHANNEL).await.unwrap();
        assert_eq!(at, height, "orderer {orderer}");
    }
    status_tells_the_ledgers_facts(&namespace, height).await;
    every_kind_has_told_an_event(&namespace).await;
    columns_answer_the_daily_questions(&namespace);
}

async fn status_tells_the_ledgers_facts(namespace: &Namespace, height: u64) {
    let heights = async || {
        let status = namespace.get("Channel", CHANNEL).await?["status"].clone();
        let peers = status["peerHeights"].as_object().cloned().unwrap_or_default();
        let told = peers.len() == 4 && peers.values().all(|one| *one == height);
        Ok((told && status["height"] == height).then_some(status))
    };
    let status = namespace.until("the heights in the status", heights).await.unwrap();
    assert!(status["message"].as_str().is_some_and(|text| !text.is_empty()), "{status}");
    let network = namespace.get("LedgerNetwork", BASIC).await.unwrap()["status"].clone();
    assert_eq!(network["orderers"], "3/3");
    assert_eq!((&network["organizations"], &network["channels"]), (&2.into(), &1.into()));
    assert_eq!(network["leader"], namespace.leader(CHANNEL).await.unwrap().as_str());
    assert!(network["term"].as_u64().is_some_and(|term| term > 0), "{network}");
    assert!(network["soonestExpiry"].is_string(), "{network}");
}

async fn every_kind_has_told_an_event(namespace: &Namespace) {
    let events = namespace.list("Event").await.unwrap();
    for kind in KINDS {
        let of_kind = |event: &&Value| event["involvedObject"]["kind"] == kind;
        assert!(events.iter().any(|event| of_kind(&event)), "no event of a {kind}");
    }
}

fn columns_answer_the_daily_questions(namespace: &Namespace) {
    let table = tools::kubectl(&["-n", namespace.name(), "get", "ln"]).unwrap();
    let heading = table.lines().next().unwrap();
    for column in ["ORDERERS", "ORGANIZATIONS", "CHANNELS", "READY", "STATUS", "AGE"] {
        assert!(heading.contains(column), "{table}");
    }
    assert!(table.contains("3/3") && table.contains("True"), "{table}");
    let wide = tools::kubectl(&["-n", namespace.name(), "get", "ln", "-o", "wide"]).unwrap();
    assert!(wide.contains("LEADER") && wide.contains("EXPIRES"), "{wide}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_minimal_manifest_becomes_ready() {
    let Fixture { namespace, .. } = Fixture::empty("minimal").await.unwrap();
    namespace.kubectl_apply(MINIMAL).unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    assert!(namespace.tip("org1", 0, CHANNEL).await.unwrap().0 >= 1);
}

/// Applies one object after the other, with time for the operator to see each by itself.
async fn apply_slowly(namespace: &Namespace, objects: &[Value]) {
    for object in objects {
        namespace.apply_one(object).await.unwrap();
        sleep(Duration::from_millis(700)).await;
    }
}

/// Chaincode first, network last; in a second namespace at the same time any order, while the
/// operator is killed again and again. The two have all names in common.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn every_order_of_apply_works_in_two_namespaces_at_once() {
    let Fixture { operator, namespace: reversed } = Fixture::empty("reversed").await.unwrap();
    let shuffled = Namespace::new(reversed.cluster(), "shuffled").await.unwrap();
    let mut objects = documents(SMALL).unwrap();
    objects.reverse();
    apply_slowly(&reversed, &objects[..3]).await;
    // What is waited for has a name.
    let waits = reversed.wait_condition("Channel", CHANNEL, "Ready", "False", READY).await.unwrap();
    assert!(waits["message"].as_str().unwrap().contains("small"), "{waits}");
    apply_slowly(&reversed, &objects[3..]).await;

    let restless = operator.restless();
    shuffle(&mut objects);
    apply_slowly(&shuffled, &objects).await;
    shuffled.wait_all_ready(READY).await.unwrap();
    restless.rest().await.unwrap();
    reversed.wait_all_ready(READY).await.unwrap();

    for namespace in [&reversed, &shuffled] {
        transaction(namespace, namespace.name()).await;
    }
    let genesis = async |namespace: &Namespace| namespace.genesis_hash("org1", CHANNEL).await;
    assert_ne!(genesis(&reversed).await.unwrap(), genesis(&shuffled).await.unwrap());
    let other = reversed.gateway("org1", "user1", CHANNEL).await.unwrap();
    let key = shuffled.name();
    assert!(other.evaluate(Call::new("asset", "Get", [key])).await.is_err(), "ledgers are apart");

    // The end of one is nothing to the other.
    reversed.delete_whole().await.unwrap();
    transaction(&shuffled, "after").await;
}

fn shuffle(objects: &mut [Value]) {
    for last in (1..objects.len()).rev() {
        objects.swap(last, rand::random_range(0..=last));
    }
    let order: Vec<&str> = objects.iter().filter_map(|one| one["kind"].as_str()).collect();
    println!("order of apply: {order:?}");
}
