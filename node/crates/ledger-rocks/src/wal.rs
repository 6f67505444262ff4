//! What of a write-ahead log is checked before RocksDB reads it.
//!
//! RocksDB's reader goes round for ever at a header whose type says "recycled" behind records
//! that do not: it refuses the record without passing over it (`db/log_reader.cc`,
//! `ReadPhysicalRecord`, 11.8). One flipped bit makes such a type of an ordinary one. This store
//! recycles no logs, so a header of that kind is damage.
//!
//! The format is RocksDB's (its wiki, "Write Ahead Log File Format"): blocks of 32 KiB of records
//! that do not cross them, each with a checksum of 4 bytes, a length of 2 and a type of 1; what
//! is left at a block's end is too short for a header.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;

/// Types of recycled records (`db/log_format.h`).
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// The offset of the first header that RocksDB would not get past, if there is any.
pub(crate) fn first_recycled(path: &Path) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut start = 0;
    loop {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if let Some(offset) = recycled_in(&block) {
            return Ok(Some(start + offset as u64));
        }
        if block.len() < BLOCK_BYTES {
            return Ok(None);
        }
        start += BLOCK_BYTES as u64;
    }
}

/// Follows the headers of a block for as long as they lead on: RocksDB drops a block at the first
/// that it cannot follow.
fn recycled_in(block: &[u8]) -> Option<usize> {
    let mut offset = 0;
    while let Some([_, _, _, _, low, high, kind, ..]) = block.get(offset..) {
        if RECYCLED.contains(kind) {
            return Some(offset);
        }
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        if length == 0 && *kind == 0 {
            return None;
        }
        offset += HEADER_BYTES + length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
        [&[0; 4], &length[..], &[kind], payload].concat()
    }

    #[test]
    fn headers_are_followed_over_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.log");
        let check = |bytes: &[u8], expected: Option<u64>| {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(first_recycled(&path).unwrap(), expected);
        };
        // The payload looks like a recycled record and is none.
        let good = [record(1, &record(5, b"")), record(2, b"abc")].concat();
        check(b"", None);
        check(&good, None);
        check(&[&good[..], &record(5, b"")].concat(), Some(good.len() as u64));
        let mut block = record(1, &[7; BLOCK_BYTES - HEADER_BYTES - 3]);
        block.extend([0; 3]);
        check(&[&block[..], &good, &record(131, b"")].concat(), Some((32_768 + good.len()) as u64));
        check(&[&good[..], &[0; 50]].concat(), None);
        check(&good[..good.len() - 2], None);
    }
}
