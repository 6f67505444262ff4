//! Keys, signatures, hashes and X.509 certificates of the ledger.
//!
//! This crate owns everything that touches key material or a certificate's encoding: making and
//! reading keys, signing and verifying by the network's rule (ECDSA over SHA-256, DER, low-S),
//! reading certificates, requests and revocation lists, and issuing them. It does no input or
//! output and reads no clock: time comes in as [`Timestamp`].
//!
//! Whether a certificate is *trusted* (chains, validity at a time, revocation, roles) is decided in
//! the `msp` crate; here a certificate can only say what it holds and who signed it.
//!
//! Algorithms are grouped in a [`Suite`]. P-256 with SHA-256 is the one suite today; every
//! algorithm identifier and every primitive is reached through the suite, so that a second one
//! (SM2 with SM3) is an added variant and not a change of the callers.

pub mod ca;
pub mod cert;
pub mod crl;
pub mod csr;
pub mod der;
pub mod hash;
pub mod key;
pub mod name;
pub mod pem;
pub mod random;
pub mod suite;
pub mod time;
mod x509;

pub use ca::{
    CaError, CaProfile, CertificateAuthority, LeafProfile, LeafUsage, RevokedCertificate, Validity,
};
pub use cert::{Certificate, CertificateError};
pub use crl::{Crl, CrlEntry, CrlError};
pub use csr::{Csr, CsrError};
pub use hash::{Hasher, sha256, sha256_parts};
pub use key::{KeyError, PrivateKey, PublicKey, SignError, SignatureError};
pub use name::{Name, SubjectAltName};
pub use random::{RandomError, random_bytes};
pub use suite::Suite;
pub use time::{Timestamp, TimestampError};
