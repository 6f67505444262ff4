//! Listening: accepting connections within limits, the TLS handshake, and what is known of
//! each client.
//!
//! A connection counts against the cap from the moment it is accepted. It is dropped when its
//! TLS handshake, or the first bytes after it, take longer than the handshake timeout; when
//! its client certificate is no longer trusted; and when the listener is told to close all.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use weft_settings::Limits;

use crate::sampled;
use crate::tls::{Alpn, ClientAuth, ReloadingTls, RootSet, TlsError};

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
        source: io::Error,
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
    /// Connections open at one time; more are closed as soon as they are accepted.
    pub max_connections: usize,
    /// Time for the TLS handshake, and again for the first bytes after it.
    pub handshake_timeout: Duration,
}

impl From<&Limits> for ListenOptions {
    fn from(limits: &Limits) -> Self {
        Self {
            max_connections: limits.max_connections,
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
}

impl PeerCertificates {
    /// What a client presented, leaf first. A lone certificate that its holder signed counts as
    /// no chain.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        let shown = chain.first().map(|leaf| crate::tls::sha256(leaf));
        let proves_nothing = matches!(chain.as_slice(), [] | [_])
            && chain.first().is_none_or(crate::tls::verify::is_self_signed);
        Self { chain: (!proves_nothing).then(|| chain.into()), shown }
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
        Ok(Self { tcp, local, options, security, config, connections: Connections::default() })
    }

    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The connections that are open.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Starts accepting. The socket is closed when the stream is dropped.
    pub fn into_incoming(self) -> Incoming {
        let (ready, incoming) = mpsc::channel(READY_QUEUE);
        if let Security::Tls { client_roots, .. } = &self.security {
            let watcher = drop_untrusted(client_roots.clone(), self.connections(), ready.clone());
            tokio::spawn(watcher);
        }
        let task = tokio::spawn(self.accept(ready));
        Incoming { incoming, task }
    }

    async fn accept(self, ready: mpsc::Sender<ServerIo>) {
        let slots = Arc::new(Semaphore::new(self.options.max_connections));
        let acceptor = self.config.clone().map(TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                () = ready.closed() => return,
            };
            let (tcp, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    sampled!(warn, "accept", %error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                sampled!(warn, "over the cap", %remote, "closed a connection over the cap");
                continue;
            };
            let hello = Hello { tcp, remote, slot, acceptor: acceptor.clone() };
            let connections = self.connections.clone();
            tokio::spawn(hello.admit(self.options.handshake_timeout, connections, ready.clone()));
        }
    }
}

/// A connection that was accepted and has not shaken hands.
struct Hello {
    tcp: TcpStream,
    remote: SocketAddr,
    slot: OwnedSemaphorePermit,
    acceptor: Option<TlsAcceptor>,
}

impl Hello {
    async fn admit(self, limit: Duration, open: Connections, ready: mpsc::Sender<ServerIo>) {
        let remote = self.remote;
        let _ = self.tcp.set_nodelay(true);
        let stream = match self.acceptor {
            None => Stream::Plain(self.tcp),
            Some(acceptor) => {
                let shaken = tokio::select! {
                    shaken = timeout(limit, acceptor.accept(self.tcp)) => shaken,
                    () = ready.closed() => return,
                };
                match shaken {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    Ok(Err(error)) => {
                        return sampled!(info, "TLS handshake", %remote, %error, "TLS handshake failed");
                    }
                    Err(_) => {
                        return sampled!(info, "slow TLS", %remote, "TLS handshake took too long");
                    }
                }
            }
        };
        let info = PeerInfo {
            remote,
            secure: matches!(stream, Stream::Tls(_)),
            certificates: stream.certificates(),
        };
        let entry = open.add(info.certificates.clone());
        let closed = Box::pin(entry.token.clone().cancelled_owned());
        let greeting = Some(Greeting { limit: Box::pin(sleep(limit)), missing: GREETING_BYTES });
        let io = ServerIo { stream, info, closed, greeting, _entry: entry, _slot: self.slot };
        let _ = ready.send(io).await;
    }
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
        open.close_if(|certificates| {
            let chain = certificates.chain();
            !chain.is_empty() && roots.verify_client(chain, UnixTime::now()).is_err()
        });
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

/// A connection's place among the open ones.
struct Entry {
    id: u64,
    token: CancellationToken,
    connections: Connections,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.0.lock().entries.remove(&self.id);
    }
}

/// Connections that are ready to be served.
#[derive(Debug)]
pub struct Incoming {
    incoming: mpsc::Receiver<ServerIo>,
    task: tokio::task::JoinHandle<()>,
}

impl Incoming {
    /// The next connection; `None` never comes while the process lives.
    pub async fn next(&mut self) -> Option<ServerIo> {
        self.incoming.recv().await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // So that the socket is closed at once and not at the task's next turn.
        self.task.abort();
    }
}

impl futures::Stream for Incoming {
    type Item = io::Result<ServerIo>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx).map(|io| io.map(Ok))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn certificates(&self) -> PeerCertificates {
        match self {
            Self::Plain(_) => PeerCertificates::default(),
            Self::Tls(stream) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                PeerCertificates::new(chain.to_vec())
            }
        }
    }
}

/// A connection of a client.
pub struct ServerIo {
    stream: Stream,
    info: PeerInfo,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    greeting: Option<Greeting>,
    _entry: Entry,
    _slot: OwnedSemaphorePermit,
}

/// What a client has to send before it counts as alive.
struct Greeting {
    limit: Pin<Box<Sleep>>,
    missing: usize,
}

impl std::fmt::Debug for ServerIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIo").field("info", &self.info).finish()
    }
}

impl ServerIo {
    /// What is known of the client.
    pub fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// The error that ends the connection, if it has to end.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Some(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the server"));
        }
        let late = self.greeting.as_mut().is_some_and(|g| g.limit.as_mut().poll(cx).is_ready());
        late.then(|| io::Error::new(io::ErrorKind::TimedOut, "no request in time"))
    }

    fn count_greeting(&mut self, read: usize) {
        if let Some(greeting) = &mut self.greeting {
            greeting.missing = greeting.missing.saturating_sub(read);
            if greeting.missing == 0 {
                self.greeting = None;
            }
        }
    }
}

impl Connected for ServerIo {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.poll_ended(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.count_greeting(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
