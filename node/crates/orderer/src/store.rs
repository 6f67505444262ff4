//! What of a channel is stored: its blocks, the engine's log, and the block it was joined with.
//!
//! The engine's records are all of the column `consensus_log`; the orderer's own are in
//! `consensus_state`: `join_block`, the config block that the channel was joined with, until the
//! chain has reached it; `node`, the id (u64, big-endian) under which this node last kept a log;
//! `flushed`, empty, written at an orderly end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use weft_consensus::{LogWrite, NodeId, Persist};
use weft_ledger::block_store::{BlockAppend, BlockStore, BlockStoreError, Tip};
use weft_ledger::kv::column::{CONSENSUS_LOG, CONSENSUS_STATE};
use weft_ledger::kv::{Batch, Direction, Durability, Entries, KeyRange, Kv, KvError, KvRead};
use weft_protos::common::Block;
use weft_protos::ext::{DecodeError, decode};
use weft_types::BlockNumber;

const JOIN_BLOCK: &[u8] = b"join_block";
const NODE: &[u8] = b"node";
const FLUSHED: &[u8] = b"flushed";
/// Keys of the engine read at once.
const CHUNK: usize = 256;
/// Larger than any key of an engine.
const LAST_KEY: [u8; 32] = [u8::MAX; 32];
/// Newest blocks kept decoded, for those who read along.
const CACHED_BLOCKS: usize = 128;
/// Bytes of transactions in those blocks.
const CACHED_BYTES: usize = 32 * 1024 * 1024;

/// Why a channel's store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store below failed.
    #[error("failed to {step}: {source}")]
    Kv {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: KvError,
    },
    /// The chain of blocks failed.
    #[error("failed to use the chain of blocks: {0}")]
    Blocks(#[source] BlockStoreError),
    /// The block that the channel was joined with cannot be read.
    #[error("failed to read the join block: {0}")]
    JoinBlock(#[source] DecodeError),
}

impl StoreError {
    /// Whether opening the store again can help, without anybody's repair of the data.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::Kv { source, .. } => source.can_retry(),
            Self::Blocks(source) => source.can_retry(),
            Self::JoinBlock(_) => false,
        }
    }
}

fn kv(step: &'static str) -> impl FnOnce(KvError) -> StoreError {
    move |source| StoreError::Kv { step, source }
}

#[derive(Default)]
struct Cache {
    blocks: VecDeque<(BlockNumber, usize, Block)>,
    bytes: usize,
}

/// The store of one channel.
pub struct ChainStore {
    kv: Arc<dyn Kv>,
    blocks: BlockStore,
    cache: Mutex<Cache>,
}

impl ChainStore {
    /// Opens what is stored.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or contradicts itself.
    pub fn open(kv: Arc<dyn Kv>) -> Result<Self, StoreError> {
        let blocks = BlockStore::open(kv.clone()).map_err(StoreError::Blocks)?;
        Ok(Self { kv, blocks, cache: Mutex::default() })
    }

    /// The end of the chain.
    pub fn tip(&self) -> Tip {
        self.blocks.tip()
    }

    /// Number of blocks.
    pub fn height(&self) -> BlockNumber {
        self.blocks.height()
    }

    /// A block from memory, if it is one of the newest.
    pub fn cached(&self, number: BlockNumber) -> Option<Block> {
        let cache = self.cache.lock();
        let first = cache.blocks.front()?.0;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        cache.blocks.get(place).map(|(_, _, block)| block.clone())
    }

    /// A block; `None` when there is none of that number.
    ///
    /// # Errors
    /// [`StoreError::Blocks`].
    pub fn block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        match self.cached(number) {
            Some(block) => Ok(Some(block)),
            None => self.blocks.block(number).map_err(StoreError::Blocks),
        }
    }

    /// The newest config block.
    ///
    /// # Errors
    /// [`StoreError::Blocks`].
    pub fn last_config_block(&self) -> Result<Option<Block>, StoreError> {
        self.blocks.last_config_block().map_err(StoreError::Blocks)
    }

    /// The newest block.
    ///
    /// # Errors
    /// [`StoreError::Blocks`].
    pub fn newest(&self) -> Result<Option<Block>, StoreError> {
        match self.height().checked_sub(1) {
            Some(number) => self.block(number),
            None => Ok(None),
        }
    }

    /// Appends the next block.
    ///
    /// # Errors
    /// [`StoreError::Blocks`], also when it is not the next one.
    pub fn append(&self, block: Block, durability: Durability) -> Result<Tip, StoreError> {
        let encoded: Bytes = block.encode_to_vec().into();
        let size = encoded.len();
        let append = BlockAppend::new(&block).encoded(encoded).durability(durability);
        let tip = self.blocks.append(append).map_err(StoreError::Blocks)?;
        self.remember(tip.height - 1, size, block);
        Ok(tip)
    }

    fn remember(&self, number: BlockNumber, size: usize, block: Block) {
        let mut cache = self.cache.lock();
        cache.blocks.push_back((number, size, block));
        cache.bytes += size;
        while cache.blocks.len() > CACHED_BLOCKS || cache.bytes > CACHED_BYTES {
            let Some((_, size, _)) = cache.blocks.pop_front() else { break };
            cache.bytes -= size;
        }
    }

    /// All records of the engine.
    ///
    /// # Errors
    /// [`StoreError::Kv`].
    pub fn engine_records(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let reader: &dyn KvRead = &*self.kv;
        Entries::new(reader, CONSENSUS_LOG, KeyRange::all(), Direction::Forward, CHUNK)
            .collect::<Result<_, _>>()
            .map_err(kv("read the consensus log"))
    }

    /// The id under which this node last kept a log, if it ever did.
    ///
    /// # Errors
    /// [`StoreError::Kv`].
    pub fn node(&self) -> Result<Option<NodeId>, StoreError> {
        let stored = self.kv.get(CONSENSUS_STATE, NODE).map_err(kv("read the node's id"))?;
        let bytes = stored.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_ref()).ok());
        Ok(bytes.map(NodeId::from_be_bytes))
    }

    /// Carries out what the engine of `node` wants written; `None` once that id is stored.
    ///
    /// # Errors
    /// [`StoreError::Kv`]; the engine must not go on then.
    pub fn persist(&self, persist: Persist, node: Option<NodeId>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        if let Some(node) = node {
            batch.put(CONSENSUS_STATE, NODE, node.to_be_bytes().to_vec());
        }
        for write in persist.writes {
            match write {
                LogWrite::Put { key, value } => batch.put(CONSENSUS_LOG, key, value),
                LogWrite::Delete { key } => batch.delete(CONSENSUS_LOG, key),
            }
        }
        let durability = if persist.sync { Durability::Synced } else { Durability::Buffered };
        self.kv.write(batch, durability).map_err(kv("write the consensus log"))
    }

    /// Deletes the engine's records: this node is no consenter any more.
    ///
    /// # Errors
    /// [`StoreError::Kv`].
    pub fn forget_engine(&self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete_range(CONSENSUS_LOG, Bytes::new(), Bytes::from_static(&LAST_KEY));
        self.kv.write(batch, Durability::Synced).map_err(kv("delete the consensus log"))
    }

    /// The block that the channel was joined with, as long as the chain has not reached it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn join_block(&self) -> Result<Option<Block>, StoreError> {
        let stored = self.kv.get(CONSENSUS_STATE, JOIN_BLOCK).map_err(kv("read the join block"))?;
        stored.map(|bytes| decode("join block", bytes)).transpose().map_err(StoreError::JoinBlock)
    }

    /// Keeps the block that the channel is joined with.
    ///
    /// # Errors
    /// [`StoreError::Kv`].
    pub fn set_join_block(&self, block: &Block) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(CONSENSUS_STATE, JOIN_BLOCK, block.encode_to_vec());
        self.kv.write(batch, Durability::Synced).map_err(kv("write the join block"))
    }

    /// Lets the join block go: the chain has reached it.
    ///
    /// # Errors
    /// [`StoreError::Kv`].
    pub fn clear_join_block(&self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(CONSENSUS_STATE, JOIN_BLOCK);
        self.kv.write(batch, Durability::Synced).map_err(kv("delete the join block"))
    }

    /// Brings everything written so far to disk.
    ///
    /// # Errors
    /// [`StoreError::Kv`].
    pub fn flush(&self) -> Result<(), StoreError> {
        // A batch without changes might be skipped by the store.
        let mut batch = Batch::new();
        batch.put(CONSENSUS_STATE, FLUSHED, Bytes::new());
        self.kv.write(batch, Durability::Synced).map_err(kv("flush"))
    }
}
