//! The body of a request, whose bytes are counted as they arrive, and that of its answer, whose
//! bytes are counted until they have left.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use weft_protos::methods::Requests;

use super::framing::Framing;
use super::method::Method;
use super::{Call, Holder, reason};
use crate::shares::Share;

/// A request's body within the limits of its call.
pub(super) struct CountedBody {
    inner: tonic::body::Body,
    call: Call,
    method: Method,
    framing: Framing,
    /// Bytes that were handed out and may be in memory.
    held: usize,
    /// When the message that is awaited has to be there, and what is said when it is not.
    timer: Option<(Pin<Box<Sleep>>, &'static str)>,
    failed: bool,
}

impl CountedBody {
    pub(super) fn new(inner: tonic::body::Body, call: Call, method: Method) -> Self {
        let first = call.budget().options.first_message;
        let timer = Some((Box::pin(sleep(first)), reason::FIRST_MESSAGE));
        Self { inner, call, method, framing: Framing::default(), held: 0, timer, failed: false }
    }

    fn limit(&self) -> usize {
        if self.call.holder().is_stranger() {
            self.method.stranger_limit
        } else {
            self.method.limit
        }
    }

    /// The messages that have ended were handled when a stream asks for more. What has one
    /// message is handled until its answer ends.
    fn release(&mut self) -> Result<(), Status> {
        if self.method.requests == Requests::One {
            return Ok(());
        }
        self.held = self.framing.unfinished();
        self.call.receive(self.held)
    }

    fn take(&mut self, data: &Bytes) -> Result<(), Status> {
        let (begun, limit) = (self.framing.begun(), self.limit());
        self.framing.feed(data, limit).map_err(|long| {
            let length = long.length;
            self.call.budget().refusals.count(reason::MESSAGE_SIZE, &self.call.holder());
            Status::resource_exhausted(format!(
                "a message of {length} bytes is larger than this call takes ({limit} bytes)"
            ))
        })?;
        if self.method.requests == Requests::One && self.framing.begun() > 1 {
            return Err(Status::invalid_argument("the call takes one message"));
        }
        // A call with one message has to end after it; a stream may rest between messages.
        let awaits_end = self.method.requests == Requests::One;
        if self.framing.begun() > begun && (awaits_end || self.framing.unfinished() > 0) {
            let limit = self.call.budget().options.message;
            self.timer = Some((Box::pin(sleep(limit)), reason::MESSAGE));
        } else if self.framing.unfinished() == 0 && !awaits_end {
            self.timer = None;
        }
        self.held += data.len();
        self.call.receive(self.held)
    }

    fn late(&self, reason: &'static str) -> Status {
        let options = &self.call.budget().options;
        self.call.budget().refusals.count(reason, &self.call.holder());
        let (what, limit): (_, Duration) = match reason {
            reason::FIRST_MESSAGE => ("no message came", options.first_message),
            _ => ("a message did not end", options.message),
        };
        Status::deadline_exceeded(format!("{what} within {} s", limit.as_secs_f64()))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.release()?;
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.take(data)?;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => {
                let Some((timer, reason)) = &mut self.timer else { return Poll::Pending };
                let reason = *reason;
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(self.late(reason))))
            }
        }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let polled = self.poll_data(cx);
        self.failed = matches!(polled, Poll::Ready(Some(Err(_))));
        polled
    }

    /// Never before it was asked: a call without a body has no message either.
    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes of an answer with the share that they hold until they are dropped: when they were
/// written to the connection, or the call was given up.
struct Leaving {
    data: Bytes,
    _share: Share<Holder>,
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

pin_project_lite::pin_project! {
    /// An answer's body, which holds the call until it ends.
    #[derive(Debug, Default)]
    pub struct HeldBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
        // Bytes that wait for a share.
        waiting: Option<Bytes>,
    }
}

impl<B> HeldBody<B> {
    pub(super) fn new(inner: B, call: Call) -> Self {
        Self { inner, call: Some(call), waiting: None }
    }
}

impl<B: Body<Data = Bytes>> Body for HeldBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(call) = this.call else { return this.inner.poll_frame(cx) };
        if this.waiting.is_none() {
            match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *this.waiting = Some(data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let Some(data) = this.waiting else { return Poll::Ready(None) };
        let holder = call.holder();
        let share = ready!(call.budget().sent.of(&holder).poll_take(&holder, data.len(), cx));
        let data = this.waiting.take().unwrap_or_default();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Leaving { data, _share: share })))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
