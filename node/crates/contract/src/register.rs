//! A contract that dials its peer (`protos.ChaincodeSupport/Register`).

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use weft_protos::peer::chaincode_support_client::ChaincodeSupportClient;

use crate::run::{RunError, env, flag, read};
use crate::session::{self, OUTBOX};
use crate::{Contract, SessionLimits};

const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Time to connect.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 pings, as Fabric's shims.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// First wait before another attempt; it doubles from one to the next.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Which peer a contract dials, and as what it registers.
#[derive(Debug, Clone)]
pub struct RegisterOptions {
    /// Id of the installed package, `label:sha256`, or `name:version` in development, as
    /// `CORE_CHAINCODE_ID_NAME`.
    pub chaincode_id: String,
    /// The peer's `host:port`, as `CORE_PEER_ADDRESS`.
    pub peer_address: String,
    /// TLS; `None` for none.
    pub tls: Option<ClientTls>,
    /// Bounds of the stream.
    pub limits: SessionLimits,
}

/// TLS of the connection to the peer.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// File of the certificates that the peer's must be signed by, PEM, as
    /// `CORE_PEER_TLS_ROOTCERT_FILE`.
    pub roots: PathBuf,
    /// Name expected in the peer's certificate, when it is not the address's host, as
    /// `CORE_PEER_TLS_SERVERHOSTOVERRIDE`.
    pub server_name: Option<String>,
    /// The contract's certificate and key, PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RegisterOptions {
    /// Reads the environment, as Fabric's shims do: TLS is on when `CORE_PEER_TLS_ENABLED` is
    /// true, with the client's key and certificate in the files that `CORE_TLS_CLIENT_KEY_FILE`
    /// and `CORE_TLS_CLIENT_CERT_FILE` name, or as base64 in those of `…_PATH`.
    ///
    /// # Errors
    /// Fails for the first variable or file that is missing or wrong.
    pub fn from_env() -> Result<Self, RunError> {
        let required = |name| env(name).ok_or(RunError::Missing(name));
        Ok(Self {
            chaincode_id: required("CORE_CHAINCODE_ID_NAME")?,
            peer_address: required("CORE_PEER_ADDRESS")?,
            tls: ClientTls::from_env()?,
            limits: SessionLimits::default(),
        })
    }
}

impl ClientTls {
    fn from_env() -> Result<Option<Self>, RunError> {
        if !flag("CORE_PEER_TLS_ENABLED")?.unwrap_or(false) {
            return Ok(None);
        }
        let roots = env("CORE_PEER_TLS_ROOTCERT_FILE")
            .ok_or(RunError::Missing("CORE_PEER_TLS_ROOTCERT_FILE"))?;
        let certificate = pem("CORE_TLS_CLIENT_CERT_FILE", "CORE_TLS_CLIENT_CERT_PATH")?;
        let key = pem("CORE_TLS_CLIENT_KEY_FILE", "CORE_TLS_CLIENT_KEY_PATH")?;
        Ok(Some(Self {
            roots: roots.into(),
            server_name: env("CORE_PEER_TLS_SERVERHOSTOVERRIDE"),
            client: certificate.zip(key),
        }))
    }

    fn config(&self) -> Result<ClientTlsConfig, RunError> {
        let roots = Certificate::from_pem(read(&self.roots)?);
        let mut config = ClientTlsConfig::new().ca_certificate(roots);
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        if let Some((certificate, key)) = &self.client {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        Ok(config)
    }
}

/// Reads PEM from the file that `plain` names, or base64 of PEM from the one that `encoded` names.
fn pem(plain: &'static str, encoded: &'static str) -> Result<Option<Vec<u8>>, RunError> {
    if let Some(path) = env(plain) {
        return read(path.as_ref()).map(Some);
    }
    let Some(path) = env(encoded) else { return Ok(None) };
    let text = read(path.as_ref())?;
    let text: Vec<u8> = text.into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map(Some).map_err(|_| RunError::Variable {
        name: encoded,
        reason: "its file does not hold base64".to_owned(),
    })
}

/// Registers a contract with its peer, and does so again whenever the connection is lost, until
/// `shutdown` is ready.
///
/// # Errors
/// Fails where the address or the TLS settings cannot be used; what a peer does is no failure.
pub async fn register(
    contract: impl Contract,
    options: RegisterOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let endpoint = endpoint(&options)?;
    let contract: Arc<dyn Contract> = Arc::new(contract);
    tokio::select! {
        () = shutdown => Ok(()),
        never = keep_registered(contract, &options, &endpoint) => match never {},
    }
}

async fn keep_registered(
    contract: Arc<dyn Contract>,
    options: &RegisterOptions,
    endpoint: &Endpoint,
) -> std::convert::Infallible {
    let mut backoff = MIN_BACKOFF;
    loop {
        let begin = Instant::now();
        let peer = &options.peer_address;
        match register_once(Arc::clone(&contract), options, endpoint).await {
            Ok(()) => tracing::info!(peer, "the peer has left"),
            Err(status) => {
                tracing::warn!(peer, code = ?status.code(), error = status.message(), "not connected");
            }
        }
        if begin.elapsed() > MAX_BACKOFF {
            backoff = MIN_BACKOFF;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

async fn register_once(
    contract: Arc<dyn Contract>,
    options: &RegisterOptions,
    endpoint: &Endpoint,
) -> Result<(), Status> {
    let channel = endpoint.connect().await.map_err(|e| {
        let source = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        Status::unavailable(format!("{e}: {source}"))
    })?;
    let limit = options.limits.max_message_bytes;
    let mut client = ChaincodeSupportClient::new(channel)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let (out, outbox) = mpsc::channel(OUTBOX);
    let (to_session, inbound) = mpsc::channel(1);
    let session = session::run(
        contract,
        &options.chaincode_id,
        out,
        ReceiverStream::new(inbound),
        options.limits,
    );
    // Some peers answer only after REGISTER, so the session begins before the call is answered.
    let stream = async move {
        let mut messages = client.register(ReceiverStream::new(outbox)).await?.into_inner();
        while let Some(message) = messages.message().await? {
            if to_session.send(Ok(message)).await.is_err() {
                break;
            }
        }
        Ok::<_, Status>(())
    };
    tokio::pin!(session, stream);
    tokio::select! {
        ended = &mut stream => ended,
        ended = &mut session => ended,
    }
}

fn endpoint(options: &RegisterOptions) -> Result<Endpoint, RunError> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", options.peer_address))
        .map_err(RunError::Address)?
        .connect_timeout(DIAL_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    match &options.tls {
        None => Ok(endpoint),
        Some(tls) => endpoint.tls_config(tls.config()?).map_err(RunError::Tls),
    }
}
