//! Nodes are added and removed one at a time, and what that does to those who are down or lead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::*;
use weft_consensus::{EngineError, Event, MembershipError, Role};

#[test]
fn from_one_to_five_and_back_to_three() {
    let mut world = raft_world(1, 11);
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

/// Of two nodes one goes, be it the leader or not, while messages are lost: the other must not be
/// left waiting for a vote that nobody gives any more.
#[test]
fn from_two_to_one() {
    for seed in 0..30 {
        for leads in [true, false] {
            let mut world = raft_world(2, seed);
            load(&mut world, 5);
            let goes = if leads { leader(&world) } else { followers(&world)[0] };
            world.options.network.lost = 400;
            let entry = world.config(&keys(&world, Some(goes), None)).unwrap();
            try_propose(&mut world, &entry).unwrap();
            world.run(3 * ELECTION_MS).unwrap();
            world.heal_all();
            load(&mut world, 5);
            settle(&mut world);
            assert_eq!(members(&world).len(), 1, "seed {seed}");
        }
    }
}

/// A leader hands over before its removal is proposed: no election timeout passes.
#[test]
fn the_leader_is_removed() {
    let mut world = raft_world(3, 5);
    load(&mut world, 5);
    let old = leader(&world);
    let entry = world.config(&keys(&world, Some(old), None)).unwrap();
    world.run(50).unwrap();
    let refused = world.propose(old, entry.clone()).unwrap_err().unwrap();
    assert!(matches!(refused, EngineError::Transferring { .. }), "{refused}");
    let before = world.now();
    try_propose(&mut world, &entry).unwrap();
    load(&mut world, 5);
    assert!(world.now() - before < ELECTION_MS);
    settle(&mut world);
    assert!(world.is_removed(old));
    assert_eq!(world.leader(), Some(leader(&world)));
}

#[test]
fn a_node_removed_while_down_never_votes_again() {
    let mut world = raft_world(4, 6);
    let gone = followers(&world)[0];
    world.crash(gone);
    world.run(100).unwrap();
    change(&mut world, Some(gone), None);
    load(&mut world, 20);
    let term = world.status(leader(&world)).unwrap().term;
    world.start(gone);
    load(&mut world, 20);
    world.run(10 * ELECTION_MS).unwrap();
    // It stands, nobody listens, and the others' term stays. The orderer can see that something
    // is wrong, and look for blocks that it missed.
    let status = world.status(gone).unwrap();
    assert_ne!(status.role, Role::Leader);
    assert!(status.leaderless_since.is_some());
    assert_eq!(world.status(leader(&world)).unwrap().term, term);
    settle(&mut world);
}

#[test]
fn changes_that_lose_the_quorum_are_refused() {
    let mut world = raft_world(3, 8);
    let [a, b] = followers(&world)[..] else { panic!() };
    world.crash(a);
    world.run(2 * ELECTION_MS).unwrap();
    // With one of three down: the other follower is needed, and a fourth could not help.
    for (without, with) in [(Some(b), None), (None, Some(4))] {
        let entry = world.config(&keys(&world, without, with)).unwrap();
        match try_propose(&mut world, &entry).unwrap_err() {
            EngineError::Membership(MembershipError::QuorumLoss { active: 1 | 2, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    // Replacing the certificate of a node is no loss, and neither is removing the one that is down.
    let rotated = |world: &weft_consensus::sim::World, id: u64| {
        let mut keys = keys(world, Some(id), None);
        keys.push(Bytes::from(format!("rotated-{id}")));
        keys
    };
    let entry = world.config(&rotated(&world, b)).unwrap();
    try_propose(&mut world, &entry).unwrap();
    world.run(500).unwrap();
    assert_eq!(world.membership().unwrap().id_of(format!("rotated-{b}").as_bytes()), Some(b));
    change(&mut world, Some(a), None);
    load(&mut world, 5);
    settle(&mut world);
}

#[test]
fn two_changes_at_once_are_refused() {
    let mut world = raft_world(3, 9);
    let mut keys = keys(&world, None, Some(4));
    keys.push(Bytes::from_static(b"a fifth"));
    let membership = world.membership().unwrap();
    assert!(matches!(membership.updated(&keys), Err(MembershipError::TooManyChanges { .. })));
    // Nor are they let through one after the other before the first is applied.
    let first = world.config(&common::keys(&world, None, Some(4))).unwrap();
    let second = world.config(&common::keys(&world, Some(1), None)).unwrap();
    let at = leader(&world);
    world.run(50).unwrap();
    world.propose(at, first).unwrap();
    let mut refused = None;
    while refused.is_none() {
        world.run(1).unwrap();
        refused = world.propose(at, second.clone()).unwrap_err();
        assert_eq!(world.height(), 1, "refused while in flight");
    }
    assert!(matches!(refused, Some(EngineError::ConfigInFlight { .. })), "{refused:?}");
}

/// A newcomer that starts long after it was added, when the log before is gone.
#[test]
fn a_late_newcomer_catches_up() {
    let mut world = raft_world(3, 10);
    load(&mut world, 60);
    change(&mut world, None, Some(4));
    world.run(600).unwrap();
    world.crash(4);
    load(&mut world, 120);
    world.start(4);
    settle(&mut world);
    assert!(world.counts().catch_ups > 0);
    assert_eq!(role(&world, 4), Some(Role::Follower));
    world.tell(leader(&world), Event::TransferLeadership { to: Some(4) });
    world.run(200).unwrap();
    assert_eq!(world.leader(), Some(4));
}
