//! A contract as a service: peers dial it (`protos.Chaincode/Connect`).

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use weft_protos::peer::ChaincodeMessage;
use weft_protos::peer::chaincode_server::{self, ChaincodeServer};

use crate::run::{RunError, env, flag, read};
use crate::session::{self, OUTBOX};
use crate::{Contract, SessionLimits};

/// HTTP/2 windows: large enough that a batch of query results needs no round trip.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// HTTP/2 pings find a peer that has vanished.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a contract listens, and as what it registers.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Id of the installed package, `label:sha256`, as `CHAINCODE_ID`.
    pub chaincode_id: String,
    /// `host:port`, as `CHAINCODE_SERVER_ADDRESS`.
    pub address: String,
    /// TLS; `None` for none.
    pub tls: Option<ServerTls>,
    /// Bounds of each stream.
    pub limits: SessionLimits,
}

/// TLS of a contract's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// File of the certificate, PEM, as `CHAINCODE_TLS_CERT_FILE` or `CHAINCODE_TLS_CERT`.
    pub certificate: PathBuf,
    /// File of its key, PEM, as `CHAINCODE_TLS_KEY_FILE` or `CHAINCODE_TLS_KEY`.
    pub key: PathBuf,
    /// File of the certificates that a peer's must be signed by, PEM, as
    /// `CHAINCODE_TLS_CLIENT_CACERT_FILE` or `CHAINCODE_CLIENT_CA_CERT`; `None` asks for none.
    pub client_roots: Option<PathBuf>,
}

impl ServeOptions {
    /// Reads the environment. TLS is on when certificate and key are given and
    /// `CHAINCODE_TLS_DISABLED` is not true.
    ///
    /// # Errors
    /// Fails for the first variable that is missing.
    pub fn from_env() -> Result<Self, RunError> {
        let required = |name| env(name).ok_or(RunError::Missing(name));
        Ok(Self {
            chaincode_id: required("CHAINCODE_ID")?,
            address: required("CHAINCODE_SERVER_ADDRESS")?,
            tls: ServerTls::from_env()?,
            limits: SessionLimits::default(),
        })
    }
}

impl ServerTls {
    fn from_env() -> Result<Option<Self>, RunError> {
        if flag("CHAINCODE_TLS_DISABLED")?.unwrap_or(false) {
            return Ok(None);
        }
        let file = |new, old| env(new).or_else(|| env(old)).map(PathBuf::from);
        let certificate = file("CHAINCODE_TLS_CERT_FILE", "CHAINCODE_TLS_CERT");
        let key = file("CHAINCODE_TLS_KEY_FILE", "CHAINCODE_TLS_KEY");
        let client_roots = file("CHAINCODE_TLS_CLIENT_CACERT_FILE", "CHAINCODE_CLIENT_CA_CERT");
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key, client_roots })),
            (Some(_), None) => Err(RunError::Missing("CHAINCODE_TLS_KEY_FILE")),
            (None, Some(_)) => Err(RunError::Missing("CHAINCODE_TLS_CERT_FILE")),
        }
    }

    fn config(&self) -> Result<ServerTlsConfig, RunError> {
        let identity = Identity::from_pem(read(&self.certificate)?, read(&self.key)?);
        let config = ServerTlsConfig::new().identity(identity);
        Ok(match &self.client_roots {
            Some(roots) => config.client_ca_root(Certificate::from_pem(read(roots)?)),
            None => config,
        })
    }
}

/// Serves a contract until `shutdown` is ready. `started` is told the address, which matters
/// when the port is 0.
///
/// # Errors
/// Fails where the address cannot be listened on, or the TLS files cannot be used.
pub async fn serve(
    contract: impl Contract,
    options: ServeOptions,
    started: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let listen = |source| RunError::Listen { address: options.address.clone(), source };
    let listener = TcpListener::bind(&options.address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let mut server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if let Some(tls) = &options.tls {
        server = server.tls_config(tls.config()?).map_err(RunError::Tls)?;
    }
    let limit = options.limits.max_message_bytes;
    let service = ChaincodeServer::new(Service {
        contract: Arc::new(contract),
        chaincode_id: options.chaincode_id.clone(),
        limits: options.limits,
    })
    .max_decoding_message_size(limit)
    .max_encoding_message_size(limit);
    tracing::info!(chaincode = options.chaincode_id, %address, "serving");
    started(address);
    // Streams of peers last for ever, so there is nothing to be drained.
    tokio::select! {
        () = shutdown => Ok(()),
        ended = server.add_service(service).serve_with_incoming(nodelay(listener)) => {
            ended.map_err(RunError::Serve)
        }
    }
}

fn nodelay(
    listener: TcpListener,
) -> impl Stream<Item = std::io::Result<tokio::net::TcpStream>> + Send {
    TcpListenerStream::new(listener).inspect(|stream| {
        if let Ok(stream) = stream {
            // Without it small messages wait for each other; the stream works all the same.
            let _ = stream.set_nodelay(true);
        }
    })
}

struct Service {
    contract: Arc<dyn Contract>,
    chaincode_id: String,
    limits: SessionLimits,
}

#[tonic::async_trait]
impl chaincode_server::Chaincode for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = request.remote_addr();
        let (out, outbox) = mpsc::channel(OUTBOX);
        let contract = Arc::clone(&self.contract);
        let (id, limits) = (self.chaincode_id.clone(), self.limits);
        let inbound = request.into_inner();
        tokio::spawn(async move {
            match session::run(contract, &id, out, inbound, limits).await {
                Ok(()) => tracing::info!(?peer, "the peer has left"),
                Err(status) => {
                    tracing::warn!(?peer, code = ?status.code(), error = status.message(), "the stream broke");
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox).map(Ok))))
    }
}
