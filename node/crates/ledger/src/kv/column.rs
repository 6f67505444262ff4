//! The column families: declared once, here, with the format of their keys and values.
//!
//! Numbers in keys are big-endian, so that byte order is number order. A `text` in a key has its
//! length in bytes in front, as a varint, so that no text's form is the beginning of another's.

/// A named part of a store with keys of its own.
///
/// The declaration also tells a store how to keep the values; it is not stored.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    large_values: bool,
}

impl Column {
    /// A column of small values (up to a few KiB).
    ///
    /// The name is stored: it must never change.
    pub const fn new(name: &'static str) -> Self {
        Self { name, large_values: false }
    }

    /// A column of values that are large and rarely read, such as blocks: a store keeps them
    /// apart from the keys, so that compactions do not move them.
    pub const fn with_large_values(name: &'static str) -> Self {
        Self { name, large_values: true }
    }

    /// The stored name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether values are best kept apart from the keys.
    pub const fn large_values(self) -> bool {
        self.large_values
    }
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Column {}

impl std::hash::Hash for Column {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a chain is, in a handful of records: `tip`, `savepoint`, `commit_hash`.
///
/// Key: the record's name. Value: see [`crate::block_store`] and [`crate::ledger`].
pub const CHAIN: Column = Column::new("chain");

/// Blocks. Key: number (u64). Value: the encoded `common.Block`.
pub const BLOCKS: Column = Column::with_large_values("blocks");

/// Blocks by hash. Key: hash of the header (32 bytes). Value: number (u64).
pub const BLOCK_HASHES: Column = Column::new("block_hashes");

/// Where a transaction is. Key: transaction id as text. Value: block (u64), place in the block
/// (u32), validation code (u8).
pub const TRANSACTIONS: Column = Column::new("transactions");

/// Public state. Key: namespace (text), key. Value: [`crate::state::VersionedValue`].
pub const STATE: Column = Column::new("state");

/// Hashes of private state. Key: namespace (text), collection (text), hash of the key.
/// Value: [`crate::state::VersionedValue`] whose value is the hash of the value.
pub const STATE_HASHES: Column = Column::new("state_hashes");

/// Private state that this peer has. Key: namespace (text), collection (text), key.
/// Value: [`crate::state::VersionedValue`].
pub const PRIVATE_STATE: Column = Column::new("private_state");

/// Private writes of committed transactions that this peer has. Key: namespace (text),
/// collection (text), block (u64), place in the block (u32): [`crate::private::WritesKey`].
/// Value: the encoded `kvrwset.KVRWSet`, without what was purged since.
pub const PRIVATE_DATA: Column = Column::new("private_data");

/// Private writes of committed transactions that this peer does not have, whether it should (its
/// organization is a member) or not (it can become one). Key: as in [`PRIVATE_DATA`].
/// Value: empty.
pub const MISSING_PRIVATE: Column = Column::new("missing_private");

/// Private keys that were purged, so that their values do not come back with writes that are
/// found later. Key: namespace (text), collection (text), hash of the key. Value: block (u64) and
/// place in the block (u32) of the last purge.
pub const PURGED: Column = Column::new("purged");

/// What ends with a block, as its collection says. Key: block (u64), kind (u8), namespace (text),
/// collection (text), block (u64) and place in the block (u32) of the transaction that wrote it,
/// then for kind 0 the hash of a key (in [`STATE_HASHES`]), for kind 1 a key (in
/// [`PRIVATE_STATE`]), for kind 2 nothing (in [`PRIVATE_DATA`] or [`MISSING_PRIVATE`]):
/// [`crate::private::Expiry`]. Value: empty.
pub const EXPIRY: Column = Column::new("expiry");

/// Which transactions wrote a key. Key: namespace (text), key (text), block (u64), place in
/// the block (u32). Value: empty.
pub const HISTORY: Column = Column::new("history");

/// Private writes of endorsed transactions that are not committed yet. Key: transaction id
/// (text), then anything that tells one record from another. Value: the owner's.
pub const TRANSIENT: Column = Column::new("transient");

/// An orderer's replicated log. Key and value: the consensus engine's.
pub const CONSENSUS_LOG: Column = Column::new("consensus_log");

/// An orderer's vote, term, membership and other small consensus state. Key and value: the
/// consensus engine's.
pub const CONSENSUS_STATE: Column = Column::new("consensus_state");

/// Every column of a peer's ledger.
pub const PEER_COLUMNS: &[Column] = &[
    CHAIN,
    BLOCKS,
    BLOCK_HASHES,
    TRANSACTIONS,
    STATE,
    STATE_HASHES,
    PRIVATE_STATE,
    PRIVATE_DATA,
    MISSING_PRIVATE,
    PURGED,
    EXPIRY,
    HISTORY,
    TRANSIENT,
];

/// Every column of an orderer's chain.
pub const ORDERER_COLUMNS: &[Column] =
    &[CHAIN, BLOCKS, BLOCK_HASHES, TRANSACTIONS, CONSENSUS_LOG, CONSENSUS_STATE];
