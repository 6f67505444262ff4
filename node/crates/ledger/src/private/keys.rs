//! How private data lies in the store. The formats are named at the declarations of the columns
//! ([`crate::kv::column`]).

use prost::encoding::decode_varint;
use weft_types::BlockNumber;

use crate::Version;
use crate::state::encoding::append_text;

/// A stored key that is not in its form: the store is damaged, or from a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read a stored key of private data: its {part} is not in its form")]
pub struct KeyError {
    /// What is not.
    pub part: &'static str,
}

/// The private writes of a transaction in one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritesKey<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// The transaction's block.
    pub block: BlockNumber,
    /// The transaction's place in the block.
    pub place: u32,
}

impl<'a> WritesKey<'a> {
    /// What the keys of a collection begin with.
    #[must_use]
    pub fn prefix(namespace: &str, collection: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + namespace.len() + collection.len());
        append_text(&mut bytes, namespace);
        append_text(&mut bytes, collection);
        bytes
    }

    /// The key in the store.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Self::prefix(self.namespace, self.collection);
        append_place(&mut bytes, self.block, self.place);
        bytes
    }

    /// Reads a stored key.
    ///
    /// # Errors
    /// Fails where it is not in its form.
    pub fn decode(stored: &'a [u8]) -> Result<Self, KeyError> {
        let mut rest = stored;
        let (namespace, collection) = (take_text(&mut rest)?, take_text(&mut rest)?);
        let (block, place) = take_place(&mut rest)?;
        match rest.is_empty() {
            true => Ok(Self { namespace, collection, block, place }),
            false => Err(KeyError { part: "end" }),
        }
    }

    /// The transaction as a version.
    #[must_use]
    pub fn version(self) -> Version {
        Version::new(self.block, self.place.into())
    }
}

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// The hash of a private key with this hash.
    Hash(&'a [u8]),
    /// The value of this private key.
    Value(&'a str),
    /// The private writes of the transaction.
    Writes,
}

/// Something that ends with a block, unless it was written again since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry<'a> {
    /// The block with which it ends.
    pub at: BlockNumber,
    /// The namespace.
    pub namespace: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// The transaction's block.
    pub block: BlockNumber,
    /// The transaction's place in the block.
    pub place: u32,
    /// What ends.
    pub what: Ending<'a>,
}

impl<'a> Expiry<'a> {
    /// What the keys of one block begin with.
    #[must_use]
    pub fn prefix(at: BlockNumber) -> [u8; 8] {
        at.to_be_bytes()
    }

    /// The key in the store.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let (kind, key): (u8, &[u8]) = match self.what {
            Ending::Hash(key_hash) => (0, key_hash),
            Ending::Value(key) => (1, key.as_bytes()),
            Ending::Writes => (2, &[]),
        };
        let mut bytes = Self::prefix(self.at).to_vec();
        bytes.push(kind);
        append_text(&mut bytes, self.namespace);
        append_text(&mut bytes, self.collection);
        append_place(&mut bytes, self.block, self.place);
        bytes.extend_from_slice(key);
        bytes
    }

    /// Reads a stored key.
    ///
    /// # Errors
    /// Fails where it is not in its form.
    pub fn decode(stored: &'a [u8]) -> Result<Self, KeyError> {
        let mut rest = stored;
        let at = u64::from_be_bytes(take(&mut rest, "block")?);
        let [kind] = take(&mut rest, "kind")?;
        let (namespace, collection) = (take_text(&mut rest)?, take_text(&mut rest)?);
        let (block, place) = take_place(&mut rest)?;
        let what = match kind {
            0 => Ending::Hash(rest),
            1 => Ending::Value(std::str::from_utf8(rest).map_err(|_| KeyError { part: "key" })?),
            2 if rest.is_empty() => Ending::Writes,
            _ => return Err(KeyError { part: "kind" }),
        };
        Ok(Self { at, namespace, collection, block, place, what })
    }

    /// The transaction as a version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version::new(self.block, self.place.into())
    }
}

/// The block with which what `block` wrote ends, for a collection whose data lives for
/// `block_to_live` blocks; `None` where it lives for ever. Data of block 5 that lives for 2 blocks
/// is there for blocks 6 and 7, and the commit of block 8 takes it away
/// (Fabric: core/ledger/pvtdatapolicy/btlpolicy.go).
#[must_use]
pub fn ends_with(block: BlockNumber, block_to_live: u64) -> Option<BlockNumber> {
    match block_to_live {
        0 => None,
        blocks => block.checked_add(blocks)?.checked_add(1),
    }
}

/// The transaction of a purge, as the column has it.
#[must_use]
pub fn encode_purge(version: Version) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    append_place(&mut bytes, version.block, place_of(version));
    bytes
}

/// Reads the transaction of a purge.
///
/// # Errors
/// Fails where it is not in its form.
pub fn decode_purge(stored: &[u8]) -> Result<Version, KeyError> {
    let mut rest = stored;
    let (block, place) = take_place(&mut rest)?;
    Ok(Version::new(block, place.into()))
}

/// The place in the block of a version.
#[must_use]
pub fn place_of(version: Version) -> u32 {
    // A block has fewer than 2^32 transactions: its list of them would not fit a message.
    u32::try_from(version.tx).unwrap_or(u32::MAX)
}

fn append_place(to: &mut Vec<u8>, block: BlockNumber, place: u32) {
    to.extend_from_slice(&block.to_be_bytes());
    to.extend_from_slice(&place.to_be_bytes());
}

fn take<const N: usize>(rest: &mut &[u8], part: &'static str) -> Result<[u8; N], KeyError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(KeyError { part })?;
    *rest = left;
    Ok(*taken)
}

fn take_place(rest: &mut &[u8]) -> Result<(BlockNumber, u32), KeyError> {
    let block = u64::from_be_bytes(take(rest, "block")?);
    Ok((block, u32::from_be_bytes(take(rest, "place")?)))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, KeyError> {
    let failed = KeyError { part: "text" };
    let length = decode_varint(rest).map_err(|_| failed)?;
    let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
    let (text, left) = rest.split_at(length.ok_or(failed)?);
    *rest = left;
    std::str::from_utf8(text).map_err(|_| failed)
}
