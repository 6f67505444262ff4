//! `gossip.Gossip`, for peers that connect to this one (Fabric: gossip/comm/comm_impl.go).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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
use weft_rpc::budget::{Call, Holder, Refusals, Slot, Slots};
use weft_rpc::listen::PeerInfo;
use weft_rpc::shares::{Share, Shares};
use weft_types::MspId;

use super::bound::Shown;
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
/// Streams whose other side has not said who it is.
const STRANGERS: usize = 64;
/// Bytes of answers that wait to be sent, to all peers together.
const ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Time for the other side to say who it is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone)]
pub struct GossipService {
    membership: Membership,
    /// Streams of those who have said nothing yet, by address; `None` where it is not known.
    strangers: Shares<Option<IpAddr>>,
    streams: Slots,
    answer_bytes: Shares<MspId>,
    guests: Guests,
    shutdown: CancellationToken,
}

impl GossipService {
    /// The service of a membership; its streams end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(membership: Membership, shutdown: CancellationToken) -> Self {
        let streams = membership.0.options.max_streams.saturating_mul(MEAN_STREAMS);
        Self {
            membership,
            strangers: Shares::new(STRANGERS),
            streams: Slots::new("gossip_streams", streams),
            answer_bytes: Shares::new(ANSWER_BYTES),
            guests: Guests::default(),
            shutdown,
        }
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
        let shown = match info.map(|info| (info.secure, info.certificates.leaf_sha256())) {
            Some((true, None)) => return Err(Status::unauthenticated("no TLS certificate")),
            Some((true, Some(hash))) => Shown::Certificate(hash),
            Some((false, _)) | None => Shown::Nothing,
        };
        let stranger = self.strangers.try_take(&info.map(|info| info.remote.ip()), 1);
        let stranger = stranger.map_err(|_| Status::resource_exhausted("too many new streams"))?;
        let (answers, outbound) = mpsc::channel(BUFFER);
        let service = self.clone();
        let stream = Served { service, inbound: request.into_inner(), answers, shown, call };
        tokio::spawn(stream.run(stranger));
        let outbound = Outbound { answers: ReceiverStream::new(outbound), leaving: None };
        Ok(Response::new(Box::pin(outbound)))
    }

    async fn ping(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

/// An answer, and the bytes that it takes here until it is sent.
struct Answer {
    message: Result<Envelope, Status>,
    bytes: Option<Share<MspId>>,
}

impl From<Result<Envelope, Status>> for Answer {
    fn from(message: Result<Envelope, Status>) -> Self {
        Self { message, bytes: None }
    }
}

/// Answers on their way out. The bytes of one are free when the next is asked for.
struct Outbound {
    answers: ReceiverStream<Answer>,
    leaving: Option<Share<MspId>>,
}

impl Stream for Outbound {
    type Item = Result<Envelope, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.leaving = None;
        let polled = Pin::new(&mut self.answers).poll_next(cx);
        polled.map(|answer| {
            answer.map(|Answer { message, bytes }| {
                self.leaving = bytes;
                message
            })
        })
    }
}

/// One stream.
struct Served {
    service: GossipService,
    inbound: Streaming<Envelope>,
    answers: mpsc::Sender<Answer>,
    shown: Shown,
    call: Option<Call>,
}

/// The slots of a stream whose other side is known.
struct Seat {
    _stream: Slot,
    _guest: Guest,
}

impl Served {
    async fn run(self, stranger: Share<Option<IpAddr>>) {
        let shutdown = self.service.shutdown.clone();
        let answers = self.answers.clone();
        let ended = tokio::select! {
            ended = self.serve(stranger) => ended,
            () = shutdown.cancelled() => Err(Status::unavailable("the peer is shutting down")),
        };
        if let Err(status) = ended {
            let _ = answers.try_send(Err(status).into());
        }
    }

    async fn serve(mut self, stranger: Share<Option<IpAddr>>) -> Result<(), Status> {
        let membership = self.service.membership.clone();
        let Some(remote) = self.meet().await? else { return Ok(()) };
        let _seat = self.service.seat(&remote, self.call.as_ref())?;
        drop(stranger);
        let hello = membership.hello();
        let hello = hello.map_err(|error| Status::internal(error.to_string()))?;
        let _ = self.answers.send(Ok(hello).into()).await;
        // Twice the expiry: whoever says nothing for so long is not there any more.
        let patience = membership.0.options.expiry * 2;
        while let Ok(message) = timeout(patience, self.inbound.message()).await {
            let Some(message) = message? else { break };
            for message in answers(&membership, &remote, &message).await {
                let Some(answer) = self.service.weigh(&remote, message) else { continue };
                // Whoever takes no answers holds them in memory here.
                let sent = timeout(patience, self.answers.send(answer)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Waits for the first message, and checks it. Nobody is told anything before.
    async fn meet(&mut self) -> Result<Option<Remote>, Status> {
        let first = timeout(CONNECT_TIMEOUT, self.inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no ConnEstablish in time"))??;
        let Some(first) = first else { return Ok(None) };
        let remote = self.service.membership.authenticate(&first, self.shown);
        remote.map(Some).map_err(|refusal| Status::unauthenticated(refusal.to_string()))
    }
}

impl GossipService {
    /// The slots of one more stream of a peer.
    fn seat(&self, remote: &Remote, call: Option<&Call>) -> Result<Seat, Status> {
        let organization = Holder::organization(&remote.org);
        let holder = call.map_or(Ok(organization.clone()), |call| call.own(&organization))?;
        let stream = self.streams.enter(&holder)?;
        let too_many = || Status::resource_exhausted("too many gossip streams of one peer");
        let guest = self.guests.enter(remote.id).ok_or_else(too_many)?;
        Ok(Seat { _stream: stream, _guest: guest })
    }

    /// An answer that there is room for. Where others of the organization's peers were not taken,
    /// there is none.
    fn weigh(&self, remote: &Remote, message: Envelope) -> Option<Answer> {
        let bytes = self.answer_bytes.try_take(&remote.org, message.payload.len());
        match bytes {
            Ok(bytes) => Some(Answer { message: Ok(message), bytes: Some(bytes) }),
            Err(error) => {
                tracing::debug!(peer = ?remote.id, org = %remote.org, %error, "dropped an answer");
                None
            }
        }
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
