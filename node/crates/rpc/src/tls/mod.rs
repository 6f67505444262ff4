//! TLS: the node's certificate, the CAs it trusts, and reloading both.
//!
//! All configurations made here speak TLS 1.2 and 1.3 (RFC 5246, RFC 8446) and never resume
//! sessions: a resumed session skips the check of the other side's certificate, which would
//! let it outlive a change of roots or a revocation.

mod identity;
mod reload;
mod roots;
pub(crate) mod verify;

pub use identity::TlsIdentity;
pub(crate) use identity::sha256;
pub use reload::{ReloadingTls, TlsFiles, WatchGuard};
pub use roots::{RefusedRoot, RootSet};
pub use rustls_pki_types::CertificateDer;
pub use weft_settings::ClientAuth;

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::pem::{self, PemObject};

/// Why TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Text is not PEM.
    #[error("failed to parse PEM in {origin}: {source}")]
    Pem {
        /// The file, or what the text is.
        origin: String,
        /// The parser's error.
        #[source]
        source: pem::Error,
    },
    /// PEM text holds no certificate.
    #[error("failed to find a certificate in {origin}")]
    NoCertificate {
        /// The file, or what the text is.
        origin: String,
    },
    /// The private key cannot be used, or is not that of the certificate.
    #[error("failed to use the private key with the certificate of {origin}: {source}")]
    Key {
        /// The certificate file, or what it is.
        origin: String,
        /// The TLS library's error.
        #[source]
        source: rustls::Error,
    },
    /// A certificate cannot be a trust anchor.
    #[error("failed to use certificate {index} of {origin} as a root: {reason}")]
    Root {
        /// The file.
        origin: String,
        /// Position in the file, from 0.
        index: usize,
        /// The TLS library's reason.
        reason: String,
    },
    /// A revocation list cannot be used.
    #[error("failed to use the certificate revocation lists: {reason}")]
    Crl {
        /// The TLS library's reason.
        reason: String,
    },
    /// The protocol versions or ciphers do not fit together.
    #[error("failed to set TLS up: {source}")]
    Protocol {
        /// The TLS library's error.
        #[source]
        source: rustls::Error,
    },
    /// A server needs a certificate and there is none.
    #[error("failed to serve TLS without a certificate")]
    NoIdentity,
}

/// The application protocols that are offered (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2, for gRPC.
    H2,
    /// HTTP/1.1, for REST APIs.
    Http1,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::H2 => vec![b"h2".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
        }
    }
}

/// Reads every certificate of a PEM text; other sections are skipped.
///
/// # Errors
/// [`TlsError::Pem`] when the text is malformed, [`TlsError::NoCertificate`] when it has none.
pub fn certificates_from_pem(
    pem: &[u8],
    origin: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { origin: origin.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { origin: origin.to_owned() });
    }
    Ok(certificates)
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<rustls::crypto::CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}
