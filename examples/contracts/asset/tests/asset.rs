//! The sample contract on a ledger in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use asset_contract::{Asset, CREATE_EVENT, Step, TRANSFER_EVENT};
use weft_contract::Bytes;
use weft_contract::testing::{MockCollection, MockLedger, Receipt};

fn ledger() -> MockLedger {
    MockLedger::new("asset", asset_contract::contract())
}

fn asset(id: &str, owner: &str) -> Asset {
    Asset {
        id: id.into(),
        color: "blue".into(),
        size: 5,
        owner: owner.into(),
        appraised_value: 300,
    }
}

async fn create(ledger: &MockLedger, id: &str, owner: &str) -> Receipt {
    ledger.submit("CreateAsset", &[id, "blue", "5", owner, "300"]).await.unwrap()
}

fn read<T: serde::de::DeserializeOwned>(receipt: &Receipt) -> T {
    weft_contract::from_json("the payload", &receipt.payload).unwrap()
}

async fn query<T: serde::de::DeserializeOwned>(
    ledger: &MockLedger,
    function: &str,
    args: &[&str],
) -> T {
    read(&ledger.evaluate(function, args).await.unwrap())
}

async fn refused(ledger: &MockLedger, function: &str, args: &[&str]) -> (i32, String) {
    let error = ledger.submit(function, args).await.unwrap_err();
    (error.status(), error.to_string())
}

#[tokio::test]
async fn an_assets_life() {
    let ledger = ledger();
    let created = create(&ledger, "a1", "ann").await;
    assert_eq!(
        created.text(),
        r#"{"ID":"a1","Color":"blue","Size":5,"Owner":"ann","AppraisedValue":300}"#
    );
    assert_eq!(created.event, Some((CREATE_EVENT.to_owned(), created.payload.clone())));
    assert_eq!(query::<Asset>(&ledger, "ReadAsset", &["a1"]).await, asset("a1", "ann"));
    assert_eq!(ledger.evaluate("AssetExists", &["a1"]).await.unwrap().text(), "true");

    let moved = ledger.submit("TransferAsset", &["a1", "bob"]).await.unwrap();
    assert_eq!(moved.text(), "ann");
    assert_eq!(moved.event.unwrap().0, TRANSFER_EVENT);
    let updated = ledger.submit("UpdateAsset", &["a1", "red", "6", "bob", "7"]).await.unwrap();
    assert_eq!(updated.event, None);
    assert_eq!(query::<Asset>(&ledger, "ReadAsset", &["a1"]).await.color, "red");

    ledger.submit("DeleteAsset", &["a1"]).await.unwrap();
    assert_eq!(ledger.evaluate("AssetExists", &["a1"]).await.unwrap().text(), "false");
    let steps: Vec<Step> = query(&ledger, "GetAssetHistory", &["a1"]).await;
    let owners: Vec<_> =
        steps.iter().map(|step| step.asset.as_ref().map(|a| a.owner.as_str())).collect();
    assert_eq!(owners, [None, Some("bob"), Some("bob"), Some("ann")]);
    assert_eq!(steps[3].timestamp, "2023-11-14T22:13:20Z");
    assert!(steps[0].is_delete && !steps[1].is_delete);
}

#[tokio::test]
async fn the_index_follows_the_owner() {
    let ledger = ledger();
    for (id, owner) in [("a2", "ann"), ("a1", "ann"), ("a3", "bob")] {
        create(&ledger, id, owner).await;
    }
    let of = async |owner: &str| {
        let assets: Vec<Asset> = query(&ledger, "GetAssetsByOwner", &[owner]).await;
        assets.into_iter().map(|asset| asset.id).collect::<Vec<_>>()
    };
    assert_eq!(of("ann").await, ["a1", "a2"]);
    ledger.submit("TransferAsset", &["a1", "bob"]).await.unwrap();
    assert_eq!(
        (of("ann").await, of("bob").await),
        (vec!["a2".into()], vec!["a1".into(), "a3".into()])
    );
    ledger.submit("DeleteAsset", &["a3"]).await.unwrap();
    assert_eq!(of("bob").await, ["a1"]);
    assert!(of("an").await.is_empty());
}

#[tokio::test]
async fn all_assets_are_assets_only() {
    let ledger = ledger();
    ledger.submit("InitLedger", &[]).await.unwrap();
    ledger.submit("Put", &["asset0", "not an asset"]).await.unwrap();
    let all: Vec<Asset> = query(&ledger, "GetAllAssets", &[]).await;
    let ids: Vec<_> = all.iter().map(|asset| asset.id.as_str()).collect();
    assert_eq!(ids, ["asset1", "asset2", "asset3", "asset4", "asset5", "asset6"]);
}

#[tokio::test]
async fn put_reads_nothing_and_get_finds_it() {
    let ledger = ledger();
    let receipt = ledger.submit("Put", &["k", "v"]).await.unwrap();
    assert_eq!(receipt.writes.len(), 1);
    assert_eq!(ledger.evaluate("Get", &["k"]).await.unwrap().text(), "v");
    assert_eq!(refused(&ledger, "Get", &["x"]).await, (404, "the key x does not exist".into()));
}

#[tokio::test]
async fn refusals_say_why() {
    let ledger = ledger();
    create(&ledger, "a1", "ann").await;
    let again = refused(&ledger, "CreateAsset", &["a1", "blue", "5", "ann", "300"]).await;
    assert_eq!(again, (409, "the asset a1 already exists".into()));
    for function in ["ReadAsset", "DeleteAsset"] {
        let missing = refused(&ledger, function, &["a9"]).await;
        assert_eq!(missing, (404, "the asset a9 does not exist".into()));
    }
    let size = refused(&ledger, "CreateAsset", &["a2", "blue", "big", "ann", "300"]).await;
    let expect = "argument 3 of CreateAsset: \"big\" is not a whole number in range";
    assert_eq!(size, (400, expect.into()));
    let count = refused(&ledger, "ReadAsset", &[]).await;
    assert_eq!(count, (400, "function ReadAsset takes 1 arguments, not 0".into()));
    let (status, text) = refused(&ledger, "Burn", &[]).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("function \"Burn\" does not exist; this contract has AssetExists, "));
    assert_eq!(refused(&ledger, "CreateAsset", &["", "b", "1", "o", "1"]).await.0, 400);
}

#[tokio::test]
async fn private_values_are_for_members_and_their_hashes_for_everybody() {
    let ledger = ledger();
    ledger.add_collection(MockCollection::new("deals", ["Org1MSP"]));
    let (status, message) = refused(&ledger, "PutPrivate", &["deals", "a"]).await;
    assert_eq!(status, 400, "{message}");
    let value = Bytes::from_static(b"42");
    ledger.set_transient([(asset_contract::PRIVATE_VALUE.to_owned(), value)].into());
    let receipt = ledger.submit("PutPrivate", &["deals", "a"]).await.unwrap();
    assert!(receipt.writes.is_empty() && receipt.payload.is_empty(), "{receipt:?}");
    let get = async |function: &str| ledger.evaluate(function, &["deals", "a"]).await;
    assert_eq!(get("GetPrivate").await.unwrap().text(), "42");
    // SHA-256 of "42".
    let hash = "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049";
    assert_eq!(get("GetPrivateHash").await.unwrap().text(), hash);
    ledger.set_peer("Org2MSP");
    get("GetPrivate").await.unwrap_err();
    assert_eq!(get("GetPrivateHash").await.unwrap().text(), hash);
    ledger.set_peer("Org1MSP");
    ledger.submit("DeletePrivate", &["deals", "a"]).await.unwrap();
    assert_eq!(get("GetPrivate").await.unwrap_err().status(), 404);
    ledger.submit("PutPrivate", &["deals", "a"]).await.unwrap();
    ledger.submit("PurgePrivate", &["deals", "a"]).await.unwrap();
    assert_eq!(get("GetPrivateHash").await.unwrap_err().status(), 404);
}
