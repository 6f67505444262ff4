//! A peer's ledger of one channel: blocks, state, history and indexes in one store, each block
//! of it written at once.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use weft_protos::common::{Block, BlockchainInfo, Envelope};
use weft_protos::ext::{DecodeError, decode};
use weft_protos::peer::ProcessedTransaction;
use weft_types::block::{self, BlockError, metadata};
use weft_types::{BlockNumber, ChannelId, TxFilter};

use crate::block_store::{BlockAppend, BlockStore, BlockStoreError, Tip};
use crate::history::HistoryQuery;
use crate::kv::column::{CHAIN, PRIVATE_DATA};
use crate::kv::{Batch, Durability, Kv, KvError};
use crate::private::WritesKey;
use crate::simulator::{QueryLimits, Simulator};
use crate::state::{KvState, OverlayState};
use crate::updates::{HistoryWrite, UpdateBatch};

/// Which channel the store is of, and how far its state is. Key `savepoint` of the column
/// `chain`. Written with every block, so it always agrees with the end of the chain; if it does
/// not, the store is damaged.
const SAVEPOINT: &[u8] = b"savepoint";

#[derive(Clone, PartialEq, prost::Message)]
struct Savepoint {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(uint64, tag = "2")]
    height: u64,
    #[prost(bytes = "bytes", tag = "3")]
    commit_hash: Bytes,
}

/// A failure of a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The chain of blocks failed.
    #[error("failed to {step}")]
    Blocks {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: BlockStoreError,
    },
    /// The store below failed.
    #[error("failed to {step}")]
    Store {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: KvError,
    },
    /// The store belongs to another channel.
    #[error("failed to open the ledger of channel {expected}: the store is of channel {found:?}")]
    Channel {
        /// The channel that was asked for.
        expected: ChannelId,
        /// The channel of the store.
        found: String,
    },
    /// State and blocks do not agree. They are written at once, so the store is damaged: let
    /// the peer fetch the channel anew.
    #[error("failed to open the ledger of channel {channel}: the state is damaged: {what}")]
    Damaged {
        /// The channel.
        channel: ChannelId,
        /// What does not agree.
        what: String,
    },
    /// A block does not have what it must have to be committed.
    #[error("failed to commit a block")]
    Block(#[source] BlockError),
    /// The codes, ids or updates do not belong to the block.
    #[error("failed to commit block {number}: {what}")]
    Mismatch {
        /// The block.
        number: BlockNumber,
        /// What does not belong.
        what: &'static str,
    },
    /// A stored transaction cannot be decoded.
    #[error("failed to decode a stored transaction")]
    Decode(#[source] DecodeError),
}

impl LedgerError {
    /// Whether the same call can succeed later without a repair of the data.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::Blocks { source, .. } => source.can_retry(),
            Self::Store { source, .. } => source.can_retry(),
            _ => false,
        }
    }
}

fn blocks(step: &'static str) -> impl FnOnce(BlockStoreError) -> LedgerError {
    move |source| LedgerError::Blocks { step, source }
}

/// A validated block with everything that is written with it.
pub struct CommitInput<'a> {
    /// The block as it came from an orderer.
    pub block: Block,
    /// The validation code of every transaction.
    pub codes: TxFilter,
    /// The id of every transaction, as its channel header has it; empty where it has none.
    pub tx_ids: &'a [String],
    /// What the valid transactions change.
    pub updates: &'a UpdateBatch,
    /// Which public keys they wrote.
    pub history: &'a [HistoryWrite],
    /// Anything else that is written at once with the block, such as what
    /// [`crate::private::PrivateBatch`] made of private writes.
    pub extra: Batch,
}

/// A block as it was committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The block, with validation codes and commit hash in its metadata.
    pub block: Block,
    /// The same, encoded.
    pub encoded: Bytes,
    /// The end of the chain.
    pub tip: Tip,
    /// The hash over all updates since the first block; empty for the genesis block.
    pub commit_hash: Bytes,
}

/// The ledger. One thread commits; any number read.
pub struct Ledger {
    channel: ChannelId,
    kv: Arc<dyn Kv>,
    blocks: Arc<BlockStore>,
    commit_hash: Mutex<Bytes>,
    limits: QueryLimits,
}

impl Ledger {
    /// Opens the ledger of `channel`; an empty store is a ledger of height 0.
    ///
    /// A block, its state and its indexes are one write, so there is nothing to recover; it is
    /// checked that they agree.
    ///
    /// # Errors
    /// Fails where the store cannot be read, is of another channel, or is damaged.
    pub fn open(kv: Arc<dyn Kv>, channel: ChannelId) -> Result<Self, LedgerError> {
        let chain = BlockStore::open(Arc::clone(&kv)).map_err(blocks("open the chain"))?;
        let stored = kv
            .get(CHAIN, SAVEPOINT)
            .map_err(|source| LedgerError::Store { step: "read the savepoint", source })?;
        let savepoint = check_savepoint(&channel, &chain, stored)?;
        let (blocks, commit_hash) = (Arc::new(chain), Mutex::new(savepoint.commit_hash));
        Ok(Self { channel, kv, blocks, commit_hash, limits: QueryLimits::default() })
    }

    /// Sets the limits of simulations' queries.
    #[must_use]
    pub fn with_query_limits(mut self, limits: QueryLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The channel.
    pub fn channel_id(&self) -> &ChannelId {
        &self.channel
    }

    /// How many blocks there are; also the number of the next one.
    pub fn height(&self) -> BlockNumber {
        self.blocks.height()
    }

    /// The chain of blocks.
    pub fn blocks(&self) -> &Arc<BlockStore> {
        &self.blocks
    }

    /// The store that everything is in.
    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// What `qscc` tells about the chain.
    pub fn info(&self) -> BlockchainInfo {
        let Tip { height, last_hash, previous_hash, .. } = self.blocks.tip();
        BlockchainInfo {
            height,
            current_block_hash: last_hash,
            previous_block_hash: previous_hash,
            ..BlockchainInfo::default()
        }
    }

    /// The state as of now, unchanged by what is committed later.
    pub fn state(&self) -> KvState {
        KvState::new(self.kv.snapshot())
    }

    /// The state after the blocks in flight, oldest first: those that are validated but not
    /// committed yet. Collect them before the call.
    pub fn state_after(
        &self,
        in_flight: impl IntoIterator<Item = Arc<UpdateBatch>>,
    ) -> OverlayState {
        let in_flight: Vec<_> = in_flight.into_iter().collect();
        OverlayState::new(Arc::new(self.state()), in_flight)
    }

    /// Starts the simulation of a transaction.
    pub fn simulator(&self) -> Simulator {
        Simulator::new(self.state(), self.limits)
    }

    /// The history of a public key, newest first.
    pub fn history(&self, namespace: &str, key: &str) -> HistoryQuery {
        HistoryQuery::new(Arc::clone(&self.blocks), self.kv.snapshot(), namespace, key)
    }

    /// A transaction with its validation code, as `qscc` gives it.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn transaction(&self, tx_id: &str) -> Result<Option<ProcessedTransaction>, LedgerError> {
        let location = self.blocks.transaction(tx_id).map_err(blocks("look up a transaction"))?;
        let Some(location) = location else { return Ok(None) };
        let raw = self.blocks.envelope(location.block, location.index);
        let raw = raw.map_err(blocks("read a transaction"))?;
        let envelope: Envelope = decode("envelope", raw).map_err(LedgerError::Decode)?;
        Ok(Some(ProcessedTransaction {
            transaction_envelope: Some(envelope),
            validation_code: location.code.into(),
        }))
    }

    /// The private writes of a committed transaction in a collection, as the encoded
    /// `kvrwset.KVRWSet`; `None` where this peer does not have them (any more). What was purged
    /// since is left out, so their hash need not be the one in the block.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn private_writes(
        &self,
        namespace: &str,
        collection: &str,
        block: BlockNumber,
        place: u32,
    ) -> Result<Option<Bytes>, KvError> {
        let key = WritesKey { namespace, collection, block, place }.encode();
        self.kv.get(PRIVATE_DATA, &key)
    }

    /// The hash over all updates since the first block; empty up to the genesis block.
    pub fn commit_hash(&self) -> Bytes {
        self.commit_hash.lock().clone()
    }

    /// Commits the next block: block, state, history and indexes in one write that is on disk
    /// when this returns.
    ///
    /// # Errors
    /// Fails where the block is not the next one, what comes with it does not belong to it, or
    /// the store cannot write. Nothing is changed then; after a failure to write the store must
    /// be opened again.
    pub fn commit(&self, input: CommitInput<'_>) -> Result<Committed, LedgerError> {
        self.commit_with(input, Durability::Synced)
    }

    /// As [`commit`](Self::commit); a buffered block is on disk only after the next synced one.
    /// Until then nobody may be told of it. For blocks that wait in a row.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_with(
        &self,
        input: CommitInput<'_>,
        durability: Durability,
    ) -> Result<Committed, LedgerError> {
        let mut previous = self.commit_hash.lock();
        let CommitInput { mut block, codes, tx_ids, updates, history, extra } = input;
        let number = block::header(&block).map_err(LedgerError::Block)?.number;
        check_codes(number, &block, &codes)?;
        metadata::set_filter(&mut block, codes.clone());
        // The genesis block has no commit hash, and blocks of a chain that began without one
        // have none either (Fabric: core/ledger/kvledger/kv_ledger.go).
        let mut commit_hash = Bytes::new();
        if number == 1 || !previous.is_empty() {
            let hash = block::commit_hash(&codes, &updates.commit_bytes(), &previous);
            metadata::set_commit_hash(&mut block, &hash);
            commit_hash = Bytes::copy_from_slice(&hash);
        }
        let mut batch = self.savepoint(number, &commit_hash);
        updates.write_to(&mut batch);
        history.iter().for_each(|write| write.write_to(&mut batch));
        batch.extend(extra);
        let encoded = Bytes::from(block.encode_to_vec());
        let append = BlockAppend::new(&block)
            .encoded(encoded.clone())
            .transactions(tx_ids, &codes)
            .extend(batch)
            .durability(durability);
        let tip = self.blocks.append(append).map_err(blocks("commit a block"))?;
        previous.clone_from(&commit_hash);
        Ok(Committed { block, encoded, tip, commit_hash })
    }

    fn savepoint(&self, number: BlockNumber, commit_hash: &Bytes) -> Batch {
        let savepoint = Savepoint {
            channel: self.channel.as_str().to_owned(),
            height: number.saturating_add(1),
            commit_hash: commit_hash.clone(),
        };
        let mut batch = Batch::new();
        batch.put(CHAIN, SAVEPOINT, savepoint.encode_to_vec());
        batch
    }
}

fn check_codes(number: BlockNumber, block: &Block, codes: &TxFilter) -> Result<(), LedgerError> {
    if codes.len() != block::transactions(block).len() {
        let what = "there is not one validation code for each transaction";
        return Err(LedgerError::Mismatch { number, what });
    }
    Ok(())
}

fn check_savepoint(
    channel: &ChannelId,
    chain: &BlockStore,
    stored: Option<Bytes>,
) -> Result<Savepoint, LedgerError> {
    let damaged = |what: String| LedgerError::Damaged { channel: channel.clone(), what };
    let height = chain.height();
    let savepoint: Savepoint = match stored {
        Some(bytes) => decode("savepoint", bytes).map_err(|error| damaged(error.to_string()))?,
        None if height == 0 => return Ok(Savepoint::default()),
        None => return Err(damaged(format!("there are {height} blocks and no savepoint"))),
    };
    if savepoint.channel != channel.as_str() {
        let (expected, found) = (channel.clone(), savepoint.channel);
        return Err(LedgerError::Channel { expected, found });
    }
    if savepoint.height != height {
        let state = savepoint.height;
        return Err(damaged(format!("there are {height} blocks, the state is after {state}")));
    }
    let newest = chain.block(height.saturating_sub(1)).map_err(blocks("read the newest block"))?;
    let newest = newest.ok_or_else(|| damaged("the newest block is missing".to_owned()))?;
    let hash = metadata::commit_hash(&newest).map_err(|error| damaged(error.to_string()))?;
    if hash != savepoint.commit_hash {
        return Err(damaged("the newest block has another commit hash".to_owned()));
    }
    Ok(savepoint)
}
