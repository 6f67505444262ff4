//! Whether opening a failed channel again can help.

use std::error::Error;

use weft_ledger::kv::KvError;
use weft_ledger::{BlockStoreError, LedgerError};

/// Whether opening a channel again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// It can, as with a full disk. After a failed write only opening the store again tells
    /// what is on the disk.
    Retry,
    /// It cannot without a repair of the data.
    Repair,
}

impl Cure {
    /// What helps against an error of a ledger, by its causes: stored data that was found
    /// damaged, or that belongs to something else, has to be repaired.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            if is_damage(cause) {
                return Self::Repair;
            }
            next = cause.source();
        }
        Self::Retry
    }
}

fn is_damage(error: &(dyn Error + 'static)) -> bool {
    let kv = error.downcast_ref().is_some_and(KvError::is_corruption);
    let blocks = matches!(
        error.downcast_ref(),
        Some(BlockStoreError::Corrupt { .. } | BlockStoreError::Decode { .. })
    );
    let ledger = matches!(
        error.downcast_ref(),
        Some(LedgerError::Channel { .. } | LedgerError::Damaged { .. })
    );
    kv || blocks || ledger
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn damage_is_found_below_other_errors() {
        let corrupt = KvError::Corrupt { what: "a checksum".to_owned() };
        let full = KvError::Full { source: Arc::new(std::io::Error::other("full")) };
        for (kv, cure) in [(corrupt, Cure::Repair), (full, Cure::Retry)] {
            let blocks = BlockStoreError::Store { step: "read", source: kv.clone() };
            let ledger = LedgerError::Blocks { step: "open", source: blocks };
            assert_eq!((Cure::of(&ledger), Cure::of(&kv)), (cure, cure));
        }
        let other = BlockStoreError::Corrupt { what: "two tips".to_owned() };
        assert_eq!(Cure::of(&other), Cure::Repair);
    }
}
