//! Private and public keys.

use std::{fmt, sync::Arc};

use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use crate::{
    der, hash,
    pem::{self, PemError},
    suite::{Malleability, SigningKey, Suite, VerifyingKey},
};

/// A key could not be made, read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text around the key is not PEM.
    #[error("failed to read a key")]
    Pem(#[source] PemError),
    /// The key is encrypted; keys are kept in plain files with tight permissions.
    #[error("failed to read a private key: it is encrypted")]
    Encrypted,
    /// The bytes are not a private key of a known suite.
    #[error("failed to read a private key: {reason}")]
    Private {
        /// What the reader says.
        reason: String,
    },
    /// The bytes are not a public key of a known suite.
    #[error("failed to read a public key: {reason}")]
    Public {
        /// What the reader says.
        reason: String,
    },
    /// The public key is of an algorithm that no suite has.
    #[error("failed to read a public key: algorithm {oid} is not supported")]
    Algorithm {
        /// Dotted object identifier of the key's algorithm.
        oid: String,
    },
    /// No new key could be drawn.
    #[error("failed to generate a key")]
    Generate,
    /// The key could not be written.
    #[error("failed to encode a private key")]
    Encode,
}

/// A signature could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The signature algorithm failed (no randomness, or an unusable key).
    #[error("failed to sign")]
    Failed,
}

/// A signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature is not DER of two numbers within the curve's order.
    #[error("failed to verify a signature: it is malformed")]
    Malformed,
    /// The signature's second number is in the upper half (Fabric: bccsp/utils/ecdsa.go).
    #[error("failed to verify a signature: s is above half the order of the curve")]
    HighS,
    /// The signature is of another key or another message.
    #[error("failed to verify a signature: it does not match the key and the message")]
    Mismatch,
}

/// A private key with its public key. Cloning shares the key; its memory is cleared when the last
/// clone goes.
#[derive(Clone)]
pub struct PrivateKey {
    inner: Arc<dyn SigningKey>,
    public: PublicKey,
}

impl PrivateKey {
    /// A new random key of the default suite.
    ///
    /// # Errors
    /// [`KeyError::Generate`].
    pub fn generate() -> Result<Self, KeyError> {
        Self::generate_for(Suite::default())
    }

    /// A new random key of `suite`.
    ///
    /// # Errors
    /// [`KeyError::Generate`].
    pub fn generate_for(suite: Suite) -> Result<Self, KeyError> {
        Self::new(suite, suite.generate()?)
    }

    fn new(suite: Suite, inner: Box<dyn SigningKey>) -> Result<Self, KeyError> {
        let public = PublicKey::from_bits(suite, inner.public_bits())?;
        Ok(Self { inner: inner.into(), public })
    }

    /// Reads the first private key in `text`: PKCS#8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`,
    /// also after an `EC PARAMETERS` block, as openssl writes it).
    ///
    /// # Errors
    /// [`KeyError`] when there is none, it is encrypted, or it is of no known suite.
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, KeyError> {
        let blocks = pem::parse(text).map_err(KeyError::Pem)?;
        let key = blocks.iter().find(|block| block.label.ends_with(pem::PRIVATE_KEY));
        let key = key.ok_or(KeyError::Pem(PemError::Missing { label: pem::PRIVATE_KEY }))?;
        match key.label.as_str() {
            _ if key.encrypted => Err(KeyError::Encrypted),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            pem::PRIVATE_KEY | pem::EC_PRIVATE_KEY => Self::from_der(&key.contents),
            other => Err(KeyError::Private { reason: format!("{other} is not supported") }),
        }
    }

    /// Reads a private key from DER: PKCS#8 PrivateKeyInfo or SEC 1 ECPrivateKey.
    ///
    /// # Errors
    /// [`KeyError::Private`] when it is of no known suite.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let suite = Suite::default();
        Self::new(suite, suite.signing_key(der)?)
    }

    /// The key as a PKCS#8 `PRIVATE KEY` block.
    ///
    /// # Errors
    /// [`KeyError::Encode`].
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        Ok(Zeroizing::new(pem::encode(pem::PRIVATE_KEY, &self.to_pkcs8_der()?)))
    }

    /// The key as PKCS#8 DER (what TLS libraries take).
    ///
    /// # Errors
    /// [`KeyError::Encode`].
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.inner.to_pkcs8()
    }

    /// Signs `message`: ECDSA over its SHA-256, DER, low-S.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.inner.sign(message)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The key's suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.public.suite()
    }
}

/// Shows the public half only.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public)
    }
}

/// A public key, parsed once and shared by its clones.
#[derive(Clone)]
pub struct PublicKey(Arc<PublicInner>);

struct PublicInner {
    suite: Suite,
    bits: Vec<u8>,
    spki: Vec<u8>,
    verifier: Box<dyn VerifyingKey>,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError::Algorithm`] for a key of no known suite, [`KeyError::Public`] for anything else.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der)
            .map_err(|error| KeyError::Public { reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(KeyError::Public { reason: "bytes after the key".to_owned() });
        }
        Self::from_spki(&info)
    }

    /// Reads the first `PUBLIC KEY` block of `text`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_spki_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem::parse_first(text, pem::PUBLIC_KEY).map_err(KeyError::Pem)?;
        Self::from_spki_der(&der)
    }

    pub(crate) fn from_spki(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        let suite = Suite::of_key(&info.algorithm)
            .ok_or_else(|| KeyError::Algorithm { oid: info.algorithm.algorithm.to_id_string() })?;
        Self::from_bits(suite, &info.subject_public_key.data)
    }

    fn from_bits(suite: Suite, bits: &[u8]) -> Result<Self, KeyError> {
        let verifier = suite.verifying_key(bits)?;
        let spki = der::sequence([suite.key_algorithm(), &der::bit_string(bits)]);
        Ok(Self(Arc::new(PublicInner { suite, bits: bits.to_vec(), spki, verifier })))
    }

    /// Checks a signature of the ledger: over the SHA-256 of `message`, DER, low-S only.
    ///
    /// # Errors
    /// [`SignatureError`] naming why the signature does not count.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.0.verifier.verify(message, signature, Malleability::Refuse)
    }

    /// Checks a signature, saying whether both of its equivalent forms count.
    ///
    /// # Errors
    /// [`SignatureError`] naming why the signature does not count.
    pub fn verify_with(
        &self,
        message: &[u8],
        signature: &[u8],
        malleability: Malleability,
    ) -> Result<(), SignatureError> {
        self.0.verifier.verify(message, signature, malleability)
    }

    /// The key's suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.0.suite
    }

    /// DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// A `PUBLIC KEY` block.
    #[must_use]
    pub fn to_spki_pem(&self) -> String {
        pem::encode(pem::PUBLIC_KEY, &self.0.spki)
    }

    /// The key's bits as in the SubjectPublicKeyInfo (P-256: the uncompressed point, 65 bytes).
    #[must_use]
    pub fn bits(&self) -> &[u8] {
        &self.0.bits
    }

    /// The key identifier written into certificates: the leftmost 160 bits of the SHA-256 of the
    /// key's bits (RFC 7093, 2, method 1).
    #[must_use]
    pub fn key_identifier(&self) -> Vec<u8> {
        hash::sha256(self.bits()).into_iter().take(20).collect()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.suite() == other.suite() && self.bits() == other.bits()
    }
}

impl Eq for PublicKey {}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, ", self.suite())?;
        for byte in self.key_identifier() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}
