//! One layer of an image: a tar file whose bytes depend on nothing but what is in it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

use crate::spec::USER;

/// What lies at a path.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A folder.
    Folder {
        /// Permissions.
        mode: u32,
        /// Owning user and group.
        owner: u32,
    },
    /// A file of root's, which nobody may write.
    File {
        /// Permissions.
        mode: u32,
        /// Contents.
        contents: Vec<u8>,
    },
}

/// Paths without a leading slash, in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    entries: BTreeMap<String, Entry>,
}

/// A layer as it goes into an archive.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The gzip-compressed tar file.
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: String,
    /// The digest of the tar file itself.
    pub diff_id: String,
    /// The size of the tar file, in bytes.
    pub unpacked: u64,
}

impl Layer {
    /// Adds a file with the folders that it is in. Programs and loaders are executable.
    pub fn file(&mut self, path: &str, contents: Vec<u8>, executable: bool) {
        self.parents(path);
        let mode = if executable { 0o555 } else { 0o444 };
        self.entries.insert(path.to_owned(), Entry::File { mode, contents });
    }

    /// Adds a folder of root's.
    pub fn folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode: 0o755, owner: 0 });
    }

    /// Adds a folder that the images' user owns. The group may write as well: Kubernetes gives
    /// volumes to a group.
    pub fn users_folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode: 0o770, owner: USER });
    }

    /// Adds a folder for everybody's temporary files.
    pub fn shared_folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode: 0o1777, owner: 0 });
    }

    /// Puts `entry` at `path`, in the place of what was there.
    pub fn insert(&mut self, path: &str, entry: Entry) {
        self.parents(path);
        self.entries.insert(path.to_owned(), entry);
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.entries
                .entry(path[..end].to_owned())
                .or_insert(Entry::Folder { mode: 0o755, owner: 0 });
        }
    }

    /// Writes the layer. `time` is the modification time of everything, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When a path is too long for a tar file.
    pub fn pack(&self, time: u64) -> io::Result<Packed> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(time);
            match entry {
                Entry::Folder { mode, owner } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_uid(u64::from(*owner));
                    header.set_gid(u64::from(*owner));
                    header.set_size(0);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Entry::File { mode, contents } => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_mode(*mode);
                    header.set_uid(0);
                    header.set_gid(0);
                    header.set_size(contents.len() as u64);
                    tar.append_data(&mut header, path, contents.as_slice())?;
                }
            }
        }
        let plain = tar.into_inner()?;
        // No name and no time in the gzip header; 255 says that no system made it.
        let mut gzip =
            GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(9));
        gzip.write_all(&plain)?;
        let bytes = gzip.finish()?;
        Ok(Packed {
            digest: crate::digest(&bytes),
            diff_id: crate::digest(&plain),
            unpacked: plain.len() as u64,
            bytes,
        })
    }
}
