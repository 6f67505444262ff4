//! Why a local network does not come up, run or stop.

use std::path::PathBuf;

use weft_client::ClientError;
use weft_types::ChannelId;

use super::files::FileError;
use super::material::MaterialError;
use super::process::ProcessError;
use super::state::StateError;
use crate::channel_config::ChannelConfigError;
use crate::cluster::ledger::LedgerError;
use crate::manifest::ManifestError;
use crate::model::Problems;
use crate::node_settings::NodeSettingsError;

/// A run that failed: the step, the field, node or channel, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The manifest cannot be read.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Which document and field.
        #[source]
        source: ManifestError,
    },
    /// The manifest breaks rules.
    #[error("{} has problems:\n{source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Each of them.
        #[source]
        source: Problems,
    },
    /// A local run is of one network.
    #[error("{} holds {count} LedgerNetworks; a local run takes exactly one", path.display())]
    Networks {
        /// The file.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// What the manifest asks for needs a cluster.
    #[error("{object}: {field} needs a Kubernetes cluster; {instead}")]
    NeedsCluster {
        /// Kind and name.
        object: String,
        /// The field.
        field: &'static str,
        /// What does it here.
        instead: &'static str,
    },
    /// The folder belongs to another network.
    #[error("{} holds the network {found:?}, not {expected:?}; choose another --dir", folder.display())]
    OtherNetwork {
        /// The folder.
        folder: PathBuf,
        /// The network in it.
        found: String,
        /// The network of the manifest.
        expected: String,
    },
    /// Another `weft` is changing the network.
    #[error("another weft is at work in {}", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no network in the folder.
    #[error("there is no network in {}; start one with `weft up -f MANIFEST --dir {}`", folder.display(), folder.display())]
    NoNetwork {
        /// The folder.
        folder: PathBuf,
    },
    /// A file.
    #[error(transparent)]
    File(FileError),
    /// The record.
    #[error(transparent)]
    State(StateError),
    /// Keys and certificates.
    #[error(transparent)]
    Material(MaterialError),
    /// A node's settings.
    #[error("{node}: {source}")]
    Settings {
        /// The node.
        node: String,
        /// The field.
        #[source]
        source: NodeSettingsError,
    },
    /// A process.
    #[error(transparent)]
    Process(ProcessError),
    /// A node did not get ready.
    #[error("{node} is not ready after {seconds} s; the end of its log {}:\n{tail}", log.display())]
    NotReady {
        /// The node.
        node: String,
        /// How long it was waited for.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// A channel's config.
    #[error(transparent)]
    ChannelConfig(ChannelConfigError),
    /// A block in the folder cannot be read.
    #[error("failed to read the block {}: {reason}", path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A node refused a step.
    #[error("failed to {step}")]
    Step {
        /// What was tried, with the names it concerns.
        step: String,
        /// What the node said.
        #[source]
        source: Box<ClientError>,
    },
    /// A channel has no orderer or peer here.
    #[error("channel {channel}: {what}")]
    Channel {
        /// The channel.
        channel: ChannelId,
        /// What is missing.
        what: String,
    },
    /// A channel cannot be brought further without harm.
    #[error(
        "channel {channel}: {reason}: {message}\nput the data folder of an orderer ({}) back from a backup, or give the network up with `weft down --dir {} --delete` and begin a new one",
        folder.join("ordering/nodes/NAME/data").display(), folder.display()
    )]
    Refused {
        /// The channel.
        channel: ChannelId,
        /// One word, as conditions in a cluster have it, such as `LedgerLost`.
        reason: &'static str,
        /// One sentence.
        message: String,
        /// The network's folder.
        folder: PathBuf,
    },
    /// Two nodes have different chains under the same name.
    #[error(
        "channel {channel}: block {number} is {found} at {node} and {expected} at {other}: they are on different chains; stop the network, and restore the data folder of the one that is wrong from a backup"
    )]
    Apart {
        /// The channel.
        channel: ChannelId,
        /// The block at which they differ.
        number: u64,
        /// One of them.
        node: String,
        /// Hash of its block's header.
        found: String,
        /// The other one.
        other: String,
        /// Hash of that one's.
        expected: String,
    },
    /// A name that the network does not have.
    #[error("organization {name:?} is not part of the network")]
    NoOrganization {
        /// The name.
        name: String,
    },
    /// A chaincode's package or policy cannot be made.
    #[error(transparent)]
    Ledger(LedgerError),
    /// A chaincode cannot be used as declared.
    #[error("chaincode {chaincode}: {what}")]
    Chaincode {
        /// The chaincode.
        chaincode: String,
        /// Why.
        what: String,
    },
    /// The random generator or the clock of the machine.
    #[error("failed to {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LocalError {
    /// Wraps what a node said about a step.
    pub fn step(step: impl Into<String>) -> impl FnOnce(ClientError) -> LocalError {
        let step = step.into();
        move |source| LocalError::Step { step, source: Box::new(source) }
    }
}

macro_rules! wraps {
    ($($variant:ident($source:ty)),* $(,)?) => {
        $(impl From<$source> for LocalError {
            fn from(source: $source) -> Self {
                LocalError::$variant(source)
            }
        })*
    };
}

// Each source names its own file, holder or channel; the step needs no more context.
wraps!(
    File(FileError),
    State(StateError),
    Material(MaterialError),
    Process(ProcessError),
    ChannelConfig(ChannelConfigError),
    Ledger(LedgerError),
);
