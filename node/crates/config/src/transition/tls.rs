//! Whether the others of a cluster would accept a member's TLS certificate.

use bytes::Bytes;
use weft_crypto::Certificate;
use weft_types::Timestamp;

use crate::orderer::OrdererConfig;

/// Why a member's TLS certificate would not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It cannot be read.
    #[error("cannot be read")]
    Malformed,
    /// No TLS authority of an ordering organization vouches for it.
    #[error("is not issued by a TLS authority of an ordering organization")]
    Untrusted,
    /// It is outside its validity period.
    #[error("is not valid at this time")]
    NotValidNow,
    /// Its extended key usage allows neither side of TLS.
    #[error("is not for TLS")]
    Usage,
}

/// The fault of a certificate that stays, where the update is what brings it about.
pub(super) fn orphaned(
    before: &TlsAuthorities,
    after: &TlsAuthorities,
    pem: &Bytes,
) -> Option<CertificateFault> {
    let fault = after.fault(pem, None)?;
    before.fault(pem, None).is_none().then_some(fault)
}

/// The TLS authorities of all ordering organizations.
pub(super) struct TlsAuthorities {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
}

/// Most intermediate authorities between a certificate and its root.
const MAX_CHAIN: usize = 8;

impl TlsAuthorities {
    pub(super) fn of(orderer: &OrdererConfig) -> Self {
        let read = |certs: &[Bytes]| -> Vec<Certificate> {
            let texts = certs.iter().filter_map(|pem| std::str::from_utf8(pem).ok());
            texts.filter_map(|pem| Certificate::from_pem(pem).ok()).collect()
        };
        let mut authorities = Self { roots: Vec::new(), intermediates: Vec::new() };
        for org in orderer.orgs.values() {
            authorities.roots.extend(read(org.org.tls_root_certs()));
            authorities.intermediates.extend(read(org.org.tls_intermediate_certs()));
        }
        authorities
    }

    /// What is wrong with a certificate; validity is looked at only where a time is given.
    pub(super) fn fault(&self, pem: &Bytes, now: Option<Timestamp>) -> Option<CertificateFault> {
        let text = std::str::from_utf8(pem).ok();
        let Some(certificate) = text.and_then(|text| Certificate::from_pem(text).ok()) else {
            return Some(CertificateFault::Malformed);
        };
        if now.is_some_and(|now| !certificate.is_valid_at(now)) {
            return Some(CertificateFault::NotValidNow);
        }
        if certificate
            .extended_key_usage()
            .is_some_and(|usage| !(usage.any || usage.client_auth || usage.server_auth))
        {
            return Some(CertificateFault::Usage);
        }
        match self.vouches_for(&certificate, now, MAX_CHAIN) {
            true => None,
            false => Some(CertificateFault::Untrusted),
        }
    }

    fn vouches_for(&self, certificate: &Certificate, now: Option<Timestamp>, depth: usize) -> bool {
        let vouches = |authority: &&Certificate| {
            authority.is_ca()
                && now.is_none_or(|now| authority.is_valid_at(now))
                && certificate.issuer() == authority.subject()
                && certificate.verify_signed_by(authority).is_ok()
        };
        if self.roots.iter().any(|root| root.der() == certificate.der() || vouches(&root)) {
            return true;
        }
        let mut above = self.intermediates.iter().filter(vouches);
        depth > 0 && above.any(|authority| self.vouches_for(authority, now, depth - 1))
    }
}
