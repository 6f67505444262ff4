//! What the peer says of its health.

use std::sync::{Arc, Weak};

use weft_ops::health::Health;

use crate::channel::Channels;

/// The component's name, as in Fabric a lower-case word.
const CHANNELS: &str = "channels";

/// A peer is healthy while every channel can commit. That no orderer is in reach is no fault of the
/// peer, and starting it again would not help.
pub(super) fn register(health: &Health, channels: &Arc<Channels>) {
    let channels = Arc::downgrade(channels);
    health.register(CHANNELS, move || {
        let found = check(&channels);
        async move { found }
    });
}

fn check(channels: &Weak<Channels>) -> Result<(), String> {
    let Some(channels) = channels.upgrade() else { return Ok(()) };
    let fault = channels.list().iter().find_map(|channel| channel.fault());
    fault.map_or(Ok(()), |fault| Err(fault.to_string()))
}
