//! The genesis block of a channel: made exactly once, kept in a ConfigMap that cannot change.

use bytes::Bytes;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use prost::Message;
use weft_config::genesis;
use weft_protos::common::Block;
use weft_types::seek::Position;

use crate::api::Channel;
use crate::channel_config::DesiredChannel;
use crate::cluster::apply::Created;
use crate::cluster::conditions::{Finding, kind};
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::error::ReconcileError;
use crate::cluster::controllers::report;
use crate::cluster::controllers::stores::find;
use crate::cluster::events::Note;
use crate::cluster::ledger::{Access, NodeRef};
use crate::cluster::names::{self, key};
use crate::cluster::resources::genesis as build;

/// A channel's genesis block.
pub struct Genesis {
    /// The block.
    pub block: Block,
    /// SHA-256 of its header, hexadecimal.
    pub hash: String,
    /// Whether it was made now.
    pub is_new: bool,
    /// Told when it was made or restored now.
    pub note: Option<Note>,
}

/// Whose genesis block, and who may still have it.
pub struct Place<'a> {
    /// The channel.
    pub object: &'a Channel,
    /// Name of its network.
    pub network: &'a str,
    /// Connections.
    pub access: &'a Access,
    /// The ordering service's holder.
    pub ordering: &'a str,
}

/// Reads the genesis block, or makes it when there never was one. One that was made and is gone
/// is taken from an orderer that still has it; it is never made anew.
///
/// # Errors
/// [`ReconcileError`] when the API server did not do its part; the finding says why there is
/// none.
pub async fn ensure(
    context: &Context,
    place: &Place<'_>,
    desired: &DesiredChannel,
    orderers: &[NodeRef],
) -> Result<Result<Genesis, Finding>, ReconcileError> {
    let namespace = place.object.namespace().unwrap_or_default();
    let channel = place.object.name_any();
    let name = names::genesis(&channel);
    let recorded = place.object.status.as_ref().and_then(|status| status.genesis_hash.clone());
    let map = match find(&context.stores.config_maps, &namespace, &name) {
        Some(map) => Some(ConfigMap::clone(&map)),
        None => context.applier.get::<ConfigMap>(&namespace, &name).await?,
    };
    if let Some(map) = map {
        return Ok(read(&map, recorded.as_deref()));
    }
    let (block, note) = match &recorded {
        None => match make(context, desired) {
            Ok(block) => (block, Note::normal("GenesisMade", "made the genesis block")),
            Err(finding) => return Ok(Err(finding)),
        },
        Some(hash) => match restore(place, desired, orderers, hash).await {
            Some(block) => (
                block,
                Note::normal("GenesisRestored", "took the genesis block back from an orderer"),
            ),
            None => return Ok(Err(gone(&name))),
        },
    };
    let map = build::genesis(&channel, &namespace, place.network, &block.encode_to_vec());
    match context.applier.create(&map).await? {
        Created::New(map) => Ok(read(&map, recorded.as_deref()).map(|genesis| Genesis {
            is_new: recorded.is_none(),
            note: Some(note),
            ..genesis
        })),
        // Somebody was faster: theirs is the one.
        Created::Existing(map) => Ok(read(&map, recorded.as_deref())),
    }
}

fn gone(name: &str) -> Finding {
    let text = format!(
        "the genesis block in ConfigMap {name} is gone and no orderer answers that has it: put \
         the ConfigMap back; it is never made anew, because that would be another channel"
    );
    Finding::no(kind::CONFIG, "GenesisGone", text)
}

fn make(context: &Context, desired: &DesiredChannel) -> Result<Block, Finding> {
    let profile = desired.profile(context.now());
    let profile = profile.map_err(|error| report::invalid(crate::cli::report(&error)))?;
    genesis::block(&profile).map_err(|error| report::invalid(crate::cli::report(&error)))
}

fn read(map: &ConfigMap, recorded: Option<&str>) -> Result<Genesis, Finding> {
    let bytes = map.binary_data.as_ref().and_then(|data| data.get(key::GENESIS));
    let block = bytes.and_then(|bytes| Block::decode(Bytes::from(bytes.0.clone())).ok());
    let header = block.as_ref().and_then(|block| block.header.clone());
    let (Some(block), Some(header)) = (block, header) else {
        let text = format!("ConfigMap {} holds no block", map.name_any());
        return Err(Finding::no(kind::CONFIG, "GenesisUnusable", text));
    };
    let hash = hex(&weft_types::block::header_hash(&header));
    match recorded {
        Some(expected) if expected != hash => {
            let text = format!(
                "ConfigMap {} holds another genesis block ({hash}) than the channel was made \
                 with ({expected}): put the original back",
                map.name_any()
            );
            Err(Finding::no(kind::CONFIG, "GenesisAltered", text))
        }
        _ => Ok(Genesis { block, hash, is_new: false, note: None }),
    }
}

async fn restore(
    place: &Place<'_>,
    desired: &DesiredChannel,
    orderers: &[NodeRef],
    expected: &str,
) -> Option<Block> {
    for node in orderers {
        let Ok(orderer) = place.access.orderer(node, place.ordering) else { continue };
        let asked = orderer.block(&desired.id, Position::Block(0));
        let Ok(Ok(block)) = tokio::time::timeout(crate::cluster::ledger::CALL, asked).await else {
            continue;
        };
        let header = block.header.clone().unwrap_or_default();
        if hex(&weft_types::block::header_hash(&header)) == expected {
            return Some(block);
        }
    }
    None
}

/// Deletes the genesis block, for the deletion policy `Delete`.
///
/// # Errors
/// [`ReconcileError`].
pub async fn delete(context: &Context, object: &Channel) -> Result<(), ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let name = names::genesis(&object.name_any());
    context.applier.delete::<ConfigMap>(&namespace, &name).await?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
