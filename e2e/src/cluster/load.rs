//! Steady transactions on a network in the cluster.

use std::time::Duration;

use anyhow::ensure;
use weft_client::Gateway;

use super::Namespace;
use crate::load::{Load, Pace, assert_all_there};

/// Few enough that a machine with two cores has time for what is tested.
const PACE: Pace = Pace { clients: 4, pause: Duration::from_millis(50) };

/// Load of several users, and how to check what became of it.
pub struct ClusterLoad<'a> {
    namespace: &'a Namespace,
    channel: String,
    load: Load,
}

impl<'a> ClusterLoad<'a> {
    /// Starts transactions of `user1` of each organization, through its Service, and returns
    /// when the first are committed.
    ///
    /// # Errors
    /// When nothing is committed.
    pub async fn start(
        namespace: &'a Namespace,
        orgs: &[&str],
        channel: &str,
    ) -> anyhow::Result<ClusterLoad<'a>> {
        let mut gateways: Vec<Gateway> = Vec::new();
        for org in orgs {
            gateways.push(namespace.gateway(org, "user1", channel).await?);
        }
        let load = Load::start_at(gateways, PACE);
        load.progress(5).await?;
        Ok(ClusterLoad { namespace, channel: channel.to_owned(), load })
    }

    /// Waits until `more` further transactions are acknowledged.
    ///
    /// # Errors
    /// When commits do not go on.
    pub async fn progress(&self, more: usize) -> anyhow::Result<()> {
        self.load.progress(more).await
    }

    /// Ends the load and checks that every acknowledged transaction is in the ledgers of all
    /// these peers, which agree on the newest block. Gives the height.
    ///
    /// # Errors
    /// The first transaction that was lost, or the disagreement.
    pub async fn finish(self, peers: &[(&str, u32)]) -> anyhow::Result<u64> {
        let submitted = self.load.submitted();
        let keys = self.load.finish().await?;
        let (height, _) = self.namespace.settled(peers, &self.channel).await?;
        for (org, index) in peers {
            let gateway = self.namespace.gateway_of(org, *index, "user1", &self.channel).await?;
            assert_all_there(&gateway, &keys).await?;
        }
        let committed = keys.len();
        println!(
            "load: {submitted} submitted, {committed} acknowledged and all there, {height} blocks"
        );
        ensure!(committed > 0, "nothing was committed");
        Ok(height)
    }
}
