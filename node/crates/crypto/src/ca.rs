//! Issuing: roots, intermediates, leaf certificates and revocation lists.
//!
//! What is written reads in `openssl x509 -text` as what openssl itself writes: version 3, random
//! serial numbers, subject and authority key identifiers, critical basic constraints and key usage.

use crate::{
    cert::{Certificate, CertificateError},
    crl::{Crl, CrlError},
    csr::{Csr, CsrError},
    der,
    key::{KeyError, PrivateKey, PublicKey, SignError},
    name::{Name, NameError, SubjectAltName},
    random::{RandomError, random_bytes},
    time::{Timestamp, TimestampError},
    x509::{self, extension, extension_oid},
};

/// id-kp-serverAuth, 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// id-kp-clientAuth, 1.3.6.1.5.5.7.3.2.
const CLIENT_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// keyUsage: digitalSignature (bit 0).
const DIGITAL_SIGNATURE: (u8, u8) = (7, 0x80);
/// keyUsage: keyCertSign (bit 5) and cRLSign (bit 6).
const CERT_AND_CRL_SIGN: (u8, u8) = (1, 0x06);

/// Something could not be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// A name cannot be written.
    #[error("failed to issue")]
    Name(#[source] NameError),
    /// The validity ends before it starts.
    #[error("failed to issue: the validity ends at {not_after}, before its start {not_before}")]
    Validity {
        /// Wanted start.
        not_before: Timestamp,
        /// Wanted end.
        not_after: Timestamp,
    },
    /// The certificate would be valid longer than its issuer's.
    #[error("failed to issue: valid until {not_after}, but the issuer only until {issuer}")]
    OutlivesIssuer {
        /// Wanted end.
        not_after: Timestamp,
        /// End of the issuer's certificate.
        issuer: Timestamp,
    },
    /// A time cannot be written into a certificate.
    #[error("failed to issue")]
    Time(#[source] TimestampError),
    /// No serial number could be drawn.
    #[error("failed to draw a serial number")]
    Serial(#[source] RandomError),
    /// Signing failed.
    #[error("failed to issue")]
    Sign(#[source] SignError),
    /// The request is not signed by the key that it names.
    #[error("failed to issue")]
    Request(#[source] CsrError),
    /// The authority's certificate cannot be read, or what was issued cannot be read back.
    #[error("failed to read an authority's certificate")]
    Certificate(#[source] CertificateError),
    /// The authority's key cannot be read.
    #[error("failed to read an authority's key")]
    Key(#[source] KeyError),
    /// The key is not of the certificate.
    #[error("failed to read authority {subject:?}: the key is not the certificate's")]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// The certificate may not issue.
    #[error("failed to read authority {subject:?}: the certificate is not an authority's")]
    NotAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// The authority's path length leaves no room for another authority below it.
    #[error("failed to issue: {subject:?} may have no authority below it")]
    PathLength {
        /// The issuing certificate's subject.
        subject: String,
    },
    /// What was issued as a revocation list cannot be read back.
    #[error("failed to issue a revocation list")]
    Crl(#[source] CrlError),
}

/// From when to when a certificate is valid, both ends included, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start.
    pub not_before: Timestamp,
    /// End.
    pub not_after: Timestamp,
}

/// What an authority's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaProfile {
    /// Subject.
    pub name: Name,
    /// Validity.
    pub validity: Validity,
    /// How many authorities may follow below; `None` is no limit.
    pub max_path_len: Option<u8>,
}

/// What a leaf certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeafUsage {
    /// Signing on the ledger (the MSP's signcerts): digitalSignature.
    Identity,
    /// Either side of a TLS connection: digitalSignature, serverAuth and clientAuth.
    Tls,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafProfile {
    /// Subject; its units carry the role (`client`, `peer`, `orderer`, `admin`).
    pub name: Name,
    /// Subject alternative names; TLS certificates need the hosts that they are reached by.
    pub sans: Vec<SubjectAltName>,
    /// Purpose.
    pub usage: LeafUsage,
    /// Validity.
    pub validity: Validity,
}

/// A certificate to be listed as revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Serial number as [`Certificate::serial`] gives it.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why (RFC 5280, 5.3.1); `None` says nothing.
    pub reason: Option<u8>,
}

/// An authority: a certificate that may issue, and its key.
#[derive(Debug, Clone)]
pub struct CertificateAuthority {
    certificate: Certificate,
    key: PrivateKey,
}

impl CertificateAuthority {
    /// A self-signed root. Renewing a root is making it again with the same key and name: the key
    /// identifier stays, so that what the old certificate issued verifies under the new one.
    ///
    /// # Errors
    /// [`CaError`] naming what cannot be written.
    pub fn new_root(key: PrivateKey, profile: &CaProfile) -> Result<Self, CaError> {
        let subject = profile.name.to_der().map_err(CaError::Name)?;
        let tbs = ToBeSigned {
            issuer: &subject,
            subject: &subject,
            validity: profile.validity,
            key: key.public_key(),
            extensions: ca_extensions(
                profile,
                key.public_key(),
                &key.public_key().key_identifier(),
            ),
        };
        let certificate = tbs.sign(&key)?;
        Ok(Self { certificate, key })
    }

    /// An authority below this one, for the key `key`.
    ///
    /// # Errors
    /// [`CaError`] naming what cannot be written; [`CaError::PathLength`] when this authority may
    /// have none below it.
    pub fn new_intermediate(&self, key: PrivateKey, profile: &CaProfile) -> Result<Self, CaError> {
        if self.certificate.max_path_len() == Some(0) {
            let subject = self.certificate.subject_text().to_owned();
            return Err(CaError::PathLength { subject });
        }
        let extensions = ca_extensions(profile, key.public_key(), &self.key_identifier());
        let certificate =
            self.sign(&profile.name, profile.validity, key.public_key(), extensions)?;
        Ok(Self { certificate, key })
    }

    /// An authority whose certificate and key exist already, also when openssl made them.
    ///
    /// # Errors
    /// [`CaError::KeyMismatch`] or [`CaError::NotAuthority`].
    pub fn new(certificate: Certificate, key: PrivateKey) -> Result<Self, CaError> {
        let subject = || certificate.subject_text().to_owned();
        if certificate.public_key() != key.public_key() {
            return Err(CaError::KeyMismatch { subject: subject() });
        }
        if !certificate.is_ca() || certificate.key_usage().is_some_and(|usage| !usage.cert_sign) {
            return Err(CaError::NotAuthority { subject: subject() });
        }
        Ok(Self { certificate, key })
    }

    /// [`Self::new`] from PEM texts.
    ///
    /// # Errors
    /// [`CaError`] when either cannot be read or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CaError> {
        let certificate = Certificate::from_pem(certificate).map_err(CaError::Certificate)?;
        let key = PrivateKey::from_pkcs8_pem(key).map_err(CaError::Key)?;
        Self::new(certificate, key)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The authority's key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// A leaf certificate for `key`. Renewing is issuing again for the same key.
    ///
    /// # Errors
    /// [`CaError`] naming what cannot be written.
    pub fn issue(&self, key: &PublicKey, profile: &LeafProfile) -> Result<Certificate, CaError> {
        let extensions = self.leaf_extensions(key, profile)?;
        self.sign(&profile.name, profile.validity, key, extensions)
    }

    /// A leaf certificate for a request's key. The request proves possession of the private key;
    /// name, alternative names and purpose are the profile's, not the request's.
    ///
    /// # Errors
    /// [`CaError::Request`] when the request's signature does not hold, or as [`Self::issue`].
    pub fn issue_for(&self, request: &Csr, profile: &LeafProfile) -> Result<Certificate, CaError> {
        request.verify().map_err(CaError::Request)?;
        self.issue(request.public_key(), profile)
    }

    /// A revocation list of all of `revoked`. `number` must grow from list to list.
    ///
    /// # Errors
    /// [`CaError`] naming what cannot be written.
    pub fn issue_crl(
        &self,
        revoked: &[RevokedCertificate],
        number: u64,
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Result<Crl, CaError> {
        let entries = revoked.iter().map(crl_entry).collect::<Result<Vec<_>, _>>()?;
        let extensions = [
            authority_key_id(&self.key_identifier()),
            extension(&extension_oid::CRL_NUMBER, false, &der::integer(number)),
        ];
        let mut parts = vec![
            der::integer(1),
            self.key.suite().signature_algorithm().to_vec(),
            self.certificate.subject().to_vec(),
            time(this_update)?,
            time(next_update)?,
        ];
        if !entries.is_empty() {
            parts.push(der::sequence(entries));
        }
        parts.push(der::context_constructed(0, &der::sequence(extensions)));
        let signed = x509::signed(&der::sequence(parts), &self.key).map_err(CaError::Sign)?;
        Crl::from_der(&signed).map_err(CaError::Crl)
    }

    fn sign(
        &self,
        name: &Name,
        validity: Validity,
        key: &PublicKey,
        extensions: Vec<Vec<u8>>,
    ) -> Result<Certificate, CaError> {
        let issuer_end = self.certificate.not_after();
        if validity.not_after.seconds() > issuer_end.seconds() {
            let not_after = validity.not_after;
            return Err(CaError::OutlivesIssuer { not_after, issuer: issuer_end });
        }
        let subject = name.to_der().map_err(CaError::Name)?;
        let issuer = self.certificate.subject();
        ToBeSigned { issuer, subject: &subject, validity, key, extensions }.sign(&self.key)
    }

    /// The identifier that issued certificates name: what the authority's certificate says, so
    /// that chains of authorities made elsewhere match too.
    fn key_identifier(&self) -> Vec<u8> {
        let own = || self.key.public_key().key_identifier();
        self.certificate.ski().map_or_else(own, <[u8]>::to_vec)
    }

    fn leaf_extensions(
        &self,
        key: &PublicKey,
        profile: &LeafProfile,
    ) -> Result<Vec<Vec<u8>>, CaError> {
        let mut extensions = vec![key_usage(DIGITAL_SIGNATURE)];
        if profile.usage == LeafUsage::Tls {
            let purposes = der::sequence([der::oid(&SERVER_AUTH), der::oid(&CLIENT_AUTH)]);
            extensions.push(extension(&extension_oid::EXTENDED_KEY_USAGE, false, &purposes));
        }
        extensions.push(basic_constraints(&der::sequence::<Vec<u8>>([])));
        extensions.push(subject_key_id(key));
        extensions.push(authority_key_id(&self.key_identifier()));
        extensions.extend(x509::alternative_names_extension(&profile.sans).map_err(CaError::Name)?);
        Ok(extensions)
    }
}

/// The parts of a TBSCertificate (RFC 5280, 4.1) that differ between certificates.
struct ToBeSigned<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: Validity,
    key: &'a PublicKey,
    extensions: Vec<Vec<u8>>,
}

impl ToBeSigned<'_> {
    fn sign(self, key: &PrivateKey) -> Result<Certificate, CaError> {
        let Validity { not_before, not_after } = self.validity;
        if not_after.seconds() < not_before.seconds() {
            return Err(CaError::Validity { not_before, not_after });
        }
        let tbs = der::sequence([
            der::context_constructed(0, &der::integer(2)),
            der::unsigned_integer(&serial()?),
            key.suite().signature_algorithm().to_vec(),
            self.issuer.to_vec(),
            der::sequence([time(not_before)?, time(not_after)?]),
            self.subject.to_vec(),
            self.key.spki_der().to_vec(),
            der::context_constructed(3, &der::sequence(self.extensions)),
        ]);
        let signed = x509::signed(&tbs, key).map_err(CaError::Sign)?;
        Certificate::from_der(&signed).map_err(CaError::Certificate)
    }
}

/// 127 random bits: positive, and far under the 20 octets that RFC 5280 allows.
fn serial() -> Result<[u8; 16], CaError> {
    let mut serial = random_bytes::<16>().map_err(CaError::Serial)?;
    if let Some(top) = serial.first_mut() {
        *top = (*top & 0x7f) | 0x40;
    }
    Ok(serial)
}

fn time(at: Timestamp) -> Result<Vec<u8>, CaError> {
    der::time(at).map_err(CaError::Time)
}

fn ca_extensions(profile: &CaProfile, key: &PublicKey, authority: &[u8]) -> Vec<Vec<u8>> {
    let mut constraints = vec![der::boolean_true()];
    constraints.extend(profile.max_path_len.map(|length| der::integer(u64::from(length))));
    vec![
        key_usage(CERT_AND_CRL_SIGN),
        basic_constraints(&der::sequence(constraints)),
        subject_key_id(key),
        authority_key_id(authority),
    ]
}

fn key_usage((unused, bits): (u8, u8)) -> Vec<u8> {
    extension(&extension_oid::KEY_USAGE, true, &der::named_bits(unused, &[bits]))
}

fn basic_constraints(value: &[u8]) -> Vec<u8> {
    extension(&extension_oid::BASIC_CONSTRAINTS, true, value)
}

fn subject_key_id(key: &PublicKey) -> Vec<u8> {
    let value = der::octet_string(&key.key_identifier());
    extension(&extension_oid::SUBJECT_KEY_ID, false, &value)
}

fn authority_key_id(identifier: &[u8]) -> Vec<u8> {
    let value = der::sequence([der::context_primitive(0, identifier)]);
    extension(&extension_oid::AUTHORITY_KEY_ID, false, &value)
}

fn crl_entry(revoked: &RevokedCertificate) -> Result<Vec<u8>, CaError> {
    let mut parts = vec![der::unsigned_integer(&revoked.serial), time(revoked.revoked_at)?];
    if let Some(reason) = revoked.reason {
        let value = der::enumerated(reason);
        parts.push(der::sequence([extension(&extension_oid::REASON_CODE, false, &value)]));
    }
    Ok(der::sequence(parts))
}
