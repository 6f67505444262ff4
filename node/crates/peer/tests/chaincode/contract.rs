//! The contract that most tests run.

use std::time::Duration;

use weft_contract::{Bytes, Context, ContractError, Functions, Json, KeyPolicy, Role};

type Outcome<T> = Result<T, ContractError>;

pub fn contract() -> Functions {
    Functions::new()
        .on("Put", put)
        .on("Get", get)
        .on("GetMany", get_many)
        .on("Delete", delete)
        .on("List", list)
        .on("First", first)
        .on("Page", page)
        .on("WriteThenPage", write_then_page)
        .on("History", history)
        .on("Lock", lock)
        .on("Policy", policy)
        .on("PutPrivate", put_private)
        .on("GetPrivate", get_private)
        .on("GetPrivates", get_privates)
        .on("HashPrivate", hash_private)
        .on("DeletePrivate", delete_private)
        .on("PurgePrivate", purge_private)
        .on("ListPrivate", list_private)
        .on("LockPrivate", lock_private)
        .on("PrivatePolicy", private_policy)
        .on("Emit", emit)
        .on("Fail", fail)
        .on("Panic", panic)
        .on("Hang", hang)
        .on("Call", call)
        .on("CallOn", call_on)
        .on("Whoami", whoami)
        .on("Decoration", decoration)
        .on("IsInit", is_init)
        .on("Big", big)
}

async fn put(ctx: Context, key: String, value: Bytes) -> Outcome<()> {
    ctx.put_state(&key, value).await
}

async fn get(ctx: Context, key: String) -> Outcome<Bytes> {
    Ok(ctx.get_state(&key).await?.unwrap_or_else(|| Bytes::from_static(b"none")))
}

async fn get_many(ctx: Context, Json(keys): Json<Vec<String>>) -> Outcome<Json<Vec<bool>>> {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    Ok(Json(ctx.get_states(&keys).await?.iter().map(Option::is_some).collect()))
}

async fn delete(ctx: Context, key: String) -> Outcome<()> {
    ctx.delete_state(&key).await
}

async fn list(ctx: Context, start: String, end: String) -> Outcome<Json<Vec<String>>> {
    let entries = ctx.range(&start, &end).await?.collect().await?;
    Ok(Json(entries.into_iter().map(|entry| entry.key).collect()))
}

/// Reads one result of a long query and leaves the rest.
async fn first(ctx: Context, close: bool) -> Outcome<String> {
    let mut entries = ctx.range("", "").await?;
    let entry = entries.next().await?.ok_or("nothing there")?;
    if close {
        entries.close().await?;
    }
    Ok(entry.key)
}

async fn page(ctx: Context, size: u32, bookmark: String) -> Outcome<Json<(Vec<String>, String)>> {
    let page = ctx.range_page("", "", size, &bookmark).await?;
    Ok(Json((page.entries.into_iter().map(|entry| entry.key).collect(), page.bookmark)))
}

async fn write_then_page(ctx: Context) -> Outcome<()> {
    ctx.put_state("a", "1").await?;
    ctx.range_page("", "", 1, "").await.map(drop)
}

async fn history(ctx: Context, key: String) -> Outcome<Json<Vec<Option<String>>>> {
    let entries = ctx.history(&key).await?.collect().await?;
    let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
    Ok(Json(entries.into_iter().map(|entry| entry.value.map(text)).collect()))
}

async fn lock(ctx: Context, key: String, msp_id: String) -> Outcome<()> {
    ctx.set_key_policy(&key, &KeyPolicy::all_of([(msp_id.as_str(), Role::Peer)])).await
}

async fn policy(ctx: Context, key: String) -> Outcome<Bytes> {
    Ok(ctx.key_policy(&key).await?.unwrap_or_default())
}

async fn put_private(ctx: Context, collection: String, key: String, value: Bytes) -> Outcome<()> {
    ctx.put_private(&collection, &key, value).await
}

async fn get_private(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    let value = ctx.get_private(&collection, &key).await?;
    Ok(value.unwrap_or_else(|| Bytes::from_static(b"none")))
}

async fn get_privates(
    ctx: Context,
    collection: String,
    Json(keys): Json<Vec<String>>,
) -> Outcome<Json<Vec<Option<String>>>> {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
    let values = ctx.get_privates(&collection, &keys).await?;
    Ok(Json(values.into_iter().map(|value| value.map(text)).collect()))
}

async fn hash_private(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    Ok(ctx.get_private_hash(&collection, &key).await?.unwrap_or_default())
}

async fn delete_private(ctx: Context, collection: String, key: String) -> Outcome<()> {
    ctx.delete_private(&collection, &key).await
}

async fn purge_private(ctx: Context, collection: String, key: String) -> Outcome<()> {
    ctx.purge_private(&collection, &key).await
}

async fn list_private(
    ctx: Context,
    collection: String,
    start: String,
    end: String,
) -> Outcome<Json<Vec<String>>> {
    let entries = ctx.private_range(&collection, &start, &end).await?.collect().await?;
    Ok(Json(entries.into_iter().map(|entry| entry.key).collect()))
}

async fn lock_private(
    ctx: Context,
    collection: String,
    key: String,
    msp_id: String,
) -> Outcome<()> {
    let policy = KeyPolicy::all_of([(msp_id.as_str(), Role::Peer)]);
    ctx.set_private_key_policy(&collection, &key, &policy).await
}

async fn private_policy(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    Ok(ctx.private_key_policy(&collection, &key).await?.unwrap_or_default())
}

async fn emit(ctx: Context, name: String, payload: Bytes) -> Outcome<()> {
    ctx.set_event(&name, payload)
}

async fn fail(ctx: Context, status: i32, text: String) -> Outcome<()> {
    ctx.put_state("written", "before failing").await?;
    Err(ContractError::with_status(status, text))
}

async fn panic(_: Context) -> Outcome<()> {
    panic!("the sky falls")
}

async fn hang(ctx: Context) -> Outcome<()> {
    tokio::time::sleep(Duration::from_secs(3600)).await;
    ctx.put_state("never", "written").await
}

async fn call(ctx: Context, name: String, function: String, arg: String) -> Outcome<Bytes> {
    ctx.invoke_chaincode(&name, &function, &[&arg]).await
}

async fn call_on(
    ctx: Context,
    channel: String,
    name: String,
    args: Json<Vec<String>>,
) -> Outcome<String> {
    let args = args.0.into_iter().map(Bytes::from).collect();
    let response = ctx.invoke_chaincode_raw(&name, args, &channel).await?;
    let payload = String::from_utf8_lossy(&response.payload).into_owned();
    Ok(format!("{} {}{payload}", response.status, response.message))
}

async fn whoami(ctx: Context) -> Outcome<String> {
    let creator = ctx.creator()?;
    let secret = ctx.transient()?.get("secret").cloned().unwrap_or_default();
    let secret = String::from_utf8_lossy(&secret).into_owned();
    Ok(format!("{} {} {secret} {}", creator.msp_id(), ctx.timestamp()?, ctx.channel_id()))
}

async fn decoration(ctx: Context, name: String) -> Outcome<Bytes> {
    Ok(ctx.decorations().get(&name).cloned().unwrap_or_default())
}

async fn is_init(ctx: Context) -> Outcome<bool> {
    Ok(ctx.is_init())
}

async fn big(_: Context, size: usize) -> Outcome<Bytes> {
    Ok(vec![b'x'; size].into())
}
