//! The keys of a block, read at once.
//!
//! Policies of keys and versions of keys are both about the keys that a block names. Reading them
//! together, sorted, is several times cheaper than one by one.

use std::collections::HashMap;

use weft_ledger::state::{StateEntry, StateError, StateReader, VersionedValue};

use super::transaction::{Checked, Outcome};

type Loaded<'a> = HashMap<&'a str, HashMap<&'a str, Option<VersionedValue>>>;

/// State with the public keys that a block's transactions name in memory.
pub(crate) struct Preloaded<'a> {
    base: &'a dyn StateReader,
    loaded: Loaded<'a>,
}

impl<'a> Preloaded<'a> {
    /// Reads the keys that `transactions` name.
    pub(crate) fn load(
        base: &'a dyn StateReader,
        transactions: &'a [Checked],
    ) -> Result<Self, StateError> {
        let mut loaded = Loaded::new();
        for transaction in transactions {
            let Outcome::Endorsed(Ok(endorsed)) = &transaction.outcome else { continue };
            for part in &endorsed.rwset.namespaces {
                let public = &part.public;
                let reads = public.reads.iter().map(|read| read.key.as_str());
                let writes = public.writes.iter().map(|write| write.key.as_str());
                let metadata = public.metadata_writes.iter().map(|write| write.key.as_str());
                let keys = loaded.entry(&part.namespace).or_default();
                keys.extend(reads.chain(writes).chain(metadata).map(|key| (key, None)));
            }
        }
        for (namespace, keys) in &mut loaded {
            let mut names: Vec<&str> = keys.keys().copied().collect();
            names.sort_unstable();
            let values = base.get_many(namespace, &names)?;
            keys.extend(names.into_iter().zip(values));
        }
        Ok(Self { base, loaded })
    }

    fn find(&self, namespace: &str, key: &str) -> Option<&Option<VersionedValue>> {
        self.loaded.get(namespace)?.get(key)
    }
}

impl StateReader for Preloaded<'_> {
    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError> {
        match self.find(namespace, key) {
            Some(found) => Ok(found.clone()),
            None => self.base.get(namespace, key),
        }
    }

    fn get_hash(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        self.base.get_hash(namespace, collection, key_hash)
    }

    fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        self.base.range(namespace, start, end, limit)
    }

    fn get_many(
        &self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<VersionedValue>>, StateError> {
        let found: Option<Vec<_>> =
            keys.iter().map(|key| self.find(namespace, key).cloned()).collect();
        match found {
            Some(found) => Ok(found),
            None => self.base.get_many(namespace, keys),
        }
    }
}
