//! The chain of blocks, with its indexes by hash and by transaction. Orderers and peers share it.
//!
//! A block and everything that depends on it are one write: the caller adds its own changes
//! (state, history, an applied index) with [`BlockAppend::extend`], so that a crash leaves all
//! of a block or nothing of it and there is never anything to repair between stores.
//!
//! Blocks are stored as encoded bytes and come back as such; decode them where needed.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use weft_protos::common::{Block, BlockHeader};
use weft_protos::ext::{DecodeError, decode};
use weft_types::block::{self, BlockError};
use weft_types::{BlockNumber, TxFilter, ValidationCode};

use crate::kv::column::{BLOCK_HASHES, BLOCKS, CHAIN, TRANSACTIONS};
use crate::kv::{Batch, Direction, Durability, Entries, KeyRange, Kv, KvError};

/// Where a chain ends. Key `tip` of the column `chain`.
const TIP: &[u8] = b"tip";

/// How many blocks an iteration reads at once.
const CHUNK: usize = 8;

/// A failure of the block store.
#[derive(Debug, thiserror::Error)]
pub enum BlockStoreError {
    /// The store below failed.
    #[error("failed to {step}")]
    Store {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: KvError,
    },
    /// The block does not continue the chain.
    #[error("failed to append a block")]
    Refused {
        /// What is wrong with it.
        source: BlockError,
    },
    /// The list of transactions does not match the block.
    #[error("failed to append block {number}: {given} transactions named, the block has {actual}")]
    Transactions {
        /// The block's number.
        number: BlockNumber,
        /// How many were named.
        given: usize,
        /// How many there are.
        actual: usize,
    },
    /// A stored block cannot be decoded.
    #[error("failed to decode stored block {number}")]
    Decode {
        /// The block's number.
        number: BlockNumber,
        /// Why not.
        source: DecodeError,
    },
    /// What is stored contradicts itself.
    #[error("failed to read the chain: it is corrupt: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
}

impl BlockStoreError {
    /// Whether the same call can succeed later without a repair of the data.
    pub fn can_retry(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.can_retry())
    }
}

fn store(step: &'static str) -> impl FnOnce(KvError) -> BlockStoreError {
    move |source| BlockStoreError::Store { step, source }
}

/// The end of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// How many blocks there are; also the number of the next one.
    pub height: BlockNumber,
    /// The hash of the newest block's header; empty before the first block.
    pub last_hash: Bytes,
    /// The hash that the newest block names as its predecessor's; empty before block 1.
    pub previous_hash: Bytes,
    /// The newest block that is a configuration; 0 before there is one.
    pub last_config: BlockNumber,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredTip {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(bytes = "bytes", tag = "2")]
    last_hash: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    previous_hash: Bytes,
    #[prost(uint64, tag = "4")]
    last_config: u64,
}

impl Tip {
    fn encode(&self) -> Vec<u8> {
        let Self { height, last_hash, previous_hash, last_config } = self.clone();
        StoredTip { height, last_hash, previous_hash, last_config }.encode_to_vec()
    }

    fn decode(bytes: Bytes) -> Result<Self, BlockStoreError> {
        let StoredTip { height, last_hash, previous_hash, last_config } =
            decode("tip", bytes).map_err(|error| corrupt(error.to_string()))?;
        Ok(Self { height, last_hash, previous_hash, last_config })
    }
}

/// Where a transaction is, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLocation {
    /// Its block.
    pub block: BlockNumber,
    /// Its place in the block, from 0.
    pub index: u32,
    /// Its validation code.
    pub code: ValidationCode,
}

impl TransactionLocation {
    fn encode(self) -> [u8; 13] {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&self.block.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_be_bytes());
        bytes[12] = TxFilter::from_codes(&[self.code]).as_bytes()[0];
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, BlockStoreError> {
        let parts = bytes.split_first_chunk::<8>().and_then(|(block, rest)| {
            let (index, code) = rest.split_first_chunk::<4>()?;
            Some((u64::from_be_bytes(*block), u32::from_be_bytes(*index), code))
        });
        let (block, index, code) =
            parts.ok_or_else(|| corrupt("a transaction's location is cut short".to_owned()))?;
        let code = TxFilter::from_bytes(code)
            .get(0)
            .ok_or_else(|| corrupt("a transaction's location has no code".to_owned()))?;
        Ok(Self { block, index, code })
    }
}

/// A block to append, with everything that is written together with it.
pub struct BlockAppend<'a> {
    block: &'a Block,
    encoded: Option<Bytes>,
    transactions: Option<(&'a [String], &'a TxFilter)>,
    extra: Batch,
    durability: Durability,
}

impl<'a> BlockAppend<'a> {
    /// Appends `block`, synced, with no index of its transactions.
    pub fn new(block: &'a Block) -> Self {
        let (encoded, transactions, extra) = (None, None, Batch::new());
        Self { block, encoded, transactions, extra, durability: Durability::Synced }
    }

    /// Stores these bytes, which must decode to the block, instead of encoding it again.
    #[must_use]
    pub fn encoded(mut self, bytes: Bytes) -> Self {
        self.encoded = Some(bytes);
        self
    }

    /// Files the transactions under their ids (in the block's order; an empty id is not filed)
    /// with these validation codes. An id that is filed already keeps its first place, as in
    /// Fabric (common/ledger/blkstorage/blockindex.go).
    #[must_use]
    pub fn transactions(mut self, ids: &'a [String], codes: &'a TxFilter) -> Self {
        self.transactions = Some((ids, codes));
        self
    }

    /// Adds changes to the same write.
    #[must_use]
    pub fn extend(mut self, batch: Batch) -> Self {
        self.extra.extend(batch);
        self
    }

    /// Whether the write must be on disk before it is acknowledged.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// The chain of blocks in a store.
pub struct BlockStore {
    kv: Arc<dyn Kv>,
    tip: RwLock<Tip>,
    appending: Mutex<()>,
}

impl BlockStore {
    /// Opens the chain that is in the store; an empty store is a chain of height 0.
    ///
    /// # Errors
    /// Fails where the store cannot be read, or the newest block is not the one that the tip
    /// names.
    pub fn open(kv: Arc<dyn Kv>) -> Result<Self, BlockStoreError> {
        let tip = kv.get(CHAIN, TIP).map_err(store("read the end of the chain"))?;
        let tip = tip.map(Tip::decode).transpose()?.unwrap_or_default();
        let chain = Self { kv, tip: RwLock::new(tip), appending: Mutex::new(()) };
        chain.check_end()?;
        Ok(chain)
    }

    /// The store that the chain is in.
    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// The end of the chain.
    pub fn tip(&self) -> Tip {
        self.tip.read().clone()
    }

    /// How many blocks there are; also the number of the next one.
    pub fn height(&self) -> BlockNumber {
        self.tip.read().height
    }

    /// Appends the next block and everything that comes with it, in one write.
    ///
    /// The data hash is the caller's to check ([`block::check`]), where the block arrives.
    ///
    /// # Errors
    /// Fails where the block is not the next one or names another predecessor, or where the
    /// store cannot write; nothing is changed then.
    pub fn append(&self, append: BlockAppend<'_>) -> Result<Tip, BlockStoreError> {
        let _one_at_a_time = self.appending.lock();
        let tip = self.tip();
        let header = self.check_next(&tip, append.block)?;
        let next = next_tip(&tip, header, append.block);
        let durability = append.durability;
        let batch = self.batch(header.number, &next, append)?;
        self.kv.write(batch, durability).map_err(store("write a block"))?;
        *self.tip.write() = next.clone();
        Ok(next)
    }

    fn check_next<'a>(
        &self,
        tip: &Tip,
        block: &'a Block,
    ) -> Result<&'a BlockHeader, BlockStoreError> {
        let refused = |source| BlockStoreError::Refused { source };
        let header = block::header(block).map_err(refused)?;
        let number = header.number;
        if number != tip.height {
            return Err(refused(BlockError::Number { number, expected: tip.height }));
        }
        if header.previous_hash != tip.last_hash {
            return Err(refused(BlockError::PreviousHash { number }));
        }
        Ok(header)
    }

    fn batch(
        &self,
        number: BlockNumber,
        next: &Tip,
        append: BlockAppend<'_>,
    ) -> Result<Batch, BlockStoreError> {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        let encoded = append.encoded.unwrap_or_else(|| append.block.encode_to_vec().into());
        let mut batch = Batch::new();
        batch.put(BLOCKS, key.clone(), encoded);
        batch.put(BLOCK_HASHES, next.last_hash.clone(), key);
        batch.put(CHAIN, TIP, next.encode());
        if let Some((ids, codes)) = append.transactions {
            let actual = block::transactions(append.block).len();
            let given = ids.len().min(codes.len());
            if ids.len() != actual || codes.len() != actual {
                return Err(BlockStoreError::Transactions { number, given, actual });
            }
            self.index_transactions(&mut batch, number, ids, codes)?;
        }
        batch.extend(append.extra);
        Ok(batch)
    }

    /// A valid transaction's id is known to be new, because validation looked it up; any other
    /// could be filed already.
    fn index_transactions(
        &self,
        batch: &mut Batch,
        block: BlockNumber,
        ids: &[String],
        codes: &TxFilter,
    ) -> Result<(), BlockStoreError> {
        let mut seen = HashSet::with_capacity(ids.len());
        for ((index, id), code) in (0u32..).zip(ids).zip(codes.iter()) {
            let known = id.is_empty()
                || !seen.insert(id.as_str())
                || (code != ValidationCode::Valid && self.contains_transaction(id)?);
            if !known {
                let location = TransactionLocation { block, index, code };
                batch.put(TRANSACTIONS, id.as_bytes().to_vec(), location.encode().to_vec());
            }
        }
        Ok(())
    }

    /// The encoded block with this number.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn get(&self, number: BlockNumber) -> Result<Option<Bytes>, BlockStoreError> {
        self.kv.get(BLOCKS, &number.to_be_bytes()).map_err(store("read a block"))
    }

    /// The block with this number.
    ///
    /// # Errors
    /// Fails where the store cannot be read or the block not be decoded.
    pub fn block(&self, number: BlockNumber) -> Result<Option<Block>, BlockStoreError> {
        self.get(number)?.map(|bytes| decode_block(number, bytes)).transpose()
    }

    /// The number of the block whose header has this hash.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn number_by_hash(&self, hash: &[u8]) -> Result<Option<BlockNumber>, BlockStoreError> {
        let number = self.kv.get(BLOCK_HASHES, hash).map_err(store("look up a block's hash"))?;
        number.map(|bytes| decode_number(&bytes)).transpose()
    }

    /// The newest configuration block.
    ///
    /// # Errors
    /// Fails where the store cannot be read or the block not be decoded.
    pub fn last_config_block(&self) -> Result<Option<Block>, BlockStoreError> {
        let tip = self.tip();
        if tip.height == 0 { Ok(None) } else { self.block(tip.last_config) }
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn transaction(&self, id: &str) -> Result<Option<TransactionLocation>, BlockStoreError> {
        let location = self.kv.get(TRANSACTIONS, id.as_bytes());
        let location = location.map_err(store("look up a transaction"))?;
        location.map(|bytes| TransactionLocation::decode(&bytes)).transpose()
    }

    /// Whether a transaction with this id, valid or not, is in the chain.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn contains_transaction(&self, id: &str) -> Result<bool, BlockStoreError> {
        let location = self.kv.get(TRANSACTIONS, id.as_bytes());
        Ok(location.map_err(store("look up a transaction"))?.is_some())
    }

    /// Which of these ids are in the chain, in their order.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn contain_transactions(&self, ids: &[&str]) -> Result<Vec<bool>, BlockStoreError> {
        let keys: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
        let found = self.kv.multi_get(TRANSACTIONS, &keys);
        let found = found.map_err(store("look up transactions"))?;
        Ok(found.iter().map(Option::is_some).collect())
    }

    /// The envelope of a transaction, encoded.
    ///
    /// # Errors
    /// Fails where the store cannot be read, or the block is not there or too short.
    pub fn envelope(&self, block: BlockNumber, index: u32) -> Result<Bytes, BlockStoreError> {
        let found = self.block(block)?;
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        found
            .as_ref()
            .and_then(|found| block::transactions(found).get(place).cloned())
            .ok_or_else(|| corrupt(format!("transaction {index} of block {block} is missing")))
    }

    /// The encoded blocks from `start` on, in order, as far as they go when they are read.
    pub fn iter(
        &self,
        start: BlockNumber,
    ) -> impl Iterator<Item = Result<(BlockNumber, Bytes), BlockStoreError>> + '_ {
        let range = KeyRange::from(start.to_be_bytes().to_vec());
        let reader: &dyn crate::kv::KvRead = &*self.kv;
        Entries::new(reader, BLOCKS, range, Direction::Forward, CHUNK).map(|entry| {
            let (key, value) = entry.map_err(store("read blocks"))?;
            Ok((decode_number(&key)?, value))
        })
    }

    fn check_end(&self) -> Result<(), BlockStoreError> {
        let tip = self.tip();
        let newest = self
            .kv
            .scan(BLOCKS, &KeyRange::all(), Direction::Reverse, 1)
            .map_err(store("read the newest block"))?;
        let found = newest.into_iter().next();
        let Some((key, bytes)) = found else {
            return if tip.height == 0 { Ok(()) } else { Err(corrupt("no block".to_owned())) };
        };
        let number = decode_number(&key)?;
        if number.checked_add(1) != Some(tip.height) {
            let height = tip.height;
            return Err(corrupt(format!("the newest block is {number}, the height {height}")));
        }
        let newest = decode_block(number, bytes)?;
        let header = block::header(&newest).map_err(|error| corrupt(error.to_string()))?;
        if header.number != number || block::header_hash(header) != *tip.last_hash {
            return Err(corrupt(format!("block {number} is not the one that was appended")));
        }
        Ok(())
    }
}

fn next_tip(tip: &Tip, header: &BlockHeader, block: &Block) -> Tip {
    let config = header.number == 0 || block::is_config(block::transactions(block));
    Tip {
        height: header.number.saturating_add(1),
        last_hash: Bytes::copy_from_slice(&block::header_hash(header)),
        previous_hash: header.previous_hash.clone(),
        last_config: if config { header.number } else { tip.last_config },
    }
}

fn decode_block(number: BlockNumber, bytes: Bytes) -> Result<Block, BlockStoreError> {
    decode("block", bytes).map_err(|source| BlockStoreError::Decode { number, source })
}

fn decode_number(bytes: &[u8]) -> Result<BlockNumber, BlockStoreError> {
    let bytes = bytes.try_into().map_err(|_| corrupt("a block's number is not 8 bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn corrupt(what: String) -> BlockStoreError {
    BlockStoreError::Corrupt { what }
}
