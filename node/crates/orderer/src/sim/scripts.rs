//! What becomes of accepted envelopes when leadership changes, step by step.

use weft_config::{BatchSize, edit};

use super::fixture;
use super::world::{Bug, World};
use crate::msgprocessor::Class;

/// Three consenters of which one leads.
fn led() -> (World, u64) {
    let mut world = World::new(3, 7, Bug::default());
    (0..3).for_each(|host| world.plan_join(host, 0));
    let leader = elected(&mut world);
    (world, leader)
}

fn elected(world: &mut World) -> u64 {
    for _ in 0..400 {
        world.run(10).unwrap();
        if let Some(leader) = world.leader() {
            return leader;
        }
    }
    panic!("nobody leads");
}

fn cut_off(world: &mut World, host: u64) {
    let all = world.all();
    world.cuts.partition(&all, &[host].into());
}

fn all_are_ordered(world: &World) -> bool {
    world.record.accepted_count() == world.record.ordered_count()
}

#[test]
fn a_leader_that_is_cut_off_hands_on_what_it_accepted() {
    let (mut world, first) = led();
    world.run(500).unwrap();
    cut_off(&mut world, first);
    // More than can be in flight, so that some are proposed and others wait.
    for _ in 0..60 {
        world.transact(first);
    }
    assert_eq!(world.record.accepted_count(), 60);
    // Alone it gives up leadership, and knows of no other leader for long.
    world.run(5_000).unwrap();
    assert_eq!(world.record.ordered_count(), 0);
    world.cuts.heal();
    world.run(5_000).unwrap();
    assert_ne!(elected(&mut world), first);
    assert!(all_are_ordered(&world));
    assert_eq!(world.record.dropped, 0);
}

#[test]
fn what_a_leader_that_stalls_was_handed_goes_to_the_next() {
    let (mut world, first) = led();
    world.run(500).unwrap();
    cut_off(&mut world, first);
    for _ in 0..60 {
        world.transact(first);
    }
    world.run(5_000).unwrap();
    let second = elected(&mut world);
    assert_ne!(second, first);
    world.cuts.heal();
    while world.counts.forwards == 0 {
        world.run(1).unwrap();
    }
    world.host(second).paused = true;
    world.run(5_000).unwrap();
    assert_ne!(elected(&mut world), second);
    assert!(all_are_ordered(&world));
    assert_eq!(world.record.dropped, 0);
    world.host(second).paused = false;
    world.work(second);
    world.run(5_000).unwrap();
    assert_eq!(world.hosts[second as usize].height(), world.record.height());
}

#[test]
fn what_waits_for_a_leader_too_long_is_counted() {
    let (mut world, first) = led();
    cut_off(&mut world, first);
    for _ in 0..60 {
        world.transact(first);
    }
    world.run(40_000).unwrap();
    // What the engine was given may still be ordered, and is while this node is out of touch not
    // known to be lost.
    let doubtful = world.hosts[first as usize].running.as_ref().unwrap().core.in_doubt().len();
    assert_eq!(world.record.dropped + doubtful, 60);
    assert!(world.record.dropped > 0);
}

#[test]
fn a_leader_that_is_stopped_leaves_nothing_behind() {
    for size in [1, 3] {
        let mut world = World::new(size, 7, Bug::default());
        (0..size as u64).for_each(|host| world.plan_join(host, 0));
        let leader = elected(&mut world);
        world.run(500).unwrap();
        for _ in 0..30 {
            world.transact(leader);
        }
        world.stop(leader);
        world.run(3_000).unwrap();
        assert!(world.hosts[leader as usize].running.is_none());
        assert_eq!(world.record.accepted_count(), 30);
        assert!(all_are_ordered(&world), "{size}");
        assert_eq!(world.record.dropped, 0);
    }
}

#[test]
fn what_the_engine_refuses_for_good_is_counted_until_the_configuration_lets_it_in() {
    let (mut world, leader) = led();
    world.host(leader).running.as_mut().unwrap().core.limit_entries(100_000);
    world.transact_large(leader, 200_000);
    world.run(1_000).unwrap();
    assert_eq!((world.record.dropped, world.record.ordered_count()), (1, 0));

    let bundle = world.hosts[leader as usize].running.as_ref().unwrap().bundle.clone();
    let size = BatchSize { absolute_max_bytes: 20 << 20, ..BatchSize::default() };
    let update = fixture::update(&bundle, |config| edit::set_batch_size(config, size).unwrap());
    assert!(world.broadcast(leader, update, Class::ConfigUpdate));
    world.run(1_000).unwrap();
    world.transact_large(leader, 200_000);
    world.run(1_000).unwrap();
    assert_eq!((world.record.dropped, world.record.ordered_count()), (1, 1));
}

#[test]
fn a_join_where_a_ledger_is_leaves_it() {
    let (mut world, leader) = led();
    world.run(1_000).unwrap();
    world.transact(leader);
    world.run(1_000).unwrap();
    // The channel fails, and an administrator finds none before it is opened again.
    world.host(leader).disk.set_full(true);
    world.transact(leader);
    world.run(1_000).unwrap();
    assert!(world.hosts[leader as usize].running.is_none());
    world.join(leader);
    assert_eq!(world.counts.refused_joins, 1);
    world.host(leader).disk.set_full(false);
    world.run(10_000).unwrap();
    assert_eq!(world.hosts[leader as usize].height(), world.record.height());
}

#[test]
fn a_consenter_that_catches_up_from_blocks_links_to_those_they_add() {
    let (mut world, leader) = led();
    let behind = (leader + 1) % 3;
    world.run(500).unwrap();
    cut_off(&mut world, behind);
    let added = fixture::network().orderers[3].clone();
    let bundle = world.hosts[leader as usize].running.as_ref().unwrap().bundle.clone();
    let update = fixture::update(&bundle, |config| fixture::change_consenter(config, &added, true));
    assert!(world.broadcast(leader, update, Class::ConfigUpdate));
    world.run(5_000).unwrap();
    for _ in 0..100 {
        world.transact(leader);
        world.run(10).unwrap();
    }
    let before = world.counts.catch_ups;
    world.cuts.heal();
    world.run(10_000).unwrap();
    assert!(world.counts.catch_ups > before);
    let key = world.hosts[3].key.clone();
    let running = world.hosts[behind as usize].running.as_ref().unwrap();
    assert_eq!(running.view.id_of(&key), Some(4));
}

#[test]
fn a_node_that_finds_itself_removed_restarts_before_it_has_the_blocks() {
    let (mut world, leader) = led();
    let removed = (leader + 1) % 3;
    world.run(500).unwrap();
    cut_off(&mut world, removed);
    let node = fixture::network().orderers[removed as usize].clone();
    let bundle = world.hosts[leader as usize].running.as_ref().unwrap().bundle.clone();
    let update = fixture::update(&bundle, |config| fixture::change_consenter(config, &node, false));
    assert!(world.broadcast(leader, update, Class::ConfigUpdate));
    world.run(1_000).unwrap();
    for _ in 0..50 {
        world.transact(leader);
        world.run(10).unwrap();
    }
    world.fetch_ms = 400;
    world.cuts.heal();
    let has_goal = |world: &World| {
        let running = world.hosts[removed as usize].running.as_ref().unwrap();
        running.store.join_block().unwrap().is_some() && running.syncing.is_none()
    };
    for _ in 0..2_000 {
        world.run(5).unwrap();
        if has_goal(&world) {
            break;
        }
    }
    assert!(has_goal(&world));
    world.crash(removed);
    world.start(removed);
    world.run(20_000).unwrap();
    assert_eq!(world.hosts[removed as usize].height(), world.record.height());
}
