//! Range queries of a simulation, read step by step, each recording what it found.

use std::collections::VecDeque;

use weft_protos::kvrwset::range_query_info::ReadsInfo;
use weft_protos::kvrwset::{KvRead, QueryReads, RangeQueryInfo};
use weft_protos::queryresult::Kv;

use crate::rwset::{RangeReads, RangeResults};
use crate::state::overlay::successor;
use crate::state::{KvState, StateEntry, StateError, StateReader};

/// How many entries are read from the store at once, at most.
const CHUNK: usize = 128;

/// Names an open query within its simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorId(usize);

impl CursorId {
    pub(crate) const fn new(number: usize) -> Self {
        Self(number)
    }
}

impl std::fmt::Display for CursorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Limits on the queries of one simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// How many entries one query returns at most, in all its batches; it ends there silently
    /// (Fabric: `ledger.state.totalQueryLimit`).
    pub entries: usize,
    /// How many queries one transaction may open.
    pub cursors: usize,
    /// Bytes of keys and values after which a page ends, whatever its size; its bookmark says where
    /// the next one starts.
    pub page_bytes: usize,
}

impl Default for QueryLimits {
    /// 100,000 entries a query (Fabric's default), 1,000 queries a transaction, pages of 32 MiB.
    fn default() -> Self {
        Self { entries: 100_000, cursors: 1_000, page_bytes: 32 * 1024 * 1024 }
    }
}

/// Some entries of a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeBatch {
    /// The entries, in key order.
    pub entries: Vec<Kv>,
    /// Whether there are more; if not, the query is closed.
    pub has_more: bool,
    /// Of a page: where the next page starts; empty after the last one.
    pub bookmark: String,
    /// How many entries the query has returned in all its batches, this one included.
    pub returned: usize,
}

/// A query in progress.
pub(crate) struct Cursor {
    namespace: String,
    end: String,
    page: bool,
    limit: usize,
    /// Bytes that a page has room for.
    room: usize,
    // Reading.
    next_start: String,
    ready: VecDeque<StateEntry>,
    done: bool,
    pending: Vec<Kv>,
    read: usize,
    // Recording.
    info: RangeQueryInfo,
    results: RangeResults,
}

impl Cursor {
    pub(crate) fn range(namespace: &str, start: &str, end: &str, limits: &QueryLimits) -> Self {
        Self::new(namespace, start, end, (false, usize::MAX), limits.entries)
    }

    pub(crate) fn page(
        namespace: &str,
        start: &str,
        end: &str,
        size: usize,
        limits: &QueryLimits,
    ) -> Self {
        Self::new(namespace, start, end, (true, limits.page_bytes), size.min(limits.entries))
    }

    fn new(
        namespace: &str,
        start: &str,
        end: &str,
        (page, room): (bool, usize),
        limit: usize,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            end: end.to_owned(),
            page,
            limit,
            room,
            next_start: start.to_owned(),
            ready: VecDeque::new(),
            done: false,
            pending: Vec::new(),
            read: 0,
            info: RangeQueryInfo { start_key: start.to_owned(), ..RangeQueryInfo::default() },
            results: RangeResults::with_max_degree(),
        }
    }

    /// The next entry. The recorded range ends at the last entry that was handed out, until the
    /// query is found to be at its end; a full page counts as its end, the limit on entries
    /// does not.
    pub(crate) fn next(&mut self, state: &KvState) -> Result<Option<Kv>, StateError> {
        let at_limit = self.read >= self.limit;
        if at_limit && !self.page {
            return Ok(None);
        }
        let entry = if at_limit { None } else { self.fetch(state)?.then(|| self.take()).flatten() };
        let Some((key, found)) = entry else {
            self.info.itr_exhausted = true;
            self.info.end_key.clone_from(&self.end);
            return Ok(None);
        };
        self.read += 1;
        self.info.end_key.clone_from(&key);
        let version = Some(found.version.to_proto());
        self.results.add(KvRead { key: key.clone(), version });
        Ok(Some(Kv { namespace: self.namespace.clone(), key, value: found.value }))
    }

    pub(crate) fn next_batch(
        &mut self,
        state: &KvState,
        max: usize,
    ) -> Result<RangeBatch, StateError> {
        while self.read < self.limit {
            let Some(entry) = self.next(state)? else { break };
            if !self.page && self.pending.len() == max {
                let entries = std::mem::replace(&mut self.pending, vec![entry]);
                let returned = self.read - 1;
                return Ok(RangeBatch { entries, has_more: true, returned, ..Default::default() });
            }
            self.room = self.room.saturating_sub(entry.key.len() + entry.value.len());
            self.pending.push(entry);
            if self.room == 0 {
                // As if the page had been asked for with this size.
                self.limit = self.read;
            }
        }
        let bookmark = if self.page { self.bookmark(state)? } else { String::new() };
        let entries = std::mem::take(&mut self.pending);
        Ok(RangeBatch { entries, has_more: false, bookmark, returned: self.read })
    }

    /// What goes into the read-write set.
    pub(crate) fn into_info(mut self) -> (String, RangeQueryInfo) {
        self.info.reads_info = match self.results.finish() {
            RangeReads::Raw(reads) if reads.is_empty() => None,
            RangeReads::Raw(kv_reads) => Some(ReadsInfo::RawReads(QueryReads { kv_reads })),
            RangeReads::Summary(summary) => Some(ReadsInfo::ReadsMerkleHashes(summary)),
        };
        (self.namespace, self.info)
    }

    fn bookmark(&mut self, state: &KvState) -> Result<String, StateError> {
        self.fetch(state)?;
        Ok(self.ready.front().map(|(key, _)| key.clone()).unwrap_or_default())
    }

    fn take(&mut self) -> Option<StateEntry> {
        self.ready.pop_front()
    }

    /// Makes sure that the next entry is ready, if there is one.
    fn fetch(&mut self, state: &KvState) -> Result<bool, StateError> {
        if self.ready.is_empty() && !self.done {
            // One more than is left to read, for the bookmark or the entry read ahead.
            let chunk = self.limit.saturating_sub(self.read).saturating_add(1).min(CHUNK);
            let entries = state.range(&self.namespace, &self.next_start, &self.end, chunk)?;
            self.done = entries.len() < chunk;
            if let Some((key, _)) = entries.last() {
                self.next_start = successor(key);
            }
            self.ready = entries.into();
        }
        Ok(!self.ready.is_empty())
    }
}
