//! `Organization`: a member of the network, with its CAs, peers and people.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{
    CertificateSpec, Condition, ConfigMapRef, DeletionPolicy, NodeSpec, SecretRef,
};

/// A member of a network: its certificate authorities, its peers, and the people who use it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "Organization",
    plural = "organizations",
    shortname = "org",
    category = "weft",
    namespaced,
    status = "OrganizationStatus",
    printcolumn = r#"{"name":"MSP","type":"string","jsonPath":".spec.mspId"}"#,
    printcolumn = r#"{"name":"Network","type":"string","jsonPath":".spec.networkRef"}"#,
    printcolumn = r#"{"name":"Peers","type":"string","jsonPath":".status.peers","description":"Peers ready / wanted"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.soonestExpiry","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("!has(self.external) || self.peers.replicas == 0", "an external organization runs its own peers: set peers.replicas to 0"))]
pub struct OrganizationSpec {
    /// Name of the LedgerNetwork, in the same namespace.
    #[x_kube(validation = ("self == oldSelf", "an organization cannot move to another network"))]
    pub network_ref: String,
    /// The organization's MSP id: its name in policies and certificates, such as `Org1MSP`.
    #[schemars(regex(pattern = "^[a-zA-Z0-9][a-zA-Z0-9._-]*$"), length(min = 1, max = 253))]
    #[x_kube(validation = ("self == oldSelf", "an MSP id cannot change"))]
    pub msp_id: String,
    /// The organization's peers.
    #[serde(default)]
    pub peers: PeersSpec,
    /// Where the organization's certificate authorities come from.
    #[serde(default)]
    pub ca: CaSpec,
    /// People and programs that get an identity, besides `admin`, which is always there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub users: Vec<UserSpec>,
    /// Lifetimes of certificates; the network's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificateSpec>,
    /// Set for an organization that runs elsewhere and takes part by its public bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalOrganization>,
    /// What happens to volumes and CA keys when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The peers of an organization.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeersSpec {
    /// Number of peers.
    #[serde(default = "default_peers")]
    #[schemars(range(min = 0, max = 50))]
    pub replicas: u32,
    /// How the peers run; what is absent comes from the network's `node`.
    #[serde(default)]
    pub node: NodeSpec,
}

impl Default for PeersSpec {
    fn default() -> Self {
        PeersSpec { replicas: default_peers(), node: NodeSpec::default() }
    }
}

fn default_peers() -> u32 {
    1
}

/// Where an organization's two certificate authorities (identities and TLS) come from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaSpec {
    /// Secret with `tls.crt` and `tls.key` of the user's own CA for identities; a managed CA is
    /// made once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret_ref: Option<SecretRef>,
    /// Secret with `tls.crt` and `tls.key` of the user's own CA for TLS; a managed CA is made
    /// once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretRef>,
}

/// What a user's certificate allows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserRole {
    /// Sends transactions and queries.
    #[default]
    Client,
    /// Also approves chaincodes and signs changes of channels.
    Admin,
}

/// A person or program with an identity.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserSpec {
    /// Name: the common name of the certificate and the name of its files or Secret.
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(min = 1, max = 40))]
    pub name: String,
    /// What the certificate allows.
    #[serde(default)]
    pub role: UserRole,
}

/// An organization whose nodes and keys are elsewhere.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalOrganization {
    /// ConfigMap with the organization's public bundle: its MSP without keys.
    pub bundle_ref: ConfigMapRef,
    /// Addresses `host:port` of its anchor peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub anchor_peers: Vec<String>,
}

/// What the controller last saw of an organization.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Peers ready and wanted, as `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<String>,
    /// `host:port` of each peer, by name, and under `clients` that of the Service which leads to
    /// any peer that is ready.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// When the organization's first certificate ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soonest_expiry: Option<String>,
    /// SHA-256 of the identity CA's certificate, hexadecimal: fixed once the CA is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_fingerprint: Option<String>,
    /// SHA-256 of the TLS CA's certificate, hexadecimal: fixed once the CA is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca_fingerprint: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Ready` and its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
