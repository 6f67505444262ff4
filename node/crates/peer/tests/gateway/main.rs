//! The gateway, discovery and the membership: plans as tables, and the services over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../endorsing/world.rs"]
mod world;

mod analysis;
mod broadcast;
mod calls;
mod discovery;
mod events;
mod health;
mod hedge;
mod membership;
mod node;
mod plan;
mod principals;
mod private;
mod submit;
