//! The private values of a block's transactions: found in the transient store, else asked of other
//! members, else noted as missing.
//!
//! Each transaction's writes to each collection stand for themselves: they are taken when their
//! SHA-256 is the one in the public read-write set. A peer takes those of collections that it
//! is a member of, by the definition as of before the block; of the others it notes that it does not
//! have them, as it can become a member (see
//! [`crate::private::reconcile`]). Nothing is noted of other organizations' implicit collections,
//! whose membership never changes, nor of collections that are not defined.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use weft_ledger::kv::column::{EXPIRY, TRANSIENT};
use weft_ledger::kv::{Batch, KvError};
use weft_ledger::private::{PrivateBatch, PrivateError, WritesKey, WritesProof, ending_with};
use weft_ledger::state::OverlayState;
use weft_ledger::{Ledger, UpdateBatch, Version};
use weft_protos::kvrwset::KvrwSet;
use weft_types::{BlockNumber, ValidationCode};

use super::plan::PrivatePlan;
use super::private::{drop_old, has_private_writes, records};
use super::transaction::{Checked, Endorsed, Outcome};
use crate::lifecycle::IMPLICIT_COLLECTION;
use crate::private::{Collection, Digest, Found, Wanted};

/// What a block's transactions write to collections, and what of it this peer has so far.
#[derive(Debug, Default)]
pub(crate) struct BlockValues {
    writes: Vec<CollectionWrites>,
    purges: Vec<Purge>,
    /// Deletions from the transient store.
    done: Batch,
}

/// The writes of a transaction in one collection.
#[derive(Debug)]
struct CollectionWrites {
    digest: Digest,
    proof: WritesProof,
    collection: Collection,
    is_member: bool,
    endorsers: Vec<Bytes>,
    found: Option<Writes>,
}

struct Writes {
    bytes: Bytes,
    set: KvrwSet,
}

#[derive(Debug)]
struct Purge {
    namespace: String,
    collection: String,
    key_hash: Bytes,
    version: Version,
}

/// How many collections' writes of single transactions went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pulled: u64,
    pub(crate) missing: u64,
    pub(crate) ended: u64,
}

impl std::fmt::Debug for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl BlockValues {
    /// Looks into the transient store for what the block's transactions write. `holds` tells of a
    /// collection whether this peer is to hold its values.
    pub(crate) fn held(
        ledger: &Ledger,
        number: BlockNumber,
        (transactions, codes): (&[Checked], &[ValidationCode]),
        plan: &PrivatePlan,
        holds: &dyn Fn(&Collection) -> bool,
    ) -> Result<Self, KvError> {
        let mut values = Self::default();
        let held = plan.collections.iter().filter(|(_, collection)| holds(collection));
        let held = held.map(|(name, _)| name).collect();
        for ((index, transaction), code) in (0..).zip(transactions).zip(codes) {
            let Outcome::Endorsed(Ok(endorsed)) = &transaction.outcome else { continue };
            // What is kept under the id of a duplicate belongs to the other one.
            if !has_private_writes(&endorsed.rwset) || *code == ValidationCode::DuplicateTxid {
                continue;
            }
            let first = values.writes.len();
            if *code == ValidationCode::Valid {
                values.add((number, index), &transaction.tx_id, endorsed, plan, &held);
            }
            values.look(ledger, &transaction.tx_id, first)?;
        }
        drop_old(ledger, number, &mut values.done)?;
        Ok(values)
    }

    /// What is asked of other members.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let wanted = self.writes.iter().filter(|writes| writes.is_wanted());
        let wanted = wanted.map(|writes| Wanted {
            digest: writes.digest.clone(),
            collection: writes.collection.clone(),
            proof: writes.proof.clone(),
            endorsers: writes.endorsers.clone(),
        });
        wanted.collect()
    }

    /// Whether something is to be asked of other members.
    pub(crate) fn wants(&self) -> bool {
        self.writes.iter().any(CollectionWrites::is_wanted)
    }

    /// Takes what other members sent, and how much of it is of use.
    pub(crate) fn accept(&mut self, found: Vec<Found>) -> u64 {
        let mut accepted = 0;
        for Found { digest, writes } in found {
            let wanted = self.writes.iter_mut().find(|part| part.digest == digest);
            if wanted.is_some_and(|wanted| wanted.is_wanted() && wanted.take(&writes)) {
                accepted += 1;
            }
        }
        accepted
    }

    /// Looks into the transient store again: endorsers may have sent values while the block waited.
    pub(crate) fn look_again(&mut self, ledger: &Ledger) -> Result<(), KvError> {
        let wanted = self.writes.iter().filter(|writes| writes.is_wanted());
        let mut ids: Vec<_> = wanted.map(|writes| writes.digest.tx_id.clone()).collect();
        ids.dedup();
        ids.iter().try_for_each(|tx_id| self.look(ledger, tx_id, 0))
    }

    /// Everything that the block does to private data, as one write on what is stored before it.
    /// Nothing else may write private data until that is done.
    pub(crate) fn into_batch(
        self,
        ledger: &Ledger,
        number: BlockNumber,
        updates: &Arc<UpdateBatch>,
        plan: &PrivatePlan,
    ) -> Result<(Batch, Counts), PrivateError> {
        let Self { writes, purges, done: mut batch } = self;
        for key in plan.schedule.iter() {
            batch.put(EXPIRY, key.clone(), Bytes::new());
        }
        plan.expired.write_to(&mut batch);
        let ending = ending_with(ledger.kv().as_ref(), number).map_err(PrivateError::Store)?;
        let mut counts = Counts::default();
        if writes.is_empty() && purges.is_empty() && ending.is_empty() {
            return Ok((batch, counts));
        }
        let state = ledger.state();
        let layers = [Arc::clone(updates), Arc::clone(&plan.expired)];
        let hashes = OverlayState::new(Arc::new(state.clone()), layers);
        let mut private = PrivateBatch::new(&state, &hashes);
        for Purge { namespace, collection, key_hash, version } in purges {
            private.purge(&namespace, &collection, key_hash, version);
        }
        for CollectionWrites { digest, collection, is_member, found, .. } in writes {
            let key = WritesKey {
                namespace: &digest.namespace,
                collection: &digest.collection,
                block: digest.block,
                place: digest.index,
            };
            match found {
                Some(Writes { bytes, set }) => {
                    private.writes(key, bytes, set, collection.block_to_live)?;
                }
                None => {
                    private.missing(key, collection.block_to_live);
                    counts.missing += u64::from(is_member);
                }
            }
        }
        private.end(&ending)?;
        counts.ended = private.ended() as u64;
        batch.extend(private.finish()?);
        Ok((batch, counts))
    }

    fn add(
        &mut self,
        (block, index): (BlockNumber, u32),
        tx_id: &str,
        endorsed: &Endorsed,
        plan: &PrivatePlan,
        held: &BTreeSet<&(String, String)>,
    ) {
        let version = Version::new(block, index.into());
        for part in &endorsed.rwset.namespaces {
            for written in part.collections.iter().filter(|part| !part.private_hash.is_empty()) {
                let (namespace, name) = (part.namespace.clone(), written.collection.clone());
                let purges = written.hashed.hashed_writes.iter().filter(|write| write.is_purge);
                self.purges.extend(purges.map(|write| Purge {
                    namespace: namespace.clone(),
                    collection: name.clone(),
                    key_hash: write.key_hash.clone(),
                    version,
                }));
                let key = (namespace, name);
                let Some(collection) = plan.collections.get(&key) else { continue };
                let is_member = held.contains(&key);
                if !is_member && key.1.starts_with(IMPLICIT_COLLECTION) {
                    continue;
                }
                let (namespace, name) = key;
                let tx_id = tx_id.to_owned();
                self.writes.push(CollectionWrites {
                    digest: Digest { block, index, tx_id, namespace, collection: name },
                    proof: WritesProof::new(written.private_hash.clone()),
                    collection: collection.clone(),
                    is_member,
                    endorsers: endorsed.endorsers.iter().map(|e| e.serialized().clone()).collect(),
                    found: None,
                });
            }
        }
    }

    /// Takes what the transient store has of a transaction for the writes from the `first` on.
    fn look(&mut self, ledger: &Ledger, tx_id: &str, first: usize) -> Result<(), KvError> {
        let writes = self.writes.get_mut(first..).unwrap_or_default();
        for record in records(ledger, tx_id) {
            let record = record?;
            for wanted in writes.iter_mut().filter(|w| w.is_wanted() && w.digest.tx_id == tx_id) {
                let (namespace, name) =
                    (wanted.digest.namespace.clone(), wanted.digest.collection.clone());
                // The same proposal can have been simulated more than once with different results;
                // the hash tells which of them became the transaction.
                let _ = record.parts(&namespace, &name).any(|bytes| wanted.take(bytes));
            }
            self.done.delete(TRANSIENT, record.key);
        }
        Ok(())
    }
}

impl CollectionWrites {
    fn is_wanted(&self) -> bool {
        self.is_member && self.found.is_none()
    }

    /// Takes these writes, if they are the ones.
    fn take(&mut self, bytes: &Bytes) -> bool {
        let Digest { namespace, collection, .. } = &self.digest;
        let set = self.proof.read(namespace, collection, bytes.clone());
        // Other bytes are of another simulation, or of a peer that errs; the right ones may come.
        self.found = set.ok().map(|set| Writes { bytes: bytes.clone(), set });
        self.found.is_some()
    }
}
