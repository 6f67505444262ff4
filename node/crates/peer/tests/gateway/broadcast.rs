//! Submit to orderers that refuse, fail, lag and go away.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weft_peer::deliver_client::OrdererEndpoint;
use weft_peer::gateway::broadcast::Broadcasters;
use weft_peer::gateway::health::{Delays, HealthTable, Standing};
use weft_protos::common::{self, Envelope};
use weft_protos::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use weft_protos::orderer::{BroadcastResponse, DeliverResponse};
use weft_rpc::listen::Security;
use weft_rpc::server::{GrpcOptions, GrpcServer};

use crate::node::{pool, until};

/// An orderer that takes transactions and answers by a script.
#[derive(Clone, Default)]
pub struct Orderer {
    /// Answers to come; SUCCESS when they are used up.
    pub script: Arc<Mutex<VecDeque<Answer>>>,
    /// What was taken, in order.
    pub taken: Arc<Mutex<Vec<Bytes>>>,
    /// Streams opened.
    pub streams: Arc<AtomicUsize>,
    stop: CancellationToken,
}

#[derive(Clone, Copy)]
pub enum Answer {
    Status(common::Status),
    /// Ends the stream without an answer.
    Break,
    /// Never answers.
    Silence,
}

type Answers = Pin<Box<dyn Stream<Item = Result<BroadcastResponse, Status>> + Send>>;
type Blocks = Pin<Box<dyn Stream<Item = Result<DeliverResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Orderer {
    type BroadcastStream = Answers;
    type DeliverStream = Blocks;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Answers>, Status> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let mut envelopes = request.into_inner();
        let (to, answers) = mpsc::channel(1);
        let orderer = self.clone();
        tokio::spawn(async move {
            loop {
                let envelope = tokio::select! {
                    envelope = envelopes.message() => envelope,
                    () = orderer.stop.cancelled() => return,
                };
                let Ok(Some(envelope)) = envelope else { return };
                let answer = orderer.script.lock().pop_front();
                let status = match answer {
                    None => common::Status::Success,
                    Some(Answer::Status(status)) => status,
                    Some(Answer::Break) => return,
                    Some(Answer::Silence) => std::future::pending().await,
                };
                let accepted = status == common::Status::Success;
                if accepted {
                    orderer.taken.lock().push(envelope.payload);
                }
                let info = if accepted { "" } else { "told so" }.to_owned();
                let response = BroadcastResponse { status: status.into(), info };
                if to.send(Ok(response)).await.is_err() || !accepted {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn deliver(&self, _: Request<Streaming<Envelope>>) -> Result<Response<Blocks>, Status> {
        Err(Status::unimplemented("takes transactions only"))
    }
}

impl Orderer {
    pub async fn start() -> (Self, OrdererEndpoint) {
        let limits = weft_settings::Limits::default();
        let options = GrpcOptions::from(&limits);
        let server = GrpcServer::bind("127.0.0.1:0", options, Security::Plain, None).await.unwrap();
        let address = server.local_addr().to_string();
        let orderer = Self::default();
        let routes = Routes::new(AtomicBroadcastServer::new(orderer.clone()));
        tokio::spawn(server.serve(routes, orderer.stop.clone().cancelled_owned()));
        (orderer, OrdererEndpoint { address, roots: Vec::new() })
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn script(&self, script: impl IntoIterator<Item = Answer>) {
        *self.script.lock() = script.into_iter().collect();
    }
}

fn broadcasters() -> Broadcasters {
    within(Duration::from_secs(2)).0
}

fn within(timeout: Duration) -> (Broadcasters, HealthTable) {
    let delays = Delays { floor: Duration::from_millis(50), ceiling: Duration::from_secs(1) };
    let health = HealthTable::new(delays);
    (Broadcasters::new(pool(), false, timeout, 1 << 20, health.clone()), health)
}

fn envelope(number: usize) -> Envelope {
    Envelope { payload: number.to_string().into(), signature: Bytes::from_static(b"s") }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_transactions_share_a_few_streams() {
    let (orderer, endpoint) = Orderer::start().await;
    let lanes = broadcasters();
    let all = (0..200).map(|number| lanes.send(&endpoint, envelope(number)));
    for answer in join_all(all).await {
        assert_eq!(answer.unwrap().status, i32::from(common::Status::Success));
    }
    assert_eq!(orderer.taken.lock().len(), 200);
    assert!(orderer.streams.load(Ordering::SeqCst) <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_touch_those_behind_it() {
    let (orderer, endpoint) = Orderer::start().await;
    let lanes = broadcasters();
    let refuse = Answer::Status(common::Status::BadRequest);
    orderer.script([refuse; 7]);
    let all = (0..60).map(|number| lanes.send(&endpoint, envelope(number)));
    let answers: Vec<_> = join_all(all).await.into_iter().map(|one| one.unwrap().status).collect();
    let refused = answers.iter().filter(|one| **one == i32::from(common::Status::BadRequest));
    assert_eq!(refused.count(), 7);
    let mut taken = orderer.taken.lock().clone();
    taken.sort();
    taken.dedup();
    // Those behind a refused one were sent again, and none was taken twice.
    assert_eq!(taken.len(), 53);
    assert_eq!(orderer.taken.lock().len(), 53);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_told_and_opened_anew() {
    let (orderer, endpoint) = Orderer::start().await;
    let lanes = broadcasters();
    orderer.script([Answer::Break]);
    assert!(lanes.send(&endpoint, envelope(0)).await.is_err());
    assert!(lanes.send(&endpoint, envelope(1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_worked_is_opened_anew_for_what_was_on_it() {
    let (orderer, endpoint) = Orderer::start().await;
    let lanes = broadcasters();
    // Every lane has a stream that works.
    for answer in join_all((0..40).map(|number| lanes.send(&endpoint, envelope(number)))).await {
        answer.unwrap();
    }
    orderer.script([Answer::Break]);
    lanes.send(&endpoint, envelope(40)).await.unwrap();
    assert!(orderer.script.lock().is_empty());
    assert_eq!(orderer.taken.lock().len(), 41);
    // One attempt more, not many.
    orderer.script([Answer::Break, Answer::Break]);
    assert!(lanes.send(&endpoint, envelope(41)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_orderer_is_told_in_time() {
    let (orderer, endpoint) = Orderer::start().await;
    let (lanes, _) = within(Duration::from_millis(200));
    orderer.script([Answer::Silence]);
    let error = lanes.send(&endpoint, envelope(0)).await.unwrap_err();
    assert!(error.to_string().contains("no answer"), "{error}");
    orderer.script([]);
    until(|| orderer.script.lock().is_empty()).await;
    assert!(lanes.send(&endpoint, envelope(1)).await.is_ok());
}

/// What was learnt is not lost with the caller.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_first_leaves_the_orderer_suspect() {
    let (orderer, endpoint) = Orderer::start().await;
    let (lanes, health) = within(Duration::from_secs(20));
    let standing = || health.standing(&endpoint.address, tokio::time::Instant::now());
    lanes.send(&endpoint, envelope(0)).await.unwrap();
    assert_eq!(standing(), Standing::Healthy);
    orderer.script([Answer::Silence]);
    let gave_up = lanes.send(&endpoint, envelope(1));
    tokio::time::timeout(Duration::from_millis(1), gave_up).await.unwrap_err();
    until(|| standing() == Standing::Suspect).await;
    assert!(health.may_hedge(&endpoint.address, tokio::time::Instant::now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_that_is_not_there() {
    let lanes = broadcasters();
    let nobody = OrdererEndpoint { address: "127.0.0.1:1".to_owned(), roots: Vec::new() };
    let error = lanes.send(&nobody, envelope(0)).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
