//! How much memory a message takes once it is decoded, worked out before it is.
//!
//! Two bytes can stand for an empty message in a list, which takes some fifty in memory; without a
//! bound 8 MiB become hundreds. Every message from the network is walked first, along the
//! descriptors of its type, and refused when its lists and maps would take more than
//! [`allowance`]. What takes no memory of its own is free: scalars and single messages are part of
//! the message around them, and `bytes` share the buffer that they came in.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_types::FileDescriptorSet;

mod shape;
mod walk;

use shape::Shapes;

/// Memory that any message may take, bytes.
const BASE: usize = 256 * 1024;
/// Memory for each byte of a message up to [`SMALL`]. What clients send takes less: an argument of
/// six bytes or a key with its version takes eight times its bytes.
const FACTOR: usize = 8;
/// Messages of this size and more consist of long values, whatever else is in them.
const SMALL: usize = 1024 * 1024;

/// A message would take more memory than its bytes allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lists of a {message} of {bytes} bytes would take more than {limit} bytes of memory")]
pub struct TooLarge {
    /// Full name of the message's type.
    pub message: String,
    /// Its length, bytes.
    pub bytes: usize,
    /// What it may take, bytes.
    pub limit: usize,
}

/// Memory that a message of a length may take beside its own bytes.
#[must_use]
pub fn allowance(bytes: usize) -> usize {
    BASE + FACTOR * bytes.min(SMALL) + bytes.saturating_sub(SMALL)
}

/// Checks that a message, once decoded, takes no more than [`allowance`] beside its own bytes.
/// Bytes that are no valid encoding pass as far as they are one: decoding stops there too.
///
/// # Errors
/// [`TooLarge`].
pub fn check<M: Message + Name>(bytes: &[u8]) -> Result<(), TooLarge> {
    let limit = allowance(bytes.len());
    let shapes = shapes();
    let Some(shape) = shapes.find(M::PACKAGE, M::NAME) else { return Ok(()) };
    walk::cost(shapes, shape, bytes, limit).map(|_| ()).map_err(|walk::Exceeded| TooLarge {
        message: M::full_name(),
        bytes: bytes.len(),
        limit,
    })
}

/// The descriptors of all files.
pub(crate) fn descriptors() -> &'static FileDescriptorSet {
    static ALL: LazyLock<FileDescriptorSet> = LazyLock::new(|| {
        const ENCODED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
        FileDescriptorSet::decode(ENCODED).unwrap_or_default()
    });
    &ALL
}

fn shapes() -> &'static Shapes {
    static ALL: LazyLock<Shapes> = LazyLock::new(|| Shapes::new(descriptors()));
    &ALL
}

#[cfg(test)]
mod tests;
