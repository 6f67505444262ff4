//! A peer that tells others of itself as any does, and treats private data as told.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weft_msp::{NodeRole, SigningIdentity};
use weft_peer::membership::message::{self, PkiId, Time};
use weft_protos::gossip::gossip_client::GossipClient;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::gossip_server::{Gossip, GossipServer};
use weft_protos::gossip::{Chaincode, Empty, Envelope, GossipMessage};
use weft_rpc::listen::Security;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_types::{ChannelId, Signer as _};

use crate::node::Node;
use crate::support::CHANNEL;
use crate::world::World;

/// What a fake answers to a message about private data.
pub type Manner = fn(&GossipMessage) -> Option<Envelope>;

/// Takes everything.
pub fn takes(message: &GossipMessage) -> Option<Envelope> {
    Some(message::acknowledgement(message.nonce, String::new()))
}

/// Takes nothing.
pub fn refuses(message: &GossipMessage) -> Option<Envelope> {
    Some(message::acknowledgement(message.nonce, "no".to_owned()))
}

/// Says nothing.
pub fn is_silent(_: &GossipMessage) -> Option<Envelope> {
    None
}

/// Answers something that was not asked.
pub fn mistakes(message: &GossipMessage) -> Option<Envelope> {
    Some(message::acknowledgement(message.nonce.wrapping_add(1), String::new()))
}

pub struct Fake {
    /// What it was asked about private data.
    pub asked: Arc<Mutex<Vec<GossipMessage>>>,
    _stop: DropGuard,
}

impl Fake {
    /// A fake of an organization that is known to `node`.
    pub async fn start(world: &World, org: usize, name: &str, node: &Node, manner: Manner) -> Self {
        let signer = world.network.org(org).identity(name, NodeRole::Peer);
        let grpc = GrpcOptions::from(&weft_settings::Limits::default());
        let server = GrpcServer::bind("127.0.0.1:0", grpc, Security::Plain, None).await.unwrap();
        let address = server.local_addr().to_string();
        let stop = CancellationToken::new();
        let asked = Arc::default();
        let service = Service { signer: signer.clone(), manner, asked: Arc::clone(&asked) };
        let routes = Routes::new(GossipServer::new(service));
        tokio::spawn(server.serve(routes, stop.clone().cancelled_owned()));
        tell(node, signer, address, stop.clone());
        Self { asked, _stop: stop.drop_guard() }
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

pub fn id_of(signer: &SigningIdentity) -> PkiId {
    PkiId::of(&signer.serialized_identity()).unwrap()
}

/// Tells a node again and again that the signer's peer is at `address` and has the channel.
pub fn tell(node: &Node, signer: SigningIdentity, address: String, stop: CancellationToken) {
    let transport = node.transport.clone();
    tokio::spawn(async move {
        let (to, messages) = mpsc::channel(8);
        let id = id_of(&signer);
        to.send(message::connect(&signer, id, Default::default()).unwrap()).await.unwrap();
        let mut client = GossipClient::new(transport);
        let answers = client.gossip_stream(ReceiverStream::new(messages)).await.unwrap();
        let mut answers = answers.into_inner();
        let channel = ChannelId::new(CHANNEL).unwrap();
        let asset =
            Chaincode { name: "asset".to_owned(), version: "1".to_owned(), ..Default::default() };
        for sequence in 1.. {
            let time = Time { started: 1, sequence };
            let alive = message::alive(&signer, id, &address, time).unwrap();
            let state =
                message::state_info(&signer, id, &channel, time, 1, vec![asset.clone()]).unwrap();
            if to.send(alive).await.is_err() || to.send(state).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = stop.cancelled() => return,
                _ = async { while let Ok(Some(_)) = answers.message().await {} } => return,
            }
        }
    });
}

struct Service {
    signer: SigningIdentity,
    manner: Manner,
    asked: Arc<Mutex<Vec<GossipMessage>>>,
}

#[tonic::async_trait]
impl Gossip for Service {
    type GossipStreamStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn gossip_stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::GossipStreamStream>, Status> {
        let (to, answers) = mpsc::channel(8);
        let id = id_of(&self.signer);
        to.send(Ok(message::connect(&self.signer, id, Default::default()).unwrap())).await.unwrap();
        let (manner, asked) = (self.manner, Arc::clone(&self.asked));
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(envelope)) = inbound.message().await {
                let message = message::open(&envelope).unwrap();
                let about = message.content.as_ref();
                if !matches!(about, Some(Content::PrivateData(_) | Content::PrivateReq(_))) {
                    continue;
                }
                let answer = manner(&message);
                asked.lock().push(message);
                if let Some(answer) = answer {
                    let _ = to.send(Ok(answer)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn ping(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}
