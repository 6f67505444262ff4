//! The sample contract: assets with owners, an index by owner, history and events.
//!
//! An asset is JSON under its id. The index is a composite key `owner~id` for each asset, which
//! finds an owner's assets without reading the others. `Put` and `Get` are a plain pair of
//! functions for load: `Put` writes without reading, so such transactions never conflict.
//! `PutPrivate` and `GetPrivate` are the same for a collection of private data: the value comes as
//! transient data, so that it is in no transaction, and everybody else has its hash.

use serde::{Deserialize, Serialize};
use weft_contract::{Bytes, Context, Contract, ContractError, Functions, Json};

/// Type of the index's composite keys.
const OWNER_INDEX: &str = "owner~id";
/// Type of the composite keys of `Put`, which keeps them apart from assets.
const BLOB: &str = "blob";
/// Value of an index entry: what matters is the key, and a value must not be empty.
const ENTRY: &[u8] = &[0];
/// Name under which `PutPrivate` looks for its value among the transient data.
pub const PRIVATE_VALUE: &str = "value";

/// Name of the event of `CreateAsset`.
pub const CREATE_EVENT: &str = "CreateAsset";
/// Name of the event of `TransferAsset`.
pub const TRANSFER_EVENT: &str = "TransferAsset";

/// An asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Asset {
    /// Its id, which is its key.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its color.
    pub color: String,
    /// Its size.
    pub size: u32,
    /// Who owns it.
    pub owner: String,
    /// What it is worth.
    pub appraised_value: u64,
}

/// One step of an asset's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Step {
    /// The transaction that made it.
    pub tx_id: String,
    /// The transaction's time, RFC 3339.
    pub timestamp: String,
    /// Whether it deleted the asset.
    pub is_delete: bool,
    /// The asset after it.
    pub asset: Option<Asset>,
}

/// The contract: its functions by name.
#[must_use]
pub fn contract() -> impl Contract {
    Functions::new()
        .on("InitLedger", init_ledger)
        .on("CreateAsset", create_asset)
        .on("ReadAsset", read_asset)
        .on("UpdateAsset", update_asset)
        .on("TransferAsset", transfer_asset)
        .on("DeleteAsset", delete_asset)
        .on("AssetExists", asset_exists)
        .on("GetAllAssets", get_all_assets)
        .on("GetAssetsByOwner", get_assets_by_owner)
        .on("GetAssetHistory", get_asset_history)
        .on("Put", put)
        .on("Get", get)
        .on("PutPrivate", put_private)
        .on("GetPrivate", get_private)
        .on("GetPrivateHash", get_private_hash)
        .on("DeletePrivate", delete_private)
        .on("PurgePrivate", purge_private)
}

/// Writes the first assets.
async fn init_ledger(ctx: Context) -> Result<(), ContractError> {
    let assets = [
        ("asset1", "blue", 5, "Tomoko", 300),
        ("asset2", "red", 5, "Brad", 400),
        ("asset3", "green", 10, "Jin Soo", 500),
        ("asset4", "yellow", 10, "Max", 600),
        ("asset5", "black", 15, "Adriana", 700),
        ("asset6", "white", 15, "Michel", 800),
    ];
    for (id, color, size, owner, appraised_value) in assets {
        let (id, color, owner) = (id.to_owned(), color.to_owned(), owner.to_owned());
        store(&ctx, None, &Asset { id, color, size, owner, appraised_value }).await?;
    }
    Ok(())
}

/// Creates an asset, which must not exist.
async fn create_asset(
    ctx: Context,
    id: String,
    color: String,
    size: u32,
    owner: String,
    appraised_value: u64,
) -> Result<Json<Asset>, ContractError> {
    check_id(&id)?;
    if ctx.get_state(&id).await?.is_some() {
        return Err(ContractError::conflict(format!("the asset {id} already exists")));
    }
    let asset = Asset { id, color, size, owner, appraised_value };
    store(&ctx, None, &asset).await?;
    ctx.set_json_event(CREATE_EVENT, &asset)?;
    Ok(Json(asset))
}

/// Gives an asset.
async fn read_asset(ctx: Context, id: String) -> Result<Json<Asset>, ContractError> {
    load(&ctx, &id).await.map(Json)
}

/// Replaces an asset, which must exist.
async fn update_asset(
    ctx: Context,
    id: String,
    color: String,
    size: u32,
    owner: String,
    appraised_value: u64,
) -> Result<Json<Asset>, ContractError> {
    let old = load(&ctx, &id).await?;
    let asset = Asset { id, color, size, owner, appraised_value };
    store(&ctx, Some(&old), &asset).await?;
    Ok(Json(asset))
}

/// Gives an asset to another owner, and tells who had it.
async fn transfer_asset(
    ctx: Context,
    id: String,
    new_owner: String,
) -> Result<String, ContractError> {
    let old = load(&ctx, &id).await?;
    let asset = Asset { owner: new_owner, ..old.clone() };
    store(&ctx, Some(&old), &asset).await?;
    ctx.set_json_event(TRANSFER_EVENT, &asset)?;
    Ok(old.owner)
}

/// Deletes an asset, which must exist.
async fn delete_asset(ctx: Context, id: String) -> Result<(), ContractError> {
    let asset = load(&ctx, &id).await?;
    ctx.delete_state(&index_key(&asset)?).await?;
    ctx.delete_state(&id).await
}

/// Whether there is such an asset.
async fn asset_exists(ctx: Context, id: String) -> Result<bool, ContractError> {
    Ok(ctx.get_state(&id).await?.is_some())
}

/// Gives all assets, by id.
async fn get_all_assets(ctx: Context) -> Result<Json<Vec<Asset>>, ContractError> {
    let mut assets = Vec::new();
    let mut entries = ctx.range("", "").await?;
    while let Some(entry) = entries.next().await? {
        assets.push(parse(&entry.key, &entry.value)?);
    }
    Ok(Json(assets))
}

/// Gives an owner's assets, by id.
async fn get_assets_by_owner(
    ctx: Context,
    owner: String,
) -> Result<Json<Vec<Asset>>, ContractError> {
    let mut assets = Vec::new();
    let mut entries = ctx.partial_composite(OWNER_INDEX, &[&owner]).await?;
    while let Some(entry) = entries.next().await? {
        let (_, parts) = Context::split_composite_key(&entry.key)?;
        if let [_, id] = parts.as_slice() {
            assets.push(load(&ctx, id).await?);
        }
    }
    Ok(Json(assets))
}

/// Gives an asset's history, the newest step first.
async fn get_asset_history(ctx: Context, id: String) -> Result<Json<Vec<Step>>, ContractError> {
    let mut steps = Vec::new();
    let mut entries = ctx.history(&id).await?;
    while let Some(entry) = entries.next().await? {
        let asset = entry.value.as_ref().map(|value| parse(&id, value)).transpose()?;
        steps.push(Step {
            tx_id: entry.tx_id,
            timestamp: entry.timestamp.to_string(),
            is_delete: asset.is_none(),
            asset,
        });
    }
    Ok(Json(steps))
}

/// Writes a value without reading anything.
async fn put(ctx: Context, key: String, value: Bytes) -> Result<(), ContractError> {
    ctx.put_state(&Context::composite_key(BLOB, &[&key])?, value).await
}

/// Gives a value of [`put`].
async fn get(ctx: Context, key: String) -> Result<Bytes, ContractError> {
    let value = ctx.get_state(&Context::composite_key(BLOB, &[&key])?).await?;
    value.ok_or_else(|| ContractError::not_found(format!("the key {key} does not exist")))
}

/// Writes the transient data [`PRIVATE_VALUE`] to a collection.
async fn put_private(ctx: Context, collection: String, key: String) -> Result<(), ContractError> {
    let missing =
        || ContractError::invalid(format!("the transient data {PRIVATE_VALUE:?} is missing"));
    let value = ctx.transient()?.get(PRIVATE_VALUE).cloned().ok_or_else(missing)?;
    ctx.put_private(&collection, &key, value).await
}

/// Gives a value of [`put_private`], at a peer that has it.
async fn get_private(
    ctx: Context,
    collection: String,
    key: String,
) -> Result<Bytes, ContractError> {
    let value = ctx.get_private(&collection, &key).await?;
    value.ok_or_else(|| private_missing(&collection, &key))
}

/// Gives the SHA-256 of a value of [`put_private`], hexadecimal, at any peer.
async fn get_private_hash(
    ctx: Context,
    collection: String,
    key: String,
) -> Result<String, ContractError> {
    let hash = ctx.get_private_hash(&collection, &key).await?;
    let hash = hash.ok_or_else(|| private_missing(&collection, &key))?;
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Deletes a value of [`put_private`].
async fn delete_private(
    ctx: Context,
    collection: String,
    key: String,
) -> Result<(), ContractError> {
    ctx.delete_private(&collection, &key).await
}

/// Deletes a value of [`put_private`], and what it was before.
async fn purge_private(ctx: Context, collection: String, key: String) -> Result<(), ContractError> {
    ctx.purge_private(&collection, &key).await
}

fn private_missing(collection: &str, key: &str) -> ContractError {
    ContractError::not_found(format!("the key {key} does not exist in {collection}"))
}

fn check_id(id: &str) -> Result<(), ContractError> {
    if id.is_empty() || id.starts_with('\0') {
        return Err(ContractError::invalid("an asset's id must not be empty or begin with U+0000"));
    }
    Ok(())
}

async fn load(ctx: &Context, id: &str) -> Result<Asset, ContractError> {
    check_id(id)?;
    let value = ctx.get_state(id).await?;
    let missing = || ContractError::not_found(format!("the asset {id} does not exist"));
    parse(id, &value.ok_or_else(missing)?)
}

fn parse(id: &str, value: &Bytes) -> Result<Asset, ContractError> {
    weft_contract::from_json(&format!("the asset {id}"), value)
}

/// Writes an asset, and its index entry when the owner is new.
async fn store(ctx: &Context, old: Option<&Asset>, asset: &Asset) -> Result<(), ContractError> {
    ctx.put_json(&asset.id, asset).await?;
    match old {
        Some(old) if old.owner == asset.owner => return Ok(()),
        Some(old) => ctx.delete_state(&index_key(old)?).await?,
        None => {}
    }
    ctx.put_state(&index_key(asset)?, ENTRY).await
}

fn index_key(asset: &Asset) -> Result<String, ContractError> {
    Context::composite_key(OWNER_INDEX, &[&asset.owner, &asset.id])
}
