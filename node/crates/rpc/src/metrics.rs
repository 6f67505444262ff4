//! Metrics of gRPC calls, by service, method and status code.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use tonic::Code;
use tower::{Layer, Service};

use crate::budget::Refusals;

/// Names shared by metrics' labels and traces' fields.
pub mod field {
    /// gRPC service, such as `gateway.Gateway`.
    pub const SERVICE: &str = "service";
    /// gRPC method, such as `Endorse`.
    pub const METHOD: &str = "method";
    /// gRPC status code, such as `OK` or `NOT_FOUND`.
    pub const CODE: &str = "code";
    /// Channel id.
    pub const CHANNEL: &str = "channel";
    /// What a Deliver stream sends: `block`, `filtered_block` or `block_and_pvtdata`.
    pub const DATA_TYPE: &str = "data_type";
    /// Status that ended a request, such as `SUCCESS`.
    pub const STATUS: &str = "status";
    /// What there was not enough of, such as `calls` or `deliver_streams`.
    pub const REASON: &str = "reason";
    /// Kind of caller: `organization` or `stranger`.
    pub const CALLER: &str = "caller";
}

/// Labels of calls to services or methods that do not exist, which a client could otherwise
/// make up without end.
const UNKNOWN: &str = "unknown";
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Counters and latencies of gRPC calls. Clones share them; use one for all listeners that
/// share a registry.
#[derive(Debug, Clone)]
pub struct GrpcMetrics {
    completed: IntCounterVec,
    duration: HistogramVec,
    open: IntGauge,
    refusals: Refusals,
}

impl GrpcMetrics {
    /// Makes the metrics `grpc_server_calls_completed`, `grpc_server_call_duration_seconds`,
    /// `grpc_server_calls_open` and `grpc_server_refused` in a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = [field::SERVICE, field::METHOD, field::CODE];
        let completed = IntCounterVec::new(
            Opts::new("grpc_server_calls_completed", "Calls that ended, by status code."),
            &labels,
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new("grpc_server_call_duration_seconds", "Time from request to end.")
                .buckets(BUCKETS.to_vec()),
            &labels[..2],
        )?;
        let open = IntGauge::new("grpc_server_calls_open", "Calls that have not ended.")?;
        registry.register(Box::new(completed.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(open.clone()))?;
        let refusals = Refusals::register(registry)?;
        Ok(Self { completed, duration, open, refusals })
    }

    /// What counts refusals.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn start(&self, path: &str) -> Call {
        self.open.inc();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let mut part = || parts.next().unwrap_or(UNKNOWN).to_owned();
        Call {
            metrics: self.clone(),
            service: part(),
            method: part(),
            started: Instant::now(),
            code: Code::Cancelled,
        }
    }
}

/// A call that is counted when it is dropped; without a status it was cancelled.
#[derive(Debug)]
struct Call {
    metrics: GrpcMetrics,
    service: String,
    method: String,
    started: Instant,
    code: Code,
}

impl Call {
    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Code::from_bytes(status.as_bytes());
        }
    }

    /// A status in the response's head: the call ended before a method's body began.
    fn note_head(&mut self, headers: &HeaderMap) {
        self.note(headers);
        if headers.contains_key("grpc-status") && self.code == Code::Unimplemented {
            UNKNOWN.clone_into(&mut self.service);
            UNKNOWN.clone_into(&mut self.method);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let labels = [self.service.as_str(), self.method.as_str(), code_name(self.code)];
        self.metrics.open.dec();
        self.metrics.completed.with_label_values(&labels).inc();
        let seconds = self.started.elapsed().as_secs_f64();
        self.metrics.duration.with_label_values(&labels[..2]).observe(seconds);
    }
}

/// The name of a status code as gRPC writes it, such as `NOT_FOUND`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Tower layer that meters calls. Without metrics it passes them through.
#[derive(Debug, Clone)]
pub struct MetricsLayer(pub Option<GrpcMetrics>);

impl<S> Layer<S> for MetricsLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, metrics: self.0.clone() }
    }
}

/// A service whose calls are metered.
#[derive(Debug, Clone)]
pub struct Metered<S> {
    inner: S,
    metrics: Option<GrpcMetrics>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Metered<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<MeteredBody<ResBody>>;
    type Error = S::Error;
    type Future = MeteredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let call = self.metrics.as_ref().map(|metrics| metrics.start(request.uri().path()));
        MeteredFuture { inner: self.inner.call(request), call }
    }
}

pin_project_lite::pin_project! {
    /// The future of a metered call's head.
    #[derive(Debug)]
    pub struct MeteredFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, B, E> Future for MeteredFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<MeteredBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            call.note_head(response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| MeteredBody { inner, call })))
    }
}

pin_project_lite::pin_project! {
    /// The body of a metered call.
    #[derive(Debug)]
    pub struct MeteredBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B: Body> Body for MeteredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(Ok(frame)), Some(call)) = (&frame, this.call.as_mut())
            && let Some(trailers) = frame.trailers_ref()
        {
            call.note(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
