//! Channels of a local network: begun once, joined, and brought to what the manifest says.
//!
//! What is to be done, and what would do harm, is for [`crate::cluster::ledger`] to say, as it is
//! in clusters: a channel is begun once, an orderer that lost its ledger comes back as a new
//! consenter, and a channel that no orderer has any more is not begun a second time. What that
//! needs to know from run to run is in the network's record: which genesis block, and how many
//! blocks there were.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::{Instant, sleep};
use weft_config::{AnchorPeer, Endpoint, genesis};
use weft_protos::common::Block;
use weft_types::block::header_hash;

use super::error::LocalError;
use super::files;
use super::layout::ORDERING;
use super::nodes::{HOST, Kind, Node};
use super::runner::Runner;
use super::state::ChannelRecord;
use crate::channel_config::{self, DesiredChannel, DesiredMember, DesiredOrderer};
use crate::cluster::ledger::channel::{self, ChannelInput, ChannelOutcome, ConfigState};
use crate::cluster::ledger::{Access, Connections, NodeRef};
use crate::cluster::topology::NodeKind;
use crate::model::Channel;
use crate::words::counted;

/// How long a channel may take for one step towards what it should be, such as the election of a
/// leader or the catching up of an orderer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a channel that is not there yet is looked at.
const POLL: Duration = Duration::from_millis(50);

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

    fn add(&mut self, outcome: &ChannelOutcome) {
        self.joined.extend(outcome.newly_joined.iter().cloned());
        self.updates += outcome.did.len() - outcome.newly_joined.len();
    }
}

impl Runner {
    /// Brings a channel to what the manifest says: genesis, members, config. Every orderer and
    /// peer of it has the same chain when this returns.
    pub(super) async fn ensure_channel(
        &mut self,
        channel: &Channel,
    ) -> Result<ChannelChanges, LocalError> {
        let desired = self.desired_channel(channel)?;
        let (genesis, made) = self.genesis(channel, &desired)?;
        let mut changes = ChannelChanges { made, ..ChannelChanges::default() };
        let access = self.ledger_access();
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.converge(&access, channel, &desired, &genesis, made).await?;
            changes.add(&outcome);
            let height = outcome.heights.values().copied().max().unwrap_or(0);
            self.record_height(channel, height)?;
            if !outcome.did.is_empty() {
                deadline = Instant::now() + PATIENCE;
            }
            let Some(lacks) = self.lacks(channel, &outcome)? else { break };
            if Instant::now() >= deadline {
                return Err(LocalError::Channel { channel: channel.id.clone(), what: lacks });
            }
            sleep(POLL).await;
        }
        self.await_agreement(channel, &genesis).await?;
        Ok(changes)
    }

    /// Does what can be done now, by the operator's rules.
    async fn converge(
        &self,
        access: &Access,
        channel: &Channel,
        desired: &DesiredChannel,
        genesis: &Block,
        never_begun: bool,
    ) -> Result<ChannelOutcome, LocalError> {
        // Those that the manifest no longer has take part until they are removed.
        let orderers = self.nodes_of(Kind::Orderer).chain(&self.leaving);
        let orderers: Vec<NodeRef> = orderers.map(node_ref).collect();
        let peers: Vec<NodeRef> = self.channel_peers(channel).into_iter().map(node_ref).collect();
        let input = ChannelInput {
            desired,
            genesis,
            orderers: &orderers,
            peers: &peers,
            ordering: ORDERING,
            signers: &channel.organizations,
            signatures: &[],
            known_height: self.state.channels.get(channel.id.as_str()).map_or(0, |it| it.height),
            never_begun,
        };
        Ok(channel::converge(access, &input).await?)
    }

    /// What a channel waits for; `None` when it is what it should be.
    fn lacks(
        &self,
        channel: &Channel,
        outcome: &ChannelOutcome,
    ) -> Result<Option<String>, LocalError> {
        match &outcome.config {
            ConfigState::InSync => {
                Ok(outcome.peers.as_ref().map(|waiting| waiting.message.clone()))
            }
            ConfigState::Waiting(waiting) => Ok(Some(waiting.message.clone())),
            ConfigState::NeedsSignatures(needed) => Err(LocalError::Channel {
                channel: channel.id.clone(),
                what: needed.message.clone(),
            }),
            ConfigState::Refused(refused) => Err(LocalError::Refused {
                channel: channel.id.clone(),
                reason: refused.reason,
                message: refused.message.clone(),
                folder: self.layout.root().to_owned(),
            }),
        }
    }

    /// Reaches nodes in the names of all administrators.
    fn ledger_access(&self) -> Access {
        let all = self.organizations.iter();
        all.fold(Access::new(Connections::default()), |access, (name, material)| {
            let roots = vec![material.tls_root().clone()];
            let admin = self.access.admin(name).cloned();
            access.with_holder(name, material.msp_id.clone(), roots, admin)
        })
    }

    /// Remembers how long a channel is known to be, so that it is not begun anew when every
    /// orderer has lost it.
    pub(super) fn record_height(
        &mut self,
        channel: &Channel,
        height: u64,
    ) -> Result<(), LocalError> {
        match self.state.channels.get_mut(channel.id.as_str()) {
            Some(record) if record.height < height => record.height = height,
            _ => return Ok(()),
        }
        Ok(self.state.save(&self.layout)?)
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
        let mut members = BTreeMap::new();
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

    /// The genesis block: made exactly once, recorded before anybody joins with it, and read from
    /// its file ever after. Also whether it was made now.
    fn genesis(
        &mut self,
        channel: &Channel,
        desired: &DesiredChannel,
    ) -> Result<(Block, bool), LocalError> {
        let path = self.layout.genesis(&channel.id);
        let recorded = self.state.channels.get(channel.id.as_str()).map(|it| it.genesis.clone());
        let (block, made) = match (files::read(&path)?, &recorded) {
            (Some(bytes), _) => {
                let block = Block::decode(Bytes::from(bytes)).map_err(|error| {
                    LocalError::Block { path: path.clone(), reason: error.to_string() }
                })?;
                (block, false)
            }
            (None, Some(_)) => {
                let reason = "it is gone, and the channel was begun with it; put the file back from \
                              a backup, or block 0 of the channel in its place";
                return Err(LocalError::Block { path, reason: reason.to_owned() });
            }
            (None, None) => (self.make_genesis(channel, desired)?, true),
        };
        let hash = fingerprint(&block);
        if recorded.as_ref().is_some_and(|recorded| *recorded != hash) {
            let reason = "it is not the block that the channel was begun with; put that one back";
            return Err(LocalError::Block { path, reason: reason.to_owned() });
        }
        if recorded.is_none() {
            let record = ChannelRecord { genesis: hash, height: 0 };
            self.state.channels.insert(channel.id.to_string(), record);
            self.state.save(&self.layout)?;
        }
        Ok((block, made))
    }

    fn make_genesis(
        &self,
        channel: &Channel,
        desired: &DesiredChannel,
    ) -> Result<Block, LocalError> {
        let block = genesis::block(&desired.profile(self.now)?).map_err(|source| {
            channel_config::ChannelConfigError::Genesis { channel: channel.id.clone(), source }
        })?;
        files::write(&self.layout.genesis(&channel.id), &block.encode_to_vec())?;
        Ok(block)
    }
}

/// Hash of a block's header, hexadecimal; it covers the block.
pub(super) fn fingerprint(block: &Block) -> String {
    let hash = block.header.as_ref().map(header_hash).unwrap_or_default();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node_ref(node: &Node) -> NodeRef {
    let is_orderer = node.kind == Kind::Orderer;
    NodeRef {
        name: node.name.clone(),
        kind: if is_orderer { NodeKind::Orderer } else { NodeKind::Peer },
        holder: node.organization.clone(),
        msp_id: node.msp_id.clone(),
        endpoint: Endpoint::new(HOST, node.grpc),
        address: node.address(),
        server_name: HOST.to_owned(),
        participation: is_orderer.then(|| node.participation()),
        operations: Some(format!("{HOST}:{}", node.operations)),
    }
}
