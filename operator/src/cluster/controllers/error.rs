//! A reconciliation that did not come to its end.

use super::holder::HolderError;
use crate::cluster::apply::ApplyError;

/// Why; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server did not do its part.
    #[error(transparent)]
    Apply(ApplyError),
    /// A holder's part could not be made.
    #[error(transparent)]
    Holder(HolderError),
}

impl ReconcileError {
    /// Whether trying again can help.
    pub fn can_retry(&self) -> bool {
        match self {
            ReconcileError::Apply(error) | ReconcileError::Holder(HolderError::Apply(error)) => {
                error.can_retry()
            }
            ReconcileError::Holder(_) => false,
        }
    }

    /// Whether the namespace is going away, and the object with it.
    pub fn is_namespace_ending(&self) -> bool {
        match self {
            ReconcileError::Apply(error) | ReconcileError::Holder(HolderError::Apply(error)) => {
                error.is_namespace_ending()
            }
            ReconcileError::Holder(_) => false,
        }
    }
}

impl From<ApplyError> for ReconcileError {
    fn from(source: ApplyError) -> Self {
        ReconcileError::Apply(source)
    }
}
