#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use weft_consensus::raft::Options;
use weft_consensus::sim::{self, Chaos, Make, World, WorldOptions};
use weft_consensus::{EngineError, Entry, NodeId, Role, Severity};

/// Small limits, so that short runs reach them. The election timeout is 1 s.
pub fn options() -> Options {
    Options {
        tick_interval_ms: 100,
        snapshot_interval_bytes: 6 << 10,
        max_inflight_entries: 8,
        max_append_bytes: 2 << 10,
        ..Options::default()
    }
}

pub const ELECTION_MS: u64 = 1_000;

pub fn chaos(make: Make) -> Chaos {
    Chaos {
        make,
        promises: sim::raft_promises,
        election_timeout_ms: options().election_timeout_ms(),
        duration_ms: 20_000,
    }
}

/// A Raft cluster with a leader.
pub fn raft_world(size: u64, seed: u64) -> World {
    let world_options = WorldOptions { promises: sim::raft_promises, ..WorldOptions::default() };
    let mut world = World::new(sim::raft(options()), size, seed, world_options).unwrap();
    elect(&mut world);
    world
}

pub fn elect(world: &mut World) -> NodeId {
    world.run_until(3 * ELECTION_MS, "a leader", |world| world.leader().is_some()).unwrap();
    world.leader().unwrap()
}

pub fn leader(world: &World) -> NodeId {
    world.leader().expect("a leader")
}

pub fn followers(world: &World) -> Vec<NodeId> {
    let leader = leader(world);
    world.membership().unwrap().ids().filter(|id| *id != leader).collect()
}

pub fn role(world: &World, id: NodeId) -> Option<Role> {
    world.status(id).map(|status| status.role)
}

/// Proposes until it is taken; `Err` if it never can be.
pub fn try_propose(world: &mut World, entry: &Entry) -> Result<(), EngineError> {
    for _ in 0..20_000 {
        if let Some(leader) = world.leader() {
            match world.propose(leader, entry.clone()) {
                Ok(()) => return Ok(()),
                Err(Some(error)) if error.severity() != Severity::Retry => return Err(error),
                Err(_) => {}
            }
        }
        world.run(5).unwrap();
    }
    panic!("the entry was never taken");
}

pub fn load(world: &mut World, count: usize) {
    for _ in 0..count {
        let batch = world.batch();
        try_propose(world, &batch).unwrap();
    }
}

pub fn keys(world: &World, without: Option<NodeId>, with: Option<NodeId>) -> Vec<Bytes> {
    let membership = world.membership().unwrap();
    let kept = membership.members().iter().filter(|member| Some(member.id) != without);
    let newcomer = with.map(|id| Bytes::from(format!("consenter-{id}")));
    kept.map(|member| member.consenter.clone()).chain(newcomer).collect()
}

/// Has a consenter removed or added, and waits for that.
pub fn change(world: &mut World, without: Option<NodeId>, with: Option<NodeId>) {
    let entry = world.config(&keys(world, without, with)).unwrap();
    let height = world.height();
    try_propose(world, &entry).unwrap();
    world.run_until(5_000, "the change", |world| world.height() > height).unwrap();
}

pub fn settle(world: &mut World) {
    let done = |world: &World| world.check_complete().is_ok();
    world.run_until(30_000, "all blocks on all members", done).unwrap();
}

pub fn members(world: &World) -> Vec<NodeId> {
    world.membership().unwrap().ids().collect()
}
