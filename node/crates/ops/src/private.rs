//! Files and folders that are their owner's alone.
//!
//! Everything that a node or a local network leaves on disk may hold private values, keys or what
//! leads to them: ledgers, their logs, packages, settings, log files. A program therefore begins
//! with [`by_default`], which covers the libraries below it too (RocksDB makes its files with mode
//! 0644), and [`tighten`]s what an earlier version left.
//!
//! **Pods.** The owner of a volume is often root, its group that of the pod (`fsGroup`): what is
//! not this process's own is left as it is. Files below are made by the process, so that it never
//! needs the group's rights.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::{geteuid, umask};

/// Rights of the group and of others.
const OTHERS: u32 = 0o077;

/// The umask with which the process was started.
static STARTED_WITH: OnceLock<u32> = OnceLock::new();

/// From now on what this process makes is its owner's alone, unless it says otherwise. The first
/// thing that a program does: before there are threads.
pub fn by_default() {
    let before = umask(Mode::from_raw_mode(OTHERS));
    STARTED_WITH.get_or_init(|| before.as_raw_mode());
}

/// Mode of a file that is meant for others: what the person's umask gives.
pub fn shared_mode() -> u32 {
    0o666 & !STARTED_WITH.get().copied().unwrap_or(0o022)
}

/// Makes a folder and those above it that are missing, with mode 0700.
///
/// # Errors
/// The system's.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes the rights of the group and of others from a folder and everything below it, as far as it
/// is this process's own. Links are not followed. A folder that is not there is none to tighten.
///
/// # Errors
/// The system's, with the path.
pub fn tighten(folder: &Path) -> io::Result<()> {
    match fs::metadata(folder) {
        Ok(found) => restrict(folder, &found).map_err(|error| at(folder, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(folder, &error)),
    }
    tighten_below(folder)
}

fn tighten_below(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let path = entry.map_err(|error| at(folder, &error))?.path();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // Somebody else's temporary file, perhaps.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at(&path, &error)),
        };
        if found.is_symlink() {
            continue;
        }
        restrict(&path, &found).map_err(|error| at(&path, &error))?;
        // What others own may be closed to us; it is not ours to tighten either.
        if found.is_dir() && is_own(&found) {
            tighten_below(&path)?;
        }
    }
    Ok(())
}

fn is_own(found: &fs::Metadata) -> bool {
    found.uid() == geteuid().as_raw()
}

fn restrict(path: &Path, found: &fs::Metadata) -> io::Result<()> {
    let mode = found.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 || !is_own(found) {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_was_open_is_closed_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (data, other) = (folder.path().join("data"), folder.path().join("other"));
        tighten(&data).unwrap();
        make_folder(&data.join("a/b")).unwrap();
        assert_eq!(mode(&data.join("a")), 0o700);
        for path in [data.join("a/b/file"), other.clone()] {
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        }
        fs::set_permissions(data.join("a"), Permissions::from_mode(0o2775)).unwrap();
        symlink(&other, data.join("link")).unwrap();
        symlink("nowhere", data.join("broken")).unwrap();
        for _ in 0..2 {
            tighten(&data).unwrap();
            assert_eq!(mode(&data.join("a/b/file")), 0o600);
            assert_eq!(mode(&data.join("a")), 0o2700);
            assert_eq!(mode(&other), 0o664);
        }
    }
}
