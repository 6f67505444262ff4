//! Nodes are added and removed one at a time, and what that does to those who are down or lead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::options;
use weft_consensus::sim::{self, World, WorldOptions};
use weft_consensus::{EngineError, Entry, MembershipError, NodeId, Role};

fn world(size: u64) -> World {
    let mut world = World::new(sim::raft(options()), size, 11, WorldOptions::default()).unwrap();
    world.run_until(2_000, "a leader", |w| w.leader().is_some()).unwrap();
    world
}

fn keys(world: &World, without: Option<NodeId>, with: Option<NodeId>) -> Vec<Bytes> {
    let membership = world.membership().unwrap();
    let kept = membership.members().iter().filter(|m| Some(m.id) != without);
    let newcomer = with.map(|id| Bytes::from(format!("consenter-{id}")));
    kept.map(|m| m.consenter.clone()).chain(newcomer).collect()
}

fn propose(world: &mut World, entry: &Entry) {
    for _ in 0..500 {
        if let Some(leader) = world.leader() {
            match world.propose(leader, entry.clone()) {
                Ok(()) => return,
                Err(Some(e)) if e.severity() == weft_consensus::Severity::Retry => {}
                Err(None) => {}
                Err(Some(e)) => panic!("{e}: {e:?}"),
            }
        }
        world.run(10).unwrap();
    }
    panic!("never taken");
}

fn change(world: &mut World, without: Option<NodeId>, with: Option<NodeId>) {
    let keys = keys(world, without, with);
    let entry = world.config(&keys).unwrap();
    let height = world.height();
    propose(world, &entry);
    world.run_until(5_000, "the change", |w| w.height() > height).unwrap();
}

fn load(world: &mut World, count: usize) {
    for _ in 0..count {
        let batch = world.batch();
        propose(world, &batch);
    }
}

fn settle(world: &mut World) {
    world.run_until(20_000, "all blocks on all members", |w| w.check_complete().is_ok()).unwrap();
}

fn members(world: &World) -> Vec<NodeId> {
    world.membership().unwrap().ids().collect()
}

#[test]
fn from_one_to_five_and_back_to_three() {
    let mut world = world(1);
    load(&mut world, 30);
    for id in 2..=5 {
        change(&mut world, None, Some(id));
        load(&mut world, 20);
        settle(&mut world);
    }
    assert_eq!(members(&world), [1, 2, 3, 4, 5]);
    for id in [1, 2] {
        change(&mut world, Some(id), None);
        load(&mut world, 20);
        settle(&mut world);
    }
    assert_eq!(members(&world), [3, 4, 5]);
    assert_eq!(world.membership().unwrap().next_id(), 6);
    assert!(world.is_removed(1) && world.is_removed(2));
}
