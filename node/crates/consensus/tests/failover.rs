//! How long a cluster is without a leader that is of use: one that is cut off, and one whose links
//! become slow bit by bit, so that its heartbeats keep coming, all of them late.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::{ELECTION_MS, options};
use weft_consensus::raft::{Options, RaftEngine, Start};
use weft_consensus::{Action, Applied, Engine, Entry, Event, Membership, Millis, NodeId, Role};

/// Delay of links that are well, and what the leader's grow to, milliseconds.
const WELL: u64 = 2;
const SLOW: u64 = 2_000;
/// Time in which they do.
const RAMP: u64 = 20_000;

struct Cluster {
    now: u64,
    engines: BTreeMap<NodeId, RaftEngine>,
    /// Messages by the time they arrive and their order.
    mail: BTreeMap<(u64, u64), (NodeId, NodeId, Bytes)>,
    sent: u64,
    /// Whose links are slow, and by how much.
    slow: Option<(NodeId, u64)>,
    /// When each node's newest block came.
    delivered: BTreeMap<NodeId, u64>,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let keys: Vec<Bytes> = (1..=3_u8).map(|id| Bytes::from(vec![id])).collect();
        let membership = Arc::new(Membership::genesis(&keys).unwrap());
        let engine = |node: NodeId| {
            let applied = Applied { index: 0, height: 1, membership: membership.clone() };
            let options = Options { seed: seed * 10 + node, ..options() };
            let none = Vec::new();
            let engine =
                RaftEngine::restore(node, options, applied, none, Start::Bootstrap, Millis(0));
            (node, engine.unwrap())
        };
        let engines = (1..=3).map(engine).collect();
        let (mail, delivered) = (BTreeMap::new(), BTreeMap::new());
        Self { now: 0, engines, mail, sent: 0, slow: None, delivered }
    }

    fn delay(&self, from: NodeId, to: NodeId) -> u64 {
        let slow = self.slow.filter(|(node, _)| *node == from || *node == to);
        slow.map_or(WELL, |(_, delay)| delay.max(WELL))
    }

    fn give(&mut self, node: NodeId, event: Event) {
        let engine = self.engines.get_mut(&node).unwrap();
        // A refusal is an answer like any other.
        let _ = engine.receive(Millis(self.now), event);
        for action in engine.drain() {
            match action {
                Action::Send { to, message } => {
                    self.sent += 1;
                    let at = self.now + self.delay(node, to);
                    self.mail.insert((at, self.sent), (node, to, message));
                }
                Action::Deliver(_) => {
                    self.delivered.insert(node, self.now);
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self) {
        self.now += 1;
        while let Some(first) = self.mail.first_entry().filter(|first| first.key().0 <= self.now) {
            let (from, to, message) = first.remove();
            self.give(to, Event::Message { from, message });
        }
        for node in 1..=3 {
            if self.engines[&node].wakeup().is_some_and(|at| at.0 <= self.now) {
                self.give(node, Event::Tick);
            }
        }
    }

    /// Passes to the next moment at which anything happens.
    fn skip(&mut self) {
        let mail = self.mail.first_key_value().map(|((at, _), _)| *at);
        let wakeups = self.engines.values().filter_map(|engine| engine.wakeup().map(|at| at.0));
        let next = mail.into_iter().chain(wakeups).min().unwrap();
        self.now = self.now.max(next.saturating_sub(1));
        self.pass();
    }

    fn leaders(&self) -> Vec<NodeId> {
        let leads = |engine: &RaftEngine| engine.status().role == Role::Leader;
        self.engines.iter().filter(|(_, engine)| leads(engine)).map(|(node, _)| *node).collect()
    }

    /// A batch to whoever thinks that it leads, now and then.
    fn load(&mut self) {
        if self.now.is_multiple_of(50) {
            for leader in self.leaders() {
                self.give(leader, Event::Propose(Entry::normal(vec![Bytes::from_static(b"tx")])));
            }
        }
    }

    /// The longest time without a block at any node but one, over `ms` milliseconds.
    fn longest_silence(&mut self, ms: u64, but: NodeId, mut each: impl FnMut(&mut Self)) -> u64 {
        let mut longest = 0;
        for _ in 0..ms {
            each(self);
            self.load();
            self.pass();
            let others = self.delivered.iter().filter(|(node, _)| **node != but);
            let newest = others.map(|(_, at)| *at).max().unwrap();
            longest = longest.max(self.now - newest);
        }
        longest
    }
}

#[test]
fn a_leader_that_becomes_slow_bit_by_bit_is_replaced() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed);
        while cluster.delivered.len() < 3 {
            cluster.load();
            cluster.pass();
        }
        let [old] = cluster.leaders()[..] else { panic!("one leads") };
        let begin = cluster.now;
        let ramp = |cluster: &mut Cluster| {
            cluster.slow = Some((old, SLOW * (cluster.now - begin) / RAMP));
        };
        let silence = cluster.longest_silence(RAMP, old, ramp);
        let after = cluster.longest_silence(20 * ELECTION_MS, old, |_| {});
        let leaders = cluster.leaders();
        assert!(!leaders.is_empty() && !leaders.contains(&old), "seed {seed}: {leaders:?}");
        // It commits on, late, for two election timeouts; then its last heartbeats are on their way,
        // and there is an election.
        assert!(silence <= 3 * ELECTION_MS, "seed {seed}: {silence} ms");
        assert!(after <= ELECTION_MS, "seed {seed}: {after} ms once it is replaced");
    }
}

/// A leader that is only busy stays.
#[test]
fn a_leader_that_is_slow_within_an_election_timeout_stays() {
    let mut cluster = Cluster::new(1);
    while cluster.delivered.len() < 3 {
        cluster.load();
        cluster.pass();
    }
    let leaders = cluster.leaders();
    let begin = cluster.now;
    let ramp = |cluster: &mut Cluster| {
        cluster.slow = Some((leaders[0], 400.min((cluster.now - begin) / 20)));
    };
    cluster.longest_silence(20 * ELECTION_MS, 0, ramp);
    assert_eq!(cluster.leaders(), leaders);
}

/// Two that stand at once split the vote; even then there is a leader within two election timeouts.
#[test]
fn a_leader_that_is_cut_off_is_replaced_in_time() {
    let mut times = Vec::new();
    for seed in 0..1_000 {
        let mut cluster = Cluster::new(seed);
        while cluster.engines.values().any(|engine| engine.status().leader.is_none()) {
            cluster.skip();
        }
        let [old] = cluster.leaders()[..] else { panic!("one leads") };
        let begin = cluster.now;
        cluster.slow = Some((old, u64::MAX / 2));
        while cluster.leaders().iter().all(|leader| *leader == old) {
            cluster.skip();
        }
        times.push(cluster.now - begin);
    }
    times.sort_unstable();
    println!(
        "median {} ms, 99th percentile {} ms, longest {} ms",
        times[500], times[990], times[999]
    );
    assert!(times[999] <= 2 * ELECTION_MS, "{} ms", times[999]);
}
