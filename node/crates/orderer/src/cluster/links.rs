//! The sending side: bounded queues, streams that are opened again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel as Transport;
use tracing::debug;
use weft_consensus::NodeId;
use weft_protos::orderer::cluster_client::ClusterClient;
use weft_protos::orderer::step_request::Payload as Request;
use weft_protos::orderer::step_response::Payload as Response;
use weft_protos::orderer::{
    ConsensusRequest, StepRequest, StepResponse, SubmitRequest, SubmitResponse,
};
use weft_rpc::connect::{ChannelPool, ClientIdentity, Endpoint, EndpointTls, Roots};
use weft_rpc::tls::certificates_from_pem;
use weft_types::ChannelId;

use crate::membership::{ClusterView, Node};

/// Envelopes that may wait to be forwarded to one node.
const SUBMIT_QUEUE: usize = 1024;
/// Messages handed to the transport ahead of it.
const STREAM_BUFFER: usize = 16;
/// Time for the last messages of a stream to get out.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// First and longest wait before a stream is opened again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// What links are made with.
#[derive(Clone)]
pub(crate) struct LinkOptions {
    pub pool: ChannelPool,
    pub send_buffer: usize,
    pub rpc_timeout: Duration,
    pub max_message: usize,
    pub unreachable: mpsc::Sender<NodeId>,
    pub runtime: tokio::runtime::Handle,
}

enum Outgoing {
    Message(Bytes),
    Submit(SubmitRequest, oneshot::Sender<SubmitResponse>),
}

struct Link {
    node: Node,
    messages: mpsc::Sender<Outgoing>,
    submits: mpsc::Sender<Outgoing>,
}

/// The answer that an envelope will get from the node it was forwarded to. An error means that
/// the connection was lost.
pub type Submitted = oneshot::Receiver<SubmitResponse>;

/// Links to the other consenters of a channel.
#[derive(Default)]
pub struct Links {
    links: BTreeMap<NodeId, Arc<Link>>,
}

impl Links {
    /// Links to all of `view` but `node`. Those of `before` to nodes that have not changed are
    /// kept.
    pub(crate) fn new(
        channel: &ChannelId,
        node: NodeId,
        view: &ClusterView,
        before: &Links,
        options: &LinkOptions,
    ) -> Self {
        let others = view.nodes().iter().filter(|(id, _)| **id != node);
        let links = others.map(|(&id, other)| {
            let kept = before.links.get(&id).filter(|link| link.node == *other);
            let link = kept.cloned().unwrap_or_else(|| Arc::new(open(channel, id, other, options)));
            (id, link)
        });
        Self { links: links.collect() }
    }

    /// Queues a message of the engine; `false` when the node is not known or its queue full.
    pub(crate) fn send(&self, to: NodeId, message: Bytes) -> bool {
        let link = self.links.get(&to);
        link.is_some_and(|link| link.messages.try_send(Outgoing::Message(message)).is_ok())
    }

    /// Queues an envelope for the leader; `None` when that is not known or its queue full.
    pub fn submit(&self, to: NodeId, request: SubmitRequest) -> Option<Submitted> {
        let (sender, receiver) = oneshot::channel();
        let link = self.links.get(&to)?;
        link.submits.try_send(Outgoing::Submit(request, sender)).ok()?;
        Some(receiver)
    }
}

fn open(channel: &ChannelId, id: NodeId, node: &Node, options: &LinkOptions) -> Link {
    let start = |buffer: usize| {
        let (sender, queue) = mpsc::channel(buffer.max(1));
        let task = Task {
            channel: channel.clone(),
            id,
            endpoint: endpoint(node),
            queue,
            options: options.clone(),
        };
        options.runtime.spawn(task.run());
        sender
    };
    let (messages, submits) = (start(options.send_buffer), start(SUBMIT_QUEUE));
    Link { node: node.clone(), messages, submits }
}

/// The node as the configuration describes it: reached by its own address, recognised by its key.
fn endpoint(node: &Node) -> Endpoint {
    let pinned = certificates_from_pem(&node.server_tls_cert, "a consenter's certificate").ok();
    let tls = EndpointTls {
        server_name: None,
        roots: Roots::Node,
        pinned: pinned.and_then(|certificates| certificates.into_iter().next()),
        client: ClientIdentity::Node,
    };
    Endpoint { address: node.endpoint.to_string(), tls: Some(tls) }
}

struct Task {
    channel: ChannelId,
    id: NodeId,
    endpoint: Endpoint,
    queue: mpsc::Receiver<Outgoing>,
    options: LinkOptions,
}

/// Why a stream ended.
enum Ended {
    /// Nobody sends any more.
    Closed,
    /// It broke, after so long.
    Broken(Duration),
}

/// How a stream was lost.
struct Lost {
    error: String,
    /// The connection is not to be used again.
    stale: bool,
}

impl Lost {
    fn broken(error: String) -> Self {
        Self { error, stale: false }
    }

    /// An end that the other side gave a reason for. Who is not recognised may have another
    /// certificate by now, which takes another connection.
    fn ended(status: &tonic::Status) -> Self {
        let stale = status.code() == tonic::Code::PermissionDenied;
        Self { error: describe(status), stale }
    }

    fn stuck(error: &str) -> Self {
        Self { error: error.to_owned(), stale: true }
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        while let Some(first) = self.queue.recv().await {
            match self.stream(first).await {
                Ended::Closed => return,
                Ended::Broken(after) if after > BACKOFF.1 => backoff = BACKOFF.0,
                Ended::Broken(_) => backoff = (backoff * 2).min(BACKOFF.1),
            }
            let _ = self.options.unreachable.try_send(self.id);
            if self.queue.is_closed() {
                // Last words are tried once.
                return;
            }
            sleep(backoff).await;
        }
    }

    async fn stream(&mut self, first: Outgoing) -> Ended {
        let opened = Instant::now();
        let (node, channel) = (self.id, self.channel.clone());
        match self.exchange(first).await {
            Ok(()) => Ended::Closed,
            Err(Lost { error, stale }) => {
                debug!(%channel, node, address = self.endpoint.address, error, "lost a stream");
                if stale {
                    self.options.pool.forget(&self.endpoint);
                }
                Ended::Broken(opened.elapsed())
            }
        }
    }

    async fn exchange(&mut self, first: Outgoing) -> Result<(), Lost> {
        let transport = self
            .options
            .pool
            .get(&self.endpoint)
            .map_err(|error| Lost::broken(error.to_string()))?;
        let mut client = self.client(transport);
        let (sender, requests) = mpsc::channel(STREAM_BUFFER);
        let mut waiting: VecDeque<(Instant, oneshot::Sender<SubmitResponse>)> = VecDeque::new();
        self.forward(first, &sender, &mut waiting).await?;
        let limit = self.options.rpc_timeout;
        let opening = client.step(ReceiverStream::new(requests));
        let mut responses = timeout(limit, opening)
            .await
            .map_err(|_| Lost::stuck("no answer in time"))?
            .map_err(|status| Lost::ended(&status))?
            .into_inner();
        debug!(channel = %self.channel, node = self.id, address = self.endpoint.address, "opened a stream");
        let mut open = true;
        // Answers still come when there is nothing more to send.
        while open || !waiting.is_empty() {
            let overdue = waiting.front().map(|(since, _)| *since + limit);
            tokio::select! {
                next = self.queue.recv(), if open => match next {
                    Some(next) => self.forward(next, &sender, &mut waiting).await?,
                    None => open = false,
                },
                response = responses.message() => {
                    let response = response.map_err(|status| Lost::ended(&status))?;
                    let ended = || Lost::broken("ended by the other side".to_owned());
                    answer(response.ok_or_else(ended)?, &mut waiting);
                }
                () = until(overdue) => {
                    return Err(Lost::stuck("an envelope was not answered in time"));
                }
            }
        }
        // The stream's end is awaited, as dropping it would drop what is still to be sent.
        drop(sender);
        let _ = timeout(LAST_WORDS, responses.message()).await;
        Ok(())
    }

    async fn forward(
        &self,
        next: Outgoing,
        sender: &mpsc::Sender<StepRequest>,
        waiting: &mut VecDeque<(Instant, oneshot::Sender<SubmitResponse>)>,
    ) -> Result<(), Lost> {
        let payload = match next {
            Outgoing::Message(payload) => Request::ConsensusRequest(ConsensusRequest {
                channel: self.channel.as_str().to_owned(),
                payload,
                metadata: Bytes::new(),
            }),
            // The sender has turned to another leader.
            Outgoing::Submit(_, waiter) if waiter.is_closed() => return Ok(()),
            Outgoing::Submit(request, waiter) => {
                waiting.push_back((Instant::now(), waiter));
                Request::SubmitRequest(request)
            }
        };
        let request = StepRequest { payload: Some(payload) };
        match timeout(self.options.rpc_timeout, sender.send(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Lost::broken("the connection is closed".to_owned())),
            Err(_) => Err(Lost::stuck("the stream makes no progress")),
        }
    }

    fn client(&self, transport: Transport) -> ClusterClient<Transport> {
        let limit = self.options.max_message;
        ClusterClient::new(transport)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
    }
}

fn answer(
    response: StepResponse,
    waiting: &mut VecDeque<(Instant, oneshot::Sender<SubmitResponse>)>,
) {
    let Some(Response::SubmitRes(response)) = response.payload else { return };
    if let Some((_, waiter)) = waiting.pop_front() {
        let _ = waiter.send(response);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn describe(status: &tonic::Status) -> String {
    match weft_rpc::connect::ConnectError::of_status(status) {
        Some(error) => error.to_string(),
        None => format!("{}: {}", status.code(), status.message()),
    }
}
