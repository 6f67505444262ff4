//! The identity a node or client signs as.

use bytes::Bytes;
use prost::Message as _;
use weft_crypto::{Certificate, PrivateKey};
use weft_protos::msp::SerializedIdentity;
use weft_types::{MspId, SignError, Signer};

use crate::authenticated::Authenticated;

/// A signing identity cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningIdentityError {
    /// The private key is not the one that the certificate is for.
    #[error(
        "failed to make a signing identity: the private key does not belong to the certificate of {subject:?}"
    )]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
}

/// A certificate with its private key, under an MSP. Cloning shares the key.
#[derive(Debug, Clone)]
pub struct SigningIdentity {
    msp_id: MspId,
    certificate: Certificate,
    key: PrivateKey,
    serialized: Bytes,
}

impl SigningIdentity {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`SigningIdentityError::KeyMismatch`] when the key is not the certificate's.
    pub fn new(
        msp_id: MspId,
        certificate: Certificate,
        key: PrivateKey,
    ) -> Result<Self, SigningIdentityError> {
        if key.public_key() != certificate.public_key() {
            let subject = certificate.subject_text().to_owned();
            return Err(SigningIdentityError::KeyMismatch { subject });
        }
        let identity = SerializedIdentity {
            mspid: msp_id.as_str().to_owned(),
            id_bytes: certificate.pem().into(),
        };
        let serialized = identity.encode_to_vec().into();
        Ok(Self { msp_id, certificate, key, serialized })
    }

    /// The MSP it belongs to.
    #[must_use]
    pub fn msp_id(&self) -> &MspId {
        &self.msp_id
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Itself, as somebody who holds the key.
    #[must_use]
    pub fn authenticated(&self) -> Authenticated {
        Authenticated::own(self.serialized.clone(), self.msp_id.clone())
    }

    /// Its private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}

impl Signer for SigningIdentity {
    fn serialized_identity(&self) -> Bytes {
        self.serialized.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.key
            .sign(message)
            .map(Bytes::from)
            .map_err(|source| SignError::new("with the private key of the node's identity", source))
    }
}
