//! Blocks from other orderers, verified: each continues the chain, is signed as the
//! configuration before it asks, and a config block follows that configuration.
//!
//! The genesis block has no signatures. Where it comes from another orderer it is believed until
//! the chain reaches the block that the channel was joined with, whose hash decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Streaming;
use tonic::transport::Channel as Transport;
use tracing::{debug, info, warn};
use weft_config::Bundle;
use weft_config::block::{self as config_block, BlockError};
use weft_msp::ValidAt;
use weft_protos::common::{Block, Status};
use weft_protos::orderer::DeliverResponse;
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_protos::orderer::deliver_response::Type;
use weft_protos::orderer::seek_info::{SeekBehavior, SeekErrorResponse};
use weft_rpc::connect::{ConnectError, Endpoint};
use weft_types::block::{self, BlockError as LinkError};
use weft_types::seek::{Position, Seek};
use weft_types::{BlockNumber, ChannelId, SignError};

use crate::chain::{Context, now, sources};

/// Blocks that may wait to be written.
const AHEAD: usize = 8;

/// An orderer to fetch blocks from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `host:port`.
    pub address: String,
}

/// Why no block comes from a source.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It cannot be reached.
    #[error("failed to connect: {0}")]
    Connect(#[source] ConnectError),
    /// The call failed.
    #[error("failed to ask for blocks: {0}")]
    Call(#[source] Box<tonic::Status>),
    /// The request cannot be signed.
    #[error("failed to sign a request for blocks: {0}")]
    Sign(#[source] SignError),
    /// There are no random bytes.
    #[error("failed to sign a request for blocks: no random bytes")]
    Random,
    /// It answered with a status.
    #[error("failed to get blocks: the other side says {0:?}")]
    Refused(Status),
    /// It sends nothing.
    #[error("failed to get blocks: nothing came in {} ms", .0.as_millis())]
    Stalled(Duration),
    /// The stream ended.
    #[error("failed to get blocks: the stream ended")]
    Ended,
    /// A block does not continue the chain.
    #[error("failed to take block: {0}")]
    Link(#[source] LinkError),
    /// A block is not what it should be.
    #[error("failed to take block: {0}")]
    Block(#[source] BlockError),
}

/// A verified block.
pub struct Pulled {
    /// The block.
    pub block: Block,
    /// The configuration from it on, if it changes it.
    pub next: Option<Bundle>,
}

/// Where a chain stands.
#[derive(Clone)]
pub struct ChainEnd {
    /// Number of the next block.
    pub height: BlockNumber,
    /// Hash of the newest header; empty before the genesis block.
    pub last_hash: Bytes,
    /// The configuration; `None` before the genesis block.
    pub bundle: Option<Bundle>,
}

/// Fetches blocks until it is dropped or has them all.
pub struct Puller {
    blocks: mpsc::Receiver<Pulled>,
    task: JoinHandle<()>,
    /// The number of blocks after which it ends.
    pub until: Option<BlockNumber>,
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puller {
    /// Starts behind `from`, towards a height of `until`, or for ever. `trusted` names the
    /// sources as long as there is no genesis block.
    pub fn start(
        context: Arc<Context>,
        channel: ChannelId,
        from: ChainEnd,
        until: Option<BlockNumber>,
        trusted: Bundle,
    ) -> Self {
        let (sender, blocks) = mpsc::channel(AHEAD);
        let runtime = context.runtime.clone();
        let work = Work { context, channel, chain: from, until, trusted, sender };
        Self { blocks, task: runtime.spawn(work.run()), until }
    }

    /// The next block; `None` when it has them all.
    pub async fn next(&mut self) -> Option<Pulled> {
        self.blocks.recv().await
    }

    /// The next block, if it is already here.
    pub fn try_next(&mut self) -> Option<Pulled> {
        self.blocks.try_recv().ok()
    }
}

struct Work {
    context: Arc<Context>,
    channel: ChannelId,
    chain: ChainEnd,
    until: Option<BlockNumber>,
    trusted: Bundle,
    sender: mpsc::Sender<Pulled>,
}

/// Why a source was left.
enum Left {
    /// There is nothing more to do.
    Done,
    /// The source is of no use now.
    Failed(PullError),
}

impl Work {
    async fn run(mut self) {
        let mut quiet = false;
        loop {
            let started = self.chain.height;
            let bundle = self.chain.bundle.as_ref().unwrap_or(&self.trusted);
            for source in sources(&self.context, bundle) {
                match self.pull(&source).await {
                    Left::Done => return,
                    Left::Failed(error) => {
                        let (channel, address) = (&self.channel, &source.address);
                        debug!(%channel, address, %error, "got no more blocks");
                        if matches!(error, PullError::Link(_) | PullError::Block(_)) {
                            warn!(%channel, address, %error, "refused a block");
                        }
                    }
                }
            }
            if self.chain.height == started && !quiet {
                info!(channel = %self.channel, height = started, "no orderer has more blocks");
            }
            quiet = self.chain.height == started;
            sleep(self.context.settings.cluster.replication.retry_interval).await;
        }
    }

    async fn pull(&mut self, source: &Source) -> Left {
        let mut blocks = match self.open(source).await {
            Ok(blocks) => blocks,
            Err(error) => return Left::Failed(error),
        };
        while self.until.is_none_or(|until| self.chain.height < until) {
            let block = match self.receive(&mut blocks).await {
                Ok(block) => block,
                Err(error) => return Left::Failed(error),
            };
            let pulled = match self.verify(block) {
                Ok(pulled) => pulled,
                Err(error) => return Left::Failed(error),
            };
            if self.sender.send(pulled).await.is_err() {
                return Left::Done;
            }
        }
        Left::Done
    }

    async fn open(&self, source: &Source) -> Result<Streaming<DeliverResponse>, PullError> {
        let stop = self.until.map_or(u64::MAX, |until| until.saturating_sub(1));
        let (start, stop) = (Position::Block(self.chain.height), Position::Block(stop));
        let mut seek = Seek::range(start, stop, SeekBehavior::BlockUntilReady);
        seek.error_response = SeekErrorResponse::BestEffort;
        let opening = open(&self.context, &self.channel, source, seek);
        let limit = self.context.settings.cluster.replication.pull_timeout;
        timeout(limit, opening).await.map_err(|_| PullError::Stalled(limit))?
    }

    /// A chain that is followed may be quiet for long; another source is tried all the same, as
    /// this one may keep blocks back.
    async fn receive(&self, blocks: &mut Streaming<DeliverResponse>) -> Result<Block, PullError> {
        let replication = &self.context.settings.cluster.replication;
        let limit = match self.until {
            Some(_) => replication.pull_timeout,
            None => replication.refresh_interval.max(replication.pull_timeout),
        };
        let next = timeout(limit, blocks.message());
        let next = next.await.map_err(|_| PullError::Stalled(limit))?;
        block_of(next.map_err(|status| PullError::Call(Box::new(status)))?)
    }

    fn verify(&mut self, block: Block) -> Result<Pulled, PullError> {
        let header = block::header(&block).map_err(PullError::Link)?;
        let (number, hash) = (header.number, block::header_hash(header));
        if number != self.chain.height {
            let expected = self.chain.height;
            return Err(PullError::Link(LinkError::Number { number, expected }));
        }
        if header.previous_hash != self.chain.last_hash {
            return Err(PullError::Link(LinkError::PreviousHash { number }));
        }
        let next = match &self.chain.bundle {
            None => Some(genesis(&self.channel, &block)?),
            Some(bundle) => verify_next(bundle, &block)?,
        };
        self.chain.height += 1;
        self.chain.last_hash = Bytes::copy_from_slice(&hash);
        if let Some(next) = &next {
            self.chain.bundle = Some(next.clone());
        }
        Ok(Pulled { block, next })
    }
}

fn genesis(channel: &ChannelId, block: &Block) -> Result<Bundle, PullError> {
    block::check(block).map_err(PullError::Link)?;
    let bundle = config_block::bundle_from_block(block).map_err(PullError::Block)?;
    if bundle.channel_id() != channel {
        let (found, expected) = (bundle.channel_id().clone(), channel.clone());
        return Err(PullError::Block(BlockError::OtherChannel { number: 0, found, expected }));
    }
    Ok(bundle)
}

/// Blocks are judged by the time at which they were made, whenever they are looked at.
fn verify_next(bundle: &Bundle, block: &Block) -> Result<Option<Bundle>, PullError> {
    config_block::verify(bundle, block, ValidAt::Issuance).map_err(PullError::Block)?;
    if !config_block::is_config_block(block) {
        return Ok(None);
    }
    config_block::next_bundle(bundle, block, ValidAt::Issuance).map(Some).map_err(PullError::Block)
}

fn block_of(response: Option<DeliverResponse>) -> Result<Block, PullError> {
    match response.and_then(|response| response.r#type) {
        Some(Type::Block(block)) => Ok(block),
        Some(Type::Status(status)) => {
            Err(PullError::Refused(Status::try_from(status).unwrap_or(Status::Unknown)))
        }
        None => Err(PullError::Ended),
    }
}

async fn open(
    context: &Context,
    channel: &ChannelId,
    source: &Source,
    seek: Seek,
) -> Result<Streaming<DeliverResponse>, PullError> {
    let endpoint = Endpoint::tls(source.address.clone());
    let transport = context.pool.get(&endpoint).map_err(PullError::Connect)?;
    let nonce = weft_crypto::random_bytes().map_err(|_| PullError::Random)?;
    let binding = context.tls.identity().map(|identity| identity.leaf_sha256());
    let binding = binding.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default();
    let signer = context.identity.current();
    let request = seek.sign(channel, &*signer, now(), nonce, binding).map_err(PullError::Sign)?;
    let requests = Open(Some(request));
    let mut client = client(transport, context.settings.limits.max_message_bytes);
    let failed = |status| PullError::Call(Box::new(status));
    Ok(client.deliver(requests).await.map_err(failed)?.into_inner())
}

/// One request on a stream that stays open: its end would be taken for the caller's leave.
struct Open(Option<weft_protos::common::Envelope>);

impl futures::Stream for Open {
    type Item = weft_protos::common::Envelope;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match self.0.take() {
            Some(request) => std::task::Poll::Ready(Some(request)),
            None => std::task::Poll::Pending,
        }
    }
}

fn client(transport: Transport, limit: usize) -> AtomicBroadcastClient<Transport> {
    AtomicBroadcastClient::new(transport)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit)
}

/// Number of the newest block of a source.
///
/// # Errors
/// [`PullError`].
pub async fn newest(
    context: &Context,
    channel: &ChannelId,
    source: &Source,
) -> Result<BlockNumber, PullError> {
    let mut seek = Seek::one(Position::Newest);
    seek.error_response = SeekErrorResponse::BestEffort;
    let mut blocks = open(context, channel, source, seek).await?;
    let next = blocks.message().await.map_err(|status| PullError::Call(Box::new(status)))?;
    let block = block_of(next)?;
    block::header(&block).map(|header| header.number).map_err(PullError::Link)
}

/// What the chain of others holds that this node's does not.
pub struct Ahead {
    /// Their newest block.
    pub newest: Block,
    /// The configuration after it.
    pub bundle: Bundle,
}

/// The newest block that any orderer has behind `from`, verified all the way; `None` when there
/// is none. For a node that hears of no leader and wonders why.
pub async fn look_ahead(
    context: Arc<Context>,
    channel: ChannelId,
    from: ChainEnd,
    trusted: Bundle,
) -> Option<Ahead> {
    let limit = context.settings.cluster.replication.pull_timeout;
    let mut height = 0;
    for source in sources(&context, &trusted) {
        let asked = timeout(limit, newest(&context, &channel, &source)).await;
        height = height.max(asked.ok().and_then(Result::ok).map_or(0, |number| number + 1));
    }
    if height <= from.height {
        return None;
    }
    let mut bundle = from.bundle.clone().unwrap_or_else(|| trusted.clone());
    let mut puller = Puller::start(context, channel, from, Some(height), trusted);
    let mut last = None;
    while let Ok(Some(pulled)) = timeout(limit * 2, puller.next()).await {
        last = Some(pulled.block);
        if let Some(next) = pulled.next {
            bundle = next;
        }
    }
    last.map(|newest| Ahead { newest, bundle })
}
