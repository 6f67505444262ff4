//! Certificates that are read: what they hold, and who signed them.

use std::{fmt, sync::Arc};

use x509_parser::{
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    prelude::FromDer as _,
};

use crate::{
    der, hash,
    key::{KeyError, PublicKey, SignatureError},
    name::SubjectAltName,
    pem::{self, PemError},
    suite::{Malleability, Suite},
    time::Timestamp,
    x509,
};

/// A certificate could not be read, or is not signed as it claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text around the certificate is not PEM.
    #[error("failed to read a certificate")]
    Pem(#[source] PemError),
    /// The bytes are not an X.509 certificate.
    #[error("failed to read a certificate: {reason}")]
    Malformed {
        /// What the reader says.
        reason: String,
    },
    /// The subject's public key is of no known suite.
    #[error("failed to read the public key of certificate {subject:?}")]
    PublicKey {
        /// The certificate's subject.
        subject: String,
        /// What is wrong with the key.
        #[source]
        source: KeyError,
    },
    /// The certificate's issuer is not the subject of the other certificate.
    #[error("failed to verify certificate {subject:?}: its issuer is not {issuer:?}")]
    IssuerMismatch {
        /// The certificate's subject.
        subject: String,
        /// The subject of the certificate that was to have signed.
        issuer: String,
    },
    /// The issuing certificate may not sign certificates (RFC 5280, 4.2.1.3 and 4.2.1.9).
    #[error("failed to verify certificate {subject:?}: {issuer:?} may not sign certificates")]
    IssuerNotAuthority {
        /// The certificate's subject.
        subject: String,
        /// The subject of the certificate that was to have signed.
        issuer: String,
    },
    /// The signature is of an algorithm that no suite has.
    #[error("failed to verify certificate {subject:?}: signature algorithm {oid} is not supported")]
    SignatureAlgorithm {
        /// The certificate's subject.
        subject: String,
        /// Dotted object identifier of the algorithm.
        oid: String,
    },
    /// The signature does not hold.
    #[error("failed to verify certificate {subject:?}")]
    Signature {
        /// The certificate's subject.
        subject: String,
        /// What is wrong with the signature.
        #[source]
        source: SignatureError,
    },
}

/// What a key may be used for (RFC 5280, 4.2.1.3), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// Signing other than of certificates and revocation lists.
    pub digital_signature: bool,
    /// Enciphering of keys.
    pub key_encipherment: bool,
    /// Signing of certificates.
    pub cert_sign: bool,
    /// Signing of revocation lists.
    pub crl_sign: bool,
}

/// What a certificate may be used for (RFC 5280, 4.2.1.12), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// Any purpose.
    pub any: bool,
    /// The server of a TLS connection.
    pub server_auth: bool,
    /// The client of a TLS connection.
    pub client_auth: bool,
}

/// An X.509 certificate, parsed once and shared by its clones. Equality is of the DER bytes.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    /// Where the signed part lies in `der`.
    tbs: std::ops::Range<usize>,
    fingerprint: [u8; 32],
    serial: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    subject_text: String,
    subject_cn: Option<String>,
    subject_ous: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: PublicKey,
    signature: Vec<u8>,
    signature_suite: Result<Suite, String>,
    extensions: Extensions,
}

#[derive(Default)]
struct Extensions {
    is_ca: bool,
    max_path_len: Option<u32>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    ski: Option<Vec<u8>>,
    aki: Option<Vec<u8>>,
    sans: Vec<SubjectAltName>,
    unknown_critical: Vec<String>,
    /// Dotted identifier and value of every extension.
    raw: Vec<(String, Vec<u8>)>,
}

impl Certificate {
    /// Reads the first `CERTIFICATE` block of `text`.
    ///
    /// # Errors
    /// [`CertificateError`] when there is none or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let der = pem::parse_first(text, pem::CERTIFICATE).map_err(CertificateError::Pem)?;
        Self::from_der(&der)
    }

    /// Reads all `CERTIFICATE` blocks of `text`, in order; none is an empty list.
    ///
    /// # Errors
    /// [`CertificateError`] when one cannot be read.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let blocks = pem::parse(text).map_err(CertificateError::Pem)?;
        let certificates = blocks.iter().filter(|block| block.label == pem::CERTIFICATE);
        certificates.map(|block| Self::from_der(&block.contents)).collect()
    }

    /// Reads a certificate that is exactly `der`.
    ///
    /// # Errors
    /// [`CertificateError`] when it cannot be read or its key is of no known suite.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, parsed) = X509Certificate::from_der(der)
            .map_err(|error| CertificateError::Malformed { reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(malformed("bytes after the certificate"));
        }
        Inner::read(der, &parsed).map(|inner| Self(Arc::new(inner)))
    }

    /// The certificate's bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as one PEM block.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.0.der)
    }

    /// SHA-256 of the certificate's DER.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// Serial number, big-endian without leading zeros (zero itself is one zero octet).
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// The subject's common name.
    #[must_use]
    pub fn subject_cn(&self) -> Option<&str> {
        self.0.subject_cn.as_deref()
    }

    /// The subject's organizational units, in order.
    #[must_use]
    pub fn subject_ous(&self) -> &[String] {
        &self.0.subject_ous
    }

    /// The subject as DER of its Name.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.0.subject
    }

    /// The subject as text for people (`CN=…, OU=…`); not for comparing.
    #[must_use]
    pub fn subject_text(&self) -> &str {
        &self.0.subject_text
    }

    /// The issuer as DER of its Name.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.0.issuer
    }

    /// Start of validity; the certificate is valid at this second.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// End of validity; the certificate is valid at this second.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Whether `at` lies within the validity, both ends included.
    #[must_use]
    pub fn is_valid_at(&self, at: Timestamp) -> bool {
        self.0.not_before <= at && at.seconds() <= self.0.not_after.seconds()
    }

    /// The subject's public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// Whether the basic constraints name an authority.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.extensions.is_ca
    }

    /// How many intermediate authorities may follow this one; `None` is no limit.
    #[must_use]
    pub fn max_path_len(&self) -> Option<u32> {
        self.0.extensions.max_path_len
    }

    /// Subject key identifier.
    #[must_use]
    pub fn ski(&self) -> Option<&[u8]> {
        self.0.extensions.ski.as_deref()
    }

    /// Authority key identifier.
    #[must_use]
    pub fn aki(&self) -> Option<&[u8]> {
        self.0.extensions.aki.as_deref()
    }

    /// Subject alternative names of the kinds in [`SubjectAltName`].
    #[must_use]
    pub fn sans(&self) -> &[SubjectAltName] {
        &self.0.extensions.sans
    }

    /// Key usage; `None` when the extension is absent, which allows every use.
    #[must_use]
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.extensions.key_usage
    }

    /// Extended key usage; `None` when the extension is absent, which allows every use.
    #[must_use]
    pub fn extended_key_usage(&self) -> Option<ExtendedKeyUsage> {
        self.0.extensions.extended_key_usage
    }

    /// Dotted identifiers of critical extensions that this crate does not know. A certificate that
    /// has any must not be trusted (RFC 5280, 4.2).
    #[must_use]
    pub fn unknown_critical_extensions(&self) -> &[String] {
        &self.0.extensions.unknown_critical
    }

    /// Value of the extension with the dotted identifier `oid`.
    #[must_use]
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        let found = self.0.extensions.raw.iter().find(|(id, _)| id == oid);
        found.map(|(_, value)| value.as_slice())
    }

    /// Whether the subject is also the issuer by name (a root, when its own signature holds).
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.0.subject == self.0.issuer
    }

    /// Whether the certificate's own key signed it, authority or not. Equal names alone do not make
    /// it so: an authority may issue to its own name.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        let own_suite =
            self.0.signature_suite.as_ref().is_ok_and(|suite| *suite == self.0.public_key.suite());
        self.is_self_issued() && own_suite && self.verify_signature(&self.0.public_key).is_ok()
    }

    /// Checks that `issuer` signed this certificate: the names match byte for byte, `issuer` is an
    /// authority whose key may sign certificates, and the signature holds (in either form of s).
    ///
    /// Validity in time, revocation and the path's length are the caller's to check.
    ///
    /// # Errors
    /// [`CertificateError`] naming the first check that failed.
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), CertificateError> {
        let subject = || self.0.subject_text.clone();
        let by = || issuer.0.subject_text.clone();
        if self.0.issuer != issuer.0.subject {
            return Err(CertificateError::IssuerMismatch { subject: subject(), issuer: by() });
        }
        if !issuer.may_sign_certificates() {
            return Err(CertificateError::IssuerNotAuthority { subject: subject(), issuer: by() });
        }
        let suite = self.0.signature_suite.as_ref().map_err(|oid| {
            CertificateError::SignatureAlgorithm { subject: subject(), oid: oid.clone() }
        })?;
        let signature = if *suite == issuer.public_key().suite() {
            self.verify_signature(issuer.public_key())
        } else {
            Err(SignatureError::Mismatch)
        };
        signature.map_err(|source| CertificateError::Signature { subject: subject(), source })
    }

    fn verify_signature(&self, key: &PublicKey) -> Result<(), SignatureError> {
        let tbs = self.0.der.get(self.0.tbs.clone()).ok_or(SignatureError::Malformed)?;
        key.verify_with(tbs, &self.0.signature, Malleability::Accept)
    }

    fn may_sign_certificates(&self) -> bool {
        self.is_ca() && self.key_usage().is_none_or(|usage| usage.cert_sign)
    }
}

impl Inner {
    fn read(der: &[u8], parsed: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        if parsed.tbs_certificate.signature != parsed.signature_algorithm {
            return Err(malformed("the signed and the outer signature algorithms differ"));
        }
        let subject_text = parsed.subject().to_string();
        let public_key = PublicKey::from_spki(parsed.public_key()).map_err(|source| {
            CertificateError::PublicKey { subject: subject_text.clone(), source }
        })?;
        let algorithm = &parsed.signature_algorithm;
        Ok(Self {
            der: der.to_vec(),
            tbs: tbs_range(der, parsed)?,
            fingerprint: hash::sha256(der),
            serial: magnitude(parsed.raw_serial()),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            subject_text,
            subject_cn: x509::common_name(parsed.subject()),
            subject_ous: x509::texts(parsed.subject().iter_organizational_unit()),
            not_before: x509::timestamp(parsed.validity().not_before),
            not_after: x509::timestamp(parsed.validity().not_after),
            public_key,
            signature: parsed.signature_value.data.to_vec(),
            signature_suite: Suite::of_signature(algorithm)
                .ok_or_else(|| algorithm.algorithm.to_id_string()),
            extensions: Extensions::read(parsed.extensions())?,
        })
    }
}

/// Where the signed part lies: after the outer SEQUENCE's tag and length.
///
/// What is around it is not covered by the signature, so it has to be exactly what DER allows;
/// otherwise anyone could make other bytes of the same certificate.
fn tbs_range(
    der: &[u8],
    parsed: &X509Certificate<'_>,
) -> Result<std::ops::Range<usize>, CertificateError> {
    let tbs: &[u8] = parsed.tbs_certificate.as_ref();
    let signature = der::bit_string(&parsed.signature_value.data);
    let head = element_head(der).ok_or_else(|| malformed("cut short"))?;
    let end = head + tbs.len();
    let (algorithm, rest) = der
        .get(end..)
        .and_then(|after| after.split_at_checked(after.len().checked_sub(signature.len())?))
        .ok_or_else(|| malformed("the signed part is not where it belongs"))?;
    let suite = Suite::of_signature(&parsed.signature_algorithm);
    let exact = der::sequence([tbs, algorithm, &signature]) == der
        && rest == signature
        && suite.is_none_or(|suite| algorithm == suite.signature_algorithm());
    if exact { Ok(head..end) } else { Err(malformed("not in the form that DER prescribes")) }
}

/// Length of an element's tag and length octets.
fn element_head(der: &[u8]) -> Option<usize> {
    let length = *der.get(1)?;
    Some(if length < 0x80 { 2 } else { 2 + usize::from(length & 0x7f) })
}

/// Drops the leading zeros of a serial number, so that one number has one form.
pub(crate) fn magnitude(serial: &[u8]) -> Vec<u8> {
    let first = serial.iter().position(|byte| *byte != 0);
    first.and_then(|first| serial.get(first..)).map_or_else(|| vec![0], <[u8]>::to_vec)
}

fn malformed(reason: &str) -> CertificateError {
    CertificateError::Malformed { reason: reason.to_owned() }
}

impl Extensions {
    fn read(extensions: &[X509Extension<'_>]) -> Result<Self, CertificateError> {
        let mut out = Self::default();
        for extension in extensions {
            let oid = extension.oid.to_id_string();
            if out.raw.iter().any(|(id, _)| *id == oid) {
                return Err(malformed(&format!("extension {oid} stands twice")));
            }
            out.take(extension, &oid)?;
            out.raw.push((oid, extension.value.to_vec()));
        }
        Ok(out)
    }

    fn take(&mut self, extension: &X509Extension<'_>, oid: &str) -> Result<(), CertificateError> {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = constraints.ca;
                self.max_path_len = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    digital_signature: usage.digital_signature(),
                    key_encipherment: usage.key_encipherment(),
                    cert_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = Some(ExtendedKeyUsage {
                    any: usage.any,
                    server_auth: usage.server_auth,
                    client_auth: usage.client_auth,
                });
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.ski = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.aki = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                self.sans = x509::alternative_names(&names.general_names);
            }
            ParsedExtension::ParseError { error } => {
                return Err(malformed(&format!("extension {oid}: {error}")));
            }
            _ if extension.critical => self.unknown_critical.push(oid.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl std::hash::Hash for Certificate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.fingerprint.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.0.subject_text)
            .field("not_before", &self.0.not_before)
            .field("not_after", &self.0.not_after)
            .finish_non_exhaustive()
    }
}
