//! Where a node keeps the ledgers of its channels: one RocksDB a channel, each in a folder of
//! the channel's name below the data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_ledger::kv::{Column, Kv, KvError};
use weft_ledger_rocks::{RocksKv, RocksOptions};
use weft_settings::Storage;
use weft_types::ChannelId;

/// The stores below one folder.
#[derive(Clone, Debug)]
pub struct RocksStores {
    folder: PathBuf,
    columns: &'static [Column],
    options: RocksOptions,
}

impl RocksStores {
    /// Stores in `data_dir/channels`, each with these columns.
    pub fn new(data_dir: &Path, columns: &'static [Column], storage: &Storage) -> RocksStores {
        let options = RocksOptions {
            block_cache_bytes: storage.block_cache_bytes,
            write_buffer_bytes: storage.write_buffer_bytes,
            // RocksDB reads -1 as "no limit".
            open_files: match storage.max_open_files {
                0 => -1,
                limit => i32::try_from(limit).unwrap_or(i32::MAX),
            },
            ..RocksOptions::default()
        };
        RocksStores { folder: data_dir.join("channels"), columns, options }
    }

    /// Opens a channel's store, making it where there is none.
    ///
    /// # Errors
    /// As [`RocksKv::open`].
    pub fn open(&self, channel: &ChannelId) -> Result<Arc<dyn Kv>, KvError> {
        let path = self.path(channel);
        let store: Arc<dyn Kv> = RocksKv::open(path, self.columns, self.options.clone())?;
        Ok(store)
    }

    /// The channels that have a store. Folders that are not named like a channel are left alone.
    ///
    /// # Errors
    /// [`KvError::Open`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(&self.folder, error)),
        };
        let mut channels = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.failed(&self.folder, error))?;
            channels.extend(entry.file_name().to_str().and_then(|name| ChannelId::new(name).ok()));
        }
        channels.sort();
        Ok(channels)
    }

    fn path(&self, channel: &ChannelId) -> PathBuf {
        self.folder.join(channel.as_str())
    }

    fn failed(&self, path: &Path, error: io::Error) -> KvError {
        KvError::Open { store: path.display().to_string(), source: Arc::new(error) }
    }
}

impl weft_orderer::Stores for RocksStores {
    fn open(&self, channel: &ChannelId) -> Result<Arc<dyn Kv>, KvError> {
        RocksStores::open(self, channel)
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        RocksStores::list(self)
    }

    fn remove(&self, channel: &ChannelId) -> Result<(), KvError> {
        let path = self.path(channel);
        // Renamed first: a crash in the middle of deleting must not leave half a ledger under
        // the channel's name. Upper case is in no channel's name.
        let doomed = self.folder.join(format!("REMOVED-{channel}"));
        let _ = fs::remove_dir_all(&doomed);
        match fs::rename(&path, &doomed) {
            Ok(()) => fs::remove_dir_all(&doomed).map_err(|error| self.failed(&doomed, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed(&path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_ledger::kv::column::ORDERER_COLUMNS;
    use weft_orderer::Stores;

    use super::*;

    #[test]
    fn stores_are_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let stores = RocksStores::new(folder.path(), ORDERER_COLUMNS, &Storage::default());
        assert_eq!(stores.list().unwrap(), []);
        let channel = ChannelId::new("supply").unwrap();
        drop(stores.open(&channel).unwrap());
        assert_eq!(stores.list().unwrap(), std::slice::from_ref(&channel));
        Stores::remove(&stores, &channel).unwrap();
        assert_eq!(stores.list().unwrap(), []);
        Stores::remove(&stores, &channel).unwrap();
    }
}
