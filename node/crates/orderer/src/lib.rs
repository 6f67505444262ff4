//! The orderer: envelopes in, blocks out.
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`blockcutter`] | pure: when a block is full |
//! | [`msgprocessor`] | pure: which envelopes are let in, and what a config update becomes |
//! | [`blockwriter`] | pure: the block of an ordered entry, signed |
//! | [`membership`] | pure: the consenters of a channel and their ids |
//! | [`store`] | what of a channel is stored |
//! | [`chain`] | one channel: a core that decides, and an actor that carries out |
//! | [`answer`] | what becomes of an envelope, at once or later |
//! | [`cluster`] | streams between orderers, both sides |
//! | [`replication`] | blocks from other orderers, verified |
//! | [`registrar`] | many channels: join, open, reopen, remove, as `weft_channels` decides |
//! | [`broadcast`], [`deliver`], [`participation`] | the services |
//! | [`node`] | all of it on sockets |
//! | `sim` | for tests: a simulated network of orderers with faults |
//!
//! Deviations from Fabric: a block is formed when its entry is delivered by the engine, not when
//! it is proposed (see `weft_consensus`); a batch is cut at once while nothing is in flight, so
//! that BatchTimeout is a ceiling (`batching.cutWhenIdle`); a follower streams blocks instead of
//! polling for them; whether a config update keeps a quorum is asked of the leader, which alone
//! knows who is alive.

pub mod answer;
pub mod blockcutter;
pub mod blockwriter;
pub mod broadcast;
pub mod chain;
pub mod cluster;
pub mod deliver;
pub mod membership;
pub mod metrics;
pub mod msgprocessor;
pub mod node;
pub mod participation;
pub mod registrar;
pub mod replication;
#[cfg(test)]
mod sim;
pub mod store;

pub use node::{Orderer, OrdererHandle, OrdererParts, StartError};
