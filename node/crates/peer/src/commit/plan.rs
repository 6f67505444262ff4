//! What is known of a block's private data once it is validated: its collections as of before the
//! block, and the hashes that end with it.
//!
//! A definition that the block itself changes counts from the next block on, for transactions of
//! any place in the block. So does Fabric's: the coordinator asks for collections of the state
//! before the block (gossip/privdata, `RetrieveCollectionAccessPolicy`; the same for block to live,
//! core/ledger/kvledger/txmgmt/txmgr).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_config::Bundle;
use weft_ledger::UpdateBatch;
use weft_ledger::kv::KvError;
use weft_ledger::private::{ExpiryError, expired_hashes, expiry_of_hashes};
use weft_ledger::state::StateReader;
use weft_types::{BlockNumber, ValidationCode};

use super::private::has_private_writes;
use super::transaction::{Checked, Outcome};
use crate::lifecycle::DefinitionError;
use crate::lifecycle::layout::LayoutError;
use crate::private::{Collection, collections};

/// The collections that a block writes to, by namespace and name; those that are not defined are
/// left out.
pub(crate) type BlockCollections = BTreeMap<(String, String), Collection>;

/// What a block does to private data, apart from the values.
#[derive(Debug, Default)]
pub(crate) struct PrivatePlan {
    pub(crate) collections: BlockCollections,
    /// What the block's hashes add to the column of what ends.
    pub(crate) schedule: Arc<BTreeSet<Vec<u8>>>,
    /// The hashes that end with the block, as deletions.
    pub(crate) expired: Arc<UpdateBatch>,
}

/// It cannot be told what a block does to private data.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A definition cannot be read.
    #[error("failed to look up a collection")]
    Definition(#[source] DefinitionError),
    /// What ends cannot be read.
    #[error("failed to read what ends with the block")]
    Store(#[source] KvError),
    /// What ends cannot be told.
    #[error("failed to tell what ends with the block")]
    Expiry(#[source] ExpiryError),
}

/// Works it out. `state` is the state before the block, `ending` the keys of the column of what
/// ends for this block.
pub(crate) fn plan(
    number: BlockNumber,
    bundle: &Bundle,
    (transactions, codes): (&[Checked], &[ValidationCode]),
    (updates, state): (&UpdateBatch, &dyn StateReader),
    ending: &BTreeSet<Vec<u8>>,
) -> Result<PrivatePlan, PlanError> {
    let mut plan = PrivatePlan::default();
    for (namespace, updates) in updates.namespaces() {
        for collection in updates.collections.keys() {
            plan.look_up(state, bundle, namespace, collection)?;
        }
    }
    for (transaction, code) in transactions.iter().zip(codes) {
        let Outcome::Endorsed(Ok(endorsed)) = &transaction.outcome else { continue };
        if *code != ValidationCode::Valid || !has_private_writes(&endorsed.rwset) {
            continue;
        }
        for part in &endorsed.rwset.namespaces {
            for collection in part.collections.iter().filter(|c| !c.private_hash.is_empty()) {
                plan.look_up(state, bundle, &part.namespace, &collection.collection)?;
            }
        }
    }
    if !plan.collections.is_empty() {
        let lives = |namespace: &str, collection: &str| {
            let name = (namespace.to_owned(), collection.to_owned());
            plan.collections.get(&name).map_or(0, |collection| collection.block_to_live)
        };
        plan.schedule = Arc::new(expiry_of_hashes(updates, number, lives));
    }
    if !ending.is_empty() {
        let ending = ending.iter().map(Vec::as_slice);
        let expired = expired_hashes(number, ending, updates, state);
        plan.expired = Arc::new(expired.map_err(PlanError::Expiry)?);
    }
    Ok(plan)
}

impl PrivatePlan {
    /// Looks a collection up, once.
    fn look_up(
        &mut self,
        state: &dyn StateReader,
        bundle: &Bundle,
        namespace: &str,
        collection: &str,
    ) -> Result<(), PlanError> {
        let name = (namespace.to_owned(), collection.to_owned());
        if !self.collections.contains_key(&name)
            && let Some(found) = find(state, bundle, namespace, collection)?
        {
            self.collections.insert(name, found);
        }
        Ok(())
    }
}

/// A collection; a definition that is not in its form has none, on every peer alike.
fn find(
    state: &dyn StateReader,
    bundle: &Bundle,
    namespace: &str,
    name: &str,
) -> Result<Option<Collection>, PlanError> {
    match collections::find(state, bundle, namespace, name) {
        Ok(found) => Ok(found),
        Err(error @ DefinitionError::Layout { source: LayoutError::Access(_), .. })
        | Err(error @ DefinitionError::List(_)) => Err(PlanError::Definition(error)),
        Err(unsound) => {
            tracing::warn!(error = %unsound, "chaincode definition cannot be used");
            Ok(None)
        }
    }
}
