//! One Deliver call: requests in turn, each followed to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tracing::{debug, warn};
use weft_protos::common::{Block, Envelope, Status};
use weft_types::{BlockNumber, ChannelId, Timestamp, block};

use super::request::{Range, best_effort, resolve};
use super::service::{Clock, DeliverOptions};
use super::stream::{Gone, Sender};
use super::{DataType, DeliverChannel, DeliverSource, Reply, SeekRequest};
use crate::budget::{Call, Holder, Slot, Slots};
use crate::listen::PeerInfo;

/// Longest sleep until a certificate's expiry is looked at again, as the clock may be set.
const EXPIRY_CHECK: Duration = Duration::from_secs(60);

/// Who calls, and where its slot comes from.
pub(super) struct Client {
    pub peer: Option<PeerInfo>,
    pub call: Option<Call>,
    pub slots: Slots,
}

impl Client {
    /// A slot for the organization that has signed an authorized request.
    fn enter(&self, request: &SeekRequest) -> Result<Slot, tonic::Status> {
        let signer = Holder::signer(request.creator());
        let holder = self.call.as_ref().map_or(Ok(signer.clone()), |call| call.own(&signer))?;
        Ok(self.slots.enter(&holder)?)
    }
}

pub(super) struct Session<S: DeliverSource, R: Reply<S::Channel>> {
    pub source: Arc<S>,
    pub options: DeliverOptions,
    pub client: Client,
    pub reply: R,
    pub sender: Sender<R::Message>,
}

impl<S: DeliverSource, R: Reply<S::Channel>> Session<S, R> {
    pub(super) async fn run(self, requests: impl Stream<Item = Result<Envelope, tonic::Status>>) {
        if let Some(metrics) = &self.options.metrics {
            metrics.opened.inc();
        }
        // Selected against everything: a client that stops reading must not hold up the end.
        tokio::select! {
            () = self.answer(requests) => {}
            () = self.sender.closed() => {}
            () = self.options.shutdown.cancelled() => {
                let stopping = tonic::Status::unavailable("the node is shutting down");
                tokio::select! {
                    () = self.sender.fail(stopping) => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
        if let Some(metrics) = &self.options.metrics {
            metrics.closed.inc();
        }
    }

    async fn answer(&self, requests: impl Stream<Item = Result<Envelope, tonic::Status>>) {
        let mut requests = pin!(requests);
        let mut slot = None;
        while let Some(request) = requests.next().await {
            let envelope = match request {
                Ok(envelope) => envelope,
                Err(status) => {
                    debug!(%status, "a Deliver call broke off");
                    // Heard where the stream was readable and the request was not.
                    self.sender.fail(status).await;
                    return;
                }
            };
            let Ok(status) = self.deliver(envelope, &mut slot).await else { return };
            let sent = self.sender.send(self.reply.status(status)).await;
            if sent.is_err() || status != Status::Success {
                return;
            }
        }
    }

    /// The status that ends a request.
    async fn deliver(&self, envelope: Envelope, slot: &mut Option<Slot>) -> Result<Status, Gone> {
        let options = &self.options;
        let now = (options.clock)();
        let peer = self.client.peer.clone();
        let parsed = SeekRequest::parse(envelope, peer, now, options.time_window, options.binding);
        let request = match parsed {
            Ok(request) => request,
            Err(error) => {
                debug!(%error, remote = ?self.remote(), "refused a seek request");
                return Ok(Status::BadRequest);
            }
        };
        let id = ChannelId::new(request.channel()).ok();
        let found = id.and_then(|id| Some((self.source.channel(&id)?, id)));
        let Some((channel, id)) = found else { return Ok(Status::NotFound) };
        let labels = [id.as_str(), self.reply.data_type().as_str()];
        if let Some(metrics) = &options.metrics {
            metrics.received.with_label_values(&labels).inc();
        }
        let status = match self.read(&channel, &request, slot).await {
            Ok(end) => end,
            Err(Ended::Status(status)) => status,
            Err(Ended::Gone) => return Err(Gone),
            Err(Ended::Refused(status)) => {
                self.sender.fail(*status).await;
                return Err(Gone);
            }
        };
        if let Some(metrics) = &options.metrics {
            let labels = [labels[0], labels[1], status.as_str_name()];
            metrics.completed.with_label_values(&labels).inc();
        }
        Ok(status)
    }

    async fn read(
        &self,
        channel: &S::Channel,
        request: &SeekRequest,
        slot: &mut Option<Slot>,
    ) -> Result<Status, Ended> {
        let seek = request.seek().map_err(|error| {
            debug!(%error, channel = request.channel(), "refused a seek request");
            Ended::Status(Status::BadRequest)
        })?;
        let mut watched = Watched::new(channel, best_effort(&seek));
        watched.check_available()?;
        let mut access = Access {
            request,
            clock: &self.options.clock,
            data: self.reply.data_type(),
            sequence: None,
            expires: None,
        };
        access.check(channel, &mut watched.sequence)?;
        if slot.is_none() {
            *slot =
                Some(self.client.enter(request).map_err(|full| Ended::Refused(Box::new(full)))?);
        }
        let height = *watched.height.borrow_and_update();
        let range = resolve(&seek, channel.first_block(), height)?;
        let mut number = range.start;
        loop {
            watched.wait_for(channel, number, range, &mut access).await?;
            let block = self.fetch(channel, number, range.headers_only).await?;
            access.check(channel, &mut watched.sequence)?;
            let message = self.reply.block(channel, request, block).await?;
            self.sender.send(message).await?;
            if let Some(metrics) = &self.options.metrics {
                let labels = [request.channel(), access.data.as_str()];
                metrics.blocks.with_label_values(&labels).inc();
            }
            if number == range.stop {
                return Ok(Status::Success);
            }
            number = number.checked_add(1).ok_or(Status::NotFound)?;
        }
    }

    async fn fetch(
        &self,
        channel: &S::Channel,
        number: BlockNumber,
        headers_only: bool,
    ) -> Result<Block, Ended> {
        let read = channel.block(number).await.map_err(|error| {
            warn!(%error, number, "failed to read a block for Deliver");
            Status::ServiceUnavailable
        })?;
        let mut read = read.ok_or(Status::NotFound)?;
        // Configuration blocks are whole: without them nobody can check the next signatures.
        if headers_only && !block::is_config(block::transactions(&read)) {
            read.data = None;
        }
        Ok(read)
    }

    fn remote(&self) -> Option<std::net::SocketAddr> {
        self.client.peer.as_ref().map(|peer| peer.remote)
    }
}

/// Why a request is over.
enum Ended {
    Status(Status),
    /// There is no slot for the client.
    Refused(Box<tonic::Status>),
    Gone,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// The right to read, checked again when it can have changed.
struct Access<'a> {
    request: &'a SeekRequest,
    clock: &'a Clock,
    data: DataType,
    sequence: Option<u64>,
    expires: Option<Timestamp>,
}

impl Access<'_> {
    fn check(
        &mut self,
        channel: &impl DeliverChannel,
        sequence: &mut watch::Receiver<u64>,
    ) -> Result<(), Status> {
        let now = (self.clock)();
        let current = *sequence.borrow_and_update();
        if self.sequence != Some(current) {
            self.expires = channel.authorize(self.request, self.data, now).map_err(|error| {
                let channel = self.request.channel();
                debug!(channel, %error, "a client may not read the channel");
                Status::Forbidden
            })?;
            self.sequence = Some(current);
        }
        match self.expires {
            Some(expires) if now > expires => Err(Status::Forbidden),
            _ => Ok(()),
        }
    }

    /// How long to sleep before the expiry is looked at again.
    fn until_expiry(&self) -> Duration {
        let left = self.expires.map(|at| at.since((self.clock)()).unwrap_or_default());
        // A little past it, as the certificate is good up to that moment.
        left.unwrap_or(EXPIRY_CHECK).saturating_add(Duration::from_millis(1)).min(EXPIRY_CHECK)
    }
}

/// What can change while a request is served.
struct Watched {
    height: watch::Receiver<BlockNumber>,
    sequence: watch::Receiver<u64>,
    available: watch::Receiver<bool>,
    best_effort: bool,
}

impl Watched {
    fn new(channel: &impl DeliverChannel, best_effort: bool) -> Self {
        Self {
            height: channel.height(),
            sequence: channel.config_sequence(),
            available: channel.available(),
            best_effort,
        }
    }

    fn check_available(&mut self) -> Result<(), Status> {
        let available = *self.available.borrow_and_update();
        if available || self.best_effort { Ok(()) } else { Err(Status::ServiceUnavailable) }
    }

    /// Returns when block `number` is there.
    async fn wait_for(
        &mut self,
        channel: &impl DeliverChannel,
        number: BlockNumber,
        range: Range,
        access: &mut Access<'_>,
    ) -> Result<(), Status> {
        loop {
            self.check_available()?;
            if number < *self.height.borrow_and_update() {
                return Ok(());
            }
            if !range.wait {
                return Err(Status::NotFound);
            }
            access.check(channel, &mut self.sequence)?;
            let changed = tokio::select! {
                changed = self.height.changed() => changed,
                changed = self.sequence.changed() => changed,
                changed = self.available.changed() => changed,
                () = tokio::time::sleep(access.until_expiry()) => Ok(()),
            };
            changed.map_err(|_| Status::ServiceUnavailable)?;
        }
    }
}
