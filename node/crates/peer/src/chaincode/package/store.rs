//! Installed packages on disk: one file a package, named by label and hash, whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Package, PackageError, PackageId, Reach};

/// Beginning of the names of files that are being written.
const TEMPORARY: &str = ".package-";

/// A package that could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("failed to {step} {path}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The bytes are not a package.
    #[error("failed to read the chaincode package: {0}")]
    Package(#[source] PackageError),
    /// There is no such package.
    #[error("chaincode install package '{0}' not found")]
    NotFound(PackageId),
    /// A file's bytes are not those that its name tells.
    #[error("the file of chaincode install package '{0}' is damaged: its hash differs")]
    Damaged(PackageId),
}

/// A package in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledPackage {
    /// Its id.
    pub id: PackageId,
}

/// A directory of installed packages. All methods block on the disk.
#[derive(Debug, Clone)]
pub struct PackageStore {
    dir: PathBuf,
}

impl PackageStore {
    /// Opens the store in `dir`, which is made when missing. What an interrupted write left
    /// behind is removed.
    ///
    /// # Errors
    /// Fails where the directory cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { dir: dir.into() };
        fs::create_dir_all(&store.dir).map_err(store.failed("create", None))?;
        for name in store.names()? {
            if name.starts_with(TEMPORARY) {
                let path = store.dir.join(name);
                fs::remove_file(&path).map_err(store.failed("remove", Some(&path)))?;
            }
        }
        Ok(store)
    }

    /// Keeps a package. It is on disk, synced, when this returns. Keeping it again does nothing.
    ///
    /// # Errors
    /// Fails on bytes that are not a package, and when the disk does.
    pub fn save(&self, bytes: &[u8]) -> Result<Package, StoreError> {
        let package = Package::parse(bytes).map_err(StoreError::Package)?;
        let path = self.path(package.id());
        if self.is_installed(package.id()) {
            return Ok(package);
        }
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.dir)
            .map_err(self.failed("create a file in", None))?;
        file.write_all(bytes).map_err(self.failed("write", Some(&path)))?;
        file.as_file().sync_all().map_err(self.failed("sync", Some(&path)))?;
        file.persist(&path).map_err(|e| self.failed("name", Some(&path))(e.error))?;
        self.sync_dir()?;
        Ok(package)
    }

    /// The bytes of a package, checked against its hash.
    ///
    /// # Errors
    /// Fails when there is no such package, when the file is damaged, and when the disk fails.
    pub fn load(&self, id: &PackageId) -> Result<Bytes, StoreError> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(id.clone()));
            }
            Err(e) => return Err(self.failed("read", Some(&path))(e)),
        };
        if PackageId::of(id.label(), &bytes) != *id {
            return Err(StoreError::Damaged(id.clone()));
        }
        Ok(bytes.into())
    }

    /// How the contract of a package is reached.
    ///
    /// # Errors
    /// As [`load`](Self::load), and where the package does not say it.
    pub fn reach(&self, id: &PackageId) -> Result<Reach, StoreError> {
        let bytes = self.load(id)?;
        Package::parse(&bytes).and_then(|package| package.reach()).map_err(StoreError::Package)
    }

    /// Whether there is such a package.
    #[must_use]
    pub fn is_installed(&self, id: &PackageId) -> bool {
        self.path(id).is_file()
    }

    /// All packages, by label and hash.
    ///
    /// # Errors
    /// Fails where the directory cannot be read.
    pub fn list(&self) -> Result<Vec<InstalledPackage>, StoreError> {
        let names = self.names()?;
        let mut ids: Vec<_> = names.iter().filter_map(|n| PackageId::from_file_name(n)).collect();
        ids.sort();
        Ok(ids.into_iter().map(|id| InstalledPackage { id }).collect())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(self.failed("list", None))? {
            let entry = entry.map_err(self.failed("list", None))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn path(&self, id: &PackageId) -> PathBuf {
        self.dir.join(id.file_name())
    }

    /// Makes a renamed file's name survive a power cut.
    fn sync_dir(&self) -> Result<(), StoreError> {
        let dir = File::open(&self.dir).map_err(self.failed("open", None))?;
        dir.sync_all().map_err(self.failed("sync", None))
    }

    fn failed(
        &self,
        step: &'static str,
        path: Option<&Path>,
    ) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.unwrap_or(&self.dir).to_owned();
        move |source| StoreError::Io { step, path, source }
    }
}
