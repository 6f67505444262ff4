//! An orderer: envelopes in, blocks out (Fabric: `orderer/ab.proto`, `AtomicBroadcast`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use weft_protos::common::{Block, Envelope, Status};
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_protos::orderer::deliver_response::Type;
use weft_types::seek::{Position, Seek};
use weft_types::{ChannelId, Signer};

use crate::connection::{Connection, MAX_MESSAGE, nonce, now};
use crate::error::ClientError;

/// Time for an orderer to take an envelope or to send a block that it has.
const PATIENCE: Duration = Duration::from_secs(30);

/// Wait before every orderer is asked again.
const RETRY: Duration = Duration::from_millis(50);

/// One orderer, asked in the name of one signer.
#[derive(Clone)]
pub struct Orderer {
    connection: Connection,
    signer: Arc<dyn Signer>,
}

impl Orderer {
    /// The orderer behind `connection`.
    pub fn new(connection: Connection, signer: Arc<dyn Signer>) -> Orderer {
        Orderer { connection, signer }
    }

    /// The orderer's address.
    pub fn address(&self) -> &str {
        self.connection.address()
    }

    /// Sends an envelope and returns when the orderer has taken it.
    ///
    /// # Errors
    /// [`ClientError::Broadcast`] with the orderer's status.
    pub async fn broadcast(&self, envelope: Envelope) -> Result<(), ClientError> {
        let mut rpc = self.rpc();
        let call = async {
            let mut answers = rpc.broadcast(tokio_stream::once(envelope)).await?.into_inner();
            answers.message().await
        };
        let answer = self
            .within("broadcast", call)
            .await?
            .ok_or_else(|| ClientError::answer(self.address(), "no answer to a broadcast"))?;
        match Status::try_from(answer.status).unwrap_or(Status::Unknown) {
            Status::Success => Ok(()),
            status => Err(ClientError::Broadcast {
                node: self.address().to_owned(),
                status,
                info: answer.info,
            }),
        }
    }

    /// One block of a channel that the orderer already has.
    ///
    /// # Errors
    /// [`ClientError::Deliver`] with the orderer's status.
    pub async fn block(&self, channel: &ChannelId, at: Position) -> Result<Block, ClientError> {
        let request = Seek::one(at)
            .sign(channel, self.signer.as_ref(), now(), nonce()?, self.connection.tls_cert_hash())
            .map_err(ClientError::Sign)?;
        let mut rpc = self.rpc();
        let call = async {
            let mut answers = rpc.deliver(tokio_stream::once(request)).await?.into_inner();
            answers.message().await
        };
        let answer = self.within("deliver", call).await?.and_then(|answer| answer.r#type);
        match answer {
            Some(Type::Block(block)) => Ok(block),
            Some(Type::Status(status)) => Err(ClientError::Deliver {
                node: self.address().to_owned(),
                status: Status::try_from(status).unwrap_or(Status::Unknown),
            }),
            None => Err(ClientError::answer(self.address(), "neither a block nor a status")),
        }
    }

    /// The channel's newest config block.
    ///
    /// # Errors
    /// As [`Orderer::block`], and [`ClientError::Answer`] for a block without the index.
    pub async fn config_block(&self, channel: &ChannelId) -> Result<Block, ClientError> {
        let newest = self.block(channel, Position::Newest).await?;
        let index = weft_config::block::last_config_index(&newest)
            .map_err(|error| ClientError::answer(self.address(), error))?;
        self.block(channel, Position::Block(index)).await
    }

    /// Sends an envelope to one orderer after the other until one takes it, for as long as
    /// trying again can help: a channel has no leader for a moment after a start or a failure.
    ///
    /// # Errors
    /// The last orderer's refusal, or the first that trying again cannot help.
    pub async fn broadcast_to_any(
        orderers: &[Orderer],
        envelope: &Envelope,
    ) -> Result<(), ClientError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut last = ClientError::answer("", "there is no orderer to send to");
            for orderer in orderers {
                match orderer.broadcast(envelope.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(error) if error.can_retry() => last = error,
                    Err(error) => return Err(error),
                }
            }
            if orderers.is_empty() || Instant::now() >= deadline {
                return Err(last);
            }
            sleep(RETRY).await;
        }
    }

    async fn within<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, ClientError> {
        match timeout(PATIENCE, call).await {
            Ok(result) => result.map_err(|status| ClientError::rpc(self.address(), what, status)),
            Err(_) => Err(ClientError::Timeout {
                node: self.address().to_owned(),
                what,
                seconds: PATIENCE.as_secs(),
            }),
        }
    }

    fn rpc(&self) -> AtomicBroadcastClient<tonic::transport::Channel> {
        AtomicBroadcastClient::new(self.connection.channel())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}
