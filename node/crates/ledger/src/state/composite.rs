//! Composite keys: an object type and attributes in one key, so that a prefix of them can be
//! queried (Fabric's chaincode shims: `createCompositeKey`, `splitCompositeKey`).
//!
//! The form is U+0000, then the object type and each attribute, each followed by U+0000. So
//! U+0000 and U+10FFFF (which ends ranges) are not allowed inside, and plain keys must not begin
//! with U+0000.

/// What separates the parts.
const SEPARATOR: char = '\u{0}';

/// Larger than everything that may follow a prefix.
const LAST: char = '\u{10FFFF}';

/// A part that cannot be in a composite key, or a key that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompositeKeyError {
    /// A part holds a character that separates or ends keys.
    #[error(
        "failed to make a composite key: part {part} holds the reserved character U+{code:04X}"
    )]
    Reserved {
        /// The part's place; the object type is 0.
        part: usize,
        /// The character.
        code: u32,
    },
    /// The key does not have the form of a composite key.
    #[error("failed to split a composite key: it does not have the form of one")]
    Form,
    /// A plain key begins like a composite key.
    #[error("failed to use a key: a plain key must not begin with U+0000")]
    Plain,
}

/// The composite key of an object type and its attributes.
///
/// # Errors
/// Fails where a part holds U+0000 or U+10FFFF.
pub fn create<S: AsRef<str>>(
    object_type: &str,
    attributes: &[S],
) -> Result<String, CompositeKeyError> {
    let mut key = String::from(SEPARATOR);
    let parts = std::iter::once(object_type).chain(attributes.iter().map(AsRef::as_ref));
    for (part, text) in parts.enumerate() {
        if let Some(reserved) = text.chars().find(|&c| c == SEPARATOR || c == LAST) {
            return Err(CompositeKeyError::Reserved { part, code: reserved.into() });
        }
        key.push_str(text);
        key.push(SEPARATOR);
    }
    Ok(key)
}

/// The object type and the attributes of a composite key.
///
/// # Errors
/// Fails where the key is not a composite key.
pub fn split(key: &str) -> Result<(&str, Vec<&str>), CompositeKeyError> {
    let parts = key.strip_prefix(SEPARATOR).and_then(|rest| rest.strip_suffix(SEPARATOR));
    let mut parts = parts.ok_or(CompositeKeyError::Form)?.split(SEPARATOR);
    let object_type = parts.next().ok_or(CompositeKeyError::Form)?;
    Ok((object_type, parts.collect()))
}

/// The range of all composite keys that begin with these parts: its first key and the key after
/// its last.
///
/// # Errors
/// Fails where a part holds U+0000 or U+10FFFF.
pub fn range<S: AsRef<str>>(
    object_type: &str,
    attributes: &[S],
) -> Result<(String, String), CompositeKeyError> {
    let start = create(object_type, attributes)?;
    let end = format!("{start}{LAST}");
    Ok((start, end))
}

/// Checks that a plain key cannot be taken for a composite key.
///
/// # Errors
/// Fails where the key begins with U+0000.
pub fn check_plain(key: &str) -> Result<(), CompositeKeyError> {
    if key.starts_with(SEPARATOR) { Err(CompositeKeyError::Plain) } else { Ok(()) }
}
