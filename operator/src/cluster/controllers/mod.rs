//! The controllers, a folder a kind.

pub mod rollout;
pub mod scene;
pub mod stores;
pub mod triggers;
pub mod watch;
