//! Values and policies put into groups, and the messages that values hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use weft_protos::{
    common::{self, ConfigGroup, ConfigPolicy, ConfigValue},
    msp, orderer, peer,
};

use crate::{
    application::AnchorPeer, consensus::Consensus, endpoint::Endpoint, keys,
    orderer::ConsensusState, org::MSP_TYPE_X509,
};

/// Sets a value, keeping version and mod_policy where it is there already.
pub(crate) fn put_value(group: &mut ConfigGroup, key: &str, value: &impl Message) {
    let encoded: Bytes = value.encode_to_vec().into();
    match group.values.get_mut(key) {
        Some(existing) => existing.value = encoded,
        None => {
            let mod_policy = keys::ADMINS.into();
            let value = ConfigValue { version: 0, value: encoded, mod_policy };
            group.values.insert(key.to_owned(), value);
        }
    }
}

/// Sets a policy, keeping version and mod_policy where it is there already.
pub(crate) fn put_policy(group: &mut ConfigGroup, name: &str, policy: common::Policy) {
    match group.policies.get_mut(name) {
        Some(existing) => existing.policy = Some(policy),
        None => {
            let mod_policy = keys::ADMINS.into();
            let policy = ConfigPolicy { version: 0, policy: Some(policy), mod_policy };
            group.policies.insert(name.to_owned(), policy);
        }
    }
}

pub(crate) fn capabilities(names: &BTreeSet<String>) -> common::Capabilities {
    let all = names.iter().map(|name| (name.clone(), common::Capability {}));
    common::Capabilities { capabilities: all.collect() }
}

pub(crate) fn consensus_type(
    consensus: &Consensus,
    state: ConsensusState,
) -> orderer::ConsensusType {
    let metadata = match consensus {
        Consensus::Solo => Vec::new(),
        Consensus::Raft(config) => config.to_metadata().encode_to_vec(),
        Consensus::Bft(options) => options.to_message().encode_to_vec(),
    };
    orderer::ConsensusType {
        r#type: consensus.name().to_owned(),
        metadata: metadata.into(),
        state: state.to_number(),
    }
}

pub(crate) fn acls(acls: &BTreeMap<String, String>) -> peer::AcLs {
    let resource = |policy: &String| peer::ApiResource { policy_ref: policy.clone() };
    peer::AcLs {
        acls: acls.iter().map(|(name, policy)| (name.clone(), resource(policy))).collect(),
    }
}

pub(crate) fn endpoints(endpoints: &[Endpoint]) -> common::OrdererAddresses {
    common::OrdererAddresses { addresses: endpoints.iter().map(Endpoint::to_string).collect() }
}

pub(crate) fn anchor_peers(peers: &[AnchorPeer]) -> peer::AnchorPeers {
    let peer = |at: &AnchorPeer| peer::AnchorPeer { host: at.host.clone(), port: at.port };
    peer::AnchorPeers { anchor_peers: peers.iter().map(peer).collect() }
}

/// The MSP value of an organization; a signing identity never goes into a channel.
pub(crate) fn msp_value(definition: &msp::FabricMspConfig) -> msp::MspConfig {
    let public = msp::FabricMspConfig { signing_identity: None, ..definition.clone() };
    msp::MspConfig { r#type: MSP_TYPE_X509, config: public.encode_to_vec().into() }
}
