//! Reading an authority from its Secret, and checking it.

use weft_crypto::{Certificate, CertificateAuthority, PrivateKey};
use weft_types::Timestamp;

use super::AuthorityError;
use crate::cluster::identity::{SecretData, text};
use crate::cluster::names::key;

/// Where issuers put the root when the chain under [`key::CA_CERT`] ends below it
/// (cert-manager does).
const ROOT: &str = "ca.crt";

/// The Secret that an authority is read from.
pub(super) struct Source<'a> {
    pub(super) secret: &'a str,
    pub(super) data: &'a SecretData,
}

impl<'a> Source<'a> {
    fn secret(&self) -> String {
        self.secret.to_owned()
    }

    fn text(&self, key: &'static str) -> Result<&'a str, AuthorityError> {
        if !self.data.contains_key(key) {
            return Err(AuthorityError::NoKey { secret: self.secret(), key });
        }
        text(self.data, key).ok_or_else(|| AuthorityError::NotText { secret: self.secret(), key })
    }

    fn certificates(&self, key: &'static str) -> Result<Vec<Certificate>, AuthorityError> {
        Certificate::all_from_pem(self.text(key)?).map_err(|source| AuthorityError::Certificate {
            secret: self.secret(),
            key,
            source,
        })
    }

    /// The issuing certificate first; never empty.
    pub(super) fn chain(&self) -> Result<Vec<Certificate>, AuthorityError> {
        let mut chain = self.certificates(key::CA_CERT)?;
        let Some(last) = chain.last() else {
            return Err(AuthorityError::NoKey { secret: self.secret(), key: key::CA_CERT });
        };
        if !last.is_self_signed() && self.data.contains_key(ROOT) {
            let above = self.certificates(ROOT)?;
            chain.extend(above.into_iter().find(|root| last.verify_signed_by(root).is_ok()));
        }
        Ok(chain)
    }

    pub(super) fn issuer(
        &self,
        certificate: Certificate,
    ) -> Result<CertificateAuthority, AuthorityError> {
        let private = PrivateKey::from_pkcs8_pem(self.text(key::CA_KEY)?)
            .map_err(|source| AuthorityError::PrivateKey { secret: self.secret(), source })?;
        CertificateAuthority::new(certificate, private)
            .map_err(|source| AuthorityError::Unusable { secret: self.secret(), source })
    }

    /// Each is signed by the next one; the last one is a root.
    pub(super) fn check_links(&self, chain: &[&Certificate]) -> Result<(), AuthorityError> {
        for (lower, upper) in chain.iter().zip(chain.iter().skip(1)) {
            lower.verify_signed_by(upper).map_err(|source| AuthorityError::Chain {
                secret: self.secret(),
                subject: subject(lower),
                source,
            })?;
        }
        match chain.last() {
            Some(last) if !last.is_self_signed() => {
                Err(AuthorityError::NoRoot { secret: self.secret(), subject: subject(last) })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_path_lengths(&self, chain: &[&Certificate]) -> Result<(), AuthorityError> {
        for (below, certificate) in chain.iter().enumerate() {
            let Some(limit) = certificate.max_path_len() else { continue };
            if u32::try_from(below).is_ok_and(|below| below > limit) {
                let (secret, subject) = (self.secret(), subject(certificate));
                return Err(AuthorityError::PathLength { secret, subject, limit, below });
            }
        }
        Ok(())
    }

    pub(super) fn check_times(
        &self,
        chain: &[&Certificate],
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        for certificate in chain {
            let (secret, subject) = (self.secret(), subject(certificate));
            let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
            if now < not_before {
                return Err(AuthorityError::NotYetValid { secret, subject, not_before });
            }
            if !certificate.is_valid_at(now) {
                return Err(AuthorityError::Expired { secret, subject, not_after });
            }
        }
        Ok(())
    }
}

fn subject(certificate: &Certificate) -> String {
    certificate.subject_text().to_owned()
}
