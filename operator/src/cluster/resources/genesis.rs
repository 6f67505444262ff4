//! The genesis block of a channel.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{labels, meta};
use crate::cluster::names::{self, component, key};

/// The ConfigMap with a channel's genesis block. It is made once and never changed, because
/// another genesis block is another channel: the API server refuses changes (`immutable`), and
/// without an owner it outlives the `Channel`.
pub fn genesis(channel: &str, namespace: &str, network: &str, block: &[u8]) -> ConfigMap {
    let labels = labels::for_channel(channel, network, component::GENESIS);
    ConfigMap {
        metadata: meta(&names::genesis(channel), namespace, labels, None),
        binary_data: Some(BTreeMap::from([(key::GENESIS.to_owned(), ByteString(block.to_vec()))])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
