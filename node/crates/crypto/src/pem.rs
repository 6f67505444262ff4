//! PEM text (RFC 7468): the armour around keys, certificates, requests and revocation lists.
//!
//! Reading is as forgiving as the tools that write such files: text before, between and after the
//! blocks (what `openssl x509 -text` prints), CRLF line ends and RFC 1421 headers are skipped.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize as _, Zeroizing};

/// Label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// Label of a certificate request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// Label of a revocation list.
pub const X509_CRL: &str = "X509 CRL";
/// Label of a PKCS#8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Label of a SEC 1 (RFC 5915) elliptic curve private key.
pub const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
/// Label of a SubjectPublicKeyInfo.
pub const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Characters of base64 in a line (RFC 7468, 2).
const LINE: usize = 64;

/// Text that is not PEM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A block has no end line.
    #[error("failed to read PEM: block {label:?} does not end")]
    Unterminated {
        /// The block's label.
        label: String,
    },
    /// A block's body is not base64.
    #[error("failed to read PEM: block {label:?} is not base64")]
    Base64 {
        /// The block's label.
        label: String,
    },
    /// No block with the wanted label.
    #[error("failed to read PEM: no {label:?} block")]
    Missing {
        /// The wanted label.
        label: &'static str,
    },
}

/// One PEM block.
#[derive(Clone)]
pub struct Block {
    /// What stands after `BEGIN`.
    pub label: String,
    /// Whether an RFC 1421 header says that the contents are encrypted.
    pub encrypted: bool,
    /// The decoded bytes; cleared from memory when dropped, as they may be a key.
    pub contents: Zeroizing<Vec<u8>>,
}

/// Does not show the contents.
impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pem::Block({}, {} bytes)", self.label, self.contents.len())
    }
}

/// All blocks of `text`, in order.
///
/// # Errors
/// [`PemError`] for a block without an end or with a body that is not base64.
pub fn parse(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(label) = marker(line, "-----BEGIN ") {
            blocks.push(read_block(label, &mut lines)?);
        }
    }
    Ok(blocks)
}

/// The contents of the first block that carries `label`.
///
/// # Errors
/// [`PemError`]; [`PemError::Missing`] when there is no such block.
pub fn parse_first(text: &str, label: &'static str) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let found = parse(text)?.into_iter().find(|block| block.label == label);
    found.map(|block| block.contents).ok_or(PemError::Missing { label })
}

fn marker<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.trim().strip_prefix(start)?.strip_suffix("-----")
}

fn read_block<'a>(
    label: &str,
    lines: &mut impl Iterator<Item = &'a str>,
) -> Result<Block, PemError> {
    let mut body = Zeroizing::new(String::new());
    let mut encrypted = false;
    for line in lines {
        if marker(line, "-----END ").is_some_and(|end| end == label) {
            let contents = STANDARD
                .decode(body.as_bytes())
                .map_err(|_| PemError::Base64 { label: label.to_owned() })?;
            let contents = Zeroizing::new(contents);
            return Ok(Block { label: label.to_owned(), encrypted, contents });
        }
        if let Some((name, value)) = line.split_once(':') {
            encrypted |= name.trim() == "Proc-Type" && value.contains("ENCRYPTED");
            continue;
        }
        body.extend(line.chars().filter(|c| !c.is_whitespace()));
    }
    Err(PemError::Unterminated { label: label.to_owned() })
}

/// `der` as one PEM block.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let mut body = STANDARD.encode(der);
    let mut out = String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + 40);
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for (index, character) in body.chars().enumerate() {
        if index > 0 && index % LINE == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    // The body may be a private key; the caller wraps the result, this copy is cleared here.
    body.zeroize();
    out.push_str("\n-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}
