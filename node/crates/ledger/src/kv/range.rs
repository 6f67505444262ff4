//! Ranges of keys, and going through one of any size.

use bytes::Bytes;

use super::{Column, Entry, KvError, KvRead};

/// The order in which entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Reverse,
}

/// Keys from `start` (included) up to `end` (left out); `None` is open.
///
/// A range whose end is not after its start is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The smallest key.
    pub start: Option<Bytes>,
    /// The first key that is too large.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// From `start` up to, but without, `end`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: Some(start.into()), end: Some(end.into()) }
    }

    /// From `start` on.
    pub fn from(start: impl Into<Bytes>) -> Self {
        Self { start: Some(start.into()), end: None }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        Self { end: after_prefix(&prefix), start: Some(prefix) }
    }

    /// Whether `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref().is_none_or(|start| key >= start.as_ref())
            && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// Whether no key can lie inside.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (_, Some(end)) if end.is_empty() => true,
            (Some(start), Some(end)) => start >= end,
            _ => false,
        }
    }
}

/// The smallest key that is larger than every key with this prefix, if there is one.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// The smallest key after `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// Goes through a range a few entries at a time, so that memory stays bounded.
///
/// On a snapshot the entries are of one moment; on a store that is written meanwhile every
/// chunk is of its own moment. Ends after an error.
pub struct Entries<'a> {
    reader: &'a dyn KvRead,
    column: Column,
    left: KeyRange,
    direction: Direction,
    chunk: usize,
    ready: std::vec::IntoIter<Entry>,
    done: bool,
}

impl<'a> Entries<'a> {
    /// Reads `range` in chunks of `chunk` entries (at least one).
    pub fn new(
        reader: &'a dyn KvRead,
        column: Column,
        range: KeyRange,
        direction: Direction,
        chunk: usize,
    ) -> Self {
        let (chunk, ready) = (chunk.max(1), Vec::new().into_iter());
        Self { reader, column, left: range, direction, chunk, ready, done: false }
    }

    fn fill(&mut self) -> Result<(), KvError> {
        let entries = self.reader.scan(self.column, &self.left, self.direction, self.chunk)?;
        self.done = entries.len() < self.chunk;
        if let Some((key, _)) = entries.last() {
            match self.direction {
                Direction::Forward => self.left.start = Some(successor(key)),
                Direction::Reverse => self.left.end = Some(key.clone()),
            }
        }
        self.ready = entries.into_iter();
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.ready.next() {
            return Some(Ok(entry));
        }
        if self.done {
            return None;
        }
        if let Err(error) = self.fill() {
            self.done = true;
            return Some(Err(error));
        }
        self.ready.next().map(Ok)
    }
}
