//! Transaction ids.

use std::{fmt, str::FromStr};

/// A transaction's id: the SHA-256 of its nonce and its creator, written as 64 lower-case
/// hexadecimal digits (Fabric: protoutil/proputils.go).
///
/// Because the creator is part of it and the nonce is the creator's choice, nobody can take the
/// id of another's transaction; and one id commits at most once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId([u8; 32]);

/// A text that is not a transaction id, or not the one it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxIdError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("failed to read transaction id {text:?}: it must be 64 lower-case hexadecimal digits")]
    Malformed {
        /// The refused text, at most its first 80 characters.
        text: String,
    },
    /// The id is not of the nonce and the creator beside it.
    #[error("failed to check transaction id {found:?}: nonce and creator give {expected}")]
    Mismatch {
        /// The refused text, at most its first 80 characters.
        found: String,
        /// The right id.
        expected: TxId,
    },
}

impl TxId {
    /// The id of the transaction with this nonce and this creator (a serialized identity).
    #[must_use]
    pub fn compute(nonce: &[u8], creator: &[u8]) -> Self {
        Self(weft_crypto::sha256_parts([nonce, creator]))
    }

    /// Checks that `text` is the id of this nonce and this creator.
    ///
    /// # Errors
    /// [`TxIdError::Mismatch`].
    pub fn check(text: &str, nonce: &[u8], creator: &[u8]) -> Result<Self, TxIdError> {
        let expected = Self::compute(nonce, creator);
        match Self::from_hex(text) {
            Ok(found) if found == expected => Ok(expected),
            _ => Err(TxIdError::Mismatch { found: shortened(text), expected }),
        }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`TxIdError::Malformed`].
    pub fn from_hex(text: &str) -> Result<Self, TxIdError> {
        let malformed = || TxIdError::Malformed { text: shortened(text) };
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| malformed())?;
        Ok(Self(bytes))
    }

    /// The id of these hash bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Keeps hostile texts from filling logs.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for TxId {
    type Err = TxIdError;

    fn from_str(text: &str) -> Result<Self, TxIdError> {
        Self::from_hex(text)
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxId({self})")
    }
}
