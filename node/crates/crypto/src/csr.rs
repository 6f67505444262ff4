//! Certificate requests (PKCS#10, RFC 2986): a name and a public key, signed with its private key.

use x509_parser::{
    certification_request::X509CertificationRequest, extensions::ParsedExtension,
    prelude::FromDer as _,
};

use crate::{
    der,
    key::{KeyError, PrivateKey, PublicKey, SignError, SignatureError},
    name::{Name, NameError, SubjectAltName},
    pem::{self, PemError},
    suite::{Malleability, Suite},
    x509,
};

/// extensionRequest, 1.2.840.113549.1.9.14 (RFC 2985, 5.4.2).
const EXTENSION_REQUEST: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// A request could not be made, read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// The text around the request is not PEM.
    #[error("failed to read a certificate request")]
    Pem(#[source] PemError),
    /// The bytes are not a request.
    #[error("failed to read a certificate request: {reason}")]
    Malformed {
        /// What the reader says.
        reason: String,
    },
    /// The request's public key is of no known suite.
    #[error("failed to read the public key of a certificate request")]
    PublicKey(#[source] KeyError),
    /// The subject or an alternative name cannot be written.
    #[error("failed to write a certificate request")]
    Name(#[source] NameError),
    /// The request could not be signed.
    #[error("failed to sign a certificate request")]
    Sign(#[source] SignError),
    /// The signature is of an algorithm that does not belong to the key.
    #[error("failed to verify a certificate request: signature algorithm {oid} is not the key's")]
    SignatureAlgorithm {
        /// Dotted object identifier of the algorithm.
        oid: String,
    },
    /// The signature does not hold: whoever sent the request need not have the private key.
    #[error("failed to verify a certificate request")]
    Signature(#[source] SignatureError),
}

/// A certificate request.
#[derive(Debug, Clone)]
pub struct Csr {
    der: Vec<u8>,
    info: Vec<u8>,
    subject: Vec<u8>,
    common_name: Option<String>,
    units: Vec<String>,
    sans: Vec<SubjectAltName>,
    public_key: PublicKey,
    signature: Vec<u8>,
    signature_suite: Result<Suite, String>,
}

impl Csr {
    /// A request for `key`'s public half under the name `subject`, asking for `sans`.
    ///
    /// # Errors
    /// [`CsrError`] when a name cannot be written or signing fails.
    pub fn create(
        key: &PrivateKey,
        subject: &Name,
        sans: &[SubjectAltName],
    ) -> Result<Self, CsrError> {
        let attributes = match x509::alternative_names_extension(sans).map_err(CsrError::Name)? {
            Some(extension) => extension_request(&extension),
            None => Vec::new(),
        };
        let info = der::sequence([
            der::integer(0),
            subject.to_der().map_err(CsrError::Name)?,
            key.public_key().spki_der().to_vec(),
            der::context_constructed(0, &attributes),
        ]);
        Self::from_der(&x509::signed(&info, key).map_err(CsrError::Sign)?)
    }

    /// Reads the first `CERTIFICATE REQUEST` block of `text`. The signature is not checked yet:
    /// see [`Self::verify`].
    ///
    /// # Errors
    /// [`CsrError`] when there is none or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, CsrError> {
        let blocks = pem::parse(text).map_err(CsrError::Pem)?;
        // Older tools write "NEW CERTIFICATE REQUEST".
        let block = blocks.iter().find(|block| block.label.ends_with(pem::CERTIFICATE_REQUEST));
        let missing = CsrError::Pem(PemError::Missing { label: pem::CERTIFICATE_REQUEST });
        Self::from_der(&block.ok_or(missing)?.contents)
    }

    /// Reads a request that is exactly `der`. The signature is not checked yet: see
    /// [`Self::verify`].
    ///
    /// # Errors
    /// [`CsrError`] when it cannot be read or its key is of no known suite.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|error| CsrError::Malformed { reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed { reason: "bytes after the request".to_owned() });
        }
        Self::read(der, &parsed)
    }

    fn read(der: &[u8], parsed: &X509CertificationRequest<'_>) -> Result<Self, CsrError> {
        let info = &parsed.certification_request_info;
        let algorithm = &parsed.signature_algorithm;
        Ok(Self {
            der: der.to_vec(),
            info: info.raw.to_vec(),
            subject: info.subject.as_raw().to_vec(),
            common_name: x509::common_name(&info.subject),
            units: x509::texts(info.subject.iter_organizational_unit()),
            sans: requested_names(parsed),
            public_key: PublicKey::from_spki(&info.subject_pki).map_err(CsrError::PublicKey)?,
            signature: parsed.signature_value.data.to_vec(),
            signature_suite: Suite::of_signature(algorithm)
                .ok_or_else(|| algorithm.algorithm.to_id_string()),
        })
    }

    /// Checks that the request is signed with the private half of its public key.
    ///
    /// # Errors
    /// [`CsrError::Signature`] or [`CsrError::SignatureAlgorithm`].
    pub fn verify(&self) -> Result<(), CsrError> {
        let suite = self
            .signature_suite
            .as_ref()
            .map_err(|oid| CsrError::SignatureAlgorithm { oid: oid.clone() })?;
        if *suite != self.public_key.suite() {
            return Err(CsrError::SignatureAlgorithm { oid: suite.name().to_owned() });
        }
        self.public_key
            .verify_with(&self.info, &self.signature, Malleability::Accept)
            .map_err(CsrError::Signature)
    }

    /// The request's bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The request as one PEM block.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE_REQUEST, &self.der)
    }

    /// The key that a certificate is asked for.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The subject as DER of its Name.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The subject's common name.
    #[must_use]
    pub fn subject_cn(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The subject's organizational units, in order.
    #[must_use]
    pub fn subject_ous(&self) -> &[String] {
        &self.units
    }

    /// The alternative names that are asked for.
    #[must_use]
    pub fn sans(&self) -> &[SubjectAltName] {
        &self.sans
    }
}

fn extension_request(extension: &[u8]) -> Vec<u8> {
    let extensions = der::sequence([extension]);
    der::sequence([der::oid(&EXTENSION_REQUEST), der::set_of_one(&extensions)])
}

fn requested_names(parsed: &X509CertificationRequest<'_>) -> Vec<SubjectAltName> {
    let Some(extensions) = parsed.requested_extensions() else {
        return Vec::new();
    };
    let names = extensions.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => {
            Some(x509::alternative_names(&names.general_names))
        }
        _ => None,
    });
    names.flatten().collect()
}
