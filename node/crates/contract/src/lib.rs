//! Contracts in Rust: what a contract's author programs against, and the contract's side of the
//! chaincode protocol, which works with peers of this project and of Hyperledger Fabric.
//!
//! ```no_run
//! use weft_contract::{Context, ContractError, Functions};
//!
//! async fn put(ctx: Context, key: String, value: String) -> Result<(), ContractError> {
//!     ctx.put_state(&key, value).await
//! }
//!
//! async fn get(ctx: Context, key: String) -> Result<String, ContractError> {
//!     let value = ctx.get_state(&key).await?.ok_or_else(|| {
//!         ContractError::not_found(format!("key {key} does not exist"))
//!     })?;
//!     Ok(String::from_utf8_lossy(&value).into_owned())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), weft_contract::RunError> {
//!     weft_contract::run(Functions::new().on("Put", put).on("Get", get)).await
//! }
//! ```
//!
//! A contract must be deterministic: endorsers run it apart from each other, and their results
//! must be equal byte by byte. So it reads no clock, no random numbers and no other system, and
//! takes time from [`Context::timestamp`].
//!
//! Reads show what is committed, never what the transaction itself has written.
//!
//! [`testing`] runs contracts in memory, without a peer.

#![deny(rustdoc::broken_intra_doc_links)]

mod args;
mod backend;
mod composite;
mod context;
mod creator;
mod error;
mod functions;
mod policy;
mod proposal;
mod query;
mod register;
mod run;
mod serve;
mod session;
pub mod testing;
mod timestamp;

use async_trait::async_trait;
pub use bytes::Bytes;

pub use args::{FromArgument, IntoPayload, Json, from_json, to_json};
pub use context::Context;
pub use creator::{Creator, CreatorError};
pub use error::ContractError;
pub use functions::{Functions, Handler};
pub use policy::{KeyPolicy, Role};
pub use query::{HistoryQuery, KeyValue, Modification, Page, Query, StateQuery};
pub use register::{ClientTls, RegisterOptions, register};
pub use run::{RunError, run};
pub use serve::{ServeOptions, ServerTls, serve};
pub use session::SessionLimits;
pub use timestamp::Timestamp;

/// A contract. [`Functions`] implements this over a table of functions, which is what most
/// contracts want; implement it directly to dispatch in another way.
#[async_trait]
pub trait Contract: Send + Sync + 'static {
    /// Runs one transaction. What it returns is the response's payload.
    ///
    /// A panic becomes an error of this transaction and touches no other.
    ///
    /// # Errors
    /// An error refuses the transaction: its writes are dropped and the client gets the text.
    async fn invoke(&self, ctx: Context) -> Result<Bytes, ContractError>;

    /// Runs the initialization that the contract's definition requires. Default: as any other
    /// transaction.
    ///
    /// # Errors
    /// As [`invoke`](Self::invoke).
    async fn init(&self, ctx: Context) -> Result<Bytes, ContractError> {
        self.invoke(ctx).await
    }
}

/// The programs in the guide, compiled and run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/contracts.md")]
struct Guide;
