//! `Channel`: one shared ledger and its members.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{BatchSpec, Condition, DeletionPolicy};

/// One ledger that its member organizations share. The channel's id is the object's name.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "Channel",
    plural = "channels",
    shortname = "ch",
    category = "weft",
    namespaced,
    status = "ChannelStatus",
    validation = ("self.metadata.name.matches('^[a-z][a-z0-9.-]*$') && size(self.metadata.name) <= 249", "a channel's name starts with a letter and has at most 249 letters, digits, dots and dashes"),
    printcolumn = r#"{"name":"Network","type":"string","jsonPath":".spec.networkRef"}"#,
    printcolumn = r#"{"name":"Members","type":"string","jsonPath":".spec.organizations"}"#,
    printcolumn = r#"{"name":"Height","type":"integer","jsonPath":".status.height"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"InSync","type":"string","jsonPath":".status.conditions[?(@.type=='ConfigInSync')].status"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelSpec {
    /// Name of the LedgerNetwork, in the same namespace.
    #[x_kube(validation = ("self == oldSelf", "a channel cannot move to another network"))]
    pub network_ref: String,
    /// Names of the member Organizations, in the same namespace.
    #[schemars(length(min = 1, max = 100))]
    pub organizations: Vec<String>,
    /// When blocks are cut; the network's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchSpec>,
    /// Policies of the application that differ from the defaults.
    #[serde(default)]
    pub policies: PolicyOverrides,
    /// Access control that differs from the defaults: resource (such as `peer/Propose`) to
    /// policy (such as `/Channel/Application/Writers`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub acls: BTreeMap<String, String>,
    /// What happens to the ledgers of this channel when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Policies of a channel's application: `MAJORITY Endorsement`, `ANY Writers` and the like, or
/// policy text such as `OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer', 'Org3MSP.peer')`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyOverrides {
    /// Who must endorse a transaction of a chaincode without a policy of its own;
    /// `MAJORITY Endorsement` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
    /// Who must approve a chaincode before it is committed; `MAJORITY Endorsement` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_endorsement: Option<String>,
    /// Who may change the channel's application; `MAJORITY Admins` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admins: Option<String>,
}

/// What the controller last saw of a channel.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ledger height: the number of blocks of the furthest peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Ledger height by peer.
    #[serde(default)]
    pub peer_heights: BTreeMap<String, u64>,
    /// Ledger height by orderer.
    #[serde(default)]
    pub orderer_heights: BTreeMap<String, u64>,
    /// The consenters of the config on the ledger, each with the SHA-256 of the TLS certificate
    /// that the config pins, hexadecimal.
    #[serde(default)]
    pub consenters: BTreeMap<String, String>,
    /// The consenter that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The engine's term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// SHA-256 of the genesis block's header, hexadecimal: fixed once the channel is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_hash: Option<String>,
    /// Sequence of the channel's config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sequence: Option<u64>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Ready` and its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
