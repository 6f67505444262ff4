//! Files that are whole or absent: written beside their place, synced, and renamed into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use weft_ops::private;

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

/// Mode of everything that a network leaves on disk, whatever the umask.
const PRIVATE: u32 = 0o600;

/// Replaces the file at `path`, which its owner alone may read, in folders that are the owner's
/// alone where they are made. A crash leaves the old file or the new one.
///
/// # Errors
/// [`FileError`] names the step and the path.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    replace(path, contents, PRIVATE)
}

/// The same for a file that a person asked for at this place and that holds no secret: who may
/// read it follows the umask that the program was started with.
///
/// # Errors
/// As [`write()`].
pub fn write_shared(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    replace(path, contents, private::shared_mode())
}

fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    make_parent(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(&beside)
        .and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(contents)?;
            file.sync_all()
        })
        .map_err(FileError::at("write", &beside))?;
    fs::rename(&beside, path).map_err(FileError::at("move into place", path))?;
    sync_parent(path)
}

fn make_parent(path: &Path) -> Result<(), FileError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    private::make_folder(parent).map_err(FileError::at("create the folder", parent))
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

/// Opens a file for appending.
///
/// # Errors
/// [`FileError`] names the path.
pub fn open_log(path: &Path) -> Result<File, FileError> {
    make_parent(path)?;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(PRIVATE)
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
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/key.pem");
        assert!(read(&path).unwrap().is_none());
        write(&path, b"one").unwrap();
        // What a crash of an earlier version left.
        let beside = path.with_file_name("key.pem.new");
        fs::write(&beside, "half").unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let shared = folder.path().join("config.block");
        write_shared(&shared, b"block").unwrap();
        assert_eq!(mode(&shared), private::shared_mode());
    }
}
