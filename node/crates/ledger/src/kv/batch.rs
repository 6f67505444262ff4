//! A set of changes that is applied as one.

use bytes::Bytes;

use super::Column;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key's value.
    Put {
        /// The column.
        column: Column,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The column.
        column: Column,
        /// The key.
        key: Bytes,
    },
    /// Removes every key from `start` up to, but without, `end`.
    DeleteRange {
        /// The column.
        column: Column,
        /// The first key to remove.
        start: Bytes,
        /// The first key to keep.
        end: Bytes,
    },
}

/// Changes in the order in which they are applied: a later one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key's value.
    pub fn put(&mut self, column: Column, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.operations.push(Operation::Put { column, key: key.into(), value: value.into() });
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, column: Column, key: impl Into<Bytes>) {
        self.operations.push(Operation::Delete { column, key: key.into() });
    }

    /// Removes every key from `start` up to, but without, `end`. An empty or inverted range
    /// removes nothing.
    pub fn delete_range(&mut self, column: Column, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        let (start, end) = (start.into(), end.into());
        if start < end {
            self.operations.push(Operation::DeleteRange { column, start, end });
        }
    }

    /// Puts another batch's changes after these.
    pub fn extend(&mut self, other: Batch) {
        self.operations.extend(other.operations);
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The changes, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The changes, in order.
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }
}
