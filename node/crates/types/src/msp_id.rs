//! Names of membership service providers, one an organization.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest MSP name in bytes.
pub const MAX_LEN: usize = 249;

/// An organization's MSP name, such as `Org1MSP`: letters, digits, dots, hyphens and underscores,
/// at most 249, not `.` or `..`. Cloning shares the text.
///
/// Fabric puts names of configuration elements under this rule (common/configtx/validator.go) and
/// asks of an MSP name only that there is one; here one rule covers both, plus the underscore,
/// because the name also becomes part of file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MspId(Arc<str>);

/// A text that is not an MSP name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MspIdError {
    /// No text at all.
    #[error("failed to read an MSP name: it is empty")]
    Empty,
    /// More than 249 bytes.
    #[error("failed to read an MSP name: {length} characters are more than 249")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// A character that does not belong, or one of `.` and `..`.
    #[error(
        "failed to read MSP name {name:?}: it must be letters, digits, dots, hyphens and \
         underscores, and not just dots"
    )]
    Characters {
        /// The refused text.
        name: String,
    },
}

impl MspId {
    /// Checks `name` and makes it an MSP name.
    ///
    /// # Errors
    /// [`MspIdError`] naming the broken rule.
    pub fn new(name: &str) -> Result<Self, MspIdError> {
        if name.is_empty() {
            return Err(MspIdError::Empty);
        }
        if name.len() > MAX_LEN {
            return Err(MspIdError::TooLong { length: name.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if matches!(name, "." | "..") || !name.chars().all(allowed) {
            return Err(MspIdError::Characters { name: name.to_owned() });
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MspId {
    type Err = MspIdError;

    fn from_str(name: &str) -> Result<Self, MspIdError> {
        Self::new(name)
    }
}

impl AsRef<str> for MspId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for MspId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MspId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MspId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MspId({})", self.0)
    }
}
