//! Versions of keys: the place in the chain of the transaction that last wrote them.

use weft_protos::kvrwset;
use weft_types::BlockNumber;

/// A transaction's place in the chain, and so the version of what it wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The block.
    pub block: BlockNumber,
    /// The place in the block, from 0.
    pub tx: u64,
}

impl Version {
    /// The version that the transaction at this place writes.
    pub const fn new(block: BlockNumber, tx: u64) -> Self {
        Self { block, tx }
    }

    /// As it stands in a read-write set.
    pub const fn to_proto(self) -> kvrwset::Version {
        kvrwset::Version { block_num: self.block, tx_num: self.tx }
    }

    /// From a read-write set.
    pub const fn from_proto(version: &kvrwset::Version) -> Self {
        Self { block: version.block_num, tx: version.tx_num }
    }

    /// Appends the form that commit hashes cover: each number as the count of its significant
    /// bytes, then these, big-endian (Fabric: common/ledger/util/util.go,
    /// core/ledger/internal/version/version.go).
    pub fn append_ordered(self, to: &mut Vec<u8>) {
        for number in [self.block, self.tx] {
            let bytes = number.to_be_bytes();
            let zeros = number.leading_zeros() as usize / 8;
            let significant = &bytes[zeros..];
            to.push(significant.len() as u8);
            to.extend_from_slice(significant);
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.block, self.tx)
    }
}
