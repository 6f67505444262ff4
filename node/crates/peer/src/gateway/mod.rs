//! The gateway: one peer that does for a client what a transaction needs, from the endorsements to
//! the word that it is committed (Fabric: internal/pkg/gateway).
//!
//! `Evaluate` and `Endorse` ask endorsers, this peer's own in process; `Submit` hands transactions
//! to orderers over streams that stay open ([`broadcast`]); `CommitStatus` and `ChaincodeEvents`
//! wait for this peer's own blocks. What went wrong at which node is told in the details of a status
//! ([`error`]).
//!
//! # Where this differs from Fabric
//!
//! - This peer counts as up to date while it is not more than a few blocks behind the highest that is
//!   known; heights of other peers are known with a delay.
//! - An ordering service that has no leader at the moment is asked again for some seconds before the
//!   client is told; one call asks while the others wait (`submit`).
//! - An orderer or endorser that takes longer than usual is not waited for: another one is asked as
//!   well ([`hedge`]), and who gives no sign of life is asked last from then on ([`health`]).
//!   Fabric's gateway gives each node the whole timeout.
//! - Calls past the limit get RESOURCE_EXHAUSTED.

mod admission;
pub mod broadcast;
mod endorse;
mod endorser;
pub mod error;
mod evaluate;
mod events;
pub mod health;
pub mod hedge;
pub mod plan;
pub mod request;
mod selection;
mod status;
mod submit;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weft_protos::gateway::gateway_server;
use weft_protos::gateway::{
    CommitStatusResponse, EndorseRequest, EndorseResponse, EvaluateRequest, EvaluateResponse,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest, SubmitResponse,
};
use weft_rpc::budget::{Refusals, Slots};
use weft_rpc::connect::{ChannelPool, Endpoint};
use weft_rpc::tls::{CertificateDer, certificates_from_pem};
use weft_types::{ChannelId, MspId};

use crate::acl::Acl;
use crate::channel::{Channel, Channels};
use crate::discovery::endorsers::Endorsers;
use crate::membership::Member;
use broadcast::Broadcasters;
pub use endorser::{Failure, LocalEndorser, LocalRefusal};
pub use events::EventStream;
use health::{Delays, HealthTable};
use submit::OrdererCache;

/// What the gateway is put together from.
#[derive(Clone)]
pub struct Deps {
    /// The channels.
    pub channels: Arc<Channels>,
    /// Who may use it.
    pub acl: Acl,
    /// Who can endorse what.
    pub endorsers: Endorsers,
    /// This peer's endorser.
    pub endorser: Arc<dyn LocalEndorser>,
    /// Connections to peers and orderers.
    pub pool: ChannelPool,
    /// Whether these are TLS.
    pub tls: bool,
    /// Ends calls that wait.
    pub shutdown: CancellationToken,
}

/// When a second orderer is asked. Orderers answer within milliseconds.
const ORDERER_DELAYS: Delays =
    Delays { floor: Duration::from_millis(200), ceiling: Duration::from_secs(1) };
/// When a second endorser is asked. How long contracts take is up to them.
const ENDORSER_DELAYS: Delays =
    Delays { floor: Duration::from_millis(500), ceiling: Duration::from_secs(10) };

/// Settings of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Time for one endorser to answer.
    pub endorsement_timeout: Duration,
    /// Time for an orderer to answer.
    pub broadcast_timeout: Duration,
    /// Calls at one time, those that wait for commits included, shared by organizations.
    pub concurrency: usize,
    /// Bytes of one message to or from a peer or orderer.
    pub max_message_bytes: usize,
}

impl Default for Options {
    /// Fabric's defaults.
    fn default() -> Self {
        Self {
            endorsement_timeout: Duration::from_secs(30),
            broadcast_timeout: Duration::from_secs(30),
            concurrency: 500,
            max_message_bytes: 100 * 1024 * 1024,
        }
    }
}

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
    slots: Slots,
}

struct Inner {
    deps: Deps,
    options: Options,
    broadcasters: Broadcasters,
    orderers: OrdererCache,
    orderer_health: HealthTable,
    endorser_health: HealthTable,
    roots: Mutex<HashMap<(ChannelId, MspId), OrgRoots>>,
    turns: AtomicUsize,
}

/// The TLS authorities of an organization, as of a configuration.
struct OrgRoots {
    config: u64,
    roots: Vec<CertificateDer<'static>>,
}

impl Gateway {
    /// The gateway of these parts.
    #[must_use]
    pub fn new(deps: Deps, options: Options) -> Self {
        let orderer_health = HealthTable::new(ORDERER_DELAYS);
        let broadcasters = Broadcasters::new(
            deps.pool.clone(),
            deps.tls,
            options.broadcast_timeout,
            options.max_message_bytes,
            orderer_health.clone(),
        );
        let slots = Slots::new("gateway_calls", options.concurrency);
        let inner = Inner {
            deps,
            options,
            broadcasters,
            orderers: OrdererCache::default(),
            orderer_health,
            endorser_health: HealthTable::new(ENDORSER_DELAYS),
            roots: Mutex::default(),
            turns: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner), slots }
    }

    /// Counts calls that find no slot.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { slots: self.slots.counted(refusals), ..self }
    }
}

impl Inner {
    /// A channel, or what a client is told when the peer has not joined it.
    fn channel(&self, id: &str) -> Result<Arc<Channel>, String> {
        self.deps.channels.get_str(id).ok_or_else(|| {
            format!(
                "failed to get config for channel [{id}]: could not get last config for channel {id}"
            )
        })
    }

    /// Counts up, so that equal choices take turns.
    fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// How to connect to a peer of a channel: its certificate must be of its own organization.
    fn peer_endpoint(&self, channel: &Channel, peer: &Member) -> Endpoint {
        if !self.deps.tls {
            return Endpoint::plain(&peer.endpoint);
        }
        let bundle = channel.bundle();
        let msp_id = peer.identity.claimed_msp_id();
        let key = (channel.id().clone(), msp_id.clone());
        let mut cache = self.roots.lock();
        if let Some(known) = cache.get(&key)
            && known.config == bundle.sequence()
        {
            return Endpoint::with_roots(&peer.endpoint, known.roots.clone());
        }
        let org = bundle.application().and_then(|application| application.org_of(msp_id));
        let pems = org.into_iter().flat_map(|org| {
            org.org.tls_root_certs().iter().chain(org.org.tls_intermediate_certs())
        });
        // What TLS cannot use trusts nobody.
        let roots: Vec<_> = pems
            .flat_map(|pem| certificates_from_pem(pem, msp_id.as_str()).unwrap_or_default())
            .collect();
        cache.insert(key, OrgRoots { config: bundle.sequence(), roots: roots.clone() });
        Endpoint::with_roots(&peer.endpoint, roots)
    }
}

#[tonic::async_trait]
impl gateway_server::Gateway for Gateway {
    type ChaincodeEventsStream = EventStream;

    async fn endorse(
        &self,
        request: Request<EndorseRequest>,
    ) -> Result<Response<EndorseResponse>, Status> {
        let door = self.door("Endorse", &request);
        let proposal = request.get_ref().proposed_transaction.as_ref();
        let _slot = door.enter(proposal.and_then(|proposal| self.proposer(proposal)).as_ref())?;
        self.inner.endorse(request.into_inner()).await.map(Response::new)
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let door = self.door("Submit", &request);
        let envelope = request.get_ref().prepared_transaction.as_ref();
        let _slot = door.enter(envelope.and_then(|envelope| self.submitter(envelope)).as_ref())?;
        self.inner.submit(request.into_inner()).await.map(Response::new)
    }

    async fn commit_status(
        &self,
        request: Request<SignedCommitStatusRequest>,
    ) -> Result<Response<CommitStatusResponse>, Status> {
        let door = self.door("CommitStatus", &request);
        self.inner.commit_status(request.into_inner(), &door).await.map(Response::new)
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let door = self.door("Evaluate", &request);
        let proposal = request.get_ref().proposed_transaction.as_ref();
        let _slot = door.enter(proposal.and_then(|proposal| self.proposer(proposal)).as_ref())?;
        self.inner.evaluate(request.into_inner()).await.map(Response::new)
    }

    async fn chaincode_events(
        &self,
        request: Request<SignedChaincodeEventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let door = self.door("ChaincodeEvents", &request);
        self.inner.chaincode_events(request.into_inner(), &door).await.map(Response::new)
    }
}
