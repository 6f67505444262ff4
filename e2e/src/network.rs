//! A network of processes that a test can hurt.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_client::{Connection, ConnectionSpec, Gateway, Peer};
use weft_crypto::{Certificate, PrivateKey};
use weft_msp::SigningIdentity;
use weft_operator::local::connection::{ConnectionFile, OrgEntry, UserEntry};
use weft_operator::local::layout::Layout;
use weft_operator::local::nodes::Node;
use weft_operator::local::process::Program;
use weft_operator::local::progress::Silent;
use weft_operator::local::state::State;
use weft_operator::local::{self, Runner, UpOptions};
use weft_types::{ChannelId, MspId};

use crate::proxy::Proxy;

/// Longest wait for something that should happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network in a temporary folder. Its processes end with it.
pub struct LocalNetwork {
    folder: TempDir,
    manifest: PathBuf,
}

impl LocalNetwork {
    /// Brings a manifest up and returns when the network is ready.
    ///
    /// # Errors
    /// What `weft up` says.
    pub async fn start(manifest: &str) -> anyhow::Result<LocalNetwork> {
        let folder = tempfile::tempdir()?;
        let network = LocalNetwork { manifest: folder.path().join("manifest.yaml"), folder };
        network.apply(manifest).await?;
        Ok(network)
    }

    /// Brings the network to what another manifest says.
    ///
    /// # Errors
    /// What `weft up` says.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        std::fs::write(&self.manifest, manifest)?;
        self.up().await
    }

    /// Runs `weft up` again: starts what has ended.
    ///
    /// # Errors
    /// What `weft up` says.
    pub async fn up(&self) -> anyhow::Result<()> {
        self.runner()?.bring_up().await?;
        Ok(())
    }

    /// The nodes.
    ///
    /// # Errors
    /// What `weft up` says before it starts anything.
    pub fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        Ok(self.runner()?.nodes().to_vec())
    }

    fn runner(&self) -> anyhow::Result<Runner> {
        let options = UpOptions {
            manifest: self.manifest.clone(),
            manifest_folder: None,
            folder: self.dir(),
            weft: programs()?.join("weft"),
        };
        Ok(Runner::prepare(&options, Arc::new(Silent))?)
    }

    /// Stops every process in order.
    ///
    /// # Errors
    /// What `weft down` says.
    pub async fn down(&self) -> anyhow::Result<usize> {
        Ok(local::down(&self.dir(), false).await?)
    }

    /// The network's folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("net")
    }

    /// Where things stand in the folder.
    pub fn layout(&self) -> Layout {
        Layout::new(self.dir())
    }

    /// The runner's record.
    ///
    /// # Errors
    /// When there is none.
    pub fn state(&self) -> anyhow::Result<State> {
        State::load(&self.layout())?.context("the network has no record")
    }

    /// `connection.json`.
    ///
    /// # Errors
    /// When there is none.
    pub fn connection(&self) -> anyhow::Result<ConnectionFile> {
        ConnectionFile::load(&self.layout())?.context("the network has no connection file")
    }

    /// The first channel.
    ///
    /// # Errors
    /// When the connection file names none.
    pub fn channel(&self) -> anyhow::Result<ChannelId> {
        Ok(ChannelId::new(&self.connection()?.channel)?)
    }

    /// The Gateway of an organization's first peer, as its user.
    ///
    /// # Errors
    /// When the organization is not there.
    pub fn gateway(&self, org: usize) -> anyhow::Result<Gateway> {
        self.gateway_of(org, &self.channel()?)
    }

    /// The same for another channel than the first.
    ///
    /// # Errors
    /// When the organization is not there.
    pub fn gateway_of(&self, org: usize, channel: &ChannelId) -> anyhow::Result<Gateway> {
        let entry = self.org(org)?;
        let signer = Arc::new(identity(&entry, &entry.user)?);
        let connection = connection(&entry, &entry.peer)?;
        Ok(Gateway::new(connection, channel.clone(), signer))
    }

    /// The Gateway of one of an organization's peers, as its user.
    ///
    /// # Errors
    /// When the organization or the peer is not there.
    pub fn gateway_at(&self, org: usize, index: usize) -> anyhow::Result<Gateway> {
        let entry = self.org(org)?;
        let address = entry.peers.get(index).context("no such peer")?;
        let signer = Arc::new(identity(&entry, &entry.user)?);
        Ok(Gateway::new(connection(&entry, address)?, self.channel()?, signer))
    }

    /// One of an organization's peers, as its administrator.
    ///
    /// # Errors
    /// When the organization or the peer is not there.
    pub fn peer(&self, org: usize, index: usize) -> anyhow::Result<Peer> {
        let entry = self.org(org)?;
        let address = entry.peers.get(index).context("no such peer")?;
        let signer = Arc::new(identity(&entry, &entry.admin)?);
        Ok(Peer::new(connection(&entry, address)?, signer))
    }

    fn org(&self, index: usize) -> anyhow::Result<OrgEntry> {
        self.connection()?.orgs.into_iter().nth(index).context("no such organization")
    }

    /// Kills a process, so that it has no time for anything (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let process = *self.state()?.processes.get(name).context("no such process")?;
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("no pid")?;
        kill_process(pid, Signal::KILL)?;
        let deadline = Instant::now() + PATIENCE;
        while process.is_running() {
            if Instant::now() > deadline {
                bail!("{name} does not end");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts a node again that listens elsewhere, with a proxy at its own address.
    ///
    /// # Errors
    /// When there is no such node, it does not end or start, or no port is free.
    pub async fn put_behind_proxy(&self, name: &str) -> anyhow::Result<(Proxy, SocketAddr)> {
        let nodes = self.nodes()?;
        let node = nodes.iter().find(|node| node.name == name).context("no such node")?;
        self.kill(name).await?;
        let inside = SocketAddr::from(([127, 0, 0, 1], weft_testkit::free_port()));
        self.start_at(name, inside)?;
        let own = SocketAddr::from(([127, 0, 0, 1], node.grpc));
        Ok((Proxy::start(own, inside).await?, inside))
    }

    /// Starts a node that has ended, at another address than its own.
    ///
    /// # Errors
    /// When there is no such node, or it does not start.
    pub fn start_at(&self, name: &str, listen: SocketAddr) -> anyhow::Result<()> {
        let nodes = self.nodes()?;
        let node = nodes.iter().find(|node| node.name == name).context("no such node")?;
        let program = Program {
            name: node.name.clone(),
            // A file beyond the limit of its size is an error then, as on a full disk, and not the
            // process's end.
            command: vec![
                "/bin/sh".to_owned(),
                "-c".to_owned(),
                "trap '' XFSZ; exec \"$0\" \"$@\"".to_owned(),
                programs()?.join("weft-node").display().to_string(),
                node.kind.command().to_owned(),
                "--config".to_owned(),
                node.settings_file().display().to_string(),
            ],
            env: vec![("WEFT_LISTEN".to_owned(), listen.to_string())],
            folder: node.folder.clone(),
            log: node.log(),
        };
        let mut state = self.state()?;
        state.processes.insert(name.to_owned(), program.spawn()?);
        Ok(state.save(&self.layout())?)
    }

    /// Sends a signal to a process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid(name)?, signal)?)
    }

    /// Fills a process's disk, or makes room again: it can make no file longer. Only for one that was
    /// started with [`Self::start_at`]; others end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn set_disk_full(&self, name: &str, full: bool) -> anyhow::Result<()> {
        let own = getrlimit(Resource::Fsize);
        let limit = if full { Rlimit { current: Some(0), ..own } } else { own };
        prlimit(Some(self.pid(name)?), Resource::Fsize, limit)?;
        Ok(())
    }

    /// The id of a process.
    ///
    /// # Errors
    /// When it was not started.
    pub fn pid(&self, name: &str) -> anyhow::Result<Pid> {
        let process = *self.state()?.processes.get(name).context("no such process")?;
        i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("no pid")
    }

    /// Names of the processes that were started, by a test on the name.
    ///
    /// # Errors
    /// When the network has no record.
    pub fn processes(&self, which: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
        Ok(self.state()?.processes.into_keys().filter(|name| which(name)).collect())
    }

    /// Waits until every organization's first peer has the same height, and returns it with the
    /// hash of the newest block, which must be the same too.
    ///
    /// # Errors
    /// When they do not come together in time, or differ.
    pub async fn settled(&self) -> anyhow::Result<(u64, Vec<u8>)> {
        let channel = self.channel()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut tips = Vec::new();
            for org in 0..self.connection()?.orgs.len() {
                let info = self.peer(org, 0)?.chain_info(&channel).await?;
                tips.push((info.height, info.current_block_hash.to_vec()));
            }
            let first = tips.first().cloned().context("no peer")?;
            if tips.iter().all(|tip| tip.0 == first.0) {
                if tips.iter().any(|tip| *tip != first) {
                    bail!("peers differ at height {}", first.0);
                }
                return Ok(first);
            }
            if Instant::now() > deadline {
                bail!("peers stay at different heights: {tips:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for LocalNetwork {
    fn drop(&mut self) {
        let Ok(state) = self.state() else { return };
        for process in state.processes.values().filter(|process| process.is_running()) {
            if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if std::thread::panicking() {
            print_logs(&self.dir());
        }
    }
}

/// Shows what the nodes said last, when a test has failed.
fn print_logs(dir: &Path) {
    let Ok(organizations) = std::fs::read_dir(dir) else { return };
    for nodes in organizations.flatten().map(|entry| entry.path().join("nodes")) {
        for node in std::fs::read_dir(nodes).into_iter().flatten().flatten() {
            let log = node.path().join("node.log");
            eprintln!("--- {}\n{}", log.display(), local::process::tail(&log, 20));
        }
    }
}

/// The folder of the built programs: the one above this test's own.
///
/// # Errors
/// When they have not been built.
pub fn programs() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("no folder above the test")?;
    for program in ["weft", "weft-node", "asset-contract"] {
        if !folder.join(program).is_file() {
            bail!(
                "{program} is not built: cargo build -p weft-node -p weft-operator -p asset-contract"
            );
        }
    }
    Ok(folder.to_owned())
}

/// A connection to one of an organization's nodes, without a client certificate.
///
/// # Errors
/// When the organization's TLS root cannot be read.
pub fn connection(entry: &OrgEntry, address: &str) -> anyhow::Result<Connection> {
    let spec = ConnectionSpec {
        address: address.to_owned(),
        server_name: Some(entry.tls_server_name.clone()),
        roots: Certificate::all_from_pem(&std::fs::read_to_string(&entry.tls_ca_cert)?)?,
        client: None,
    };
    Ok(Connection::new(&spec)?)
}

fn identity(entry: &OrgEntry, user: &UserEntry) -> anyhow::Result<SigningIdentity> {
    let certificate = Certificate::from_pem(&std::fs::read_to_string(&user.cert)?)?;
    let key = PrivateKey::from_pkcs8_pem(&std::fs::read_to_string(&user.key)?)?;
    Ok(SigningIdentity::new(MspId::new(&entry.msp_id)?, certificate, key)?)
}
