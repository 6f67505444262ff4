//! Which chaincodes this peer can run, as it tells other peers.

use std::sync::Arc;

use crate::channel::Channel;
use crate::lifecycle::{self, Sources};
use crate::membership::LocalChaincodes;

/// The chaincodes whose definition the organization has approved and whose package is installed.
pub(super) struct Runnable(pub(super) Arc<Sources>);

impl LocalChaincodes for Runnable {
    fn chaincodes(&self, channel: &Channel) -> Vec<(String, i64)> {
        let state = channel.ledger().state();
        let defined = match lifecycle::definitions(&state) {
            Ok(defined) => defined,
            Err(error) => {
                tracing::error!(channel = %channel.id(), %error, "failed to read chaincode definitions");
                return Vec::new();
            }
        };
        let here = defined.into_iter().filter(|definition| {
            let (name, sequence) = (&definition.name, definition.sequence);
            self.0.endorsable(channel.id(), &state, name, sequence).is_ok()
        });
        here.map(|definition| (definition.name, definition.sequence)).collect()
    }
}
