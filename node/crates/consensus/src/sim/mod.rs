//! A simulated cluster: engines, disks and a network in one thread under virtual time.
//!
//! Everything random comes from one seed, so a failing run is replayed by its seed. What is
//! simulated: messages that are delayed, lost, repeated, reordered, and links cut in one or both
//! directions; messages that arrive after their sender restarted; disks that take time to sync and lose what was not synced; processes that crash,
//! restart, and stall, also right after a promise and all at once; disks that are wiped; membership that grows and shrinks; blocks fetched
//! from other nodes.
//!
//! Checked all the while ([`Violation`]):
//!
//! * **I1** a delivered entry is never lost: every member ends with every entry that any node
//!   ever delivered.
//! * **I2** the same entry has the same index and number everywhere; numbers have no gap; what is
//!   delivered was proposed, and once; a block has the membership after its entry.
//! * **I3** an entry is delivered at most once a node (beyond what its disk lost).
//! * **I4** no engine panics or declares itself broken, and no honest message is refused.
//! * **I5** once all faults are healed, new entries are delivered within a bound.
//!
//! And by what nodes promise in the messages that they send ([`Promise`]):
//!
//! * **I6** a node votes for one candidate in a term, also across restarts.
//! * **I7** at most one node leads in a term.
//! * **I8** a promise is kept: a node promises nothing in a term before that of its last promise,
//!   and restarts with the term of it and with the log that it acknowledged.
//! * **I9** a leader that takes proposals has every block that was decided before its term.

mod chaos;
mod disk;
pub mod net;
mod record;
mod witness;
mod world;

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::MessageType;

pub use chaos::{Chaos, Failure, Report, explore};
pub use net::Network;
pub use record::Violation;
pub use witness::{Promise, Reader, no_promises};
pub use world::{Counts, Trap, World, WorldOptions};

use crate::engine::{Applied, Engine, Millis, NodeId};
use crate::membership::Membership;
use crate::raft::{Options, RaftEngine, Start, guard};
pub use crate::rng::Rng;

/// What an engine is made from.
#[derive(Debug)]
pub struct Spec {
    /// The node.
    pub node: NodeId,
    /// What its ledger holds.
    pub applied: Applied,
    /// What its engine persisted.
    pub records: Vec<(Bytes, Bytes)>,
    /// What it means if that is nothing.
    pub start: Start,
    /// For what the engine draws at random.
    pub seed: u64,
    /// The time.
    pub now: Millis,
}

/// Makes engines: the subject of a simulation.
pub type Make = Arc<dyn Fn(Spec) -> Result<Box<dyn Engine>, String>>;

/// Makes Raft engines with these options.
#[must_use]
pub fn raft(options: Options) -> Make {
    Arc::new(move |spec| {
        restore_raft(&options, spec).map(|engine| Box::new(engine) as Box<dyn Engine>)
    })
}

/// One Raft engine of a simulation, for wrapping.
///
/// # Errors
/// The text of the [`RestoreError`](crate::raft::RestoreError).
pub fn restore_raft(options: &Options, spec: Spec) -> Result<RaftEngine, String> {
    let options = Options { seed: spec.seed, ..options.clone() };
    let Spec { node, applied, records, start, now, .. } = spec;
    RaftEngine::restore(node, options, applied, records, start, now).map_err(|e| e.to_string())
}

/// What a message of the Raft engine promises.
#[must_use]
pub fn raft_promises(from: NodeId, to: NodeId, message: &Bytes) -> Option<Promise> {
    let message = guard::decode(message, usize::MAX).ok()?;
    let term = message.term;
    match MessageType::from_i32(message.msg_type)? {
        MessageType::MsgRequestVote => Some(Promise::Vote { term, candidate: from }),
        MessageType::MsgRequestVoteResponse if !message.reject => {
            Some(Promise::Vote { term, candidate: to })
        }
        MessageType::MsgAppend
        | MessageType::MsgHeartbeat
        | MessageType::MsgSnapshot
        | MessageType::MsgTimeoutNow => Some(Promise::Lead { term }),
        MessageType::MsgAppendResponse if !message.reject => {
            Some(Promise::Hold { term, index: message.index })
        }
        _ => None,
    }
}

/// The consenter key of a simulated node.
pub(crate) fn consenter(node: NodeId) -> Bytes {
    Bytes::from(format!("consenter-{node}"))
}

/// The consenter keys of a membership without `without` and with `with`.
pub(crate) fn consenters_but(
    membership: &Membership,
    without: Option<NodeId>,
    with: Option<NodeId>,
) -> Vec<Bytes> {
    let kept = membership.members().iter().filter(|m| Some(m.id) != without);
    kept.map(|m| m.consenter.clone()).chain(with.map(consenter)).collect()
}
