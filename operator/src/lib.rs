//! From manifests to a running network.
//!
//! - [`api`]: the kinds that users write, and their CustomResourceDefinitions.
//! - [`manifest`]: a file of several documents, read into the kinds.
//! - [`model`]: what a manifest means once every rule holds.
//! - [`pki`], [`channel_config`]: certificates and channel configs that a network should have;
//!   pure, for a local run and a cluster alike.
//! - [`local`]: the plan carried out as processes on this machine.
//! - [`cluster`]: the plan carried out in a Kubernetes cluster.
//! - [`node_settings`]: settings files of nodes, overrides applied.
//! - [`cli`]: the `weft` command.
//! - [`mod@reference`]: the pages of `docs/` that are written from the types.

pub mod api;
pub mod channel_config;
pub mod cli;
pub mod cluster;
pub mod local;
pub mod manifest;
pub mod model;
pub mod node_settings;
pub mod pki;
pub mod reference;
mod words;
