//! Validation codes of a block's transactions, one byte each.

use bytes::Bytes;

use crate::ValidationCode;

/// The content of a block's TRANSACTIONS_FILTER slot: the validation code of every transaction, in
/// order (Fabric: core/ledger/kvledger/.../txflags).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TxFilter(Vec<u8>);

/// A place that the filter does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to set the code of transaction {index}: the block has {length}")]
pub struct FilterError {
    /// The place.
    pub index: usize,
    /// How many transactions there are.
    pub length: usize,
}

impl TxFilter {
    /// A filter of `length` transactions that are not validated yet.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self(vec![byte(ValidationCode::NotValidated); length])
    }

    /// A filter of these codes.
    #[must_use]
    pub fn from_codes(codes: &[ValidationCode]) -> Self {
        Self(codes.iter().copied().map(byte).collect())
    }

    /// A filter as it stands in a block.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes as they stand in a block.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as they stand in a block.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }

    /// How many transactions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no transactions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The code of the transaction at `index`; `None` past the end. A byte that is no code reads
    /// as [`ValidationCode::InvalidOtherReason`], since it does not say that the transaction is
    /// valid.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<ValidationCode> {
        self.0.get(index).copied().map(code)
    }

    /// Whether the transaction at `index` is valid.
    #[must_use]
    pub fn is_valid(&self, index: usize) -> bool {
        self.get(index) == Some(ValidationCode::Valid)
    }

    /// Sets the code of the transaction at `index`.
    ///
    /// # Errors
    /// [`FilterError`] when there is no such transaction.
    pub fn set(&mut self, index: usize, code: ValidationCode) -> Result<(), FilterError> {
        let length = self.0.len();
        let place = self.0.get_mut(index).ok_or(FilterError { index, length })?;
        *place = byte(code);
        Ok(())
    }

    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = ValidationCode> + '_ {
        self.0.iter().copied().map(code)
    }
}

fn byte(code: ValidationCode) -> u8 {
    u8::try_from(code as i32).unwrap_or(u8::MAX)
}

fn code(byte: u8) -> ValidationCode {
    ValidationCode::try_from(i32::from(byte)).unwrap_or(ValidationCode::InvalidOtherReason)
}
