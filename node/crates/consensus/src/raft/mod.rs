//! The crash-fault-tolerant engine: Raft, by the `raft` crate (TiKV's port of the library that
//! Fabric's orderer uses), behind [`Engine`](crate::Engine).
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`options`] | times and limits, checked once |
//! | [`log`] | the log in memory: entries since its base, and where the base is |
//! | [`store`] | what is persisted, under which keys; reading it back and judging it |
//! | [`guard`] | which messages of other nodes are let through to the `raft` crate |
//! | `start` | an engine from what ledger and store hold ([`Start`]) |
//! | `engine` | deciding: what an event does ([`RaftEngine`]) |
//! | `ready` | doing: from what is decided to actions, in order |
//!
//! # Specification
//!
//! **Entries.** A proposal is one [`Entry`](crate::Entry): a batch of envelopes. It is one entry
//! of the Raft log and, once committed, one [`Delivered`](crate::Delivered) and one block. A new
//! leader's first entry is empty and gives no block.
//!
//! **Who proposes.** Only a leader, and only after it delivered everything from before its term
//! ([`Action::Leading`](crate::Action::Leading)), while no config entry is in flight and fewer
//! than the allowed number of proposals are. So what a leader proposes was validated against the
//! very config under which it is delivered.
//!
//! **Members.** A config entry carries the membership that it leads to, which differs by one node
//! at most. It takes effect as that entry is delivered, on every node at the same index: the
//! `raft` crate's conf change and the config block are one log entry. A leader asked to propose its
//! own removal hands over instead. A node delivers its own removal, and so stops voting, only once
//! others know that it is committed and have synced that: who does not know still counts it in, and
//! of two nodes the one that stays could otherwise never win an election again.
//!
//! **Persist, then send.** Votes, acknowledgements and everything else that a node promises are
//! sent after the `Persist` on which they rest. The one exception is Raft's own (Ongaro's
//! dissertation, 10.2.1): a leader sends new entries and heartbeats at once and syncs meanwhile;
//! its own copy counts towards the quorum only when it is synced. The commit index is written
//! along with other things and never on its own, since the blocks tell it after a restart.
//!
//! **Time.** A tick of Fabric's `tick_interval` is divided in ten, so that the random part of the
//! election timeout, drawn from `[1, 1.5) × election_tick`, is fine enough that two nodes rarely
//! stand at once. Who stood and did not win stands again after `[⅙, ⅖) × election_tick`. Pre-vote
//! and check-quorum are always on. They give a leader up that is not heard, or hears nobody. One that is
//! heard and hears, but late, steps down when an entry has not been committed for two election
//! timeouts: heartbeats that are all equally late keep coming. With more on its way than one message
//! takes, it is a matter of throughput, which no other leader has more of; then it stays as long as
//! anything is committed.
//!
//! **Compaction.** When the log in memory exceeds `snapshot_interval_size`, the older half of what
//! is applied is dropped. A node that needs what was dropped gets a snapshot, which is a few
//! numbers: index, term, membership and the height of the ledger there. It adopts them as the new
//! base of its log and then asks for the blocks ([`Action::CatchUp`](crate::Action::CatchUp)),
//! delivering nothing until it has them.
//!
//! **Starting.** An empty store is not taken for a new node without being told so ([`Start`]). A
//! node that has lost its log while its old id is still in the membership may have voted and
//! acknowledged things it no longer knows, so it rejoins in quarantine:
//!
//! 1. It neither votes nor stands. On the first word from a leader, of term t, it moves to term
//!    t + 2²⁰ (the *barrier*), beyond any term in which it can have voted, and persists that. Its
//!    answers at that term make the leader step down.
//! 2. The others elect a leader beyond the barrier without its vote. Every entry committed earlier
//!    is on a node of that quorum, so the new leader has it, whatever this node has forgotten.
//! 3. It replicates from that leader as usual. Once an entry of a term beyond the barrier is
//!    committed in its own log, that log holds all that was ever committed, and it is a full
//!    member again.
//!
//! # Deviations from Fabric's etcdraft
//!
//! * Blocks are formed when an entry is delivered, not when it is proposed; etcdraft's leader
//!   numbers and chains blocks ahead of agreement and has to discard them when it loses office.
//! * Membership changes are part of the config entry; etcdraft proposes a second entry after the
//!   config block was written, and a later leader has to finish what an earlier one did not.
//! * Proposals reach the leader through the orderer (`Submit`), never as Raft messages.
//! * A leader whose entries are not committed for two election timeouts steps down; etcd's stays.
//! * The random part of the election timeout is half as wide, the tick ten times as fine, and a
//!   split vote is repeated sooner.
//! * Log and hard state live in the orderer's key-value store; there is no separate WAL and no
//!   snapshot file, and a missing log is an error.
//! * The bytes in the cluster service's `ConsensusRequest.payload` are one format byte and then
//!   the `raft` crate's message, which is close to but not the same as etcd's. A channel's
//!   orderers are all Weft's or all Fabric's.
//! * A node that learns of its removal says so ([`Action::Evicted`]). One that was down meanwhile
//!   hears from nobody; the orderer notices by
//!   [`Status::leaderless_since`](crate::Status::leaderless_since) and looks at others' blocks.
//!
//! [`Action::Evicted`]: crate::Action::Evicted

pub mod guard;
pub mod log;
pub mod options;
pub mod store;

mod engine;
mod ready;
mod start;

pub use engine::RaftEngine;
pub use options::{Options, OptionsError};
pub use start::Start;
pub use store::RestoreError;
