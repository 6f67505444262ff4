//! `gossip.Gossip`, for peers that connect to this one (Fabric: gossip/comm/comm_impl.go).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_protos::gossip::gossip_server::Gossip;
use weft_protos::gossip::{Empty, Envelope};
use weft_rpc::budget::{Call, Holder, Refusals, Slots};
use weft_rpc::listen::PeerInfo;

use super::message::PkiId;
use super::news::Remote;
use super::{Membership, message, private};

/// Answers that wait for a slow peer. They can be large.
const BUFFER: usize = 2;
/// Streams of one peer: the membership's, those for private data, and as many that it has given up
/// and this side does not know of yet.
const STREAMS_PER_PEER: usize = 8;
/// Streams that can be open for each peer that is accepted, on average.
const MEAN_STREAMS: usize = 3;
/// Time for the other side to say who it is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone)]
pub struct GossipService {
    membership: Membership,
    streams: Slots,
    guests: Guests,
    shutdown: CancellationToken,
}

impl GossipService {
    /// The service of a membership; its streams end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(membership: Membership, shutdown: CancellationToken) -> Self {
        let streams = membership.0.options.max_streams.saturating_mul(MEAN_STREAMS);
        let streams = Slots::new("gossip_streams", streams);
        Self { membership, streams, guests: Guests::default(), shutdown }
    }

    /// Counts streams that find no slot.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { streams: self.streams.counted(refusals), ..self }
    }
}

#[tonic::async_trait]
impl Gossip for GossipService {
    type GossipStreamStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn gossip_stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::GossipStreamStream>, Status> {
        let call = Call::of(&request).cloned();
        let info = PeerInfo::of(&request);
        let secure = info.is_some_and(|info| info.secure);
        let tls = info.and_then(|info| info.certificates.leaf_sha256());
        if secure && tls.is_none() {
            return Err(Status::unauthenticated("no TLS certificate"));
        }
        let (answers, outbound) = mpsc::channel(BUFFER);
        let service = self.clone();
        let stream = Served { service, inbound: request.into_inner(), answers, tls, call };
        tokio::spawn(stream.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }

    async fn ping(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

/// One stream.
struct Served {
    service: GossipService,
    inbound: Streaming<Envelope>,
    answers: mpsc::Sender<Result<Envelope, Status>>,
    tls: Option<[u8; 32]>,
    call: Option<Call>,
}

impl Served {
    async fn run(self) {
        let shutdown = self.service.shutdown.clone();
        let answers = self.answers.clone();
        let ended = tokio::select! {
            ended = self.serve() => ended,
            () = shutdown.cancelled() => Err(Status::unavailable("the peer is shutting down")),
        };
        if let Err(status) = ended {
            let _ = answers.try_send(Err(status));
        }
    }

    async fn serve(mut self) -> Result<(), Status> {
        let membership = self.service.membership.clone();
        let own = &membership.0;
        let hello = membership.hello(&membership.speaker());
        let hello = hello.map_err(|error| Status::internal(error.to_string()))?;
        let _ = self.answers.send(Ok(hello)).await;
        let first = timeout(CONNECT_TIMEOUT, self.inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no ConnEstablish in time"))??;
        let Some(first) = first else { return Ok(()) };
        let remote = membership.authenticate(&first, self.tls);
        let remote = remote.map_err(|refusal| Status::unauthenticated(refusal.to_string()))?;
        // Not before the other side has proved who it is: strangers take no stream of members.
        let organization = Holder::organization(&remote.org);
        let holder =
            self.call.as_ref().map_or(Ok(organization.clone()), |c| c.own(&organization))?;
        let _slot = self.service.streams.enter(&holder)?;
        let too_many = || Status::resource_exhausted("too many gossip streams of one peer");
        let _guest = self.service.guests.enter(remote.id).ok_or_else(too_many)?;
        // Twice the expiry: whoever says nothing for so long is not there any more.
        let patience = own.options.expiry * 2;
        while let Ok(message) = timeout(patience, self.inbound.message()).await {
            let Some(message) = message? else { break };
            for answer in answers(&membership, &remote, &message).await {
                // Whoever takes no answers holds them in memory here.
                let sent = timeout(patience, self.answers.send(Ok(answer))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The answers to one message.
async fn answers(membership: &Membership, remote: &Remote, envelope: &Envelope) -> Vec<Envelope> {
    match message::open(envelope) {
        Ok(opened) if private::is_question(&opened) => {
            membership.answer_private(remote, opened).await.into_iter().collect()
        }
        Ok(opened) => membership.receive(remote, envelope, opened),
        Err(_) => Vec::new(),
    }
}

/// Counts the streams of each peer, so that none takes the places of all.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<BTreeMap<PkiId, usize>>>);

/// A stream that is counted.
struct Guest {
    guests: Guests,
    id: PkiId,
}

impl Guests {
    fn enter(&self, id: PkiId) -> Option<Guest> {
        let mut counts = self.0.lock();
        let count = counts.entry(id).or_default();
        if *count >= STREAMS_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Guest { guests: self.clone(), id })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock();
        let Some(count) = counts.get_mut(&self.id) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.id);
        }
    }
}
