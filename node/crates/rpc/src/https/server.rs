//! Serving an axum router over HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt;
use tracing::debug;
use weft_settings::Limits;

use crate::listen::{ListenError, ListenOptions, Listener, Security, ServerIo};
use crate::tls::Alpn;

/// Limits of an HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpsOptions {
    /// Limits of the listener; the handshake timeout also holds for each request's headers.
    pub listen: ListenOptions,
    /// Time for open requests to end at shutdown, after which connections are closed.
    pub shutdown_timeout: Duration,
}

impl From<&Limits> for HttpsOptions {
    fn from(limits: &Limits) -> Self {
        Self { listen: limits.into(), shutdown_timeout: limits.shutdown_timeout }
    }
}

/// An HTTP server that is bound and does not serve yet. Requests carry
/// [`PeerInfo`](crate::listen::PeerInfo) as an extension (`axum::Extension<PeerInfo>`).
/// Bodies are limited by axum's `DefaultBodyLimit`, 2 MB unless the router sets another.
#[derive(Debug)]
pub struct HttpsServer {
    listener: Listener,
    options: HttpsOptions,
}

impl HttpsServer {
    /// Binds `host:port` (port 0 picks a free one).
    ///
    /// # Errors
    /// [`ListenError`] when the address cannot be bound or TLS not be set up.
    pub async fn bind(
        address: &str,
        options: HttpsOptions,
        security: Security,
    ) -> Result<Self, ListenError> {
        let listener = Listener::bind(address, options.listen, security, Alpn::Http1).await?;
        Ok(Self { listener, options })
    }

    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is done, then accepts nothing more, lets open requests end for
    /// the shutdown timeout and closes what is left.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()> + Send) {
        let connections = self.listener.connections();
        let graceful = GracefulShutdown::new();
        let mut incoming = self.listener.into_incoming();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let io = tokio::select! {
                () = &mut shutdown => break,
                io = incoming.next() => io,
            };
            let Some(io) = io else { break };
            serve_connection(io, &router, self.options.listen.handshake_timeout, &graceful);
        }
        drop(incoming);
        if tokio::time::timeout(self.options.shutdown_timeout, graceful.shutdown()).await.is_err() {
            connections.close_all();
        }
    }
}

fn serve_connection(
    io: ServerIo,
    router: &Router,
    header_timeout: Duration,
    graceful: &GracefulShutdown,
) {
    let info = io.info().clone();
    let remote = info.remote;
    let service = router.clone().map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%remote, %error, "an HTTP connection ended");
        }
    });
}
