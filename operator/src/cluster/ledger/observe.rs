//! What nodes say of themselves: health, channels, heights, leader, the certificate in use.
//!
//! Asking never fails. What a node does not say in time is not known, and the node's
//! `problem` says why.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join, join_all, join3};
use weft_client::ClientError;
use weft_types::ChannelId;

use super::access::{Access, NodeRef};
use super::exposition::{self, Sample};
use super::{Refused, told};
use crate::cluster::topology::NodeKind;

/// What an orderer does for a channel (the metric `consensus_role`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has no vote.
    Observer,
    /// It has a vote and does not lead.
    Follower,
    /// It stands for election.
    Candidate,
    /// It leads.
    Leader,
    /// It has lost its log and may not vote yet.
    Quarantined,
}

/// What an orderer says of a channel that it has joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrdererChannel {
    /// Number of blocks.
    pub height: u64,
    /// `consenter`, `follower` or `other`.
    pub relation: String,
    /// `active`, `onboarding` or `failed`.
    pub status: String,
    /// Whether it leads.
    pub is_leader: bool,
    /// What it does, if its metrics say so.
    pub role: Option<Role>,
    /// Its term; 0 when it has none or does not say.
    pub term: u64,
    /// SHA-256 of the header of block 0, hexadecimal, if it says it.
    pub genesis: Option<String>,
    /// Why it has failed, if it has.
    pub failure: Option<String>,
}

/// What is known of an orderer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrdererFacts {
    /// Whether it says that it is well.
    pub healthy: bool,
    /// The channels that it has joined; `None` when it does not answer.
    pub channels: Option<BTreeMap<String, OrdererChannel>>,
    /// Of those that were set aside: the hash of the genesis block that they begin with.
    pub foreign: BTreeMap<String, String>,
    /// SHA-256 of the TLS certificate that it serves with.
    pub served_tls: Option<[u8; 32]>,
    /// What is wrong with it, or why something is not known.
    pub problem: Option<String>,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFacts {
    /// Whether it says that it is well.
    pub healthy: bool,
    /// Heights of the channels that it has joined, 0 for one of which it cannot tell yet;
    /// `None` when it does not answer.
    pub heights: Option<BTreeMap<String, u64>>,
    /// Channels that have failed there, each with the reason.
    pub failures: BTreeMap<String, String>,
    /// Channels that were set aside: the hash of the genesis block that they begin with.
    pub foreign: BTreeMap<String, String>,
    /// SHA-256 of the TLS certificate that it serves with.
    pub served_tls: Option<[u8; 32]>,
    /// What is wrong with it, or why something is not known.
    pub problem: Option<String>,
}

/// What is known of several nodes, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Orderers.
    pub orderers: BTreeMap<String, OrdererFacts>,
    /// Peers.
    pub peers: BTreeMap<String, PeerFacts>,
}

/// Asks nodes, all at once.
pub async fn observe(access: &Access, nodes: &[NodeRef]) -> Observation {
    let mut observation = Observation::default();
    observation.refresh(access, nodes, |_| true).await;
    observation
}

impl Observation {
    /// Asks once more those nodes that answered before: a silent one would only take time.
    pub async fn again(&mut self, access: &Access, nodes: &[NodeRef]) {
        let silent: BTreeSet<String> = nodes
            .iter()
            .map(|node| node.name.clone())
            .filter(|name| !self.answered(name))
            .collect();
        self.refresh(access, nodes, |node| !silent.contains(&node.name)).await;
    }

    /// Whether a node answered.
    pub fn answered(&self, node: &str) -> bool {
        self.orderers.get(node).is_some_and(|facts| facts.channels.is_some())
            || self.peers.get(node).is_some_and(|facts| facts.heights.is_some())
    }

    /// The orderer that leads a channel. Of several that say so, the one of the latest term.
    pub fn leader(&self, channel: &str) -> Option<&str> {
        let leaders = self.of_channel(channel).filter(|(_, facts)| facts.is_leader);
        leaders.max_by_key(|(_, facts)| facts.term).map(|(name, _)| name)
    }

    /// The latest term of a channel.
    pub fn term(&self, channel: &str) -> Option<u64> {
        self.of_channel(channel).map(|(_, facts)| facts.term).max().filter(|term| *term > 0)
    }

    /// Heights of a channel at the nodes that have joined it.
    pub fn heights(&self, channel: &str) -> BTreeMap<String, u64> {
        let orderers = self.of_channel(channel).map(|(name, facts)| (name, facts.height));
        let peers = self.peers.iter().filter_map(|(name, facts)| {
            Some((name.as_str(), *facts.heights.as_ref()?.get(channel)?))
        });
        orderers.chain(peers).map(|(name, height)| (name.to_owned(), height)).collect()
    }

    /// The greatest height of a channel at any node.
    pub fn height(&self, channel: &str) -> u64 {
        self.heights(channel).into_values().max().unwrap_or(0)
    }

    /// The greatest height of a channel at any peer.
    pub fn height_at_peers(&self, channel: &str) -> u64 {
        let heights = self.peers.values().filter_map(|facts| facts.heights.as_ref());
        heights.filter_map(|heights| heights.get(channel)).copied().max().unwrap_or(0)
    }

    /// Sets aside, of a channel, the ledgers that do not begin with the genesis block of this hash:
    /// they are of an earlier channel of that name. Their heights and configs count for nothing,
    /// and they are not missing either. `peers` are the hashes that peers' ledgers begin with.
    pub fn set_aside(&mut self, channel: &str, genesis: &str, peers: &BTreeMap<String, String>) {
        for facts in self.orderers.values_mut() {
            let own = facts.channels.as_ref().and_then(|all| all.get(channel)?.genesis.clone());
            if let Some(own) = own.filter(|own| own != genesis) {
                facts.channels.as_mut().and_then(|all| all.remove(channel));
                facts.foreign.insert(channel.to_owned(), own);
            }
        }
        for (name, facts) in &mut self.peers {
            if let Some(own) = peers.get(name).filter(|own| *own != genesis) {
                facts.heights.as_mut().and_then(|all| all.remove(channel));
                facts.foreign.insert(channel.to_owned(), own.clone());
            }
        }
    }

    /// Whether an orderer leads any channel.
    pub fn leads(&self, node: &str) -> bool {
        self.orderers
            .get(node)
            .and_then(|facts| facts.channels.as_ref())
            .is_some_and(|channels| channels.values().any(|channel| channel.is_leader))
    }

    /// Whether every channel of an orderer keeps its quorum while that orderer is stopped.
    /// Every orderer of the network has to be in this observation. One that does not answer, or
    /// does not have a channel, may be a consenter of it that is down or has lost its volume.
    /// Channels of one or two consenters stop with any of them, and that is no reason to wait.
    ///
    /// # Errors
    /// [`Refused`] names the channel that would stop.
    pub fn may_stop(&self, node: &str) -> Result<(), Refused> {
        let channels = self.orderers.get(node).and_then(|facts| facts.channels.as_ref());
        let voting = channels.into_iter().flatten().filter(|(_, own)| own.relation == "consenter");
        for (channel, own) in voting {
            let others = self.orderers.iter().filter(|(name, _)| *name != node);
            let others: Vec<_> = others
                .map(|(_, facts)| facts.channels.as_ref().and_then(|all| all.get(channel)))
                .filter(|facts| facts.is_none_or(|facts| facts.relation == "consenter"))
                .collect();
            let alive =
                others.iter().flatten().filter(|facts| facts.takes_part(own.height)).count();
            let members = others.len() + 1;
            let quorum = members / 2 + 1;
            if members > 2 && alive < quorum {
                let message = format!(
                    "channel {channel} would have {alive} of {members} orderers without {node}, \
                     and needs {quorum}"
                );
                return Err(Refused::new("QuorumAtRisk", message));
            }
        }
        Ok(())
    }

    fn of_channel(&self, channel: &str) -> impl Iterator<Item = (&str, &OrdererChannel)> {
        self.orderers.iter().filter_map(move |(name, facts)| {
            Some((name.as_str(), facts.channels.as_ref()?.get(channel)?))
        })
    }

    async fn refresh(
        &mut self,
        access: &Access,
        nodes: &[NodeRef],
        which: impl Fn(&NodeRef) -> bool,
    ) {
        let (orderers, peers): (Vec<&NodeRef>, Vec<&NodeRef>) = nodes
            .iter()
            .filter(|node| which(node))
            .partition(|node| node.kind == NodeKind::Orderer);
        let asked = join(
            join_all(orderers.iter().map(|node| ask_orderer(access, node))),
            join_all(peers.iter().map(|node| ask_peer(access, node))),
        );
        let (orderer_facts, peer_facts) = asked.await;
        let name = |node: &&NodeRef| node.name.clone();
        self.orderers.extend(orderers.iter().map(name).zip(orderer_facts));
        self.peers.extend(peers.iter().map(name).zip(peer_facts));
    }
}

impl OrdererChannel {
    /// How many blocks behind the others counts as being up to date: blocks go on being made
    /// while nodes are asked.
    pub const LAG: u64 = 16;

    /// Whether the orderer has about `height` blocks and is not held up.
    pub fn keeps_up(&self, height: u64) -> bool {
        self.status == "active" && self.height.saturating_add(Self::LAG) >= height
    }

    /// Whether it is out of service. What it says of its height may be less than what it has.
    pub fn has_failed(&self) -> bool {
        self.status == "failed"
    }

    /// Whether it is a consenter whose vote and log count.
    pub fn takes_part(&self, height: u64) -> bool {
        let votes = !matches!(self.role, Some(Role::Quarantined | Role::Observer));
        self.relation == "consenter" && votes && self.keeps_up(height)
    }
}

/// The first problem of several, or none.
#[derive(Default)]
struct Problem(Option<String>);

impl Problem {
    fn ok<T>(&mut self, answer: Result<T, ClientError>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.get_or_insert_with(|| told(&error));
                None
            }
        }
    }
}

async fn ask_orderer(access: &Access, node: &NodeRef) -> OrdererFacts {
    let channels = access.within(node, "its channels", orderer_channels(access, node));
    let served = access.within(node, "its certificate", access.served_tls(node));
    let (channels, operations, served) =
        join3(channels, ask_operations(access, node), served).await;
    let mut problem = Problem::default();
    let mut channels = problem.ok(channels);
    let (healthy, samples) = operations;
    let healthy = problem.ok(healthy).is_some();
    let samples = problem.ok(samples).unwrap_or_default();
    for (name, channel) in channels.iter_mut().flatten() {
        channel.measure(name, &samples);
    }
    OrdererFacts {
        healthy,
        channels,
        served_tls: problem.ok(served),
        problem: problem.0,
        ..OrdererFacts::default()
    }
}

async fn ask_peer(access: &Access, node: &NodeRef) -> PeerFacts {
    let heights = access.within(node, "its channels", peer_heights(access, node));
    let served = access.within(node, "its certificate", access.served_tls(node));
    let healthy = access.within(node, "its health", health(access, node));
    let (heights, healthy, served) = join3(heights, healthy, served).await;
    let mut problem = Problem::default();
    let heights = problem.ok(heights);
    let failures = problem.ok(healthy);
    PeerFacts {
        healthy: failures.is_some(),
        heights,
        failures: failures.unwrap_or_default(),
        served_tls: problem.ok(served),
        problem: problem.0,
        ..PeerFacts::default()
    }
}

type Failures = BTreeMap<String, String>;
type Operational = (Result<Failures, ClientError>, Result<Vec<Sample>, ClientError>);

async fn ask_operations(access: &Access, node: &NodeRef) -> Operational {
    let metrics = async {
        match access.operations(node) {
            Some(operations) => operations.metrics().await.map(|text| exposition::read(&text)),
            None => Ok(Vec::new()),
        }
    };
    join(
        access.within(node, "its health", health(access, node)),
        access.within(node, "its metrics", metrics),
    )
    .await
}

/// A node whose operations are not served to us is well when it answers at all.
async fn health(access: &Access, node: &NodeRef) -> Result<Failures, ClientError> {
    match access.operations(node) {
        Some(operations) => operations.healthy().await,
        None => Ok(Failures::new()),
    }
}

async fn orderer_channels(
    access: &Access,
    node: &NodeRef,
) -> Result<BTreeMap<String, OrdererChannel>, ClientError> {
    let participation = access.participation(node)?;
    let names = participation.channels().await?;
    let ids = names.into_iter().filter_map(|name| ChannelId::new(&name).ok());
    let asked = ids.map(|id| {
        let participation = participation.clone();
        async move { participation.channel(&id).await }
    });
    let mut channels = BTreeMap::new();
    for info in join_all(asked).await {
        // `None`: left between the two questions.
        let Some(info) = info? else { continue };
        let channel = OrdererChannel {
            height: info.height,
            relation: info.consensus_relation,
            status: info.status,
            genesis: info.genesis_hash,
            failure: info.failure,
            ..OrdererChannel::default()
        };
        channels.insert(info.name, channel);
    }
    Ok(channels)
}

impl OrdererChannel {
    fn measure(&mut self, name: &str, samples: &[Sample]) {
        let of = |metric| exposition::of_channel(samples, metric, name);
        self.is_leader = of("consensus_etcdraft_is_leader") == Some(1);
        self.term = of("consensus_term").unwrap_or(0);
        self.role = match of("consensus_role") {
            Some(0) => Some(Role::Observer),
            Some(1) => Some(Role::Follower),
            Some(2) => Some(Role::Candidate),
            Some(3) => Some(Role::Leader),
            Some(4) => Some(Role::Quarantined),
            _ => None,
        };
    }
}

async fn peer_heights(
    access: &Access,
    node: &NodeRef,
) -> Result<BTreeMap<String, u64>, ClientError> {
    let peer = access.peer(node)?;
    let names = peer.channels().await?;
    let ids = names.into_iter().filter_map(|name| ChannelId::new(&name).ok());
    let asked = ids.map(|id| {
        let peer = peer.clone();
        async move {
            // A peer that has not yet seen the block which makes its organization a member does
            // not answer its own administrator.
            let height = peer.chain_info(&id).await.map_or(0, |info| info.height);
            (id.to_string(), height)
        }
    });
    Ok(join_all(asked).await.into_iter().collect())
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
