//! Channel names.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest channel name in bytes.
pub const MAX_LEN: usize = 249;

/// A channel's name: a lower-case letter, then lower-case letters, digits, dots and hyphens, at
/// most 249 in all (Fabric: common/configtx/validator.go). Cloning shares the text.
///
/// The rule makes a name safe as a file name and inside a database key: it has no slash, and no
/// name starts with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Arc<str>);

/// A text that is not a channel name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelIdError {
    /// No text at all.
    #[error("failed to read a channel name: it is empty")]
    Empty,
    /// More than 249 bytes.
    #[error("failed to read a channel name: {length} characters are more than 249")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// A character that does not belong.
    #[error(
        "failed to read channel name {name:?}: it must be a lower-case letter, \
         then lower-case letters, digits, dots and hyphens"
    )]
    Characters {
        /// The refused text.
        name: String,
    },
}

impl ChannelId {
    /// Checks `name` and makes it a channel name.
    ///
    /// # Errors
    /// [`ChannelIdError`] naming the broken rule.
    pub fn new(name: &str) -> Result<Self, ChannelIdError> {
        if name.is_empty() {
            return Err(ChannelIdError::Empty);
        }
        if name.len() > MAX_LEN {
            return Err(ChannelIdError::TooLong { length: name.len() });
        }
        let first = name.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
        if !first || !name.chars().all(rest) {
            return Err(ChannelIdError::Characters { name: name.to_owned() });
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelId {
    type Err = ChannelIdError;

    fn from_str(name: &str) -> Result<Self, ChannelIdError> {
        Self::new(name)
    }
}

impl AsRef<str> for ChannelId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({})", self.0)
    }
}
