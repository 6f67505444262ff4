//! Algorithm suites: which hash, signature and key algorithm go together.

mod p256;

use x509_parser::x509::AlgorithmIdentifier;
use zeroize::Zeroizing;

use crate::{
    hash,
    key::{KeyError, SignError, SignatureError},
};

/// A hash, a signature algorithm and a kind of key that are used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Suite {
    /// ECDSA on NIST P-256 over SHA-256, signatures DER and low-S.
    #[default]
    P256Sha256,
}

/// Which of the two signatures (r, s) and (r, n − s) that hold for the same message are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malleability {
    /// Only the one with the smaller s. The rule for everything that is signed on the ledger
    /// (Fabric: bccsp/utils/ecdsa.go), because it makes a signature's bytes unique.
    Refuse,
    /// Both. The rule for certificates, requests and revocation lists: common tools write either.
    Accept,
}

impl Suite {
    /// All suites.
    pub const ALL: &[Self] = &[Self::P256Sha256];

    /// The suite's hash of `data`.
    #[must_use]
    pub fn hash(self, data: &[u8]) -> [u8; 32] {
        match self {
            Self::P256Sha256 => hash::sha256(data),
        }
    }

    /// The suite's name as it is shown to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256Sha256 => "P-256 with SHA-256",
        }
    }

    /// DER of the AlgorithmIdentifier of the suite's public keys (SubjectPublicKeyInfo).
    #[must_use]
    pub const fn key_algorithm(self) -> &'static [u8] {
        match self {
            Self::P256Sha256 => p256::KEY_ALGORITHM,
        }
    }

    /// DER of the AlgorithmIdentifier of the suite's signatures.
    #[must_use]
    pub const fn signature_algorithm(self) -> &'static [u8] {
        match self {
            Self::P256Sha256 => p256::SIGNATURE_ALGORITHM,
        }
    }

    /// The suite whose keys carry this AlgorithmIdentifier.
    pub(crate) fn of_key(algorithm: &AlgorithmIdentifier<'_>) -> Option<Self> {
        p256::is_key_algorithm(algorithm).then_some(Self::P256Sha256)
    }

    /// The suite whose signatures carry this AlgorithmIdentifier.
    pub(crate) fn of_signature(algorithm: &AlgorithmIdentifier<'_>) -> Option<Self> {
        p256::is_signature_algorithm(algorithm).then_some(Self::P256Sha256)
    }

    pub(crate) fn generate(self) -> Result<Box<dyn SigningKey>, KeyError> {
        match self {
            Self::P256Sha256 => p256::Signing::generate(),
        }
    }

    /// Reads a private key that is a PKCS#8 PrivateKeyInfo or the suite's own DER form.
    pub(crate) fn signing_key(self, der: &[u8]) -> Result<Box<dyn SigningKey>, KeyError> {
        match self {
            Self::P256Sha256 => p256::Signing::from_der(der),
        }
    }

    /// Reads a public key's bits as they stand in a SubjectPublicKeyInfo.
    pub(crate) fn verifying_key(self, bits: &[u8]) -> Result<Box<dyn VerifyingKey>, KeyError> {
        match self {
            Self::P256Sha256 => p256::Verifying::from_point(bits),
        }
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a suite's private key can do.
pub(crate) trait SigningKey: Send + Sync {
    /// The public key's bits as they stand in a SubjectPublicKeyInfo.
    fn public_bits(&self) -> &[u8];
    /// Signature over `message` (hashed by the suite's hash), in the suite's only accepted form.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
    /// PKCS#8 PrivateKeyInfo.
    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError>;
}

/// What a suite's public key can do. The key is parsed once, when the value is made.
pub(crate) trait VerifyingKey: Send + Sync {
    /// Checks `signature` over `message`.
    fn verify(
        &self,
        message: &[u8],
        signature: &[u8],
        malleability: Malleability,
    ) -> Result<(), SignatureError>;
}
