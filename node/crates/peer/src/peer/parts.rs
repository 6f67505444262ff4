//! The parts of a peer, and the routes of its listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use weft_channels::Stores;
use weft_ledger::simulator::QueryLimits;
use weft_msp::CurrentIdentity;
use weft_protos::discovery::discovery_server::DiscoveryServer;
use weft_protos::gateway::gateway_server::GatewayServer;
use weft_protos::gossip::gossip_server::GossipServer;
use weft_protos::peer::deliver_server::DeliverServer;
use weft_protos::peer::endorser_server::EndorserServer;
use weft_rpc::budget::{Budget, Refusals};
use weft_rpc::connect::{ChannelPool, ConnectOptions, Connector};
use weft_rpc::deliver::{DeliverMetrics, DeliverOptions, DeliverService, TlsBinding};
use weft_rpc::listen::Security;
use weft_rpc::metrics::GrpcMetrics;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::ReloadingTls;
use weft_settings::{ClientAuth, PeerSettings};
use weft_types::MspId;

use super::chaincodes::Runnable;
use super::{PeerOptions, StartError};
use crate::acl::Acl;
use crate::chaincode::package::PackageStore;
use crate::chaincode::{ChaincodeSupport, Runtime, RuntimeConfig, RuntimeMetrics};
use crate::channel::{ChannelDeps, Channels};
use crate::commit::{CommitMetrics, Pool};
use crate::deliver::{PeerBlocks, PeerDeliver};
use crate::deliver_client::DeliverClientConfig;
use crate::discovery::endorsers::Endorsers;
use crate::discovery::{self, Discovery};
use crate::endorser::{Endorser, EndorserMetrics, EndorserParts};
use crate::gateway::{self, Gateway};
use crate::lifecycle::{LedgerDefinitions, Sources};
use crate::membership::{self, GossipService, Membership, Place};
use crate::private::{Later, reconcile};
use crate::syscc::SystemChaincodes;

/// Below the data directory: installed chaincode packages.
const PACKAGES: &str = "chaincodes";

/// Listeners that are bound and do not serve yet.
pub(super) struct Listeners {
    main: GrpcServer,
    chaincode: Option<GrpcServer>,
    refusals: Refusals,
}

/// Binds the listeners.
pub(super) async fn bind(options: &PeerOptions) -> Result<Listeners, StartError> {
    let settings = &options.settings;
    let grpc = GrpcOptions::from(&settings.limits);
    let metrics = GrpcMetrics::register(&options.registry).map_err(StartError::Metrics)?;
    let refusals = metrics.refusals().clone();
    let budget = Budget::new((&settings.limits).into(), refusals.clone());
    let listen = |what| move |error| StartError::Listen { what, source: Box::new(error) };
    let security = Security::tls(&options.tls, settings.tls.client_auth);
    let main = GrpcServer::bind(&settings.listen, grpc, security, Some(metrics.clone()))
        .await
        .map_err(listen("clients and nodes"))?
        .with_budget(&budget);
    let chaincode = if settings.chaincode.listen.is_empty() {
        None
    } else {
        let security = Security::tls(&options.contract_tls, contract_auth(settings));
        let bound = GrpcServer::bind(&settings.chaincode.listen, grpc, security, Some(metrics));
        Some(bound.await.map_err(listen("contracts"))?.with_budget(&budget))
    };
    Ok(Listeners { main, chaincode, refusals })
}

/// What contracts that register must show.
fn contract_auth(settings: &PeerSettings) -> ClientAuth {
    if !settings.chaincode.development {
        return ClientAuth::Required;
    }
    tracing::warn!(
        listen = settings.chaincode.listen,
        "DEVELOPMENT MODE: chaincode.development is on, so that whoever reaches this port can \
         register as any contract and has its answers endorsed; never use it with real data"
    );
    ClientAuth::Optional
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
        let main = serve("clients and nodes", self.main, parts.routes(&self.refusals), stop);
        let chaincode = self.chaincode.map(|server| {
            let support = ChaincodeSupport::new(&parts.runtime).into_server();
            serve("contracts", server, Routes::new(support), stop)
        });
        [main, parts.background()].into_iter().chain(chaincode).collect()
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
    identity: CurrentIdentity,
    channels: Arc<Channels>,
    runtime: Runtime,
    deliver: DeliverService<PeerBlocks>,
    endorser: Endorser,
    membership: Membership,
    gateway: Gateway,
    discovery: Discovery,
    stop: CancellationToken,
}

/// What several parts need.
struct Common<'a> {
    settings: &'a PeerSettings,
    acl: Acl,
    identity: CurrentIdentity,
    tls: ReloadingTls,
    registry: &'a Registry,
    stop: &'a CancellationToken,
    /// Other members of collections. Channels and the endorser are there before the membership,
    /// which is put in when it is.
    exchange: Later,
}

impl Parts {
    pub(super) fn new(options: PeerOptions, stop: CancellationToken) -> Result<Self, StartError> {
        let PeerOptions { settings, identity, local_msp, tls, stores, registry, .. } = options;
        let msp_id = identity.current().msp_id().clone();
        let packages =
            PackageStore::open(settings.data_dir.join(PACKAGES)).map_err(StartError::Packages)?;
        let runtime = Runtime::new(
            RuntimeConfig::from_settings(&settings),
            packages.clone(),
            Some(RuntimeMetrics::register(&registry).map_err(StartError::Metrics)?),
        );
        let sources =
            Arc::new(Sources::new(packages, msp_id.clone()).map_err(StartError::Packages)?);
        let common = Common {
            settings: &settings,
            acl: Acl::new(local_msp, msp_id),
            identity,
            tls,
            registry: &registry,
            stop: &stop,
            exchange: Later::new(),
        };
        let channels = common.channels(stores)?;
        let deliver = common.deliver(&channels)?;
        let endorser = common.endorser(&channels, &runtime, &sources)?;
        let pool = common.pool();
        let membership = common.membership(&channels, sources, &pool)?;
        common.exchange.set(Arc::new(membership.clone()));
        let endorsers = Endorsers::new(membership.clone());
        let gateway = common.gateway(&channels, &endorsers, &endorser, pool);
        let discovery = common.discovery(&channels, endorsers);
        let identity = common.identity.clone();
        Ok(Self {
            settings,
            identity,
            channels,
            runtime,
            deliver,
            endorser,
            membership,
            gateway,
            discovery,
            stop,
        })
    }

    pub(super) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// What works without being asked, until the peer stops.
    pub(super) fn background(&self) -> JoinHandle<()> {
        let membership = self.membership.clone().run(self.stop.clone());
        let reconciler = reconcile::run(
            Arc::clone(&self.channels),
            Arc::new(self.membership.clone()),
            self.identity.clone(),
            self.settings.private_data.reconcile_interval,
            self.stop.clone(),
        );
        tokio::spawn(async {
            tokio::join!(membership, reconciler);
        })
    }

    /// The services for clients and nodes.
    fn routes(&self, refusals: &Refusals) -> Routes {
        let limit = self.settings.limits.max_message_bytes;
        let deliver = DeliverServer::new(PeerDeliver::new(self.deliver.clone().counted(refusals)))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let endorser = EndorserServer::new(self.endorser.clone().counted(refusals))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let gossip = GossipService::new(self.membership.clone(), self.stop.clone());
        let gossip = gossip.counted(refusals);
        let gossip_limit = self.membership.message_limit().min(limit);
        let gossip = GossipServer::new(gossip)
            .max_decoding_message_size(gossip_limit)
            .max_encoding_message_size(gossip_limit);
        let mut routes = Routes::new(deliver).add_service(endorser).add_service(gossip);
        if self.settings.gateway.enabled {
            let gateway = GatewayServer::new(self.gateway.clone().counted(refusals))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit);
            routes = routes.add_service(gateway);
        }
        if self.settings.discovery.enabled {
            let discovery = DiscoveryServer::new(self.discovery.clone().counted(refusals))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit);
            routes = routes.add_service(discovery);
        }
        routes
    }

    /// Ends what goes on without listeners.
    pub(super) async fn shutdown(self) {
        self.runtime.shutdown();
        self.channels.shutdown().await;
    }
}

impl Common<'_> {
    fn channels(&self, stores: Arc<dyn Stores>) -> Result<Arc<Channels>, StartError> {
        let settings = self.settings;
        let connecting =
            ConnectOptions::new(settings.deliver_client.dial_timeout, &settings.limits);
        let metrics = CommitMetrics::register(self.registry).map_err(StartError::Metrics)?;
        Ok(Channels::new(ChannelDeps {
            stores,
            pool: Pool::new(settings.validation.workers).map_err(StartError::Pool)?,
            definitions: Arc::new(LedgerDefinitions),
            identity: self.identity.clone(),
            connector: Connector::new(self.tls.clone(), connecting),
            tls: self.tls.clone(),
            deliver_client: DeliverClientConfig {
                settings: settings.deliver_client.clone(),
                max_message_bytes: settings.limits.max_message_bytes,
            },
            query_limits: QueryLimits {
                entries: settings.ledger.total_query_limit,
                page_bytes: settings.ledger.query_page_bytes,
                ..QueryLimits::default()
            },
            history: settings.ledger.history,
            max_waiters: settings.peer_limits.gateway_concurrency,
            metrics: Some(metrics),
            exchange: self.exchange.clone(),
            pull_timeout: settings.private_data.pull_timeout,
        }))
    }

    fn deliver(&self, channels: &Arc<Channels>) -> Result<DeliverService<PeerBlocks>, StartError> {
        let binding = match self.settings.tls.client_auth {
            ClientAuth::Required => TlsBinding::Required,
            ClientAuth::Optional => TlsBinding::WhenSent,
        };
        let mut options = DeliverOptions::new(&self.settings.limits, binding, self.stop.clone());
        let metrics = DeliverMetrics::register(self.registry).map_err(StartError::Metrics)?;
        options.metrics = Some(metrics);
        let blocks = PeerBlocks::new(Arc::clone(channels), Arc::new(self.acl.clone()));
        Ok(DeliverService::new(Arc::new(blocks), options))
    }

    fn endorser(
        &self,
        channels: &Arc<Channels>,
        runtime: &Runtime,
        sources: &Arc<Sources>,
    ) -> Result<Endorser, StartError> {
        let settings = self.settings;
        let system = SystemChaincodes::new(
            Arc::clone(channels),
            self.acl.clone(),
            Arc::clone(sources),
            settings.chaincode.max_package_bytes,
        )
        .with_message_limit(settings.limits.max_message_bytes);
        let endorser = Endorser::new(EndorserParts {
            channels: Arc::clone(channels),
            acl: self.acl.clone(),
            runtime: runtime.clone(),
            exchange: Some(Arc::new(self.exchange.clone())),
            system,
            sources: Arc::clone(sources),
            identity: self.identity.clone(),
            keeps_history: settings.ledger.history,
            max_concurrent: settings.peer_limits.concurrent_endorsements,
            time_window: settings.limits.time_window,
        });
        let metrics = EndorserMetrics::register(self.registry).map_err(StartError::Metrics)?;
        Ok(endorser.with_metrics(metrics))
    }

    /// Connections to other peers and, for transactions, to orderers.
    fn pool(&self) -> ChannelPool {
        let settings = self.settings;
        let connecting = ConnectOptions::new(settings.gateway.dial_timeout, &settings.limits);
        let connector = Connector::new(self.tls.clone(), connecting);
        ChannelPool::new(connector, settings.peer_limits.outgoing_connections)
    }

    fn membership(
        &self,
        channels: &Arc<Channels>,
        sources: Arc<Sources>,
        pool: &ChannelPool,
    ) -> Result<Membership, StartError> {
        let settings = self.settings;
        let mut options = membership::Options::new(&settings.external_address);
        let known = settings.known_peers.iter().map(|peer| {
            let org = MspId::new(&peer.msp_id).map_err(StartError::KnownPeer)?;
            Ok(Place { org, address: peer.address.clone() })
        });
        options.known = known.collect::<Result<_, _>>()?;
        options.interval = settings.discovery.refresh_interval;
        options.private_data = settings.private_data.clone();
        let deps = membership::Deps {
            channels: Arc::clone(channels),
            acl: self.acl.clone(),
            identity: self.identity.clone(),
            chaincodes: Arc::new(Runnable(sources)),
            tls: Some(self.tls.clone()),
            connector: pool.connector().clone(),
        };
        Membership::new(deps, options).map_err(StartError::Membership)
    }

    fn gateway(
        &self,
        channels: &Arc<Channels>,
        endorsers: &Endorsers,
        endorser: &Endorser,
        pool: ChannelPool,
    ) -> Gateway {
        let settings = self.settings;
        let options = gateway::Options {
            endorsement_timeout: settings.gateway.endorsement_timeout,
            broadcast_timeout: settings.gateway.broadcast_timeout,
            concurrency: settings.peer_limits.gateway_concurrency,
            max_message_bytes: settings.limits.max_message_bytes,
        };
        let deps = gateway::Deps {
            channels: Arc::clone(channels),
            acl: self.acl.clone(),
            endorsers: endorsers.clone(),
            endorser: Arc::new(endorser.clone()),
            pool,
            tls: true,
            shutdown: self.stop.clone(),
        };
        Gateway::new(deps, options)
    }

    fn discovery(&self, channels: &Arc<Channels>, endorsers: Endorsers) -> Discovery {
        let options = discovery::Options {
            org_members_allowed: self.settings.discovery.org_members_allowed_access,
            concurrency: self.settings.peer_limits.discovery_concurrency,
            answer_bytes: self.settings.peer_limits.discovery_answer_bytes,
        };
        Discovery::new(Arc::clone(channels), self.acl.clone(), endorsers, options)
    }
}
