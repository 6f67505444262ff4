//! Revoked serial numbers, by the authority that issued them.
//!
//! A list belongs to the authorities that have its issuer's name and whose key verifies its signature
//! (RFC 5280, 6.3.3); one that no authority signed is without effect. A certificate counts as revoked
//! from the moment the list is part of the MSP; dates within the list are not looked at.
//!
//! Deviation: Fabric looks at a list only where its authority key identifier equals the authority's
//! subject key identifier (msp/mspimplvalidate.go, `validateCertAgainstChain`), so that a list which
//! names another revokes nothing and nobody is told. Here the identifier only has to be there, as
//! Fabric refuses every identity of an MSP with a list that has none.

use std::collections::BTreeSet;

use weft_crypto::{Certificate, Crl, CrlError};

use crate::chain::Authorities;

/// A revocation list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RevocationError {
    #[error("failed to read it")]
    Crl(#[source] CrlError),
    #[error("it has no authority key identifier")]
    NoKeyIdentifier,
}

/// Reads a list from PEM or DER.
pub(crate) fn parse(bytes: &[u8]) -> Result<Crl, RevocationError> {
    let crl = match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("-----BEGIN") => Crl::from_pem(text),
        _ => Crl::from_der(bytes),
    };
    let crl = crl.map_err(RevocationError::Crl)?;
    if crl.aki().is_none() {
        return Err(RevocationError::NoKeyIdentifier);
    }
    Ok(crl)
}

/// What the lists of an MSP revoke.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// Serial numbers, by the index of the authority.
    serials: Vec<BTreeSet<Vec<u8>>>,
}

impl Revocations {
    pub(crate) fn new(authorities: &Authorities, lists: &[Crl]) -> Self {
        let of = |authority: &Certificate| {
            let signed = lists.iter().filter(|crl| crl.verify_signed_by(authority).is_ok());
            signed.flat_map(|crl| crl.entries().keys().cloned()).collect()
        };
        Self { serials: authorities.iter().map(|a| of(&a.certificate)).collect() }
    }

    /// Whether the authority at `issuer` revoked `certificate`.
    pub(crate) fn contain(&self, issuer: usize, certificate: &Certificate) -> bool {
        self.serials.get(issuer).is_some_and(|serials| serials.contains(certificate.serial()))
    }
}

/// A serial number as people read it.
pub(crate) fn serial_text(certificate: &Certificate) -> String {
    use std::fmt::Write as _;
    certificate.serial().iter().fold(String::new(), |mut text, octet| {
        // Writing to a string does not fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
