//! Where a command goes: a network on this machine, or one in a cluster; and the peer, channel
//! and identity that a call uses there.

use std::path::PathBuf;
use std::sync::Arc;

use weft_client::{ClientError, Connection, Gateway, Peer};
use weft_msp::SigningIdentity;
use weft_types::ChannelId;

use super::cluster::{self, ClusterArgs, Context, Forward};
use super::{CommandError, local, report};

/// Where a command goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The network of a folder of this machine.
    Local(PathBuf),
    /// A namespace of a cluster.
    Cluster(ClusterArgs),
}

/// What a call says about where it goes; what is absent is worked out.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Organization to act for: its MSP id, or in a cluster its name too.
    pub org: Option<String>,
    /// One of its users.
    pub user: Option<String>,
    /// Whether its administrator is the default user.
    pub as_admin: bool,
    /// Channel.
    pub channel: Option<String>,
    /// Chaincode.
    pub chaincode: Option<String>,
    /// Whether the call is one of a chaincode.
    pub needs_chaincode: bool,
    /// Whether any member will do, where there are several.
    pub any_member: bool,
}

/// A peer to talk to, and someone to talk as.
pub(super) struct Reached {
    /// To the peer.
    pub connection: Connection,
    /// Who signs.
    pub signer: Arc<SigningIdentity>,
    /// The channel.
    pub channel: ChannelId,
    /// The chaincode; empty when the call is of none.
    pub chaincode: String,
    /// What the connection goes through, as long as it is used.
    pub forward: Option<Forward>,
}

impl Target {
    /// Finds the peer and the identity of a call.
    ///
    /// # Errors
    /// What is missing or ambiguous, and what there is to choose from.
    pub(super) async fn reach(&self, wanted: &Wanted) -> Result<Reached, CommandError> {
        match self {
            Target::Local(dir) => local::reach(dir, wanted),
            Target::Cluster(args) => cluster::reach(&Context::open(args).await?, wanted).await,
        }
    }

    /// The folder, for a command that is about this machine.
    ///
    /// # Errors
    /// When a cluster was chosen; `instead` says what to do there.
    pub(super) fn local(&self, command: &str, instead: &str) -> Result<&PathBuf, CommandError> {
        match self {
            Target::Local(dir) => Ok(dir),
            Target::Cluster(_) => {
                Err(format!("{command} is for a network on this machine; {instead}").into())
            }
        }
    }

    /// The cluster, for a command that is about one.
    ///
    /// # Errors
    /// When none was chosen, or as [`Context::open`].
    pub(super) async fn cluster(&self, command: &str) -> Result<Context, CommandError> {
        match self {
            Target::Cluster(args) => Ok(Context::open(args).await?),
            Target::Local(_) => Err(format!(
                "{command} is for a network in a cluster: call it as `kubectl weft {command}`, or add --cluster or -n NAMESPACE"
            )
            .into()),
        }
    }
}

impl Reached {
    /// The peer's Gateway.
    pub(super) fn gateway(&self) -> Gateway {
        Gateway::new(self.connection.clone(), self.channel.clone(), self.signer.clone())
    }

    /// The peer itself.
    pub(super) fn peer(&self) -> Peer {
        Peer::new(self.connection.clone(), self.signer.clone())
    }

    /// A call's error: in terms of the pod, not of this end of the port-forward, and with what
    /// happened to that.
    pub(super) fn explain(&self, error: ClientError) -> CommandError {
        let Some(forward) = &self.forward else { return error.into() };
        let told = report(&error).replace(&forward.address(), forward.pod());
        match forward.problem() {
            Some(problem) => format!("{told}; {problem}").into(),
            None => told.into(),
        }
    }
}
