//! A certificate chain with its private key.

use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::{TlsError, certificates_from_pem, provider};

/// A TLS certificate chain with its private key. Cheap to clone; the key is never shown.
#[derive(Clone)]
pub struct TlsIdentity {
    certified: Arc<CertifiedKey>,
}

impl TlsIdentity {
    /// Reads a chain (leaf first) and its key (PKCS#8, or SEC1 as `openssl ecparam` makes)
    /// from PEM text. `origin` names the certificate in errors.
    ///
    /// # Errors
    /// When either text cannot be parsed or the key is not that of the leaf certificate.
    pub fn from_pem(cert: &[u8], key: &[u8], origin: &str) -> Result<Self, TlsError> {
        let chain = certificates_from_pem(cert, origin)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem { origin: format!("the key of {origin}"), source })?;
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|source| TlsError::Key { origin: origin.to_owned(), source })?;
        Ok(Self { certified: Arc::new(certified) })
    }

    /// Reads a chain and its key from PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, and as [`TlsIdentity::from_pem`].
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let cert_pem = super::reload::read(cert)?;
        let key_pem = Zeroizing::new(super::reload::read(key)?);
        Self::from_pem(&cert_pem, &key_pem, &cert.display().to_string())
    }

    /// The chain, leaf first, DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// SHA-256 of the leaf certificate's DER: what Fabric's channel headers carry as
    /// `tls_cert_hash`.
    pub fn leaf_sha256(&self) -> [u8; 32] {
        self.chain().first().map(|leaf| sha256(leaf)).unwrap_or_default()
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("certificates", &self.chain().len()).finish()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}
