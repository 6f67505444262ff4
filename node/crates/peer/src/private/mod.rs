//! Private data: values that only the members of a collection hold, while the chain has their
//! hashes (Fabric: core/ledger/pvtdatastorage, gossip/privdata).
//!
//! ```text
//! endorse ─▶ transient store ─▶ push to members ─▶ commit: from the transient store,
//!                                                  else pulled from members, else missing
//!                                                  ─▶ reconciled later
//! ```
//!
//! - [`collections`]: what a channel agreed on for a collection, and who is a member.
//! - [`exchange`]: what is asked of other peers, as traits; the membership carries it out.
//! - [`reconcile`]: what was missing at commit is looked for later.
//!
//! Values wait for their commit in [`crate::commit::private`]; what a block does with them is
//! worked out in [`crate::commit`] and [`weft_ledger::private`].

pub mod collections;
pub mod exchange;
pub mod reconcile;
pub(crate) mod recorded;

pub use collections::Collection;
pub use exchange::{Digest, Exchange, Found, Later, PushError, Wanted};
