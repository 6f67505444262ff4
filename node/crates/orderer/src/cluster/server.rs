//! The receiving side: whose stream it is, and where its messages go (Fabric:
//! `orderer/common/cluster/service.go`).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use weft_crypto::Certificate;
use weft_protos::orderer::cluster_server::Cluster;
use weft_protos::orderer::step_request::Payload;
use weft_protos::orderer::{
    ConsensusRequest, StepRequest, StepResponse, SubmitRequest, SubmitResponse, step_response,
};
use weft_rpc::listen::PeerInfo;

use crate::answer::{Pending, in_order};
use crate::chain::Channel;
use crate::registrar::Registrar;

/// Forwarded envelopes of one stream that are worked on at one time.
const IN_FLIGHT: usize = 256;

/// Serves `orderer.Cluster`.
#[derive(Clone)]
pub struct ClusterService {
    registrar: Arc<Registrar>,
    shutdown: CancellationToken,
}

impl ClusterService {
    /// A service for the channels of `registrar`, whose streams end at `shutdown`.
    #[must_use]
    pub fn new(registrar: Arc<Registrar>, shutdown: CancellationToken) -> Self {
        Self { registrar, shutdown }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    type StepStream = Pin<Box<dyn Stream<Item = Result<StepResponse, Status>> + Send>>;

    async fn step(
        &self,
        request: Request<Streaming<StepRequest>>,
    ) -> Result<Response<Self::StepStream>, Status> {
        let key = tls_key(&request)?;
        let requests = request.into_inner();
        let (sender, answers) = mpsc::channel(1);
        let session = Session {
            registrar: self.registrar.clone(),
            key,
            channels: HashMap::new(),
            answers: sender,
        };
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = session.run(requests) => {}
                () = shutdown.cancelled() => {}
            }
        });
        let answers = in_order(answers, IN_FLIGHT, |_| false);
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The key of the certificate that the client presented, SubjectPublicKeyInfo.
fn tls_key<T>(request: &Request<T>) -> Result<Vec<u8>, Status> {
    let refused = || Status::permission_denied("a consenter's TLS certificate is required");
    let peer = PeerInfo::of(request).ok_or_else(refused)?;
    let leaf = peer.certificates.leaf().ok_or_else(refused)?;
    let certificate = Certificate::from_der(leaf).map_err(|_| refused())?;
    Ok(certificate.public_key().spki_der().to_vec())
}

struct Session {
    registrar: Arc<Registrar>,
    key: Vec<u8>,
    /// Weak, so that a stream does not keep a channel that is left.
    channels: HashMap<String, Weak<Channel>>,
    answers: mpsc::Sender<Result<Pending<StepResponse>, Status>>,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<StepRequest>) {
        let failure = loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.answers.closed() => return,
            };
            let taken = match request {
                Ok(Some(request)) => self.take(request).await,
                Ok(None) => return,
                // Heard where the stream was readable and the message was not.
                Err(status) => Err(status),
            };
            if let Err(status) = taken {
                break status;
            }
        };
        debug!(%failure, "refused a message of another orderer");
        let _ = self.answers.send(Err(failure)).await;
    }

    async fn take(&mut self, request: StepRequest) -> Result<(), Status> {
        match request.payload {
            Some(Payload::ConsensusRequest(request)) => self.consensus(request),
            Some(Payload::SubmitRequest(request)) => self.submit(request).await,
            None => Err(Status::invalid_argument("the request is empty")),
        }
    }

    fn channel(&mut self, name: &str) -> Result<Arc<Channel>, Status> {
        let known = self.channels.get(name).and_then(Weak::upgrade);
        if let Some(channel) = known.filter(|channel| !channel.is_closed()) {
            return Ok(channel);
        }
        let found = self.registrar.find(name);
        let found = found.ok_or_else(|| Status::not_found("no such channel here"))?;
        // Bounded by the number of channels there are.
        self.channels.insert(name.to_owned(), Arc::downgrade(&found));
        Ok(found)
    }

    /// Looked at for every message, so that one who was removed is cut off at once.
    fn sender(&self, channel: &Channel) -> Result<u64, Status> {
        let refused = || Status::permission_denied("the sender is no consenter of the channel");
        channel.cluster_view().id_of(&self.key).ok_or_else(refused)
    }

    fn consensus(&mut self, request: ConsensusRequest) -> Result<(), Status> {
        let channel = self.channel(&request.channel)?;
        let from = self.sender(&channel)?;
        channel.message(from, request.payload);
        Ok(())
    }

    async fn submit(&mut self, request: SubmitRequest) -> Result<(), Status> {
        let channel = self.channel(&request.channel)?;
        self.sender(&channel)?;
        let name = request.channel;
        let envelope = request.payload.unwrap_or_default();
        let outcome = channel.accept(envelope, request.last_validation_seq);
        let answer = outcome.map(move |(status, info)| {
            let answer = SubmitResponse { channel: name, status: status.into(), info };
            StepResponse { payload: Some(step_response::Payload::SubmitRes(answer)) }
        });
        let closed = |_| Status::cancelled("the stream is closed");
        self.answers.send(Ok(answer)).await.map_err(closed)
    }
}
