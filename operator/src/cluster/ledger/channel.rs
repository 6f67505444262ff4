//! A channel of running nodes: begun, joined, its config brought to what is wanted.
//!
//! One call of [`converge`] does as much as can be done now, in this order: orderers join, the
//! config is changed update by update, peers of members join. It looks at the nodes first and
//! keeps nothing from call to call, so that it may be interrupted anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use weft_client::{ClientError, Participation};
use weft_config::{Bundle, Consensus, Endpoint, RaftConsenter, block as config_block, update};
use weft_protos::common::{Block, Envelope, Status};
use weft_types::{ChannelId, Timestamp};

pub use super::signatures::{NeedsSignatures, SignedUpdate};

use super::access::{Access, NodeRef};
use super::consenters::{self, Chain, Standing, Step};
use super::joining::{self, Joins, With};
use super::observe::{Observation, OrdererChannel, observe};
use super::signatures::{Signatories, Verdict};
use super::{LedgerError, Refused, Waiting, told};
use crate::channel_config::{self, DesiredChannel, Edit};

/// How long one call goes on making changes before it leaves the rest to the next.
const BUDGET: Duration = Duration::from_secs(8);
/// Time for a config update to get on the ledger, and for a peer that has just joined to catch
/// up, before the next call looks again.
const SETTLE: Duration = Duration::from_secs(3);
/// How often, and at which distance, an orderer is asked again before it counts as having lost
/// its ledger.
const CONFIRMATIONS: usize = 3;
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
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
    Ok(run.outcome(config, peers))
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
        let mut run = Run {
            access,
            input,
            id,
            founders,
            seen,
            current: None,
            did: Vec::new(),
            newly_joined: Vec::new(),
            deadline,
        };
        run.read().await;
        Ok(run)
    }

    async fn look_again(&mut self) {
        let nodes: Vec<NodeRef> =
            self.input.orderers.iter().chain(self.input.peers).cloned().collect();
        self.seen.again(self.access, &nodes).await;
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
        let known = self.height().max(self.input.known_height);
        match joining::decide(&standings, known) {
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
            Step::Change { edit, why } => {
                if let Some(waiting) = self.not_lost_after_all(&standings, &edit).await {
                    return Ok(waiting.into());
                }
                self.change_consenters(&bundle, &edit, why).await
            }
            Step::Done => Ok(Progress::Settled(match pending {
                Some(needed) => ConfigState::NeedsSignatures(needed),
                None => ConfigState::InSync,
            })),
        }
    }

    /// An orderer that opens a channel again after a failure does not show it for a moment. One
    /// that is about to be removed for having lost its ledger is asked some times more.
    async fn not_lost_after_all(&self, standings: &[Standing], edit: &Edit) -> Option<Waiting> {
        let Edit::RemoveConsenter(endpoint) = edit else { return None };
        let lost = standings.iter().find(|one| one.endpoint == *endpoint)?;
        let node = self.input.orderers.iter().find(|node| node.endpoint == *endpoint)?;
        if !lost.wanted || lost.chain != Chain::Missing {
            return None;
        }
        for _ in 0..CONFIRMATIONS {
            sleep(CONFIRM_EVERY).await;
            let call = async { self.access.participation(node)?.channel(self.id).await };
            if !matches!(self.access.within(node, "its channel", call).await, Ok(None)) {
                let message = format!("{} may be about to open the channel", node.name);
                return Some(Waiting::new("CatchingUp", message));
            }
        }
        None
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
            let facts = self.seen.orderers.get(&node.name).and_then(|f| f.channels.as_ref());
            let chain = match facts.map(|channels| channels.get(self.id.as_str())) {
                None => Chain::Unknown,
                Some(None) => Chain::Missing,
                Some(Some(chain)) => Chain::Has(chain.clone()),
            };
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

    fn has_joined(&mut self, name: String) {
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

    fn signatories(&self) -> Result<Signatories<'a>, LedgerError> {
        let no_admin = |holder: &str| LedgerError::NoAdmin { holder: holder.to_owned() };
        let others = self.input.signers.iter().map(String::as_str);
        let others = others.filter(|holder| *holder != self.input.ordering);
        let admins = std::iter::once(self.input.ordering)
            .chain(others)
            .map(|holder| self.access.admin(holder).ok_or_else(|| no_admin(holder)))
            .map(|admin| admin.map(|admin| admin.signer.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Signatories { admins, given: self.input.signatures, now: now() })
    }

    fn judge(&self, bundle: &Bundle, edits: &[Edit]) -> Result<Verdict, LedgerError> {
        let next = channel_config::apply(bundle.config(), self.input.desired, edits)?;
        let update = update::compute(self.id, bundle.config(), &next).map_err(|error| {
            LedgerError::Update { channel: self.id.clone(), what: error.to_string() }
        })?;
        self.signatories()?.judge(bundle, &update)
    }

    /// Changes everything but the consenters: all of it in one update if those who sign here
    /// may; else what they may, and the rest is left to others.
    async fn edit(&mut self, bundle: &Bundle) -> Result<Edited, LedgerError> {
        let edits = channel_config::differences(bundle.config(), self.input.desired)?;
        if edits.is_empty() {
            return Ok(Edited::Nothing);
        }
        let needed = match self.judge(bundle, &edits)? {
            Verdict::Enough(envelope) => return self.send_edits(bundle, &edits, *envelope).await,
            Verdict::Missing(needed) => needed,
        };
        let mut able = Vec::new();
        for edit in &edits {
            if matches!(self.judge(bundle, std::slice::from_ref(edit))?, Verdict::Enough(_)) {
                able.push(edit.clone());
            }
        }
        if !able.is_empty()
            && let Verdict::Enough(envelope) = self.judge(bundle, &able)?
        {
            return self.send_edits(bundle, &able, *envelope).await;
        }
        let message = format!("to {}: {}", list(&edits), needed.message);
        Ok(Edited::Needs(NeedsSignatures { message, ..needed }))
    }

    async fn send_edits(
        &mut self,
        bundle: &Bundle,
        edits: &[Edit],
        envelope: Envelope,
    ) -> Result<Edited, LedgerError> {
        let why = format!("Changed the config of channel {}: {}", self.id, list(edits));
        Ok(Edited::Sent(self.send(bundle, envelope, why).await))
    }

    async fn change_consenters(
        &mut self,
        bundle: &Bundle,
        edit: &Edit,
        why: String,
    ) -> Result<Progress, LedgerError> {
        let why = format!("{why} (channel {})", self.id);
        match self.judge(bundle, std::slice::from_ref(edit))? {
            Verdict::Enough(envelope) => Ok(self.send(bundle, *envelope, why).await),
            Verdict::Missing(needed) => Ok(Progress::Settled(ConfigState::NeedsSignatures(needed))),
        }
    }

    /// Sends an update to the leader, else to whichever orderer takes it, and looks for a moment
    /// whether it gets on the ledger.
    async fn send(&mut self, bundle: &Bundle, envelope: Envelope, why: String) -> Progress {
        let leader = self.seen.leader(self.id.as_str()).map(str::to_owned);
        let mut orderers: Vec<&NodeRef> =
            self.input.orderers.iter().filter(|node| self.chain(node).is_some()).collect();
        orderers.sort_by_key(|node| Some(&node.name) != leader.as_ref());
        let mut last = "no orderer has the channel".to_owned();
        for node in orderers {
            let call = async {
                let orderer = self.access.orderer(node, self.input.ordering)?;
                orderer.broadcast(envelope.clone()).await
            };
            match self.access.within(node, "a config update", call).await {
                Ok(()) => {
                    if !self.is_on_ledger(node, bundle.sequence() + 1).await {
                        let message = "an update was sent and is not on the ledger yet";
                        return Waiting::new("ChangingConfig", message).into();
                    }
                    self.did.push(why);
                    return Progress::Changed;
                }
                Err(error) => {
                    last = told(&error);
                    if is_refusal(&error) {
                        return self.after_refusal(bundle, last).await;
                    }
                }
            }
        }
        Waiting::new("OrderersNotReady", format!("no orderer takes a config update: {last}")).into()
    }

    /// Another party may have changed the config meanwhile; then the update is made anew.
    async fn after_refusal(&mut self, bundle: &Bundle, why: String) -> Progress {
        self.read().await;
        let moved = |current: &Current| current.bundle.sequence() != bundle.sequence();
        if self.current.as_ref().is_some_and(moved) {
            return Progress::Changed;
        }
        Waiting::new("UpdateRefused", format!("the orderers refuse a config update: {why}")).into()
    }

    async fn is_on_ledger(&self, node: &NodeRef, sequence: u64) -> bool {
        let deadline = Instant::now() + SETTLE;
        let Ok(participation) = self.access.participation(node) else { return false };
        while Instant::now() < deadline {
            if self.sequence_at(node, &participation).await.is_some_and(|at| at >= sequence) {
                return true;
            }
            sleep(POLL).await;
        }
        false
    }

    async fn sequence_at(&self, node: &NodeRef, participation: &Participation) -> Option<u64> {
        let block = self
            .access
            .within(node, "the config", participation.config_block(self.id))
            .await
            .ok()??;
        let (_, config) = config_block::config_from_block(&block).ok()?;
        Some(config.sequence)
    }

    /// Peers of members join, and what is still missing then.
    async fn join_peers(&mut self) -> Option<Waiting> {
        let Some(members) = self.current.as_ref().map(|current| members_of(&current.bundle)) else {
            return Some(Waiting::new("ChannelNotReady", "the channel has not begun yet"));
        };
        let peers: Vec<&NodeRef> = (self.input.peers.iter())
            .filter(|node| members.iter().any(|member| *member == node.msp_id.as_str()))
            .collect();
        if self.join_missing(&peers).await {
            let deadline = Instant::now() + SETTLE;
            self.look_at_peers().await;
            while self.peers_lack(&peers).is_some() && Instant::now() < deadline {
                sleep(POLL).await;
                self.look_at_peers().await;
            }
        }
        self.peers_lack(&peers)
    }

    async fn look_at_peers(&mut self) {
        self.seen.again(self.access, self.input.peers).await;
    }

    async fn join_missing(&mut self, peers: &[&NodeRef]) -> bool {
        let missing = peers.iter().filter(|node| {
            let heights = self.seen.peers.get(&node.name).and_then(|facts| facts.heights.as_ref());
            heights.is_some_and(|heights| !heights.contains_key(self.id.as_str()))
        });
        let (access, genesis) = (self.access, self.input.genesis);
        let joining = missing.map(|node| async move {
            let call = async { access.peer(node)?.join(genesis).await };
            (node.name.clone(), access.within(node, "joining the channel", call).await)
        });
        let joined = join_all(joining).await;
        let mut any = false;
        for (name, result) in joined {
            match result {
                Ok(()) => {
                    any = true;
                    self.has_joined(name);
                }
                Err(error) => self.note(&name, &error),
            }
        }
        any
    }

    fn peers_lack(&self, peers: &[&NodeRef]) -> Option<Waiting> {
        let newest = self.height();
        let lacks = peers.iter().filter_map(|node| {
            let facts = self.seen.peers.get(&node.name)?;
            let name = &node.name;
            let Some(heights) = &facts.heights else {
                return Some(("PeersNotReady", format!("{name} does not answer")));
            };
            match heights.get(self.id.as_str()) {
                None => {
                    let why = facts.problem.as_deref().unwrap_or("it is about to");
                    Some(("PeersNotReady", format!("{name} has not joined: {why}")))
                }
                Some(height) if height + OrdererChannel::LAG < newest || *height == 0 => {
                    Some(("CatchingUp", format!("{name} has {height} of {newest} blocks")))
                }
                Some(_) => None,
            }
        });
        let lacks: Vec<_> = lacks.collect();
        let reason = lacks.first()?.0;
        let all: Vec<_> = lacks.into_iter().map(|(_, message)| message).collect();
        Some(Waiting::new(reason, all.join("; ")))
    }

    fn outcome(self, config: ConfigState, peers: Option<Waiting>) -> ChannelOutcome {
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
        ChannelOutcome {
            config,
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
        }
    }
}

/// What became of the differences that are not consenters.
enum Edited {
    Nothing,
    Sent(Progress),
    Needs(NeedsSignatures),
}

fn members_of(bundle: &Bundle) -> Vec<String> {
    let application = bundle.application().into_iter();
    application.flat_map(|one| one.msp_ids()).map(ToString::to_string).collect()
}

fn list(edits: &[Edit]) -> String {
    edits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether an orderer said no to an envelope, as opposed to not being able to take it.
fn is_refusal(error: &ClientError) -> bool {
    matches!(error, ClientError::Broadcast { status: Status::BadRequest | Status::Forbidden, .. })
}

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}
