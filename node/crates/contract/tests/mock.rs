//! The ledger in memory that contracts are tested on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use weft_contract::testing::{MockCollection, MockLedger};
use weft_contract::{Bytes, Context, ContractError, Functions, Json, KeyPolicy, Role};

type Outcome<T> = Result<T, ContractError>;

async fn add(ctx: Context, key: String, by: i64) -> Outcome<i64> {
    let value = ctx.get_json::<i64>(&key).await?.unwrap_or_default() + by;
    ctx.put_json(&key, &value).await?;
    // What a transaction writes, it does not see.
    let seen = ctx.get_json::<i64>(&key).await?.unwrap_or_default();
    assert_eq!(seen + by, value);
    Ok(value)
}

async fn add_and_fail(ctx: Context, key: String) -> Outcome<()> {
    ctx.put_json(&key, &1).await?;
    Err(ContractError::conflict("no"))
}

async fn add_there(ctx: Context, chaincode: String, key: String) -> Outcome<Bytes> {
    ctx.put_state("called", chaincode.clone()).await?;
    ctx.invoke_chaincode(&chaincode, "Add", &[&key, "5"]).await
}

async fn who(ctx: Context) -> Outcome<String> {
    let secret = ctx.transient()?.get("secret").is_some();
    Ok(format!("{} {} {secret}", ctx.creator()?.msp_id(), ctx.timestamp()?))
}

async fn pages(ctx: Context) -> Outcome<Json<Vec<Vec<String>>>> {
    let (mut pages, mut bookmark) = (Vec::new(), String::new());
    loop {
        let page = ctx.range_page("", "", 2, &bookmark).await?;
        pages.push(page.entries.into_iter().map(|entry| entry.key).collect());
        if page.bookmark.is_empty() {
            return Ok(Json(pages));
        }
        bookmark = page.bookmark;
    }
}

async fn page_then_write(ctx: Context) -> Outcome<()> {
    ctx.range_page("", "", 2, "").await?;
    ctx.put_state("x", "1").await
}

async fn lock(ctx: Context, key: String) -> Outcome<()> {
    ctx.set_key_policy(&key, &KeyPolicy::any_of(1, [("Org1MSP", Role::Member)])).await
}

async fn locked(ctx: Context, key: String) -> Outcome<bool> {
    Ok(ctx.key_policy(&key).await?.is_some())
}

fn counter() -> Functions {
    Functions::new()
        .on("Add", add)
        .on("AddAndFail", add_and_fail)
        .on("AddThere", add_there)
        .on("Who", who)
        .on("Pages", pages)
        .on("PageThenWrite", page_then_write)
        .on("Lock", lock)
        .on("Locked", locked)
}

#[tokio::test]
async fn what_is_submitted_counts_and_the_rest_does_not() {
    let ledger = MockLedger::new("counter", counter());
    assert_eq!(ledger.submit("Add", &["a", "2"]).await.unwrap().text(), "2");
    assert_eq!(ledger.evaluate("Add", &["a", "40"]).await.unwrap().text(), "42");
    assert_eq!(ledger.submit("AddAndFail", &["a"]).await.unwrap_err().status(), 409);
    assert_eq!(ledger.state("a").unwrap(), "2");
    ledger.set_state("a", "7");
    let receipt = ledger.submit("Add", &["a", "1"]).await.unwrap();
    assert_eq!(receipt.writes["a"].as_deref(), Some(&b"8"[..]));
}

#[tokio::test]
async fn calls_between_contracts_are_one_transaction() {
    let ledger = MockLedger::new("front", counter());
    ledger.add_contract("back", counter());
    let receipt = ledger.submit("AddThere", &["back", "a"]).await.unwrap();
    assert_eq!(receipt.text(), "5");
    assert_eq!(ledger.of("back").state("a").unwrap(), "5");
    assert_eq!(ledger.state("a"), None);
    assert_eq!(receipt.writes.keys().collect::<Vec<_>>(), ["called"]);
    let unknown = ledger.submit("AddThere", &["nobody", "a"]).await.unwrap_err();
    assert_eq!(unknown.to_string(), "chaincode nobody is not defined");
}

#[tokio::test]
async fn surroundings_can_be_set() {
    let ledger = MockLedger::new("counter", counter());
    assert_eq!(
        ledger.evaluate("Who", &[]).await.unwrap().text(),
        "Org1MSP 2023-11-14T22:13:20Z false"
    );
    ledger.set_creator("Org2MSP", "");
    ledger.set_time(0);
    ledger.set_transient([("secret".to_owned(), Bytes::from_static(b"s"))].into());
    assert_eq!(
        ledger.evaluate("Who", &[]).await.unwrap().text(),
        "Org2MSP 1970-01-01T00:00:00Z true"
    );
}

#[tokio::test]
async fn pages_and_writes() {
    let ledger = MockLedger::new("counter", counter());
    for key in ["a", "b", "c", "d", "e"] {
        ledger.set_state(key, "1");
    }
    let listed = ledger.evaluate("Pages", &[]).await.unwrap().text();
    assert_eq!(listed, r#"[["a","b"],["c","d"],["e"]]"#);
    let refused = ledger.submit("PageThenWrite", &[]).await.unwrap_err();
    assert_eq!(refused.to_string(), "a transaction that has read pages may not write");
}

#[tokio::test]
async fn policies_of_keys() {
    let ledger = MockLedger::new("counter", counter());
    ledger.set_state("a", "1");
    let locked = async || ledger.evaluate("Locked", &["a"]).await.unwrap().text();
    assert_eq!(locked().await, "false");
    ledger.submit("Lock", &["a"]).await.unwrap();
    assert_eq!(locked().await, "true");
}

#[tokio::test]
async fn keys_and_values_that_cannot_be() {
    async fn put(ctx: Context, key: String, value: String) -> Outcome<()> {
        ctx.put_state(&key, value).await
    }
    let ledger = MockLedger::new("cc", Functions::new().on("Put", put));
    let refused = ledger.submit("Put", &["", "1"]).await.unwrap_err();
    assert_eq!(refused.to_string(), "key \"\" is empty");
    let refused = ledger.submit("Put", &["a", ""]).await.unwrap_err();
    let expect = "the value of key \"a\" is empty, which cannot be told from a missing key";
    assert_eq!(refused.to_string(), expect);
}

async fn put_private(ctx: Context, collection: String, key: String, value: String) -> Outcome<()> {
    ctx.put_private(&collection, &key, value).await?;
    // What a transaction writes, it does not see.
    assert_eq!(ctx.get_private_hash(&collection, &key).await?, None);
    Ok(())
}

async fn get_private(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    Ok(ctx.get_private(&collection, &key).await?.unwrap_or_else(|| Bytes::from_static(b"none")))
}

async fn get_privates(ctx: Context, collection: String) -> Outcome<Json<Vec<bool>>> {
    let values = ctx.get_privates(&collection, &["a", "b"]).await?;
    Ok(Json(values.iter().map(Option::is_some).collect()))
}

async fn hash(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    Ok(ctx.get_private_hash(&collection, &key).await?.unwrap_or_default())
}

async fn drop_private(ctx: Context, collection: String, key: String, purge: bool) -> Outcome<()> {
    match purge {
        true => ctx.purge_private(&collection, &key).await,
        false => ctx.delete_private(&collection, &key).await,
    }
}

async fn list_private(ctx: Context, collection: String) -> Outcome<Json<Vec<String>>> {
    let entries = ctx.private_range(&collection, "", "").await?.collect().await?;
    Ok(Json(entries.into_iter().map(|entry| entry.key).collect()))
}

async fn index_private(ctx: Context, collection: String) -> Outcome<()> {
    for part in ["x", "y"] {
        let key = Context::composite_key("index", &["a", part])?;
        ctx.put_private_json(&collection, &key, &1).await?;
    }
    Ok(())
}

async fn indexed_private(ctx: Context, collection: String) -> Outcome<Json<Vec<u32>>> {
    let entries = ctx.private_partial_composite(&collection, "index", &["a"]).await?;
    let mut values = Vec::new();
    for entry in entries.collect().await? {
        values.extend(ctx.get_private_json::<u32>(&collection, &entry.key).await?);
    }
    Ok(Json(values))
}

async fn list_then_write(ctx: Context, collection: String) -> Outcome<()> {
    ctx.private_range(&collection, "", "").await?;
    ctx.put_state("x", "1").await
}

async fn write_then_list(ctx: Context, collection: String) -> Outcome<()> {
    ctx.put_state("x", "1").await?;
    ctx.private_range(&collection, "", "").await.map(drop)
}

async fn lock_private(ctx: Context, collection: String, key: String) -> Outcome<()> {
    let policy = KeyPolicy::any_of(1, [("Org1MSP", Role::Member)]);
    ctx.set_private_key_policy(&collection, &key, &policy).await
}

async fn private_locked(ctx: Context, collection: String, key: String) -> Outcome<bool> {
    Ok(ctx.private_key_policy(&collection, &key).await?.is_some())
}

async fn call(ctx: Context, chaincode: String, function: String, key: String) -> Outcome<Bytes> {
    ctx.invoke_chaincode(&chaincode, &function, &["secrets", &key]).await
}

fn keeper() -> Functions {
    Functions::new()
        .on("Put", put_private)
        .on("Get", get_private)
        .on("GetMany", get_privates)
        .on("Hash", hash)
        .on("Drop", drop_private)
        .on("List", list_private)
        .on("Index", index_private)
        .on("Indexed", indexed_private)
        .on("ListThenWrite", list_then_write)
        .on("WriteThenList", write_then_list)
        .on("Lock", lock_private)
        .on("Locked", private_locked)
        .on("Call", call)
}

/// A contract with a collection of `Org1MSP`.
fn secrets() -> MockLedger {
    let ledger = MockLedger::new("keeper", keeper());
    ledger.add_collection(MockCollection::new("secrets", ["Org1MSP"]));
    ledger
}

#[tokio::test]
async fn private_values_lie_in_their_collection() {
    let ledger = secrets();
    ledger.add_collection(MockCollection::new("more", ["Org1MSP"]));
    let receipt = ledger.submit("Put", &["secrets", "a", "1"]).await.unwrap();
    assert!(receipt.writes.is_empty());
    let name = ("secrets".to_owned(), "a".to_owned());
    assert_eq!(receipt.private_writes, [(name, Some(Bytes::from_static(b"1")))].into());
    assert_eq!(ledger.private("secrets", "a").unwrap(), "1");
    assert_eq!((ledger.private("more", "a"), ledger.state("a")), (None, None));
    assert_eq!(ledger.evaluate("Get", &["secrets", "a"]).await.unwrap().text(), "1");
    assert_eq!(ledger.evaluate("Get", &["more", "a"]).await.unwrap().text(), "none");
    ledger.set_private("secrets", "b", "2");
    assert_eq!(ledger.evaluate("GetMany", &["secrets"]).await.unwrap().text(), "[true,true]");
    for (key, purge) in [("a", "true"), ("b", "false")] {
        ledger.submit("Drop", &["secrets", key, purge]).await.unwrap();
        assert_eq!(ledger.private("secrets", key), None);
    }
}

#[tokio::test]
async fn hashes_of_private_values_are_for_everybody() {
    let ledger = MockLedger::new("keeper", keeper());
    ledger.add_collection(MockCollection::new("secrets", ["Org2MSP"]).member_only_read());
    ledger.set_private("secrets", "a", "abc");
    let hash = ledger.evaluate("Hash", &["secrets", "a"]).await.unwrap().payload;
    // The example of FIPS 180-4.
    let expect = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];
    assert_eq!((&hash[..8], hash.len()), (&expect[..], 32));
    assert_eq!(ledger.evaluate("Hash", &["secrets", "b"]).await.unwrap().text(), "");
}

#[tokio::test]
async fn members_only() {
    let ledger = MockLedger::new("keeper", keeper());
    let secrets = MockCollection::new("secrets", ["Org1MSP", "Org3MSP"]);
    ledger.add_collection(secrets.clone().member_only_read().member_only_write());
    ledger.submit("Put", &["secrets", "a", "1"]).await.unwrap();
    ledger.set_creator("Org2MSP", "");
    let refused = |what: &str| {
        format!(
            "tx creator does not have {what} access permission on privatedata in \
             chaincodeName:keeper collectionName: secrets"
        )
    };
    for (function, args, what) in [
        ("Get", &["secrets", "a"][..], "read"),
        ("List", &["secrets"], "read"),
        ("Locked", &["secrets", "a"], "read"),
        ("Put", &["secrets", "b", "1"], "write"),
        ("Drop", &["secrets", "a", "true"], "write"),
        ("Lock", &["secrets", "a"], "write"),
    ] {
        let error = ledger.submit(function, args).await.unwrap_err().to_string();
        assert_eq!(error, refused(what), "{function}");
    }
    ledger.set_creator("Org3MSP", "");
    assert_eq!(ledger.evaluate("Get", &["secrets", "a"]).await.unwrap().text(), "1");
    ledger.add_collection(secrets);
    ledger.set_creator("Org2MSP", "");
    ledger.submit("Put", &["secrets", "b", "1"]).await.unwrap();
    assert_eq!(ledger.evaluate("Get", &["secrets", "a"]).await.unwrap().text(), "1");
}

#[tokio::test]
async fn peers_of_others_have_no_values() {
    let ledger = secrets();
    ledger.set_private("secrets", "a", "1");
    ledger.set_peer("Org2MSP");
    let error = ledger.evaluate("Get", &["secrets", "a"]).await.unwrap_err().to_string();
    assert_eq!(error, "private data matching public hash version is not available");
    assert_eq!(ledger.evaluate("Get", &["secrets", "b"]).await.unwrap().text(), "none");
    let error = ledger.evaluate("List", &["secrets"]).await.unwrap_err().to_string();
    assert!(error.starts_with("private data is not available"), "{error}");
    ledger.submit("Put", &["secrets", "c", "1"]).await.unwrap();
    assert_eq!(ledger.private("secrets", "c").unwrap(), "1");
}

#[tokio::test]
async fn ranges_of_private_keys() {
    let ledger = secrets();
    assert_eq!(ledger.evaluate("List", &["secrets"]).await.unwrap().text(), "[]");
    ledger.set_state("z", "public");
    ledger.set_private("secrets", "a", "1");
    ledger.set_private("secrets", "b", "2");
    ledger.set_private("secretz", "c", "3");
    assert_eq!(ledger.evaluate("List", &["secrets"]).await.unwrap().text(), r#"["a","b"]"#);
    ledger.submit("Index", &["secrets"]).await.unwrap();
    assert_eq!(ledger.evaluate("Indexed", &["secrets"]).await.unwrap().text(), "[1,1]");
    assert_eq!(ledger.evaluate("List", &["secrets"]).await.unwrap().text(), r#"["a","b"]"#);
    let error = ledger.submit("ListThenWrite", &["secrets"]).await.unwrap_err().to_string();
    assert_eq!(error, "a transaction that has read ranges of private keys may not write");
    let error = ledger.submit("WriteThenList", &["secrets"]).await.unwrap_err().to_string();
    assert_eq!(error, "a transaction that has written may not read ranges of private keys");
}

#[tokio::test]
async fn policies_of_private_keys() {
    let ledger = secrets();
    ledger.set_private("secrets", "a", "1");
    let locked = async || ledger.evaluate("Locked", &["secrets", "a"]).await.unwrap().text();
    assert_eq!(locked().await, "false");
    ledger.submit("Lock", &["secrets", "a"]).await.unwrap();
    assert_eq!(locked().await, "true");
}

#[tokio::test]
async fn collections_belong_to_their_contract() {
    let ledger = secrets();
    ledger.add_contract("other", keeper());
    ledger.set_private("secrets", "a", "1");
    let unknown = ledger.of("other").evaluate("Get", &["secrets", "a"]).await.unwrap_err();
    assert_eq!(unknown.to_string(), "collection mockchannel/other/secrets could not be found");
    let called = ledger.of("other").evaluate("Call", &["keeper", "Get", "a"]).await.unwrap();
    assert_eq!(called.text(), "1");
    let nameless = ledger.evaluate("Get", &["", "a"]).await.unwrap_err();
    assert_eq!(nameless.to_string(), "the collection's name is empty");
}

#[tokio::test]
async fn organizations_have_collections_of_their_own() {
    let ledger = MockLedger::new("keeper", keeper());
    let own = Context::implicit_collection("Org1MSP");
    assert_eq!(own, "_implicit_org_Org1MSP");
    ledger.submit("Put", &[&own, "a", "1"]).await.unwrap();
    assert_eq!(ledger.evaluate("Get", &[&own, "a"]).await.unwrap().text(), "1");
    ledger.set_peer("Org2MSP");
    ledger.evaluate("Get", &[&own, "a"]).await.unwrap_err();
    ledger.evaluate("Get", &["_implicit_org_", "a"]).await.unwrap_err();
}

#[tokio::test]
async fn initialization_has_no_private_data() {
    let ledger = secrets();
    for args in [&["secrets", "a"][..], &["secrets", "a", "1"]] {
        let function = if args.len() == 2 { "Get" } else { "Put" };
        let error = ledger.init(function, args).await.unwrap_err().to_string();
        assert_eq!(error, "private data APIs are not allowed in chaincode Init()");
    }
}
