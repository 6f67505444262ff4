//! The order of actions: what a node promises is persisted before it is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::options;
use prost::Message as _;
use raft::eraftpb::{Message, MessageType};
use weft_consensus::raft::{Options, RaftEngine, Start};
use weft_consensus::{Action, Applied, Engine, Entry, Event, Membership, Millis, NodeId};

struct Cluster {
    engines: Vec<RaftEngine>,
    now: u64,
}

fn kind(message: &Bytes) -> MessageType {
    let message = Message::decode(&message[1..]).unwrap();
    MessageType::from_i32(message.msg_type).unwrap()
}

fn is_promise(action: &Action) -> bool {
    let Action::Send { message, .. } = action else { return matches!(action, Action::Deliver(_)) };
    !matches!(kind(message), MessageType::MsgAppend | MessageType::MsgHeartbeat)
}

impl Cluster {
    fn new() -> Self {
        let keys: Vec<Bytes> = (1..=3).map(|id| Bytes::from(format!("c{id}"))).collect();
        let membership = Arc::new(Membership::genesis(&keys).unwrap());
        let engine = |seed: NodeId| {
            let applied = Applied { index: 0, height: 1, membership: Arc::clone(&membership) };
            let options = Options { seed, ..options() };
            RaftEngine::restore(seed, options, applied, [], Start::Bootstrap, Millis(0)).unwrap()
        };
        Self { engines: (1..=3).map(engine).collect(), now: 0 }
    }

    /// Has node 1 lead.
    fn led() -> Self {
        let mut cluster = Self::new();
        while !cluster.engines[0].status().accepts_proposals {
            cluster.now += 20;
            cluster.engines[0].receive(Millis(cluster.now), Event::Tick).unwrap();
            cluster.exchange();
        }
        cluster
    }

    fn drain(&mut self, node: NodeId) -> Vec<Action> {
        self.engines[node as usize - 1].drain()
    }

    fn give(&mut self, to: NodeId, from: NodeId, message: Bytes) {
        let event = Event::Message { from, message };
        self.engines[to as usize - 1].receive(Millis(self.now), event).unwrap();
    }

    fn propose(&mut self, text: String) {
        let entry = Entry::normal(vec![Bytes::from(text)]);
        self.engines[0].receive(Millis(self.now), Event::Propose(entry)).unwrap();
    }

    /// Delivers messages until there are none; gives all actions, in order, by node.
    fn exchange(&mut self) -> Vec<(NodeId, Action)> {
        let mut all = Vec::new();
        loop {
            let mut sent = Vec::new();
            for node in 1..=3 {
                let actions = self.drain(node);
                check_order(&actions);
                for action in actions {
                    if let Action::Send { to, message } = &action {
                        sent.push((*to, node, message.clone()));
                    }
                    all.push((node, action));
                }
            }
            if sent.is_empty() {
                return all;
            }
            sent.into_iter().for_each(|(to, from, message)| self.give(to, from, message));
        }
    }
}

/// Promises of one drain come after what it persists.
fn check_order(actions: &[Action]) {
    let synced = |action: &Action| matches!(action, Action::Persist(persist) if persist.sync);
    if let Some(last) = actions.iter().rposition(synced) {
        let early: Vec<&Action> = actions[..last].iter().filter(|a| is_promise(a)).collect();
        assert!(early.is_empty(), "promised before the sync: {early:?}");
    }
}

#[test]
fn many_messages_share_one_sync() {
    let mut cluster = Cluster::led();
    let mut messages = Vec::new();
    for n in 0..8 {
        cluster.propose(format!("entry {n}"));
        for action in cluster.drain(1) {
            if let Action::Send { to: 2, message } = action {
                messages.push(message);
            }
        }
    }
    assert_eq!(messages.len(), 8);
    messages.into_iter().for_each(|message| cluster.give(2, 1, message));
    let actions = cluster.drain(2);
    check_order(&actions);
    let synced: Vec<&Action> = actions.iter().filter(|a| matches!(a, Action::Persist(_))).collect();
    assert_eq!(synced.len(), 1, "{actions:?}");
    let Action::Persist(persist) = synced[0] else { panic!() };
    assert!(persist.sync);
    assert!(persist.writes.len() >= 8);
}

/// A leader's own sync runs beside its followers'.
#[test]
fn a_leader_sends_entries_before_it_syncs() {
    let mut cluster = Cluster::led();
    cluster.propose("entry".into());
    let actions = cluster.drain(1);
    let kinds: Vec<&str> = actions
        .iter()
        .map(|action| match action {
            Action::Send { message, .. } if kind(message) == MessageType::MsgAppend => "append",
            Action::Persist(persist) if persist.sync => "sync",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["append", "append", "sync"]);
}

#[test]
fn every_drain_keeps_the_order() {
    let mut cluster = Cluster::led();
    for n in 0..40 {
        cluster.propose(format!("entry {n}"));
        cluster.exchange();
        cluster.now += 30;
        for node in 0..3 {
            cluster.engines[node].receive(Millis(cluster.now), Event::Tick).unwrap();
        }
        cluster.exchange();
    }
    assert_eq!(cluster.engines[2].status().height, 41);
}

#[test]
fn an_idle_cluster_writes_nothing() {
    let mut cluster = Cluster::led();
    cluster.propose("entry".into());
    cluster.exchange();
    let (mut beats, mut writes) = (0, 0);
    for _ in 0..1_000 {
        cluster.now += 10;
        for node in 0..3 {
            cluster.engines[node].receive(Millis(cluster.now), Event::Tick).unwrap();
        }
        for (_, action) in cluster.exchange() {
            match action {
                Action::Persist(_) => writes += 1,
                Action::Send { .. } => beats += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(beats > 0);
    assert_eq!(writes, 0);
}

/// An engine names the next moment at which anything can happen, and nothing happens before.
#[test]
fn wakeups_are_enough() {
    let mut sleepy = Cluster::new();
    let mut watchful = Cluster::new();
    for now in 1..20_000 {
        for (a, b) in sleepy.engines.iter_mut().zip(&mut watchful.engines) {
            let due = a.wakeup().is_some_and(|at| at <= Millis(now));
            b.receive(Millis(now), Event::Tick).unwrap();
            if due {
                a.receive(Millis(now), Event::Tick).unwrap();
            }
            assert_eq!(a.drain(), b.drain(), "at {now}");
        }
    }
}
