//! Files that are whole or absent: written beside their place, synced, and renamed into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file or folder that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { action, path, source }
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Anyone: mode 0644.
    Public,
    /// The owner alone: mode 0600.
    Secret,
}

/// Replaces the file at `path`; a crash leaves the old file or the new one.
///
/// # Errors
/// [`FileError`] names the step and the path.
pub fn write(path: &Path, contents: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(FileError::at("create the folder", parent))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mode = match secrecy {
        Secrecy::Public => 0o644,
        Secrecy::Secret => 0o600,
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .map_err(FileError::at("write", &beside))?;
    fs::rename(&beside, path).map_err(FileError::at("move into place", path))?;
    sync_parent(path)
}

/// A file's bytes, or `None` when there is no such file.
///
/// # Errors
/// [`FileError`] for every cause but a missing file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::at("read", path)(error)),
    }
}

/// A file's text, or `None` when there is no such file.
///
/// # Errors
/// As [`read`], and when the bytes are not UTF-8.
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    let Some(contents) = read(path)? else { return Ok(None) };
    let text = String::from_utf8(contents)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        .map_err(FileError::at("read as text", path))?;
    Ok(Some(text))
}

/// Opens a log for appending.
///
/// # Errors
/// [`FileError`] names the path.
pub fn open_log(path: &Path) -> Result<File, FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(FileError::at("create the folder", parent))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(FileError::at("open the log", path))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::at("sync the folder", parent))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keys_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/key.pem");
        assert!(read(&path).unwrap().is_none());
        write(&path, b"one", Secrecy::Secret).unwrap();
        write(&path, b"two", Secrecy::Secret).unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
