//! From manifests to a running network.
//!
//! - [`api`]: the kinds that users write.

pub mod api;
