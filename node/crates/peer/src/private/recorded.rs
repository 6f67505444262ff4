//! What a committed transaction says of private data.

use bytes::Bytes;
use weft_ledger::rwset::{CollectionRwSet, TxRwSet};
use weft_types::ParsedEnvelope;
use weft_types::transaction::ParsedTransaction;

/// A transaction as a block has it.
pub(crate) struct Recorded {
    /// Its id.
    pub(crate) tx_id: String,
    /// What it read and wrote.
    pub(crate) rwset: TxRwSet,
    /// Serialized identities of its endorsers.
    pub(crate) endorsers: Vec<Bytes>,
}

impl Recorded {
    /// Reads an encoded envelope; `None` where it is no endorsed transaction.
    pub(crate) fn read(raw: Bytes) -> Option<Self> {
        let envelope = ParsedEnvelope::parse(raw).ok()?;
        let tx_id = envelope.header().channel_header.tx_id.clone();
        let transaction = ParsedTransaction::parse(&envelope.payload).ok()?;
        let rwset = TxRwSet::parse(transaction.action.results).ok()?;
        let endorsers =
            transaction.endorsements.into_iter().map(|endorsement| endorsement.endorser);
        Some(Self { tx_id, rwset, endorsers: endorsers.collect() })
    }

    /// What it wrote to a collection, in hashes; `None` where it wrote nothing.
    pub(crate) fn collection(&self, namespace: &str, name: &str) -> Option<&CollectionRwSet> {
        let parts = &self.rwset.namespace(namespace)?.collections;
        let part = parts.iter().find(|part| part.collection == name)?;
        Some(part).filter(|part| !part.private_hash.is_empty())
    }
}
