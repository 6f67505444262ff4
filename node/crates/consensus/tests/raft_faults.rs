//! Raft under one named fault at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::*;
use weft_consensus::sim::World;
use weft_consensus::{Event, NodeId, Role};

fn term(world: &World, id: NodeId) -> u64 {
    world.status(id).unwrap().term
}

#[test]
fn a_stalled_leader_commits_nothing() {
    let mut world = raft_world(3, 1);
    load(&mut world, 10);
    let old = leader(&world);
    let height = world.height_of(old);
    // Stalled with a proposal taken but not sent, for ten election timeouts.
    let batch = world.batch();
    world.run(50).unwrap();
    world.pause(old);
    assert!(world.propose(old, batch).is_err());
    world.run(10 * ELECTION_MS).unwrap();
    let new = leader(&world);
    assert_ne!(new, old);
    load(&mut world, 10);
    assert_eq!(world.height_of(old), height.max(world.height_of(old).min(11)));
    world.resume(old);
    world.run(200).unwrap();
    assert_eq!(role(&world, old), Some(Role::Follower));
    assert_eq!(world.status(old).unwrap().leader, Some(new));
    settle(&mut world);
}

#[test]
fn a_leader_in_the_minority_steps_down() {
    let mut world = raft_world(5, 2);
    load(&mut world, 10);
    let old = leader(&world);
    let with = followers(&world)[0];
    world.partition(&[old, with].into());
    world.run(2 * ELECTION_MS + 200).unwrap();
    assert_ne!(role(&world, old), Some(Role::Leader));
    let delivered = world.height_of(old);
    load(&mut world, 20);
    assert_eq!(world.height_of(old), delivered);
    world.heal();
    settle(&mut world);
}

/// A node that does not hear the others asks before it stands, so its return disturbs nobody.
#[test]
fn a_deaf_node_raises_no_term() {
    for outward in [false, true] {
        let mut world = raft_world(3, 3);
        load(&mut world, 10);
        let (leader_before, deaf) = (leader(&world), followers(&world)[0]);
        let before = term(&world, leader_before);
        for other in members(&world).into_iter().filter(|other| *other != deaf) {
            if outward {
                world.cut(deaf, other);
            } else {
                world.cut(other, deaf);
            }
        }
        for _ in 0..20 {
            load(&mut world, 2);
            world.run(ELECTION_MS).unwrap();
        }
        world.heal();
        load(&mut world, 5);
        settle(&mut world);
        assert!(term(&world, leader(&world)) <= before + 1);
    }
}

#[test]
fn leadership_moves_without_an_election_timeout() {
    let mut world = raft_world(3, 4);
    load(&mut world, 20);
    for to in [Some(followers(&world)[0]), Some(followers(&world)[1]), None] {
        let from = leader(&world);
        let before = world.now();
        world.tell(from, Event::TransferLeadership { to });
        let moved = |world: &World| world.leader().is_some_and(|l| l != from);
        world.run_until(ELECTION_MS / 2, "another leader", moved).unwrap();
        assert!(to.is_none_or(|to| world.leader() == Some(to) || to == from));
        load(&mut world, 5);
        assert!(world.now() - before < ELECTION_MS);
    }
    settle(&mut world);
}

#[test]
fn a_node_far_behind_fetches_blocks_even_if_it_crashes_meanwhile() {
    let mut world = raft_world(3, 5);
    load(&mut world, 10);
    let behind = followers(&world)[0];
    world.crash(behind);
    load(&mut world, 200);
    assert!(world.status(leader(&world)).unwrap().first_index > 100, "the log was compacted");
    world.start(behind);
    let catching_up =
        |world: &World| world.status(behind).is_some_and(|status| status.catching_up_to.is_some());
    let mut heights = vec![world.height_of(behind)];
    for _ in 0..4 {
        world.run_until(5_000, "a catch-up", catching_up).unwrap();
        let here = world.height_of(behind);
        world.run_until(5_000, "some blocks", |world| world.height_of(behind) > here).unwrap();
        heights.push(world.height_of(behind));
        world.crash(behind);
        world.run(20).unwrap();
        world.start(behind);
    }
    assert!(
        heights.is_sorted() && heights[0] < heights[4],
        "resumed, not begun again: {heights:?}"
    );
    load(&mut world, 20);
    settle(&mut world);
}

/// While blocks are fetched nothing is delivered, but the node acknowledges and votes.
#[test]
fn progress_while_another_catches_up() {
    let mut world = raft_world(3, 6);
    load(&mut world, 10);
    let [behind, other] = followers(&world)[..] else { panic!() };
    world.crash(behind);
    load(&mut world, 200);
    world.start(behind);
    let catching_up =
        |world: &World| world.status(behind).is_some_and(|status| status.catching_up_to.is_some());
    world.run_until(5_000, "a catch-up", catching_up).unwrap();
    world.crash(other);
    load(&mut world, 20);
    world.start(other);
    settle(&mut world);
}

#[test]
fn a_wiped_node_does_not_vote_before_it_is_up_to_date() {
    let mut world = raft_world(3, 7);
    load(&mut world, 30);
    let [wiped, other] = followers(&world)[..] else { panic!() };
    world.wipe(wiped);
    // Without the wiped node's vote there is no quorum, and it must not give it.
    world.crash(leader(&world));
    world.start(wiped);
    assert_eq!(role(&world, wiped), Some(Role::Quarantined));
    world.run(20 * ELECTION_MS).unwrap();
    assert_eq!(world.leader(), None);
    assert_eq!(role(&world, wiped), Some(Role::Quarantined));
    assert_eq!(role(&world, other), Some(Role::Candidate));
    world.heal_all();
    elect(&mut world);
    let resynced = |world: &World| role(world, wiped) == Some(Role::Follower);
    world.run_until(10 * ELECTION_MS, "the end of the quarantine", resynced).unwrap();
    load(&mut world, 30);
    settle(&mut world);
    // From then on it is as good as any.
    world.crash(other);
    load(&mut world, 10);
    world.start(other);
    settle(&mut world);
}

#[test]
fn quarantine_outlives_a_restart() {
    let mut world = raft_world(3, 8);
    load(&mut world, 30);
    let wiped = followers(&world)[0];
    world.wipe(wiped);
    let all: Vec<NodeId> = members(&world).into_iter().filter(|id| *id != wiped).collect();
    // It hears one leader, and then nobody.
    world.start(wiped);
    world.run(150).unwrap();
    all.iter().for_each(|other| world.cut(*other, wiped));
    assert!(term(&world, wiped) > 1 << 20, "the barrier");
    for _ in 0..3 {
        world.crash(wiped);
        world.run(3 * ELECTION_MS).unwrap();
        world.start(wiped);
        assert_eq!(role(&world, wiped), Some(Role::Quarantined));
    }
    world.heal();
    load(&mut world, 10);
    settle(&mut world);
    assert_ne!(role(&world, wiped), Some(Role::Quarantined));
}

#[test]
fn a_lossy_network_is_slow_but_right() {
    let mut world = raft_world(3, 9);
    world.options.network.lost = 500;
    world.options.network.min_delay = 25;
    world.options.network.max_delay = 125;
    load(&mut world, 60);
    world.heal_all();
    settle(&mut world);
}
