//! Who proposed a transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use x509_parser::oid_registry::asn1_rs::{Oid, oid};
use x509_parser::pem::parse_x509_pem;

/// Extension in which a Fabric CA writes attributes, as JSON (Fabric CA: lib/attrmgr).
const ATTRIBUTES: Oid<'static> = oid!(1.2.3.4.5.6.7.8.1);

/// A creator whose certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the creator's certificate: {0}")]
pub struct CreatorError(String);

/// Who proposed the transaction. The peer has checked the signature and the certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Creator {
    msp_id: String,
    certificate: Bytes,
}

impl Creator {
    pub(crate) fn new(msp_id: String, certificate: Bytes) -> Self {
        Self { msp_id, certificate }
    }

    /// MSP id of the creator's organization.
    #[must_use]
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &[u8] {
        &self.certificate
    }

    /// The common name in the certificate's subject; `None` when there is none.
    ///
    /// # Errors
    /// Fails where the certificate is not X.509 in PEM.
    pub fn common_name(&self) -> Result<Option<String>, CreatorError> {
        self.with_certificate(|certificate| {
            let name = certificate.subject().iter_common_name().next();
            Ok(name.and_then(|name| name.as_str().ok()).map(str::to_owned))
        })
    }

    /// An attribute that the organization's CA has written into the certificate.
    ///
    /// # Errors
    /// Fails where the certificate, or the attributes in it, cannot be read.
    pub fn attribute(&self, name: &str) -> Result<Option<String>, CreatorError> {
        #[derive(Deserialize)]
        struct Attributes {
            attrs: BTreeMap<String, String>,
        }
        self.with_certificate(|certificate| {
            let extension = certificate
                .get_extension_unique(&ATTRIBUTES)
                .map_err(|e| CreatorError(e.to_string()))?;
            let Some(extension) = extension else { return Ok(None) };
            let mut attributes: Attributes = serde_json::from_slice(extension.value)
                .map_err(|e| CreatorError(format!("attributes: {e}")))?;
            Ok(attributes.attrs.remove(name))
        })
    }

    fn with_certificate<T>(
        &self,
        read: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> Result<T, CreatorError>,
    ) -> Result<T, CreatorError> {
        let (_, pem) =
            parse_x509_pem(&self.certificate).map_err(|e| CreatorError(e.to_string()))?;
        let certificate = pem.parse_x509().map_err(|e| CreatorError(e.to_string()))?;
        read(&certificate)
    }
}

impl From<CreatorError> for crate::ContractError {
    fn from(error: CreatorError) -> Self {
        Self::forbidden(error.to_string())
    }
}
