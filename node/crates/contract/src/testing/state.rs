//! The committed state of a ledger in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use weft_protos::queryresult::{KeyModification, Kv};

/// Where a value lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) namespace: String,
    /// Empty for public keys.
    pub(super) collection: String,
    pub(super) key: String,
}

impl Name {
    pub(super) fn new(namespace: &str, collection: &str, key: &str) -> Self {
        let (namespace, collection) = (namespace.to_owned(), collection.to_owned());
        Self { namespace, collection, key: key.to_owned() }
    }
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// A value; `None` deletes.
    Value(Option<Bytes>),
    /// One metadata entry, which takes the place of all others.
    Metadata(String, Bytes),
}

#[derive(Debug, Default)]
struct Entry {
    value: Option<Bytes>,
    metadata: BTreeMap<String, Bytes>,
    /// The oldest first.
    history: Vec<KeyModification>,
}

/// Keys with their values, metadata and histories.
#[derive(Debug, Default)]
pub(super) struct State {
    entries: BTreeMap<Name, Entry>,
}

impl State {
    pub(super) fn get(&self, name: &Name) -> Option<Bytes> {
        self.entries.get(name)?.value.clone()
    }

    pub(super) fn metadata(&self, name: &Name) -> BTreeMap<String, Bytes> {
        self.entries.get(name).map(|entry| entry.metadata.clone()).unwrap_or_default()
    }

    /// The modifications of a key, the newest first.
    pub(super) fn history(&self, name: &Name) -> Vec<KeyModification> {
        let entry = self.entries.get(name);
        entry.map(|entry| entry.history.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// Keys from `start` up to but without `end`, which is open when empty.
    pub(super) fn range(&self, start: Name, end: &str) -> Vec<Kv> {
        let (namespace, collection) = (start.namespace.clone(), start.collection.clone());
        let inside = |name: &Name| {
            name.namespace == namespace
                && name.collection == collection
                && (end.is_empty() || name.key.as_str() < end)
        };
        let entries = self.entries.range((Bound::Included(start), Bound::Unbounded));
        entries
            .take_while(|(name, _)| inside(name))
            .filter_map(|(name, entry)| {
                let (namespace, key) = (name.namespace.clone(), name.key.clone());
                Some(Kv { namespace, key, value: entry.value.clone()? })
            })
            .collect()
    }

    pub(super) fn commit(&mut self, tx_id: &str, seconds: i64, writes: BTreeMap<Name, Vec<Write>>) {
        for (name, writes) in writes {
            let entry = self.entries.entry(name).or_default();
            for write in writes {
                entry.apply(write);
            }
            entry.history.push(KeyModification {
                tx_id: tx_id.to_owned(),
                value: entry.value.clone().unwrap_or_default(),
                timestamp: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                is_delete: entry.value.is_none(),
            });
        }
    }
}

impl Entry {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Value(value) => {
                if value.is_none() {
                    self.metadata.clear();
                }
                self.value = value;
            }
            // A key that does not exist has no metadata.
            Write::Metadata(name, value) if self.value.is_some() => {
                self.metadata = BTreeMap::from([(name, value)]);
            }
            Write::Metadata(..) => {}
        }
    }
}
