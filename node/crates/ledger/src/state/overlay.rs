//! State as it will be when blocks that are validated but not stored yet are stored.

use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::{StateEntry, StateError, StateReader, VersionedValue};
use crate::updates::{Update, UpdateBatch};

/// How many entries are read below at once.
const CHUNK: usize = 64;

/// Stored state with the updates of blocks in flight on top of it, so that a block can be
/// validated while those before it are being written.
///
/// To make one, first copy the list of the blocks in flight, then take the snapshot below: a
/// block that is stored in between is then in both, which does no harm.
#[derive(Clone)]
pub struct OverlayState {
    base: Arc<dyn StateReader>,
    /// Newest first.
    layers: Vec<Arc<UpdateBatch>>,
}

impl OverlayState {
    /// `base` under the updates of the blocks in flight, oldest block first.
    pub fn new(
        base: Arc<dyn StateReader>,
        in_flight: impl IntoIterator<Item = Arc<UpdateBatch>>,
    ) -> Self {
        let mut layers: Vec<_> = in_flight.into_iter().collect();
        layers.reverse();
        Self { base, layers }
    }

    fn view(&self) -> View<'_> {
        View { base: &*self.base, layers: self.layers.iter().map(|layer| &**layer).collect() }
    }
}

impl StateReader for OverlayState {
    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError> {
        self.view().get(namespace, key)
    }

    fn get_hash(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        self.view().get_hash(namespace, collection, key_hash)
    }

    fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        self.view().range(namespace, start, end, limit)
    }

    fn get_many(
        &self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<VersionedValue>>, StateError> {
        self.view().get_many(namespace, keys)
    }
}

/// [`OverlayState`] for the time of one call.
pub(crate) struct View<'a> {
    /// What lies below.
    pub(crate) base: &'a dyn StateReader,
    /// Newest first.
    pub(crate) layers: Vec<&'a UpdateBatch>,
}

impl StateReader for View<'_> {
    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError> {
        match self.layers.iter().find_map(|layer| layer.get(namespace, key)) {
            Some(update) => Ok(update.to_value()),
            None => self.base.get(namespace, key),
        }
    }

    fn get_hash(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, StateError> {
        let found = self.layers.iter().find_map(|l| l.get_hash(namespace, collection, key_hash));
        match found {
            Some(update) => Ok(update.to_value()),
            None => self.base.get_hash(namespace, collection, key_hash),
        }
    }

    fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StateError> {
        let mut base = Pager::new(self.base, namespace, start, end, limit.min(CHUNK));
        let layers = self.layers.iter().filter_map(|layer| layer.range(namespace, start, end));
        let mut layers: Vec<_> = layers.map(Iterator::peekable).collect();
        let mut found = Vec::new();
        while found.len() < limit {
            match next_key(&mut layers, base.peek()?) {
                None => break,
                Some(Source::Base) => found.extend(base.next()?),
                Some(Source::Layers(key)) => {
                    if base.peek()?.is_some_and(|(below, _)| *below == key) {
                        base.next()?;
                    }
                    let value = take(&mut layers, &key).and_then(Update::to_value);
                    found.extend(value.map(|value| (key, value)));
                }
            }
        }
        Ok(found)
    }

    fn get_many(
        &self,
        namespace: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<VersionedValue>>, StateError> {
        let above = |key: &str| self.layers.iter().find_map(|layer| layer.get(namespace, key));
        let below: Vec<&str> = keys.iter().copied().filter(|key| above(key).is_none()).collect();
        let mut below = self.base.get_many(namespace, &below)?.into_iter();
        let value = |key: &&str| match above(key) {
            Some(update) => update.to_value(),
            None => below.next().flatten(),
        };
        Ok(keys.iter().map(value).collect())
    }
}

type Layer<'a> = Peekable<Range<'a, String, Update>>;

/// Where the next key is.
enum Source {
    /// Only below.
    Base,
    /// In a layer, perhaps also below.
    Layers(String),
}

/// Where the smallest key is.
fn next_key(layers: &mut [Layer<'_>], base: Option<&StateEntry>) -> Option<Source> {
    let above = layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| *key)).min();
    match (above, base) {
        (None, None) => None,
        (None, Some(_)) => Some(Source::Base),
        (Some(above), Some((below, _))) if below < above => Some(Source::Base),
        (Some(above), _) => Some(Source::Layers(above.clone())),
    }
}

/// Moves every layer past `key` and gives the newest layer's update of it.
fn take<'a>(layers: &mut [Layer<'a>], key: &str) -> Option<&'a Update> {
    let mut newest = None;
    for layer in layers {
        if let Some((_, update)) = layer.next_if(|(found, _)| *found == key) {
            newest = newest.or(Some(update));
        }
    }
    newest
}

/// Goes through a range a few entries at a time.
pub(crate) struct Pager<'a> {
    reader: &'a dyn StateReader,
    namespace: &'a str,
    start: String,
    end: &'a str,
    chunk: usize,
    ready: Peekable<IntoIter<StateEntry>>,
    done: bool,
}

impl<'a> Pager<'a> {
    pub(crate) fn new(
        reader: &'a dyn StateReader,
        namespace: &'a str,
        start: &str,
        end: &'a str,
        chunk: usize,
    ) -> Self {
        let (start, ready) = (start.to_owned(), Vec::new().into_iter().peekable());
        Self { reader, namespace, start, end, chunk: chunk.max(1), ready, done: false }
    }

    pub(crate) fn peek(&mut self) -> Result<Option<&StateEntry>, StateError> {
        if self.ready.peek().is_none() && !self.done {
            let Self { reader, namespace, start, end, chunk, .. } = self;
            let entries = reader.range(namespace, start, end, *chunk)?;
            self.done = entries.len() < *chunk;
            if let Some((key, _)) = entries.last() {
                self.start = successor(key);
            }
            self.ready = entries.into_iter().peekable();
        }
        Ok(self.ready.peek())
    }

    pub(crate) fn next(&mut self) -> Result<Option<StateEntry>, StateError> {
        self.peek()?;
        Ok(self.ready.next())
    }
}

/// The smallest key after `key`.
pub(crate) fn successor(key: &str) -> String {
    let mut next = String::with_capacity(key.len() + 1);
    next.push_str(key);
    next.push('\0');
    next
}
