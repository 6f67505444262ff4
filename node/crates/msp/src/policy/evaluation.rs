//! What a policy is evaluated against, and which identities it has used up.

use std::sync::Arc;

use crate::identity::{Identity, ValidAt};

/// Identities whose signatures hold, and when they have to be valid.
#[derive(Clone, Copy)]
pub(super) struct Evaluation<'a> {
    pub(super) identities: &'a [Arc<Identity>],
    pub(super) at: ValidAt,
}

impl Evaluation<'_> {
    /// Marks every identity that stands there for a second time.
    pub(super) fn mark_repeated(self, used: &mut impl Used) {
        for (index, identity) in self.identities.iter().enumerate() {
            let mut before = self.identities.iter().take(index);
            if before.any(|other| other.is_same(identity)) {
                used.mark(index);
            }
        }
    }
}

/// Which identities have satisfied a principal, by index; each may do so once.
pub(super) trait Used: Clone {
    fn is_marked(&self, index: usize) -> bool;
    fn mark(&mut self, index: usize);
}

/// For up to [`u64::BITS`] identities: nearly every evaluation there is, without an allocation.
impl Used for u64 {
    fn is_marked(&self, index: usize) -> bool {
        self & (1 << index) != 0
    }

    fn mark(&mut self, index: usize) {
        *self |= 1 << index;
    }
}

impl Used for Vec<bool> {
    fn is_marked(&self, index: usize) -> bool {
        self.get(index).copied().unwrap_or(true)
    }

    fn mark(&mut self, index: usize) {
        if let Some(mark) = self.get_mut(index) {
            *mark = true;
        }
    }
}
