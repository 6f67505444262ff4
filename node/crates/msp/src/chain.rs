//! From a certificate up to a root: the authorities of an MSP and the paths between them.
//!
//! Paths between authorities are worked out once, when an MSP is set up; a certificate is then
//! checked against its issuer alone. The rules are those of Fabric (msp/mspimpl.go) and of the
//! library underneath it (Go's crypto/x509): names match byte for byte, issuers are authorities
//! whose key may sign certificates, path lengths hold, no critical extension is unknown, an extended
//! key usage, where there is one, includes `serverAuth` or any, and the whole path is valid one
//! second after the certificate's own validity starts.
//!
//! Deviation: where several paths lead to a root, Fabric refuses the certificate. Here the one that
//! is valid longest is taken (the first such by the order of the configuration), so that an
//! authority can be renewed under the same key and name while its old certificate is still trusted.

use std::time::Duration;

use weft_crypto::{Certificate, CertificateError, Hasher};

use crate::{canonical, identity::Window};

/// How many authorities a path may have. RFC 5280 sets no limit; real ones have two or three.
const MAX_PATH: usize = 8;
/// How many paths are kept for an authority; more than a few need several generations of several
/// renewed authorities at once.
const MAX_PATHS: usize = 32;

/// No path leads from a certificate to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No authority of the MSP has the name of the issuer.
    #[error("failed to verify {subject:?}: its issuer is not an authority of the MSP")]
    UnknownIssuer {
        /// The certificate's subject.
        subject: String,
    },
    /// The authority with the issuer's name did not sign it.
    #[error("failed to verify {subject:?} against its issuer")]
    NotSigned {
        /// The certificate's subject.
        subject: String,
        /// What is wrong with the signature or the issuer.
        #[source]
        source: CertificateError,
    },
    /// No path of authorities was valid when the certificate's validity started, or all are longer
    /// than one of their members allows.
    #[error("failed to verify {subject:?}: no path to a root was valid when it was issued")]
    NoPath {
        /// The certificate's subject.
        subject: String,
    },
    /// An extension marked as critical is not known.
    #[error("failed to verify {subject:?}: critical extension {oid} is not supported")]
    CriticalExtension {
        /// The certificate's subject.
        subject: String,
        /// Dotted identifier of the extension.
        oid: String,
    },
    /// The extended key usage leaves out `serverAuth`, which Fabric asks for.
    #[error(
        "failed to verify {subject:?}: its extended key usage must be absent, any or include serverAuth"
    )]
    ExtendedKeyUsage {
        /// The certificate's subject.
        subject: String,
    },
    /// A certificate among the authorities is not one of an authority.
    #[error("failed to set up authority {subject:?}: its basic constraints do not say CA")]
    NotAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// An authority's certificate has no subject key identifier.
    #[error("failed to set up authority {subject:?}: it has no subject key identifier")]
    NoKeyIdentifier {
        /// The certificate's subject.
        subject: String,
    },
    /// A root is signed by another key than its own.
    #[error("failed to set up root {subject:?}: it is not self-signed")]
    RootNotSelfSigned {
        /// The certificate's subject.
        subject: String,
        /// What is wrong with the signature.
        #[source]
        source: CertificateError,
    },
}

/// Whether a root must be signed by its own key. Fabric asks it of those that issue identities and
/// not of those that issue TLS certificates (msp/mspimplsetup.go).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    SelfSigned,
    AnySigner,
}

/// A path from an authority, the first member, to a root, the last.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    members: Vec<usize>,
    /// When all members are valid.
    pub(crate) window: Window,
    /// SHA-256 over the members' certificates, first to last.
    pub(crate) certifiers: [u8; 32],
}

#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    /// Has subordinates, so it may not issue identities.
    pub(crate) is_inner: bool,
    paths: Vec<Path>,
}

impl Authority {
    /// The path that units are tied to when they are tied to this authority.
    pub(crate) fn certifiers(&self) -> Option<[u8; 32]> {
        best(self.paths.iter()).map(|path| path.certifiers)
    }

    pub(crate) fn name(&self) -> String {
        let certificate = &self.certificate;
        certificate.subject_cn().unwrap_or_else(|| certificate.subject_text()).to_owned()
    }
}

/// The authority that issued a certificate, and the path from there to a root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issuer<'a> {
    pub(crate) index: usize,
    pub(crate) authority: &'a Authority,
    pub(crate) path: &'a Path,
}

/// All authorities of an MSP: the roots first, then the intermediate ones.
#[derive(Debug)]
pub(crate) struct Authorities {
    list: Vec<Authority>,
    roots: usize,
}

impl Authorities {
    pub(crate) fn new(
        roots: &[Certificate],
        intermediates: &[Certificate],
        rule: Roots,
    ) -> Result<Self, ChainError> {
        let all: Vec<_> = roots.iter().chain(intermediates).cloned().collect();
        all.iter().try_for_each(check_authority)?;
        if rule == Roots::SelfSigned {
            roots.iter().try_for_each(check_self_signed)?;
        }
        let mut list = Vec::with_capacity(all.len());
        for (index, certificate) in all.iter().enumerate() {
            let paths = Search { all: &all, roots: roots.len() }.paths(index)?;
            let certificate = certificate.clone();
            list.push(Authority { certificate, is_inner: false, paths });
        }
        let mut authorities = Self { list, roots: roots.len() };
        authorities.mark_inner();
        Ok(authorities)
    }

    /// Every authority above an intermediate one has subordinates.
    fn mark_inner(&mut self) {
        let paths = self.list.iter().flat_map(|authority| &authority.paths);
        let inner: Vec<usize> =
            paths.flat_map(|path| path.members.iter().skip(1).copied()).collect();
        for index in inner {
            if let Some(authority) = self.list.get_mut(index) {
                authority.is_inner = true;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Authority> {
        self.list.iter()
    }

    pub(crate) fn intermediates(&self) -> impl Iterator<Item = &Authority> {
        self.list.iter().skip(self.roots)
    }

    /// The authority with exactly this certificate.
    pub(crate) fn find(&self, certificate: &Certificate) -> Option<&Authority> {
        self.list.iter().find(|authority| authority.certificate == *certificate)
    }

    /// Finds who issued `certificate`, which must not be one of the authorities itself.
    pub(crate) fn issuer_of(&self, certificate: &Certificate) -> Result<Issuer<'_>, ChainError> {
        check_usable(certificate)?;
        let mut failure = ChainError::UnknownIssuer { subject: subject(certificate) };
        let mut found: Option<Issuer<'_>> = None;
        for (index, authority) in self.list.iter().enumerate() {
            if authority.certificate.subject() != certificate.issuer() {
                continue;
            }
            if let Err(source) = certificate.verify_signed_by(&authority.certificate) {
                failure = ChainError::NotSigned { subject: subject(certificate), source };
                continue;
            }
            match self.path_for(certificate, authority) {
                None => failure = ChainError::NoPath { subject: subject(certificate) },
                Some(path) if found.is_none_or(|issuer| lasts_longer(path, issuer.path)) => {
                    found = Some(Issuer { index, authority, path });
                }
                Some(_) => {}
            }
        }
        found.ok_or(failure)
    }

    fn path_for<'a>(&self, leaf: &Certificate, authority: &'a Authority) -> Option<&'a Path> {
        let at = leaf.not_before().saturating_add(Duration::from_secs(1));
        let usable = authority
            .paths
            .iter()
            .filter(|path| path.window.contains(at) && self.lengths_hold(&path.members));
        best(usable)
    }

    /// Below the member at position n there are n intermediate authorities.
    fn lengths_hold(&self, members: &[usize]) -> bool {
        members.iter().enumerate().all(|(below, index)| {
            let limit = self.list.get(*index).and_then(|a| a.certificate.max_path_len());
            limit.is_none_or(|limit| u32::try_from(below).is_ok_and(|below| below <= limit))
        })
    }
}

fn lasts_longer(one: &Path, other: &Path) -> bool {
    one.window.not_after > other.window.not_after
}

fn best<'a>(paths: impl Iterator<Item = &'a Path>) -> Option<&'a Path> {
    paths.reduce(|best, path| if lasts_longer(path, best) { path } else { best })
}

fn subject(certificate: &Certificate) -> String {
    certificate.subject_text().to_owned()
}

fn check_authority(certificate: &Certificate) -> Result<(), ChainError> {
    let subject = || subject(certificate);
    if !certificate.is_ca() {
        return Err(ChainError::NotAuthority { subject: subject() });
    }
    if certificate.ski().is_none() {
        return Err(ChainError::NoKeyIdentifier { subject: subject() });
    }
    check_usable(certificate)
}

fn check_usable(certificate: &Certificate) -> Result<(), ChainError> {
    if let Some(oid) = certificate.unknown_critical_extensions().first() {
        let oid = oid.clone();
        return Err(ChainError::CriticalExtension { subject: subject(certificate), oid });
    }
    match certificate.extended_key_usage() {
        Some(usage) if !usage.any && !usage.server_auth => {
            Err(ChainError::ExtendedKeyUsage { subject: subject(certificate) })
        }
        _ => Ok(()),
    }
}

fn check_self_signed(root: &Certificate) -> Result<(), ChainError> {
    root.verify_signed_by(root)
        .map_err(|source| ChainError::RootNotSelfSigned { subject: subject(root), source })
}

/// Looks for the paths between authorities.
struct Search<'a> {
    all: &'a [Certificate],
    roots: usize,
}

impl Search<'_> {
    /// The paths that start at `index`; a root is a path of its own.
    fn paths(&self, index: usize) -> Result<Vec<Path>, ChainError> {
        let mut found = Vec::new();
        self.extend(&mut vec![index], &mut found);
        let Some(certificate) = self.all.get(index) else { return Ok(found) };
        let at = certificate.not_before().saturating_add(Duration::from_secs(1));
        found.retain(|path| path.window.contains(at));
        if found.is_empty() {
            return Err(self.failure(certificate));
        }
        Ok(found)
    }

    fn extend(&self, members: &mut Vec<usize>, found: &mut Vec<Path>) {
        let Some((last, certificate)) =
            members.last().and_then(|last| Some((*last, self.all.get(*last)?)))
        else {
            return;
        };
        if last < self.roots {
            found.push(self.path(members));
            return;
        }
        for (index, issuer) in self.all.iter().enumerate() {
            let room = members.len() < MAX_PATH && found.len() < MAX_PATHS;
            if room && !members.contains(&index) && certificate.verify_signed_by(issuer).is_ok() {
                members.push(index);
                self.extend(members, found);
                members.pop();
            }
        }
    }

    fn path(&self, members: &[usize]) -> Path {
        let mut hasher = Hasher::new();
        let mut window: Option<Window> = None;
        for certificate in members.iter().filter_map(|index| self.all.get(*index)) {
            hasher.update(&canonical::canonical_der(certificate));
            let own = Window::of(certificate);
            window = Some(window.map_or(own, |window| window.intersect(own)));
        }
        let window = window.unwrap_or(Window {
            not_before: weft_types::Timestamp::default(),
            not_after: weft_types::Timestamp::default(),
        });
        Path { members: members.to_vec(), window, certifiers: hasher.finish() }
    }

    /// Why nothing leads from `certificate` to a root.
    fn failure(&self, certificate: &Certificate) -> ChainError {
        let named = self.all.iter().filter(|issuer| issuer.subject() == certificate.issuer());
        let mut failure = ChainError::UnknownIssuer { subject: subject(certificate) };
        for issuer in named {
            failure = match certificate.verify_signed_by(issuer) {
                Err(source) => ChainError::NotSigned { subject: subject(certificate), source },
                Ok(()) => return ChainError::NoPath { subject: subject(certificate) },
            };
        }
        failure
    }
}
