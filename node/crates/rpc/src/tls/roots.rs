//! The CA certificates that the other side is checked against.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, Der, TrustAnchor, UnixTime};
use tokio::sync::watch;

use webpki::{EndEntityCert, KeyUsage};

use super::{TlsError, provider, sha256};

/// A set of trusted CA certificates that can be exchanged while it is in use. Clones share
/// the set. Handshakes begun after a change see it; open connections go on, but a listener
/// closes those whose client certificate the new set refuses.
///
/// The set is the union of named sources, so that the node's files and each channel's
/// configuration can be replaced apart from each other.
#[derive(Clone)]
pub struct RootSet {
    shared: Arc<Shared>,
}

/// A certificate that was left out of a set because it cannot be a trust anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRoot {
    /// Position in the list given, from 0.
    pub index: usize,
    /// The TLS library's reason.
    pub reason: String,
}

struct Shared {
    sources: Mutex<Sources>,
    verifiers: ArcSwap<Verifiers>,
    version: watch::Sender<u64>,
}

#[derive(Default, Clone)]
struct Sources {
    roots: BTreeMap<String, Vec<CertificateDer<'static>>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
}

/// `None` while the set is empty: nobody is trusted.
#[derive(Default)]
pub(crate) struct Verifiers {
    pub server: Option<Arc<dyn ServerCertVerifier>>,
    pub client: Option<Arc<dyn ClientCertVerifier>>,
    anchors: Option<Arc<RootCertStore>>,
}

impl Default for RootSet {
    fn default() -> Self {
        Self::new()
    }
}

impl RootSet {
    /// An empty set: no certificate is trusted.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                sources: Mutex::default(),
                verifiers: ArcSwap::default(),
                version: watch::Sender::new(0),
            }),
        }
    }

    /// A set of one source named `fixed`.
    ///
    /// # Errors
    /// [`TlsError::Root`] when a certificate cannot be a trust anchor.
    pub fn fixed(certificates: Vec<CertificateDer<'static>>) -> Result<Self, TlsError> {
        let set = Self::new();
        match set.set("fixed", certificates).into_iter().next() {
            None => Ok(set),
            Some(refused) => Err(TlsError::Root {
                origin: "the roots given".to_owned(),
                index: refused.index,
                reason: refused.reason,
            }),
        }
    }

    /// Replaces the certificates of a source, such as `channel/supply`. Those that cannot be
    /// trust anchors are left out and returned; the others count.
    pub fn set(
        &self,
        source: &str,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Vec<RefusedRoot> {
        let (good, refused) = sort_out(certificates);
        let mut sources = self.shared.sources.lock();
        if sources.roots.get(source) != Some(&good) {
            sources.roots.insert(source.to_owned(), good);
            self.rebuild(&sources);
        }
        refused
    }

    /// Removes a source. Nothing happens when there is none of that name.
    pub fn remove(&self, source: &str) {
        let mut sources = self.shared.sources.lock();
        if sources.roots.remove(source).is_some() {
            self.rebuild(&sources);
        }
    }

    /// Replaces the certificate revocation lists (RFC 5280), DER. A certificate whose issuer
    /// has no list here is not affected.
    ///
    /// # Errors
    /// [`TlsError::Crl`] when one cannot be used; the lists stay as they were.
    pub fn set_crls(
        &self,
        crls: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<(), TlsError> {
        check_crls(&crls)?;
        let mut sources = self.shared.sources.lock();
        if sources.crls != crls {
            sources.crls = crls;
            self.rebuild(&sources);
        }
        Ok(())
    }

    /// Number of different certificates in the set.
    pub fn len(&self) -> usize {
        distinct(&self.shared.sources.lock()).len()
    }

    /// Whether the set trusts nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that grows with every change of the set.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// The number that grows with every change of the set.
    pub(crate) fn version(&self) -> u64 {
        *self.shared.version.borrow()
    }

    /// The CA of the set that a client's chain (leaf first) comes from, by the SHA-256 of its name
    /// and its key; `None` for a chain that no CA of the set has signed. Certificates that the
    /// client added and that are not on the way to the CA count for nothing.
    pub(crate) fn authority_of(
        &self,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Option<[u8; 32]> {
        let (leaf, intermediates) = chain.split_first()?;
        let anchors = self.verifiers().anchors.clone()?;
        let algorithms = provider().signature_verification_algorithms.all;
        let leaf = EndEntityCert::try_from(leaf).ok()?;
        let usage = KeyUsage::client_auth();
        let path = leaf
            .verify_for_usage(algorithms, &anchors.roots, intermediates, now, usage, None, None)
            .ok()?;
        let anchor = path.anchor();
        let parts = [anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref()];
        Some(sha256(&parts.map(sha256).concat()))
    }

    /// Checks a client's chain (leaf first) against the set as it is now.
    ///
    /// # Errors
    /// The TLS library's error when the chain is not trusted, expired or revoked.
    pub fn verify_client(
        &self,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let (Some((leaf, intermediates)), Some(verifier)) =
            (chain.split_first(), self.verifiers().client.clone())
        else {
            return Err(unknown);
        };
        verifier.verify_client_cert(leaf, intermediates, now).map(|_| ())
    }

    pub(crate) fn verifiers(&self) -> arc_swap::Guard<Arc<Verifiers>> {
        self.shared.verifiers.load()
    }

    /// Called with the lock held, so that verifiers never lag behind the sources.
    fn rebuild(&self, sources: &Sources) {
        let mut store = RootCertStore::empty();
        for certificate in distinct(sources) {
            // Sorted out before; a second refusal is the same as leaving it out.
            let _ = store.add(certificate.clone());
        }
        self.shared.verifiers.store(Arc::new(verifiers(Arc::new(store), &sources.crls)));
        self.shared.version.send_modify(|version| *version += 1);
    }
}

impl std::fmt::Debug for RootSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootSet").field("certificates", &self.len()).finish()
    }
}

fn distinct(sources: &Sources) -> Vec<&CertificateDer<'static>> {
    let mut all: Vec<_> = sources.roots.values().flatten().collect();
    all.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    all.dedup();
    all
}

fn sort_out(
    certificates: Vec<CertificateDer<'static>>,
) -> (Vec<CertificateDer<'static>>, Vec<RefusedRoot>) {
    let mut good = Vec::new();
    let mut refused = Vec::new();
    for (index, certificate) in certificates.into_iter().enumerate() {
        match RootCertStore::empty().add(certificate.clone()) {
            Ok(()) => good.push(certificate),
            Err(error) => refused.push(RefusedRoot { index, reason: error.to_string() }),
        }
    }
    (good, refused)
}

/// An empty set, or lists that do not fit (checked when set), give no verifier: fail closed.
fn verifiers(
    store: Arc<RootCertStore>,
    crls: &[CertificateRevocationListDer<'static>],
) -> Verifiers {
    let server = WebPkiServerVerifier::builder_with_provider(store.clone(), provider())
        .with_crls(crls.iter().cloned())
        .allow_unknown_revocation_status()
        .build();
    let anchors = store.clone();
    let client = WebPkiClientVerifier::builder_with_provider(store, provider())
        .with_crls(crls.iter().cloned())
        .allow_unknown_revocation_status()
        .allow_unauthenticated()
        .clear_root_hint_subjects()
        .build();
    let server = server.ok().map(|verifier| verifier as _);
    Verifiers { server, client: client.ok(), anchors: Some(anchors) }
}

fn check_crls(crls: &[CertificateRevocationListDer<'static>]) -> Result<(), TlsError> {
    // The builder parses lists only for a store with a root, whichever it is.
    let anchor = TrustAnchor {
        subject: Der::from_slice(&[]),
        subject_public_key_info: Der::from_slice(&[]),
        name_constraints: None,
    };
    let store = Arc::new(RootCertStore { roots: vec![anchor] });
    WebPkiServerVerifier::builder_with_provider(store, provider())
        .with_crls(crls.iter().cloned())
        .build()
        .map(|_| ())
        .map_err(|error| TlsError::Crl { reason: error.to_string() })
}
