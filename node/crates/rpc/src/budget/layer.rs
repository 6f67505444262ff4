//! The tower layer that lets calls in and counts their bytes.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::body::{CountedBody, HeldBody};
use super::method::Method;
use super::{Budget, Call, Holder};
use crate::listen::PeerInfo;

/// Tower layer that keeps calls within a budget.
#[derive(Debug, Clone)]
pub struct BudgetLayer(pub Budget);

impl<S> Layer<S> for BudgetLayer {
    type Service = Budgeted<S>;

    fn layer(&self, inner: S) -> Budgeted<S> {
        Budgeted { inner, budget: self.0.clone() }
    }
}

/// A service whose calls stay within a budget.
#[derive(Debug, Clone)]
pub struct Budgeted<S> {
    inner: S,
    budget: Budget,
}

impl<S, ResBody> Service<Request<Body>> for Budgeted<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<HeldBody<ResBody>>;
    type Error = S::Error;
    type Future = BudgetedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let holder = request.extensions().get::<PeerInfo>().map(PeerInfo::holder);
        let nowhere = || Holder::address(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let call = match self.budget.enter(holder.unwrap_or_else(nowhere)) {
            Ok(call) => call,
            Err(status) => return BudgetedFuture::Refused { status: Some(status) },
        };
        let method = Method::of(request.uri().path(), &self.budget.0.options);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(call.clone());
        let body = Body::new(CountedBody::new(body, call.clone(), method));
        let inner = self.inner.call(Request::from_parts(parts, body));
        BudgetedFuture::Entered { inner, call: Some(call) }
    }
}

pin_project_lite::pin_project! {
    /// The future of a call's head.
    #[derive(Debug)]
    #[project = BudgetedProjection]
    pub enum BudgetedFuture<F> {
        Refused { status: Option<Status> },
        Entered {
            #[pin]
            inner: F,
            call: Option<Call>,
        },
    }
}

impl<F, B, E> Future for BudgetedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<HeldBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            BudgetedProjection::Refused { status } => {
                let status = status.take().unwrap_or_else(|| Status::resource_exhausted(""));
                Poll::Ready(Ok(status.into_http()))
            }
            BudgetedProjection::Entered { inner, call } => {
                let response = ready!(inner.poll(cx))?;
                Poll::Ready(Ok(response.map(|body| match call.take() {
                    Some(call) => HeldBody::new(body, call),
                    None => HeldBody::default(),
                })))
            }
        }
    }
}
