//! The committed state of a ledger in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use weft_protos::queryresult::{KeyModification, Kv};

/// Namespace and key.
pub(super) type Name = (String, String);

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
    pub(super) fn get(&self, namespace: &str, key: &str) -> Option<Bytes> {
        self.entry(namespace, key)?.value.clone()
    }

    pub(super) fn metadata(&self, namespace: &str, key: &str) -> BTreeMap<String, Bytes> {
        self.entry(namespace, key).map(|entry| entry.metadata.clone()).unwrap_or_default()
    }

    /// The modifications of a key, the newest first.
    pub(super) fn history(&self, namespace: &str, key: &str) -> Vec<KeyModification> {
        let entry = self.entry(namespace, key);
        entry.map(|entry| entry.history.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// Keys from `start` up to but without `end`, which is open when empty.
    pub(super) fn range(&self, namespace: &str, start: &str, end: &str) -> Vec<Kv> {
        let from = Bound::Included((namespace.to_owned(), start.to_owned()));
        let entries = self.entries.range((from, Bound::Unbounded));
        let inside = |key: &str| end.is_empty() || key < end;
        entries
            .take_while(|((of, key), _)| of == namespace && inside(key))
            .filter_map(|((namespace, key), entry)| {
                let value = entry.value.clone()?;
                Some(Kv { namespace: namespace.clone(), key: key.clone(), value })
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

    fn entry(&self, namespace: &str, key: &str) -> Option<&Entry> {
        self.entries.get(&(namespace.to_owned(), key.to_owned()))
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
