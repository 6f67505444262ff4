//! A configuration for people: the tree with every value decoded, policies as text and certificates as
//! subject, validity and fingerprint. It is a view; nothing reads it back.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde_json::{Value, json};
use weft_crypto::Certificate;
use weft_msp::policy::dsl;
use weft_protos::{
    common::{self, Config, ConfigGroup, ConfigPolicy, ConfigValue, policy::PolicyType},
    etcdraft,
    ext::decode,
    msp, orderer, peer, smartbft,
};
use weft_types::ChannelId;

use crate::{consensus, keys};

/// A configuration for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigView {
    /// The channel.
    pub channel_id: String,
    /// Number of the configuration.
    pub sequence: u64,
    /// The tree; `None` where there is none.
    pub channel: Option<GroupView>,
}

/// A group for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// Its version.
    pub version: u64,
    /// Its mod_policy.
    pub mod_policy: String,
    /// Its policies by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, PolicyView>,
    /// Its values by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, ValueView>,
    /// Its subgroups by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupView>,
}

/// A policy for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// Its version.
    pub version: u64,
    /// Its mod_policy.
    pub mod_policy: String,
    /// The policy as text, such as `MAJORITY Admins` or `OR('Org1MSP.admin')`.
    pub rule: String,
}

/// A value for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueView {
    /// Its version.
    pub version: u64,
    /// Its mod_policy.
    pub mod_policy: String,
    /// What it says; bytes that cannot be decoded stand as `{"base64": …}`.
    pub value: Value,
}

/// The view of a configuration. Whatever the tree holds, this does not fail.
#[must_use]
pub fn view(channel_id: &ChannelId, config: &Config) -> ConfigView {
    ConfigView {
        channel_id: channel_id.to_string(),
        sequence: config.sequence,
        channel: config.channel_group.as_ref().map(GroupView::of),
    }
}

impl ConfigView {
    /// Writes it as indented JSON.
    ///
    /// # Errors
    /// Fails where the writer of JSON does, which no view is known to bring about.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// Writes it as YAML.
    ///
    /// # Errors
    /// Fails where the writer of YAML does, which no view is known to bring about.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }
}

impl GroupView {
    fn of(group: &ConfigGroup) -> Self {
        let policies = group.policies.iter();
        let values = group.values.iter();
        let groups = group.groups.iter();
        Self {
            version: group.version,
            mod_policy: group.mod_policy.clone(),
            policies: policies.map(|(name, p)| (name.clone(), PolicyView::of(p))).collect(),
            values: values.map(|(name, v)| (name.clone(), ValueView::of(name, v))).collect(),
            groups: groups.map(|(name, g)| (name.clone(), Self::of(g))).collect(),
        }
    }
}

impl PolicyView {
    fn of(policy: &ConfigPolicy) -> Self {
        let rule = policy.policy.as_ref().map_or_else(|| "<none>".to_owned(), policy_text);
        Self { version: policy.version, mod_policy: policy.mod_policy.clone(), rule }
    }
}

/// A policy as text; `<…>` where there are no words for it.
#[must_use]
pub fn policy_text(policy: &common::Policy) -> String {
    let unreadable = || format!("<type {}: {}>", policy.r#type, STANDARD.encode(&policy.value));
    match PolicyType::try_from(policy.r#type) {
        Ok(PolicyType::Signature) => decode("signature policy", policy.value.clone())
            .map_or_else(|_| unreadable(), |policy| dsl::describe(&policy)),
        Ok(PolicyType::ImplicitMeta) => decode("implicit meta policy", policy.value.clone())
            .map_or_else(|_| unreadable(), |policy| dsl::format_implicit_meta(&policy)),
        _ => unreadable(),
    }
}

impl ValueView {
    fn of(name: &str, value: &ConfigValue) -> Self {
        let decoded = decoded(name, &value.value);
        Self {
            version: value.version,
            mod_policy: value.mod_policy.clone(),
            value: decoded.unwrap_or_else(|| json!({ "base64": STANDARD.encode(&value.value) })),
        }
    }
}

fn decoded(name: &str, bytes: &Bytes) -> Option<Value> {
    Some(match name {
        keys::CAPABILITIES => {
            let value: common::Capabilities = read(bytes)?;
            json!(value.capabilities.keys().collect::<Vec<_>>())
        }
        keys::HASHING_ALGORITHM => json!(read::<common::HashingAlgorithm>(bytes)?.name),
        keys::BLOCK_DATA_HASHING_STRUCTURE => {
            json!({ "width": read::<common::BlockDataHashingStructure>(bytes)?.width })
        }
        keys::ORDERER_ADDRESSES | keys::ENDPOINTS => {
            json!(read::<common::OrdererAddresses>(bytes)?.addresses)
        }
        keys::CONSORTIUM => json!(read::<common::Consortium>(bytes)?.name),
        keys::CONSENSUS_TYPE => consensus_type(&read(bytes)?)?,
        keys::BATCH_SIZE => {
            let value: orderer::BatchSize = read(bytes)?;
            json!({
                "maxMessageCount": value.max_message_count,
                "absoluteMaxBytes": value.absolute_max_bytes,
                "preferredMaxBytes": value.preferred_max_bytes,
            })
        }
        keys::BATCH_TIMEOUT => json!(read::<orderer::BatchTimeout>(bytes)?.timeout),
        keys::CHANNEL_RESTRICTIONS => {
            json!({ "maxCount": read::<orderer::ChannelRestrictions>(bytes)?.max_count })
        }
        keys::KAFKA_BROKERS => json!(read::<orderer::KafkaBrokers>(bytes)?.brokers),
        keys::ORDERERS => {
            let value: common::Orderers = read(bytes)?;
            json!(value.consenter_mapping.iter().map(bft_consenter).collect::<Vec<_>>())
        }
        keys::ACLS => {
            let value: peer::AcLs = read(bytes)?;
            let acls = value.acls.into_iter().map(|(name, policy)| (name, policy.policy_ref));
            json!(acls.collect::<BTreeMap<_, _>>())
        }
        keys::ANCHOR_PEERS => {
            let value: peer::AnchorPeers = read(bytes)?;
            let peers = value.anchor_peers.into_iter();
            json!(
                peers
                    .map(|peer| json!({ "host": peer.host, "port": peer.port }))
                    .collect::<Vec<_>>()
            )
        }
        keys::MSP => msp(&read(bytes)?)?,
        _ => return None,
    })
}

fn read<M: Message + Default>(bytes: &Bytes) -> Option<M> {
    decode("value", bytes.clone()).ok()
}

fn consensus_type(value: &orderer::ConsensusType) -> Option<Value> {
    let state = orderer::consensus_type::State::try_from(value.state).ok()?;
    let metadata = match value.r#type.as_str() {
        consensus::RAFT => raft(&read(&value.metadata)?),
        consensus::BFT => bft(&read(&value.metadata)?),
        _ => json!({ "base64": STANDARD.encode(&value.metadata) }),
    };
    Some(json!({ "type": value.r#type, "state": state.as_str_name(), "metadata": metadata }))
}

fn raft(value: &etcdraft::ConfigMetadata) -> Value {
    let options = value.options.clone().unwrap_or_default();
    let consenters = value.consenters.iter().map(|consenter| {
        json!({
            "host": consenter.host,
            "port": consenter.port,
            "clientTlsCert": certificate(&consenter.client_tls_cert),
            "serverTlsCert": certificate(&consenter.server_tls_cert),
        })
    });
    json!({
        "consenters": consenters.collect::<Vec<_>>(),
        "options": {
            "tickInterval": options.tick_interval,
            "electionTick": options.election_tick,
            "heartbeatTick": options.heartbeat_tick,
            "maxInflightBlocks": options.max_inflight_blocks,
            "snapshotIntervalSize": options.snapshot_interval_size,
        },
    })
}

fn bft(value: &smartbft::Options) -> Value {
    json!({
        "requestBatchMaxCount": value.request_batch_max_count,
        "requestBatchMaxBytes": value.request_batch_max_bytes,
        "requestBatchMaxInterval": value.request_batch_max_interval,
        "incomingMessageBufferSize": value.incoming_message_buffer_size,
        "requestPoolSize": value.request_pool_size,
        "requestForwardTimeout": value.request_forward_timeout,
        "requestComplainTimeout": value.request_complain_timeout,
        "requestAutoRemoveTimeout": value.request_auto_remove_timeout,
        "requestMaxBytes": value.request_max_bytes,
        "viewChangeResendInterval": value.view_change_resend_interval,
        "viewChangeTimeout": value.view_change_timeout,
        "leaderHeartbeatTimeout": value.leader_heartbeat_timeout,
        "leaderHeartbeatCount": value.leader_heartbeat_count,
        "collectTimeout": value.collect_timeout,
        "syncOnStart": value.sync_on_start,
        "speedUpViewChange": value.speed_up_view_change,
        "leaderRotation": value.leader_rotation().as_str_name(),
        "decisionsPerLeader": value.decisions_per_leader,
    })
}

fn bft_consenter(value: &common::Consenter) -> Value {
    json!({
        "id": value.id,
        "host": value.host,
        "port": value.port,
        "mspId": value.msp_id,
        "identity": certificate(&value.identity),
        "clientTlsCert": certificate(&value.client_tls_cert),
        "serverTlsCert": certificate(&value.server_tls_cert),
    })
}

fn msp(value: &msp::MspConfig) -> Option<Value> {
    if value.r#type != crate::org::MSP_TYPE_X509 {
        return None;
    }
    let definition: msp::FabricMspConfig = read(&value.config)?;
    let certificates = |list: &[Bytes]| list.iter().map(certificate).collect::<Vec<_>>();
    let units = definition.organizational_unit_identifiers.iter();
    Some(json!({
        "mspId": definition.name,
        "rootCerts": certificates(&definition.root_certs),
        "intermediateCerts": certificates(&definition.intermediate_certs),
        "admins": certificates(&definition.admins),
        "revocationLists": definition.revocation_list.len(),
        "tlsRootCerts": certificates(&definition.tls_root_certs),
        "tlsIntermediateCerts": certificates(&definition.tls_intermediate_certs),
        "organizationalUnits":
            units.map(|unit| &unit.organizational_unit_identifier).collect::<Vec<_>>(),
        "nodeOus": node_ous(definition.fabric_node_ous.as_ref()),
    }))
}

fn node_ous(value: Option<&msp::FabricNodeOUs>) -> Value {
    let Some(value) = value.filter(|value| value.enable) else { return Value::Null };
    let unit = |unit: &Option<msp::FabricOuIdentifier>| {
        unit.as_ref().map(|unit| unit.organizational_unit_identifier.clone())
    };
    json!({
        "client": unit(&value.client_ou_identifier),
        "peer": unit(&value.peer_ou_identifier),
        "admin": unit(&value.admin_ou_identifier),
        "orderer": unit(&value.orderer_ou_identifier),
    })
}

fn certificate(pem: &Bytes) -> Value {
    let text = std::str::from_utf8(pem).ok();
    match text.and_then(|text| Certificate::from_pem(text).ok()) {
        Some(certificate) => json!({
            "subject": certificate.subject_text(),
            "notBefore": certificate.not_before().to_string(),
            "notAfter": certificate.not_after().to_string(),
            "sha256": hex::encode(certificate.fingerprint()),
        }),
        None => json!({ "base64": STANDARD.encode(pem) }),
    }
}
