//! One orderer's stream of blocks.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel as Transport;
use weft_msp::SigningIdentity;
use weft_protos::common::{Block, Envelope, Status};
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_protos::orderer::deliver_response;
use weft_rpc::connect::{ConnectError, Connector, Endpoint};
use weft_types::seek::Seek;
use weft_types::{ChannelId, SignError, Timestamp};

use super::sources::OrdererEndpoint;

/// Why an orderer's stream is of no use (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The orderer cannot be reached.
    #[error("failed to connect")]
    Connect(#[source] ConnectError),
    /// The request could not be made.
    #[error("failed to make the request")]
    Random(#[source] weft_crypto::RandomError),
    /// The request could not be signed.
    #[error("failed to make the request")]
    Sign(#[source] SignError),
    /// The call failed.
    #[error("failed to receive blocks: {}: {}", .0.code(), .0.message())]
    Call(Box<tonic::Status>),
    /// The orderer ended the stream with a status.
    #[error("failed to receive blocks: the orderer answered {}", status_name(*.0))]
    Status(i32),
    /// The orderer ended the stream without a status.
    #[error("failed to receive blocks: the orderer ended the stream")]
    Ended,
    /// A response holds neither a block nor a status.
    #[error("failed to receive blocks: the orderer sent an empty response")]
    Empty,
}

fn status_name(status: i32) -> String {
    Status::try_from(status).map_or_else(|_| status.to_string(), |s| s.as_str_name().to_owned())
}

/// What every stream of a channel's client is opened with.
pub(crate) struct Dial {
    pub(crate) connector: Connector,
    pub(crate) channel: ChannelId,
    pub(crate) signer: Arc<SigningIdentity>,
    pub(crate) tls_cert_hash: Bytes,
    pub(crate) max_message_bytes: usize,
}

/// Blocks that are decoded while the one before is checked.
const AHEAD: usize = 2;

/// An open stream, read by a task of its own that ends with it. There may be no answer at all until
/// there is a block: gRPC in Go sends the head of an answer only together with its first message.
pub(crate) struct BlockStream {
    blocks: mpsc::Receiver<Result<Block, StreamError>>,
    reader: JoinHandle<()>,
}

impl Dial {
    /// Connects, and asks for what `seek` says.
    pub(crate) async fn open(
        &self,
        orderer: &OrdererEndpoint,
        seek: Seek,
    ) -> Result<BlockStream, StreamError> {
        let endpoint = Endpoint::with_roots(&orderer.address, orderer.roots.clone());
        let transport = self.connector.connect(&endpoint).await.map_err(StreamError::Connect)?;
        let request = self.request(seek)?;
        let client =
            AtomicBroadcastClient::new(transport).max_decoding_message_size(self.max_message_bytes);
        let (found, blocks) = mpsc::channel(AHEAD);
        let reader = tokio::spawn(async move {
            let Err(end) = read(client, request, &found).await else { return };
            // Whoever listened may be gone.
            let _ = found.send(Err(end)).await;
        });
        Ok(BlockStream { blocks, reader })
    }

    fn request(&self, seek: Seek) -> Result<Envelope, StreamError> {
        let nonce = weft_crypto::random_bytes().map_err(StreamError::Random)?;
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        seek.sign(&self.channel, &*self.signer, now, nonce, self.tls_cert_hash.clone())
            .map_err(StreamError::Sign)
    }
}

impl BlockStream {
    /// The next block. Can be dropped and called again without losing one.
    pub(crate) async fn next(&mut self) -> Result<Block, StreamError> {
        self.blocks.recv().await.unwrap_or(Err(StreamError::Ended))
    }
}

impl Drop for BlockStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Passes blocks on until the stream ends, or nobody listens (which is no error).
async fn read(
    mut client: AtomicBroadcastClient<Transport>,
    request: Envelope,
    found: &mpsc::Sender<Result<Block, StreamError>>,
) -> Result<(), StreamError> {
    // The request side stays open: some servers end a stream whose client has ended its side.
    let (requests, outgoing) = mpsc::channel(1);
    // The queue is empty, so there is room.
    let _ = requests.try_send(request);
    let call = |status| StreamError::Call(Box::new(status));
    let answer = client.deliver(ReceiverStream::new(outgoing)).await.map_err(call)?;
    let mut responses = answer.into_inner();
    while let Some(response) = responses.message().await.map_err(call)? {
        let block = match response.r#type {
            Some(deliver_response::Type::Block(block)) => block,
            Some(deliver_response::Type::Status(status)) => {
                return Err(StreamError::Status(status));
            }
            None => return Err(StreamError::Empty),
        };
        if found.send(Ok(block)).await.is_err() {
            return Ok(());
        }
    }
    Err(StreamError::Ended)
}
