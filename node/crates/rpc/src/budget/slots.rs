//! Slots of a service, such as its open streams, shared fairly between organizations.

use tonic::Status;

use super::{Holder, Refusals};
use crate::shares::{Exhausted, Share, Shares};

/// A slot, until it is dropped.
pub type Slot = Share<Holder>;

/// Slots of a service. Strangers share a sixteenth of them, beside those of organizations, for
/// what is answered without a signature. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    what: &'static str,
    total: usize,
    organizations: Shares<Holder>,
    strangers: Shares<Holder>,
    refusals: Refusals,
}

/// No slot for a caller now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many {what} (limit {limit}): {whose}")]
pub struct Full {
    /// Of which service.
    pub what: &'static str,
    /// Slots of all organizations.
    pub limit: usize,
    /// Whose limit is reached.
    pub whose: Exhausted,
}

impl From<Full> for Status {
    fn from(full: Full) -> Self {
        Self::resource_exhausted(full.to_string())
    }
}

impl Slots {
    /// `total` free slots of what is named, such as `deliver_streams`.
    #[must_use]
    pub fn new(what: &'static str, total: usize) -> Self {
        // A pool of one has no share for anybody.
        let organizations = Shares::new(total.max(2));
        let strangers = Shares::new(total.div_ceil(16).max(2));
        Self { what, total, organizations, strangers, refusals: Refusals::default() }
    }

    /// Counts refusals.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { refusals: refusals.clone(), ..self }
    }

    /// Takes a slot for a caller.
    ///
    /// # Errors
    /// [`Full`].
    pub fn enter(&self, holder: &Holder) -> Result<Slot, Full> {
        let pool = if holder.is_stranger() { &self.strangers } else { &self.organizations };
        pool.try_take(holder, 1).map_err(|whose| {
            self.refusals.count(self.what, holder);
            Full { what: self.what, limit: self.total, whose }
        })
    }

    /// Slots that organizations have not taken.
    #[must_use]
    pub fn free(&self) -> usize {
        self.organizations.free()
    }
}
