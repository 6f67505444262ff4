//! Streams to orderers that stay open.
//!
//! Each orderer has a few lanes; a lane is one `Broadcast` stream on which transactions follow each
//! other without waiting for the answers, which come in the same order. An orderer ends the stream
//! after a transaction that it refuses; those behind it were not looked at, and go on a new stream.
//! When a stream breaks, nobody knows what became of the transactions on it. If it had worked before
//! (the orderer may have been started anew), they are sent on a new one, once; else the callers are
//! told, and send them elsewhere. A transaction that is ordered twice takes effect once.
//!
//! Answers, and that there are none, go into the [`super::health`] of the orderer, also for callers
//! that have gone.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_protos::common::{self, Envelope};
use weft_protos::orderer::BroadcastResponse;
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_rpc::connect::{ChannelPool, Endpoint};

use super::endorser::describe;
use super::health::{Asked, HealthTable};
use crate::deliver_client::OrdererEndpoint;

/// Streams to one orderer.
const LANES: usize = 4;
/// Transactions on a stream that are not answered yet.
const WINDOW: usize = 128;
/// Transactions that wait for a place on a stream.
const QUEUE: usize = 128;
/// Orderers with streams, at most.
const MAX_ORDERERS: usize = 256;

/// A transaction was not answered. Another orderer may take it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BroadcastError(pub String);

/// The streams. Clones share everything.
#[derive(Clone)]
pub struct Broadcasters {
    orderers: Arc<Mutex<HashMap<String, Arc<Orderer>>>>,
    settings: LaneSettings,
}

#[derive(Clone)]
struct LaneSettings {
    pool: ChannelPool,
    tls: bool,
    timeout: Duration,
    max_message_bytes: usize,
    health: HealthTable,
}

struct Orderer {
    endpoint: OrdererEndpoint,
    lanes: Vec<mpsc::Sender<Job>>,
    next: AtomicUsize,
}

/// A transaction and whoever waits for the answer.
struct Job {
    envelope: Envelope,
    /// The record of the call, which is kept whether or not somebody still waits.
    asked: Asked,
    answer: oneshot::Sender<Result<BroadcastResponse, BroadcastError>>,
    deadline: Instant,
    /// Whether it was on a stream that broke.
    sent_again: bool,
}

impl Broadcasters {
    /// Streams over the connections of `pool`, with TLS or without; an answer may take `timeout`.
    /// Which orderers answer is noted in `health`.
    #[must_use]
    pub fn new(
        pool: ChannelPool,
        tls: bool,
        timeout: Duration,
        max_message_bytes: usize,
        health: HealthTable,
    ) -> Self {
        let settings = LaneSettings { pool, tls, timeout, max_message_bytes, health };
        Self { orderers: Arc::default(), settings }
    }

    /// Sends a transaction to an orderer and gives its answer.
    ///
    /// # Errors
    /// [`BroadcastError`] when there is none (in time).
    pub async fn send(
        &self,
        orderer: &OrdererEndpoint,
        envelope: Envelope,
    ) -> Result<BroadcastResponse, BroadcastError> {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.settings.timeout;
        let asked = self.settings.health.ask(&orderer.address);
        let job = Job { envelope, asked, answer, deadline, sent_again: false };
        let late =
            |_| BroadcastError(format!("no answer in {} s", self.settings.timeout.as_secs()));
        let gone = || BroadcastError("the stream was closed".to_owned());
        let lane = self.lane(orderer);
        let answered = async move {
            lane.send(job).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        timeout(self.settings.timeout, answered).await.map_err(late)?
    }

    fn lane(&self, endpoint: &OrdererEndpoint) -> mpsc::Sender<Job> {
        let mut orderers = self.orderers.lock();
        let known = orderers.get(&endpoint.address).filter(|known| known.endpoint == *endpoint);
        let orderer = match known {
            Some(known) => Arc::clone(known),
            None => {
                if orderers.len() >= MAX_ORDERERS {
                    orderers.clear();
                }
                let orderer = Arc::new(Orderer::new(endpoint.clone(), &self.settings));
                orderers.insert(endpoint.address.clone(), Arc::clone(&orderer));
                orderer
            }
        };
        drop(orderers);
        // The shortest queue keeps one slow stream from holding others up.
        let turn = orderer.next.fetch_add(1, Ordering::Relaxed);
        let lanes = orderer.lanes.iter().cycle().skip(turn % LANES).take(LANES);
        let lane = lanes.max_by_key(|lane| lane.capacity());
        // There are always lanes; a closed one is answered as such.
        lane.cloned().unwrap_or_else(|| mpsc::channel(1).0)
    }
}

impl Orderer {
    fn new(endpoint: OrdererEndpoint, settings: &LaneSettings) -> Self {
        let lane = || {
            let (jobs, queue) = mpsc::channel(QUEUE);
            let lane = Lane {
                endpoint: endpoint.clone(),
                settings: settings.clone(),
                queue,
                pending: VecDeque::new(),
                worked: false,
            };
            tokio::spawn(lane.run());
            jobs
        };
        let lanes = std::iter::repeat_with(lane).take(LANES).collect();
        Self { endpoint, lanes, next: AtomicUsize::new(0) }
    }
}

struct Lane {
    endpoint: OrdererEndpoint,
    settings: LaneSettings,
    queue: mpsc::Receiver<Job>,
    pending: VecDeque<Job>,
    /// Whether the stream at hand has brought an answer.
    worked: bool,
}

/// How a stream ended.
enum End {
    /// A transaction was refused; those behind it are to be sent again.
    Refused,
    /// Nobody can send any more.
    Closed,
    /// It broke.
    Broken(BroadcastError),
}

impl Lane {
    async fn run(mut self) {
        loop {
            if self.pending.is_empty() {
                let Some(job) = self.queue.recv().await else { return };
                self.pending.push_back(job);
            }
            match self.stream().await {
                End::Refused => {}
                End::Closed => return,
                End::Broken(error) => {
                    tracing::debug!(orderer = %self.endpoint.address, %error, "a stream broke");
                    self.give_up(&error);
                }
            }
        }
    }

    /// Tells the callers of what was on a broken stream, but for what is worth another one.
    fn give_up(&mut self, error: &BroadcastError) {
        for mut job in std::mem::take(&mut self.pending) {
            if self.worked && !job.sent_again && job.deadline > Instant::now() {
                job.sent_again = true;
                self.pending.push_back(job);
            } else {
                job.asked.failed();
                let _ = job.answer.send(Err(error.clone()));
            }
        }
    }

    /// Sends what is pending and what comes, and hands out the answers, until the stream ends.
    async fn stream(&mut self) -> End {
        self.worked = false;
        let endpoint = match self.settings.tls {
            true => Endpoint::with_roots(&self.endpoint.address, self.endpoint.roots.clone()),
            false => Endpoint::plain(&self.endpoint.address),
        };
        let transport = match self.settings.pool.get(&endpoint) {
            Ok(transport) => transport,
            Err(error) => return End::Broken(BroadcastError(error.to_string())),
        };
        let limit = self.settings.max_message_bytes;
        let mut client = AtomicBroadcastClient::new(transport)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        // As large as the window: what is pending always fits.
        let (outbound, messages) = mpsc::channel(WINDOW);
        // Callers that gave up in the meantime need no answer.
        self.pending.retain(|job| !job.answer.is_closed());
        for job in &self.pending {
            if outbound.try_send(job.envelope.clone()).is_err() {
                return End::Broken(BroadcastError("the stream was closed".to_owned()));
            }
        }
        let mut opening = pin!(client.broadcast(ReceiverStream::new(messages)));
        let mut inbound: Option<Streaming<BroadcastResponse>> = None;
        loop {
            let overdue = self.pending.front().map(|job| job.deadline);
            tokio::select! {
                biased;
                // Orderers may hold the headers back until the first answer.
                opened = &mut opening, if inbound.is_none() => match opened {
                    Ok(opened) => inbound = Some(opened.into_inner()),
                    Err(status) => return End::Broken(BroadcastError(describe(&status))),
                },
                answer = next(inbound.as_mut()) => match answer {
                    Ok(Some(answer)) => {
                        let refused = answer.status != i32::from(common::Status::Success);
                        let Some(job) = self.pending.pop_front() else {
                            let text = "the orderer sent an answer to nothing";
                            return End::Broken(BroadcastError(text.to_owned()));
                        };
                        self.worked = true;
                        job.asked.answered();
                        let _ = job.answer.send(Ok(answer));
                        if refused {
                            return End::Refused;
                        }
                    }
                    Ok(None) => {
                        return End::Broken(BroadcastError("EOF".to_owned()));
                    }
                    Err(status) => return End::Broken(BroadcastError(describe(&status))),
                },
                job = self.queue.recv(), if self.pending.len() < WINDOW => {
                    let Some(job) = job else { return End::Closed };
                    let sent = outbound.try_send(job.envelope.clone()).is_ok();
                    self.pending.push_back(job);
                    if !sent {
                        let text = "the stream was closed";
                        return End::Broken(BroadcastError(text.to_owned()));
                    }
                }
                () = until(overdue) => {
                    let text = format!("no answer in {} s", self.settings.timeout.as_secs());
                    return End::Broken(BroadcastError(text));
                }
            }
        }
    }
}

async fn next(
    inbound: Option<&mut Streaming<BroadcastResponse>>,
) -> Result<Option<BroadcastResponse>, tonic::Status> {
    match inbound {
        Some(inbound) => inbound.message().await,
        None => std::future::pending().await,
    }
}

/// Waits until a time, where there is one.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
