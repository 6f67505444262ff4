//! The parts of a peer, and the routes of its listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use weft_ledger::simulator::QueryLimits;
use weft_protos::peer::deliver_server::DeliverServer;
use weft_protos::peer::endorser_server::EndorserServer;
use weft_rpc::connect::{ConnectOptions, Connector};
use weft_rpc::deliver::{DeliverMetrics, DeliverOptions, DeliverService, TlsBinding};
use weft_rpc::listen::Security;
use weft_rpc::metrics::GrpcMetrics;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_settings::{ClientAuth, PeerSettings};
use weft_types::Signer;

use super::{PeerOptions, StartError};
use crate::acl::Acl;
use crate::chaincode::package::PackageStore;
use crate::chaincode::{ChaincodeSupport, Runtime, RuntimeConfig};
use crate::channel::{ChannelDeps, Channels};
use crate::commit::{CommitMetrics, Pool};
use crate::deliver::{PeerBlocks, PeerDeliver};
use crate::deliver_client::DeliverClientConfig;
use crate::endorser::{Endorser, EndorserParts};
use crate::lifecycle::{LedgerDefinitions, Sources};
use crate::syscc::SystemChaincodes;

/// Below the data directory: installed chaincode packages.
const PACKAGES: &str = "chaincodes";

/// Listeners that are bound and do not serve yet.
pub(super) struct Listeners {
    main: GrpcServer,
    chaincode: Option<GrpcServer>,
}

/// Binds the listeners.
pub(super) async fn bind(options: &PeerOptions) -> Result<Listeners, StartError> {
    let settings = &options.settings;
    let grpc = GrpcOptions::from(&settings.limits);
    let metrics = GrpcMetrics::register(&options.registry).map_err(StartError::Metrics)?;
    let listen = |what| move |error| StartError::Listen { what, source: Box::new(error) };
    let security = Security::tls(&options.tls, settings.tls.client_auth);
    let main = GrpcServer::bind(&settings.listen, grpc, security, Some(metrics.clone()))
        .await
        .map_err(listen("clients and nodes"))?;
    let chaincode = if settings.chaincode.listen.is_empty() {
        None
    } else {
        let auth = match settings.chaincode.require_client_cert {
            true => ClientAuth::Required,
            false => ClientAuth::Optional,
        };
        let security = Security::tls(&options.tls, auth);
        let bound = GrpcServer::bind(&settings.chaincode.listen, grpc, security, Some(metrics));
        Some(bound.await.map_err(listen("contracts"))?)
    };
    Ok(Listeners { main, chaincode })
}

impl Listeners {
    pub(super) fn address(&self) -> SocketAddr {
        self.main.local_addr()
    }

    pub(super) fn chaincode_address(&self) -> Option<SocketAddr> {
        self.chaincode.as_ref().map(GrpcServer::local_addr)
    }

    /// Serves until `stop`.
    pub(super) fn serve(self, parts: &Parts, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let main = serve("clients and nodes", self.main, parts.routes(), stop);
        let chaincode = self.chaincode.map(|server| {
            let support = ChaincodeSupport::new(&parts.runtime).into_server();
            serve("contracts", server, Routes::new(support), stop)
        });
        std::iter::once(main).chain(chaincode).collect()
    }
}

fn serve(
    what: &'static str,
    server: GrpcServer,
    routes: Routes,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let stop = stop.clone().cancelled_owned();
    tokio::spawn(async move {
        if let Err(error) = server.serve(routes, stop).await {
            tracing::error!(%error, what, "a listener failed");
        }
    })
}

/// Everything that serves.
pub(super) struct Parts {
    settings: PeerSettings,
    channels: Arc<Channels>,
    runtime: Runtime,
    deliver: DeliverService<PeerBlocks>,
    endorser: Endorser,
}

impl Parts {
    pub(super) fn new(options: PeerOptions, stop: CancellationToken) -> Result<Self, StartError> {
        let PeerOptions { settings, identity, local_msp, tls, stores, registry, .. } = options;
        let limits = &settings.limits;
        let packages =
            PackageStore::open(settings.data_dir.join(PACKAGES)).map_err(StartError::Packages)?;
        let runtime = Runtime::new(RuntimeConfig::from_settings(&settings), packages.clone());
        let acl = Acl::new(local_msp, identity.msp_id().clone());
        let sources = Sources::new(packages, identity.msp_id().clone());
        let sources = Arc::new(sources.map_err(StartError::Packages)?);
        let signer: Arc<dyn Signer> = Arc::new(identity);
        let deps = ChannelDeps {
            stores,
            pool: Pool::new(settings.validation.workers).map_err(StartError::Pool)?,
            definitions: Arc::new(LedgerDefinitions),
            signer: Arc::clone(&signer),
            connector: Connector::new(
                tls.clone(),
                ConnectOptions::new(settings.deliver_client.dial_timeout, limits),
            ),
            tls,
            deliver_client: DeliverClientConfig {
                settings: settings.deliver_client.clone(),
                max_message_bytes: limits.max_message_bytes,
            },
            query_limits: QueryLimits {
                entries: settings.ledger.total_query_limit,
                ..QueryLimits::default()
            },
            history: settings.ledger.history,
            max_waiters: settings.peer_limits.gateway_concurrency,
            metrics: Some(CommitMetrics::register(&registry).map_err(StartError::Metrics)?),
        };
        let channels = Channels::new(deps);
        let binding = match settings.tls.client_auth {
            ClientAuth::Required => TlsBinding::Required,
            ClientAuth::Optional => TlsBinding::WhenSent,
        };
        let mut deliver = DeliverOptions::new(limits, binding, stop);
        deliver.metrics = Some(DeliverMetrics::register(&registry).map_err(StartError::Metrics)?);
        let blocks = PeerBlocks::new(Arc::clone(&channels), Arc::new(acl.clone()));
        let deliver = DeliverService::new(Arc::new(blocks), deliver);
        let system = SystemChaincodes::new(
            Arc::clone(&channels),
            acl.clone(),
            Arc::clone(&sources),
            settings.chaincode.max_package_bytes,
        );
        let endorser = Endorser::new(EndorserParts {
            channels: Arc::clone(&channels),
            acl,
            runtime: runtime.clone(),
            system,
            sources,
            signer,
            keeps_history: settings.ledger.history,
            max_concurrent: settings.peer_limits.concurrent_endorsements,
            time_window: limits.time_window,
        });
        Ok(Self { settings, channels, runtime, deliver, endorser })
    }

    pub(super) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// The services for clients and nodes.
    fn routes(&self) -> Routes {
        let limit = self.settings.limits.max_message_bytes;
        let deliver = DeliverServer::new(PeerDeliver::new(self.deliver.clone()))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let endorser = EndorserServer::new(self.endorser.clone())
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        Routes::new(deliver).add_service(endorser)
    }

    /// Ends what goes on without listeners.
    pub(super) async fn shutdown(self) {
        self.runtime.shutdown();
        self.channels.shutdown().await;
    }
}
