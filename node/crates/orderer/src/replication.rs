//! Blocks from other orderers, verified: each continues the chain, is signed as the
//! configuration before it asks, and a config block follows that configuration.
//!
//! The genesis block has no signatures. Where it comes from another orderer it is believed until
//! the chain reaches the block that the channel was joined with, whose hash decides.

pub(crate) mod chain;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Streaming;
use tonic::transport::Channel as Transport;
use tracing::{debug, info, warn};
use weft_config::Bundle;
use weft_protos::common::{Block, Status};
use weft_protos::orderer::DeliverResponse;
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_protos::orderer::deliver_response::Type;
use weft_protos::orderer::seek_info::{SeekBehavior, SeekErrorResponse};
use weft_rpc::connect::Endpoint;
use weft_types::block;
use weft_types::seek::{Position, Seek};
use weft_types::{BlockNumber, ChannelId};

use crate::chain::{Context, now};
use chain::sources;
pub use chain::{ChainEnd, PullError, Pulled, Source};
pub(crate) use chain::{Next, Pull};

/// Blocks that may wait to be written.
const AHEAD: usize = 8;

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
        let own = context.settings.external_address.clone();
        let pull = Pull::new(channel, own, from, until, trusted);
        let work = Work { context, pull, sender };
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
    pull: Pull,
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
            match self.pull.next() {
                Next::Done => return,
                Next::Ask(source) => match self.pull(&source).await {
                    Left::Done => return,
                    Left::Failed(error) => self.log(&source, &error),
                },
                Next::Rest { grew } => {
                    if !grew && !quiet {
                        let (channel, height) = (self.pull.channel(), self.pull.height());
                        info!(%channel, height, "no orderer has more blocks");
                    }
                    quiet = !grew;
                    sleep(self.context.settings.cluster.replication.retry_interval).await;
                }
            }
        }
    }

    fn log(&self, source: &Source, error: &PullError) {
        let (channel, address) = (self.pull.channel(), &source.address);
        debug!(%channel, address, %error, "got no more blocks");
        if matches!(error, PullError::Link(_) | PullError::Block(_)) {
            warn!(%channel, address, %error, "refused a block");
        }
    }

    async fn pull(&mut self, source: &Source) -> Left {
        let mut blocks = match self.open(source).await {
            Ok(blocks) => blocks,
            Err(error) => return Left::Failed(error),
        };
        while self.pull.wants_more() {
            let block = self.receive(&mut blocks).await;
            let pulled = match block.and_then(|block| self.pull.take(block)) {
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
        let stop = self.pull.until().map_or(u64::MAX, |until| until.saturating_sub(1));
        let (start, stop) = (Position::Block(self.pull.height()), Position::Block(stop));
        let mut seek = Seek::range(start, stop, SeekBehavior::BlockUntilReady);
        seek.error_response = SeekErrorResponse::BestEffort;
        let opening = open(&self.context, self.pull.channel(), source, seek);
        let limit = self.context.settings.cluster.replication.pull_timeout;
        timeout(limit, opening).await.map_err(|_| PullError::Stalled(limit))?
    }

    /// A chain that is followed may be quiet for long; another source is tried all the same, as
    /// this one may keep blocks back.
    async fn receive(&self, blocks: &mut Streaming<DeliverResponse>) -> Result<Block, PullError> {
        let replication = &self.context.settings.cluster.replication;
        let limit = match self.pull.until() {
            Some(_) => replication.pull_timeout,
            None => replication.refresh_interval.max(replication.pull_timeout),
        };
        let next = timeout(limit, blocks.message());
        let next = next.await.map_err(|_| PullError::Stalled(limit))?;
        block_of(next.map_err(|status| PullError::Call(Box::new(status)))?)
    }
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
    for source in sources(&context.settings.external_address, &trusted) {
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
