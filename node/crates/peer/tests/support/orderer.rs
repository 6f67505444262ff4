//! An orderer that serves blocks it is given, and misbehaves when told to.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weft_protos::common::{self, Block, Envelope};
use weft_protos::ext::decode;
use weft_protos::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use weft_protos::orderer::{
    BroadcastResponse, DeliverResponse, SeekInfo, deliver_response, seek_position,
};
use weft_rpc::listen::{ListenOptions, Security};
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::{ClientAuth, ReloadingTls, RootSet, TlsIdentity, certificates_from_pem};
use weft_types::ParsedEnvelope;

/// What the orderer does wrong.
#[derive(Clone, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It answers SERVICE_UNAVAILABLE.
    Unavailable,
    /// It sends nothing from this block on, and does not say so.
    SilentFrom(u64),
    /// It ends every stream after one block.
    OneBlockAStream,
    /// It changes blocks before it sends them.
    Tamper(Arc<dyn Fn(Block) -> Block + Send + Sync>),
}

#[derive(Clone)]
pub struct FakeOrderer {
    shared: Arc<Shared>,
}

struct Shared {
    blocks: Mutex<Vec<Block>>,
    height: watch::Sender<usize>,
    fault: watch::Sender<Fault>,
    requests: AtomicUsize,
    stop: CancellationToken,
}

/// A server that is bound, so that its port can stand in a configuration before it serves.
pub struct Bound {
    server: GrpcServer,
}

/// Binds a server that lets clients of `clients` connect.
pub async fn bind(tls: &weft_testkit::TlsIdentity, clients: &[weft_testkit::Org]) -> Bound {
    let key = tls.key_pem();
    let identity = TlsIdentity::from_pem(&tls.cert_pem(), key.as_bytes(), "test").unwrap();
    let roots = clients.iter().flat_map(|org| {
        certificates_from_pem(org.tls_ca.certificate().pem().as_bytes(), "test").unwrap()
    });
    let roots = RootSet::fixed(roots.collect()).unwrap();
    let tls = ReloadingTls::from_parts(Some(identity), RootSet::new(), roots);
    let limits = weft_settings::Limits::default();
    let options =
        GrpcOptions { listen: ListenOptions::from(&limits), ..GrpcOptions::from(&limits) };
    let security = Security::tls(&tls, ClientAuth::Optional);
    Bound { server: GrpcServer::bind("127.0.0.1:0", options, security, None).await.unwrap() }
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub fn serve(self, blocks: Vec<Block>) -> FakeOrderer {
        let shared = Arc::new(Shared {
            height: watch::Sender::new(blocks.len()),
            blocks: Mutex::new(blocks),
            fault: watch::Sender::new(Fault::None),
            requests: AtomicUsize::new(0),
            stop: CancellationToken::new(),
        });
        let orderer = FakeOrderer { shared };
        let stop = orderer.shared.stop.clone();
        let service = AtomicBroadcastServer::new(orderer.clone());
        tokio::spawn(self.server.serve(Routes::new(service), stop.cancelled_owned()));
        orderer
    }
}

impl FakeOrderer {
    pub fn push(&self, block: Block) {
        let mut blocks = self.shared.blocks.lock();
        blocks.push(block);
        self.shared.height.send_replace(blocks.len());
    }

    pub fn set_fault(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    async fn send(self, seek: SeekInfo, to: mpsc::Sender<Result<DeliverResponse, Status>>) {
        let block = |block| DeliverResponse { r#type: Some(deliver_response::Type::Block(block)) };
        let status = |status: common::Status| DeliverResponse {
            r#type: Some(deliver_response::Type::Status(status.into())),
        };
        let fault = || self.shared.fault.borrow().clone();
        if matches!(fault(), Fault::Unavailable) {
            let _ = to.send(Ok(status(common::Status::ServiceUnavailable))).await;
            return;
        }
        let mut next = match seek.start.and_then(|start| start.r#type) {
            Some(seek_position::Type::Specified(at)) => at.number as usize,
            Some(seek_position::Type::Newest(_)) => self.shared.blocks.lock().len() - 1,
            other => panic!("{other:?}"),
        };
        let mut height = self.shared.height.subscribe();
        loop {
            height.wait_for(|height| *height > next).await.unwrap();
            let found = self.shared.blocks.lock()[next].clone();
            let found = match fault() {
                Fault::SilentFrom(number) if number <= next as u64 => {
                    return std::future::pending().await;
                }
                Fault::Tamper(tamper) => tamper(found),
                _ => found,
            };
            if to.send(Ok(block(found))).await.is_err() {
                return;
            }
            next += 1;
            if matches!(fault(), Fault::OneBlockAStream) {
                return;
            }
        }
    }
}

type Blocks = Pin<Box<dyn Stream<Item = Result<DeliverResponse, Status>> + Send>>;
type Answers = Pin<Box<dyn Stream<Item = Result<BroadcastResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for FakeOrderer {
    type BroadcastStream = Answers;
    type DeliverStream = Blocks;

    async fn broadcast(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("blocks are made by the test"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Blocks>, Status> {
        self.shared.requests.fetch_add(1, Ordering::SeqCst);
        let mut requests = request.into_inner();
        let envelope = requests.message().await?.unwrap();
        let parsed = ParsedEnvelope::from_envelope(envelope).unwrap();
        let seek: SeekInfo = decode("seek", parsed.payload.data).unwrap();
        let (to, blocks) = mpsc::channel(1);
        let orderer = self.clone();
        tokio::spawn(async move {
            let stop = orderer.shared.stop.clone();
            tokio::select! {
                () = orderer.send(seek, to) => {}
                () = stop.cancelled() => {}
            }
            drop(requests);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(blocks))))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
