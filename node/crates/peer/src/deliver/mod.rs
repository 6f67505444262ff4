//! The peer's Deliver service: committed blocks with their validation codes, whole or filtered.
//!
//! What a seek means is for [`weft_rpc::deliver`]; here are the peer's channels, the right to read
//! them (resources `event/Block` and `event/FilteredBlock`), and the three methods. With
//! `DeliverWithPrivateData` come the private writes of collections that the client is a member of
//! (`private`).

mod private;

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use weft_msp::Authenticated;
use weft_msp::policy::SignedData;
use weft_protos::common::{self, Block, Envelope};
use weft_protos::peer::{
    BlockAndPrivateData, DeliverResponse, deliver_response, deliver_server::Deliver,
};
use weft_rpc::deliver::{
    BlockReply, BoxError, DataType, DeliverChannel, DeliverService, DeliverSource, DeliverStream,
    FilteredReply, Reply, SeekRequest,
};
use weft_types::{BlockNumber, ChannelId, Timestamp};

use crate::blocking::blocking;
use crate::channel::{Channel, Channels, report};

/// The resource of whole blocks. Fabric: core/aclmgmt/resources/resources.go.
pub const EVENT_BLOCK: &str = "event/Block";
/// The resource of filtered blocks. Fabric: core/aclmgmt/resources/resources.go.
pub const EVENT_FILTERED_BLOCK: &str = "event/FilteredBlock";

/// Who may read events of a channel.
pub trait EventAccess: Send + Sync + 'static {
    /// Checks that whoever signed may use `resource` ([`EVENT_BLOCK`] or [`EVENT_FILTERED_BLOCK`]).
    ///
    /// # Errors
    /// Why not.
    fn check(&self, channel: &Channel, resource: &str, signed: &SignedData)
    -> Result<(), BoxError>;
}

/// The channels of the peer, as the Deliver logic sees them.
pub struct PeerBlocks {
    channels: Arc<Channels>,
    access: Arc<dyn EventAccess>,
}

/// One channel, as the Deliver logic sees it.
pub struct ChannelBlocks {
    channel: Arc<Channel>,
    access: Arc<dyn EventAccess>,
    available: watch::Sender<bool>,
    /// Who asks for private data, once the signature was verified.
    asks: OnceLock<Authenticated>,
}

impl PeerBlocks {
    /// The blocks of `channels`, for those whom `access` lets read.
    #[must_use]
    pub fn new(channels: Arc<Channels>, access: Arc<dyn EventAccess>) -> Self {
        Self { channels, access }
    }
}

impl DeliverSource for PeerBlocks {
    type Channel = ChannelBlocks;

    fn channel(&self, id: &ChannelId) -> Option<ChannelBlocks> {
        let channel = self.channels.get(id)?;
        let access = Arc::clone(&self.access);
        let available = watch::Sender::new(true);
        Some(ChannelBlocks { channel, access, available, asks: OnceLock::new() })
    }
}

impl DeliverChannel for ChannelBlocks {
    fn height(&self) -> watch::Receiver<BlockNumber> {
        self.channel.height_watch()
    }

    fn config_sequence(&self) -> watch::Receiver<u64> {
        self.channel.config_watch()
    }

    /// A peer serves what it has, whether or not it is in touch with the ordering service.
    fn available(&self) -> watch::Receiver<bool> {
        self.available.subscribe()
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, BoxError> {
        let block = self.channel.read_block(number).await?;
        Ok(block.map(Arc::unwrap_or_clone))
    }

    fn authorize(
        &self,
        request: &SeekRequest,
        data: DataType,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, BoxError> {
        let resource = match data {
            DataType::FilteredBlock => EVENT_FILTERED_BLOCK,
            DataType::Block | DataType::BlockAndPrivateData => EVENT_BLOCK,
        };
        let signed = SignedData {
            data: request.envelope.payload_bytes.clone(),
            identity: request.creator().clone(),
            signature: request.envelope.signature.clone(),
        };
        self.access.check(&self.channel, resource, &signed)?;
        let identity = self.channel.bundle().msps().deserialize_identity(request.creator())?;
        identity.validate(now)?;
        if data == DataType::BlockAndPrivateData && self.asks.get().is_none() {
            let (payload, signature) = (&request.envelope.payload_bytes, &signed.signature);
            let _ = self.asks.set(identity.authenticate(payload, signature)?);
        }
        Ok(Some(identity.expires_at()))
    }
}

/// `protos.Deliver/DeliverWithPrivateData`: blocks with what the client may see of their private data.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrivateDataReply;

impl Reply<ChannelBlocks> for PrivateDataReply {
    type Message = DeliverResponse;

    fn data_type(&self) -> DataType {
        DataType::BlockAndPrivateData
    }

    fn status(&self, status: common::Status) -> DeliverResponse {
        DeliverResponse { r#type: Some(deliver_response::Type::Status(status.into())) }
    }

    async fn block(
        &self,
        channel: &ChannelBlocks,
        _: &SeekRequest,
        block: Block,
    ) -> Result<DeliverResponse, common::Status> {
        let asks = channel.asks.get().ok_or(common::Status::Forbidden)?;
        let channel = &channel.channel;
        let private_data_map = blocking(|| private::of_block(channel, &block, asks)).await;
        let private_data_map = private_data_map.map_err(|error| {
            tracing::warn!(channel = %channel.id(), error = %report(&error), "failed to send private data");
            common::Status::InternalServerError
        })?;
        let content = BlockAndPrivateData { block: Some(block), private_data_map };
        let content = deliver_response::Type::BlockAndPrivateData(content);
        Ok(DeliverResponse { r#type: Some(content) })
    }
}

/// `protos.Deliver`.
#[derive(Clone)]
pub struct PeerDeliver(DeliverService<PeerBlocks>);

impl PeerDeliver {
    /// The service over `service`.
    #[must_use]
    pub fn new(service: DeliverService<PeerBlocks>) -> Self {
        Self(service)
    }
}

type Blocks = Response<DeliverStream<DeliverResponse>>;

#[tonic::async_trait]
impl Deliver for PeerDeliver {
    type DeliverStream = DeliverStream<DeliverResponse>;
    type DeliverFilteredStream = DeliverStream<DeliverResponse>;
    type DeliverWithPrivateDataStream = DeliverStream<DeliverResponse>;

    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Result<Blocks, Status> {
        self.0.handle(request, BlockReply)
    }

    async fn deliver_filtered(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Blocks, Status> {
        self.0.handle(request, FilteredReply)
    }

    async fn deliver_with_private_data(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Blocks, Status> {
        self.0.handle(request, PrivateDataReply)
    }
}
