//! What the peer says of its health.

use std::sync::Arc;

use weft_ops::health::Health;

use crate::channel::Channels;

/// The component's name, as in Fabric a lower-case word.
const CHANNELS: &str = "channels";

/// A channel that has failed is a part that does not serve. It is no reason to restart the peer:
/// it is opened again without that, and a restart would take the other channels down. Nor is that
/// no orderer is in reach.
pub(super) fn register(health: &Health, channels: &Arc<Channels>) {
    let channels = Arc::downgrade(channels);
    health.register_parts(CHANNELS, move || {
        channels.upgrade().map(|channels| channels.failures()).unwrap_or_default()
    });
}
