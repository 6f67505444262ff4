//! Reaching a contract: by dialling the service that its package names, or by waiting for it to
//! dial this peer. And the opening of a stream, which is the same either way.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};
use weft_protos::peer::chaincode_client::ChaincodeClient;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{ChaincodeId, ChaincodeMessage};

use super::admission::Admitted;
use super::connection::{Connection, OUTBOX};
use super::error::LaunchError;
use super::package::{self, PackageError, PackageId, Reach, StoreError};
use super::runtime::Inner;
use crate::blocking::blocking;

/// First wait after a failed attempt; it doubles from one to the next.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// Longest wait between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// HTTP/2 pings find a connection whose other end has vanished (Fabric:
/// internal/pkg/comm/config.go DefaultKeepaliveOptions).
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2 windows: large enough that a batch of query results needs no round trip.
pub(super) const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Longest id that a contract may register under.
const MAX_ID: usize = 512;

/// Reaches the contract of `id`, which the registry holds as being launched, and reports failure
/// there; success is reported by its registration.
pub(super) async fn launch(inner: Arc<Inner>, id: String) {
    let begin = Instant::now();
    let result = attempt(&inner, &id, begin + inner.config.startup_timeout).await;
    if let Some(metrics) = &inner.metrics {
        metrics.launched(&id, begin.elapsed(), result.is_ok());
    }
    if let Err(error) = result {
        tracing::warn!(chaincode = id, %error, "failed to reach a chaincode");
        inner.registry.fail(&id, error);
    }
}

async fn attempt(inner: &Arc<Inner>, id: &str, deadline: Instant) -> Result<(), LaunchError> {
    match reach(inner, id).await? {
        Reach::Dialled(target) => dial(inner, id, &target, deadline).await,
        Reach::Registers => await_registration(inner, id, deadline).await,
    }
}

/// How the contract of `id` is reached.
async fn reach(inner: &Arc<Inner>, id: &str) -> Result<Reach, LaunchError> {
    let not_installed = || match inner.config.development {
        true => Ok(Reach::Registers),
        false => Err(LaunchError::NotInstalled(id.to_owned())),
    };
    let Ok(package_id) = id.parse::<PackageId>() else { return not_installed() };
    match blocking(|| inner.packages.reach(&package_id)).await {
        Err(StoreError::NotFound(_)) => not_installed(),
        found => found.map_err(unreadable),
    }
}

fn unreadable(error: StoreError) -> LaunchError {
    match error {
        StoreError::Package(error) => LaunchError::Package(error),
        other => LaunchError::Package(PackageError::Archive {
            archive: "the package",
            reason: other.to_string(),
        }),
    }
}

async fn await_registration(
    inner: &Arc<Inner>,
    id: &str,
    deadline: Instant,
) -> Result<(), LaunchError> {
    // When it is not awaited any more, it has registered.
    let Some(mut outcome) = inner.registry.awaited(id) else { return Ok(()) };
    match timeout_at(deadline, outcome.wait_for(Option::is_some)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(LaunchError::NotRegistered(inner.config.startup_timeout)),
    }
}

/// Dials until the contract is registered, or the time is up.
async fn dial(
    inner: &Arc<Inner>,
    id: &str,
    target: &package::Connection,
    deadline: Instant,
) -> Result<(), LaunchError> {
    let endpoint = endpoint(target)?;
    let mut backoff = MIN_BACKOFF;
    loop {
        let attempt = connect_once(inner, id, target, &endpoint);
        let error = match timeout_at(deadline, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => LaunchError::Connect {
                address: target.address.clone(),
                reason: "it takes too long".to_owned(),
            },
        };
        // It may have dialled this peer instead.
        if inner.registry.get(id).is_some() {
            return Ok(());
        }
        if !error.is_transient() || Instant::now() + backoff >= deadline {
            return Err(error);
        }
        tracing::debug!(chaincode = id, %error, "trying again");
        sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

fn endpoint(target: &package::Connection) -> Result<Endpoint, LaunchError> {
    let scheme = if target.tls_required { "https" } else { "http" };
    let address = &target.address;
    let unusable = |reason: String| LaunchError::Address { address: address.clone(), reason };
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port {
        return Err(unusable("it is not host:port".to_owned()));
    }
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|e| unusable(error_chain(&e)))?
        .connect_timeout(target.dial_timeout())
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    match target.tls() {
        None => Ok(endpoint),
        Some(tls) => {
            let mut config =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(tls.root_cert));
            if let Some((certificate, key)) = tls.client {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            if !target.domain.is_empty() {
                config = config.domain_name(&target.domain);
            }
            endpoint.tls_config(config).map_err(LaunchError::Tls)
        }
    }
}

async fn connect_once(
    inner: &Arc<Inner>,
    id: &str,
    target: &package::Connection,
    endpoint: &Endpoint,
) -> Result<(), LaunchError> {
    let address = &target.address;
    let failed = |reason: String| LaunchError::Connect { address: address.clone(), reason };
    let refused = |reason: String| LaunchError::Handshake { address: address.clone(), reason };
    let channel = endpoint.connect().await.map_err(|e| failed(error_chain(&e)))?;
    let (out, outbox) = mpsc::channel(OUTBOX);
    let closed = inner.shutdown.child_token();
    let mut inbound = open_stream(inner, channel, outbox, closed.clone())
        .await
        .map_err(|status| failed(status_text(&status)))?;
    let announced = read_register(&mut inbound).await.map_err(|s| refused(status_text(&s)))?;
    let admitted = Admitted::dialled(id, &announced).map_err(|error| refused(error.to_string()))?;
    let connection = Arc::new(Connection::new(
        admitted,
        address.clone(),
        out,
        closed,
        inner.config.max_message_bytes,
    ));
    inner.registry.register(&connection).map_err(|e| refused(e.to_string()))?;
    tracing::info!(chaincode = id, address, "connected to a chaincode server");
    let inner = Arc::clone(inner);
    tokio::spawn(async move { serve(&inner, connection, inbound).await });
    Ok(())
}

async fn open_stream(
    inner: &Inner,
    channel: Channel,
    outbox: mpsc::Receiver<ChaincodeMessage>,
    closed: CancellationToken,
) -> Result<Streaming<ChaincodeMessage>, Status> {
    let limit = inner.config.max_message_bytes;
    let mut client = ChaincodeClient::new(channel)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let outbound = ReceiverStream::new(outbox).take_until(closed.cancelled_owned());
    Ok(client.connect(outbound).await?.into_inner())
}

/// Reads a registered contract's stream to its end.
pub(super) async fn serve(
    inner: &Inner,
    connection: Arc<Connection>,
    inbound: impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin,
) -> Result<(), Status> {
    let (chaincode, place) = (connection.id(), connection.place());
    let count = |is_connected| {
        if let Some(metrics) = &inner.metrics {
            metrics.connected(chaincode, is_connected);
        }
    };
    count(true);
    let result = connection.run(inbound, inner.config.keepalive).await;
    inner.registry.deregister(&connection);
    count(inner.registry.get(chaincode).is_some());
    match &result {
        Ok(()) => tracing::info!(chaincode, place, "a chaincode's stream ended"),
        Err(status) => {
            let error = status_text(status);
            tracing::warn!(chaincode, place, error, "a chaincode's stream broke");
        }
    }
    result
}

/// Reads REGISTER, with which a stream begins, and returns the id that it announces.
pub(super) async fn read_register(
    inbound: &mut (impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin),
) -> Result<String, Status> {
    loop {
        let Some(message) = inbound.next().await else {
            return Err(Status::cancelled("the stream ended before REGISTER"));
        };
        let message = message?;
        match message.r#type() {
            Type::Keepalive => {}
            Type::Register => return announced_id(message),
            other => {
                let text =
                    format!("cannot handle message {} in state created", other.as_str_name());
                return Err(Status::failed_precondition(text));
            }
        }
    }
}

fn announced_id(message: ChaincodeMessage) -> Result<String, Status> {
    let id: ChaincodeId = weft_protos::ext::decode("chaincode id", message.payload)
        .map_err(|e| Status::invalid_argument(error_chain(&e)))?;
    if id.name.is_empty() {
        return Err(Status::invalid_argument("the chaincode id's name is empty"));
    }
    if id.name.len() > MAX_ID {
        return Err(Status::invalid_argument("the chaincode id's name is too long"));
    }
    Ok(id.name)
}

/// The texts of an error and its sources: transport errors tell the cause in the last one.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

fn status_text(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}
