//! Private data beside the state: the writes of committed transactions, those that are missing,
//! what was purged, and what ends with which block.
//!
//! Who is a member of a collection, and where writes come from, is for the peer to know. Here is
//! how they lie in the store ([`WritesKey`], [`Expiry`]), how they are known ([`WritesProof`]), what comes of them in one write
//! ([`PrivateBatch`]), and which hashes a block takes away because their time is over
//! ([`expired_hashes`]).
//!
//! What must stay true, whatever arrives when:
//! - The private state has a value under a version only where the state's hash of that key has
//!   this version and is the value's hash; an older value may lie there under an older version.
//! - Of the writes of a committed transaction a peer has those of a collection, or has noted that
//!   it does not, until they end.
//! - A value that was purged does not come back with writes that are found later.

mod batch;
mod expiry;
mod keys;
mod proof;

pub use batch::{PrivateBatch, PrivateError, has_ended, purged_since};
pub use expiry::{ExpiryError, ending_with, expired_hashes, expiry_of_hashes};
pub use keys::{
    Ending, Expiry, KeyError, WritesKey, decode_purge, encode_purge, ends_with, place_of,
};
pub use proof::WritesProof;
