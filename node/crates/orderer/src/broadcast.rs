//! `orderer.AtomicBroadcast`: taking envelopes (Fabric: `orderer/common/broadcast`), and the
//! Deliver call of the same service.
//!
//! Envelopes of a stream are checked in their order by the stream's own task, so streams are
//! checked in parallel; answers come in the same order. SUCCESS means that the leader has the
//! envelope in its queue. Any other answer ends the stream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status as RpcStatus, Streaming};
use tracing::debug;
use weft_protos::common::{Envelope, HeaderType, Status};
use weft_protos::orderer::atomic_broadcast_server::AtomicBroadcast;
use weft_protos::orderer::{BroadcastResponse, DeliverResponse};
use weft_rpc::budget::{Call, Holder, Slot, Slots};
use weft_rpc::deliver::{DeliverService, DeliverStream, OrdererReply};
use weft_types::ParsedEnvelope;

use crate::answer::{Outcome, Pending, in_order};
use crate::metrics::Metrics;
use crate::msgprocessor::{self, Rejection};
use crate::registrar::Registrar;

/// Serves `orderer.AtomicBroadcast`.
#[derive(Clone)]
pub struct BroadcastService {
    /// The channels.
    pub registrar: Arc<Registrar>,
    /// Answers Deliver calls.
    pub deliver: DeliverService<Registrar>,
    /// Ends Broadcast calls.
    pub shutdown: CancellationToken,
    /// Envelopes of one stream that are worked on at one time.
    pub in_flight: usize,
    /// Broadcast calls open at one time, by organization.
    pub slots: Slots,
    /// What is counted.
    pub metrics: Metrics,
}

#[tonic::async_trait]
impl AtomicBroadcast for BroadcastService {
    type BroadcastStream = Pin<Box<dyn Stream<Item = Result<BroadcastResponse, RpcStatus>> + Send>>;
    type DeliverStream = DeliverStream<DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, RpcStatus> {
        let call = Call::of(&request).cloned();
        let (sender, answers) = mpsc::channel(1);
        let (service, requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            tokio::select! {
                () = service.read(requests, call, &sender) => {}
                () = service.shutdown.cancelled() => {
                    let stopping = RpcStatus::unavailable("the orderer is stopping");
                    let _ = sender.send(Err(stopping)).await;
                }
            }
        });
        let refuses = |answer: &BroadcastResponse| answer.status != Status::Success as i32;
        let answers = in_order(answers, self.in_flight, refuses);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, RpcStatus> {
        self.deliver.handle(request, OrdererReply)
    }
}

impl BroadcastService {
    async fn read(
        &self,
        mut requests: Streaming<Envelope>,
        call: Option<Call>,
        answers: &mpsc::Sender<Result<Pending<BroadcastResponse>, RpcStatus>>,
    ) {
        let mut slot = None;
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = answers.closed() => return,
            };
            let envelope = match request {
                Ok(Some(envelope)) => envelope,
                Ok(None) => return,
                Err(error) => {
                    debug!(%error, "a Broadcast stream broke");
                    // Heard where the stream was readable and the envelope was not.
                    let _ = answers.send(Err(error)).await;
                    return;
                }
            };
            let answer = match self.process(envelope, call.as_ref(), &mut slot) {
                Ok(answer) => answer,
                Err(full) => {
                    let _ = answers.send(Err(full)).await;
                    return;
                }
            };
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }

    /// Checks an envelope and hands it on. The stream takes its slot when the first one has passed:
    /// that of the connection's organization, or else of the one whose client has signed.
    fn process(
        &self,
        envelope: Envelope,
        call: Option<&Call>,
        slot: &mut Option<Slot>,
    ) -> Result<Pending<BroadcastResponse>, RpcStatus> {
        let started = Instant::now();
        let mut record = Record::new(self.metrics.clone());
        let checked = self.check(envelope, &mut record);
        record.validated = started.elapsed();
        record.submitted = Instant::now();
        let outcome = match checked {
            Ok((signer, submit)) => {
                if slot.is_none() {
                    let holder = call.map_or(Ok(signer.clone()), |call| call.own(&signer))?;
                    *slot = Some(self.slots.enter(&holder)?);
                }
                submit()
            }
            Err(rejection) => {
                debug!(channel = record.channel, %rejection, "rejected an envelope");
                Pending::Ready((rejection.status(), rejection.to_string()))
            }
        };
        Ok(outcome.map(move |(status, info)| {
            record.finish(status);
            BroadcastResponse { status: status.into(), info }
        }))
    }

    /// Returns whose it is, and what hands it on, once it has passed.
    fn check(
        &self,
        envelope: Envelope,
        record: &mut Record,
    ) -> Result<(Holder, impl FnOnce() -> Pending<Outcome> + use<>), Rejection> {
        let parsed = ParsedEnvelope::from_envelope(envelope).map_err(Rejection::Malformed)?;
        let header = parsed.header();
        let name = header.channel_id();
        let channel = self.registrar.find(name).ok_or_else(|| {
            let channel = name.chars().take(249).collect();
            match self.registrar.info(name) {
                Some(_) => Rejection::OutOfService { channel },
                None => Rejection::UnknownChannel { channel },
            }
        })?;
        record.channel = channel.id().as_str().to_owned();
        record.kind = header.header_type().map_or("UNKNOWN", |kind| HeaderType::as_str_name(&kind));
        let class = msgprocessor::classify(&parsed)?;
        let signer = Holder::signer(parsed.header().creator());
        let checked = channel.check(parsed, class)?;
        Ok((signer, move || channel.submit(checked)))
    }
}

/// What is recorded of an envelope.
struct Record {
    metrics: Metrics,
    channel: String,
    kind: &'static str,
    validated: Duration,
    submitted: Instant,
}

impl Record {
    fn new(metrics: Metrics) -> Self {
        let (channel, kind) = ("unknown".to_owned(), "unknown");
        let (validated, submitted) = (Duration::ZERO, Instant::now());
        Self { metrics, channel, kind, validated, submitted }
    }

    fn finish(&self, status: Status) {
        let labels = [self.channel.as_str(), self.kind, status.as_str_name()];
        self.metrics.broadcast.with_label_values(&labels).inc();
        let validate = self.metrics.validate.with_label_values(&labels);
        validate.observe(self.validated.as_secs_f64());
        if status == Status::Success {
            let enqueue = self.metrics.enqueue.with_label_values(&labels);
            enqueue.observe(self.submitted.elapsed().as_secs_f64());
        }
    }
}
