//! The node's TLS material, read from files and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tracing::{info, warn};
use weft_settings::Tls;
use zeroize::Zeroizing;

use super::verify::{ClientVerifier, ServerVerifier};
use super::{
    Alpn, ClientAuth, RootSet, TlsError, TlsIdentity, certificates_from_pem, provider, sha256,
};

/// The source of the roots that come from files.
const FILES: &str = "files";

/// Paths of a node's TLS material.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM: private key of the leaf.
    pub key: PathBuf,
    /// PEM: CAs that servers are checked against.
    pub root_cas: Vec<PathBuf>,
    /// PEM: CAs that clients are checked against.
    pub client_root_cas: Vec<PathBuf>,
    /// PEM or DER: certificate revocation lists.
    pub crls: Vec<PathBuf>,
}

impl From<&Tls> for TlsFiles {
    fn from(tls: &Tls) -> Self {
        Self {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            root_cas: tls.root_cas.clone(),
            client_root_cas: tls.effective_client_root_cas().to_vec(),
            crls: tls.crls.clone(),
        }
    }
}

/// A node's TLS certificate and root sets. Clones share the state; configurations made from
/// it follow every change, and open connections stay.
#[derive(Debug, Clone)]
pub struct ReloadingTls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Option<TlsFiles>,
    fingerprint: Mutex<[u8; 32]>,
    identity: Arc<CurrentIdentity>,
    server_roots: RootSet,
    client_roots: RootSet,
}

/// Ends the watching of the files when it is dropped.
#[derive(Debug)]
pub struct WatchGuard(tokio::task::JoinHandle<()>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReloadingTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let tls = Self::new(Some(files), None, RootSet::new(), RootSet::new());
        tls.reload()?;
        Ok(tls)
    }

    /// TLS material without files: `server_roots` check servers, `client_roots` check
    /// clients. Without an identity it can only connect, as a client without certificate.
    pub fn from_parts(
        identity: Option<TlsIdentity>,
        server_roots: RootSet,
        client_roots: RootSet,
    ) -> Self {
        Self::new(None, identity, server_roots, client_roots)
    }

    fn new(
        files: Option<TlsFiles>,
        identity: Option<TlsIdentity>,
        server_roots: RootSet,
        client_roots: RootSet,
    ) -> Self {
        let identity = Arc::new(CurrentIdentity(ArcSwapOption::from_pointee(identity)));
        let fingerprint = Mutex::default();
        let shared = Shared { files, fingerprint, identity, server_roots, client_roots };
        Self { shared: Arc::new(shared) }
    }

    /// The certificate in use now.
    pub fn identity(&self) -> Option<TlsIdentity> {
        self.shared.identity.0.load().as_deref().cloned()
    }

    /// Puts another certificate in place of the one in use.
    pub fn set_identity(&self, identity: TlsIdentity) {
        self.shared.identity.0.store(Some(Arc::new(identity)));
    }

    /// The CAs that servers are checked against. Sources can be added, such as those of a
    /// channel.
    pub fn server_roots(&self) -> &RootSet {
        &self.shared.server_roots
    }

    /// The CAs that clients are checked against. Sources can be added, such as those of a
    /// channel.
    pub fn client_roots(&self) -> &RootSet {
        &self.shared.client_roots
    }

    /// Reads the files again and takes over what changed, all or nothing. Returns whether
    /// anything changed; without files that is never.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used; what was in use stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.shared.files else { return Ok(false) };
        let mut fingerprint = self.shared.fingerprint.lock();
        let contents = Contents::read(files)?;
        let read = contents.fingerprint();
        if *fingerprint == read {
            return Ok(false);
        }
        let parsed = contents.parse(files)?;
        self.shared.server_roots.set_crls(parsed.crls.clone())?;
        self.shared.client_roots.set_crls(parsed.crls)?;
        self.shared.server_roots.set(FILES, parsed.roots);
        self.shared.client_roots.set(FILES, parsed.client_roots);
        self.set_identity(parsed.identity);
        *fingerprint = read;
        Ok(true)
    }

    /// Looks at the files' contents at an interval and reloads them. `Duration::ZERO` never
    /// does. A failure is logged and tried again: certificate and key are often replaced one
    /// after the other.
    pub fn watch(&self, interval: Duration) -> WatchGuard {
        let tls = self.clone();
        WatchGuard(tokio::spawn(async move {
            if interval.is_zero() || tls.shared.files.is_none() {
                return;
            }
            loop {
                tokio::time::sleep(interval).await;
                let again = tls.clone();
                match tokio::task::spawn_blocking(move || again.reload()).await {
                    Ok(Ok(true)) => info!("took over changed TLS files"),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => warn!(%error, "kept the TLS files in use"),
                    Err(error) => warn!(%error, "the reading of TLS files ended early"),
                }
            }
        }))
    }

    /// A server configuration that follows this material.
    ///
    /// # Errors
    /// [`TlsError::NoIdentity`] without a certificate, [`TlsError::Protocol`] when the TLS
    /// library refuses the set-up.
    pub fn server_config(
        &self,
        auth: ClientAuth,
        alpn: Alpn,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        self.server_config_with(auth, alpn, self.client_roots())
    }

    /// As [`ReloadingTls::server_config`], with another set for clients' certificates.
    ///
    /// # Errors
    /// The same.
    pub fn server_config_with(
        &self,
        auth: ClientAuth,
        alpn: Alpn,
        client_roots: &RootSet,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        if self.identity().is_none() {
            return Err(TlsError::NoIdentity);
        }
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| TlsError::Protocol { source })?
            .with_client_cert_verifier(Arc::new(ClientVerifier::new(client_roots.clone(), auth)))
            .with_cert_resolver(self.shared.identity.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = alpn.protocols();
        Ok(Arc::new(config))
    }

    /// A client configuration that follows this material and checks servers against `roots`.
    ///
    /// # Errors
    /// [`TlsError::Protocol`] when the TLS library refuses the set-up.
    pub fn client_config(
        &self,
        roots: &RootSet,
        alpn: Alpn,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| TlsError::Protocol { source })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(roots.clone())))
            .with_client_cert_resolver(self.shared.identity.clone());
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn.protocols();
        Ok(Arc::new(config))
    }
}

/// Hands the certificate in use to each handshake.
#[derive(Debug)]
struct CurrentIdentity(ArcSwapOption<TlsIdentity>);

impl CurrentIdentity {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|identity| identity.certified())
    }
}

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for CurrentIdentity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified().filter(|certified| certified.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

/// The files' bytes.
struct Contents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    roots: Vec<Vec<u8>>,
    client_roots: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

/// What the files hold.
struct Parsed {
    identity: TlsIdentity,
    roots: Vec<CertificateDer<'static>>,
    client_roots: Vec<CertificateDer<'static>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let all = |paths: &[PathBuf]| -> Result<Vec<_>, TlsError> {
            paths.iter().map(|path| read(path)).collect()
        };
        Ok(Self {
            cert: read(&files.cert)?,
            key: Zeroizing::new(read(&files.key)?),
            roots: all(&files.root_cas)?,
            client_roots: all(&files.client_root_cas)?,
            crls: all(&files.crls)?,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let lists = [&self.roots, &self.client_roots, &self.crls];
        let contents = [&self.cert, &*self.key].into_iter().chain(lists.into_iter().flatten());
        sha256(&contents.flat_map(|content| sha256(content)).collect::<Vec<_>>())
    }

    fn parse(&self, files: &TlsFiles) -> Result<Parsed, TlsError> {
        let origin = files.cert.display().to_string();
        Ok(Parsed {
            identity: TlsIdentity::from_pem(&self.cert, &self.key, &origin)?,
            roots: roots(&self.roots, &files.root_cas)?,
            client_roots: roots(&self.client_roots, &files.client_root_cas)?,
            crls: crls(&self.crls, &files.crls)?,
        })
    }
}

fn roots(pems: &[Vec<u8>], paths: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut all = Vec::new();
    for (pem, path) in pems.iter().zip(paths) {
        let origin = path.display().to_string();
        let certificates = certificates_from_pem(pem, &origin)?;
        if let Some(refused) = RootSet::new().set(FILES, certificates.clone()).into_iter().next() {
            return Err(TlsError::Root { origin, index: refused.index, reason: refused.reason });
        }
        all.extend(certificates);
    }
    Ok(all)
}

fn crls(
    contents: &[Vec<u8>],
    paths: &[PathBuf],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut all = Vec::new();
    for (content, path) in contents.iter().zip(paths) {
        if content.starts_with(b"-----") {
            let origin = || path.display().to_string();
            let lists = CertificateRevocationListDer::pem_slice_iter(content)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| TlsError::Pem { origin: origin(), source })?;
            all.extend(lists);
        } else if !content.is_empty() {
            all.push(CertificateRevocationListDer::from(content.clone()));
        }
    }
    Ok(all)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
