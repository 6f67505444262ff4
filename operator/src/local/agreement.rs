//! Whether all nodes of a channel have the same chain, which is when it is ready.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};
use weft_client::ClientError;
use weft_protos::common::Block;
use weft_types::seek::Position;

use super::channels::fingerprint;
use super::error::LocalError;
use super::layout::ORDERING;
use super::nodes::{Kind, Node};
use super::runner::Runner;
use crate::model::Channel;

/// Time for nodes to catch up with the one that is furthest.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often they are asked.
const POLL: Duration = Duration::from_millis(25);

impl Runner {
    /// Waits until every orderer and peer of a channel has the blocks that the furthest one had
    /// when this began; then their first and their newest common blocks must be the same.
    pub(super) async fn await_agreement(
        &self,
        channel: &Channel,
        genesis: &Block,
    ) -> Result<(), LocalError> {
        let mut nodes: Vec<&Node> = self.nodes_of(Kind::Orderer).collect();
        nodes.extend(self.channel_peers(channel));
        let target = self.heights(channel, &nodes).await.into_iter().flatten().max().unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        try_join_all(nodes.iter().map(|node| self.await_height(channel, node, target, deadline)))
            .await?;
        let newest = target.saturating_sub(1);
        let genesis = fingerprint(genesis);
        self.compare(channel, &nodes, 0, Some(("the genesis block in the folder", genesis)))
            .await?;
        self.compare(channel, &nodes, newest, None).await
    }

    /// The heights that nodes tell.
    pub(super) async fn heights(&self, channel: &Channel, nodes: &[&Node]) -> Vec<Option<u64>> {
        let asked = nodes.iter().map(|node| async { self.height(channel, node).await.ok() });
        join_all(asked).await
    }

    async fn height(&self, channel: &Channel, node: &Node) -> Result<u64, ClientError> {
        if node.kind == Kind::Peer {
            return Ok(self.access.peer(node)?.chain_info(&channel.id).await?.height);
        }
        let found = self.access.participation(node)?.channel(&channel.id).await?;
        Ok(found.map_or(0, |info| info.height))
    }

    /// A peer that has not yet seen the block which makes its organization a member does not
    /// answer its own administrator: errors are waited through, too.
    async fn await_height(
        &self,
        channel: &Channel,
        node: &Node,
        target: u64,
        deadline: Instant,
    ) -> Result<(), LocalError> {
        loop {
            match self.height(channel, node).await {
                Ok(height) if height >= target => return Ok(()),
                Ok(height) if Instant::now() >= deadline => {
                    let what = format!("{} has {height} of {target} blocks", node.name);
                    return Err(LocalError::Channel { channel: channel.id.clone(), what });
                }
                Err(error) if Instant::now() >= deadline => {
                    let step = format!("read the height of {} at {}", channel.id, node.name);
                    return Err(LocalError::step(step)(error));
                }
                Ok(_) | Err(_) => sleep(POLL).await,
            }
        }
    }

    async fn compare(
        &self,
        channel: &Channel,
        nodes: &[&Node],
        number: u64,
        mut expected: Option<(&str, String)>,
    ) -> Result<(), LocalError> {
        let asked = nodes.iter().map(|node| self.block_at(channel, node, number));
        for (node, block) in nodes.iter().zip(try_join_all(asked).await?) {
            let found = fingerprint(&block);
            let (name, expected) = expected.get_or_insert_with(|| (&node.name, found.clone()));
            if *expected != found {
                return Err(LocalError::Apart {
                    channel: channel.id.clone(),
                    number,
                    node: node.name.clone(),
                    found,
                    other: (*name).to_owned(),
                    expected: expected.clone(),
                });
            }
        }
        Ok(())
    }

    async fn block_at(
        &self,
        channel: &Channel,
        node: &Node,
        number: u64,
    ) -> Result<Block, LocalError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask_for_block(channel, node, number).await {
                Ok(block) => return Ok(block),
                // An orderer that knows of no leader gives no blocks for a moment.
                Err(error) if error.can_retry() && Instant::now() < deadline => sleep(POLL).await,
                Err(error) => {
                    let step = format!("read block {number} of {} at {}", channel.id, node.name);
                    return Err(LocalError::step(step)(error));
                }
            }
        }
    }

    async fn ask_for_block(
        &self,
        channel: &Channel,
        node: &Node,
        number: u64,
    ) -> Result<Block, ClientError> {
        if node.kind == Kind::Peer {
            return self.access.peer(node)?.block(&channel.id, number).await;
        }
        let orderer = self.access.orderer(node, ORDERING)?;
        orderer.block(&channel.id, Position::Block(number)).await
    }
}
