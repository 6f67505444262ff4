//! Taking a channel's blocks from the ordering service.
//!
//! One task a channel asks one orderer at a time for all blocks from the next one on, checks each
//! block before anybody else sees it ([`Progress::advance`]), and hands it to the commit pipeline. Orderers are
//! not trusted one by one: a block counts only with the signatures that the channel's policy
//! `/Channel/Orderer/BlockValidation` asks for, the right number, the right predecessor, data that
//! its header covers in one way only, and, where it holds a configuration, one that may follow the
//! present one. An orderer that sends anything else is left and not asked again for a while.
//!
//! Which orderers there are is up to the configuration *as of the last block received*, which can
//! be ahead of what is committed, so that new orderers are known as soon as their block is.
//!
//! # When an orderer is left for another
//!
//! - it cannot be reached, ends the stream or answers with a status;
//! - it sends a block that does not pass ([`Progress::advance`]);
//! - it is no longer in the configuration;
//! - it sends nothing for the stall timeout while another orderer shows a newer block with good
//!   signatures (`witness`).
//!
//! An orderer that failed waits for a time that doubles with every failure, with jitter; the others
//! are tried at once. A received block sets its orderer's count back.

mod client;
mod sources;
mod stream;
mod verify;
mod witness;

pub(crate) use client::Parts;
pub use client::{DeliverClient, DeliverClientConfig};
pub use sources::OrdererEndpoint;
pub use verify::{BlockRefused, ConfigVerdict, Progress, VerifiedBlock};
