//! An orderer on sockets: the gRPC listener, the participation API, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info};
use weft_channels::{State, Stores};
use weft_ledger::kv::KvError;
use weft_msp::CurrentIdentity;
use weft_ops::channel_states::ChannelStates;
use weft_ops::health::Health;
use weft_protos::orderer::atomic_broadcast_server::AtomicBroadcastServer;
use weft_protos::orderer::cluster_server::ClusterServer;
use weft_rpc::budget::Budget;
use weft_rpc::connect::{ChannelPool, ConnectOptions, Connector};
use weft_rpc::deliver::{DeliverMetrics, DeliverOptions, DeliverService, TlsBinding};
use weft_rpc::https::{HttpsOptions, HttpsServer};
use weft_rpc::listen::{ListenError, Security};
use weft_rpc::metrics::GrpcMetrics;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::{ClientAuth, ReloadingTls, RootSet, TlsError, TlsFiles};
use weft_settings::OrdererSettings;

use crate::broadcast::BroadcastService;
use crate::chain::Context;
use crate::cluster::ClusterService;
use crate::metrics::Metrics;
use crate::participation;
use crate::registrar::Registrar;

/// Connections kept to other orderers.
const CONNECTIONS: usize = 256;

/// Why an orderer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A metric's name is taken.
    #[error("failed to register the metrics: {0}")]
    Metrics(#[source] prometheus::Error),
    /// A listener cannot be bound.
    #[error("failed to start the {listener} listener: {source}")]
    Listen {
        /// Which.
        listener: &'static str,
        /// Why not.
        #[source]
        source: Box<ListenError>,
    },
    /// The channels' stores cannot be listed.
    #[error("failed to list the channels: {0}")]
    List(#[source] KvError),
    /// A file with administrators' authorities cannot be read.
    #[error("failed to read the roots of the participation API: {0}")]
    Roots(#[source] Box<TlsError>),
}

/// What an orderer is made of.
pub struct OrdererParts {
    /// Its settings, validated, with paths resolved.
    pub settings: OrdererSettings,
    /// What it signs blocks and requests with; each takes the certificate that is current then.
    pub identity: CurrentIdentity,
    /// Its TLS certificate, and the roots that channels add theirs to.
    pub tls: ReloadingTls,
    /// The authorities of the certificates that the participation API accepts: the client roots
    /// of [`admin_tls`], not those of `tls`, which channels add to.
    pub admin_roots: RootSet,
    /// Where channels are stored.
    pub stores: Arc<dyn Stores>,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where health checks are registered.
    pub health: Health,
}

/// What administrators' TLS certificates are checked against: the authorities of
/// `participation.rootCas`, or else those of clients, and the revocation lists of `tls.crls`. It
/// follows the files when it is watched.
///
/// # Errors
/// [`StartError::Roots`].
pub fn admin_tls(settings: &OrdererSettings) -> Result<ReloadingTls, StartError> {
    let own = &settings.participation.root_cas;
    let mut files = TlsFiles::from(&settings.tls);
    if !own.is_empty() {
        files.client_root_cas.clone_from(own);
    }
    ReloadingTls::load(files).map_err(|error| StartError::Roots(Box::new(error)))
}

/// Starts orderers.
#[derive(Debug)]
pub struct Orderer;

/// A running orderer. Dropping it leaves it running; see [`OrdererHandle::shutdown`].
pub struct OrdererHandle {
    grpc: SocketAddr,
    participation: Option<SocketAddr>,
    registrar: Arc<Registrar>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Orderer {
    /// Opens all channels, then binds and serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: OrdererParts) -> Result<OrdererHandle, StartError> {
        let metrics = Metrics::register(&parts.registry).map_err(StartError::Metrics)?;
        let deliver_metrics =
            DeliverMetrics::register(&parts.registry).map_err(StartError::Metrics)?;
        let grpc_metrics = GrpcMetrics::register(&parts.registry).map_err(StartError::Metrics)?;
        let settings = &parts.settings;
        let options = ConnectOptions::new(settings.cluster.dial_timeout, &settings.limits);
        let context = Arc::new(Context {
            pool: ChannelPool::new(Connector::new(parts.tls.clone(), options), CONNECTIONS),
            settings: settings.clone(),
            identity: parts.identity.clone(),
            tls: parts.tls.clone(),
            metrics: metrics.clone(),
            runtime: tokio::runtime::Handle::current(),
        });
        let states = ChannelStates::register(&parts.registry, &State::WORDS);
        let states = states.map_err(StartError::Metrics)?;
        let registrar = Arc::new(Registrar::new(context, parts.stores.clone(), states));
        let shutdown = CancellationToken::new();
        let budget = Budget::new((&settings.limits).into(), grpc_metrics.refusals().clone());
        let server = bind_grpc(&parts, grpc_metrics).await?.with_budget(&budget);
        let admin = bind_participation(&parts).await?;
        registrar.open_all().await.map_err(StartError::List)?;
        // No check: a restart mends no channel that is not opened again anyway, and would take
        // the others down.
        let shown = registrar.clone();
        parts.health.register_parts("channels", move || shown.failures());
        let routes = routes(&parts, &registrar, deliver_metrics, metrics, (&budget, &shutdown));
        let (grpc, mut tasks) = (server.local_addr(), Vec::new());
        let stopped = shutdown.clone();
        tasks.push(tokio::spawn(async move {
            if let Err(error) = server.serve(routes, stopped.cancelled_owned()).await {
                error!(%error, "the gRPC listener ended");
            }
        }));
        let participation = admin.as_ref().map(HttpsServer::local_addr);
        if let Some(admin) = admin {
            let limit = settings.participation.max_request_body_bytes;
            let router = participation::router(registrar.clone(), limit);
            let stopped = shutdown.clone();
            tasks.push(tokio::spawn(async move {
                admin.serve(router, stopped.cancelled_owned()).await;
            }));
        }
        info!(%grpc, ?participation, "the orderer serves");
        Ok(OrdererHandle { grpc, participation, registrar, shutdown, tasks })
    }
}

async fn bind_grpc(parts: &OrdererParts, metrics: GrpcMetrics) -> Result<GrpcServer, StartError> {
    let settings = &parts.settings;
    let security = Security::tls(&parts.tls, settings.tls.client_auth);
    let options = GrpcOptions::from(&settings.limits);
    GrpcServer::bind(&settings.listen, options, security, Some(metrics))
        .await
        .map_err(|error| StartError::Listen { listener: "gRPC", source: Box::new(error) })
}

async fn bind_participation(parts: &OrdererParts) -> Result<Option<HttpsServer>, StartError> {
    let settings = &parts.settings;
    if settings.participation.listen.is_empty() {
        return Ok(None);
    }
    let security = Security::Tls {
        tls: parts.tls.clone(),
        client_auth: ClientAuth::Required,
        client_roots: parts.admin_roots.clone(),
    };
    let options = HttpsOptions::from(&settings.limits);
    HttpsServer::bind(&settings.participation.listen, options, security)
        .await
        .map(Some)
        .map_err(|error| StartError::Listen { listener: "participation", source: Box::new(error) })
}

fn routes(
    parts: &OrdererParts,
    registrar: &Arc<Registrar>,
    deliver_metrics: DeliverMetrics,
    metrics: Metrics,
    (budget, shutdown): (&Budget, &CancellationToken),
) -> Routes {
    let settings = &parts.settings;
    let limit = settings.limits.max_message_bytes;
    let binding = match settings.tls.client_auth {
        ClientAuth::Required => TlsBinding::Required,
        ClientAuth::Optional => TlsBinding::WhenSent,
    };
    let mut options = DeliverOptions::new(&settings.limits, binding, shutdown.clone());
    options.metrics = Some(deliver_metrics);
    let broadcast = BroadcastService {
        registrar: registrar.clone(),
        deliver: DeliverService::new(registrar.clone(), options).counted(budget.refusals()),
        shutdown: shutdown.clone(),
        in_flight: settings.orderer_limits.broadcast_in_flight,
        slots: budget.slots("broadcast_streams", settings.orderer_limits.broadcast_streams),
        metrics,
    };
    let broadcast = AtomicBroadcastServer::new(broadcast)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let cluster = ClusterServer::new(ClusterService::new(registrar.clone(), shutdown.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    Routes::new(broadcast).add_service(cluster)
}

impl OrdererHandle {
    /// The address of the gRPC listener.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// The address of the participation API, if it is on.
    #[must_use]
    pub fn participation_addr(&self) -> Option<SocketAddr> {
        self.participation
    }

    /// The channels.
    #[must_use]
    pub fn registrar(&self) -> &Arc<Registrar> {
        &self.registrar
    }

    /// Ends the orderer: leadership is handed over where possible, what was ordered is written,
    /// open calls get their time to end.
    pub async fn shutdown(self) {
        self.registrar.stop().await;
        self.shutdown.cancel();
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
