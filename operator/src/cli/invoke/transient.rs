//! `--transient`: data for the contract alone, which is in no transaction.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;

/// A value of the transient map as the command line names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Transient {
    key: String,
    value: Value,
}

#[derive(Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    File(PathBuf),
}

impl fmt::Debug for Transient {
    /// Values stay out of logs and errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transient").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Text that names no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be KEY=VALUE or KEY=@FILE")]
pub struct NoTransient;

impl FromStr for Transient {
    type Err = NoTransient;

    fn from_str(text: &str) -> Result<Self, NoTransient> {
        let (key, value) = text.split_once('=').ok_or(NoTransient)?;
        if key.is_empty() {
            return Err(NoTransient);
        }
        let value = match value.strip_prefix('@') {
            Some("") => return Err(NoTransient),
            Some(file) => Value::File(file.into()),
            None => Value::Text(value.to_owned()),
        };
        Ok(Transient { key: key.to_owned(), value })
    }
}

/// Why the transient map of a call cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TransientError {
    /// Which of the two is meant is not known.
    #[error("--transient {0} is given twice")]
    Twice(String),
    /// A file cannot be read.
    #[error("failed to read {} for --transient {key}", file.display())]
    File {
        /// The key that its bytes are for.
        key: String,
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The transient map of a call; files are read now.
///
/// # Errors
/// [`TransientError`].
pub fn read(all: Vec<Transient>) -> Result<BTreeMap<String, Bytes>, TransientError> {
    let mut map = BTreeMap::new();
    for Transient { key, value } in all {
        if map.contains_key(&key) {
            return Err(TransientError::Twice(key));
        }
        let bytes = match value {
            Value::Text(text) => text.into_bytes(),
            Value::File(file) => match std::fs::read(&file) {
                Ok(bytes) => bytes,
                Err(source) => return Err(TransientError::File { key, file, source }),
            },
        };
        map.insert(key, bytes.into());
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(all: &[&str]) -> Vec<Transient> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn values_are_text_or_the_bytes_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a=b");
        std::fs::write(&file, [0, 255, b'\n']).unwrap();
        let from_file = format!("blob=@{}", file.display());
        let map = read(parse(&["price=1=2", "empty=", &from_file])).unwrap();
        let expected: [(&str, &[u8]); 3] =
            [("blob", &[0, 255, b'\n']), ("empty", b""), ("price", b"1=2")];
        assert_eq!(map.len(), expected.len());
        for (key, value) in expected {
            assert_eq!(map[key], value, "{key}");
        }
    }

    #[test]
    fn what_names_no_value_is_refused() {
        for text in ["", "s3cret", "=s3cret", "key=@"] {
            assert_eq!(text.parse::<Transient>(), Err(NoTransient), "{text}");
        }
        let twice = read(parse(&["k=s3cret", "k=b"])).unwrap_err();
        assert_eq!(twice.to_string(), "--transient k is given twice");
        let missing = read(parse(&["k=@/no/such/file"])).unwrap_err();
        assert_eq!(missing.to_string(), "failed to read /no/such/file for --transient k");
    }

    #[test]
    fn values_are_not_shown() {
        let shown = format!("{:?}", parse(&["key=s3cret"]));
        assert!(shown.contains("key") && !shown.contains("s3cret"), "{shown}");
    }
}
