//! How long clients are left without a commit when the leader of the orderers fails, in one way after
//! the other. Every figure is printed; the bound of twice the election timeout is only asserted in a
//! campaign (`WEFT_CAMPAIGN=1`), on a machine that has nothing else to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use support::faults::{leader, leader_but};
use support::links::Links;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use weft_client::{Call, Gateway};
use weft_e2e::LocalNetwork;
use weft_e2e::proxy::Flow;

/// The longest silence that is allowed: twice the election timeout of the example's channel.
const BOUND: Duration = Duration::from_secs(2);
/// A transaction is sent this often, whatever became of those before.
const EVERY: Duration = Duration::from_millis(20);
/// Transactions that may be under way.
const AT_ONCE: usize = 300;
/// Commits before and after a fault, at each peer.
const COMMITS: usize = 50;
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

/// The longest silence at either peer from a fault of the leader on.
async fn measure(network: &LocalNetwork, fault: &str, hurt: impl Fn(&str), mend: impl Fn(&str)) {
    let mut pulses =
        [(0, "a"), (1, "b")].map(|(org, n)| Pulse::start(network.gateway(org).unwrap(), n));
    for pulse in &mut pulses {
        pulse.progress().await;
    }
    let leader = leader(network).await;
    let since = Instant::now();
    hurt(leader);
    let (led, ()) = tokio::join!(
        async {
            leader_but(network, leader).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_not_left_alone_by_a_leader_that_fails() {
    let links = Links::start().await;
    let network = &links.network;
    let stop = |name: &str| network.signal(name, Signal::STOP).unwrap();
    let go_on = |name: &str| network.signal(name, Signal::CONT).unwrap();
    measure(network, "stopped", stop, go_on).await;
    let heal = |_: &str| links.heal();
    let cut_off = |name: &str| links.set(name, Flow::Drop, Flow::Drop);
    measure(network, "partitioned", cut_off, heal).await;
    let late = Flow::Delay(Duration::from_secs(2));
    measure(network, "slow by 2 s", |name| links.set(name, late, late), heal).await;
    let fill = |name: &str| network.set_disk_full(name, true).unwrap();
    let make_room = |name: &str| network.set_disk_full(name, false).unwrap();
    measure(network, "with a full disk", fill, make_room).await;
    let kill = |name: &str| network.signal(name, Signal::KILL).unwrap();
    measure(network, "killed", kill, |name| links.start_again(name)).await;
    network.settled().await.unwrap();
}
