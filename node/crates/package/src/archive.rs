//! Gzipped tar archives: read within limits, written to the same bytes every time.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use super::{MAX_ARCHIVE_BYTES, PackageError};

/// What to make of entries that were not asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherEntries {
    /// They may be anything.
    Ignored,
    /// They must be regular files, as Fabric asks of a package's top level.
    MustBeFiles,
}

/// Reads the `wanted` files, each with its limit in bytes, from an archive.
pub(crate) fn read(
    archive: &'static str,
    bytes: &[u8],
    wanted: &[(&'static str, u64)],
    others: OtherEntries,
) -> Result<BTreeMap<&'static str, Vec<u8>>, PackageError> {
    let fail = |e: std::io::Error| PackageError::Archive { archive, reason: e.to_string() };
    let mut found = BTreeMap::new();
    let mut tar = tar::Archive::new(GzDecoder::new(bytes).take(MAX_ARCHIVE_BYTES));
    for entry in tar.entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        let regular = entry.header().entry_type().is_file();
        let Some((name, limit)) = wanted.iter().copied().find(|(wanted, _)| *wanted == name) else {
            if others == OtherEntries::MustBeFiles && !regular {
                return Err(not_a_file(archive, name));
            }
            continue;
        };
        if !regular {
            return Err(not_a_file(archive, name));
        }
        found.insert(name, read_file(archive, name, limit, entry)?);
    }
    Ok(found)
}

fn not_a_file(archive: &'static str, name: &str) -> PackageError {
    let name: String = name.chars().take(100).collect();
    PackageError::Archive { archive, reason: format!("{name} is not a regular file") }
}

fn read_file(
    archive: &'static str,
    file: &'static str,
    limit: u64,
    entry: impl Read,
) -> Result<Vec<u8>, PackageError> {
    let mut content = Vec::new();
    // One byte past the limit tells a file of just that size from a larger one.
    entry
        .take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|e| PackageError::Archive { archive, reason: e.to_string() })?;
    if content.len() as u64 > limit {
        return Err(PackageError::TooLarge { file, limit });
    }
    Ok(content)
}

/// Writes an archive of these files. Nothing of the surroundings gets in: no time, owner or name
/// of a system, and no compression, whose output would depend on the compressor's version.
pub(crate) fn write(
    archive: &'static str,
    files: &[(&str, &[u8])],
) -> Result<Vec<u8>, PackageError> {
    let fail = |e: std::io::Error| PackageError::Archive { archive, reason: e.to_string() };
    let gzip: GzEncoder<Vec<u8>> =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::none());
    let mut tar = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, *content).map_err(fail)?;
    }
    let mut gzip = tar.into_inner().map_err(fail)?;
    gzip.flush().map_err(fail)?;
    gzip.finish().map_err(fail)
}
