//! A network whose orderers reach each other, and are reached, through proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use weft_e2e::LocalNetwork;
use weft_e2e::proxy::{Flow, Link, Proxy};

use super::BASIC;
use super::faults::{ORDERERS, leader};

/// A network with a proxy in front of each orderer.
pub struct Links {
    pub network: LocalNetwork,
    proxies: BTreeMap<&'static str, (Proxy, SocketAddr)>,
}

impl Links {
    pub async fn start() -> Links {
        let network = LocalNetwork::start(BASIC).await.unwrap();
        let mut links = Links { network, proxies: BTreeMap::new() };
        for name in ORDERERS {
            let proxied = links.network.put_behind_proxy(name).await.unwrap();
            links.proxies.insert(name, proxied);
            leader(&links.network).await;
        }
        links
    }

    /// What becomes of all that an orderer sends and receives.
    pub fn set(&self, name: &str, sends: Flow, receives: Flow) {
        let pid = self.network.pid(name).unwrap().as_raw_nonzero().get().unsigned_abs();
        for (other, (proxy, _)) in &self.proxies {
            if *other == name {
                proxy.set(Link { to_node: receives, from_node: sends, is_cut: false });
            } else {
                let link = Link { to_node: sends, from_node: receives, is_cut: false };
                proxy.set_for(pid, link);
            }
        }
    }

    pub fn heal(&self) {
        self.proxies.values().for_each(|(proxy, _)| proxy.heal());
    }

    /// Starts an orderer that has ended, behind its proxy.
    pub fn start_again(&self, name: &str) {
        let (_, inside) = self.proxies.get(name).unwrap();
        self.network.start_at(name, *inside).unwrap();
    }
}
