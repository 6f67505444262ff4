//! The service: options, metrics, and starting a session for each call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::Stream;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_protos::common::Envelope;
use weft_settings::Limits;
use weft_types::Timestamp;

use super::session::{Client, Session};
use super::stream::{DeliverStream, queue};
use super::{DeliverSource, Reply, TlsBinding};
use crate::budget::{Call, Refusals, Slots};
use crate::listen::PeerInfo;
use crate::metrics::field;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| Timestamp::from_system_time(SystemTime::now()))
}

/// Limits and surroundings of a Deliver service.
#[derive(Clone)]
pub struct DeliverOptions {
    /// Largest difference between a request's time and the node's.
    pub time_window: Duration,
    /// Whether requests are bound to the client's TLS certificate.
    pub binding: TlsBinding,
    /// Calls open at one time whose request was authorized, shared by organizations; more get
    /// RESOURCE_EXHAUSTED.
    pub max_streams: usize,
    /// Blocks read ahead for one call.
    pub buffer: usize,
    /// Tells the time.
    pub clock: Clock,
    /// Ends all calls with UNAVAILABLE, so that a server can stop.
    pub shutdown: CancellationToken,
    /// Metrics, if wanted.
    pub metrics: Option<DeliverMetrics>,
}

impl DeliverOptions {
    /// A node's limits, the system's clock, and no metrics.
    pub fn new(limits: &Limits, binding: TlsBinding, shutdown: CancellationToken) -> Self {
        Self {
            time_window: limits.time_window,
            binding,
            max_streams: limits.deliver_streams,
            buffer: limits.deliver_buffer,
            clock: system_clock(),
            shutdown,
            metrics: None,
        }
    }
}

impl std::fmt::Debug for DeliverOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliverOptions")
            .field("time_window", &self.time_window)
            .field("binding", &self.binding)
            .field("max_streams", &self.max_streams)
            .field("buffer", &self.buffer)
            .finish_non_exhaustive()
    }
}

/// Counters of Deliver calls, with the names of Fabric's.
#[derive(Debug, Clone)]
pub struct DeliverMetrics {
    pub(super) opened: IntCounter,
    pub(super) closed: IntCounter,
    pub(super) received: IntCounterVec,
    pub(super) completed: IntCounterVec,
    pub(super) blocks: IntCounterVec,
}

impl DeliverMetrics {
    /// Makes the counters `deliver_streams_opened`, `deliver_streams_closed`,
    /// `deliver_requests_received`, `deliver_requests_completed` and `deliver_blocks_sent` in
    /// a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let request = [field::CHANNEL, field::DATA_TYPE];
        let ended = [field::CHANNEL, field::DATA_TYPE, field::STATUS];
        let vec = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            opened: IntCounter::new("deliver_streams_opened", "Deliver calls begun.")?,
            closed: IntCounter::new("deliver_streams_closed", "Deliver calls ended.")?,
            received: vec("deliver_requests_received", "Seek requests received.", &request)?,
            completed: vec("deliver_requests_completed", "Seek requests answered.", &ended)?,
            blocks: vec("deliver_blocks_sent", "Blocks sent.", &request)?,
        };
        registry.register(Box::new(metrics.opened.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.received.clone()))?;
        registry.register(Box::new(metrics.completed.clone()))?;
        registry.register(Box::new(metrics.blocks.clone()))?;
        Ok(metrics)
    }
}

/// Answers Deliver calls. Clones share the source and the limits.
pub struct DeliverService<S> {
    source: Arc<S>,
    options: DeliverOptions,
    slots: Slots,
}

impl<S> Clone for DeliverService<S> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            options: self.options.clone(),
            slots: self.slots.clone(),
        }
    }
}

impl<S> std::fmt::Debug for DeliverService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliverService").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<S: DeliverSource> DeliverService<S> {
    /// A service over the channels of `source`.
    pub fn new(source: Arc<S>, options: DeliverOptions) -> Self {
        let slots = Slots::new("deliver_streams", options.max_streams);
        Self { source, options, slots }
    }

    /// Counts calls that find no slot.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { slots: self.slots.counted(refusals), ..self }
    }

    /// Answers a gRPC call. It takes a slot when its first request was authorized.
    ///
    /// # Errors
    /// None; what goes wrong ends the stream.
    pub fn handle<R: Reply<S::Channel>>(
        &self,
        request: Request<Streaming<Envelope>>,
        reply: R,
    ) -> Result<Response<DeliverStream<R::Message>>, Status> {
        let client = Client {
            peer: PeerInfo::of(&request).cloned(),
            call: Call::of(&request).cloned(),
            slots: self.slots.clone(),
        };
        Ok(Response::new(self.start(client, request.into_inner(), reply)))
    }

    /// Answers requests from any stream. The work is a task of its own, which ends when the
    /// responses are dropped. Must be called within a tokio runtime.
    pub fn serve<I, R>(
        &self,
        peer: Option<PeerInfo>,
        requests: I,
        reply: R,
    ) -> DeliverStream<R::Message>
    where
        I: Stream<Item = Result<Envelope, Status>> + Send + 'static,
        R: Reply<S::Channel>,
    {
        self.start(Client { peer, call: None, slots: self.slots.clone() }, requests, reply)
    }

    fn start<I, R>(&self, client: Client, requests: I, reply: R) -> DeliverStream<R::Message>
    where
        I: Stream<Item = Result<Envelope, Status>> + Send + 'static,
        R: Reply<S::Channel>,
    {
        let (sender, responses) = queue(self.options.buffer);
        let session = Session {
            source: self.source.clone(),
            options: self.options.clone(),
            client,
            reply,
            sender,
        };
        tokio::spawn(session.run(requests));
        responses
    }
}
