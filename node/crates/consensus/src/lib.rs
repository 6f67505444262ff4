//! Ordering engines of Weft: values that turn events into actions.
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`engine`] | the [`Engine`] trait: events, actions, status, errors, and what each side owes the other |
//! | [`entry`] | what is ordered: a batch of envelopes, and its encoding |
//! | [`membership`] | which consenter has which id, and how that may change |
//! | [`solo`] | an engine of one node, for development |
//! | [`raft`] | the crash-fault-tolerant engine |
//! | `sim`, `suite` | for tests (feature `sim`): a simulated cluster with faults, and the suite that every engine passes |
//!
//! Sockets, disks, clocks and blocks belong to the orderer.

pub mod engine;
pub mod entry;
pub mod membership;
pub mod raft;
#[cfg(feature = "sim")]
pub mod sim;
pub mod solo;
#[cfg(feature = "sim")]
pub mod suite;

mod rng;
mod wire;

pub use engine::{
    Action, Applied, Check, Delivered, Engine, EngineError, Event, Index, LogWrite, MessageError,
    Millis, NodeId, Peer, Persist, ProofSignature, QuorumProof, Role, Severity, Status,
};
pub use entry::{Entry, EntryError, EntryKind};
pub use membership::{Change, Member, Membership, MembershipError};
