//! The plan carried out as processes on this machine: `weft up`.
//!
//! [`Runner`] takes a validated [`crate::model::Network`] from nothing to ready: certificates,
//! nodes, channels, chaincodes. Everything lives in one folder ([`layout`]); everything that
//! must stay the same from run to run is in its record ([`state`]).

pub mod access;
mod agreement;
mod chaincodes;
mod channels;
pub mod connection;
mod error;
pub mod files;
pub mod layout;
mod lock;
pub mod material;
pub mod nodes;
pub mod process;
pub mod progress;
mod runner;
pub mod state;
mod supervise;

pub use chaincodes::ChaincodeChanges;
pub use channels::ChannelChanges;
pub use error::LocalError;
pub use runner::{Runner, UpOptions, read_manifest};
pub use supervise::{down, supervise};
