//! Labels and ids of packages.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Beginning of the name that a package's contract has in its TLS certificate.
const CERTIFICATE_NAME: &str = "weft:chaincode:";
/// Longest label: with its hash it must make a file's name.
const MAX_LABEL: usize = 180;

/// A text that cannot be a package's label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid label '{0}'. Label must be non-empty, can only consist of alphanumerics, symbols \
     from '.+-_', and can only begin with alphanumerics; at most {MAX_LABEL} characters"
)]
pub struct LabelError(String);

/// A text that is not a package's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid package id '{0}': it is a label, a colon and 64 lower-case hexadecimal digits")]
pub struct PackageIdError(String);

/// A package's label: ASCII letters and digits, `.`, `+`, `-`, `_`, the first a letter or digit
/// (Fabric: core/chaincode/persistence/chaincode_package.go LabelRegexp).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// Checks a label.
    ///
    /// # Errors
    /// Fails on an empty or overlong text, or one with other characters.
    pub fn new(label: impl Into<String>) -> Result<Self, LabelError> {
        let label = label.into();
        let starts = label.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
        if starts && label.len() <= MAX_LABEL && label.bytes().all(allowed) {
            Ok(Self(label))
        } else {
            Err(LabelError(label.chars().take(MAX_LABEL).collect()))
        }
    }

    /// The label's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A package's id: `label:sha256`, the hash in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId {
    label: Label,
    hash: [u8; 32],
}

impl PackageId {
    /// The id of a package of this label and these bytes.
    #[must_use]
    pub fn of(label: &Label, package: &[u8]) -> Self {
        Self { label: label.clone(), hash: Sha256::digest(package).into() }
    }

    /// The label.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// SHA-256 of the package's bytes.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The name that a TLS certificate of the package's contract has: the URI
    /// `weft:chaincode:LABEL:HASH` among its subject alternative names. A common name has no room for
    /// it: RFC 5280 allows 64 characters, which the hash alone takes.
    #[must_use]
    pub fn certificate_name(&self) -> String {
        format!("{CERTIFICATE_NAME}{self}")
    }

    /// What a URI of a certificate says of packages: nothing, or a package's id, or something that
    /// should be one.
    ///
    /// # Errors
    /// Fails on a name of ours without a package's id.
    pub fn from_certificate_name(uri: &str) -> Option<Result<Self, PackageIdError>> {
        uri.strip_prefix(CERTIFICATE_NAME).map(str::parse)
    }

    /// Name of the file that keeps the package (Fabric: persistence.go CCFileName).
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{}.tar.gz", self.label, hex::encode(self.hash))
    }

    /// Reads the name of a file that keeps a package.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (label, hash) = name.strip_suffix(".tar.gz")?.rsplit_once('.')?;
        format!("{label}:{hash}").parse().ok()
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.label, hex::encode(self.hash))
    }
}

impl FromStr for PackageId {
    type Err = PackageIdError;

    fn from_str(text: &str) -> Result<Self, PackageIdError> {
        let fail = || PackageIdError(text.chars().take(MAX_LABEL + 65).collect());
        let (label, digits) = text.split_once(':').ok_or_else(fail)?;
        let label = Label::new(label).map_err(|_| fail())?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| fail())?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail());
        }
        Ok(Self { label, hash })
    }
}
