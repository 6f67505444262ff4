//! Which certificates a network needs, and when each is issued again. Pure, but that new keys are
//! drawn at random: the caller keeps keys and certificates (files for `weft up`, Secrets for the
//! controllers) and tells the time.
//!
//! Every organization has two roots, one for identities and one for TLS, as Fabric's MSP
//! folders expect (`cacerts`, `tlscacerts`). Roles are organizational units (NodeOUs). A leaf
//! is renewed before it ends, with the same key, so that what pins the key goes on working.

use std::fmt;
use std::time::Duration;

use weft_crypto::{
    CaError, CaProfile, Certificate, CertificateAuthority, KeyError, LeafProfile, LeafUsage, Name,
    PrivateKey, SubjectAltName, Validity,
};
use weft_package::PackageId;
use weft_types::{MspId, Timestamp};

use crate::api::UserRole;
use crate::model::Certificates;

/// How long before its making a certificate starts to be valid: clocks differ.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Which of an organization's two roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RootUse {
    /// Signs identities.
    Identity,
    /// Signs TLS certificates.
    Tls,
}

impl RootUse {
    /// The word in the root's common name and in folder names: `ca` or `tlsca`.
    pub fn label(self) -> &'static str {
        match self {
            RootUse::Identity => "ca",
            RootUse::Tls => "tlsca",
        }
    }
}

/// The profile of a managed root, valid from shortly before `now`.
pub fn root_profile(
    msp_id: &MspId,
    use_: RootUse,
    now: Timestamp,
    certificates: &Certificates,
) -> CaProfile {
    CaProfile {
        name: Name {
            organization: Some(msp_id.to_string()),
            units: Vec::new(),
            common_name: format!("{}.{msp_id}", use_.label()),
        },
        validity: Validity {
            not_before: now.saturating_sub(BACKDATE),
            not_after: now.saturating_add(certificates.ca_duration),
        },
        // A root that issues leaves only: an authority below it is the user's own to make.
        max_path_len: None,
    }
}

/// The role that a certificate's organizational unit states (Fabric: `msp/mspimplsetup.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A peer.
    Peer,
    /// An orderer.
    Orderer,
    /// An administrator.
    Admin,
    /// Anyone else.
    Client,
}

impl Role {
    /// The organizational unit.
    pub fn unit(self) -> &'static str {
        match self {
            Role::Peer => "peer",
            Role::Orderer => "orderer",
            Role::Admin => "admin",
            Role::Client => "client",
        }
    }
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::Client => Role::Client,
            UserRole::Admin => Role::Admin,
        }
    }
}

/// A leaf certificate that a network needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Common name: the node's or user's name.
    pub common_name: String,
    /// Role, stated by identity certificates.
    pub role: Role,
    /// Which root signs it, and thereby what it is for.
    pub root: RootUse,
    /// Hosts by which the holder is reached; for TLS.
    pub hosts: Vec<String>,
    /// Other names, as URIs: what a contract may speak for.
    pub uris: Vec<String>,
}

impl Leaf {
    /// What the certificate says when it is issued now. It never outlives its issuer.
    pub fn profile(
        &self,
        issuer: &Certificate,
        now: Timestamp,
        certificates: &Certificates,
    ) -> LeafProfile {
        LeafProfile {
            name: Name {
                organization: None,
                units: vec![self.role.unit().to_owned()],
                common_name: self.common_name.clone(),
            },
            sans: self.alternative_names(),
            usage: match self.root {
                RootUse::Identity => LeafUsage::Identity,
                RootUse::Tls => LeafUsage::Tls,
            },
            validity: Validity {
                not_before: now.saturating_sub(BACKDATE).max(issuer.not_before()),
                not_after: now.saturating_add(certificates.duration).min(issuer.not_after()),
            },
        }
    }

    fn alternative_names(&self) -> Vec<SubjectAltName> {
        let hosts = self.hosts.iter().map(|host| SubjectAltName::host(host));
        hosts.chain(self.uris.iter().cloned().map(SubjectAltName::Uri)).collect()
    }
}

/// The two certificates of a user of an organization or ordering service: identity, then TLS.
pub fn user_leaves(user: &str, role: Role, holder: &str) -> [Leaf; 2] {
    let leaf = |root| Leaf {
        common_name: format!("{user}@{holder}"),
        role,
        root,
        hosts: Vec::new(),
        uris: Vec::new(),
    };
    [leaf(RootUse::Identity), leaf(RootUse::Tls)]
}

/// The TLS certificate with which an organization's contract registers with its peers: for this
/// package and no other.
pub fn contract_leaf(chaincode: &str, package: &PackageId, holder: &str) -> Leaf {
    Leaf {
        common_name: format!("{chaincode}@{holder}"),
        role: Role::Client,
        root: RootUse::Tls,
        hosts: Vec::new(),
        uris: vec![package.certificate_name()],
    }
}

/// Why a certificate is issued (again).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// It ends soon, or has ended.
    Expiring,
    /// Another authority signed it.
    OtherIssuer,
    /// The holder is reached by hosts, or speaks for a package, that it does not name.
    Hosts,
    /// It states another name or role.
    Subject,
    /// It was issued before the certificate of its authority began, which was renewed since: an
    /// MSP that knows only the renewed one finds no path for it.
    IssuerRenewed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Missing => "there was none",
            Reason::Expiring => "it was about to expire",
            Reason::OtherIssuer => "another authority had signed it",
            Reason::Hosts => "it did not name every host or package",
            Reason::Subject => "it stated another name or role",
            Reason::IssuerRenewed => "the certificate of its authority was renewed",
        })
    }
}

/// From when on [`due`] says [`Reason::Expiring`]; never for a certificate that ends with its
/// issuer, as a new one would end then too.
pub fn renew_at(
    current: &Certificate,
    issuer: &Certificate,
    certificates: &Certificates,
) -> Option<Timestamp> {
    (current.not_after() < issuer.not_after())
        .then(|| current.not_after().saturating_sub(certificates.renew_before))
}

/// Whether the certificate at hand serves, or why a new one is due.
pub fn due(
    wanted: &Leaf,
    current: Option<&Certificate>,
    issuer: &Certificate,
    now: Timestamp,
    certificates: &Certificates,
) -> Option<Reason> {
    let Some(current) = current else { return Some(Reason::Missing) };
    if current.verify_signed_by(issuer).is_err() {
        return Some(Reason::OtherIssuer);
    }
    if renew_at(current, issuer, certificates).is_some_and(|at| now >= at) {
        return Some(Reason::Expiring);
    }
    // TLS judges each certificate of a chain at the present only.
    if wanted.root == RootUse::Identity && current.not_before() < issuer.not_before() {
        return Some(Reason::IssuerRenewed);
    }
    if current.subject_cn() != Some(wanted.common_name.as_str())
        || !current.subject_ous().iter().any(|unit| unit == wanted.role.unit())
    {
        return Some(Reason::Subject);
    }
    let named = current.sans();
    if !wanted.alternative_names().iter().all(|name| named.contains(name)) {
        return Some(Reason::Hosts);
    }
    None
}

/// A certificate and key that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No key could be drawn.
    #[error("failed to make a key")]
    Key(#[source] KeyError),
    /// The authority could not issue.
    #[error("failed to issue a certificate")]
    Issue(#[source] CaError),
}

/// A certificate that was issued, with its key. `Debug` does not show the key.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// The certificate.
    pub certificate: Certificate,
    /// The key that was there before, or a new one.
    pub key: PrivateKey,
    /// Why it was issued.
    pub reason: Reason,
}

/// The certificate that serves: of those at hand the one that belongs to the key at hand. A
/// certificate without its key, or with another one, is as good as none.
pub fn usable(certificate: Option<Certificate>, key: Option<&PrivateKey>) -> Option<Certificate> {
    let key = key?;
    certificate.filter(|certificate| certificate.public_key() == key.public_key())
}

/// Issues a certificate: for the key at hand, else for a new one.
///
/// # Errors
/// [`IssueError`] when the key or certificate cannot be made.
pub fn issue(
    wanted: &Leaf,
    key: Option<PrivateKey>,
    authority: &CertificateAuthority,
    reason: Reason,
    now: Timestamp,
    certificates: &Certificates,
) -> Result<Fresh, IssueError> {
    let key = match key {
        Some(key) => key,
        None => PrivateKey::generate().map_err(IssueError::Key)?,
    };
    let profile = wanted.profile(authority.certificate(), now, certificates);
    let certificate = authority.issue(key.public_key(), &profile).map_err(IssueError::Issue)?;
    Ok(Fresh { certificate, key, reason })
}

/// A root made now.
///
/// # Errors
/// [`IssueError`] when the key or certificate cannot be made.
pub fn make_root(
    msp_id: &MspId,
    use_: RootUse,
    now: Timestamp,
    certificates: &Certificates,
) -> Result<CertificateAuthority, IssueError> {
    let key = PrivateKey::generate().map_err(IssueError::Key)?;
    let profile = root_profile(msp_id, use_, now, certificates);
    CertificateAuthority::new_root(key, &profile).map_err(IssueError::Issue)
}

/// SHA-256 of a certificate, hexadecimal: by it an authority is known again.
pub fn fingerprint(certificate: &Certificate) -> String {
    certificate.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "pki_tests.rs"]
mod tests;
