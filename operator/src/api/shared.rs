//! Pieces that several kinds use.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to volumes, CA keys and genesis blocks when the object that owns them is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// They stay, and an object of the same name made later takes them over.
    #[default]
    Retain,
    /// They are deleted with the object.
    Delete,
}

/// The cryptography of keys, signatures and hashes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CryptoSuite {
    /// ECDSA on NIST P-256 with SHA-256.
    #[default]
    P256,
}

/// A Secret of the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
}

/// A ConfigMap of the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapRef {
    /// Name of the ConfigMap.
    pub name: String,
}

/// When the orderers cut a batch of transactions into a block.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("self.preferredMaxBytes <= self.absoluteMaxBytes", "preferredMaxBytes must not be larger than absoluteMaxBytes"))]
pub struct BatchSpec {
    /// The longest time that a transaction waits for others to share its block, as a duration
    /// such as `500ms` or `2s`. With nothing in flight a batch is cut at once.
    #[serde(default = "default_batch_timeout")]
    pub timeout: String,
    /// The most transactions in a block.
    #[serde(default = "default_max_message_count")]
    #[schemars(range(min = 1))]
    pub max_message_count: u32,
    /// The largest transaction that is accepted, in bytes.
    #[serde(default = "default_absolute_max_bytes")]
    #[schemars(range(min = 1, max = 104_857_600))]
    pub absolute_max_bytes: u32,
    /// The size in bytes past which a block is cut although it could hold more transactions.
    #[serde(default = "default_preferred_max_bytes")]
    #[schemars(range(min = 1))]
    pub preferred_max_bytes: u32,
}

impl Default for BatchSpec {
    fn default() -> Self {
        BatchSpec {
            timeout: default_batch_timeout(),
            max_message_count: default_max_message_count(),
            absolute_max_bytes: default_absolute_max_bytes(),
            preferred_max_bytes: default_preferred_max_bytes(),
        }
    }
}

fn default_batch_timeout() -> String {
    "500ms".to_owned()
}

fn default_max_message_count() -> u32 {
    500
}

fn default_absolute_max_bytes() -> u32 {
    10 * 1024 * 1024
}

fn default_preferred_max_bytes() -> u32 {
    2 * 1024 * 1024
}

/// How long certificates live and when they are renewed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateSpec {
    /// Lifetime of node, admin and user certificates, such as `2160h` (90 days).
    #[serde(default = "default_leaf_duration")]
    pub duration: String,
    /// How long before its end a certificate is renewed, such as `720h`. Less than `duration`.
    #[serde(default = "default_renew_before")]
    pub renew_before: String,
    /// Lifetime of a managed certificate authority, such as `87600h` (10 years).
    #[serde(default = "default_ca_duration")]
    pub ca_duration: String,
}

impl Default for CertificateSpec {
    fn default() -> Self {
        CertificateSpec {
            duration: default_leaf_duration(),
            renew_before: default_renew_before(),
            ca_duration: default_ca_duration(),
        }
    }
}

fn default_leaf_duration() -> String {
    "2160h".to_owned()
}

fn default_renew_before() -> String {
    "720h".to_owned()
}

fn default_ca_duration() -> String {
    "87600h".to_owned()
}

/// The volume of a node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageSpec {
    /// Size of the volume, such as `10Gi`. It may grow later and never shrinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Name of the StorageClass; the cluster's default when absent. Fixed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
}

/// How a node runs. On a machine of one's own (`weft up`) only `logLevel` and `config` apply.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Container image of the node; the operator's own version when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU and memory requests and limits of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// The node's volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Hosts besides the cluster's own by which the node is reached; its TLS certificate names
    /// them as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub hosts: Vec<String>,
    /// Log filter, such as `info` or `info:weft_peer.gateway=debug`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Settings of the node that differ from the defaults, by dotted path, such as
    /// `limits.maxConcurrentStreams: "200"`. The node's reference lists every path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}
