//! Private writes on their way to other members of their collections
//! (Fabric: core/endorser/pvtrwset_assembler.go, gossip/privdata/distributor.go).

use futures::{StreamExt, TryStreamExt};
use weft_ledger::state::StateReader;
use weft_protos::rwset::TxPvtReadWriteSet;
use weft_types::TxId;

use crate::channel::Channel;
use crate::lifecycle::{self, DefinitionError};
use crate::private::exchange::{Exchange, Push};
use crate::private::{PushError, collections};

/// Collections of one transaction that are given to others at one time.
const AT_ONCE: usize = 16;

/// Private values that could not be given to other members. The texts reach clients, who know
/// Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// What a collection's members are cannot be told.
    #[error("failed to obtain collections config: {0}")]
    Definition(#[source] DefinitionError),
    /// A collection that was written to is not defined.
    #[error(
        "failed to obtain collections config: no collection config for chaincode {chaincode:?}, collection {collection:?}"
    )]
    NoCollection {
        /// The chaincode.
        chaincode: String,
        /// The collection.
        collection: String,
    },
    /// Too few members of a collection have its new values.
    #[error("failed to distribute private collection, txID {tx_id}, channel {channel}: {source}")]
    Push {
        /// The transaction.
        tx_id: TxId,
        /// The channel.
        channel: String,
        /// What went wrong.
        source: PushError,
    },
}

/// What a transaction has written to collections, each with its collection as of `state`. What
/// `_lifecycle` writes is left out: it is this organization's business only.
pub(super) fn pushes(
    channel: &Channel,
    state: &dyn StateReader,
    tx_id: &TxId,
    values: &TxPvtReadWriteSet,
) -> Result<Vec<Push>, DistributionError> {
    let (bundle, height) = (channel.bundle(), channel.ledger().height());
    let mut pushes = Vec::new();
    for part in values.ns_pvt_rwset.iter().filter(|part| part.namespace != lifecycle::NAMESPACE) {
        for writes in &part.collection_pvt_rwset {
            let (namespace, name) = (&part.namespace, &writes.collection_name);
            let found = collections::find(state, &bundle, namespace, name);
            let found = found.map_err(DistributionError::Definition)?;
            let collection = found.ok_or_else(|| DistributionError::NoCollection {
                chaincode: namespace.clone(),
                collection: name.clone(),
            })?;
            pushes.push(Push {
                tx_id: *tx_id,
                namespace: namespace.clone(),
                collection,
                height,
                writes: writes.rwset.clone(),
            });
        }
    }
    Ok(pushes)
}

/// Gives private writes to other members. The first collection that too few of them take ends it.
pub(super) async fn push(
    exchange: &dyn Exchange,
    channel: &Channel,
    pushes: Vec<Push>,
) -> Result<(), DistributionError> {
    let each = pushes.into_iter().map(|push| async move {
        let tx_id = push.tx_id;
        let failed = |source| {
            let channel = channel.id().to_string();
            DistributionError::Push { tx_id, channel, source }
        };
        exchange.push(channel, push).await.map_err(failed)
    });
    futures::stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await
}
