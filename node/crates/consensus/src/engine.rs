//! The contract between an ordering engine and the orderer that runs it.
//!
//! An engine is a value. It owns the protocol's state and decides; it opens no socket or file,
//! reads no clock, starts no thread. The orderer's actor feeds it [`Event`]s and carries out the
//! [`Action`]s that it returns:
//!
//! ```text
//!            Event (+ now)                     Vec<Action>
//! network ──────────────▶ Engine::receive ─▶ Engine::drain ──▶ store, network, ledger
//! ```
//!
//! # What the caller owes the engine
//!
//! 1. **Order.** Actions are carried out in the order in which they were drained, those of one
//!    `drain` before those of the next. A [`Persist`] with `sync` is durable before anything
//!    after it is begun: what follows (a vote, an acknowledgement, a delivery) relies on it. If
//!    it fails, the process stops; it neither retries nor carries out what follows.
//! 2. **One block a delivery.** Every [`Delivered`] becomes exactly one block whose number is
//!    [`Delivered::number`]. The block holds `index` and `membership` in its consenter metadata,
//!    so that a block and the applied index are saved by the same write.
//! 3. **Apply before propose.** What a drain delivered is applied before anything else is
//!    validated and proposed, since a delivered config entry changes what is valid.
//! 4. **Time.** `now` is a monotonic clock; it never jumps with the wall clock. A `now` smaller
//!    than an earlier one is taken as no time having passed.
//! 5. **Authenticity.** [`Event::Message`]'s `from` is the node that the transport authenticated.
//!
//! # What the engine owes the caller
//!
//! * Entries are delivered once each (per life of the process), in the same order on all nodes,
//!   with the same `index` and `number`; a delivered entry is never lost or changed as long as a
//!   quorum's persisted state survives.
//! * No input makes it panic or allocate without bound; a bad message is an [`EngineError`] and
//!   leaves the state as it was.
//! * Calling [`Engine::receive`] several times before one [`Engine::drain`] groups what has to be
//!   persisted, which is how many messages share one fsync.
//! * The same events at the same times give the same actions: a failing run can be replayed.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::entry::{Entry, EntryError};
use crate::membership::{Membership, MembershipError};

/// A consenter's identity in the protocol: Fabric's raft id. Ids start at 1, are assigned in the
/// channel's config metadata and are never used again once removed ([`Membership`]).
pub type NodeId = u64;

/// The position of an entry in the engine's log; 0 is "nothing yet". Positions without a block
/// exist (a Raft leader's first entry), so an index is not a block number.
pub type Index = u64;

/// A point of the caller's monotonic clock, in milliseconds since any fixed origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    /// The point `millis` after this one.
    #[must_use]
    pub fn plus(self, millis: u64) -> Millis {
        Millis(self.0.saturating_add(millis))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// An ordering engine of one channel on one node.
pub trait Engine: Send {
    /// Takes in one event that happened at `now`.
    ///
    /// # Errors
    /// The event was refused and changed nothing, except that time has moved on. What the caller
    /// does about it is told by [`EngineError::severity`].
    fn receive(&mut self, now: Millis, event: Event) -> Result<(), EngineError>;

    /// Takes out what has to be done, in the order in which it has to be done.
    fn drain(&mut self) -> Vec<Action>;

    /// Takes over the channel's limit on the size of an encoded entry, bytes, for proposals and
    /// messages from here on. Engines without a limit ignore it.
    fn limit_entries(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// When the engine wants its next [`Event::Tick`] at the latest; `None` if it needs no timer.
    fn wakeup(&self) -> Option<Millis>;

    /// A picture of the engine's state for metrics, health and routing. Cheap.
    fn status(&self) -> Status;

    /// Whether going from the present membership to `next` may be proposed now: at most one
    /// consenter is added, removed or replaced, and a quorum of the new set is alive. The orderer
    /// asks before it accepts a config update.
    ///
    /// # Errors
    /// [`MembershipError`] naming the rule that the change breaks.
    fn check_change(&self, next: &Membership) -> Result<(), MembershipError>;
}

/// What happens to an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed and nothing else happened.
    Tick,
    /// Order this batch. Accepted by the leader alone; see [`EngineError`] for the refusals.
    Propose(Entry),
    /// A message of another node's [`Action::Send`].
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// The bytes as they were sent.
        message: Bytes,
    },
    /// Answers [`Action::CatchUp`]: the ledger now holds `height` blocks.
    CaughtUp {
        /// Number of blocks in the ledger; has to be the height that was asked for.
        height: u64,
    },
    /// The transport gave up sending to this node (connection lost, queue full).
    Unreachable {
        /// The node that could not be reached.
        node: NodeId,
    },
    /// Hand leadership over, for example before a shutdown. Does nothing unless this node leads.
    TransferLeadership {
        /// The wanted leader; `None` lets the engine choose the node that is most up to date.
        to: Option<NodeId>,
    },
    /// Answers [`Action::Sign`] (engines that prove their decisions).
    Signed {
        /// The ticket of the action.
        ticket: u64,
        /// The signature, and what was signed besides the payload.
        signature: ProofSignature,
    },
    /// Answers [`Action::Verify`] (engines that prove their decisions).
    Verified {
        /// The ticket of the action.
        ticket: u64,
        /// For each of the action's checks whether it passed.
        valid: Vec<bool>,
    },
}

/// What an engine wants done, see the order that the module's text asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write to the engine's own part of the store.
    Persist(Persist),
    /// Send to another node, best effort: messages may be lost, repeated and reordered.
    Send {
        /// The receiver.
        to: NodeId,
        /// Opaque bytes for its [`Event::Message`].
        message: Bytes,
    },
    /// This entry's place is final: write its block.
    Deliver(Delivered),
    /// The log before some point is not to be had any more. Fetch blocks from the orderers named
    /// until the ledger holds exactly `height` of them (each verified as usual), then answer
    /// [`Event::CaughtUp`]. Nothing is delivered until then. A later one replaces an earlier one
    /// (its height is greater); it is asked again after a restart.
    CatchUp {
        /// Who should have them, best first.
        from: Vec<NodeId>,
        /// The number of blocks that the ledger has to hold.
        height: u64,
        /// The membership at that height, for reaching those nodes.
        membership: Arc<Membership>,
    },
    /// The leader that this node follows changed.
    LeaderChanged {
        /// Who leads, if known.
        leader: Option<NodeId>,
        /// The term (view) in which it does.
        term: u64,
    },
    /// This node leads, and has delivered everything from before its term: proposals are now
    /// accepted. What was validated against an older config has to be validated again.
    Leading {
        /// The term in which it leads.
        term: u64,
    },
    /// This node was removed by the config entry delivered just before. The engine is finished;
    /// the orderer stops it, deletes its log and goes on as a follower without a vote.
    Evicted,
    /// Sign `payload` with this node's identity, answer [`Event::Signed`].
    Sign {
        /// Names the request in the answer.
        ticket: u64,
        /// What to sign.
        payload: Bytes,
    },
    /// Check signatures (and, for `entry`, whether every envelope passes the channel's policies),
    /// answer [`Event::Verified`].
    Verify {
        /// Names the request in the answer.
        ticket: u64,
        /// The checks, answered one by one.
        checks: Vec<Check>,
    },
}

/// One of the checks that an [`Action::Verify`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `signature` is by the consenter `signature.node` over `payload`.
    Signature {
        /// What was signed.
        payload: Bytes,
        /// By whom, and the bytes.
        signature: ProofSignature,
    },
    /// Every envelope of the entry is acceptable under the channel's present config.
    Entry(Entry),
}

/// A write to the part of the store that belongs to the engine: all of it or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// The changes, in order; a later one on the same key wins.
    pub writes: Vec<LogWrite>,
    /// Whether it has to be durable before the next action is begun. What is not synced now goes
    /// out with the next synced write.
    pub sync: bool,
}

/// One change of a key in the engine's part of the store. Keys sort bytewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWrite {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// An entry at its final place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its position in the log: Fabric's `BlockMetadata.raft_index`.
    pub index: Index,
    /// The number of the block that it becomes.
    pub number: u64,
    /// The batch.
    pub entry: Entry,
    /// The membership after this entry: what the block's metadata says.
    pub membership: Arc<Membership>,
    /// The proof that a quorum decided on it; `None` from engines that survive crashes only.
    pub proof: Option<QuorumProof>,
}

/// Signatures of a quorum over one decision; for Fabric's BFT block metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumProof {
    /// The view in which it was decided.
    pub view: u64,
    /// The signatures, at most one a node.
    pub signatures: Vec<ProofSignature>,
}

/// One consenter's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofSignature {
    /// Whose it is.
    pub node: NodeId,
    /// What was signed besides the payload (Fabric's BFT: the identifier header).
    pub auxiliary: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// What the ledger already holds when an engine is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The index in the last block's consenter metadata; 0 for the genesis block.
    pub index: Index,
    /// The number of blocks, genesis block included.
    pub height: u64,
    /// The membership in the last block's consenter metadata (of the genesis block:
    /// [`Membership::genesis`]).
    pub membership: Arc<Membership>,
}

/// A node's part in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Orders what is proposed.
    Leader,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election, or runs in one.
    Candidate,
    /// Takes part in nothing but replication until it has proved to be up to date.
    Quarantined,
    /// Was removed.
    Evicted,
}

/// The state of an engine as metrics, health checks and routing need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its part.
    pub role: Role,
    /// The term or view.
    pub term: u64,
    /// Whom proposals are to be forwarded to, if known.
    pub leader: Option<NodeId>,
    /// Whether [`Event::Propose`] would be taken now, but for its size.
    pub accepts_proposals: bool,
    /// The highest index that is known to be final.
    pub committed: Index,
    /// The highest index that was delivered.
    pub applied: Index,
    /// The number of blocks after that.
    pub height: u64,
    /// The highest index in the log.
    pub last_index: Index,
    /// The lowest index still in the log.
    pub first_index: Index,
    /// Proposals of this leader that are not yet delivered.
    pub in_flight: usize,
    /// The height of the catch-up that is awaited.
    pub catching_up_to: Option<u64>,
    /// Since when no leader is known; long times suggest an eviction that this node missed.
    pub leaderless_since: Option<Millis>,
    /// The other nodes as the leader sees them; empty elsewhere.
    pub peers: BTreeMap<NodeId, Peer>,
    /// The present membership.
    pub membership: Arc<Membership>,
}

/// A follower as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The highest index that it is known to hold.
    pub matched: Index,
    /// Whether it was heard from within an election timeout.
    pub active: bool,
    /// Whether it needs blocks that are no longer in the log.
    pub needs_snapshot: bool,
}

/// Why an event was refused.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Propose to `leader` instead; without one, later.
    #[error("failed to propose: node {node} does not lead (leader: {leader:?})")]
    NotLeader {
        /// This node.
        node: NodeId,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// As many proposals as allowed are in flight; again after the next delivery.
    #[error("failed to propose: {in_flight} proposals ({bytes} bytes) are in flight")]
    Busy {
        /// How many.
        in_flight: usize,
        /// How many bytes of envelopes.
        bytes: usize,
    },
    /// The new leader still delivers entries of earlier terms; again after [`Action::Leading`].
    #[error("failed to propose: entries before term {term} are not all applied")]
    LeaderNotReady {
        /// The leader's term.
        term: u64,
    },
    /// A config entry is in flight; again once it is delivered.
    #[error("failed to propose: the config entry at index {index} is in flight")]
    ConfigInFlight {
        /// Its index.
        index: Index,
    },
    /// Leadership is being handed over.
    #[error("failed to propose: leadership moves to node {to}")]
    Transferring {
        /// The coming leader.
        to: NodeId,
    },
    /// The entry itself is not acceptable.
    #[error("failed to propose: bad entry")]
    Entry(#[source] EntryError),
    /// The entry's change of the membership is not acceptable.
    #[error("failed to propose: bad membership change")]
    Membership(#[source] MembershipError),
    /// The entry is larger than this engine takes.
    #[error("failed to propose: entry of {size} bytes is over the limit of {limit}")]
    EntryTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A message from another node is malformed or not plausible. Nothing was changed.
    #[error("failed to take a message of node {from}: {reason}")]
    BadMessage {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        #[source]
        reason: MessageError,
    },
    /// No catch-up was asked for, or to another height.
    #[error("failed to resume after catch-up at height {height}: expected {expected:?}")]
    CatchUpMismatch {
        /// What the caller reported.
        height: u64,
        /// What was asked for.
        expected: Option<u64>,
    },
    /// The hand-over names a node that cannot lead.
    #[error("failed to hand leadership over: node {node} has no vote")]
    NotAVoter {
        /// The node named.
        node: NodeId,
    },
    /// This node was removed.
    #[error("failed: node {node} was removed from the channel")]
    Evicted {
        /// This node.
        node: NodeId,
    },
    /// The engine never asked for what this event answers.
    #[error("failed to take an event that this engine never asks for: {event}")]
    Unsolicited {
        /// The event's name.
        event: &'static str,
    },
    /// State that should be impossible. Fail-stop: this node must not go on.
    #[error("failed to go on: {what}")]
    Broken {
        /// What was found.
        what: String,
    },
}

/// What the caller does about an [`EngineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The same event may be accepted later, or by the node that the error names.
    Retry,
    /// It will never be; drop it (a message: count it against its sender).
    Drop,
    /// Stop this engine.
    Stop,
}

impl EngineError {
    /// Whether trying again can help, or the engine has to be stopped.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::NotLeader { .. }
            | Self::Busy { .. }
            | Self::LeaderNotReady { .. }
            | Self::ConfigInFlight { .. }
            | Self::Transferring { .. } => Severity::Retry,
            Self::Entry(_)
            | Self::Membership(_)
            | Self::EntryTooLarge { .. }
            | Self::BadMessage { .. }
            | Self::CatchUpMismatch { .. }
            | Self::NotAVoter { .. }
            | Self::Unsolicited { .. } => Severity::Drop,
            Self::Evicted { .. } | Self::Broken { .. } => Severity::Stop,
        }
    }
}

/// What is wrong with a message of another node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No bytes at all (in Fabric: CVE-2022-31121).
    #[error("it is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("it has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A format that this version does not know.
    #[error("its format {format} is unknown")]
    UnknownFormat {
        /// The first byte.
        format: u8,
    },
    /// The bytes do not decode.
    #[error("it does not decode: {0}")]
    Undecodable(String),
    /// Of a kind that nodes do not send to each other.
    #[error("its type {0} is not one that nodes send")]
    Type(String),
    /// The sender named inside is not the authenticated one.
    #[error("it names node {named} as its sender")]
    WrongSender {
        /// The sender named inside.
        named: NodeId,
    },
    /// It is for another node.
    #[error("it is for node {named}")]
    WrongReceiver {
        /// The receiver named inside.
        named: NodeId,
    },
    /// The sender was removed, or never was a member.
    #[error("its sender is not a member")]
    UnknownSender,
    /// A field contradicts the protocol or this node's log.
    #[error("its field {field} is not plausible: {value}")]
    Implausible {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An entry inside is malformed.
    #[error("its entry at index {index} is malformed: {reason}")]
    Entry {
        /// The entry's index.
        index: Index,
        /// What is wrong with it.
        reason: EntryError,
    },
    /// The membership inside is malformed.
    #[error("its membership is malformed: {0}")]
    Membership(String),
    /// The leader counts on log entries that this node does not have: this node lost part of its
    /// log, or the sender lies. The orderer should stop and be told to rejoin.
    #[error("it commits index {commit} but the log ends at {last_index}")]
    LogLost {
        /// The index that the sender says is held here.
        commit: Index,
        /// The end of this node's log.
        last_index: Index,
    },
}
