//! A channel of running nodes: begun, joined, its config brought to what is wanted.
//!
//! One call of [`converge`] does as much as can be done now, in this order: orderers join, the
//! config is changed update by update, peers of members join. It looks at the nodes first and
//! keeps nothing from call to call, so that it may be interrupted anywhere.

mod peers;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use weft_client::ClientError;
use weft_config::{Bundle, Consensus, Endpoint, RaftConsenter, block as config_block};
use weft_protos::common::Block;
use weft_types::ChannelId;

pub use super::signatures::{NeedsSignatures, SignedUpdate};

use super::access::{Access, NodeRef};
use super::consenters::{self, Chain, Standing, Step};
use super::joining::{self, Joins, Known, With};
use super::observe::{Observation, OrdererChannel, PeerFacts, observe};
use super::{LedgerError, Refused, Waiting, told};
use crate::channel_config::{self, DesiredChannel, Edit};
use peers::first_blocks;
use updates::Edited;

/// How long one call goes on making changes before it leaves the rest to the next.
const BUDGET: Duration = Duration::from_secs(8);
/// Time for a config update to get on the ledger, and for a peer that has just joined to catch
/// up, before the next call looks again.
const SETTLE: Duration = Duration::from_secs(3);
/// How often something that comes soon is looked for.
const POLL: Duration = Duration::from_millis(50);

/// A channel, and everything that has to do with it here.
#[derive(Clone, Copy)]
pub struct ChannelInput<'a> {
    /// What the channel should be. Its orderers are all that should be consenters in the end.
    pub desired: &'a DesiredChannel,
    /// Its genesis block.
    pub genesis: &'a Block,
    /// Every orderer that runs, those that are to go included.
    pub orderers: &'a [NodeRef],
    /// Peers of the members that are run here.
    pub peers: &'a [NodeRef],
    /// The holder of the ordering service.
    pub ordering: &'a str,
    /// The holders whose administrators sign: the ordering service and the members run here.
    pub signers: &'a [String],
    /// What was signed elsewhere.
    pub signatures: &'a [SignedUpdate],
    /// The greatest height that was ever reported, 0 for none. A channel that is known to have
    /// had blocks is not begun a second time when no orderer has it any more.
    pub known_height: u64,
    /// Whether the channel is known never to have begun: its genesis block was made by whoever
    /// calls, who has kept a record since and has seen it nowhere.
    pub never_begun: bool,
}

/// How the config on the ledger stands to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// It is what is wanted.
    InSync,
    /// It will be, once this has come about.
    Waiting(Waiting),
    /// Others have to agree.
    NeedsSignatures(NeedsSignatures),
    /// It cannot be without harm.
    Refused(Refused),
}

/// What was found and done.
#[derive(Clone, Debug)]
pub struct ChannelOutcome {
    /// What was done, a sentence each.
    pub did: Vec<String>,
    /// The config.
    pub config: ConfigState,
    /// What keeps orderers from serving the channel; `None` where nothing does.
    pub orderers: Option<Waiting>,
    /// What the peers lack; `None` when every one has joined and keeps up.
    pub peers: Option<Waiting>,
    /// Number of the config on the ledger.
    pub sequence: Option<u64>,
    /// MSP ids of the members by the config on the ledger.
    pub members: Vec<String>,
    /// Names of the consenters by the config on the ledger; the endpoint of one that is not
    /// known here.
    pub consenters: Vec<String>,
    /// Number of blocks at each node that has joined.
    pub heights: BTreeMap<String, u64>,
    /// The orderer that leads.
    pub leader: Option<String>,
    /// The term in which it does.
    pub term: Option<u64>,
    /// Nodes that have joined.
    pub joined: BTreeSet<String>,
    /// Those of them that did so now.
    pub newly_joined: Vec<String>,
    /// Orderers that are not wanted and are consenters no longer: they may be stopped as far as
    /// this channel goes.
    pub removable: Vec<String>,
    /// Everything that the nodes said last.
    pub observation: Observation,
}

/// Does what can be done now.
///
/// # Errors
/// [`LedgerError`] for what waiting does not mend. What nodes refuse or do not answer is part
/// of the outcome.
pub async fn converge(
    access: &Access,
    input: &ChannelInput<'_>,
) -> Result<ChannelOutcome, LedgerError> {
    let mut run = Run::start(access, *input).await?;
    let config = run.change().await?;
    let peers = run.join_peers().await;
    run.outcome(config, peers)
}

/// Makes an orderer leave a channel and delete its ledger of it; `false` when it had not joined.
///
/// # Errors
/// [`LedgerError::Node`].
pub async fn leave(
    access: &Access,
    orderer: &NodeRef,
    channel: &ChannelId,
) -> Result<bool, LedgerError> {
    let step = || LedgerError::node(format!("remove {} from channel {channel}", orderer.name));
    let participation = access.participation(orderer).map_err(step())?;
    let call = async {
        if participation.channel(channel).await?.is_none() {
            return Ok(false);
        }
        participation.remove(channel).await.map(|()| true)
    };
    access.within(orderer, "leaving the channel", call).await.map_err(step())
}

/// Whether the config on the ledger names a consenter at an endpoint.
///
/// # Errors
/// [`LedgerError::Node`] with what one orderer said, when none tells the config.
pub async fn is_consenter(
    access: &Access,
    orderers: &[NodeRef],
    channel: &ChannelId,
    endpoint: &Endpoint,
) -> Result<bool, LedgerError> {
    let failed = LedgerError::node(format!("read the config of channel {channel}"));
    let orderers: Vec<&NodeRef> = orderers.iter().collect();
    let current = read_config(access, &orderers, channel).await.map_err(failed)?;
    Ok(consenters_of(&current.bundle).iter().any(|one| one.endpoint == *endpoint))
}

/// The config on the ledger.
struct Current {
    block: Block,
    bundle: Bundle,
}

fn consenters_of(bundle: &Bundle) -> &[RaftConsenter] {
    match bundle.orderer().map(|orderer| &orderer.consensus) {
        Some(Consensus::Raft(raft)) => &raft.consenters,
        _ => &[],
    }
}

/// The newest config that any of these orderers has.
async fn read_config(
    access: &Access,
    orderers: &[&NodeRef],
    channel: &ChannelId,
) -> Result<Current, ClientError> {
    let asked = orderers.iter().map(|node| async move {
        let call = async { access.participation(node)?.config_block(channel).await };
        let block = access.within(node, "the config", call).await?;
        let silent = |what: String| ClientError::Answer { node: node.name.clone(), what };
        let block = block.ok_or_else(|| silent("it has no block of the channel".to_owned()))?;
        let bundle =
            config_block::bundle_from_block(&block).map_err(|error| silent(told(&error)))?;
        Ok(Current { block, bundle })
    });
    let mut newest: Option<Current> = None;
    let mut last = ClientError::Answer {
        node: channel.to_string(),
        what: "no orderer has the channel".to_owned(),
    };
    for answer in join_all(asked).await {
        match answer {
            Ok(found) if newest.as_ref().is_none_or(|one| one.is_older_than(&found)) => {
                newest = Some(found);
            }
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    newest.ok_or(last)
}

impl Current {
    fn is_older_than(&self, other: &Current) -> bool {
        self.bundle.sequence() < other.bundle.sequence()
    }
}

/// What came of one step.
enum Progress {
    /// Something changed: look again.
    Changed,
    /// Nothing more can be done now.
    Settled(ConfigState),
}

impl From<Waiting> for Progress {
    fn from(waiting: Waiting) -> Self {
        Progress::Settled(ConfigState::Waiting(waiting))
    }
}

struct Run<'a> {
    access: &'a Access,
    input: ChannelInput<'a>,
    id: &'a ChannelId,
    founders: Bundle,
    /// SHA-256 of the header of the genesis block, hexadecimal.
    genesis_hash: String,
    /// The same of the ledgers that peers have.
    peers_begin: BTreeMap<String, String>,
    seen: Observation,
    current: Option<Current>,
    did: Vec<String>,
    newly_joined: Vec<String>,
    deadline: Instant,
}

impl<'a> Run<'a> {
    async fn start(access: &'a Access, input: ChannelInput<'a>) -> Result<Run<'a>, LedgerError> {
        let id = &input.desired.id;
        let founders = config_block::bundle_from_block(input.genesis).map_err(|source| {
            LedgerError::Genesis { channel: id.clone(), source: source.into() }
        })?;
        let deadline = Instant::now() + BUDGET;
        let nodes: Vec<NodeRef> = input.orderers.iter().chain(input.peers).cloned().collect();
        let seen = observe(access, &nodes).await;
        let genesis_hash = hash_of(input.genesis);
        let peers_begin = first_blocks(access, input.peers, &seen, id).await;
        let mut run = Run {
            access,
            input,
            id,
            founders,
            genesis_hash,
            peers_begin,
            seen,
            current: None,
            did: Vec::new(),
            newly_joined: Vec::new(),
            deadline,
        };
        run.set_aside();
        run.read().await;
        Ok(run)
    }

    /// Ledgers of an earlier channel of this name count for nothing.
    fn set_aside(&mut self) {
        self.seen.set_aside(self.id.as_str(), &self.genesis_hash, &self.peers_begin);
    }

    async fn look_again(&mut self) {
        let nodes: Vec<NodeRef> =
            self.input.orderers.iter().chain(self.input.peers).cloned().collect();
        self.seen.again(self.access, &nodes).await;
        self.set_aside();
        self.read().await;
    }

    async fn read(&mut self) {
        let having: Vec<&NodeRef> =
            self.input.orderers.iter().filter(|node| self.chain(node).is_some()).collect();
        if !having.is_empty()
            && let Ok(current) = read_config(self.access, &having, self.id).await
        {
            self.current = Some(current);
        }
    }

    fn chain(&self, node: &NodeRef) -> Option<&OrdererChannel> {
        self.seen.orderers.get(&node.name)?.channels.as_ref()?.get(self.id.as_str())
    }

    fn height(&self) -> u64 {
        self.seen.height(self.id.as_str())
    }

    fn is_wanted(&self, endpoint: &Endpoint) -> bool {
        self.input.desired.orderers.iter().any(|one| one.endpoint == *endpoint)
    }

    /// Changes one thing after the other.
    async fn change(&mut self) -> Result<ConfigState, LedgerError> {
        loop {
            match self.step().await? {
                Progress::Settled(state) => return Ok(state),
                Progress::Changed if Instant::now() < self.deadline => self.look_again().await,
                Progress::Changed => {
                    let waiting = Waiting::new("ChangingConfig", "more changes are to be made");
                    return Ok(ConfigState::Waiting(waiting));
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Progress, LedgerError> {
        let standings = self.standings()?;
        match self.joins(&standings) {
            Joins::Wait(waiting) => return Ok(waiting.into()),
            Joins::Refuse(refused) => return Ok(Progress::Settled(ConfigState::Refused(refused))),
            Joins::Join(joins) => {
                if self.join_orderers(&joins).await {
                    return Ok(Progress::Changed);
                }
            }
        }
        let Some(current) = &self.current else {
            return Ok(Waiting::new("OrderersNotReady", "no orderer tells the config").into());
        };
        let bundle = current.bundle.clone();
        let pending = match self.edit(&bundle).await? {
            Edited::Sent(progress) => return Ok(progress),
            Edited::Needs(needed) => Some(needed),
            Edited::Nothing => None,
        };
        match consenters::decide(&standings, self.height()) {
            Step::Wait(waiting) => Ok(waiting.into()),
            Step::Refuse(refused) => Ok(Progress::Settled(ConfigState::Refused(refused))),
            Step::Change { edit, why } => self.change_consenters(&bundle, &edit, why).await,
            Step::Done => Ok(Progress::Settled(match pending {
                Some(needed) => ConfigState::NeedsSignatures(needed),
                None => ConfigState::InSync,
            })),
        }
    }

    fn chain_at(&self, node: &NodeRef) -> Chain {
        let channel = self.id.as_str();
        let Some(facts) = self.seen.orderers.get(&node.name) else { return Chain::Unknown };
        if let Some(genesis) = facts.foreign.get(channel) {
            return Chain::Foreign(genesis.clone());
        }
        match facts.channels.as_ref().map(|channels| channels.get(channel)) {
            None => Chain::Unknown,
            Some(None) => Chain::Missing,
            Some(Some(chain)) => Chain::Has(chain.clone()),
        }
    }

    fn joins(&self, standings: &[Standing]) -> Joins {
        let channel = self.id.as_str();
        let peers =
            self.input.peers.iter().map(|node| (&node.name, self.seen.peers.get(&node.name)));
        let silent = |facts: Option<&PeerFacts>| {
            let heights = facts.and_then(|facts| facts.heights.as_ref());
            // One that has joined and tells no height may have any.
            heights.is_none_or(|heights| heights.get(channel) == Some(&0))
        };
        let silent: Vec<String> =
            peers.filter(|(_, facts)| silent(*facts)).map(|(name, _)| name.clone()).collect();
        let known = Known {
            recorded: self.input.known_height,
            at_peers: self.seen.height_at_peers(channel),
            silent_peers: &silent,
            never_begun: self.input.never_begun,
        };
        joining::decide(standings, known)
    }

    /// Every orderer that runs, is wanted or is a consenter.
    fn standings(&self) -> Result<Vec<Standing>, LedgerError> {
        let bundle = self.current.as_ref().map_or(&self.founders, |current| &current.bundle);
        let solo =
            !matches!(bundle.orderer().map(|orderer| &orderer.consensus), Some(Consensus::Raft(_)));
        let consenters = consenters_of(bundle);
        let stale = channel_config::consenter_differences(bundle.config(), self.input.desired)?;
        let standing = |name: String, endpoint: &Endpoint, chain| {
            let wanted = self.is_wanted(endpoint);
            let listed = consenters.iter().any(|one| one.endpoint == *endpoint);
            Standing {
                name,
                endpoint: endpoint.clone(),
                wanted,
                listed: listed || (solo && wanted),
                current_certificate: !stale.contains(&Edit::ReplaceConsenter(endpoint.clone())),
                chain,
            }
        };
        let mut all: Vec<Standing> = Vec::new();
        for node in self.input.orderers {
            let chain = self.chain_at(node);
            all.push(standing(node.name.clone(), &node.endpoint, chain));
        }
        let wanted = self.input.desired.orderers.iter().map(|one| &one.endpoint);
        for endpoint in consenters.iter().map(|one| &one.endpoint).chain(wanted) {
            if !all.iter().any(|one| one.endpoint == *endpoint) {
                all.push(standing(endpoint.to_string(), endpoint, Chain::Unknown));
            }
        }
        Ok(all)
    }

    /// Whether any has joined.
    async fn join_orderers(&mut self, joins: &[(String, With)]) -> bool {
        let newest = self.current.as_ref().map(|current| &current.block);
        let (access, input) = (self.access, self.input);
        let joining = joins.iter().filter_map(|(name, with)| {
            let node = input.orderers.iter().find(|node| node.name == *name)?;
            let block = match with {
                With::Genesis => input.genesis,
                With::Newest => newest?,
            };
            Some(async move {
                let call = async { access.participation(node)?.join(block).await };
                (node.name.clone(), access.within(node, "joining the channel", call).await)
            })
        });
        let joined = join_all(joining).await;
        let mut any = false;
        for (name, result) in joined {
            match result {
                Ok(_) => {
                    any = true;
                    self.has_joined(name);
                }
                Err(error) => self.note(&name, &error),
            }
        }
        any
    }

    pub(super) fn has_joined(&mut self, name: String) {
        self.did.push(format!("Joined {name} to channel {}", self.id));
        self.newly_joined.push(name);
    }

    /// What a node refused is shown with what else is known of it.
    fn note(&mut self, node: &str, error: &ClientError) {
        let problem = told(error);
        if let Some(facts) = self.seen.orderers.get_mut(node) {
            facts.problem = Some(problem);
        } else if let Some(facts) = self.seen.peers.get_mut(node) {
            facts.problem = Some(problem);
        }
    }

    fn outcome(
        self,
        config: ConfigState,
        peers: Option<Waiting>,
    ) -> Result<ChannelOutcome, LedgerError> {
        let orderers = consenters::troubles(&self.standings()?);
        let channel = self.id.as_str();
        let bundle = self.current.as_ref().map(|current| &current.bundle);
        let consenters = bundle.map(consenters_of).unwrap_or_default();
        let is_consenter = |at: &Endpoint| consenters.iter().any(|one| one.endpoint == *at);
        let name = |at: &Endpoint| {
            let node = self.input.orderers.iter().find(|node| node.endpoint == *at);
            node.map_or_else(|| at.to_string(), |node| node.name.clone())
        };
        let removable = self.input.orderers.iter().filter(|node| {
            bundle.is_some() && !self.is_wanted(&node.endpoint) && !is_consenter(&node.endpoint)
        });
        let heights = self.seen.heights(channel);
        Ok(ChannelOutcome {
            config,
            orderers,
            peers,
            sequence: bundle.map(Bundle::sequence),
            members: bundle.map(members_of).unwrap_or_default(),
            consenters: consenters.iter().map(|one| name(&one.endpoint)).collect(),
            leader: self.seen.leader(channel).map(str::to_owned),
            term: self.seen.term(channel),
            joined: heights.keys().cloned().collect(),
            heights,
            removable: removable.map(|node| node.name.clone()).collect(),
            did: self.did,
            newly_joined: self.newly_joined,
            observation: self.seen,
        })
    }
}

/// SHA-256 of a block's header, hexadecimal.
fn hash_of(block: &Block) -> String {
    let header = block.header.clone().unwrap_or_default();
    weft_types::block::header_hash(&header).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn members_of(bundle: &Bundle) -> Vec<String> {
    let application = bundle.application().into_iter();
    application.flat_map(|one| one.msp_ids()).map(ToString::to_string).collect()
}
