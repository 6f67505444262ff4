//! What organizations and ordering services have alike: authorities, an MSP, identities of users
//! and nodes, and the nodes themselves.
//!
//! | file | owns |
//! | --- | --- |
//! | [`authorities`] | the two authorities, made exactly once; the MSP without keys |
//! | [`identities`] | certificates of users and nodes, renewed in time |
//! | [`nodes`] | the objects of each node, changed one node at a time |
//! | [`removal`] | nodes that are no longer wanted; the end of a holder |

pub mod authorities;
pub mod identities;
pub mod nodes;
pub mod removal;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use weft_package::PackageId;
use weft_types::MspId;

use crate::api::{CaSpec, DeletionPolicy, UserSpec};
use crate::cluster::apply::ApplyError;
use crate::cluster::identity::authority::AuthorityError;
use crate::cluster::identity::holder::IdentityError;
use crate::cluster::names::Holder;
use crate::cluster::resources::ResourceError;
use crate::cluster::resources::group::Group;
use crate::cluster::topology::Node;
use crate::model::Certificates;
use crate::node_settings::NodeSettingsError;

/// What a holder should have.
#[derive(Clone, Debug)]
pub struct HolderPlan {
    /// Who it is.
    pub holder: Holder,
    /// Where.
    pub namespace: String,
    /// Name of its network.
    pub network: String,
    /// Its MSP.
    pub msp_id: MspId,
    /// Lifetimes of its certificates.
    pub certificates: Certificates,
    /// Where its authorities come from.
    pub ca: CaSpec,
    /// Who gets an identity.
    pub users: Vec<UserSpec>,
    /// Contracts that register with its peers.
    pub contracts: Vec<Contract>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// The object that it is made for.
    pub owner: OwnerReference,
    /// Fingerprints of the authorities as recorded in the status.
    pub recorded: Recorded,
    /// Whether its pods are to be gone.
    pub hibernated: bool,
    /// What stays when it goes.
    pub deletion: DeletionPolicy,
}

impl HolderPlan {
    /// Its nodes together.
    pub fn group(&self) -> Group {
        Group {
            holder: self.holder.clone(),
            network: self.network.clone(),
            namespace: self.namespace.clone(),
            replicas: u32::try_from(self.nodes.len()).unwrap_or(u32::MAX),
        }
    }
}

/// A contract that registers with a holder's peers, and gets a certificate for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Name of its `Chaincode`.
    pub chaincode: String,
    /// Name of its `Channel`.
    pub channel: String,
    /// Its package; unknown as long as the spec is not valid, when it keeps what it has.
    pub package: Option<PackageId>,
}

/// Fingerprints of authorities that were made earlier: nothing else may stand in their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Of the authority for identities.
    pub identity: Option<String>,
    /// Of the authority for TLS.
    pub tls: Option<String>,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// An authority cannot be used.
    #[error(transparent)]
    Authority(AuthorityError),
    /// The MSP was made under another id, which certificates and channels hold.
    #[error("spec: an MSP id cannot change: {was} was made, and {wanted} is asked for")]
    MspId {
        /// The id that was made.
        was: String,
        /// The one in the spec.
        wanted: MspId,
    },
    /// A certificate cannot be issued.
    #[error(transparent)]
    Identity(IdentityError),
    /// Settings that a node would refuse.
    #[error("settings of {node}: {source}")]
    Settings {
        /// The node.
        node: String,
        /// Which.
        #[source]
        source: NodeSettingsError,
    },
    /// An object cannot be built.
    #[error(transparent)]
    Resource(ResourceError),
    /// An object cannot be read or written.
    #[error(transparent)]
    Apply(ApplyError),
}

impl From<ApplyError> for HolderError {
    fn from(source: ApplyError) -> Self {
        HolderError::Apply(source)
    }
}
