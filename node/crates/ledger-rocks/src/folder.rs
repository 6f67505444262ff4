//! The folder of a database: whether there is one, and how it comes to be.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};
use weft_ledger::kv::KvError;

use crate::{error, wal};

/// Begins the name of a database that is being made. Upper case is in no channel's name.
const BEING_MADE: &str = "NEW-";

/// Whether there is no database: no folder, or an empty one. Anything in the folder, and any
/// failure to look, is no reason to begin a new one.
pub(crate) fn is_absent(path: &Path) -> Result<bool, KvError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error::folder(path, error)),
    }
}

/// Has a folder filled beside its place, and gives it its name when it is complete. A crash leaves
/// the whole folder or none under that name.
pub(crate) fn make(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), KvError>,
) -> Result<(), KvError> {
    let parent = parent(path);
    let mut name = std::ffi::OsString::from(BEING_MADE);
    name.push(path.file_name().unwrap_or_default());
    let beside = parent.join(name);
    private_folder(&parent).map_err(|error| error::folder(&parent, error))?;
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error::folder(&beside, error));
        }
        _ => private_folder(&beside).map_err(|error| error::folder(&beside, error))?,
    }
    fill(&beside)?;
    fs::rename(&beside, path)
        .and_then(|()| File::open(&parent)?.sync_all())
        .map_err(|error| error::folder(path, error))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Nobody but the owner has anything to look for in a ledger.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The columns of an existing database.
pub(crate) fn stored_columns(path: &Path) -> Result<Vec<String>, KvError> {
    let current = path.join("CURRENT");
    match fs::metadata(&current) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!(
                "{} holds files of a database and no CURRENT: restore the folder from a backup, \
                 or remove it and join the channel again",
                path.display()
            );
            return Err(KvError::Corrupt { what });
        }
        Err(error) => return Err(error::folder(&current, error)),
    }
    DB::list_cf(&Options::default(), path).map_err(|source| error::open(path, source))
}

/// Looks for headers in the logs at which RocksDB would not end. That there is a log at all, and
/// that none is missing, RocksDB checks by itself.
pub(crate) fn check_logs(path: &Path) -> Result<(), KvError> {
    for entry in fs::read_dir(path).map_err(|error| error::folder(path, error))? {
        let file = entry.map_err(|error| error::folder(path, error))?.path();
        if file.extension().is_none_or(|end| end != "log") {
            continue;
        }
        let found = wal::first_recycled(&file).map_err(|error| error::folder(&file, error))?;
        if let Some(offset) = found {
            let what = format!("{}: the record at {offset} is damaged", file.display());
            return Err(KvError::Corrupt { what });
        }
    }
    Ok(())
}
