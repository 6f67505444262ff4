//! Serving gRPC: HTTP/2 limits, keepalive, metrics, the budget of callers and an orderly end.
//!
//! The size limit of messages that are received is the budget's, by method and caller. Each
//! generated service has one more, which is smaller by default: pass `limits.max_message_bytes`
//! to its `max_decoding_message_size` and `max_encoding_message_size`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};
use weft_settings::Limits;

use crate::budget::{Budget, BudgetLayer, BudgetOptions, Refusals};
use crate::deadline::DeadlineLayer;
use crate::listen::{Connections, ListenError, ListenOptions, Listener, Security};
use crate::metrics::{GrpcMetrics, MetricsLayer};
use crate::tls::Alpn;

/// Bytes that a client may send on one stream before the server has read them. Larger than
/// HTTP/2's 64 KiB for throughput over distance, small enough for many streams.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Largest sum of a request's headers, bytes.
const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve gRPC at {address}: {source}")]
pub struct ServeError {
    /// The address bound.
    pub address: SocketAddr,
    /// The transport's error.
    #[source]
    pub source: tonic::transport::Error,
}

/// Limits of a gRPC server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcOptions {
    /// Limits of the listener.
    pub listen: ListenOptions,
    /// Calls open at one time on a connection.
    pub max_concurrent_streams: u32,
    /// A ping is sent after this long; zero sends none.
    pub keepalive_interval: Duration,
    /// Time for a ping to be answered.
    pub keepalive_timeout: Duration,
    /// Time for open calls to end at shutdown, after which connections are closed.
    pub shutdown_timeout: Duration,
    /// What callers may take together.
    pub budget: BudgetOptions,
}

impl From<&Limits> for GrpcOptions {
    fn from(limits: &Limits) -> Self {
        Self {
            listen: limits.into(),
            max_concurrent_streams: limits.max_concurrent_streams,
            keepalive_interval: limits.keepalive.interval,
            keepalive_timeout: limits.keepalive.timeout,
            shutdown_timeout: limits.shutdown_timeout,
            budget: limits.into(),
        }
    }
}

/// A gRPC server that is bound and does not serve yet.
#[derive(Debug)]
pub struct GrpcServer {
    listener: Listener,
    options: GrpcOptions,
    metrics: Option<GrpcMetrics>,
    budget: Budget,
}

/// The layers of a server.
type Layers = Stack<BudgetLayer, Stack<DeadlineLayer, Stack<MetricsLayer, Identity>>>;

impl GrpcServer {
    /// Binds `host:port` (port 0 picks a free one).
    ///
    /// # Errors
    /// [`ListenError`] when the address cannot be bound or TLS not be set up.
    pub async fn bind(
        address: &str,
        options: GrpcOptions,
        security: Security,
        metrics: Option<GrpcMetrics>,
    ) -> Result<Self, ListenError> {
        let refusals = metrics.as_ref().map_or_else(Refusals::default, |m| m.refusals().clone());
        let listener = Listener::bind(address, options.listen, security, Alpn::H2).await?;
        let listener = listener.counted(&refusals);
        let budget = Budget::new(options.budget, refusals);
        Ok(Self { listener, options, metrics, budget })
    }

    /// Shares a budget with other servers and services of the process, in place of one of its own.
    #[must_use]
    pub fn with_budget(self, budget: &Budget) -> Self {
        Self { budget: budget.clone(), ..self }
    }

    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The connections that are open.
    pub fn connections(&self) -> Connections {
        self.listener.connections()
    }

    /// Serves until `shutdown` is done, then accepts nothing more, lets open calls end for
    /// the shutdown timeout and closes what is left. Streams that would go on for ever (such
    /// as Deliver) should end themselves at shutdown, or they take the whole timeout.
    ///
    /// # Errors
    /// [`ServeError`] when the transport fails.
    pub async fn serve(
        self,
        routes: Routes,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let address = self.local_addr();
        let connections = self.connections();
        let (begun, draining) = oneshot::channel();
        let deadline = self.options.shutdown_timeout;
        let server = self.builder().serve_with_incoming_shutdown(
            routes.prepare(),
            self.listener.into_incoming(),
            async {
                shutdown.await;
                let _ = begun.send(());
            },
        );
        let overdue = async {
            // An error means that the server ended by itself.
            if draining.await.is_ok() {
                tokio::time::sleep(deadline).await;
                connections.close_all();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = server => result.map_err(|source| ServeError { address, source }),
            () = overdue => Ok(()),
        }
    }

    fn builder(&self) -> Server<Layers> {
        let interval = self.options.keepalive_interval;
        Server::builder()
            .max_concurrent_streams(self.options.max_concurrent_streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .http2_keepalive_interval(Some(interval).filter(|interval| !interval.is_zero()))
            .http2_keepalive_timeout(Some(self.options.keepalive_timeout))
            .layer(MetricsLayer(self.metrics.clone()))
            .layer(DeadlineLayer)
            .layer(BudgetLayer(self.budget.clone()))
    }
}
