//! Channels of a local network: genesis, joining, and changes of their config.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::{Instant, sleep};
use weft_client::{ClientError, Orderer, Peer};
use weft_config::{AnchorPeer, Endpoint, block as config_block, genesis, update};
use weft_protos::common::{Block, Config, ConfigUpdateEnvelope, Status};
use weft_types::config::{sign_update, update_envelope};
use weft_types::{Nonce, Timestamp};

use super::error::LocalError;
use super::files::{self, Secrecy};
use super::layout::ORDERING;
use super::nodes::{HOST, Kind, Node};
use super::runner::Runner;
use crate::channel_config::{self, DesiredChannel, DesiredMember, DesiredOrderer};
use crate::model::Channel;
use crate::words::counted;

/// Time for the orderers to elect a leader, or for a change to reach every node.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a node that is not there yet is asked again.
const POLL: Duration = Duration::from_millis(25);

/// What was done to a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelChanges {
    /// Whether its genesis block was made.
    pub made: bool,
    /// Orderers and peers that joined.
    pub joined: Vec<String>,
    /// Config updates that were committed.
    pub updates: usize,
}

impl ChannelChanges {
    /// For people.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        if self.made {
            parts.push("genesis block made".to_owned());
        }
        if !self.joined.is_empty() {
            parts.push(format!("joined by {}", self.joined.join(", ")));
        }
        if self.updates > 0 {
            parts.push(counted(self.updates, "config update"));
        }
        if parts.is_empty() { "unchanged".to_owned() } else { parts.join("; ") }
    }
}

impl Runner {
    /// Brings a channel to what the manifest says: genesis, members, config.
    pub(super) async fn ensure_channel(
        &self,
        channel: &Channel,
    ) -> Result<ChannelChanges, LocalError> {
        let mut changes = ChannelChanges::default();
        let desired = self.desired_channel(channel)?;
        let genesis = self.genesis(channel, &desired, &mut changes)?;
        for node in self.nodes_of(Kind::Orderer) {
            if self.join_orderer(node, channel, &genesis).await? {
                changes.joined.push(node.name.clone());
            }
        }
        // Before the peers join: orderers serve the peers of members only.
        changes.updates = self.ensure_config(channel, &desired).await?;
        let peers = self.channel_peers(channel);
        let joins = peers.iter().map(|node| self.join_peer(node, channel, &genesis));
        for (node, joined) in peers.iter().zip(futures::future::join_all(joins).await) {
            if joined? {
                changes.joined.push(node.name.clone());
            }
        }
        self.await_same_height(channel, &peers).await?;
        Ok(changes)
    }

    /// Peers of the channel's members.
    pub(super) fn channel_peers(&self, channel: &Channel) -> Vec<&Node> {
        self.nodes_of(Kind::Peer)
            .filter(|node| channel.organizations.contains(&node.organization))
            .collect()
    }

    fn desired_channel(&self, channel: &Channel) -> Result<DesiredChannel, LocalError> {
        let ordering = &self.network.ordering;
        let mut orderers = Vec::new();
        for node in self.nodes_of(Kind::Orderer) {
            let cert = files::read(&node.tls_cert())?.unwrap_or_default();
            let endpoint = Endpoint::new(HOST, node.grpc);
            orderers.push(DesiredOrderer { endpoint, tls_cert: Bytes::from(cert) });
        }
        let mut members = std::collections::BTreeMap::new();
        for name in &channel.organizations {
            let material = self.material(name)?;
            let anchor_peers = self
                .nodes_of(Kind::Peer)
                .filter(|node| node.organization == *name)
                .map(|node| AnchorPeer { host: HOST.to_owned(), port: i32::from(node.grpc) })
                .collect();
            let msp = material.msp_config(&self.layout)?;
            members.insert(material.msp_id.clone(), DesiredMember { msp, anchor_peers });
        }
        Ok(DesiredChannel {
            id: channel.id.clone(),
            consensus: ordering.consensus,
            raft: ordering.raft,
            orderer_msp_id: ordering.msp_id.clone(),
            orderer_msp: self.material(ORDERING)?.msp_config(&self.layout)?,
            orderers,
            batch: channel.batch,
            members,
            policies: channel.policies.clone(),
            acls: channel.acls.clone(),
        })
    }

    /// The genesis block: made exactly once, and read from its file ever after.
    fn genesis(
        &self,
        channel: &Channel,
        desired: &DesiredChannel,
        changes: &mut ChannelChanges,
    ) -> Result<Block, LocalError> {
        let path = self.layout.genesis(&channel.id);
        if let Some(bytes) = files::read(&path)? {
            return Block::decode(Bytes::from(bytes))
                .map_err(|error| LocalError::Block { path, reason: error.to_string() });
        }
        let block = genesis::block(&desired.profile(self.now)?).map_err(|source| {
            channel_config::ChannelConfigError::Genesis { channel: channel.id.clone(), source }
        })?;
        files::write(&path, &block.encode_to_vec(), Secrecy::Public)?;
        changes.made = true;
        Ok(block)
    }

    async fn join_orderer(
        &self,
        node: &Node,
        channel: &Channel,
        genesis: &Block,
    ) -> Result<bool, LocalError> {
        let step = || LocalError::step(format!("join {} to channel {}", node.name, channel.id));
        let participation = self.access.participation(node).map_err(step())?;
        if participation.channel(&channel.id).await.map_err(step())?.is_some() {
            return Ok(false);
        }
        participation.join(genesis).await.map_err(step())?;
        Ok(true)
    }

    async fn join_peer(
        &self,
        node: &Node,
        channel: &Channel,
        genesis: &Block,
    ) -> Result<bool, LocalError> {
        let step = || LocalError::step(format!("join {} to channel {}", node.name, channel.id));
        let peer = self.access.peer(node).map_err(step())?;
        let joined = peer.channels().await.map_err(step())?;
        if joined.iter().any(|id| *id == *channel.id.as_str()) {
            return Ok(false);
        }
        peer.join(genesis).await.map_err(step())?;
        Ok(true)
    }

    /// Sends config updates until the channel's config is what the manifest says.
    async fn ensure_config(
        &self,
        channel: &Channel,
        desired: &DesiredChannel,
    ) -> Result<usize, LocalError> {
        let mut updates = 0;
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let current = self.current_config(channel).await?;
            let Some(next) = channel_config::next(&current, desired)? else { return Ok(updates) };
            match self.send_update(channel, &current, &next).await {
                Ok(()) => {}
                // A consenter that was just added does not count for the quorum before it has
                // caught up: the next one waits for it.
                Err(error) if updates > 0 && refused(&error) && Instant::now() < deadline => {
                    sleep(POLL).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.await_sequence(channel, current.sequence + 1).await?;
            updates += 1;
            deadline = Instant::now() + PATIENCE;
        }
    }

    /// The newest config, from whichever orderer answers first.
    async fn current_config(&self, channel: &Channel) -> Result<Config, LocalError> {
        let block = self
            .ask_orderers(channel, "read the config", async |orderer| {
                orderer.config_block(&channel.id).await
            })
            .await?;
        let (_, config) = config_block::config_from_block(&block).map_err(|error| {
            LocalError::Channel { channel: channel.id.clone(), what: error.to_string() }
        })?;
        Ok(config)
    }

    async fn send_update(
        &self,
        channel: &Channel,
        current: &Config,
        next: &Config,
    ) -> Result<(), LocalError> {
        let fail = |what: String| LocalError::Channel { channel: channel.id.clone(), what };
        let update = update::compute(&channel.id, current, next)
            .map_err(|error| fail(format!("failed to compute the update: {error}")))?
            .encode_to_vec();
        let mut signatures = Vec::new();
        for name in channel.organizations.iter().map(String::as_str).chain([ORDERING]) {
            let admin = self.admin(name)?;
            let signature = sign_update(&update, admin.signer.as_ref(), fresh_nonce()?)
                .map_err(|error| fail(error.to_string()))?;
            signatures.push(signature);
        }
        let update = ConfigUpdateEnvelope { config_update: update.into(), signatures };
        let admin = self.admin(ORDERING)?;
        self.ask_orderers(channel, "change the config", async |orderer| {
            let now = Timestamp::from_system_time(std::time::SystemTime::now());
            let nonce = weft_crypto::random_bytes().map_err(ClientError::Nonce)?;
            let envelope =
                update_envelope(&channel.id, update.clone(), admin.signer.as_ref(), now, nonce)
                    .map_err(ClientError::Sign)?;
            orderer.broadcast(envelope).await
        })
        .await
    }

    async fn await_sequence(&self, channel: &Channel, sequence: u64) -> Result<(), LocalError> {
        let deadline = Instant::now() + PATIENCE;
        while self.current_config(channel).await?.sequence < sequence {
            if Instant::now() >= deadline {
                let what = format!("config {sequence} was sent and is not on the ledger");
                return Err(LocalError::Channel { channel: channel.id.clone(), what });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Asks one orderer after the other until one does it, for as long as trying again helps:
    /// a fresh channel has no leader for a moment.
    async fn ask_orderers<T>(
        &self,
        channel: &Channel,
        what: &str,
        call: impl AsyncFn(Orderer) -> Result<T, ClientError>,
    ) -> Result<T, LocalError> {
        let step = || LocalError::step(format!("{what} of channel {}", channel.id));
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            for node in self.nodes_of(Kind::Orderer) {
                let orderer = self.access.orderer(node, ORDERING).map_err(step())?;
                match call(orderer).await {
                    Ok(value) => return Ok(value),
                    Err(error) if error.can_retry() => last = Some(error),
                    Err(error) => return Err(step()(error)),
                }
            }
            sleep(POLL).await;
        }
        Err(match last {
            Some(error) => step()(error),
            None => LocalError::Channel {
                channel: channel.id.clone(),
                what: "the network has no orderer".to_owned(),
            },
        })
    }

    /// Waits until every peer has the blocks that the furthest one had when this began.
    async fn await_same_height(
        &self,
        channel: &Channel,
        peers: &[&Node],
    ) -> Result<(), LocalError> {
        let newest = self
            .ask_orderers(channel, "read the newest block", async |orderer| {
                orderer.block(&channel.id, weft_types::seek::Position::Newest).await
            })
            .await?;
        let target = newest.header.map_or(0, |header| header.number + 1);
        let deadline = Instant::now() + PATIENCE;
        for node in peers {
            self.await_height(channel, node, target, deadline).await?;
        }
        Ok(())
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
        let step = LocalError::step(format!("read the height of {} at {}", channel.id, node.name));
        let peer: Peer = match self.access.peer(node) {
            Ok(peer) => peer,
            Err(error) => return Err(step(error)),
        };
        loop {
            match peer.chain_info(&channel.id).await {
                Ok(info) if info.height >= target => return Ok(()),
                Ok(info) if Instant::now() >= deadline => {
                    let (name, height) = (&node.name, info.height);
                    let what = format!("{name} is at height {height}, the channel at {target}");
                    return Err(LocalError::Channel { channel: channel.id.clone(), what });
                }
                Err(error) if Instant::now() >= deadline => return Err(step(error)),
                Ok(_) | Err(_) => sleep(POLL).await,
            }
        }
    }
}

/// Whether an orderer said no to an envelope, as opposed to not being able to take it.
fn refused(error: &LocalError) -> bool {
    let LocalError::Step { source, .. } = error else { return false };
    matches!(**source, ClientError::Broadcast { status: Status::BadRequest, .. })
}

fn fresh_nonce() -> Result<Nonce, LocalError> {
    weft_crypto::random_bytes()
        .map_err(|error| LocalError::System { step: "draw a nonce", source: error.into() })
}
