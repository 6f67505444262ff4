//! Ending calls at their deadline with the code that gRPC has for it.
//!
//! A client tells how long it waits in the header `grpc-timeout` (gRPC over HTTP/2, Requests).
//! `tonic` ends such a call with CANCELLED; clients, like Fabric's, wait for DEADLINE_EXCEEDED.
//! Which code a client sees would else depend on whose clock is first. The deadline holds until
//! the head of the answer: a stream that has begun goes on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tower::{Layer, Service};

/// So much before `tonic` would end the call. More than a step of the timer.
const AHEAD: Duration = Duration::from_millis(2);
/// Digits of a `grpc-timeout` at most.
const MAX_DIGITS: usize = 8;

/// Tower layer that ends calls at their deadline.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner }
    }
}

/// A service whose calls end at their deadline.
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Limited<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = LimitedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let limit = timeout_of(request.headers()).map(|limit| sleep(limit.saturating_sub(AHEAD)));
        LimitedFuture { inner: self.inner.call(request), limit }
    }
}

pin_project_lite::pin_project! {
    /// The future of a limited call's head.
    #[derive(Debug)]
    pub struct LimitedFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        limit: Option<Sleep>,
    }
}

impl<F, B, E> Future for LimitedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.inner.poll(cx) {
            return Poll::Ready(answer);
        }
        let Some(limit) = this.limit.as_pin_mut() else { return Poll::Pending };
        ready!(limit.poll(cx));
        Poll::Ready(Ok(Status::deadline_exceeded("the call's deadline has passed").into_http()))
    }
}

/// The time that the client gives the call: at most eight digits and a unit.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Code;
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn code_of_call(header: Option<&str>, takes: Duration) -> Option<Code> {
        let inner = service_fn(move |_: Request<()>| async move {
            sleep(takes).await;
            Ok::<_, Infallible>(Response::new(()))
        });
        let mut request = Request::new(());
        if let Some(header) = header {
            request.headers_mut().insert("grpc-timeout", header.parse().unwrap());
        }
        let response = DeadlineLayer.layer(inner).oneshot(request).await.unwrap();
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline() {
        let hour = Duration::from_secs(3600);
        assert_eq!(code_of_call(Some("200m"), hour).await, Some(Code::DeadlineExceeded));
        assert_eq!(code_of_call(Some("1n"), hour).await, Some(Code::DeadlineExceeded));
        assert_eq!(code_of_call(Some("1H"), hour * 2).await, Some(Code::DeadlineExceeded));
        assert_eq!(code_of_call(Some("2H"), hour).await, None);
        assert_eq!(code_of_call(None, hour).await, None);
    }

    #[test]
    fn only_a_timeout_of_the_right_form_counts() {
        let check = |text: &str, expected: Option<Duration>| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(timeout_of(&headers), expected, "{text:?}");
        };
        check("15S", Some(Duration::from_secs(15)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "5", "S", "-1S", "+1S", "1 S", "100000000S", "1s", "1é"] {
            check(text, None);
        }
    }
}
