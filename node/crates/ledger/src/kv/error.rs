//! What a store can fail with.

use std::sync::Arc;

use super::Column;

/// The cause as the store below reports it.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A failure of a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// The store could not be opened.
    #[error("failed to open the store {store}")]
    Open {
        /// Where the store is.
        store: String,
        /// Why not.
        source: Cause,
    },
    /// Another process has the store open.
    #[error("failed to open the store {store}: another process holds its lock")]
    Locked {
        /// Where the store is.
        store: String,
        /// What the lock said.
        source: Cause,
    },
    /// The column was not declared when the store was opened.
    #[error("failed to find column {column}: the store was opened without it")]
    UnknownColumn {
        /// The column.
        column: Column,
    },
    /// The store cannot be read.
    #[error("failed to read column {column}")]
    Read {
        /// The column.
        column: Column,
        /// Why not.
        source: Cause,
    },
    /// Stored bytes are not what was written, or cannot be what was written.
    #[error("failed to read the store: it is corrupt: {what}")]
    Corrupt {
        /// What is wrong, and where.
        what: String,
    },
    /// The disk is full. Nothing of the batch is stored.
    #[error("failed to write: no space left on the store's device")]
    Full {
        /// What the device said.
        source: Cause,
    },
    /// The batch could not be stored, or not be brought to disk: it is unknown how much of it
    /// would be found after a restart (all or nothing of it).
    #[error("failed to write")]
    Write {
        /// Why not.
        source: Cause,
    },
    /// An earlier write failed, so nothing more is acknowledged until the store is opened
    /// again.
    #[error("failed to write: the store stopped after an earlier failure: {reason}")]
    Stopped {
        /// The earlier failure.
        reason: String,
    },
}

impl KvError {
    /// Whether opening the store again and repeating the operation can succeed without
    /// anybody's repair of the data: true for a full disk or a lock that may go away.
    pub fn can_retry(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Locked { .. })
    }

    /// Whether stored data was found damaged.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}
