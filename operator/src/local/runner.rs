//! Carrying the plan out on this machine: certificates, nodes, channels, chaincodes.
//!
//! Each step looks at what is there and does only what is missing, so that a run that failed
//! or was cut short is mended by the next, and a run without a change changes nothing. What
//! must never be made twice (roots, genesis blocks) is written before anything relies on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weft_rpc::https::{Client, ClientOptions};
use weft_rpc::tls::{ReloadingTls, RootSet};
use weft_types::Timestamp;

use super::access::Access;
use super::chaincodes;
use super::connection::ConnectionFile;
use super::error::LocalError;
use super::files;
use super::layout::{Layout, ORDERING};
use super::lock::Lock;
use super::material::{Issued, OrgMaterial};
use super::nodes::{self, Kind, Node};
use super::process::{ProcessId, Program as Process};
use super::progress::{Progress, Step};
use super::state::State;
use crate::manifest::Manifest;
use crate::model::{self, Network, Program};

/// Time for a node to serve after its start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a starting node is asked.
const POLL: Duration = Duration::from_millis(20);
/// Time for the system to take a killed process's sockets away.
const PORTS_PATIENCE: Duration = Duration::from_secs(3);
/// Time for a process to end before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// What to bring up, and where.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// The manifest.
    pub manifest: PathBuf,
    /// Folder from which the manifest's relative paths are taken; the manifest's own when `None`.
    pub manifest_folder: Option<PathBuf>,
    /// The network's folder.
    pub folder: PathBuf,
    /// The running `weft`, beside which the other programs are.
    pub weft: PathBuf,
}

/// A local network under one `weft`, which holds its lock.
pub struct Runner {
    pub(super) layout: Layout,
    pub(super) network: Network,
    pub(super) state: State,
    pub(super) nodes: Vec<Node>,
    pub(super) access: Access,
    pub(super) now: Timestamp,
    pub(super) manifest_folder: PathBuf,
    pub(super) weft: PathBuf,
    /// Orderers that run and that the manifest no longer has.
    pub(super) leaving: Vec<Node>,
    pub(super) organizations: BTreeMap<String, OrgMaterial>,
    progress: Arc<dyn Progress>,
    _lock: Lock,
}

impl Runner {
    /// Reads and validates the manifest, opens the folder and issues what certificates are due.
    ///
    /// # Errors
    /// [`LocalError`] naming the field, file or certificate.
    pub fn prepare(options: &UpOptions, progress: Arc<dyn Progress>) -> Result<Runner, LocalError> {
        let (network, text) = read_manifest(&options.manifest)?;
        let layout = Layout::new(absolute(&options.folder)?);
        let lock = Lock::take(&layout)?;
        keep_private(&layout)?;
        let mut state = State::load(&layout)?.unwrap_or_default();
        if !state.network.is_empty() && state.network != network.name {
            let folder = layout.root().to_owned();
            let (found, expected) = (state.network, network.name);
            return Err(LocalError::OtherNetwork { folder, found, expected });
        }
        state.network.clone_from(&network.name);
        let manifest_folder = match &options.manifest_folder {
            Some(folder) => folder.clone(),
            None => parent(&absolute(&options.manifest)?),
        };
        state.manifest_folder.clone_from(&manifest_folder);
        let step = Step::begin(progress.as_ref(), "certificates");
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        let nodes = nodes::nodes(&network, &layout, &mut state)?;
        let leaving = nodes::leaving_orderers(&network, &layout, &mut state)?;
        let organizations = roots(&network, &layout, &mut state, now)?;
        // Recorded before anything is signed with them.
        state.save(&layout)?;
        let issued = issue(&network, &layout, &nodes, &organizations, now)?;
        step.end(issued_summary(&issued));
        let access = Access::new(&layout, &organizations)?;
        files::write(&layout.manifest(), text.as_bytes())?;
        Ok(Runner {
            manifest_folder,
            weft: options.weft.clone(),
            _lock: lock,
            layout,
            network,
            state,
            nodes,
            leaving,
            access,
            now,
            organizations,
            progress,
        })
    }

    /// Starts and configures everything; returns when the network is ready.
    ///
    /// # Errors
    /// [`LocalError`] naming the step and the node, channel or chaincode.
    pub async fn bring_up(&mut self) -> Result<ConnectionFile, LocalError> {
        self.start_nodes().await?;
        let progress = self.progress.clone();
        let channels = self.network.channels.clone();
        for channel in &channels {
            let step = Step::begin(progress.as_ref(), format!("channel {}", channel.id));
            let changes = self.ensure_channel(channel).await?;
            step.end(changes.summary());
        }
        self.stop_removed_nodes().await?;
        for channel in &channels {
            for chaincode in &channel.chaincodes {
                let subject = format!("chaincode {}", chaincode.name);
                let step = Step::begin(progress.as_ref(), subject);
                let changes = self.ensure_chaincode(channel, chaincode).await?;
                step.end(changes.summary());
            }
        }
        self.stop_removed_chaincodes().await?;
        for channel in &channels {
            let heights = self.heights(channel, &self.channel_peers(channel)).await;
            self.record_height(channel, heights.into_iter().flatten().max().unwrap_or(0))?;
        }
        let connection = ConnectionFile::new(&self.network, &self.nodes, &self.layout);
        connection.save(&self.layout)?;
        self.state.save(&self.layout)?;
        Ok(connection)
    }

    /// The network's nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The network's folder.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes this process the one that looks after the network.
    ///
    /// # Errors
    /// [`LocalError::State`].
    pub fn supervise(&mut self) -> Result<(), LocalError> {
        self.state.supervisor = ProcessId::current();
        self.state.save(&self.layout)?;
        Ok(())
    }

    /// Something that the person should know.
    pub(super) fn note(&self, text: &str) {
        self.progress.note(text);
    }

    pub(super) fn nodes_of(&self, kind: Kind) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    pub(super) fn material(&self, organization: &str) -> Result<&OrgMaterial, LocalError> {
        self.organizations.get(organization).ok_or_else(|| missing(organization))
    }

    /// Starts the program, unless just this one runs already; records it at once, so that
    /// `weft down` finds it whatever happens next. What tells programs apart is kept beside
    /// the log: command, environment and the program's file, so that one that was built anew is
    /// started anew.
    pub(super) async fn ensure_process(
        &mut self,
        key: &str,
        program: &Process,
        folder: &Path,
    ) -> Result<bool, LocalError> {
        let marker = folder.join("started-with.json");
        let wanted =
            serde_json::to_vec(&(&program.command, &program.env, program.build())).map_err(
                |error| LocalError::System { step: "describe a program", source: error.into() },
            )?;
        if let Some(process) = self.state.processes.get(key).copied()
            && process.is_running()
        {
            if files::read(&marker)?.as_deref() == Some(wanted.as_slice()) {
                return Ok(false);
            }
            process.stop(&program.name, STOP_PATIENCE).await?;
        }
        files::write(&marker, &wanted)?;
        let process = program.spawn()?;
        self.state.processes.insert(key.to_owned(), process);
        self.state.save(&self.layout)?;
        Ok(true)
    }

    async fn start_nodes(&mut self) -> Result<(), LocalError> {
        let step_progress = self.progress.clone();
        let step = Step::begin(step_progress.as_ref(), "nodes");
        let mut started = 0;
        for node in self.nodes.clone() {
            let was_running = self.is_running(&node.name);
            let is_new = self.start_node(&node).await?;
            started += usize::from(is_new);
            // One at a time, so that the others carry the network.
            if is_new && was_running {
                self.await_ready(&node).await?;
            }
        }
        futures::future::try_join_all(self.nodes.iter().map(|node| self.await_ready(node))).await?;
        let running = self.nodes.len() - started;
        step.end(format!("{started} started, {running} running already, all ready"));
        Ok(())
    }

    async fn start_node(&mut self, node: &Node) -> Result<bool, LocalError> {
        let settings = node
            .settings()
            .map_err(|source| LocalError::Settings { node: node.name.clone(), source })?;
        let file = node.settings_file();
        let changed = files::read_text(&file)?.as_deref() != Some(settings.as_str());
        if changed {
            files::write(&file, settings.as_bytes())?;
            if let Some(process) = self.state.processes.get(&node.name).copied() {
                process.stop(&node.name, STOP_PATIENCE).await?;
            }
        }
        let program = Process {
            name: node.name.clone(),
            command: vec![
                nodes::node_program(&self.weft).display().to_string(),
                node.kind.command().to_owned(),
                "--config".to_owned(),
                file.display().to_string(),
            ],
            env: Vec::new(),
            folder: node.folder.clone(),
            log: node.log(),
        };
        if !self.is_running(&node.name) {
            await_ports(node).await;
        }
        self.ensure_process(&node.name, &program, &node.folder).await
    }

    fn is_running(&self, name: &str) -> bool {
        self.state.processes.get(name).is_some_and(|process| process.is_running())
    }

    async fn await_ready(&self, node: &Node) -> Result<(), LocalError> {
        let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
        let client = Client::new(tls, ClientOptions::default());
        let url = format!("http://127.0.0.1:{}/healthz", node.operations);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(response) = client.get(&url).await
                && response.status.is_success()
            {
                return Ok(());
            }
            let running =
                self.state.processes.get(&node.name).is_some_and(|process| process.is_running());
            if !running || Instant::now() >= deadline {
                return Err(LocalError::NotReady {
                    node: node.name.clone(),
                    seconds: PATIENCE.as_secs(),
                    log: node.log(),
                    tail: super::process::tail(&node.log(), 15),
                });
            }
            sleep(POLL).await;
        }
    }

    /// Stops nodes that the manifest no longer has. Their ledgers stay on disk.
    async fn stop_removed_nodes(&mut self) -> Result<(), LocalError> {
        let wanted: BTreeSet<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let keep = |name: &str| wanted.contains(name) || name.starts_with("chaincode/");
        self.stop_others(keep).await
    }

    async fn stop_removed_chaincodes(&mut self) -> Result<(), LocalError> {
        let wanted: BTreeSet<String> = self
            .network
            .channels
            .iter()
            .flat_map(|channel| {
                channel.chaincodes.iter().map(|chaincode| chaincodes::key(channel, chaincode))
            })
            .collect();
        let keep = |name: &str| wanted.contains(name) || !name.starts_with("chaincode/");
        self.stop_others(keep).await
    }

    async fn stop_others(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), LocalError> {
        let others: Vec<(String, ProcessId)> = self
            .state
            .processes
            .iter()
            .filter(|(name, _)| !keep(name))
            .map(|(name, process)| (name.clone(), *process))
            .collect();
        for (name, process) in others {
            process.stop(&name, STOP_PATIENCE).await?;
            self.state.processes.remove(&name);
            self.progress.note(&format!("stopped {name}: the manifest no longer has it"));
        }
        Ok(())
    }
}

/// What an earlier version, or a person, made readable for others is so no longer.
fn keep_private(layout: &Layout) -> Result<(), LocalError> {
    weft_ops::private::tighten(layout.root()).map_err(|source| {
        let path = layout.root().to_owned();
        LocalError::File(files::FileError { action: "make private", path, source })
    })
}

/// Waits until a node's ports are free: a process that was killed counts as ended a moment before
/// the system takes its sockets away. A port that stays taken is for the node to report.
async fn await_ports(node: &Node) {
    let deadline = Instant::now() + PORTS_PATIENCE;
    for port in [node.grpc, node.operations, node.extra] {
        while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() && Instant::now() < deadline {
            sleep(POLL).await;
        }
    }
}

/// Reads a manifest that holds one network which this machine can run.
///
/// # Errors
/// [`LocalError`] for a file that cannot be read, that breaks rules, that holds more or fewer
/// networks than one, or that needs a cluster.
pub fn read_manifest(path: &Path) -> Result<(Network, String), LocalError> {
    let text = files::read_text(path)?.ok_or_else(|| files::FileError {
        action: "find the manifest",
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let manifest = Manifest::parse(&text)
        .map_err(|source| LocalError::Manifest { path: path.to_owned(), source })?;
    let mut networks = model::validate(&manifest)
        .map_err(|source| LocalError::Invalid { path: path.to_owned(), source })?;
    let count = networks.len();
    match (networks.pop(), count) {
        (Some(network), 1) => {
            check_local(&network)?;
            Ok((network, text))
        }
        _ => Err(LocalError::Networks { path: path.to_owned(), count }),
    }
}

/// Fields that name objects of a cluster.
fn check_local(network: &Network) -> Result<(), LocalError> {
    for organization in &network.organizations {
        let object = || format!("Organization {:?}", organization.name);
        if organization.external.is_some() {
            let instead = "run the other organization's network beside this one";
            return Err(LocalError::NeedsCluster {
                object: object(),
                field: "spec.external",
                instead,
            });
        }
        if organization.ca.identity_secret_ref.is_some() || organization.ca.tls_secret_ref.is_some()
        {
            let instead = "put ca.pem and key.pem into ORGANIZATION/ca and ORGANIZATION/tlsca \
                           of the network's folder before the first run";
            return Err(LocalError::NeedsCluster { object: object(), field: "spec.ca", instead });
        }
    }
    for chaincode in network.channels.iter().flat_map(|channel| &channel.chaincodes) {
        if matches!(chaincode.program, Program::Image(_)) {
            let object = format!("Chaincode {:?}", chaincode.name);
            let instead = "name the contract's program in spec.command to run it here";
            return Err(LocalError::NeedsCluster { object, field: "spec.image", instead });
        }
    }
    Ok(())
}

/// Stops every process of a network, chaincodes and peers before orderers.
pub(super) async fn stop_all(layout: &Layout, state: &mut State) -> Result<usize, LocalError> {
    let is_orderer = |name: &str| name.starts_with("orderer");
    let (orderers, others): (Vec<_>, Vec<_>) = std::mem::take(&mut state.processes)
        .into_iter()
        .filter(|(_, process)| process.is_running())
        .partition(|(name, _)| is_orderer(name));
    let count = orderers.len() + others.len();
    for group in [others, orderers] {
        let stops = group.iter().map(|(name, process)| process.stop(name, STOP_PATIENCE));
        futures::future::try_join_all(stops).await?;
    }
    state.supervisor = None;
    state.save(layout)?;
    Ok(count)
}

fn roots(
    network: &Network,
    layout: &Layout,
    state: &mut State,
    now: Timestamp,
) -> Result<BTreeMap<String, OrgMaterial>, LocalError> {
    let ordering = &network.ordering;
    let mut organizations = BTreeMap::new();
    let own = network.organizations.iter().map(|o| (o.name.as_str(), &o.msp_id, o.certificates));
    for (name, msp_id, certificates) in
        own.chain([(ORDERING, &ordering.msp_id, ordering.certificates)])
    {
        let material = OrgMaterial::ensure(layout, state, name, msp_id, certificates, now)?;
        organizations.insert(name.to_owned(), material);
    }
    Ok(organizations)
}

fn issue(
    network: &Network,
    layout: &Layout,
    nodes: &[Node],
    organizations: &BTreeMap<String, OrgMaterial>,
    now: Timestamp,
) -> Result<Vec<Issued>, LocalError> {
    let mut issued = Vec::new();
    let admin = crate::api::UserSpec {
        name: super::access::ADMIN.to_owned(),
        role: crate::api::UserRole::Admin,
    };
    for (name, material) in organizations {
        let users = network.organization(name).map_or_else(
            || std::slice::from_ref(&admin),
            |organization| organization.users.as_slice(),
        );
        for user in users {
            issued.extend(material.ensure_user(layout, user, now)?);
        }
        for node in nodes.iter().filter(|node| node.organization == *name) {
            issued.extend(material.ensure_node(node, now)?);
        }
    }
    Ok(issued)
}

fn issued_summary(issued: &[Issued]) -> String {
    if issued.is_empty() {
        return "none due".to_owned();
    }
    let renewed = issued.iter().filter(|one| one.reason != crate::pki::Reason::Missing).count();
    format!("{} issued, {renewed} of them renewed", issued.len())
}

fn missing(organization: &str) -> LocalError {
    LocalError::NoOrganization { name: organization.to_owned() }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// The path from the root, whether or not it exists yet.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, LocalError> {
    std::path::absolute(path).map_err(|error| LocalError::System {
        step: "find the working folder",
        source: error.into(),
    })
}
