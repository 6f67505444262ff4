//! Private data in a cluster: collections of a Chaincode, and values that only members have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use weft_client::Call;
use weft_e2e::cluster::Fixture;
use weft_e2e::cluster::fixture::{CHANNEL, NETWORK};

fn collection(name: &str) -> Value {
    json!({"name": name, "organizations": ["org1", "org2"]})
}

/// A collection of the first organization alone. It endorses alone as well: the contract's policy
/// asks for both, and a gateway hands transient data to nobody who may not have it.
fn own() -> Value {
    json!({
        "name": "own", "organizations": ["org1"], "memberOnlyRead": true,
        "endorsementPolicy": "OR('Org1MSP.peer')",
    })
}

/// The network of the first steps, with a collection of both organizations and one of the first.
fn manifest() -> String {
    format!("{}\n  collections: {}\n", NETWORK.trim_end(), json!([collection("deals"), own()]))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn values_are_read_at_the_other_members_peer_and_not_at_a_strangers() {
    let Fixture { namespace, .. } = Fixture::own("private", &manifest()).await.unwrap();
    let gateway = async |org: &str| namespace.gateway(org, "user1", CHANNEL).await.unwrap();
    let first = gateway("org1").await;
    for collection in ["deals", "own"] {
        let call = Call::new("asset", "PutPrivate", [collection, "k"]);
        first.submit(call.with_transient("value", "s3cret")).await.unwrap();
    }
    let peers = [("org1", 0), ("org1", 1), ("org2", 0), ("org2", 1)];
    namespace.settled(&peers, CHANNEL).await.unwrap();

    let second = gateway("org2").await;
    let get = |collection: &str| Call::new("asset", "GetPrivate", [collection, "k"]);
    let shared = async || Ok(second.evaluate(get("deals")).await.ok());
    let value = namespace.until("the value at the other member's peer", shared).await.unwrap();
    assert_eq!(value, "s3cret");
    let refused = second.evaluate(get("own")).await.unwrap_err().to_string();
    assert!(refused.contains("read access permission"), "{refused}");
    let hash = Call::new("asset", "GetPrivateHash", ["own", "k"]);
    assert_eq!(second.evaluate(hash).await.unwrap().len(), 64, "everybody has the hash");

    // One collection more is the next definition; one less is told, and nothing breaks.
    let sequence = async || {
        let chaincode = namespace.get("Chaincode", "asset").await?;
        Ok::<_, anyhow::Error>(chaincode["status"]["sequence"].as_i64())
    };
    let more = json!({"spec": {"collections": [collection("deals"), own(), collection("more")]}});
    namespace.patch("Chaincode", "asset", more).await.unwrap();
    let next = async || Ok((sequence().await? == Some(2)).then_some(()));
    namespace.until("the next definition", next).await.unwrap();
    let fewer = json!({"spec": {"collections": [collection("deals")]}});
    namespace.patch("Chaincode", "asset", fewer).await.unwrap();
    let told = async || {
        let chaincode = namespace.get("Chaincode", "asset").await?;
        let conditions = chaincode["status"]["conditions"].to_string();
        Ok((conditions.contains("cannot be removed")).then_some(()))
    };
    namespace.until("the condition that says why", told).await.unwrap();
    assert_eq!(sequence().await.unwrap(), Some(2));
    assert_eq!(first.evaluate(get("own")).await.unwrap(), "s3cret");
}
