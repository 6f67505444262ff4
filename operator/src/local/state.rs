//! The runner's record of a local network: what must stay the same from run to run.
//!
//! Ports are chosen once, so that addresses in certificates, channel configs and client
//! programs stay true. Fingerprints of the roots are kept, so that a CA which vanished or
//! changed is noticed and never silently made anew; so are genesis blocks and heights, so that no
//! channel is begun twice.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::layout::Layout;
use super::process::ProcessId;

/// Ports are taken from here: below the range from which Linux picks ports for outgoing
/// connections, so that a node that is down does not lose its port to one.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error("failed to keep the network's record")]
    File(#[source] FileError),
    /// The file is not what this program wrote.
    #[error("failed to read the network's record {path}: {source}")]
    Json {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Every port of the range is taken.
    #[error("no free port from {} to {}", PORTS.start, PORTS.end)]
    NoPort,
}

/// What is known of a channel that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelRecord {
    /// Hash of the genesis block's header, hexadecimal.
    pub genesis: String,
    /// The greatest number of blocks that was ever seen.
    pub height: u64,
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Name of the `LedgerNetwork`.
    pub network: String,
    /// Folder from which the manifest's relative paths are taken.
    #[serde(default)]
    pub manifest_folder: PathBuf,
    /// SHA-256 of each root's certificate, hexadecimal, by `organization/ca` or `…/tlsca`.
    #[serde(default)]
    pub authorities: BTreeMap<String, String>,
    /// Ports by node and purpose, such as `orderer0/grpc`.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Channels that were begun, by id.
    #[serde(default)]
    pub channels: BTreeMap<String, ChannelRecord>,
    /// Processes that were started, by node or `chaincode/CHANNEL.NAME`.
    #[serde(default)]
    pub processes: BTreeMap<String, ProcessId>,
    /// Package id of each chaincode, by `CHANNEL.NAME`.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
    /// The `weft up` that looks after the processes, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<ProcessId>,
}

impl State {
    /// Reads the record; `None` when there is none.
    ///
    /// # Errors
    /// [`StateError`] when the record is there and cannot be read.
    pub fn load(layout: &Layout) -> Result<Option<State>, StateError> {
        let path = layout.state();
        let Some(text) = files::read(&path).map_err(StateError::File)? else { return Ok(None) };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| StateError::Json { path: path.display().to_string(), source })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<(), StateError> {
        let path = layout.state();
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| StateError::Json { path: path.display().to_string(), source })?;
        files::write(&path, &text).map_err(StateError::File)
    }

    /// The port for `purpose`, chosen when first asked for.
    ///
    /// # Errors
    /// [`StateError`] when no free port is found.
    pub fn port(&mut self, purpose: &str) -> Result<u16, StateError> {
        if let Some(port) = self.ports.get(purpose) {
            return Ok(*port);
        }
        let taken: BTreeSet<u16> = self.ports.values().copied().collect();
        let port = free_port(&taken).ok_or(StateError::NoPort)?;
        self.ports.insert(purpose.to_owned(), port);
        Ok(port)
    }
}

/// Starts at a random place, so that networks which come up at the same moment, be it in one
/// process, rarely ask for the same port.
fn free_port(taken: &BTreeSet<u16>) -> Option<u16> {
    let span = PORTS.end - PORTS.start;
    let random = RandomState::new().build_hasher().finish();
    let first = u16::try_from(random % u64::from(span)).unwrap_or_default();
    (0..span)
        .map(|step| PORTS.start + (first + step) % span)
        .filter(|port| !taken.contains(port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_and_never_clash() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        assert_eq!(State::load(&layout).unwrap(), None);
        let mut state = State { network: "n".to_owned(), ..State::default() };
        let one = state.port("peer0/grpc").unwrap();
        let two = state.port("peer0/operations").unwrap();
        assert_ne!(one, two);
        assert!(PORTS.contains(&one) && PORTS.contains(&two));
        state.save(&layout).unwrap();
        let mut again = State::load(&layout).unwrap().unwrap();
        assert_eq!(again.port("peer0/grpc").unwrap(), one);
        assert_eq!(again, state);
    }

    #[test]
    fn a_record_of_another_program_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        std::fs::write(layout.state(), "{\"network\": 1}").unwrap();
        let error = State::load(&layout).unwrap_err().to_string();
        assert!(error.contains("state.json"), "{error}");
    }
}
