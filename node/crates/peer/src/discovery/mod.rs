//! Discovery: what clients ask to find out whom to talk to (Fabric: discovery).
//!
//! [`principals`] and [`analysis`] work out, from policies and peers alone, who can endorse a call;
//! [`endorsers`] does so for a channel of this peer, for the gateway too; [`Discovery`] is the
//! service with the queries for configuration, peers and endorsers.
//!
//! # Where this differs from Fabric
//!
//! - A call that disregards a chaincode's policy is judged by its collections' own policies and its
//!   key policies, all of them; Fabric leaves the first collection's out.
//! - A client that shows no TLS certificate may ask, with an empty hash of it.

pub mod analysis;
mod answers;
mod auth;
pub mod endorsers;
pub mod principals;
mod service;

pub use service::{Discovery, Options};
