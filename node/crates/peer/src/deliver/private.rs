//! The private writes that a client may see beside a block.
//!
//! Who is a member is told by the definitions as they are now, with whoever asks, client or peer,
//! under the channel's MSPs; Fabric takes the definitions as of the block (core/peer/deliverevents.go,
//! `CheckCollectionPolicy`). Writes that this peer does not have, of a collection whose members
//! it is not of, or that are missing or have ended, are left out, as they are by Fabric.

use std::collections::BTreeMap;

use weft_config::Bundle;
use weft_ledger::kv::KvError;
use weft_msp::Authenticated;
use weft_protos::common::Block;
use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use weft_types::ValidationCode;
use weft_types::block::{self, BlockError, metadata};

use crate::channel::Channel;
use crate::lifecycle::DefinitionError;
use crate::private::collections;
use crate::private::recorded::Recorded;

/// Private data of a block cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateDataError {
    #[error("failed to read a block")]
    Block(#[source] BlockError),
    #[error("failed to look up a collection")]
    Collection(#[source] DefinitionError),
    #[error("failed to read private writes")]
    Store(#[source] KvError),
}

/// By place in the block, what the valid transactions wrote to collections that whoever `asks` is a
/// member of.
pub(super) fn of_block(
    channel: &Channel,
    block: &Block,
    asks: &Authenticated,
) -> Result<BTreeMap<u64, TxPvtReadWriteSet>, PrivateDataError> {
    let number = block::header(block).map_err(PrivateDataError::Block)?.number;
    // Every committed block has its codes.
    let Some(codes) = metadata::filter(block) else { return Ok(BTreeMap::new()) };
    let bundle = channel.bundle();
    let mut members = Members { channel, bundle: &bundle, asks, known: BTreeMap::new() };
    let mut found = BTreeMap::new();
    for ((place, raw), code) in (0u32..).zip(block::transactions(block)).zip(codes.iter()) {
        if code != ValidationCode::Valid {
            continue;
        }
        let Some(recorded) = Recorded::read(raw.clone()) else { continue };
        let mut writes = TxPvtReadWriteSet::default();
        for part in &recorded.rwset.namespaces {
            let mut of_namespace =
                NsPvtReadWriteSet { namespace: part.namespace.clone(), ..Default::default() };
            for part in part.collections.iter().filter(|part| !part.private_hash.is_empty()) {
                let (namespace, name) = (of_namespace.namespace.as_str(), &part.collection);
                if !members.may_see(namespace, name)? {
                    continue;
                }
                let rwset = channel.ledger().private_writes(namespace, name, number, place);
                let rwset = rwset.map_err(PrivateDataError::Store)?;
                of_namespace.collection_pvt_rwset.extend(rwset.map(|rwset| {
                    CollectionPvtReadWriteSet { collection_name: name.clone(), rwset }
                }));
            }
            if !of_namespace.collection_pvt_rwset.is_empty() {
                writes.ns_pvt_rwset.push(of_namespace);
            }
        }
        if !writes.ns_pvt_rwset.is_empty() {
            found.insert(u64::from(place), writes);
        }
    }
    Ok(found)
}

/// Which collections somebody is a member of, each looked up once.
struct Members<'a> {
    channel: &'a Channel,
    bundle: &'a Bundle,
    asks: &'a Authenticated,
    known: BTreeMap<(String, String), bool>,
}

impl Members<'_> {
    fn may_see(&mut self, namespace: &str, name: &str) -> Result<bool, PrivateDataError> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let state = self.channel.ledger().state();
        let found = collections::find(&state, self.bundle, namespace, name);
        let found = found.map_err(PrivateDataError::Collection)?;
        let may_see = found.is_some_and(|it| it.admits(self.bundle.msps(), self.asks));
        self.known.insert(key, may_see);
        Ok(may_see)
    }
}
