//! Certificate revocation lists (RFC 5280, 5).

use std::collections::BTreeMap;

use x509_parser::{
    extensions::ParsedExtension, prelude::FromDer as _, revocation_list::CertificateRevocationList,
};

use crate::{
    cert::{Certificate, magnitude},
    key::SignatureError,
    pem::{self, PemError},
    suite::{Malleability, Suite},
    time::Timestamp,
    x509,
};

/// A revocation list could not be read, or is not signed as it claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// The text around the list is not PEM.
    #[error("failed to read a revocation list")]
    Pem(#[source] PemError),
    /// The bytes are not a revocation list.
    #[error("failed to read a revocation list: {reason}")]
    Malformed {
        /// What the reader says.
        reason: String,
    },
    /// A critical extension is not known, so that the list cannot be applied (RFC 5280, 5.2).
    #[error("failed to read a revocation list: critical extension {oid} is not supported")]
    CriticalExtension {
        /// Dotted object identifier of the extension.
        oid: String,
    },
    /// The list's issuer is not the certificate's subject.
    #[error("failed to verify a revocation list: its issuer is not {issuer:?}")]
    IssuerMismatch {
        /// The subject of the certificate that was to have signed.
        issuer: String,
    },
    /// The certificate may not sign revocation lists.
    #[error("failed to verify a revocation list: {issuer:?} may not sign revocation lists")]
    IssuerNotAuthority {
        /// The subject of the certificate that was to have signed.
        issuer: String,
    },
    /// The signature is of an algorithm that does not belong to the key.
    #[error("failed to verify a revocation list: signature algorithm {oid} is not the key's")]
    SignatureAlgorithm {
        /// Dotted object identifier of the algorithm.
        oid: String,
    },
    /// The signature does not hold.
    #[error("failed to verify a revocation list")]
    Signature(#[source] SignatureError),
}

/// One revoked certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlEntry {
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why (RFC 5280, 5.3.1: 0 unspecified, 1 key compromise, …); `None` when not told.
    pub reason: Option<u8>,
}

/// A revocation list.
#[derive(Debug, Clone)]
pub struct Crl {
    der: Vec<u8>,
    tbs: Vec<u8>,
    issuer: Vec<u8>,
    aki: Option<Vec<u8>>,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    entries: BTreeMap<Vec<u8>, CrlEntry>,
    signature: Vec<u8>,
    signature_suite: Result<Suite, String>,
}

impl Crl {
    /// Reads the first `X509 CRL` block of `text`.
    ///
    /// # Errors
    /// [`CrlError`] when there is none or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, CrlError> {
        let der = pem::parse_first(text, pem::X509_CRL).map_err(CrlError::Pem)?;
        Self::from_der(&der)
    }

    /// Reads a list that is exactly `der`. The signature is not checked yet: see
    /// [`Self::verify_signed_by`].
    ///
    /// # Errors
    /// [`CrlError`] when it cannot be read or has a critical extension that is not known.
    pub fn from_der(der: &[u8]) -> Result<Self, CrlError> {
        let (rest, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|error| CrlError::Malformed { reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(CrlError::Malformed { reason: "bytes after the list".to_owned() });
        }
        Self::read(der, &parsed)
    }

    fn read(der: &[u8], parsed: &CertificateRevocationList<'_>) -> Result<Self, CrlError> {
        let algorithm = &parsed.signature_algorithm;
        Ok(Self {
            der: der.to_vec(),
            tbs: parsed.tbs_cert_list.as_ref().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            aki: authority_key_id(parsed)?,
            this_update: x509::timestamp(parsed.last_update()),
            next_update: parsed.next_update().map(x509::timestamp),
            entries: entries(parsed)?,
            signature: parsed.signature_value.data.to_vec(),
            signature_suite: Suite::of_signature(algorithm)
                .ok_or_else(|| algorithm.algorithm.to_id_string()),
        })
    }

    /// The list's bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The list as one PEM block.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode(pem::X509_CRL, &self.der)
    }

    /// The issuer as DER of its Name.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Authority key identifier.
    #[must_use]
    pub fn aki(&self) -> Option<&[u8]> {
        self.aki.as_deref()
    }

    /// When the list was issued.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When the next list is due.
    #[must_use]
    pub fn next_update(&self) -> Option<Timestamp> {
        self.next_update
    }

    /// The revoked certificates by serial number ([`Certificate::serial`]).
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, CrlEntry> {
        &self.entries
    }

    /// The entry of a serial number, written as [`Certificate::serial`] gives it.
    #[must_use]
    pub fn entry(&self, serial: &[u8]) -> Option<&CrlEntry> {
        self.entries.get(serial)
    }

    /// Whether `certificate` is of this list's issuer and revoked by it.
    #[must_use]
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        certificate.issuer() == self.issuer && self.entry(certificate.serial()).is_some()
    }

    /// Checks that `issuer` signed this list: the names match byte for byte, `issuer` is an
    /// authority whose key may sign lists, and the signature holds (in either form of s).
    ///
    /// # Errors
    /// [`CrlError`] naming the first check that failed.
    pub fn verify_signed_by(&self, issuer: &Certificate) -> Result<(), CrlError> {
        let by = || issuer.subject_text().to_owned();
        if self.issuer != issuer.subject() {
            return Err(CrlError::IssuerMismatch { issuer: by() });
        }
        if !issuer.is_ca() || issuer.key_usage().is_some_and(|usage| !usage.crl_sign) {
            return Err(CrlError::IssuerNotAuthority { issuer: by() });
        }
        match &self.signature_suite {
            Ok(suite) if *suite == issuer.public_key().suite() => issuer
                .public_key()
                .verify_with(&self.tbs, &self.signature, Malleability::Accept)
                .map_err(CrlError::Signature),
            Ok(suite) => Err(CrlError::SignatureAlgorithm { oid: suite.name().to_owned() }),
            Err(oid) => Err(CrlError::SignatureAlgorithm { oid: oid.clone() }),
        }
    }
}

fn authority_key_id(parsed: &CertificateRevocationList<'_>) -> Result<Option<Vec<u8>>, CrlError> {
    let mut found = None;
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                found = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            // An indirect or partial list says so in a critical extension, which ends up here.
            _ if extension.critical => {
                return Err(CrlError::CriticalExtension { oid: extension.oid.to_id_string() });
            }
            _ => {}
        }
    }
    Ok(found)
}

fn entries(
    parsed: &CertificateRevocationList<'_>,
) -> Result<BTreeMap<Vec<u8>, CrlEntry>, CrlError> {
    let mut out = BTreeMap::new();
    for revoked in parsed.iter_revoked_certificates() {
        if let Some(unknown) = revoked
            .iter_extensions()
            .find(|e| e.critical && !matches!(e.parsed_extension(), ParsedExtension::ReasonCode(_)))
        {
            return Err(CrlError::CriticalExtension { oid: unknown.oid.to_id_string() });
        }
        let entry = CrlEntry {
            revoked_at: x509::timestamp(revoked.revocation_date),
            reason: revoked.reason_code().map(|(_, reason)| reason.0),
        };
        out.insert(magnitude(revoked.raw_serial()), entry);
    }
    Ok(out)
}
