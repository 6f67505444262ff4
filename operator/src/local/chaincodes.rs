//! Chaincodes of a local network: the program, its package, and the definition that the
//! channel's members agree on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use weft_client::lifecycle::{self, Definition};
use weft_client::{Orderer, Peer};
use weft_package::PackageId;

use super::error::LocalError;
use super::nodes::{HOST, Node, beside};
use super::process::Program as Process;
use super::runner::Runner;
use super::state::State;
use crate::cluster::ledger::chaincode::{self as shared, PackageFile, is_approval_of};
use crate::model::{Chaincode, Channel, Program};

/// Time for a contract's program to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for peers to hear of each other's chaincodes.
const ENDORSERS_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What was done to a chaincode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChaincodeChanges {
    /// Peers on which its package was installed.
    pub installed: Vec<String>,
    /// Organizations that approved.
    pub approved: Vec<String>,
    /// The sequence that was committed.
    pub committed: Option<i64>,
    /// Whether its program was started.
    pub started: bool,
    /// Organizations for which a certificate of a contract that registers was issued.
    pub certificates: Vec<String>,
}

impl ChaincodeChanges {
    /// For people.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        if self.started {
            parts.push("started".to_owned());
        }
        if !self.certificates.is_empty() {
            parts.push(format!("certificates issued for {}", self.certificates.join(", ")));
        }
        if !self.installed.is_empty() {
            parts.push(format!("installed on {}", self.installed.join(", ")));
        }
        if !self.approved.is_empty() {
            parts.push(format!("approved by {}", self.approved.join(", ")));
        }
        if let Some(sequence) = self.committed {
            parts.push(format!("committed as sequence {sequence}"));
        }
        if parts.is_empty() { "unchanged".to_owned() } else { parts.join("; ") }
    }
}

impl Runner {
    /// Brings a chaincode to what the manifest says: program, package, definition.
    pub(super) async fn ensure_chaincode(
        &mut self,
        channel: &Channel,
        chaincode: &Chaincode,
    ) -> Result<ChaincodeChanges, LocalError> {
        let mut changes = ChaincodeChanges::default();
        let address = self.service_address(channel, chaincode)?;
        let PackageFile { bytes, id } = shared::package(chaincode, &address)?;
        self.state.packages.insert(name(channel, chaincode), id.clone());
        changes.certificates = self.ensure_certificates(channel, chaincode, &id)?;
        changes.started = self.ensure_program(channel, chaincode, &address, &id).await?;
        let peers = self.channel_peers(channel);
        changes.installed = self.install(&peers, &bytes, &id).await?;
        self.ensure_definition(channel, chaincode, &id, &mut changes).await?;
        self.await_endorsers(channel, chaincode).await?;
        if !chaincode.collections.is_empty() {
            self.await_acquaintance(channel, chaincode).await?;
        }
        Ok(changes)
    }

    /// Where its program listens; empty for one that registers.
    fn service_address(
        &mut self,
        channel: &Channel,
        chaincode: &Chaincode,
    ) -> Result<String, LocalError> {
        match &chaincode.program {
            Program::Command(_) => {
                let port = self.state.port(&key(channel, chaincode))?;
                Ok(format!("{HOST}:{port}"))
            }
            Program::Address(address) => Ok(address.clone()),
            Program::Registers => Ok(String::new()),
            Program::Image(_) => Err(LocalError::NeedsCluster {
                object: format!("Chaincode {:?}", chaincode.name),
                field: "spec.image",
                instead: "name the contract's program in spec.command to run it here",
            }),
        }
    }

    /// The certificates with which each member's processes of a contract register.
    fn ensure_certificates(
        &self,
        channel: &Channel,
        chaincode: &Chaincode,
        package_id: &str,
    ) -> Result<Vec<String>, LocalError> {
        if chaincode.program != Program::Registers {
            return Ok(Vec::new());
        }
        let package = package_id.parse::<PackageId>().map_err(|error| LocalError::Chaincode {
            chaincode: chaincode.name.clone(),
            what: error.to_string(),
        })?;
        let mut issued = Vec::new();
        for organization in &channel.organizations {
            let folder = self.layout.contract(organization, &channel.id, &chaincode.name);
            let material = self.material(organization)?;
            if material.ensure_contract(&folder, &chaincode.name, &package, self.now)?.is_some() {
                issued.push(organization.clone());
            }
        }
        Ok(issued)
    }

    /// Starts the contract's program; one that runs for another package is replaced.
    async fn ensure_program(
        &mut self,
        channel: &Channel,
        chaincode: &Chaincode,
        address: &str,
        package_id: &str,
    ) -> Result<bool, LocalError> {
        let Program::Command(command) = &chaincode.program else { return Ok(false) };
        let folder = self.layout.chaincode(&channel.id, &chaincode.name);
        let program = Process {
            name: format!("chaincode {}", chaincode.name),
            command: resolve(command, &self.manifest_folder, &self.weft),
            env: environment(chaincode, address, package_id),
            folder: self.manifest_folder.clone(),
            log: folder.join("chaincode.log"),
        };
        let started = self.ensure_process(&key(channel, chaincode), &program, &folder).await?;
        self.await_listening(channel, chaincode, address, &program).await?;
        Ok(started)
    }

    async fn await_listening(
        &self,
        channel: &Channel,
        chaincode: &Chaincode,
        address: &str,
        program: &Process,
    ) -> Result<(), LocalError> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            let ended = !is_running(&self.state, &key(channel, chaincode));
            if ended || Instant::now() >= deadline {
                return Err(if ended {
                    let what = format!(
                        "its program ended; the end of its log {}:\n{}",
                        program.log.display(),
                        program.log_tail(15)
                    );
                    LocalError::Chaincode { chaincode: chaincode.name.clone(), what }
                } else {
                    LocalError::NotReady {
                        node: program.name.clone(),
                        seconds: PATIENCE.as_secs(),
                        log: program.log.clone(),
                        tail: program.log_tail(15),
                    }
                });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn install(
        &self,
        peers: &[&Node],
        package: &Bytes,
        package_id: &str,
    ) -> Result<Vec<String>, LocalError> {
        let mut installed = Vec::new();
        for node in peers {
            let step = || LocalError::step(format!("install {package_id} on {}", node.name));
            let peer = self.access.peer(node).map_err(step())?;
            if !peer.installed().await.map_err(step())?.iter().any(|id| id == package_id) {
                peer.install(package.clone()).await.map_err(step())?;
                installed.push(node.name.clone());
            }
        }
        Ok(installed)
    }

    async fn ensure_definition(
        &self,
        channel: &Channel,
        chaincode: &Chaincode,
        package_id: &str,
        changes: &mut ChaincodeChanges,
    ) -> Result<(), LocalError> {
        let name = &chaincode.name;
        let step = |what: &str| LocalError::step(format!("{what} chaincode {name}"));
        let peers = self.peers_of_channel(channel)?;
        let Some((_, first)) = peers.first() else {
            let what = format!("chaincode {name} needs a peer to run on");
            return Err(LocalError::Channel { channel: channel.id.clone(), what });
        };
        let committed = lifecycle::committed(first, &channel.id, name)
            .await
            .map_err(step("query the definition of"))?;
        let (definition, unchanged) = shared::definition(chaincode, committed.as_ref())?;
        for organization in &channel.organizations {
            if self.approve(channel, organization, &peers, &definition, package_id).await? {
                changes.approved.push(organization.clone());
            }
        }
        if !unchanged {
            self.commit(channel, &peers, &definition).await?;
            changes.committed = Some(definition.sequence);
        }
        Ok(())
    }

    /// Approves for one organization, unless it has approved just this package already.
    async fn approve(
        &self,
        channel: &Channel,
        organization: &str,
        peers: &[(&Node, Peer)],
        definition: &Definition,
        package_id: &str,
    ) -> Result<bool, LocalError> {
        let name = &definition.name;
        let step = || LocalError::step(format!("approve chaincode {name} for {organization}"));
        let own: Vec<Peer> = peers
            .iter()
            .filter(|(node, _)| node.organization == organization)
            .map(|(_, peer)| peer.clone())
            .collect();
        if own.is_empty() {
            return Ok(false);
        }
        // Every peer of the organization must know which package runs the chaincode: one that
        // joined later is told by approving again.
        let mut approved = true;
        for peer in &own {
            let found = lifecycle::approved(peer, &channel.id, name, definition.sequence)
                .await
                .map_err(step())?;
            approved &= found.is_some_and(|found| is_approval_of(&found, definition, package_id));
        }
        if approved {
            return Ok(false);
        }
        let orderers = self.orderers_for(organization)?;
        lifecycle::approve(&own, &orderers, &channel.id, definition, Some(package_id))
            .await
            .map_err(step())?;
        Ok(true)
    }

    /// Commits with an endorsement of one peer of each organization.
    async fn commit(
        &self,
        channel: &Channel,
        peers: &[(&Node, Peer)],
        definition: &Definition,
    ) -> Result<(), LocalError> {
        let mut endorsers: Vec<Peer> = Vec::new();
        for organization in &channel.organizations {
            let one = peers.iter().find(|(node, _)| node.organization == *organization);
            endorsers.extend(one.map(|(_, peer)| peer.clone()));
        }
        let step = || LocalError::step(format!("commit chaincode {}", definition.name));
        self.await_approvals(channel, &endorsers, definition).await?;
        let organization = channel.organizations.first().map(String::as_str).unwrap_or_default();
        let orderers = self.orderers_for(organization)?;
        lifecycle::commit(&endorsers, &orderers, &channel.id, definition).await.map_err(step())?;
        Ok(())
    }

    /// Waits until every peer knows of enough endorsers: then any Gateway serves. A policy that
    /// nobody can satisfy now (a member's peers are elsewhere) is noted, and no error.
    async fn await_endorsers(
        &self,
        channel: &Channel,
        chaincode: &Chaincode,
    ) -> Result<(), LocalError> {
        let deadline = Instant::now() + ENDORSERS_PATIENCE;
        for (node, peer) in self.peers_of_channel(channel)? {
            let step = || LocalError::step(format!("ask {} for endorsers", node.name));
            while !peer.has_endorsers(&channel.id, &chaincode.name).await.map_err(step())? {
                if Instant::now() >= deadline {
                    self.note(&format!(
                        "{} knows of no peers that satisfy the endorsement policy of {} together",
                        node.name, chaincode.name
                    ));
                    return Ok(());
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until the channel's peers know each other: private data goes to peers that are known.
    /// That they do not is noted, and no error: a peer may be down.
    async fn await_acquaintance(
        &self,
        channel: &Channel,
        chaincode: &Chaincode,
    ) -> Result<(), LocalError> {
        let deadline = Instant::now() + ENDORSERS_PATIENCE;
        let peers = self.peers_of_channel(channel)?;
        let mut here: BTreeMap<String, usize> = BTreeMap::new();
        for (node, _) in &peers {
            *here.entry(node.msp_id.to_string()).or_default() += 1;
        }
        for (node, peer) in &peers {
            let step = || LocalError::step(format!("ask {} for peers", node.name));
            while !shared::is_acquainted(
                &peer.known_peers(&channel.id).await.map_err(step())?,
                &here,
            ) {
                if Instant::now() >= deadline {
                    self.note(&format!(
                        "{} does not know all peers that private data of {} goes to",
                        node.name, chaincode.name
                    ));
                    return Ok(());
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until every endorser sees every approval: each commits blocks at its own pace.
    async fn await_approvals(
        &self,
        channel: &Channel,
        endorsers: &[Peer],
        definition: &Definition,
    ) -> Result<(), LocalError> {
        let step = || LocalError::step(format!("check approvals of {}", definition.name));
        let deadline = Instant::now() + PATIENCE;
        for peer in endorsers {
            loop {
                let approvals =
                    lifecycle::readiness(peer, &channel.id, definition).await.map_err(step())?;
                let missing: Vec<_> =
                    approvals.iter().filter(|(_, yes)| !**yes).map(|(id, _)| id.as_str()).collect();
                if missing.is_empty() {
                    break;
                }
                if Instant::now() >= deadline {
                    let what = format!("not approved by {}", missing.join(", "));
                    return Err(LocalError::Chaincode { chaincode: definition.name.clone(), what });
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn peers_of_channel(&self, channel: &Channel) -> Result<Vec<(&Node, Peer)>, LocalError> {
        let mut peers = Vec::new();
        for node in self.channel_peers(channel) {
            let step = LocalError::step(format!("connect to {}", node.name));
            peers.push((node, self.access.peer(node).map_err(step)?));
        }
        Ok(peers)
    }

    /// Every orderer, asked by the administrator of `organization`.
    fn orderers_for(&self, organization: &str) -> Result<Vec<Orderer>, LocalError> {
        let connect = |node: &Node| {
            let step = LocalError::step(format!("connect to {}", node.name));
            self.access.orderer(node, organization).map_err(step)
        };
        self.nodes_of(super::nodes::Kind::Orderer).map(connect).collect()
    }
}

/// The name under which a chaincode's port and process are recorded.
pub(super) fn key(channel: &Channel, chaincode: &Chaincode) -> String {
    format!("chaincode/{}", name(channel, chaincode))
}

/// The name that no other chaincode of the network has.
fn name(channel: &Channel, chaincode: &Chaincode) -> String {
    format!("{}.{}", channel.id, chaincode.name)
}

fn is_running(state: &State, key: &str) -> bool {
    state.processes.get(key).is_some_and(|process| process.is_running())
}

fn environment(chaincode: &Chaincode, address: &str, package_id: &str) -> Vec<(String, String)> {
    let mut env = chaincode.env.clone();
    env.push(("CHAINCODE_ID".to_owned(), package_id.to_owned()));
    env.push(("CHAINCODE_SERVER_ADDRESS".to_owned(), address.replace(HOST, "127.0.0.1")));
    env
}

/// Where the program is: a path is taken from the manifest's folder, a bare name from beside
/// `weft`, then from the path.
fn resolve(command: &[String], manifest_folder: &Path, weft: &Path) -> Vec<String> {
    let mut command = command.to_vec();
    if let Some(program) = command.first_mut() {
        let path: PathBuf = if program.contains('/') {
            manifest_folder.join(&*program)
        } else {
            beside(weft, program)
        };
        *program = path.display().to_string();
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_looked_up_beside_the_manifest_and_a_name_on_the_path() {
        let command = |program: &str| {
            let all = [program.to_owned(), "-x".to_owned()];
            resolve(&all, Path::new("/manifests"), Path::new("/no/such/weft"))
        };
        assert_eq!(command("./run.sh"), ["/manifests/./run.sh", "-x"]);
        assert_eq!(command("/bin/cc"), ["/bin/cc", "-x"]);
        assert_eq!(command("asset-contract"), ["asset-contract", "-x"]);
    }
}
