//! Where a node keeps the ledgers of its channels: one RocksDB a channel, each in a folder of
//! the channel's name below the data directory. A folder with the file [`UNFINISHED`] is of a
//! join that has not come to its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_channels::{Created, Opened, Removal, Stores};
use weft_ledger::kv::{Column, Kv, KvError};
use weft_ledger_rocks::{RocksKv, RocksOptions};
use weft_settings::Storage;
use weft_types::ChannelId;

/// The mark of a store that a join has created and not kept yet.
const UNFINISHED: &str = "UNFINISHED";

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

    fn list_folders(&self) -> Result<Vec<ChannelId>, KvError> {
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

impl Stores for RocksStores {
    /// A new store has its mark from the moment at which it has its name, so that no crash leaves
    /// one without.
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError> {
        let path = self.path(channel);
        let mark = |folder: &Path| fs::write(folder.join(UNFINISHED), []);
        let store: Arc<dyn Kv> =
            RocksKv::open_marked(&path, self.columns, self.options.clone(), mark)?;
        Ok(match path.join(UNFINISHED).exists() {
            true => Opened::Created(store, Created::new(channel.clone())),
            false => Opened::Found(store),
        })
    }

    fn keep(&self, created: &Created) -> Result<(), KvError> {
        let path = self.path(created.channel());
        let kept = match fs::remove_file(path.join(UNFINISHED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync(&path).and_then(|()| sync(&self.folder)),
        };
        kept.map_err(|error| KvError::Write { source: Arc::new(error) })
    }

    /// Folders that are not named like a channel are left alone.
    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        self.list_folders()
    }

    fn remove(&self, removal: &Removal) -> Result<(), KvError> {
        let channel = removal.channel();
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

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use weft_channels::{Aftermath, Backoff, Channels, Cure, Left};
    use weft_ledger::kv::column::ORDERER_COLUMNS;

    use super::*;

    fn stores(folder: &Path) -> RocksStores {
        RocksStores::new(folder, ORDERER_COLUMNS, &Storage::default())
    }

    fn id() -> ChannelId {
        ChannelId::new("supply").unwrap()
    }

    /// The right to delete that a failed join has.
    fn removal(created: Created) -> Removal {
        let mut channels = Channels::new(Backoff::default());
        let run = channels.join(created.channel()).unwrap();
        let left = Left::Created(created);
        match channels.failed(&run, Default::default(), left, "x".into(), Cure::Retry) {
            Aftermath::Discard(removal) => removal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_store_is_unfinished_until_it_is_kept_and_found_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let stores = stores(folder.path());
        assert_eq!(stores.list().unwrap(), []);
        for _ in 0..2 {
            // The second time as after a crash.
            assert!(matches!(stores.open(&id()).unwrap(), Opened::Created(..)));
            assert_eq!(stores.list().unwrap(), [id()]);
        }
        let Opened::Created(kv, created) = stores.open(&id()).unwrap() else { panic!("found") };
        drop(kv);
        stores.keep(&created).unwrap();
        assert!(matches!(stores.open(&id()).unwrap(), Opened::Found(_)));
        stores.remove(&removal(created)).unwrap();
        assert_eq!(stores.list().unwrap(), []);
    }

    #[test]
    fn what_was_there_is_found_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let stores = stores(folder.path());
        let path = folder.path().join("channels/supply");
        fs::create_dir_all(&path).unwrap();
        // An empty folder is nobody's ledger.
        assert!(matches!(stores.open(&id()).unwrap(), Opened::Created(..)));
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("anything"), "what is left of a ledger").unwrap();
        assert!(!matches!(stores.open(&id()), Ok(Opened::Created(..))));
        assert!(path.join("anything").exists());
    }

    #[test]
    fn a_creation_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("channels"), "not a folder").unwrap();
        assert!(stores(folder.path()).open(&id()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
