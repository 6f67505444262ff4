//! Which [`MspManager`](crate::MspManager) read an identity.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells one manager from all others of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Realm(u64);

impl Realm {
    /// That of identities that no manager read.
    pub(crate) const NONE: Self = Self(0);

    /// One that no other manager has.
    pub(crate) fn fresh() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
