//! Decoding with an error that says what was being decoded.

use bytes::Bytes;
use prost::{Message, Name};

use crate::bound::{self, TooLarge};

/// Bytes that are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to decode {what}")]
pub struct DecodeError {
    /// What the bytes should have been, such as `channel header`.
    pub what: &'static str,
    /// Where decoding stopped, and why.
    pub source: DecodeCause,
}

/// Why bytes are not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeCause {
    /// They are not a valid encoding.
    #[error(transparent)]
    Malformed(prost::DecodeError),
    /// The message would take too much memory.
    #[error(transparent)]
    TooLarge(Box<TooLarge>),
}

/// Decodes a message; `what` names it in the error.
///
/// Nesting deeper than 100 messages is refused, so hostile bytes cannot exhaust the stack. Size
/// is not limited here, so that every node reads a committed block alike: whatever is read before
/// its signature was checked goes through [`decode_bounded`]. Passing [`Bytes`]
/// lets the fields share the buffer, which then lives as long as any of them.
///
/// # Errors
/// Fails where the bytes are not a valid encoding of `M`.
pub fn decode<M>(what: &'static str, bytes: impl Into<Bytes>) -> Result<M, DecodeError>
where
    M: Message + Default,
{
    M::decode(bytes.into())
        .map_err(|source| DecodeError { what, source: DecodeCause::Malformed(source) })
}

/// As [`decode`], for bytes of callers that have proved nothing: a message that would take much
/// more memory than its bytes is refused before it is decoded ([`bound::check`]).
///
/// # Errors
/// Fails where the bytes are not a valid encoding of `M`, or would take too much memory.
pub fn decode_bounded<M>(what: &'static str, bytes: impl Into<Bytes>) -> Result<M, DecodeError>
where
    M: Message + Name + Default,
{
    let bytes = bytes.into();
    bound::check::<M>(&bytes)
        .map_err(|source| DecodeError { what, source: DecodeCause::TooLarge(Box::new(source)) })?;
    decode(what, bytes)
}
