//! A chain on its way from other orderers. Pure: which orderer is asked next, and which block is
//! taken.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use weft_config::Bundle;
use weft_config::block::{self as config_block, BlockError};
use weft_msp::ValidAt;
use weft_protos::common::{Block, Status};
use weft_rpc::connect::ConnectError;
use weft_types::block::{self, BlockError as LinkError};
use weft_types::{BlockNumber, ChannelId, SignError};

use crate::membership::raft_consenters;

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

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This orderer is asked for blocks from [`Pull::height`] on, for as long as it gives any.
    Ask(Source),
    /// All were asked; the next round begins after a rest. Whether it brought blocks.
    Rest {
        /// Whether the round that has ended brought any.
        grew: bool,
    },
    /// There is nothing more to do.
    Done,
}

/// Blocks of one channel from other orderers.
pub(crate) struct Pull {
    channel: ChannelId,
    /// The node's own address, which is not asked.
    own: String,
    chain: ChainEnd,
    until: Option<BlockNumber>,
    trusted: Bundle,
    /// Whom this round still asks; `None` between rounds.
    round: Option<VecDeque<Source>>,
    began_at: BlockNumber,
}

impl Pull {
    /// Fetches behind `from`, towards a height of `until`, or for ever. `trusted` names the
    /// orderers as long as there is no genesis block; `own` is this node's address.
    pub fn new(
        channel: ChannelId,
        own: String,
        from: ChainEnd,
        until: Option<BlockNumber>,
        trusted: Bundle,
    ) -> Self {
        let began_at = from.height;
        Self { channel, own, chain: from, until, trusted, round: None, began_at }
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// Number of the next block.
    pub fn height(&self) -> BlockNumber {
        self.chain.height
    }

    /// The height to reach, if there is one.
    pub fn until(&self) -> Option<BlockNumber> {
        self.until
    }

    /// Whether more blocks are wanted.
    pub fn wants_more(&self) -> bool {
        self.until.is_none_or(|until| self.chain.height < until)
    }

    /// What to do, as the orderer that was asked last gives no more.
    pub fn next(&mut self) -> Next {
        if !self.wants_more() {
            return Next::Done;
        }
        let round = self.round.get_or_insert_with(|| {
            self.began_at = self.chain.height;
            sources(&self.own, self.chain.bundle.as_ref().unwrap_or(&self.trusted)).into()
        });
        if let Some(source) = round.pop_front() {
            return Next::Ask(source);
        }
        self.round = None;
        Next::Rest { grew: self.chain.height > self.began_at }
    }

    /// Takes the next block, if it continues the chain and is signed as it should be.
    ///
    /// # Errors
    /// [`PullError::Link`] or [`PullError::Block`]; the chain stays as it was.
    pub fn take(&mut self, block: Block) -> Result<Pulled, PullError> {
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

/// Addresses of everybody who should have the channel's blocks, consenters first; without `own`.
pub(crate) fn sources(own: &str, bundle: &Bundle) -> Vec<Source> {
    let consenters = raft_consenters(bundle).iter().map(|c| c.endpoint.to_string());
    let endpoints = bundle.orderer_endpoints().into_iter().map(|(_, at)| at.to_string());
    let mut addresses: Vec<String> = Vec::new();
    for address in consenters.chain(endpoints) {
        if address != own && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.into_iter().map(|address| Source { address }).collect()
}
