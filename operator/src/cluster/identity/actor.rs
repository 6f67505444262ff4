//! An identity read back from its Secret: to sign, and to show on connections.

use std::sync::Arc;

use weft_crypto::{Certificate, CertificateError, KeyError, PrivateKey};
use weft_msp::{SigningIdentity, SigningIdentityError};
use weft_rpc::tls::{TlsError, TlsIdentity};
use weft_types::MspId;

use super::{SecretData, text};
use crate::cluster::names::key;

/// Why an identity Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// A part is missing.
    #[error("failed to read the identity in Secret {secret}: it has no {key}")]
    NoKey {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
    },
    /// A part is not text.
    #[error("failed to read the identity in Secret {secret}: {key} is not UTF-8 text")]
    NotText {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
    },
    /// A certificate cannot be read.
    #[error("failed to read {key} of Secret {secret}")]
    Certificate {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// The signing key cannot be read.
    #[error("failed to read {} of Secret {secret}", key::SIGN_KEY)]
    Key {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The signing key is not that of the certificate.
    #[error("failed to sign with the identity in Secret {secret}")]
    Signer {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: SigningIdentityError,
    },
    /// The TLS certificate and key cannot be used.
    #[error("failed to connect with the identity in Secret {secret}")]
    Tls {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
}

/// Someone with keys. `Debug` does not show them.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The identity that signs.
    pub signer: Arc<SigningIdentity>,
    /// The certificate shown on connections.
    pub tls: TlsIdentity,
}

impl Actor {
    /// Reads the identity in the Secret of that name.
    ///
    /// # Errors
    /// [`ActorError`] names the Secret and its part.
    pub fn read(secret: &str, data: &SecretData, msp_id: &MspId) -> Result<Actor, ActorError> {
        let source = Source { secret, data };
        Ok(Actor { signer: Arc::new(source.signer(msp_id)?), tls: source.tls()? })
    }
}

/// The roots of TLS certificates in an identity Secret: who may have signed those of the
/// holder's nodes.
///
/// # Errors
/// [`ActorError`] when there are none or they cannot be read.
pub fn tls_roots(secret: &str, data: &SecretData) -> Result<Vec<Certificate>, ActorError> {
    Source { secret, data }.certificates(key::TLS_CA_CERTS)
}

/// The certificates in an identity Secret: signing, then TLS.
///
/// # Errors
/// [`ActorError`] when one is missing or cannot be read.
pub fn certificates(secret: &str, data: &SecretData) -> Result<[Certificate; 2], ActorError> {
    let source = Source { secret, data };
    Ok([source.certificate(key::SIGN_CERT)?, source.certificate(key::TLS_CERT)?])
}

struct Source<'a> {
    secret: &'a str,
    data: &'a SecretData,
}

impl<'a> Source<'a> {
    fn secret(&self) -> String {
        self.secret.to_owned()
    }

    fn text(&self, key: &'static str) -> Result<&'a str, ActorError> {
        if !self.data.contains_key(key) {
            return Err(ActorError::NoKey { secret: self.secret(), key });
        }
        text(self.data, key).ok_or_else(|| ActorError::NotText { secret: self.secret(), key })
    }

    fn certificates(&self, key: &'static str) -> Result<Vec<Certificate>, ActorError> {
        let found = Certificate::all_from_pem(self.text(key)?)
            .map_err(|source| ActorError::Certificate { secret: self.secret(), key, source })?;
        if found.is_empty() {
            return Err(ActorError::NoKey { secret: self.secret(), key });
        }
        Ok(found)
    }

    fn certificate(&self, key: &'static str) -> Result<Certificate, ActorError> {
        Certificate::from_pem(self.text(key)?).map_err(|source| ActorError::Certificate {
            secret: self.secret(),
            key,
            source,
        })
    }

    fn signer(&self, msp_id: &MspId) -> Result<SigningIdentity, ActorError> {
        let certificate = self.certificate(key::SIGN_CERT)?;
        let private = PrivateKey::from_pkcs8_pem(self.text(key::SIGN_KEY)?)
            .map_err(|source| ActorError::Key { secret: self.secret(), source })?;
        SigningIdentity::new(msp_id.clone(), certificate, private)
            .map_err(|source| ActorError::Signer { secret: self.secret(), source })
    }

    fn tls(&self) -> Result<TlsIdentity, ActorError> {
        let cert = self.text(key::TLS_CERT)?;
        let private = self.text(key::TLS_KEY)?;
        let origin = format!("Secret {}", self.secret);
        TlsIdentity::from_pem(cert.as_bytes(), private.as_bytes(), &origin)
            .map_err(|source| ActorError::Tls { secret: self.secret(), source })
    }
}
