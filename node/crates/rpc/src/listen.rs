//! Listening: accepting connections within limits, the TLS handshake, and what is known of
//! each client.
//!
//! A connection counts against the cap from the moment it is accepted: while it shakes hands among
//! those of its address, then among those of its [`Holder`]. Clients without a valid certificate
//! have a cap of their own, so that they never take the connections of organizations. A connection
//! is dropped when its TLS handshake, or the first bytes after it, take longer than the handshake
//! timeout; when its client certificate is no longer trusted; and when the listener is told to
//! close all.

mod io;

use std::collections::HashMap;
use std::io::Error as IoError;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use weft_settings::Limits;

use crate::budget::{Holder, Pools, Quota, Refusals, reason};
use crate::sampled;
use crate::shares::Share;
use crate::tls::{Alpn, ClientAuth, ReloadingTls, RootSet, TlsError};

pub use io::ServerIo;
use io::{Greeting, Stream};

/// Connections whose handshake is done and that wait to be served.
const READY_QUEUE: usize = 64;
/// Bytes that must come within the handshake timeout: the HTTP/2 preface (RFC 9113, 3.4). No
/// HTTP/1.1 request is shorter.
const GREETING_BYTES: usize = 24;
/// Wait after the system refused to accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a listener cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("failed to listen at {address}: {source}")]
    Bind {
        /// The address given.
        address: String,
        /// The system's error.
        #[source]
        source: IoError,
    },
    /// TLS cannot be set up.
    #[error("failed to set up TLS for {address}: {source}")]
    Tls {
        /// The address given.
        address: String,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
}

/// Limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections of clients with a valid certificate that are open at one time; more are closed.
    pub max_connections: usize,
    /// Connections of all other clients that are open at one time, and again as many that shake
    /// hands; more are closed.
    pub stranger_connections: usize,
    /// Time for the TLS handshake, and again for the first bytes after it.
    pub handshake_timeout: Duration,
}

impl From<&Limits> for ListenOptions {
    fn from(limits: &Limits) -> Self {
        Self {
            max_connections: limits.max_connections,
            stranger_connections: limits.stranger_connections,
            handshake_timeout: limits.handshake_timeout,
        }
    }
}

/// How connections of a listener are secured.
#[derive(Debug, Clone)]
pub enum Security {
    /// TLS with this material; clients are checked against `client_roots`.
    Tls {
        /// The server's certificate.
        tls: ReloadingTls,
        /// Whether clients must have a certificate.
        client_auth: ClientAuth,
        /// The CAs of clients' certificates.
        client_roots: RootSet,
    },
    /// None. For ports that only loopback or a trusted network reaches.
    Plain,
}

impl Security {
    /// TLS whose clients are checked against the material's own client roots.
    pub fn tls(tls: &ReloadingTls, client_auth: ClientAuth) -> Self {
        Self::Tls { tls: tls.clone(), client_auth, client_roots: tls.client_roots().clone() }
    }

    fn config(&self, alpn: Alpn) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        match self {
            Self::Tls { tls, client_auth, client_roots } => {
                tls.server_config_with(*client_auth, alpn, client_roots).map(Some)
            }
            Self::Plain => Ok(None),
        }
    }
}

/// What a client has shown: a chain that was found valid, or a certificate that it signed itself
/// and that proves nothing but its key.
#[derive(Debug, Clone, Default)]
pub struct PeerCertificates {
    chain: Option<Arc<[CertificateDer<'static>]>>,
    shown: Option<[u8; 32]>,
    authority: Option<[u8; 32]>,
}

impl PeerCertificates {
    /// What a client presented, leaf first. A lone certificate that its holder signed counts as
    /// no chain.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        let shown = chain.first().map(|leaf| crate::tls::sha256(leaf));
        let proves_nothing = matches!(chain.as_slice(), [] | [_])
            && chain.first().is_none_or(crate::tls::verify::is_self_signed);
        Self { chain: (!proves_nothing).then(|| chain.into()), shown, authority: None }
    }

    /// The same with the CA of `roots` that the chain comes from.
    fn vouched_by(self, roots: &RootSet, now: UnixTime) -> Self {
        Self { authority: roots.authority_of(self.chain(), now), ..self }
    }

    /// The valid chain, leaf first; empty when the client has none.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.chain.as_deref().unwrap_or_default()
    }

    /// DER of the client's own certificate, when it is valid.
    pub fn leaf(&self) -> Option<&[u8]> {
        self.chain().first().map(AsRef::as_ref)
    }

    /// SHA-256 of the certificate that the client has shown, whether or not it proves anything:
    /// what requests that are tied to a certificate carry.
    pub fn leaf_sha256(&self) -> Option<[u8; 32]> {
        self.shown
    }
}

/// What is known of the client of a connection. Every request of a server of this crate
/// carries it as an extension.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The client's address.
    pub remote: SocketAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// The client's certificates.
    pub certificates: PeerCertificates,
}

impl PeerInfo {
    /// That of a gRPC request; `None` when it did not come through a server of this crate.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }

    /// Whose share of the node the connection's calls take.
    #[must_use]
    pub fn holder(&self) -> Holder {
        match self.certificates.authority {
            Some(authority) => Holder::Authority(authority),
            None => Holder::address(self.remote),
        }
    }
}

/// A bound address whose connections are not accepted yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    local: SocketAddr,
    options: ListenOptions,
    security: Security,
    config: Option<Arc<ServerConfig>>,
    connections: Connections,
    refusals: Refusals,
}

impl Listener {
    /// Binds `host:port` (port 0 picks a free one).
    ///
    /// # Errors
    /// [`ListenError`] when the address cannot be bound or TLS not be set up.
    pub async fn bind(
        address: &str,
        options: ListenOptions,
        security: Security,
        alpn: Alpn,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: address.to_owned(), source };
        let config = security
            .config(alpn)
            .map_err(|source| ListenError::Tls { address: address.to_owned(), source })?;
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let local = tcp.local_addr().map_err(failed)?;
        let (connections, refusals) = (Connections::default(), Refusals::default());
        Ok(Self { tcp, local, options, security, config, connections, refusals })
    }

    /// Counts connections that are refused.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { refusals: refusals.clone(), ..self }
    }

    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The connections that are open.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Starts accepting. The socket is closed when the stream is dropped, at once.
    pub fn into_incoming(self) -> Incoming {
        let (sender, ready) = mpsc::channel(READY_QUEUE);
        if let Security::Tls { client_roots, .. } = &self.security {
            let watcher = drop_untrusted(client_roots.clone(), self.connections(), sender.clone());
            tokio::spawn(watcher);
        }
        let door = Arc::new(Door::new(&self));
        Incoming { tcp: self.tcp, door, sender, ready, pause: None }
    }
}

/// A connection that was accepted and has not shaken hands.
struct Hello {
    tcp: TcpStream,
    remote: SocketAddr,
    share: Share<Holder>,
}

/// Lets connections in.
struct Door {
    acceptor: Option<TlsAcceptor>,
    roots: Option<RootSet>,
    timeout: Duration,
    /// Connections that shake hands.
    greeting: Pools,
    /// Connections that are open.
    open: Pools,
    connections: Connections,
    refusals: Refusals,
}

impl Door {
    fn new(listener: &Listener) -> Self {
        let options = &listener.options;
        let strangers = options.stranger_connections;
        let quota = Quota { organizations: options.max_connections, strangers };
        Self {
            acceptor: listener.config.clone().map(TlsAcceptor::from),
            roots: match &listener.security {
                Security::Tls { client_roots, .. } => Some(client_roots.clone()),
                Security::Plain => None,
            },
            timeout: options.handshake_timeout,
            greeting: Pools::new(Quota { organizations: 0, strangers }),
            open: Pools::new(quota),
            connections: listener.connections(),
            refusals: listener.refusals.clone(),
        }
    }

    fn enter(&self, pools: &Pools, holder: &Holder) -> Option<Share<Holder>> {
        pools
            .take(holder, 1)
            .map_err(|exhausted| {
                self.refusals.count(reason::CONNECTIONS, holder);
                sampled!(warn, "over the cap", ?holder, %exhausted, "closed a connection over the cap");
            })
            .ok()
    }

    async fn admit(self: Arc<Self>, hello: Hello, ready: mpsc::Sender<ServerIo>) {
        let Hello { tcp, remote, share: greeted } = hello;
        let seen = self.roots.as_ref().map(RootSet::version);
        let Some(stream) = self.shake(tcp, remote, &ready).await else { return };
        let mut certificates = stream.certificates();
        if let Some(roots) = &self.roots {
            certificates = certificates.vouched_by(roots, UnixTime::now());
        }
        let info = PeerInfo { remote, secure: matches!(stream, Stream::Tls(_)), certificates };
        let Some(share) = self.enter(&self.open, &info.holder()) else { return };
        drop(greeted);
        let Some(entry) = self.register(&info.certificates, seen) else {
            return debug!(%remote, "closed a connection whose certificate is no longer trusted");
        };
        let closed = Box::pin(entry.token.clone().cancelled_owned());
        let limit = Box::pin(sleep(self.timeout));
        let greeting = Some(Greeting { limit, missing: GREETING_BYTES });
        let _ = ready
            .send(ServerIo { stream, info, closed, greeting, _entry: entry, _share: share })
            .await;
    }

    async fn shake(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
        ready: &mpsc::Sender<ServerIo>,
    ) -> Option<Stream> {
        let _ = tcp.set_nodelay(true);
        let Some(acceptor) = &self.acceptor else { return Some(Stream::Plain(tcp)) };
        let shaken = tokio::select! {
            shaken = timeout(self.timeout, acceptor.accept(tcp)) => shaken,
            () = ready.closed() => return None,
        };
        match shaken {
            Ok(Ok(stream)) => return Some(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                sampled!(info, "TLS handshake", %remote, %error, "TLS handshake failed");
            }
            Err(_) => sampled!(info, "slow TLS", %remote, "TLS handshake took too long"),
        }
        None
    }

    /// Puts a connection among the open ones, where every later change of the roots finds it. The
    /// roots may have changed since the handshake began, at version `seen`, and have passed by: the
    /// certificate is verified once more then.
    fn register(&self, certificates: &PeerCertificates, seen: Option<u64>) -> Option<Entry> {
        let entry = self.connections.add(certificates.clone());
        match &self.roots {
            Some(roots) if seen != Some(roots.version()) => {
                is_trusted(roots, certificates).then_some(entry)
            }
            _ => Some(entry),
        }
    }
}

/// Whether the roots accept what a client has shown; a client without a chain is for no root to
/// refuse.
fn is_trusted(roots: &RootSet, certificates: &PeerCertificates) -> bool {
    let chain = certificates.chain();
    chain.is_empty() || roots.verify_client(chain, UnixTime::now()).is_ok()
}

/// Closes connections whose client certificate a changed root set refuses.
async fn drop_untrusted(roots: RootSet, open: Connections, ready: mpsc::Sender<ServerIo>) {
    let mut version = roots.subscribe();
    loop {
        let changed = tokio::select! {
            changed = version.changed() => changed,
            () = ready.closed() => return,
        };
        if changed.is_err() {
            return;
        }
        open.close_if(|certificates| !is_trusted(&roots, certificates));
    }
}

/// The open connections of a listener. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, (PeerCertificates, CancellationToken)>,
}

impl Connections {
    /// How many are open, those that still shake hands left out.
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes all, without waiting for calls to end.
    pub fn close_all(&self) {
        self.close_if(|_| true);
    }

    fn close_if(&self, refused: impl Fn(&PeerCertificates) -> bool) {
        // Verifying takes time: it is done outside the lock.
        let entries: Vec<_> = self.0.lock().entries.values().cloned().collect();
        for (certificates, token) in entries {
            if refused(&certificates) {
                token.cancel();
            }
        }
    }

    fn add(&self, certificates: PeerCertificates) -> Entry {
        let token = CancellationToken::new();
        let mut open = self.0.lock();
        let id = open.next;
        open.next += 1;
        open.entries.insert(id, (certificates, token.clone()));
        Entry { id, token, connections: self.clone() }
    }
}

/// A connection among the open ones.
pub(crate) struct Entry {
    id: u64,
    token: CancellationToken,
    connections: Connections,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.0.lock().entries.remove(&self.id);
    }
}

/// Connections that are ready to be served. They are accepted while this is polled.
pub struct Incoming {
    tcp: TcpListener,
    door: Arc<Door>,
    sender: mpsc::Sender<ServerIo>,
    ready: mpsc::Receiver<ServerIo>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// The next connection; `None` never comes while the process lives.
    pub async fn next(&mut self) -> Option<ServerIo> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServerIo>> {
        while self.poll_accept(cx).is_ready() {}
        self.ready.poll_recv(cx)
    }

    /// Accepts one connection, and lets it shake hands.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match ready!(self.tcp.poll_accept(cx)) {
            Ok((tcp, remote)) => self.greet(tcp, remote),
            Err(error) => {
                sampled!(warn, "accept", %error, "failed to accept a connection");
                self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
            }
        }
        Poll::Ready(())
    }

    fn greet(&self, tcp: TcpStream, remote: SocketAddr) {
        let door = Arc::clone(&self.door);
        if let Some(share) = door.enter(&door.greeting, &Holder::address(remote)) {
            tokio::spawn(door.admit(Hello { tcp, remote, share }, self.sender.clone()));
        }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl futures::Stream for Incoming {
    type Item = std::io::Result<ServerIo>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_ready(cx).map(|io| io.map(Ok))
    }
}

#[cfg(test)]
mod tests;
