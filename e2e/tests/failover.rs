//! How long clients are left without a commit when the leader of the orderers fails, in one way after
//! the other. Every figure is printed; the bound of twice the election timeout is only asserted in a
//! campaign (`WEFT_CAMPAIGN=1`), on a machine that has nothing else to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use support::{BASIC, http, node_named};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use weft_client::{Call, Gateway};
use weft_e2e::LocalNetwork;
use weft_e2e::proxy::{Flow, Link, Proxy};

/// The longest silence that is allowed: twice the election timeout of the example's channel.
const BOUND: Duration = Duration::from_secs(2);
/// A transaction is sent this often, whatever became of those before.
const EVERY: Duration = Duration::from_millis(20);
/// Transactions that may be under way.
const AT_ONCE: usize = 300;
/// Commits before and after a fault, at each peer.
const COMMITS: usize = 50;
const ORDERERS: [&str; 3] = ["orderer0", "orderer1", "orderer2"];
const PATIENCE: Duration = Duration::from_secs(90);

/// Clients of one peer who send at a steady pace, and when their transactions were committed.
struct Pulse {
    commits: watch::Receiver<Vec<Instant>>,
    sending: JoinHandle<()>,
}

impl Pulse {
    fn start(gateway: Gateway, name: &'static str) -> Pulse {
        let (committed, commits) = watch::channel(Vec::new());
        let (committed, places) = (Arc::new(committed), Arc::new(Semaphore::new(AT_ONCE)));
        let sending = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            for number in 0_u64.. {
                ticks.tick().await;
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let (gateway, committed) = (gateway.clone(), committed.clone());
                tokio::spawn(async move {
                    let _place = place;
                    let key = format!("{name}-{number}");
                    let call = Call::new("asset", "Put", [key.clone(), key]);
                    let done = timeout(Duration::from_secs(20), gateway.submit(call)).await;
                    if matches!(done, Ok(Ok(_))) {
                        committed.send_modify(|times| times.push(Instant::now()));
                    }
                });
            }
        });
        Pulse { commits, sending }
    }

    /// Waits for some more commits.
    async fn progress(&mut self) {
        let target = self.commits.borrow().len() + COMMITS;
        let reached = self.commits.wait_for(|times| times.len() >= target);
        timeout(PATIENCE, reached).await.expect("commits stopped").unwrap();
    }

    /// The longest time without a commit since then.
    fn silence(&self, since: Instant) -> Duration {
        let times = self.commits.borrow();
        let after: Vec<_> = times.iter().copied().filter(|time| *time >= since).collect();
        let gaps = std::iter::once(since).chain(after.iter().copied()).zip(after.iter());
        gaps.map(|(from, to)| to.duration_since(from)).max().unwrap_or_default()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

struct Scene {
    network: LocalNetwork,
    proxies: BTreeMap<&'static str, (Proxy, SocketAddr)>,
}

impl Scene {
    /// A network with a proxy in front of each orderer.
    async fn set() -> Scene {
        let network = LocalNetwork::start(BASIC).await.unwrap();
        let mut scene = Scene { network, proxies: BTreeMap::new() };
        for name in ORDERERS {
            let proxied = scene.network.put_behind_proxy(name).await.unwrap();
            scene.proxies.insert(name, proxied);
            scene.leader().await;
        }
        scene
    }

    async fn leads(&self, name: &str) -> bool {
        let node = node_named(&self.network, name);
        let url = format!("http://{}/metrics", node.operations);
        let answer = http(&self.network, &node, None).get(&url).await;
        answer.is_ok_and(|answer| {
            let is_leader = |line: &str| {
                line.starts_with("consensus_etcdraft_is_leader{") && line.ends_with(" 1")
            };
            answer.text().lines().any(is_leader)
        })
    }

    async fn leader(&self) -> &'static str {
        self.leader_but("").await
    }

    /// Waits until one leads that is not this one, which may not answer.
    async fn leader_but(&self, old: &str) -> &'static str {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for name in ORDERERS.into_iter().filter(|name| *name != old) {
                if self.leads(name).await {
                    return name;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every link of an orderer, both ways.
    fn isolate(&self, name: &str, link: Link) {
        let pid = u32::try_from(self.network.pid(name).unwrap().as_raw_nonzero().get()).unwrap();
        for (other, (proxy, _)) in &self.proxies {
            match *other == name {
                true => proxy.set(link),
                false => proxy.set_for(pid, link),
            }
        }
    }

    fn heal(&self) {
        self.proxies.values().for_each(|(proxy, _)| proxy.heal());
    }

    /// The longest silence at either peer from a fault of the leader on.
    async fn measure(&self, fault: &str, hurt: impl Fn(&str), mend: impl Fn(&str)) {
        let mut pulses = [(0, "a"), (1, "b")]
            .map(|(org, n)| Pulse::start(self.network.gateway(org).unwrap(), n));
        for pulse in &mut pulses {
            pulse.progress().await;
        }
        let leader = self.leader().await;
        let since = Instant::now();
        hurt(leader);
        let (led, ()) = tokio::join!(
            async {
                self.leader_but(leader).await;
                since.elapsed().as_millis()
            },
            async {
                for pulse in &mut pulses {
                    pulse.progress().await;
                }
            }
        );
        let silences = pulses.each_ref().map(|pulse| pulse.silence(since));
        let [a, b] = silences.map(|silence| silence.as_millis());
        let silence = silences.into_iter().max().unwrap();
        println!(
            "longest silence, leader {fault}: {} ms (by peer {a}, {b}; a new leader after {led})",
            silence.as_millis()
        );
        mend(leader);
        if std::env::var_os("WEFT_CAMPAIGN").is_some() {
            assert!(silence <= BOUND, "leader {fault}: {silence:?}");
        }
        for pulse in &mut pulses {
            pulse.progress().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_not_left_alone_by_a_leader_that_fails() {
    let scene = Scene::set().await;
    let network = &scene.network;
    let stop = |name: &str| network.signal(name, Signal::STOP).unwrap();
    let go_on = |name: &str| network.signal(name, Signal::CONT).unwrap();
    scene.measure("stopped", stop, go_on).await;
    let heal = |_: &str| scene.heal();
    let cut_off = |name: &str| scene.isolate(name, Link::both(Flow::Drop));
    scene.measure("partitioned", cut_off, heal).await;
    let slow = Link::both(Flow::Delay(Duration::from_secs(2)));
    scene.measure("slow by 2 s", |name| scene.isolate(name, slow), heal).await;
    let fill = |name: &str| network.set_disk_full(name, true).unwrap();
    let make_room = |name: &str| network.set_disk_full(name, false).unwrap();
    scene.measure("with a full disk", fill, make_room).await;
    let kill = |name: &str| network.signal(name, Signal::KILL).unwrap();
    let start = |name: &str| {
        let (_, inside) = scene.proxies.get(name).unwrap();
        network.start_at(name, *inside).unwrap();
    };
    scene.measure("killed", kill, start).await;
    network.settled().await.unwrap();
}
