//! An envelope on its way to the leader, while its client waits for the answer.
//!
//! A leader that hangs answers nothing, and is given up by the consenters long before a call to it
//! has timed out. So a forwarded envelope follows the leadership: when another node leads before the
//! first one has answered, it is handed to that one. The first may have ordered it, too; of two
//! copies one is valid, as a transaction id is used once (Fabric: DUPLICATE_TXID). SUCCESS is the word
//! of the node that has it in its queue. A configuration is not handed on: where the first leader has
//! ordered it, the next one refuses it, and its sender would take that for the outcome.

use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::time::timeout;
use weft_consensus::NodeId;
use weft_protos::common::{Envelope, Status};
use weft_protos::orderer::{SubmitRequest, SubmitResponse};

use super::{Channel, ChannelStatus, lost, unavailable};
use crate::answer::{Outcome, Pending};
use crate::cluster::Submitted;

const IN_DOUBT: &str = "the leader changed before it answered; see whether the update is in force";

/// An envelope that a leader has not answered. Holds no channel, so that one that ends does not wait
/// for its clients.
struct Forwarded {
    channel: Weak<Channel>,
    status: watch::Receiver<ChannelStatus>,
    envelope: Envelope,
    sequence: u64,
    config: bool,
}

/// What happened first.
enum First {
    Answer(Outcome),
    /// Another node leads; `None` where it is this one.
    Leader(Option<NodeId>),
    Closed,
}

impl Channel {
    /// Hands an envelope to the leader, and to the next one where that changes before the answer.
    pub(super) fn forward(
        self: &Arc<Self>,
        envelope: Envelope,
        sequence: u64,
        config: bool,
        leader: NodeId,
    ) -> Pending<Outcome> {
        let Some(answer) = self.hand_to(leader, &envelope, sequence) else {
            return unavailable("the leader cannot be reached");
        };
        let (channel, status) = (Arc::downgrade(self), self.watch_status());
        let forwarded = Forwarded { channel, status, envelope, sequence, config };
        let limit = self.context.settings.cluster.rpc_timeout;
        Pending::Later(Box::pin(async move {
            let answered = timeout(limit, forwarded.follow(leader, answer)).await;
            answered.unwrap_or_else(|_| lost("the leader did not answer in time"))
        }))
    }

    fn hand_to(&self, leader: NodeId, envelope: &Envelope, sequence: u64) -> Option<Submitted> {
        let request = SubmitRequest {
            channel: self.id.as_str().to_owned(),
            last_validation_seq: sequence,
            payload: Some(envelope.clone()),
        };
        self.links.load().submit(leader, request)
    }
}

impl Forwarded {
    async fn follow(mut self, mut leader: NodeId, mut answer: Submitted) -> Outcome {
        loop {
            let first = tokio::select! {
                biased;
                answer = &mut answer => First::Answer(outcome(answer.ok())),
                first = next_leader(&mut self.status, leader) => first,
            };
            let next = match first {
                First::Answer(outcome) => return outcome,
                First::Closed => return lost("the channel has stopped"),
                First::Leader(_) if self.config => return lost(IN_DOUBT),
                First::Leader(None) => return self.enqueue().get().await,
                First::Leader(Some(next)) => next,
            };
            let Some(again) = self.hand_to(next) else {
                return lost("the new leader cannot be reached");
            };
            (leader, answer) = (next, again);
        }
    }

    fn enqueue(&self) -> Pending<Outcome> {
        match self.channel.upgrade() {
            Some(channel) => channel.enqueue(&self.envelope, self.config, self.sequence),
            None => unavailable("the channel has stopped"),
        }
    }

    fn hand_to(&self, leader: NodeId) -> Option<Submitted> {
        self.channel.upgrade()?.hand_to(leader, &self.envelope, self.sequence)
    }
}

fn outcome(answer: Option<SubmitResponse>) -> Outcome {
    let Some(answer) = answer else { return lost("the connection to the leader was lost") };
    (Status::try_from(answer.status).unwrap_or(Status::Unknown), answer.info)
}

/// Waits until another node than this leads and takes envelopes, as far as is known here.
async fn next_leader(status: &mut watch::Receiver<ChannelStatus>, than: NodeId) -> First {
    let other = |status: &ChannelStatus| match status.leader {
        _ if status.failure.is_some() => Some(First::Closed),
        _ if status.leading => Some(First::Leader(None)),
        Some(leader) if leader != than && Some(leader) != status.node => {
            Some(First::Leader(Some(leader)))
        }
        _ => None,
    };
    let changed = status.wait_for(|status| other(status).is_some()).await;
    changed.ok().and_then(|status| other(&status)).unwrap_or(First::Closed)
}
