//! Decoding with an error that says what was being decoded.

use bytes::Bytes;
use prost::Message;

/// Bytes that are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to decode {what}")]
pub struct DecodeError {
    /// What the bytes should have been, such as `channel header`.
    pub what: &'static str,
    /// Where decoding stopped, and why.
    pub source: prost::DecodeError,
}

/// Decodes a message; `what` names it in the error.
///
/// Nesting deeper than 100 messages is refused, so hostile bytes cannot exhaust the stack. Size
/// is not limited here: the caller bounds what it reads from the network. Passing [`Bytes`]
/// lets the fields share the buffer, which then lives as long as any of them.
///
/// # Errors
/// Fails where the bytes are not a valid encoding of `M`.
pub fn decode<M>(what: &'static str, bytes: impl Into<Bytes>) -> Result<M, DecodeError>
where
    M: Message + Default,
{
    M::decode(bytes.into()).map_err(|source| DecodeError { what, source })
}
