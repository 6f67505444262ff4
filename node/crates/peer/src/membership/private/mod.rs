//! Private data between peers: what [`Exchange`] asks, carried out over gossip streams, and the
//! answers of this peer (Fabric: gossip/privdata, gossip/state).
//!
//! - `link`: the streams to other peers that are kept for this;
//! - `push`: values of a fresh endorsement, on their way to members;
//! - `plan`, `pull`: values that are missing here, asked for;
//! - `answer`: what other peers push and ask, judged and answered.
//!
//! # On the wire
//!
//! | Question | Answer |
//! | --- | --- |
//! | `PrivateDataMessage`: one transaction's writes in one collection | `Acknowledgement` |
//! | `RemotePvtDataRequest`: digests of what is missing | `RemotePvtDataResponse` |
//!
//! An answer has its question's nonce. Every peer that is asked something has up to two streams
//! from here beside the membership's own, one for each kind of question, so that large answers
//! hold up no acknowledgements. Many questions can be under way on one stream; they are answered
//! one after the other.
//!
//! # Who gets what
//!
//! Values go to peers of a collection's members only, and only after both ends of the stream have
//! proved who they are on its own connection (see [`Bound`](super::bound::Bound)), under the MSPs of
//! the channel that the values are of. Whether that organization is a
//! member is looked up for every message, and that the identity still holds is checked again too,
//! as streams can be older than a revocation.
//!
//! # Where this differs from Fabric
//!
//! - Digests and values travel on streams of their own, not on the one of the membership.
//! - What is larger than `privateData.maxBytes` is not passed on: an endorsement with it fails
//!   where the collection has other members' peers.
//! - `_lifecycle`'s implicit collections are not pushed; other peers of the organization pull them.
//! - A peer answers with values from its transient store even when its own organization is not a
//!   member: it has them as an endorser, and the asking peer may have them.

mod answer;
mod link;
mod plan;
mod pull;
mod push;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use weft_protos::gossip::GossipMessage;
use weft_protos::gossip::gossip_message::Content;

use super::Membership;
use crate::channel::Channel;
use crate::private::exchange::{Exchange, Found, Push, PushError, Wanted};
use link::Links;

/// Questions of other peers that are worked on at one time.
const ANSWERED_AT_ONCE: usize = 32;
/// Pushes that may go on after their endorsement was signed, at one time.
const UNATTENDED: usize = 256;

/// What exchanges need beside the membership.
pub(super) struct Private {
    links: Links,
    answering: Arc<Semaphore>,
    /// Held from the look at what there is of a transaction until there is more of it.
    keeping: Mutex<()>,
    unattended: Arc<Semaphore>,
}

impl Private {
    pub(super) fn new() -> Self {
        Self {
            links: Links::default(),
            answering: Arc::new(Semaphore::new(ANSWERED_AT_ONCE)),
            keeping: Mutex::new(()),
            unattended: Arc::new(Semaphore::new(UNATTENDED)),
        }
    }

    /// Closes streams that nobody used for `idle`: before the other side does, which waits for
    /// twice a peer's expiry.
    pub(super) fn sweep(&self, idle: Duration) {
        self.links.sweep(idle);
    }
}

#[async_trait]
impl Exchange for Membership {
    async fn push(&self, channel: &Channel, push: Push) -> Result<(), PushError> {
        self.push_private(channel, push).await
    }

    async fn pull(&self, channel: &Channel, wanted: Vec<Wanted>) -> Vec<Found> {
        self.pull_private(channel, wanted).await
    }
}

/// Whether a message is about private data and has to be answered by
/// [`Membership::answer_private`].
pub(super) fn is_question(message: &GossipMessage) -> bool {
    matches!(message.content, Some(Content::PrivateData(_) | Content::PrivateReq(_)))
}

/// A number that nobody can guess; 0 where the system gives no randomness, which only makes
/// choices worse.
fn random() -> u64 {
    weft_crypto::random_bytes().map_or(0, u64::from_le_bytes)
}
