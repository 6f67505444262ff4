//! Revoked serial numbers, by the authority that issued them.
//!
//! A list belongs to the authorities whose key identifier it names, and counts where one of them
//! signed it; a list that none of them signed is without effect (Fabric: msp/mspimplvalidate.go,
//! `validateCertAgainstChain`). A certificate counts as revoked from the moment the list is part of
//! the MSP; dates within the list are not looked at.

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
            let mine = lists.iter().filter(|crl| crl.aki() == authority.ski());
            let signed = mine.filter(|crl| crl.verify_signed_by(authority).is_ok());
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
