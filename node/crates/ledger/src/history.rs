//! The history of a key: every valid transaction that wrote it, newest first, with the value
//! taken from its block (Fabric: core/ledger/kvledger/history).
//!
//! Only endorsed transactions' public writes are in it. Writes of metadata alone are not.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use weft_protos::common::Block;
use weft_protos::queryresult::KeyModification;
use weft_types::BlockNumber;
use weft_types::ParsedEnvelope;
use weft_types::block;
use weft_types::transaction::ParsedTransaction;

use crate::Version;
use crate::block_store::{BlockStore, BlockStoreError};
use crate::kv::column::HISTORY;
use crate::kv::{Direction, KeyRange, KvError, KvRead};
use crate::rwset::{TxRwSet, is_delete};
use crate::updates::history_prefix;

/// How many records are read at once.
const CHUNK: usize = 64;

/// A failure to read a key's history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The records cannot be read.
    #[error("failed to read the history of a key")]
    Store(#[source] KvError),
    /// A block cannot be read.
    #[error("failed to read a block of a key's history")]
    Block(#[source] BlockStoreError),
    /// A record names a transaction that does not write the key.
    #[error(
        "failed to read the history of a key: transaction {version} does not write it: {reason}"
    )]
    Corrupt {
        /// The transaction.
        version: Version,
        /// What is wrong.
        reason: String,
    },
}

/// The history of one key, read step by step. Blocks committed after the start are not seen.
pub struct HistoryQuery {
    blocks: Arc<BlockStore>,
    reader: Arc<dyn KvRead>,
    namespace: String,
    key: String,
    left: KeyRange,
    ready: VecDeque<Version>,
    done: bool,
    /// The block of the last modification: a key is often written several times in one.
    block: Option<(BlockNumber, Block)>,
}

impl HistoryQuery {
    /// The history of `key` as `reader`, a snapshot, has it.
    pub fn new(
        blocks: Arc<BlockStore>,
        reader: Arc<dyn KvRead>,
        namespace: &str,
        key: &str,
    ) -> Self {
        let left = KeyRange::prefix(history_prefix(namespace, key));
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        let ready = VecDeque::new();
        Self { blocks, reader, namespace, key, left, ready, done: false, block: None }
    }

    fn fetch(&mut self) -> Result<(), HistoryError> {
        let found = self.reader.scan(HISTORY, &self.left, Direction::Reverse, CHUNK);
        let found = found.map_err(HistoryError::Store)?;
        self.done = found.len() < CHUNK;
        if let Some((key, _)) = found.last() {
            self.left.end = Some(key.clone());
        }
        let versions = found.iter().map(|(key, _)| decode_version(key));
        self.ready = versions.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn modification(&mut self, version: Version) -> Result<KeyModification, HistoryError> {
        let corrupt = |reason: &str| HistoryError::Corrupt { version, reason: reason.to_owned() };
        let raw = self.envelope(version)?.ok_or_else(|| corrupt("it is not in its block"))?;
        let envelope = ParsedEnvelope::parse(raw).map_err(|error| corrupt(&error.to_string()))?;
        let transaction = ParsedTransaction::parse(&envelope.payload)
            .map_err(|error| corrupt(&error.to_string()))?;
        let rwset = TxRwSet::parse(transaction.action.results)
            .map_err(|error| corrupt(&error.to_string()))?;
        let write = rwset
            .namespace(&self.namespace)
            .and_then(|part| part.public.writes.iter().find(|write| write.key == self.key))
            .ok_or_else(|| corrupt("there is no such write"))?;
        let header = &envelope.header().channel_header;
        Ok(KeyModification {
            tx_id: header.tx_id.clone(),
            value: write.value.clone(),
            timestamp: header.timestamp,
            is_delete: is_delete(write),
        })
    }

    fn envelope(&mut self, version: Version) -> Result<Option<Bytes>, HistoryError> {
        if self.block.as_ref().is_none_or(|(number, _)| *number != version.block) {
            let found = self.blocks.block(version.block).map_err(HistoryError::Block)?;
            self.block = found.map(|found| (version.block, found));
        }
        let place = usize::try_from(version.tx).unwrap_or(usize::MAX);
        let block = self.block.as_ref().map(|(_, block)| block);
        Ok(block.and_then(|block| block::transactions(block).get(place).cloned()))
    }
}

impl Iterator for HistoryQuery {
    type Item = Result<KeyModification, HistoryError>;

    /// The next modification, older than the one before. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.done
            && let Err(error) = self.fetch()
        {
            self.done = true;
            return Some(Err(error));
        }
        let modification = self.ready.pop_front().map(|version| self.modification(version));
        if matches!(modification, Some(Err(_))) {
            self.done = true;
            self.ready.clear();
        }
        modification
    }
}

/// The block and the place at the end of a record's key.
fn decode_version(key: &[u8]) -> Result<Version, HistoryError> {
    let parts = key.split_last_chunk::<4>().and_then(|(rest, place)| {
        let (_, block) = rest.split_last_chunk::<8>()?;
        Some(Version::new(u64::from_be_bytes(*block), u32::from_be_bytes(*place).into()))
    });
    parts.ok_or_else(|| {
        let what = "a history record is cut short".to_owned();
        HistoryError::Store(KvError::Corrupt { what })
    })
}
