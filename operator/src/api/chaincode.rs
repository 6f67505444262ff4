//! `Chaincode`: a contract on a channel.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::Condition;

/// A contract on a channel: packaged, installed, approved by every managed organization,
/// committed, started, and upgraded when its version, policy, collections or program changes.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "Chaincode",
    plural = "chaincodes",
    shortname = "cc",
    category = "weft",
    namespaced,
    status = "ChaincodeStatus",
    printcolumn = r#"{"name":"Channel","type":"string","jsonPath":".spec.channelRef"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".spec.version"}"#,
    printcolumn = r#"{"name":"Sequence","type":"integer","jsonPath":".status.sequence"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("[has(self.command), has(self.address), has(self.image), has(self.register) && self.register].filter(x, x).size() == 1", "set exactly one of command, address, image and register"))]
pub struct ChaincodeSpec {
    /// Name of the Channel, in the same namespace.
    #[x_kube(validation = ("self == oldSelf", "a chaincode cannot move to another channel"))]
    pub channel_ref: String,
    /// Name of the chaincode on the channel; the object's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$"), length(min = 1, max = 200))]
    pub name: Option<String>,
    /// Version of the contract, such as `1.0`. A change upgrades it.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.+-]+$"), length(min = 1, max = 100))]
    pub version: String,
    /// Program and arguments of the contract, run as a service by `weft up` with
    /// `CHAINCODE_ID` and `CHAINCODE_SERVER_ADDRESS` in its environment. A relative path is
    /// looked up beside the manifest, a bare name beside the `weft` program and on the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub command: Option<Vec<String>>,
    /// Address `host:port` where the contract already listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Container image of the contract, run as a Deployment in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether the contract registers with the peers, rather than being dialled: its processes are
    /// started by somebody else, one for each peer, and show a TLS certificate for its package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub register: bool,
    /// Environment of the contract, besides what the operator sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// CPU and memory requests and limits of the contract's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Who must endorse the contract's transactions, as policy text such as
    /// `AND('Org1MSP.peer', 'Org2MSP.peer')`, or the path of a channel policy such as
    /// `/Channel/Application/Endorsement`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement_policy: Option<String>,
    /// Whether the contract's `Init` must be called before anything else.
    #[serde(default)]
    pub init_required: bool,
    /// Collections of private data: values that only the peers of some members hold, while the
    /// channel has their hashes. A change upgrades the contract's definition. One that was
    /// committed cannot be removed, and its `blockToLive` cannot change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub collections: Vec<CollectionSpec>,
}

/// A collection of private data.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("has(self.organizations) != has(self.policy)", "set exactly one of organizations and policy"))]
pub struct CollectionSpec {
    /// Name of the collection, by which the contract knows it.
    #[schemars(regex(pattern = "^[A-Za-z0-9-][A-Za-z0-9_-]*$"), length(min = 1, max = 200))]
    pub name: String,
    /// Names of the Organizations whose peers hold the values. Each is a member of the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organizations: Option<Vec<String>>,
    /// The same as policy text, such as `OR('Org1MSP.member', 'Org2MSP.member')`: nothing but an
    /// `OR` of members of the channel, by MSP id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10000))]
    pub policy: Option<String>,
    /// Other peers that must have the values before an endorsement succeeds. With 0, an endorser
    /// that is lost before the commit takes the values with it where it could not send them.
    #[serde(default)]
    #[schemars(range(max = 10000))]
    pub required_peer_count: u32,
    /// Other peers that an endorser sends the values to, at most; those that get none then ask for
    /// them at the commit. When absent, as many as there are other organizations in the
    /// collection, and at least 1 and `requiredPeerCount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10000))]
    pub max_peer_count: Option<u32>,
    /// Blocks after which the values are dropped from every peer, unless they are written again;
    /// 0 keeps them.
    #[serde(default)]
    pub block_to_live: u64,
    /// Whether only clients that satisfy the collection's policy, with its roles, may read its values.
    /// As in Fabric's collection files, `false` when absent: the contract decides.
    #[serde(default)]
    pub member_only_read: bool,
    /// Whether only clients that satisfy the collection's policy, with its roles, may write its values.
    /// As in Fabric's collection files, `false` when absent: the contract decides.
    #[serde(default)]
    pub member_only_write: bool,
    /// Who must endorse what writes into the collection: policy text, or the path of a channel
    /// policy; the contract's `endorsementPolicy` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement_policy: Option<String>,
}

/// What the controller last saw of a chaincode.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChaincodeStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Sequence of the definition that is committed on the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// Package id, `label:hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_id: Option<String>,
    /// The Deployment and Service of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Whether each organization has approved the definition, by MSP id.
    #[serde(default)]
    pub approvals: BTreeMap<String, bool>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Ready` and its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
