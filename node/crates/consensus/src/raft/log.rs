//! The log in memory.
//!
//! It starts after its *base*: the point up to which entries were dropped because the blocks
//! hold them. Everything in here is on its way to the store, or there already ([`super::store`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::engine::Index;
use crate::membership::{Membership, MembershipError};
use crate::wire;

/// A point in the log, and what is true there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The index.
    pub index: Index,
    /// The term of the entry at that index; 0 at index 0.
    pub term: u64,
    /// The number of blocks after that entry.
    pub height: u64,
    /// The membership after that entry.
    pub membership: Arc<Membership>,
}

impl Base {
    /// The part that travels in a snapshot's data: height and membership.
    pub(super) fn encode_data(&self) -> Vec<u8> {
        let mut out = Vec::new();
        wire::put_number(&mut out, self.height);
        self.membership.encode(&mut out);
        out
    }

    /// Reads what [`Base::encode_data`] wrote.
    pub(super) fn decode_data(
        index: Index,
        term: u64,
        data: Bytes,
    ) -> Result<Self, MembershipError> {
        let mut input = data;
        let bad = |e: wire::WireError| MembershipError::Undecodable(e.to_string());
        let height = wire::take_number(&mut input, "the height").map_err(bad)?;
        let membership = Arc::new(Membership::decode(&mut input)?);
        wire::finish(&input).map_err(bad)?;
        Ok(Self { index, term, height, membership })
    }

    fn snapshot(&self) -> Snapshot {
        let metadata = SnapshotMetadata {
            conf_state: Some(conf_state(&self.membership)),
            index: self.index,
            term: self.term,
        };
        Snapshot { data: self.encode_data(), metadata: Some(metadata) }
    }
}

/// The voters of a membership, as the `raft` crate takes them.
pub(super) fn conf_state(membership: &Membership) -> ConfState {
    let mut voters: Vec<u64> = membership.ids().collect();
    voters.sort_unstable();
    ConfState { voters, ..ConfState::default() }
}

/// What an entry takes in memory beyond its bytes, roughly.
const ENTRY_OVERHEAD: usize = 96;

pub(super) fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD
}

/// Whether the entry becomes a block.
pub(super) fn is_block(entry: &Entry) -> bool {
    !entry.data.is_empty()
}

/// The log in memory.
#[derive(Debug)]
pub struct Log {
    base: Base,
    entries: VecDeque<Entry>,
    bytes: usize,
    hard_state: HardState,
    /// The voters at the point from which the `raft` crate starts to apply.
    voters: ConfState,
    /// How far entries are delivered: what a snapshot for a follower says.
    point: Base,
}

impl Log {
    /// A log from its persisted parts. `point` is where the `raft` crate starts to apply.
    pub(super) fn new(
        base: Base,
        entries: Vec<Entry>,
        hard_state: HardState,
        voters: ConfState,
        point: Base,
    ) -> Self {
        let bytes = entries.iter().map(entry_bytes).sum();
        Self { base, entries: entries.into(), bytes, hard_state, voters, point }
    }

    /// Where the log starts.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Bytes of the entries in memory, with a little for each.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lowest index in the log.
    #[must_use]
    pub fn first(&self) -> Index {
        self.base.index + 1
    }

    /// The highest index in the log; the base's if it is empty.
    #[must_use]
    pub fn last(&self) -> Index {
        self.base.index + self.entries.len() as u64
    }

    /// The term at an index, if that is in the log or its base.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// The entry at an index, if it is in the log.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// How far entries are delivered.
    pub(super) fn point(&self) -> &Base {
        &self.point
    }

    pub(super) fn set_point(&mut self, point: Base) {
        self.point = point;
    }

    /// Appends entries, whose first may overwrite what is there. Returns the indices that existed
    /// before and are now beyond the end.
    pub(super) fn append(&mut self, new: Vec<Entry>) -> Range<Index> {
        let old_end = self.last() + 1;
        let Some(first) = new.first() else { return 0..0 };
        let keep = first.index.saturating_sub(self.first());
        for dropped in self.entries.drain((keep as usize).min(self.entries.len())..) {
            self.bytes -= entry_bytes(&dropped);
        }
        self.bytes += new.iter().map(entry_bytes).sum::<usize>();
        self.entries.extend(new);
        self.last() + 1..old_end
    }

    /// Forgets all entries: the log goes on after `base`. Returns the indices dropped.
    pub(super) fn install(&mut self, base: Base) -> Range<Index> {
        let dropped = self.first()..self.last() + 1;
        self.entries.clear();
        self.bytes = 0;
        self.base = base;
        dropped
    }

    /// If the log takes more than `limit` bytes, drops the oldest applied entries until half of
    /// that is left. Returns the indices dropped.
    pub(super) fn compact(&mut self, limit: usize) -> Option<Range<Index>> {
        if self.bytes <= limit {
            return None;
        }
        let base = self.compaction_base(limit / 2)?;
        let dropped = self.first()..base.index + 1;
        for _ in dropped.clone() {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry_bytes(&entry);
            }
        }
        self.base = base;
        Some(dropped)
    }

    /// The new base, which is at or before the point, with the height there. All dropped entries
    /// are before a membership change or none is, so that the membership is that of the point.
    fn compaction_base(&self, keep: usize) -> Option<Base> {
        let applied = usize::try_from(self.point.index.checked_sub(self.base.index)?).ok()?;
        let (mut left, mut drop) = (self.bytes, 0);
        for entry in self.entries.iter().take(applied) {
            if left <= keep {
                break;
            }
            left -= entry_bytes(entry);
            drop += 1;
        }
        let changes = |e: &Entry| e.get_entry_type() != raft::eraftpb::EntryType::EntryNormal;
        let last_change = self.entries.iter().take(applied).rposition(changes).map(|at| at + 1);
        let drop = drop.max(last_change.unwrap_or(0));
        let last = self.entries.get(drop.checked_sub(1)?)?;
        let blocks_after = self.entries.range(drop..applied).filter(|e| is_block(e)).count() as u64;
        Some(Base {
            index: last.index,
            term: last.term,
            height: self.point.height.checked_sub(blocks_after)?,
            membership: Arc::clone(&self.point.membership),
        })
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.voters.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let range = (low - self.first()) as usize..(high - self.first()) as usize;
        Ok(take_up_to(self.entries.range(range), max_size.into()))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_at(index) {
            Some(term) => Ok(term),
            None if index < self.base.index => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // The point may be ahead of the log: a node that joined with blocks but no log.
        let newest =
            if self.term_at(self.point.index).is_some() { &self.point } else { &self.base };
        let mut newest = newest.clone();
        newest.term = self.term_at(newest.index).unwrap_or(newest.term);
        if newest.index == 0 || newest.index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(newest.snapshot())
    }
}

/// Clones entries until they exceed `max` bytes, one at least.
fn take_up_to<'a>(entries: impl Iterator<Item = &'a Entry>, max: Option<u64>) -> Vec<Entry> {
    let mut left = max.unwrap_or(u64::MAX);
    let mut taken = Vec::new();
    for entry in entries {
        let size = entry_bytes(entry) as u64;
        if size > left && !taken.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        taken.push(entry.clone());
    }
    taken
}
