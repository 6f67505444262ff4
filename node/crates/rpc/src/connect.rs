//! Connections to other nodes: gRPC channels that connect when they are first used, connect
//! again after a failure, and check the server's certificate against exchangeable roots.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use lru::LruCache;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Uri};
use tower::service_fn;
use weft_settings::Limits;

use crate::tls::{Alpn, ReloadingTls, RootSet, TlsError, TlsIdentity, sha256};

/// Bytes that a server may send on one stream before they are read here. Blocks are large and
/// the number of outgoing connections small, so this is larger than a server's window.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Why a connection cannot be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `host:port`, or the server name is not one.
    #[error("failed to parse the address {address:?}")]
    Address {
        /// The address given.
        address: String,
    },
    /// TLS material cannot be used.
    #[error("failed to set up TLS for {address}: {source}")]
    Tls {
        /// The address given.
        address: String,
        /// What is wrong.
        #[source]
        source: Arc<TlsError>,
    },
    /// The TCP connection was refused, or the name was not resolved.
    #[error("failed to connect to {address}: {source}")]
    Dial {
        /// The address given.
        address: String,
        /// The system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed.
    #[error("failed to shake hands with {address}: {source}")]
    Handshake {
        /// The address given.
        address: String,
        /// The TLS library's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The server's certificate is trusted but holds another key than the one expected.
    #[error("failed to recognise {address}: its certificate has another key")]
    Pinned {
        /// The address given.
        address: String,
    },
    /// Connecting took longer than the dial timeout.
    #[error("failed to connect to {address} in {} ms", limit.as_millis())]
    Timeout {
        /// The address given.
        address: String,
        /// The dial timeout.
        limit: Duration,
    },
    /// The HTTP/2 connection failed.
    #[error("failed to open HTTP/2 to {address}: {source}")]
    Http2 {
        /// The address given.
        address: String,
        /// The transport's error.
        #[source]
        source: Arc<tonic::transport::Error>,
    },
}

impl ConnectError {
    /// Whether trying again later can help without a change of settings or certificates.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Dial { .. } | Self::Timeout { .. } | Self::Http2 { .. })
    }

    /// The connection error behind a call's status, if there is one.
    pub fn of_status(status: &tonic::Status) -> Option<&Self> {
        find(status)
    }
}

fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a ConnectError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A server to connect to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// TLS; `None` connects in the clear (chaincode services on a trusted network).
    pub tls: Option<EndpointTls>,
}

/// How a server is recognised, and what it is shown.
#[derive(Debug, Clone, Default)]
pub struct EndpointTls {
    /// The name that the server's certificate must hold; `None` takes the address's host.
    pub server_name: Option<String>,
    /// Who may have signed the server's certificate.
    pub roots: Roots,
    /// A certificate whose public key the server's must have, beside being trusted: that of
    /// a consenter in the channel's configuration (Fabric: `orderer/common/cluster`).
    pub pinned: Option<CertificateDer<'static>>,
    /// The certificate shown to the server.
    pub client: ClientIdentity,
}

/// Who may have signed a server's certificate.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// The connector's own server roots, as they are when connecting.
    #[default]
    Node,
    /// These only.
    Fixed(Vec<CertificateDer<'static>>),
}

/// The certificate shown to a server that asks for one.
#[derive(Debug, Clone, Default)]
pub enum ClientIdentity {
    /// The connector's own, as it is when connecting.
    #[default]
    Node,
    /// None.
    Anonymous,
    /// This one.
    Fixed(TlsIdentity),
}

impl Endpoint {
    /// A TLS endpoint that is checked against the connector's own roots.
    pub fn tls(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: Some(EndpointTls::default()) }
    }

    /// A TLS endpoint that is checked against these roots only.
    pub fn with_roots(address: impl Into<String>, roots: Vec<CertificateDer<'static>>) -> Self {
        let tls = EndpointTls { roots: Roots::Fixed(roots), ..EndpointTls::default() };
        Self { address: address.into(), tls: Some(tls) }
    }

    /// An endpoint without TLS.
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None }
    }

    /// What tells endpoints apart: connections to equal keys can be shared.
    fn key(&self) -> [u8; 32] {
        let mut parts = vec![sha256(self.address.as_bytes())];
        if let Some(tls) = &self.tls {
            parts.push(tls.server_name.as_deref().map_or([0; 32], |name| sha256(name.as_bytes())));
            parts.push(tls.pinned.as_deref().map_or([0; 32], sha256));
            parts.push(match &tls.client {
                ClientIdentity::Node => [0; 32],
                ClientIdentity::Anonymous => [1; 32],
                ClientIdentity::Fixed(identity) => identity.leaf_sha256(),
            });
            if let Roots::Fixed(roots) = &tls.roots {
                parts.push([1; 32]);
                parts.extend(roots.iter().map(|root| sha256(root)));
            }
        }
        sha256(parts.as_flattened())
    }
}

/// Limits of connections to other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Time for a connection and its TLS handshake.
    pub dial_timeout: Duration,
    /// A ping is sent after this long; zero sends none. Fabric's servers close connections
    /// that ping more often than once a minute.
    pub keepalive_interval: Duration,
    /// Time for a ping to be answered.
    pub keepalive_timeout: Duration,
}

impl ConnectOptions {
    /// Keepalive from a node's limits.
    pub fn new(dial_timeout: Duration, limits: &Limits) -> Self {
        Self {
            dial_timeout,
            keepalive_interval: limits.keepalive.interval,
            keepalive_timeout: limits.keepalive.timeout,
        }
    }
}

/// Makes connections with a node's TLS material.
#[derive(Debug, Clone)]
pub struct Connector {
    tls: ReloadingTls,
    options: ConnectOptions,
}

impl Connector {
    /// A connector that shows `tls`'s certificate and trusts its server roots.
    pub fn new(tls: ReloadingTls, options: ConnectOptions) -> Self {
        Self { tls, options }
    }

    /// A channel that connects when it is first used and again after failures. Calls made
    /// while the server cannot be reached end with UNAVAILABLE and a [`ConnectError`] as
    /// source (see [`ConnectError::of_status`]). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address or the TLS material cannot be used.
    pub fn channel(&self, endpoint: &Endpoint) -> Result<Channel, ConnectError> {
        let dialer = self.dialer(endpoint, Alpn::H2)?;
        let transport = self.transport(&dialer)?;
        Ok(transport.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let dialer = dialer.clone();
            async move { dialer.dial().await.map(TokioIo::new) }
        })))
    }

    /// A channel whose first connection is made now.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection cannot be made.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, ConnectError> {
        let dialer = self.dialer(endpoint, Alpn::H2)?;
        let transport = self.transport(&dialer)?;
        let address = dialer.address.clone();
        let connector = service_fn(move |_: Uri| {
            let dialer = dialer.clone();
            Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
        });
        transport.connect_with_connector(connector).await.map_err(|error| {
            let cause = find(&error).cloned();
            cause.unwrap_or_else(|| ConnectError::Http2 { address, source: Arc::new(error) })
        })
    }

    /// A connection that is made now, once, and never again: what the server has shown in its
    /// handshake holds for every call on it. When it ends, calls on it fail.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection cannot be made.
    pub async fn connection(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let dialer = self.dialer(endpoint, Alpn::H2)?;
        let transport = self.transport(&dialer)?;
        let (io, served) = dialer.dial_shown().await?;
        let (address, ended) = (dialer.address.clone(), dialer.ended());
        let once = Arc::new(Mutex::new(Some(io)));
        let connector = service_fn(move |_: Uri| {
            let io = once.lock().take().map(TokioIo::new).ok_or_else(|| ended.clone());
            async move { io }
        });
        let channel = transport.connect_with_connector(connector).await;
        let channel =
            channel.map_err(|error| ConnectError::Http2 { address, source: Arc::new(error) })?;
        Ok(Connection { channel, served })
    }

    /// The certificate that a server presents now. It is checked as for a call, then the
    /// connection is closed. `None` without TLS.
    ///
    /// # Errors
    /// [`ConnectError`] when the server cannot be reached or its certificate is not trusted.
    pub async fn served_certificate(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<CertificateDer<'static>>, ConnectError> {
        self.dialer(endpoint, Alpn::H2)?.served().await
    }

    pub(crate) fn dialer(&self, endpoint: &Endpoint, alpn: Alpn) -> Result<Dialer, ConnectError> {
        let address = endpoint.address.clone();
        let malformed = || ConnectError::Address { address: address.clone() };
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        port.parse::<u16>().map_err(|_| malformed())?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let tls = match &endpoint.tls {
            None => None,
            Some(tls) => {
                let name = tls.server_name.as_deref().unwrap_or(host);
                let name = ServerName::try_from(name.to_owned()).map_err(|_| malformed())?;
                let config = self.config(tls, alpn).map_err(|source| ConnectError::Tls {
                    address: address.clone(),
                    source: Arc::new(source),
                })?;
                Some(DialTls { name, config, pinned: tls.pinned.clone() })
            }
        };
        Ok(Dialer { address, tls, limit: self.options.dial_timeout })
    }

    fn config(&self, tls: &EndpointTls, alpn: Alpn) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = match &tls.roots {
            Roots::Node => self.tls.server_roots().clone(),
            Roots::Fixed(certificates) => RootSet::fixed(certificates.clone())?,
        };
        let other = |identity| ReloadingTls::from_parts(identity, RootSet::new(), RootSet::new());
        match &tls.client {
            ClientIdentity::Node => self.tls.client_config(&roots, alpn),
            ClientIdentity::Anonymous => other(None).client_config(&roots, alpn),
            ClientIdentity::Fixed(identity) => {
                other(Some(identity.clone())).client_config(&roots, alpn)
            }
        }
    }

    fn transport(&self, dialer: &Dialer) -> Result<tonic::transport::Endpoint, ConnectError> {
        let scheme = if dialer.tls.is_some() { "https" } else { "http" };
        let malformed = |_| ConnectError::Address { address: dialer.address.clone() };
        let uri = |scheme| format!("{scheme}://{}", dialer.address).parse::<Uri>();
        // The dialer does TLS. Where another crate turns on the transport's own TLS, it would
        // refuse to dial `https` without; requests name the true scheme all the same.
        let mut transport = tonic::transport::Endpoint::from(uri("http").map_err(malformed)?)
            .origin(uri(scheme).map_err(malformed)?)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if !self.options.keepalive_interval.is_zero() {
            transport = transport
                .http2_keep_alive_interval(self.options.keepalive_interval)
                .keep_alive_timeout(self.options.keepalive_timeout)
                .keep_alive_while_idle(true);
        }
        Ok(transport)
    }
}

/// One connection, with what the server has shown on it. It is never made again.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
    served: Option<[u8; 32]>,
}

impl Connection {
    /// What calls are made on. They all go over this connection.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// SHA-256 of the certificate (DER) that the server has shown; `None` without TLS.
    pub fn served_sha256(&self) -> Option<[u8; 32]> {
        self.served
    }
}

/// Channels to other nodes, one an endpoint. The least recently used are let go when there
/// are more than the capacity; calls open on them go on.
#[derive(Debug, Clone)]
pub struct ChannelPool {
    connector: Connector,
    channels: Arc<Mutex<LruCache<[u8; 32], Channel>>>,
}

impl ChannelPool {
    /// A pool of at most `capacity` channels (at least 1).
    pub fn new(connector: Connector, capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self { connector, channels: Arc::new(Mutex::new(LruCache::new(capacity))) }
    }

    /// The channel to an endpoint, made when there is none yet. It connects when it is used.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address or the TLS material cannot be used.
    pub fn get(&self, endpoint: &Endpoint) -> Result<Channel, ConnectError> {
        let key = endpoint.key();
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = self.connector.channel(endpoint)?;
        channels.put(key, channel.clone());
        Ok(channel)
    }

    /// Lets the channel to an endpoint go, so that the next one is made anew.
    pub fn forget(&self, endpoint: &Endpoint) {
        self.channels.lock().pop(&endpoint.key());
    }

    /// The connector of the pool.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Number of channels kept.
    pub fn len(&self) -> usize {
        self.channels.lock().len()
    }

    /// Whether no channel is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Opens connections to one address.
#[derive(Clone)]
pub(crate) struct Dialer {
    address: String,
    tls: Option<DialTls>,
    limit: Duration,
}

#[derive(Clone)]
struct DialTls {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    pinned: Option<CertificateDer<'static>>,
}

/// A connection, with or without TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Dialer {
    pub(crate) async fn dial(&self) -> Result<Box<dyn Io>, ConnectError> {
        self.dial_shown().await.map(|(io, _)| io)
    }

    /// A connection, and the hash of the certificate that the server has shown on it.
    async fn dial_shown(&self) -> Result<(Box<dyn Io>, Option<[u8; 32]>), ConnectError> {
        let late = |_| ConnectError::Timeout { address: self.address.clone(), limit: self.limit };
        timeout(self.limit, self.open()).await.map_err(late)?
    }

    /// What calls are told on a connection that is over.
    fn ended(&self) -> ConnectError {
        let over = io::Error::new(io::ErrorKind::ConnectionAborted, "the connection has ended");
        ConnectError::Dial { address: self.address.clone(), source: Arc::new(over) }
    }

    async fn served(&self) -> Result<Option<CertificateDer<'static>>, ConnectError> {
        let late = |_| ConnectError::Timeout { address: self.address.clone(), limit: self.limit };
        let Some(tls) = &self.tls else { return Ok(None) };
        let stream = timeout(self.limit, self.shake_hands(tls)).await.map_err(late)??;
        Ok(presented(&stream).map(|certificate| certificate.clone().into_owned()))
    }

    async fn open(&self) -> Result<(Box<dyn Io>, Option<[u8; 32]>), ConnectError> {
        let Some(tls) = &self.tls else { return Ok((Box::new(self.tcp().await?), None)) };
        let stream = self.shake_hands(tls).await?;
        if let Some(pinned) = &tls.pinned
            && !presented(&stream).is_some_and(|presented| same_key(presented, pinned))
        {
            return Err(ConnectError::Pinned { address: self.address.clone() });
        }
        let served = presented(&stream).map(|leaf| sha256(leaf));
        Ok((Box::new(stream), served))
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let failed =
            |error| ConnectError::Dial { address: self.address.clone(), source: Arc::new(error) };
        let tcp = TcpStream::connect(&self.address).await.map_err(failed)?;
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }

    async fn shake_hands(&self, tls: &DialTls) -> Result<TlsStream<TcpStream>, ConnectError> {
        let failed = |error| ConnectError::Handshake {
            address: self.address.clone(),
            source: Arc::new(error),
        };
        let tcp = self.tcp().await?;
        let connector = TlsConnector::from(tls.config.clone());
        connector.connect(tls.name.clone(), tcp).await.map_err(failed)
    }
}

/// The leaf that the server has shown.
fn presented(stream: &TlsStream<TcpStream>) -> Option<&CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates().and_then(<[_]>::first)
}

/// Whether two certificates hold the same public key. The certificate itself may differ: it
/// can be renewed without a change of the channel's configuration.
fn same_key(a: &CertificateDer<'_>, b: &CertificateDer<'_>) -> bool {
    let key = |certificate| {
        ParsedCertificate::try_from(certificate)
            .ok()
            .map(|parsed: ParsedCertificate<'_>| parsed.subject_public_key_info())
    };
    matches!((key(a), key(b)), (Some(a), Some(b)) if a == b)
}
