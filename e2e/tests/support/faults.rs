//! What the tests of faults share: load, what must hold after a fault, and what a node tells of
//! itself.

use tokio::time::{Instant, sleep};
use weft_client::Call;
use weft_e2e::LocalNetwork;
use weft_e2e::load::{Load, assert_all_there};

use super::{PATIENCE, http, node_named};

pub const ORDERERS: [&str; 3] = ["orderer0", "orderer1", "orderer2"];
/// Commits that show that a network goes on.
pub const SOME: usize = 50;

/// Clients of both organizations at work.
pub async fn loaded(network: &LocalNetwork) -> Load {
    let load = Load::start(vec![network.gateway(0).unwrap(), network.gateway(1).unwrap()]);
    load.progress(SOME).await.unwrap();
    load
}

/// Nothing that was acknowledged is lost, and both peers agree on everything.
pub async fn check(network: &LocalNetwork, keys: &[String]) {
    network.settled().await.unwrap();
    for org in 0..2 {
        assert_all_there(&network.gateway(org).unwrap(), keys).await.unwrap();
    }
    let key = keys.first().unwrap();
    let history = async |org: usize| {
        let call = Call::new("asset", "GetAssetHistory", [key.clone()]);
        network.gateway(org).unwrap().evaluate(call).await.unwrap()
    };
    assert_eq!(history(0).await, history(1).await);
}

/// The orderer that leads the channel.
pub async fn leader(network: &LocalNetwork) -> &'static str {
    leader_but(network, "").await
}

/// Waits until one leads that is not this one, which may not answer.
pub async fn leader_but(network: &LocalNetwork, old: &str) -> &'static str {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for name in ORDERERS.into_iter().filter(|name| *name != old) {
            let leads = metric(network, name, "consensus_etcdraft_is_leader{").await;
            if leads == Some(1.0) {
                return name;
            }
        }
        assert!(Instant::now() < deadline, "nobody leads");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whether the channel is in a state at a node.
pub async fn is_channel(network: &LocalNetwork, name: &str, state: &str) -> bool {
    let sample = format!("channel_state{{channel=\"supply\",state=\"{state}\"}}");
    metric(network, name, &sample).await == Some(1.0)
}

/// The first sample that begins so, from a node's metrics.
async fn metric(network: &LocalNetwork, name: &str, sample: &str) -> Option<f64> {
    let node = node_named(network, name);
    let url = format!("http://{}/metrics", node.operations);
    let answer = http(network, &node, None).get(&url).await.ok()?;
    let text = answer.text();
    let line = text.lines().find(|line| line.starts_with(sample))?;
    line.rsplit_once(' ')?.1.parse().ok()
}
