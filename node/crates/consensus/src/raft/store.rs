//! What is persisted, and how a log is judged when it is read back.
//!
//! | Key | Value |
//! | --- | --- |
//! | `m` | format version, node id, quarantine (0 none, 1 waiting for a barrier, else barrier + 2), the ledger's index as the node joined |
//! | `h` | term, vote, commit index |
//! | `b` | the base: index, term, height, membership |
//! | `e` + index, 8 bytes big-endian | one entry, as the `raft` crate's message |
//!
//! Numbers are LEB128. Writes of one [`Persist`] are atomic, so whatever contradicts itself was
//! damaged and is refused: a node that guesses could vote against its word.

use std::ops::Range;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{Entry, EntryType, HardState};

use super::guard;
use super::log::Base;
use super::options::OptionsError;
use crate::engine::{Index, LogWrite, NodeId, Persist};
use crate::membership::MembershipError;
use crate::wire::{self, WireError};

const VERSION: u64 = 1;
const META: &[u8] = b"m";
const HARD_STATE: &[u8] = b"h";
const BASE: &[u8] = b"b";
const ENTRY: u8 = b'e';

/// Why an engine cannot be made from what is persisted.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The options are not usable.
    #[error("failed to start raft: bad options")]
    Options(#[source] OptionsError),
    /// This node is not a consenter of the channel.
    #[error("failed to start raft: node {node} is not a member")]
    NotAMember {
        /// This node.
        node: NodeId,
    },
    /// A member's weight is not 1.
    #[error("failed to start raft: bad membership")]
    Membership(#[source] MembershipError),
    /// The node was a member and its log is gone. It may have forgotten votes and
    /// acknowledgements; start it with `Start::Rejoin` if the log is lost for good.
    #[error("failed to start raft: node {node} has blocks up to index {applied} but no log")]
    LogMissing {
        /// This node.
        node: NodeId,
        /// The index of its last block.
        applied: Index,
    },
    /// `Start::Bootstrap` of a channel that already has blocks besides its genesis block.
    #[error("failed to start raft: a channel of height {height} cannot be started anew")]
    NotFresh {
        /// The number of blocks.
        height: u64,
    },
    /// `Start::Rejoin` of the only consenter: nobody else knows what was decided.
    #[error("failed to start raft: node {node} is the only consenter, there is none to rejoin")]
    SoleConsenter {
        /// This node.
        node: NodeId,
    },
    /// The log belongs to another node.
    #[error("failed to start raft: the log is of node {found}, this is node {expected}")]
    WrongNode {
        /// This node.
        expected: NodeId,
        /// The log's node.
        found: NodeId,
    },
    /// The log was written by another version.
    #[error("failed to start raft: log format {0} is unknown")]
    Version(u64),
    /// A key that no version writes.
    #[error("failed to start raft: unknown key {0:02x?} in the log")]
    UnknownKey(Bytes),
    /// A key that is always there is not.
    #[error("failed to start raft: the log has no {0}")]
    Incomplete(&'static str),
    /// A value does not decode.
    #[error("failed to start raft: {what} in the log is damaged: {reason}")]
    Damaged {
        /// Which value.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// An entry is missing, or one is where none should be.
    #[error("failed to start raft: the log goes from index {expected} to {found}")]
    Hole {
        /// The index that should come next.
        expected: Index,
        /// The one that does.
        found: Index,
    },
    /// The parts contradict each other.
    #[error("failed to start raft: {what} is {value}, which contradicts the log (limit {limit})")]
    Contradiction {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What it should at most, or at least, be.
        limit: u64,
    },
    /// The ledger has blocks of entries that the log ought to have and has not: its end was lost.
    #[error("failed to start raft: the ledger is at index {applied}, the log ends at {last_index}")]
    LedgerAhead {
        /// The index of the last block.
        applied: Index,
        /// The end of the log.
        last_index: Index,
    },
    /// The `raft` crate refused.
    #[error("failed to start raft: {0}")]
    Raft(String),
}

/// Whether the node has to prove that it is up to date before it votes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// It does not.
    None,
    /// It does, and has not heard from a leader yet.
    Waiting,
    /// It does, by an entry committed in a term beyond this one.
    Barrier(u64),
}

/// What was persisted.
#[derive(Debug)]
pub struct Persisted {
    /// See [`Quarantine`].
    pub quarantine: Quarantine,
    /// The ledger's index when the log was begun: blocks up to here came from elsewhere, and the
    /// log may be behind them.
    pub joined_at: Index,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Where the log starts.
    pub base: Base,
    /// The entries after the base, without holes.
    pub entries: Vec<Entry>,
}

impl Persisted {
    /// Reads what was persisted, in any order; `None` if there is nothing at all.
    ///
    /// # Errors
    /// [`RestoreError`] naming the first thing that is not as this engine writes it.
    pub fn decode(
        node: NodeId,
        records: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<Option<Self>, RestoreError> {
        let mut sorted: Vec<(Bytes, Bytes)> = records.into_iter().collect();
        if sorted.is_empty() {
            return Ok(None);
        }
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut meta, mut hard_state, mut base) = (None, None, None);
        let mut entries = Vec::new();
        for (key, value) in sorted {
            match key.as_ref() {
                META => meta = Some(decode_meta(node, value)?),
                HARD_STATE => hard_state = Some(decode_hard_state(value)?),
                BASE => base = Some(decode_base(value)?),
                [ENTRY, index @ ..] if index.len() == 8 => entries.push(decode_entry(&key, value)?),
                _ => return Err(RestoreError::UnknownKey(key)),
            }
        }
        let (quarantine, joined_at) = meta.ok_or(RestoreError::Incomplete("node id"))?;
        let persisted = Self {
            quarantine,
            joined_at,
            hard_state: hard_state.ok_or(RestoreError::Incomplete("hard state"))?,
            base: base.ok_or(RestoreError::Incomplete("base"))?,
            entries,
        };
        persisted.check()?;
        Ok(Some(persisted))
    }

    /// The end of the log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.base.index + self.entries.len() as u64
    }

    fn check(&self) -> Result<(), RestoreError> {
        at_most("the base's index", self.base.index, guard::PERSISTED_LIMIT)?;
        at_most("the base's height", self.base.height, guard::PERSISTED_LIMIT)?;
        at_most("the current term", self.hard_state.term, guard::PERSISTED_LIMIT)?;
        let (mut expected, mut term) = (self.base.index + 1, self.base.term);
        for entry in &self.entries {
            if entry.index != expected {
                return Err(RestoreError::Hole { expected, found: entry.index });
            }
            at_least("an entry's term", entry.term, term.max(1))?;
            (expected, term) = (expected + 1, entry.term);
        }
        at_least("the current term", self.hard_state.term, term)?;
        at_most("the commit index", self.hard_state.commit, self.last_index())
    }
}

fn at_least(what: &'static str, value: u64, limit: u64) -> Result<(), RestoreError> {
    if value >= limit { Ok(()) } else { Err(RestoreError::Contradiction { what, value, limit }) }
}

fn at_most(what: &'static str, value: u64, limit: u64) -> Result<(), RestoreError> {
    if value <= limit { Ok(()) } else { Err(RestoreError::Contradiction { what, value, limit }) }
}

fn damaged(what: &'static str) -> impl Fn(WireError) -> RestoreError {
    move |reason| RestoreError::Damaged { what, reason: reason.to_string() }
}

fn numbers<const N: usize>(
    what: &'static str,
    input: &mut Bytes,
) -> Result<[u64; N], RestoreError> {
    let mut out = [0; N];
    for number in &mut out {
        *number = wire::take_number(input, "a number").map_err(damaged(what))?;
    }
    Ok(out)
}

fn decode_meta(node: NodeId, value: Bytes) -> Result<(Quarantine, Index), RestoreError> {
    let mut input = value;
    let [version, found, quarantine, joined_at] = numbers("the node id", &mut input)?;
    wire::finish(&input).map_err(damaged("the node id"))?;
    if version != VERSION {
        return Err(RestoreError::Version(version));
    }
    if found != node {
        return Err(RestoreError::WrongNode { expected: node, found });
    }
    let quarantine = match quarantine {
        0 => Quarantine::None,
        1 => Quarantine::Waiting,
        more => Quarantine::Barrier(more - 2),
    };
    Ok((quarantine, joined_at))
}

fn decode_hard_state(value: Bytes) -> Result<HardState, RestoreError> {
    let mut input = value;
    let [term, vote, commit] = numbers("the hard state", &mut input)?;
    wire::finish(&input).map_err(damaged("the hard state"))?;
    Ok(HardState { term, vote, commit })
}

fn decode_base(value: Bytes) -> Result<Base, RestoreError> {
    let mut input = value;
    let [index, term] = numbers("the base", &mut input)?;
    Base::decode_data(index, term, input)
        .map_err(|e| RestoreError::Damaged { what: "the base", reason: e.to_string() })
}

fn decode_entry(key: &Bytes, value: Bytes) -> Result<Entry, RestoreError> {
    let entry = Entry::decode(value)
        .map_err(|e| RestoreError::Damaged { what: "an entry", reason: e.to_string() })?;
    if EntryType::from_i32(entry.entry_type).is_none() {
        let reason = format!("its type {} is unknown", entry.entry_type);
        return Err(RestoreError::Damaged { what: "an entry", reason });
    }
    if entry_key(entry.index) == key {
        Ok(entry)
    } else {
        let reason = format!("index {} under the key {key:02x?}", entry.index);
        Err(RestoreError::Damaged { what: "an entry", reason })
    }
}

fn entry_key(index: Index) -> Bytes {
    let mut key = Vec::with_capacity(9);
    key.push(ENTRY);
    key.extend_from_slice(&index.to_be_bytes());
    key.into()
}

/// Collects one [`Persist`].
#[derive(Debug, Default)]
pub(super) struct Writer {
    persist: Persist,
}

impl Writer {
    pub(super) fn meta(&mut self, node: NodeId, quarantine: Quarantine, joined_at: Index) {
        let quarantine = match quarantine {
            Quarantine::None => 0,
            Quarantine::Waiting => 1,
            Quarantine::Barrier(term) => term.saturating_add(2),
        };
        self.put_numbers(META, &[VERSION, node, quarantine, joined_at]);
    }

    pub(super) fn hard_state(&mut self, state: &HardState) {
        self.put_numbers(HARD_STATE, &[state.term, state.vote, state.commit]);
    }

    pub(super) fn base(&mut self, base: &Base) {
        let mut value = Vec::new();
        wire::put_number(&mut value, base.index);
        wire::put_number(&mut value, base.term);
        value.extend_from_slice(&base.encode_data());
        self.put(Bytes::from_static(BASE), value.into());
    }

    pub(super) fn entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.put(entry_key(entry.index), entry.encode_to_vec().into());
        }
    }

    pub(super) fn delete(&mut self, indices: Range<Index>) {
        let deletes = indices.map(|index| LogWrite::Delete { key: entry_key(index) });
        self.persist.writes.extend(deletes);
    }

    pub(super) fn sync(&mut self) {
        self.persist.sync = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.persist.writes.is_empty()
    }

    pub(super) fn finish(self) -> Persist {
        self.persist
    }

    fn put_numbers(&mut self, key: &'static [u8], numbers: &[u64]) {
        let mut value = Vec::new();
        numbers.iter().for_each(|number| wire::put_number(&mut value, *number));
        self.put(Bytes::from_static(key), value.into());
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        self.persist.writes.push(LogWrite::Put { key, value });
    }
}
