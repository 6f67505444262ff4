//! A certificate authority in a Secret: read, judged against what was recorded, made once.

use std::fmt;

use k8s_openapi::ByteString;
use weft_crypto::{CaError, Certificate, CertificateAuthority, CertificateError, KeyError};
use weft_types::{MspId, Timestamp};

use super::{SecretData, text};
use crate::cluster::names::key;
use crate::model::Certificates;
use crate::pki::{self, IssueError, RootUse};

/// Where issuers put the root when the chain under [`key::CA_CERT`] ends below it
/// (cert-manager does).
const ROOT: &str = "ca.crt";

/// Why a certificate authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The user's own Secret is not there yet.
    #[error("the Secret {secret}, which is to hold a certificate authority, does not exist")]
    Missing {
        /// Name of the Secret.
        secret: String,
    },
    /// The Secret was there, and is gone.
    #[error(
        "the certificate authority in Secret {secret} is gone (its fingerprint is {expected}): put the Secret back from a backup; it is never made anew, because everything it signed would stop working"
    )]
    Gone {
        /// Name of the Secret.
        secret: String,
        /// What was recorded.
        expected: String,
    },
    /// The Secret holds another authority than before.
    #[error(
        "the certificate authority in Secret {secret} was altered: its fingerprint is {found}, expected {expected}; put the original back, or a renewal of it with the same name and key"
    )]
    Altered {
        /// Name of the Secret.
        secret: String,
        /// What stands there.
        found: String,
        /// What was recorded.
        expected: String,
    },
    /// A part is missing.
    #[error("failed to read the certificate authority in Secret {secret}: it has no {key}")]
    NoKey {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
    },
    /// A part is not text.
    #[error("failed to read the certificate authority in Secret {secret}: {key} is not UTF-8 text")]
    NotText {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
    },
    /// A certificate cannot be read.
    #[error("failed to read the certificates in {key} of Secret {secret}")]
    Certificate {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// The private key cannot be read.
    #[error("failed to read the private key of the certificate authority in Secret {secret}")]
    PrivateKey {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The certificate is no authority's, or the key is not the certificate's.
    #[error("failed to use the certificate authority in Secret {secret}")]
    Unusable {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: CaError,
    },
    /// A certificate of the chain is not signed by the one after it.
    #[error(
        "failed to follow the chain of the certificate authority in Secret {secret}: {subject:?} is not signed by the certificate after it"
    )]
    Chain {
        /// Name of the Secret.
        secret: String,
        /// The lower one.
        subject: String,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// The chain ends below a root.
    #[error(
        "failed to follow the chain of the certificate authority in Secret {secret}: it ends with {subject:?}, which is not a root; add the certificates above it to {}, up to the root",
        key::CA_CERT
    )]
    NoRoot {
        /// Name of the Secret.
        secret: String,
        /// The last one.
        subject: String,
    },
    /// An authority of the chain may not have that many below it.
    #[error(
        "the certificate authority in Secret {secret} cannot issue: {subject:?} allows {limit} authorities below it, and there are {below}"
    )]
    PathLength {
        /// Name of the Secret.
        secret: String,
        /// Whose limit it is.
        subject: String,
        /// The limit.
        limit: u32,
        /// How many there are.
        below: usize,
    },
    /// A certificate of the chain has ended.
    #[error(
        "the certificate authority in Secret {secret} cannot issue: {subject:?} ended at {not_after}"
    )]
    Expired {
        /// Name of the Secret.
        secret: String,
        /// Which certificate.
        subject: String,
        /// When it ended.
        not_after: Timestamp,
    },
    /// A certificate of the chain is not valid yet.
    #[error(
        "the certificate authority in Secret {secret} cannot issue: {subject:?} is valid from {not_before}"
    )]
    NotYetValid {
        /// Name of the Secret.
        secret: String,
        /// Which certificate.
        subject: String,
        /// When it begins.
        not_before: Timestamp,
    },
    /// A managed authority cannot be made.
    #[error("failed to make the {} of {msp_id}", use_.label())]
    Make {
        /// The MSP.
        msp_id: MspId,
        /// Which of its two.
        use_: RootUse,
        /// What is wrong.
        #[source]
        source: IssueError,
    },
    /// A made authority's key cannot be written.
    #[error("failed to write the key of the {} of {msp_id}", use_.label())]
    WriteKey {
        /// The MSP.
        msp_id: MspId,
        /// Which of its two.
        use_: RootUse,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
}

impl AuthorityError {
    /// Whether this is a state of waiting for the user's Secret, not a fault of one that is there.
    pub fn is_waiting(&self) -> bool {
        matches!(self, AuthorityError::Missing { .. } | AuthorityError::NotYetValid { .. })
    }
}

/// An issuing certificate with its key, and the certificates above it. `Debug` does not show
/// the key.
#[derive(Clone)]
pub struct Authority {
    issuer: CertificateAuthority,
    above: Vec<Certificate>,
    earlier: Vec<Certificate>,
}

/// By name and fingerprint.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("subject", &self.certificate().subject_text())
            .field("fingerprint", &self.fingerprint())
            .field("above", &self.above.len())
            .field("earlier", &self.earlier.len())
            .finish()
    }
}

/// Who keeps the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator makes it, once.
    Managed,
    /// The user made it and named it in the spec.
    User,
}

/// An authority's Secret as it is found, and what is known of the authority.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// Name of the Secret.
    pub secret: &'a str,
    /// Who keeps it.
    pub origin: Origin,
    /// Its data; `None` when there is no such Secret.
    pub data: Option<&'a SecretData>,
    /// The fingerprint in the status, from when the authority was first used.
    pub recorded: Option<&'a str>,
    /// The certificates of the published bundle, PEM: roots and intermediates of the same use
    /// ([`super::bundle::published`]). Empty without a bundle.
    pub published: &'a str,
}

/// What is to be done about an authority.
#[derive(Debug)]
pub enum Decision {
    /// It is the recorded one.
    Use(Authority),
    /// Nothing is recorded yet: its fingerprint is to be recorded before it issues anything.
    Adopt(Authority),
    /// It is the recorded one under a renewed certificate, whose fingerprint is to be recorded.
    Renewed(Authority),
    /// There is none: it is to be made ([`Authority::make`]) and its Secret created.
    Make,
}

/// An authority that was made, with the data of its Secret. `Debug` does not show the key.
pub struct Made {
    /// The authority.
    pub authority: Authority,
    /// [`key::CA_CERT`] and [`key::CA_KEY`].
    pub data: SecretData,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Judges an authority's Secret. A recorded authority is never replaced by another one, and
/// never made again.
///
/// # Errors
/// [`AuthorityError`] when it is gone, altered, or cannot be used now.
pub fn decide(held: &Held<'_>, now: Timestamp) -> Result<Decision, AuthorityError> {
    let secret = || held.secret.to_owned();
    let Some(data) = held.data else { return absent(held) };
    let authority = Authority::read(held.secret, data, now)?.remember(held.published, now);
    let Some(expected) = held.recorded else { return Ok(Decision::Adopt(authority)) };
    let found = authority.fingerprint();
    if found == expected {
        return Ok(Decision::Use(authority));
    }
    if authority.renews(held.published, expected) {
        return Ok(Decision::Renewed(authority));
    }
    Err(AuthorityError::Altered { secret: secret(), found, expected: expected.to_owned() })
}

fn absent(held: &Held<'_>) -> Result<Decision, AuthorityError> {
    let secret = held.secret.to_owned();
    match (held.recorded, held.origin) {
        (Some(expected), _) => Err(AuthorityError::Gone { secret, expected: expected.to_owned() }),
        (None, Origin::User) => Err(AuthorityError::Missing { secret }),
        (None, Origin::Managed) => Ok(Decision::Make),
    }
}

impl Authority {
    /// Makes a managed root.
    ///
    /// # Errors
    /// [`AuthorityError::Make`], [`AuthorityError::WriteKey`].
    pub fn make(
        msp_id: &MspId,
        use_: RootUse,
        certificates: &Certificates,
        now: Timestamp,
    ) -> Result<Made, AuthorityError> {
        let issuer = pki::make_root(msp_id, use_, now, certificates)
            .map_err(|source| AuthorityError::Make { msp_id: msp_id.clone(), use_, source })?;
        let pem = issuer.key().to_pkcs8_pem().map_err(|source| AuthorityError::WriteKey {
            msp_id: msp_id.clone(),
            use_,
            source,
        })?;
        let data = SecretData::from([
            (key::CA_CERT.to_owned(), ByteString(issuer.certificate().pem().into_bytes())),
            (key::CA_KEY.to_owned(), ByteString(pem.as_bytes().to_vec())),
        ]);
        let authority = Authority { issuer, above: Vec::new(), earlier: Vec::new() };
        Ok(Made { authority, data })
    }

    /// Reads an authority from the data of a Secret: the issuing certificate, followed by those
    /// above it up to the root, which may also stand under `ca.crt`.
    ///
    /// # Errors
    /// [`AuthorityError`] names the Secret and what is wrong.
    pub fn read(
        secret: &str,
        data: &SecretData,
        now: Timestamp,
    ) -> Result<Authority, AuthorityError> {
        let source = Source { secret, data };
        let mut chain = source.chain()?;
        source.check_links(&chain)?;
        source.check_path_lengths(&chain)?;
        source.check_times(&chain, now)?;
        let private = weft_crypto::PrivateKey::from_pkcs8_pem(source.text(key::CA_KEY)?)
            .map_err(|source| AuthorityError::PrivateKey { secret: secret.to_owned(), source })?;
        let issuer = CertificateAuthority::new(chain.remove(0), private)
            .map_err(|source| AuthorityError::Unusable { secret: secret.to_owned(), source })?;
        Ok(Authority { issuer, above: chain, earlier: Vec::new() })
    }

    /// What issues.
    pub fn issuer(&self) -> &CertificateAuthority {
        &self.issuer
    }

    /// The issuing certificate.
    pub fn certificate(&self) -> &Certificate {
        self.issuer.certificate()
    }

    /// SHA-256 of the issuing certificate, hexadecimal.
    pub fn fingerprint(&self) -> String {
        pki::fingerprint(self.certificate())
    }

    /// Whether an authority above it signed its certificate.
    pub fn is_intermediate(&self) -> bool {
        !self.above.is_empty()
    }

    /// Root certificates: the chain's own first, then those it had before, as long as they are
    /// valid.
    pub fn roots(&self) -> Vec<Certificate> {
        let own = self.above.last().unwrap_or(self.certificate());
        let earlier = self.earlier.iter().filter(|one| one.is_self_signed());
        std::iter::once(own).chain(earlier).cloned().collect()
    }

    /// Intermediate certificates: the issuing one first, then those above it below the root,
    /// then those it had before, as long as they are valid. Empty when the root issues.
    pub fn intermediates(&self) -> Vec<Certificate> {
        let earlier = self.earlier.iter().filter(|one| !one.is_self_signed());
        self.chain_below_root().chain(earlier).cloned().collect()
    }

    /// What a TLS server or client sends after its own certificate: the chain below the root.
    pub fn sent_chain(&self) -> Vec<Certificate> {
        self.chain_below_root().cloned().collect()
    }

    /// Whether certificates from before a renewal are still trusted.
    pub fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Without the certificates from before a renewal.
    #[must_use]
    pub fn without_earlier(self) -> Authority {
        Authority { earlier: Vec::new(), ..self }
    }

    fn chain(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(self.certificate()).chain(&self.above)
    }

    fn chain_below_root(&self) -> impl Iterator<Item = &Certificate> {
        self.chain().take(self.above.len())
    }

    /// Takes over from the published certificates those that its own chain renews. Only what has
    /// name, issuer and key of a member of the chain is taken, so that nobody adds a root by
    /// changing the bundle.
    fn remember(mut self, published: &str, now: Timestamp) -> Authority {
        let known = Certificate::all_from_pem(published).unwrap_or_default();
        for earlier in known {
            let is_new = !self.chain().chain(&self.earlier).any(|one| *one == earlier);
            if is_new && earlier.is_valid_at(now) && self.supersedes(&earlier) {
                self.earlier.push(earlier);
            }
        }
        self
    }

    /// Whether a member of the chain is a renewal of that certificate, which is genuine.
    fn supersedes(&self, earlier: &Certificate) -> bool {
        let chain: Vec<&Certificate> = self.chain().collect();
        chain.iter().enumerate().any(|(index, member)| {
            let above = chain.get(index + 1).unwrap_or(member);
            is_renewal(member, earlier) && earlier.verify_signed_by(above).is_ok()
        })
    }

    /// Whether the issuing certificate is a renewal of the one with that fingerprint.
    fn renews(&self, published: &str, fingerprint: &str) -> bool {
        let known = Certificate::all_from_pem(published).unwrap_or_default();
        known
            .iter()
            .filter(|one| pki::fingerprint(one) == fingerprint)
            .any(|one| is_renewal(self.certificate(), one))
    }
}

/// Same subject, issuer, key and key identifier: what one signed, the other one vouches for, and
/// nothing else does.
fn is_renewal(new: &Certificate, old: &Certificate) -> bool {
    new.subject() == old.subject()
        && new.issuer() == old.issuer()
        && new.public_key() == old.public_key()
        && new.ski() == old.ski()
}

/// The Secret that an authority is read from.
struct Source<'a> {
    secret: &'a str,
    data: &'a SecretData,
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
    fn chain(&self) -> Result<Vec<Certificate>, AuthorityError> {
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

    /// Each is signed by the next one; the last one is a root.
    fn check_links(&self, chain: &[Certificate]) -> Result<(), AuthorityError> {
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

    fn check_path_lengths(&self, chain: &[Certificate]) -> Result<(), AuthorityError> {
        for (below, certificate) in chain.iter().enumerate() {
            let Some(limit) = certificate.max_path_len() else { continue };
            if u32::try_from(below).is_ok_and(|below| below > limit) {
                let (secret, subject) = (self.secret(), subject(certificate));
                return Err(AuthorityError::PathLength { secret, subject, limit, below });
            }
        }
        Ok(())
    }

    fn check_times(&self, chain: &[Certificate], now: Timestamp) -> Result<(), AuthorityError> {
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
