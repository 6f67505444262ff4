//! A chaincode of a channel: installed, approved, committed.
//!
//! One call of [`converge`] does what can be done now. Every peer run here gets the package,
//! every organization run here approves the definition (again, when the package is another one:
//! the sequence stays), and the definition is committed as soon as those who have approved
//! satisfy the channel's lifecycle policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all};
use prost::Message;
use tokio::time::{Instant, sleep};
use weft_client::lifecycle::{self, Definition};
use weft_client::{ClientError, Orderer, Peer};
use weft_config::{Bundle, block as config_block, keys};
use weft_msp::Principal;
use weft_msp::policy::{dsl, plan};
use weft_package::{Connection, Label, Package};
use weft_protos::common::SignaturePolicyEnvelope;
use weft_protos::lifecycle::{
    QueryApprovedChaincodeDefinitionResult, QueryChaincodeDefinitionResult, chaincode_source,
};
use weft_protos::peer::{ApplicationPolicy, application_policy};
use weft_types::{ChannelId, MspId};

use super::access::{Access, NodeRef};
use super::{LedgerError, Waiting, collections, told};
use crate::model::{self, Endorsement};

/// Time for peers to see what was just ordered, before the next call looks again.
const SETTLE: Duration = Duration::from_secs(3);
/// How often something that comes soon is looked for.
const POLL: Duration = Duration::from_millis(50);

/// A chaincode package that tells peers where the chaincode's program listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageFile {
    /// What is installed on peers.
    pub bytes: Bytes,
    /// Its id, by which the program is known to peers (`CHAINCODE_ID`).
    pub id: String,
}

/// Makes the package of a chaincode whose program listens at `address` (`host:port`). Equal
/// input gives equal bytes.
///
/// # Errors
/// [`LedgerError::Chaincode`] when name and version do not make a label, and
/// [`LedgerError::Package`].
pub fn package(chaincode: &model::Chaincode, address: &str) -> Result<PackageFile, LedgerError> {
    let failed = |source| LedgerError::Package {
        chaincode: chaincode.name.clone(),
        source: Box::new(source),
    };
    let label =
        Label::new(format!("{}_{}", chaincode.name, chaincode.version)).map_err(|error| {
            LedgerError::Chaincode { chaincode: chaincode.name.clone(), what: error.to_string() }
        })?;
    let bytes = Package::build(&label, &Connection::plain(address)).map_err(failed)?;
    let id = Package::parse(&bytes).map_err(failed)?.id().to_string();
    Ok(PackageFile { bytes, id })
}

/// The encoded `ApplicationPolicy` of a chaincode.
///
/// # Errors
/// [`LedgerError::Chaincode`] when the text of a policy does not parse.
pub fn policy(chaincode: &model::Chaincode) -> Result<Bytes, LedgerError> {
    let policy = application_policy(chaincode, "spec.endorsementPolicy", &chaincode.endorsement)?;
    Ok(policy.encode_to_vec().into())
}

/// A policy of a chaincode as definitions have it; `field` is where the spec says it.
///
/// # Errors
/// [`LedgerError::Chaincode`] when its text does not parse.
pub(super) fn application_policy(
    chaincode: &model::Chaincode,
    field: &str,
    policy: &Endorsement,
) -> Result<ApplicationPolicy, LedgerError> {
    use application_policy::Type;
    let kind = match policy {
        Endorsement::ChannelPolicy(path) => Type::ChannelConfigPolicyReference(path.clone()),
        Endorsement::Signature(text) => {
            let envelope = dsl::parse(text).map_err(|error| LedgerError::Chaincode {
                chaincode: chaincode.name.clone(),
                what: format!("{field}: {error}"),
            })?;
            Type::SignaturePolicy(envelope)
        }
    };
    Ok(ApplicationPolicy { r#type: Some(kind) })
}

/// The definition to have, given what is committed, and whether that is it already.
///
/// # Errors
/// As [`policy`], and [`LedgerError::Chaincode`] for a change of collections that the channel does
/// not take.
pub fn definition(
    chaincode: &model::Chaincode,
    committed: Option<&QueryChaincodeDefinitionResult>,
) -> Result<(Definition, bool), LedgerError> {
    let policy = policy(chaincode)?;
    let wanted = collections::package(chaincode)?;
    let current = committed.and_then(|committed| committed.collections.as_ref());
    collections::check_kept(&chaincode.name, wanted.as_ref(), current)?;
    let same_collections = collections::same(wanted.as_ref(), current);
    let unchanged = committed.is_some_and(|committed| {
        committed.version == chaincode.version
            && committed.validation_parameter == policy
            && committed.init_required == chaincode.init_required
            && same_collections
    });
    let sequence = committed.map_or(0, |committed| committed.sequence);
    let definition = Definition {
        name: chaincode.name.clone(),
        version: chaincode.version.clone(),
        sequence: if unchanged { sequence } else { sequence.saturating_add(1) },
        policy,
        init_required: chaincode.init_required,
        // In the order of the channel, where that has the same: approvals are of the very bytes.
        collections: if same_collections { current.cloned() } else { wanted },
    };
    Ok((definition, unchanged))
}

/// Whether an organization's approval is of this definition, run by this package.
pub fn is_approval_of(
    approved: &QueryApprovedChaincodeDefinitionResult,
    definition: &Definition,
    package_id: &str,
) -> bool {
    use chaincode_source::Type;
    let source = approved.source.as_ref().and_then(|source| source.r#type.as_ref());
    let package =
        matches!(source, Some(Type::LocalPackage(local)) if local.package_id == package_id);
    package
        && approved.version == definition.version
        && approved.validation_parameter == definition.policy
        && approved.init_required == definition.init_required
        && collections::same(approved.collections.as_ref(), definition.collections.as_ref())
}

/// Whether a peer that knows of so many peers of each organization, by MSP id, knows of all that
/// are here: private data goes to peers that are known.
pub fn is_acquainted(known: &BTreeMap<String, usize>, here: &BTreeMap<String, usize>) -> bool {
    here.iter().all(|(org, count)| known.get(org).is_some_and(|known| known >= count))
}

/// A chaincode, and everything that has to do with it here.
#[derive(Clone, Copy)]
pub struct ChaincodeInput<'a> {
    /// The channel.
    pub channel: &'a ChannelId,
    /// What the chaincode should be.
    pub chaincode: &'a model::Chaincode,
    /// Its package.
    pub package: &'a PackageFile,
    /// Peers of the members that are run here, all of which have joined the channel.
    pub peers: &'a [NodeRef],
    /// Every member of the channel.
    pub members: &'a [MspId],
    /// The orderers of the channel.
    pub orderers: &'a [NodeRef],
}

/// How a chaincode stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChaincodeState {
    /// It is committed as wanted, and every peer knows enough endorsers: it can be used.
    Ready,
    /// It will be, once this has come about.
    Waiting(Waiting),
    /// Organizations that are not run here have to act.
    NeedsApprovals {
        /// Their MSP ids.
        missing: Vec<String>,
        /// One sentence for people.
        message: String,
    },
}

/// What was found and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaincodeOutcome {
    /// What was done, a sentence each.
    pub did: Vec<String>,
    /// Names of the peers that have the package.
    pub installed: BTreeSet<String>,
    /// Whether each member, by MSP id, has approved the wanted definition.
    pub approvals: BTreeMap<String, bool>,
    /// The sequence that is committed.
    pub sequence: Option<i64>,
    /// The version that is committed.
    pub version: Option<String>,
    /// How it stands.
    pub state: ChaincodeState,
}

/// Does what can be done now.
///
/// # Errors
/// [`LedgerError`] for what waiting does not mend. What nodes refuse or do not answer is part
/// of the outcome.
pub async fn converge(
    access: &Access,
    input: &ChaincodeInput<'_>,
) -> Result<ChaincodeOutcome, LedgerError> {
    let mut run = Run {
        access,
        input: *input,
        did: Vec::new(),
        installed: BTreeSet::new(),
        approvals: BTreeMap::new(),
        committed: None,
        problems: Vec::new(),
    };
    let state = run.advance().await?;
    Ok(run.outcome(state))
}

/// A peer that answers.
#[derive(Clone)]
struct View {
    node: NodeRef,
    peer: Peer,
    committed: Option<QueryChaincodeDefinitionResult>,
}

struct Run<'a> {
    access: &'a Access,
    input: ChaincodeInput<'a>,
    did: Vec<String>,
    installed: BTreeSet<String>,
    approvals: BTreeMap<String, bool>,
    committed: Option<QueryChaincodeDefinitionResult>,
    problems: Vec<String>,
}

impl Run<'_> {
    fn name(&self) -> &str {
        &self.input.chaincode.name
    }

    async fn advance(&mut self) -> Result<ChaincodeState, LedgerError> {
        let views = self.look().await;
        if views.is_empty() {
            return Ok(self.waiting("PeersNotReady", "no peer of the channel answers"));
        }
        let newest = views.iter().filter_map(|view| view.committed.as_ref());
        self.committed = newest.max_by_key(|committed| committed.sequence).cloned();
        let (definition, unchanged) = definition(self.input.chaincode, self.committed.as_ref())?;
        if let (true, Some(committed)) = (unchanged, &self.committed) {
            self.approvals.clone_from(&committed.approvals);
        }
        let approved = self.approve_all(&views, &definition).await;
        if !unchanged && let Some(state) = self.commit(&views, &definition).await? {
            return Ok(state);
        }
        if !approved || !self.problems.is_empty() {
            return Ok(self.waiting("PeersNotReady", "a peer lacks the package or its approval"));
        }
        Ok(self.await_endorsers(&views).await)
    }

    fn waiting(&self, reason: &'static str, message: &str) -> ChaincodeState {
        let message = match self.problems.as_slice() {
            [] => message.to_owned(),
            problems => format!("{message}: {}", problems.join("; ")),
        };
        ChaincodeState::Waiting(Waiting { reason, message })
    }

    /// Installs where that is missing, and asks what is committed. Peers that do not answer are
    /// left out.
    async fn look(&mut self) -> Vec<View> {
        let peers: Vec<&NodeRef> = (self.input.peers.iter())
            .filter(|node| self.input.members.contains(&node.msp_id))
            .collect();
        let asked = peers.iter().map(|node| self.ask(node));
        let answers: Vec<_> = join_all(asked).await;
        let mut views = Vec::new();
        for (node, (installed, view)) in peers.into_iter().zip(answers) {
            let name = &node.name;
            match installed {
                Ok(done) => {
                    self.installed.insert(name.clone());
                    if done {
                        self.did.push(format!("Installed {} on {name}", self.input.package.id));
                    }
                }
                Err(error) => self.problems.push(format!("{name}: {}", told(&error))),
            }
            match view {
                Ok(view) => views.push(view),
                Err(error) => {
                    let problem = format!("{name}: {}", told(&error));
                    if !self.problems.contains(&problem) {
                        self.problems.push(problem);
                    }
                }
            }
        }
        views
    }

    async fn ask(&self, node: &NodeRef) -> (Result<bool, ClientError>, Result<View, ClientError>) {
        let peer = self.access.peer(node);
        let install = async {
            let peer = self.access.peer(node)?;
            let package = self.input.package;
            if peer.installed().await?.contains(&package.id) {
                return Ok(false);
            }
            peer.install(package.bytes.clone()).await.map(|_| true)
        };
        let view = async {
            let peer = peer?;
            let committed = lifecycle::committed(&peer, self.input.channel, self.name()).await?;
            Ok(View { node: node.clone(), peer, committed })
        };
        let install = self.access.within(node, "installing the package", install);
        join(install, self.access.within(node, "the chaincode's definition", view)).await
    }

    /// Whether every organization run here has approved, each at all of its peers that answer.
    async fn approve_all(&mut self, views: &[View], definition: &Definition) -> bool {
        let mut organizations: BTreeMap<&str, Vec<View>> = BTreeMap::new();
        for view in views.iter().filter(|view| self.installed.contains(&view.node.name)) {
            organizations.entry(view.node.holder.as_str()).or_default().push(view.clone());
        }
        let approving = organizations.values().map(|own| self.approve(own, definition));
        let results = join_all(approving).await;
        let mut all = true;
        for (own, result) in organizations.values().zip(results) {
            let Some(first) = own.first() else { continue };
            let msp_id = first.node.msp_id.to_string();
            match result {
                Ok(done) => {
                    if done {
                        let (name, version) = (self.name(), &definition.version);
                        let sequence = definition.sequence;
                        self.did.push(format!(
                            "Approved {name} {version} (sequence {sequence}) for {msp_id}"
                        ));
                    }
                    self.approvals.insert(msp_id, true);
                }
                Err(error) => {
                    all = false;
                    self.problems.push(format!("{msp_id}: {}", told(&error)));
                }
            }
        }
        all
    }

    /// Approves for one organization, unless each of its peers knows of just this approval.
    async fn approve(&self, own: &[View], definition: &Definition) -> Result<bool, ClientError> {
        let Some(first) = own.first() else { return Ok(false) };
        let (channel, package_id) = (self.input.channel, &self.input.package.id);
        let known = own.iter().map(|view| async {
            let call =
                lifecycle::approved(&view.peer, channel, &definition.name, definition.sequence);
            let found = self.access.within(&view.node, "its approval", call).await?;
            Ok(found.is_some_and(|found| is_approval_of(&found, definition, package_id)))
        });
        let known: Result<Vec<bool>, ClientError> = join_all(known).await.into_iter().collect();
        if known?.into_iter().all(|known| known) {
            return Ok(false);
        }
        let peers: Vec<Peer> = own.iter().map(|view| view.peer.clone()).collect();
        let orderers = self.orderers_for(&first.node.holder)?;
        let call = lifecycle::approve(&peers, &orderers, channel, definition, Some(package_id));
        self.access.within(&first.node, "the approval of the chaincode", call).await?;
        Ok(true)
    }

    /// Commits when those who have approved may. `Some` when it is not committed.
    async fn commit(
        &mut self,
        views: &[View],
        definition: &Definition,
    ) -> Result<Option<ChaincodeState>, LedgerError> {
        let policy = match self.lifecycle_policy(views).await {
            Ok(policy) => policy,
            Err(error) => {
                return Ok(Some(self.waiting("PeersNotReady", &told(&error))));
            }
        };
        let deadline = Instant::now() + SETTLE;
        let endorsers = loop {
            let readiness = self.readiness(views, definition).await;
            let able = readiness.iter().filter(|one| one.approves()).map(|one| one.view);
            let able: Vec<&View> = able.collect();
            let who: Vec<&NodeRef> = able.iter().map(|view| &view.node).collect();
            for (msp_id, yes) in readiness.iter().flat_map(|one| &one.approvals) {
                let known = self.approvals.entry(msp_id.clone()).or_default();
                *known |= *yes;
            }
            let agree = readiness.windows(2).all(|pair| match pair {
                [a, b] => a.approvals == b.approvals,
                _ => true,
            });
            match choose_endorsers(&policy, &who) {
                Some(chosen) if agree => {
                    let is_chosen = |view: &&View| chosen.contains(&view.node.name.as_str());
                    break able.into_iter().filter(is_chosen).cloned().collect::<Vec<View>>();
                }
                // Peers commit blocks at their own pace.
                _ if Instant::now() < deadline && !agree => sleep(POLL).await,
                Some(_) => {
                    return Ok(Some(self.waiting("CatchingUp", "peers differ on approvals")));
                }
                None => return Ok(Some(self.unsatisfied())),
            }
        };
        Ok(self.commit_with(&endorsers, definition).await)
    }

    async fn commit_with(
        &mut self,
        endorsers: &[View],
        definition: &Definition,
    ) -> Option<ChaincodeState> {
        let Some(first) = endorsers.first() else { return Some(self.unsatisfied()) };
        let peers: Vec<Peer> = endorsers.iter().map(|view| view.peer.clone()).collect();
        let channel = self.input.channel;
        let call = async {
            let orderers = self.orderers_for(&first.node.holder)?;
            lifecycle::commit(&peers, &orderers, channel, definition).await
        };
        if let Err(error) =
            self.access.within(&first.node, "the commit of the chaincode", call).await
        {
            return Some(self.waiting("CommitFailed", &told(&error)));
        }
        let (name, version, sequence) = (self.name(), &definition.version, definition.sequence);
        self.did.push(format!("Committed {name} {version} as sequence {sequence}"));
        self.committed = Some(QueryChaincodeDefinitionResult {
            sequence,
            version: version.clone(),
            approvals: self.approvals.clone(),
            ..QueryChaincodeDefinitionResult::default()
        });
        None
    }

    /// What each peer says of the approvals; those that say nothing are left out.
    async fn readiness<'v>(&self, views: &'v [View], definition: &Definition) -> Vec<Ready<'v>> {
        let asked = views.iter().map(|view| async move {
            let call = lifecycle::readiness(&view.peer, self.input.channel, definition);
            let approvals = self.access.within(&view.node, "the approvals", call).await.ok()?;
            Some(Ready { view, approvals })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn lifecycle_policy(
        &self,
        views: &[View],
    ) -> Result<SignaturePolicyEnvelope, ClientError> {
        let mut last = ClientError::Answer {
            node: self.input.channel.to_string(),
            what: "no peer tells its config".to_owned(),
        };
        for view in views {
            let call = view.peer.config_block(self.input.channel);
            let bundle =
                self.access.within(&view.node, "the config", call).await.and_then(|block| {
                    config_block::bundle_from_block(&block).map_err(|error| ClientError::Answer {
                        node: view.node.name.clone(),
                        what: told(&error),
                    })
                });
            match bundle.and_then(|bundle| policy_of(&bundle)) {
                Ok(policy) => return Ok(policy),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Who has to act before the definition can be committed.
    fn unsatisfied(&self) -> ChaincodeState {
        let here: BTreeSet<&MspId> = self.input.peers.iter().map(|node| &node.msp_id).collect();
        let approved = |id: &MspId| self.approvals.get(id.as_str()).copied().unwrap_or(false);
        let elsewhere: Vec<&MspId> =
            self.input.members.iter().filter(|id| !here.contains(id)).collect();
        let missing: Vec<String> =
            elsewhere.iter().filter(|id| !approved(id)).map(ToString::to_string).collect();
        let name = self.name();
        if elsewhere.is_empty() || !self.problems.is_empty() {
            let message = format!("{name} lacks approvals that the lifecycle policy asks for");
            return self.waiting("PeersNotReady", &message);
        }
        let message = match missing.as_slice() {
            [] => format!(
                "{name} is approved; its commit needs an endorsement of organizations that run \
                 their peers elsewhere, one of which has to commit it"
            ),
            missing => format!("{name} has to be approved by {}", missing.join(", ")),
        };
        ChaincodeState::NeedsApprovals { missing, message }
    }

    /// Ready when every peer knows of enough endorsers: then any Gateway serves. Where there is
    /// private data, every peer has to know the others as well.
    async fn await_endorsers(&self, views: &[View]) -> ChaincodeState {
        let fresh = !self.did.is_empty();
        let deadline = Instant::now() + if fresh { SETTLE } else { Duration::ZERO };
        loop {
            let asked = views.iter().map(|view| async move {
                let call = view.peer.has_endorsers(self.input.channel, self.name());
                let knows = self.access.within(&view.node, "the endorsers", call).await;
                (!knows.unwrap_or(false)).then(|| view.node.name.clone())
            });
            let lacking: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
            let strangers = match lacking.is_empty() {
                true => self.unacquainted(views).await,
                false => Vec::new(),
            };
            if lacking.is_empty() && strangers.is_empty() {
                return ChaincodeState::Ready;
            }
            if Instant::now() >= deadline {
                let (who, what) = match lacking.as_slice() {
                    [] => (strangers, "all peers of the channel, which private data goes to"),
                    _ => (lacking, "peers that satisfy the endorsement policy together"),
                };
                let message = format!("{} does not know of {what}", who.join(", "));
                return ChaincodeState::Waiting(Waiting::new("EndorsersUnknown", message));
            }
            sleep(POLL).await;
        }
    }

    /// Peers that do not know of all others here, where private data has to find its way to them.
    async fn unacquainted(&self, views: &[View]) -> Vec<String> {
        if self.input.chaincode.collections.is_empty() {
            return Vec::new();
        }
        let mut here: BTreeMap<String, usize> = BTreeMap::new();
        for view in views {
            *here.entry(view.node.msp_id.to_string()).or_default() += 1;
        }
        let here = &here;
        let asked = views.iter().map(|view| async move {
            let call = view.peer.known_peers(self.input.channel);
            let known = self.access.within(&view.node, "the peers", call).await;
            let knows = known.is_ok_and(|known| is_acquainted(&known, here));
            (!knows).then(|| view.node.name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn orderers_for(&self, holder: &str) -> Result<Vec<Orderer>, ClientError> {
        self.input.orderers.iter().map(|node| self.access.orderer(node, holder)).collect()
    }

    fn outcome(self, state: ChaincodeState) -> ChaincodeOutcome {
        let mut approvals: BTreeMap<String, bool> =
            self.input.members.iter().map(|id| (id.to_string(), false)).collect();
        approvals.extend(self.approvals);
        ChaincodeOutcome {
            did: self.did,
            installed: self.installed,
            approvals,
            sequence: self.committed.as_ref().map(|committed| committed.sequence),
            version: self.committed.map(|committed| committed.version),
            state,
        }
    }
}

/// What one peer says of the approvals.
struct Ready<'v> {
    view: &'v View,
    approvals: BTreeMap<String, bool>,
}

impl Ready<'_> {
    /// Whether the peer's own organization has approved: else it does not endorse the commit.
    fn approves(&self) -> bool {
        self.approvals.get(self.view.node.msp_id.as_str()).copied().unwrap_or(false)
    }
}

fn policy_of(bundle: &Bundle) -> Result<SignaturePolicyEnvelope, ClientError> {
    let path = format!("/{}/{}/{}", keys::CHANNEL, keys::APPLICATION, keys::LIFECYCLE_ENDORSEMENT);
    let policy = bundle.policies().get(&path).and_then(|policy| policy.to_envelope());
    policy.map_err(|error| ClientError::Answer {
        node: bundle.channel_id().to_string(),
        what: told(&error),
    })
}

/// The fewest of these peers that satisfy a policy together, by name.
fn choose_endorsers<'a>(
    policy: &SignaturePolicyEnvelope,
    peers: &[&'a NodeRef],
) -> Option<Vec<&'a str>> {
    let sets = plan::combinations(policy, plan::DEFAULT_LIMIT).ok()?;
    sets.iter().find_map(|set| {
        let mut chosen: Vec<&'a str> = Vec::new();
        for needed in set {
            let principal = Principal::decode(&needed.principal).ok()?;
            let free = peers.iter().filter(|node| principal.msp_id() == Some(node.msp_id.as_str()));
            let free: Vec<&str> = free
                .map(|node| node.name.as_str())
                .filter(|name| !chosen.contains(name))
                .take(needed.count)
                .collect();
            if free.len() < needed.count {
                return None;
            }
            chosen.extend(free);
        }
        Some(chosen)
    })
}

#[cfg(test)]
#[path = "chaincode_tests.rs"]
mod tests;
