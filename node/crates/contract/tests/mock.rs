//! The ledger in memory that contracts are tested on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use weft_contract::testing::MockLedger;
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
