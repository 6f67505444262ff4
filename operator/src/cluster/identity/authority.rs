//! A certificate authority in a Secret: read, judged against what was recorded, made once.

mod error;
mod source;

use std::fmt;

use k8s_openapi::ByteString;
use weft_crypto::{Certificate, CertificateAuthority};
use weft_types::{MspId, Timestamp};

pub use error::AuthorityError;

use self::source::Source;
use super::SecretData;
use crate::cluster::names::key;
use crate::model::Certificates;
use crate::pki::{self, RootUse};

/// How many certificates from before renewals stay in an MSP, so that frequent renewals of one
/// that lives long do not fill it.
const MAX_EARLIER: usize = 3;

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
        let mut above = source.chain()?;
        let issuer = source.issuer(above.remove(0))?;
        let authority = Authority { issuer, above, earlier: Vec::new() };
        let chain: Vec<&Certificate> = authority.chain().collect();
        source.check_links(&chain)?;
        source.check_path_lengths(&chain)?;
        source.check_times(&chain, now)?;
        Ok(authority)
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
        // A bundle names the newer ones first.
        self.earlier.truncate(MAX_EARLIER);
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
