//! The channel configuration: what it says, how it begins and how it may change.
//!
//! A channel's configuration is a tree of groups, values and policies ([`weft_protos::common::Config`])
//! that stands in config blocks. This crate owns
//! - [`Bundle`]: that tree, parsed and validated once, with the MSPs and policies it defines;
//! - [`update`]: changes of it, computed, signed, authorised and applied;
//! - [`transition`]: what may follow what, above all for the set of consenters;
//! - [`genesis`]: the first configuration and the block that carries it;
//! - [`edit`]: the daily changes (an organization, a consenter, a batch size) on a copy of the tree;
//! - [`block`]: config blocks, and the orderers' signatures on any block;
//! - [`inspect`]: the tree as JSON or YAML for people.
//!
//! Nothing here reads a clock, a file or a socket; times are passed in. The rules are those of Fabric
//! (`common/channelconfig`, `common/configtx`, `orderer/common/msgprocessor/maintenancefilter.go`,
//! `orderer/consensus/etcdraft/membership.go`); where this crate differs, the item says so.

#![deny(rustdoc::broken_intra_doc_links)]

pub mod application;
pub mod block;
pub mod bundle;
pub mod capabilities;
pub mod consensus;
pub mod duration;
pub mod edit;
pub mod endpoint;
pub mod genesis;
pub mod inspect;
pub mod keys;
pub mod orderer;
pub mod org;
pub mod transition;
pub mod update;
mod value;

pub use application::{AnchorPeer, ApplicationConfig, ApplicationOrg};
pub use bundle::{Bundle, ConfigError};
pub use capabilities::{Capabilities, CapabilityError};
pub use consensus::{BftConsenter, BftOptions, Consensus, RaftConfig, RaftConsenter, RaftOptions};
pub use endpoint::Endpoint;
pub use orderer::{BatchSize, ConsensusState, OrdererConfig, OrdererOrg};
pub use org::Organization;
