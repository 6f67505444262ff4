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

pub mod collections;
pub mod exchange;

pub use collections::Collection;
pub use exchange::{Digest, Exchange, Found, Later, PushError, Wanted};
