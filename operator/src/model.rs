//! The validated model: what a manifest means once every rule holds.
//!
//! [`validate`] checks what the CRDs check with CEL (a local run has no API server, and old
//! API servers do not enforce CEL) and what only the whole set of objects can show:
//! references, membership and quorums. It reports every problem at once, each with its object
//! and field. What comes out is made of parsed types, and nothing after it checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use kube::{Resource, ResourceExt};
use weft_config::genesis::PolicyRule;
use weft_msp::policy::dsl;
use weft_settings::duration;
use weft_types::{ChannelId, MspId};

use crate::api::{
    self, BatchSpec, CertificateSpec, ConsensusType, NodeSpec, PolicyOverrides, UserRole, UserSpec,
};
use crate::manifest::Manifest;

mod collections;

use collections::ChannelMembers;
pub use collections::Collection;

/// Which object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind, such as `Channel`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

impl ObjectId {
    fn of<K: Resource<DynamicType = ()>>(kind: &'static str, object: &K) -> ObjectId {
        ObjectId { kind, name: object.name_any() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)
    }
}

/// What has to happen before a problem is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The object itself has to change.
    Correct,
    /// Something that it names has to appear, or to be corrected.
    Wait,
}

/// A rule that a manifest breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object at fault.
    pub object: ObjectId,
    /// What has to happen.
    pub remedy: Remedy,
    /// Path of the field, such as `spec.organizations[1]`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.field, self.message)
    }
}

/// Every rule that a manifest breaks; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// A network with everything that names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Name of the `LedgerNetwork`.
    pub name: String,
    /// The ordering service.
    pub ordering: Ordering,
    /// Member organizations, in the manifest's order.
    pub organizations: Vec<Organization>,
    /// Channels, in the manifest's order.
    pub channels: Vec<Channel>,
}

/// The ordering service.
#[derive(Clone, Debug, PartialEq)]
pub struct Ordering {
    /// MSP of the organization that runs the orderers.
    pub msp_id: MspId,
    /// How they agree.
    pub consensus: ConsensusType,
    /// How many there are.
    pub replicas: u32,
    /// Raft's timing.
    pub raft: Raft,
    /// Lifetimes of the orderers' certificates.
    pub certificates: Certificates,
    /// How they run.
    pub node: NodeSpec,
}

/// Raft's timing, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Length of a tick.
    pub tick_interval: Duration,
    /// Ticks of silence before an election.
    pub election_ticks: u32,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Blocks proposed and not settled.
    pub max_inflight_blocks: u32,
    /// Bytes of log between snapshots.
    pub snapshot_interval_bytes: u32,
}

/// Lifetimes of certificates, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Lifetime of a leaf.
    pub duration: Duration,
    /// How long before its end a leaf is renewed.
    pub renew_before: Duration,
    /// Lifetime of a CA.
    pub ca_duration: Duration,
}

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub struct Organization {
    /// Name of the `Organization`.
    pub name: String,
    /// Its MSP.
    pub msp_id: MspId,
    /// How many peers it runs here.
    pub peers: u32,
    /// Whom it gives identities to, `admin` first and always there.
    pub users: Vec<UserSpec>,
    /// Lifetimes of its certificates.
    pub certificates: Certificates,
    /// How its peers run.
    pub node: NodeSpec,
    /// Whether it runs elsewhere.
    pub external: Option<api::ExternalOrganization>,
    /// Where its CAs come from.
    pub ca: api::CaSpec,
}

/// When blocks are cut, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The longest wait.
    pub timeout: Duration,
    /// Most transactions in a block.
    pub max_message_count: u32,
    /// Largest transaction, bytes.
    pub absolute_max_bytes: u32,
    /// Size past which a block is cut, bytes.
    pub preferred_max_bytes: u32,
}

/// A channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Names of its member organizations; each is in [`Network::organizations`].
    pub organizations: Vec<String>,
    /// When blocks are cut.
    pub batch: Batch,
    /// Policies that differ from the defaults.
    pub policies: PolicyOverrides,
    /// ACLs that differ from the defaults.
    pub acls: BTreeMap<String, String>,
    /// Its contracts, in the manifest's order.
    pub chaincodes: Vec<Chaincode>,
}

/// A contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Chaincode {
    /// Its name on the channel.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What runs it.
    pub program: Program,
    /// Environment besides what the runner sets.
    pub env: Vec<(String, String)>,
    /// Who must endorse.
    pub endorsement: Endorsement,
    /// Whether `Init` comes first.
    pub init_required: bool,
    /// Its collections of private data, in the manifest's order.
    pub collections: Vec<Collection>,
}

/// What runs a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments, started as a service.
    Command(Vec<String>),
    /// A service that already listens at `host:port`.
    Address(String),
    /// A container image.
    Image(String),
    /// Processes that somebody else runs and that register with the peers.
    Registers,
}

/// Who must endorse a contract's transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endorsement {
    /// A policy of the channel, by path.
    ChannelPolicy(String),
    /// Policy text that parsed.
    Signature(String),
}

/// Name that no `Organization` may have: the orderers' own.
pub const RESERVED_NAME: &str = "ordering";

/// Path of the policy that holds for a contract without one of its own.
pub const DEFAULT_ENDORSEMENT: &str = "/Channel/Application/Endorsement";

impl Network {
    /// The organization of that name.
    pub fn organization(&self, name: &str) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.name == name)
    }
}

/// Checks every rule and returns the networks, each with the objects that name it.
///
/// # Errors
/// [`Problems`]: all of them, each with its object and field.
pub fn validate(manifest: &Manifest) -> Result<Vec<Network>, Problems> {
    let mut checker = Checker { problems: Vec::new() };
    let networks =
        manifest.networks.iter().filter_map(|network| checker.network(manifest, network)).collect();
    checker.references(manifest);
    if checker.problems.is_empty() { Ok(networks) } else { Err(Problems(checker.problems)) }
}

/// The networks without the objects that break rules, and what those break. What depends on an
/// object that is left out is left out as well, and waits for it.
pub fn admissible(mut manifest: Manifest) -> (Vec<Network>, Vec<Problem>) {
    let mut problems = Vec::new();
    // Every round leaves out an object at least: there are no more rounds than objects.
    while let Err(Problems(found)) = validate(&manifest) {
        leave_out(&mut manifest, &found.iter().map(|problem| problem.object.clone()).collect());
        problems.extend(found);
    }
    (validate(&manifest).unwrap_or_default(), problems)
}

fn leave_out(manifest: &mut Manifest, faulty: &BTreeSet<ObjectId>) {
    manifest.networks.retain(|one| !faulty.contains(&ObjectId::of(NETWORK, one)));
    manifest.organizations.retain(|one| !faulty.contains(&ObjectId::of(ORGANIZATION, one)));
    manifest.channels.retain(|one| !faulty.contains(&ObjectId::of(CHANNEL, one)));
    manifest.chaincodes.retain(|one| !faulty.contains(&ObjectId::of(CHAINCODE, one)));
}

/// Longest name of an object: names of pods and labels derive from it and end at 63 characters.
const MAX_NAME: usize = 40;
/// Longest name of a channel: its genesis block's object adds to it and ends at 253 characters.
const MAX_CHANNEL: usize = 245;
const NETWORK: &str = "LedgerNetwork";
const ORGANIZATION: &str = "Organization";
const CHANNEL: &str = "Channel";
const CHAINCODE: &str = "Chaincode";

struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn problem(&mut self, object: &ObjectId, field: impl Into<String>, message: impl Into<String>) {
        self.add(object, Remedy::Correct, field, message);
    }

    fn waits(&mut self, object: &ObjectId, field: impl Into<String>, message: impl Into<String>) {
        self.add(object, Remedy::Wait, field, message);
    }

    fn add(
        &mut self,
        object: &ObjectId,
        remedy: Remedy,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.problems.push(Problem {
            object: object.clone(),
            remedy,
            field: field.into(),
            message: message.into(),
        });
    }

    /// Names of Services, pods and labels derive from an object's name (RFC 1035 label).
    fn name(&mut self, object: &ObjectId) {
        let name = &object.name;
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let well_formed = name.len() <= MAX_NAME
            && name.bytes().all(inner)
            && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && !name.ends_with('-');
        if !well_formed {
            let message = format!(
                "must start with a letter and hold at most {MAX_NAME} of a-z, 0-9 and inner dashes"
            );
            self.problem(object, "metadata.name", message);
        }
    }

    /// Takes the value out of a result, or records the problem.
    fn take<T>(
        &mut self,
        object: &ObjectId,
        field: &str,
        result: Result<T, impl fmt::Display>,
    ) -> Option<T> {
        result.map_err(|error| self.problem(object, field, error.to_string())).ok()
    }

    fn network(&mut self, manifest: &Manifest, network: &api::LedgerNetwork) -> Option<Network> {
        let name = network.name_any();
        let object = ObjectId::of(NETWORK, network);
        self.name(&object);
        let certificates = self.certificates(&object, &network.spec.certificates);
        let ordering = self.ordering(&object, &network.spec, certificates);
        let batch = self.batch(&object, &network.spec.batch);
        let members: Vec<_> =
            manifest.organizations.iter().filter(|o| o.spec.network_ref == name).collect();
        self.unique_msp_ids(&network.spec.ordering.msp_id, &members);
        let organizations: Vec<_> = members
            .iter()
            .map(|member| self.organization(manifest, &network.spec, member, certificates))
            .collect();
        let channels: Vec<_> = manifest
            .channels
            .iter()
            .filter(|channel| channel.spec.network_ref == name)
            .map(|channel| self.channel(manifest, &members, channel, batch))
            .collect();
        Some(Network {
            name,
            ordering: ordering?,
            organizations: organizations.into_iter().collect::<Option<_>>()?,
            channels: channels.into_iter().collect::<Option<_>>()?,
        })
    }

    fn ordering(
        &mut self,
        object: &ObjectId,
        spec: &api::LedgerNetworkSpec,
        certificates: Option<Certificates>,
    ) -> Option<Ordering> {
        let ordering = &spec.ordering;
        let field = "spec.ordering";
        let msp_id = self.take(object, &format!("{field}.mspId"), MspId::new(&ordering.msp_id));
        if ordering.replicas == 0 || ordering.replicas > 25 {
            self.problem(object, format!("{field}.replicas"), "must be from 1 to 25");
        }
        if ordering.consensus == ConsensusType::Solo && ordering.replicas != 1 {
            let message =
                "Solo runs with exactly one orderer: set replicas to 1 or consensus to Raft";
            self.problem(object, format!("{field}.replicas"), message);
        }
        let raft = self.raft(object, &ordering.raft);
        Some(Ordering {
            msp_id: msp_id?,
            consensus: ordering.consensus,
            replicas: ordering.replicas,
            raft: raft?,
            certificates: certificates?,
            node: merge_node(&spec.node, &ordering.node),
        })
    }

    fn raft(&mut self, object: &ObjectId, raft: &api::RaftOptions) -> Option<Raft> {
        let field = "spec.ordering.raft";
        let tick = self.duration(object, &format!("{field}.tickInterval"), &raft.tick_interval);
        if raft.election_ticks <= raft.heartbeat_ticks {
            let message = "must be larger than heartbeatTicks";
            self.problem(object, format!("{field}.electionTicks"), message);
        }
        for (name, value) in [
            ("heartbeatTicks", raft.heartbeat_ticks),
            ("maxInflightBlocks", raft.max_inflight_blocks),
            ("snapshotIntervalBytes", raft.snapshot_interval_bytes),
        ] {
            self.positive(object, &format!("{field}.{name}"), value);
        }
        Some(Raft {
            tick_interval: tick?,
            election_ticks: raft.election_ticks,
            heartbeat_ticks: raft.heartbeat_ticks,
            max_inflight_blocks: raft.max_inflight_blocks,
            snapshot_interval_bytes: raft.snapshot_interval_bytes,
        })
    }

    fn positive(&mut self, object: &ObjectId, field: &str, value: u32) {
        if value == 0 {
            self.problem(object, field, "must be at least 1");
        }
    }

    fn duration(&mut self, object: &ObjectId, field: &str, text: &str) -> Option<Duration> {
        let parsed = self.take(object, field, duration::parse(text))?;
        if parsed.is_zero() {
            self.problem(object, field, "must be longer than 0");
        }
        Some(parsed)
    }

    fn certificates(&mut self, object: &ObjectId, spec: &CertificateSpec) -> Option<Certificates> {
        let field = "spec.certificates";
        let duration = self.duration(object, &format!("{field}.duration"), &spec.duration);
        let before = self.duration(object, &format!("{field}.renewBefore"), &spec.renew_before);
        let ca = self.duration(object, &format!("{field}.caDuration"), &spec.ca_duration);
        let certificates =
            Certificates { duration: duration?, renew_before: before?, ca_duration: ca? };
        if certificates.renew_before >= certificates.duration {
            let message = "must be shorter than duration, or a certificate is never fresh";
            self.problem(object, format!("{field}.renewBefore"), message);
        }
        if certificates.ca_duration <= certificates.duration {
            let message = "must be longer than duration: no leaf outlives its CA";
            self.problem(object, format!("{field}.caDuration"), message);
        }
        Some(certificates)
    }

    fn batch(&mut self, object: &ObjectId, spec: &BatchSpec) -> Option<Batch> {
        let timeout = self.duration(object, "spec.batch.timeout", &spec.timeout);
        self.positive(object, "spec.batch.maxMessageCount", spec.max_message_count);
        self.positive(object, "spec.batch.preferredMaxBytes", spec.preferred_max_bytes);
        if spec.preferred_max_bytes > spec.absolute_max_bytes {
            let message = "must not be larger than absoluteMaxBytes";
            self.problem(object, "spec.batch.preferredMaxBytes", message);
        }
        Some(Batch {
            timeout: timeout?,
            max_message_count: spec.max_message_count,
            absolute_max_bytes: spec.absolute_max_bytes,
            preferred_max_bytes: spec.preferred_max_bytes,
        })
    }

    fn unique_msp_ids(&mut self, orderer: &str, members: &[&api::Organization]) {
        let mut seen = BTreeMap::from([(orderer, "the ordering service".to_owned())]);
        for member in members {
            let object = ObjectId::of(ORGANIZATION, *member);
            if let Some(other) = seen.insert(&member.spec.msp_id, object.to_string()) {
                let message = format!("{:?} is already the MSP id of {other}", member.spec.msp_id);
                self.problem(&object, "spec.mspId", message);
            }
        }
    }

    fn organization(
        &mut self,
        manifest: &Manifest,
        network: &api::LedgerNetworkSpec,
        organization: &api::Organization,
        inherited: Option<Certificates>,
    ) -> Option<Organization> {
        let name = organization.name_any();
        let object = ObjectId::of(ORGANIZATION, organization);
        self.name(&object);
        let spec = &organization.spec;
        let msp_id = self.take(&object, "spec.mspId", MspId::new(&spec.msp_id));
        let networks = manifest.networks.iter().map(ResourceExt::name_any);
        if let Some(network) = networks.map(|one| format!("{one}-orderer")).find(|one| *one == name)
        {
            let message = format!("{network:?} is how the objects of a network's orderers begin");
            self.problem(&object, "metadata.name", message);
        }
        if name == RESERVED_NAME {
            let message = format!("{RESERVED_NAME:?} is the organization of the orderers");
            self.problem(&object, "metadata.name", message);
        }
        if spec.peers.replicas > 50 {
            self.problem(&object, "spec.peers.replicas", "must be from 0 to 50");
        }
        if spec.external.is_some() && spec.peers.replicas != 0 {
            let message = "an external organization runs its own peers: set it to 0";
            self.problem(&object, "spec.peers.replicas", message);
        }
        let certificates = match &spec.certificates {
            Some(own) => self.certificates(&object, own),
            None => inherited,
        };
        let users = self.users(&object, &spec.users);
        Some(Organization {
            name,
            msp_id: msp_id?,
            peers: spec.peers.replicas,
            users,
            certificates: certificates?,
            node: merge_node(&network.node, &spec.peers.node),
            external: spec.external.clone(),
            ca: spec.ca.clone(),
        })
    }

    fn users(&mut self, object: &ObjectId, specs: &[UserSpec]) -> Vec<UserSpec> {
        let mut users = vec![UserSpec { name: "admin".to_owned(), role: UserRole::Admin }];
        for (index, user) in specs.iter().enumerate() {
            let field = format!("spec.users[{index}].name");
            let well_formed = !user.name.is_empty()
                && user.name.len() <= 40
                && !user.name.starts_with('-')
                && !user.name.ends_with('-')
                && user
                    .name
                    .bytes()
                    .all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit());
            if !well_formed {
                let message =
                    format!("{:?} must be at most 40 of a-z, 0-9 and inner dashes", user.name);
                self.problem(object, field, message);
            } else if users.iter().any(|other| other.name == user.name) {
                self.problem(object, field, format!("{:?} stands there twice", user.name));
            } else {
                users.push(user.clone());
            }
        }
        users
    }

    fn channel(
        &mut self,
        manifest: &Manifest,
        members: &[&api::Organization],
        channel: &api::Channel,
        inherited: Option<Batch>,
    ) -> Option<Channel> {
        let name = channel.name_any();
        let object = ObjectId::of(CHANNEL, channel);
        let id = self.take(&object, "metadata.name", ChannelId::new(&name));
        if name.len() > MAX_CHANNEL {
            let message = format!("must be at most {MAX_CHANNEL} characters long");
            self.problem(&object, "metadata.name", message);
        }
        if channel.spec.organizations.is_empty() {
            self.problem(&object, "spec.organizations", "a channel needs at least one member");
        }
        let mut seen = BTreeSet::new();
        for (index, organization) in channel.spec.organizations.iter().enumerate() {
            let field = format!("spec.organizations[{index}]");
            if !members.iter().any(|member| member.name_any() == *organization) {
                let network = &channel.spec.network_ref;
                let message =
                    format!("no Organization {organization:?} names the network {network:?}");
                self.waits(&object, field, message);
            } else if !seen.insert(organization) {
                self.problem(&object, field, format!("{organization:?} stands there twice"));
            }
        }
        let batch = match &channel.spec.batch {
            Some(own) => self.batch(&object, own),
            None => inherited,
        };
        self.policies(&object, &channel.spec.policies);
        let members = ChannelMembers::new(&name, &channel.spec.organizations, members);
        let chaincodes = self.chaincodes(manifest, &name, &members);
        Some(Channel {
            id: id?,
            organizations: channel.spec.organizations.clone(),
            batch: batch?,
            policies: channel.spec.policies.clone(),
            acls: channel.spec.acls.clone(),
            chaincodes: chaincodes?,
        })
    }

    fn policies(&mut self, object: &ObjectId, policies: &PolicyOverrides) {
        for (field, text) in [
            ("spec.policies.endorsement", &policies.endorsement),
            ("spec.policies.lifecycleEndorsement", &policies.lifecycle_endorsement),
            ("spec.policies.admins", &policies.admins),
        ] {
            if let Some(text) = text {
                self.take(object, field, PolicyRule::parse(text));
            }
        }
    }

    fn chaincodes(
        &mut self,
        manifest: &Manifest,
        channel: &str,
        members: &ChannelMembers<'_>,
    ) -> Option<Vec<Chaincode>> {
        let mut names = BTreeSet::new();
        let mut all = Vec::new();
        for chaincode in manifest.chaincodes.iter().filter(|c| c.spec.channel_ref == channel) {
            let object = ObjectId::of(CHAINCODE, chaincode);
            self.name(&object);
            let parsed = self.chaincode(&object, members, chaincode);
            if let Some(parsed) = &parsed
                && !names.insert(parsed.name.clone())
            {
                let message = format!("channel {channel:?} already has a {:?}", parsed.name);
                self.problem(&object, "spec.name", message);
            }
            all.push(parsed);
        }
        all.into_iter().collect()
    }

    fn chaincode(
        &mut self,
        object: &ObjectId,
        members: &ChannelMembers<'_>,
        chaincode: &api::Chaincode,
    ) -> Option<Chaincode> {
        let spec = &chaincode.spec;
        let program = self.program(object, spec);
        let endorsement = spec.endorsement_policy.as_deref().unwrap_or(DEFAULT_ENDORSEMENT);
        let endorsement = self.policy(object, "spec.endorsementPolicy", endorsement);
        let collections = self.collections(object, members, &spec.collections);
        if spec.version.is_empty() {
            self.problem(object, "spec.version", "must not be empty");
        }
        let env = spec
            .env
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
            .collect();
        Some(Chaincode {
            name: spec.name.clone().unwrap_or_else(|| chaincode.name_any()),
            version: spec.version.clone(),
            program: program?,
            env,
            endorsement: endorsement?,
            init_required: spec.init_required,
            collections: collections?,
        })
    }

    fn program(&mut self, object: &ObjectId, spec: &api::ChaincodeSpec) -> Option<Program> {
        match (&spec.command, &spec.address, &spec.image, spec.register) {
            (Some(command), None, None, false) if !command.is_empty() => {
                Some(Program::Command(command.clone()))
            }
            (Some(_), None, None, false) => {
                self.problem(object, "spec.command", "must name a program");
                None
            }
            (None, Some(address), None, false) => {
                if !is_host_port(address) {
                    let message = format!("{address:?} is not host:port");
                    self.problem(object, "spec.address", message);
                }
                Some(Program::Address(address.clone()))
            }
            (None, None, Some(image), false) => Some(Program::Image(image.clone())),
            (None, None, None, true) => Some(Program::Registers),
            _ => {
                let message = "set exactly one of command, address, image and register";
                self.problem(object, "spec", message);
                None
            }
        }
    }

    /// The path of a channel's policy, or the text of one.
    fn policy(&mut self, object: &ObjectId, field: &str, text: &str) -> Option<Endorsement> {
        if text.starts_with('/') {
            return Some(Endorsement::ChannelPolicy(text.to_owned()));
        }
        let parsed = self.take(object, field, dsl::parse(text));
        parsed.map(|_| Endorsement::Signature(text.to_owned()))
    }

    /// Objects that name something that is not there.
    fn references(&mut self, manifest: &Manifest) {
        let networks: BTreeSet<_> = manifest.networks.iter().map(ResourceExt::name_any).collect();
        let channels: BTreeSet<_> = manifest.channels.iter().map(ResourceExt::name_any).collect();
        let organizations = manifest.organizations.iter();
        let network_refs = organizations
            .map(|one| (ObjectId::of(ORGANIZATION, one), &one.spec.network_ref))
            .chain(
                manifest
                    .channels
                    .iter()
                    .map(|one| (ObjectId::of(CHANNEL, one), &one.spec.network_ref)),
            );
        for (object, reference) in network_refs {
            if !networks.contains(reference) {
                let message = format!("there is no LedgerNetwork {reference:?}");
                self.waits(&object, "spec.networkRef", message);
            }
        }
        for chaincode in &manifest.chaincodes {
            if !channels.contains(&chaincode.spec.channel_ref) {
                let object = ObjectId::of(CHAINCODE, chaincode);
                let message = format!("there is no Channel {:?}", chaincode.spec.channel_ref);
                self.waits(&object, "spec.channelRef", message);
            }
        }
    }
}

fn is_host_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// What `own` leaves open comes from `inherited`.
fn merge_node(inherited: &NodeSpec, own: &NodeSpec) -> NodeSpec {
    let mut config = inherited.config.clone();
    config.extend(own.config.clone());
    NodeSpec {
        image: own.image.clone().or_else(|| inherited.image.clone()),
        resources: own.resources.clone().or_else(|| inherited.resources.clone()),
        storage: own.storage.clone().or_else(|| inherited.storage.clone()),
        hosts: if own.hosts.is_empty() { inherited.hosts.clone() } else { own.hosts.clone() },
        log_level: own.log_level.clone().or_else(|| inherited.log_level.clone()),
        config,
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
