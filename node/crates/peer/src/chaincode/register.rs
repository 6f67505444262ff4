//! `protos.ChaincodeSupport`: the service that contracts dial (Fabric:
//! core/chaincode/chaincode_support.go). Who is let in is decided by [`super::admission`].

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_protos::peer::ChaincodeMessage;
use weft_protos::peer::chaincode_support_server::{self, ChaincodeSupportServer};
use weft_rpc::listen::{PeerCertificates, PeerInfo};

use super::admission::{Admitted, Holder, Refusal};
use super::connection::{Connection, OUTBOX};
use super::dial::{read_register, serve};
use super::package::{PackageId, StoreError};
use super::runtime::{Inner, Runtime};
use crate::blocking::blocking;

/// The service that contracts dial.
#[derive(Clone)]
pub struct ChaincodeSupport {
    inner: Arc<Inner>,
    slots: Arc<Semaphore>,
}

impl ChaincodeSupport {
    /// The service of this runtime.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        let inner = Arc::clone(runtime.inner());
        let slots = Arc::new(Semaphore::new(inner.config.max_registrations));
        Self { inner, slots }
    }

    /// The service for a gRPC server, with the runtime's limits.
    #[must_use]
    pub fn into_server(self) -> ChaincodeSupportServer<Self> {
        let limit = self.inner.config.max_message_bytes;
        ChaincodeSupportServer::new(self)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
    }
}

#[tonic::async_trait]
impl chaincode_support_server::ChaincodeSupport for ChaincodeSupport {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many chaincode streams"))?;
        let info = PeerInfo::of(&request);
        let place =
            info.map_or_else(|| "a local stream".to_owned(), |info| info.remote.to_string());
        let shown = info.map(|info| info.certificates.clone()).unwrap_or_default();
        let (out, outbox) = mpsc::channel(OUTBOX);
        let session = Session {
            inner: Arc::clone(&self.inner),
            place,
            shown,
            out,
            closed: self.inner.shutdown.child_token(),
            end: Arc::default(),
            _slot: slot,
        };
        let outbound = outbound(outbox, session.closed.clone(), Arc::clone(&session.end));
        // The answer begins at once, as some clients send REGISTER only after that.
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(outbound)))
    }
}

/// The messages to the contract, and at the end the status that says why, if it was an error.
fn outbound(
    outbox: mpsc::Receiver<ChaincodeMessage>,
    closed: CancellationToken,
    end: Arc<OnceLock<Status>>,
) -> impl Stream<Item = Result<ChaincodeMessage, Status>> + Send {
    let last = futures::stream::once(async move { end.get().cloned() });
    ReceiverStream::new(outbox)
        .take_until(closed.cancelled_owned())
        .map(Ok)
        .chain(last.filter_map(|status| std::future::ready(status.map(Err))))
}

/// One stream of a contract that has dialled.
struct Session {
    inner: Arc<Inner>,
    place: String,
    /// The certificates that the client has shown.
    shown: PeerCertificates,
    out: mpsc::Sender<ChaincodeMessage>,
    closed: CancellationToken,
    end: Arc<OnceLock<Status>>,
    _slot: OwnedSemaphorePermit,
}

impl Session {
    async fn run(self, inbound: Streaming<ChaincodeMessage>) {
        // The contract's side ends with the last sender, which is to be after the status is set.
        let (end, closed, _out) = (Arc::clone(&self.end), self.closed.clone(), self.out.clone());
        if let Err(status) = self.converse(inbound).await {
            // The first status stands; nothing else sets one.
            let _ = end.set(status);
        }
        closed.cancel();
    }

    async fn converse(self, mut inbound: Streaming<ChaincodeMessage>) -> Result<(), Status> {
        let opening = read_register(&mut inbound);
        let id = tokio::time::timeout(self.inner.config.startup_timeout, opening)
            .await
            .map_err(|_| Status::deadline_exceeded("no REGISTER in time"))??;
        let admitted = self.admit(id).await.map_err(|refusal| {
            tracing::warn!(place = self.place, %refusal, "refused a registration");
            Status::permission_denied(refusal.to_string())
        })?;
        let limit = self.inner.config.max_message_bytes;
        let connection = Connection::new(admitted, self.place, self.out, self.closed, limit);
        let connection = Arc::new(connection);
        self.inner.registry.register(&connection).map_err(|duplicate| {
            weft_rpc::sampled!(
                warn,
                "registration",
                chaincode = duplicate.0,
                "refused a second registration"
            );
            Status::already_exists(duplicate.to_string())
        })?;
        tracing::info!(chaincode = connection.id(), place = connection.place(), "registered");
        serve(&self.inner, connection, inbound).await
    }

    /// Whether the client is the contract that it announces itself as. The certificate is looked at
    /// before the package, so that strangers do not have packages read.
    async fn admit(&self, announced: String) -> Result<Admitted, Refusal> {
        if self.inner.config.development {
            return Ok(Admitted::in_development(announced));
        }
        let Ok(id) = announced.parse::<PackageId>() else {
            return Err(Refusal::NotInstalled(announced));
        };
        let holder = Holder::of(&id, &self.shown)?;
        match blocking(|| self.inner.packages.reach(&id)).await {
            Ok(reach) => Admitted::registering(holder, &reach),
            Err(StoreError::NotFound(_)) => Err(Refusal::NotInstalled(announced)),
            Err(error) => {
                tracing::error!(chaincode = announced, %error, "failed to read a package");
                Err(Refusal::NotInstalled(announced))
            }
        }
    }
}
