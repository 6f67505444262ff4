//! Private data from other members, for a block that waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weft_msp::CurrentIdentity;

use crate::channel::Channel;
use crate::private::{Collection, Exchange, Found, Later, Wanted};

/// The other members of collections, as the writing stage asks them. It is a plain thread, so the
/// asking is done on the runtime while it waits.
pub(crate) struct Members {
    /// This peer's identity.
    pub(crate) identity: CurrentIdentity,
    pub(crate) exchange: Later,
    /// How long a block waits at most; zero does not ask.
    pub(crate) pull_timeout: Duration,
    pub(crate) runtime: Handle,
    /// Ends every wait.
    pub(crate) shutdown: CancellationToken,
    /// Told when something is missing.
    pub(crate) missing: Arc<Notify>,
}

impl Members {
    /// Whether this peer holds the values of a collection.
    pub(crate) fn holds(&self, channel: &Channel, collection: &Collection) -> bool {
        collection.admits(channel.bundle().msps(), &self.identity.current().authenticated())
    }

    /// What others send in time.
    pub(crate) fn pull(&self, channel: &Channel, wanted: Vec<Wanted>) -> Vec<Found> {
        if self.pull_timeout.is_zero() || wanted.is_empty() {
            return Vec::new();
        }
        self.runtime.block_on(async {
            tokio::select! {
                found = self.exchange.pull(channel, wanted) => found,
                () = tokio::time::sleep(self.pull_timeout) => Vec::new(),
                () = self.shutdown.cancelled() => Vec::new(),
            }
        })
    }
}
