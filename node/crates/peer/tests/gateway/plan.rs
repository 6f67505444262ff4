//! Whom the plan asks. Groups are letters, peers numbers; `A:1,2 B:3` says that peers 1 and 2 belong
//! to group A and 3 to B, and `A B|2C` that one of A and one of B, or two of C, are enough.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weft_peer::gateway::plan::{Plan, Step};

fn groups(text: &str) -> Vec<Vec<usize>> {
    let peers = |group: &str| {
        let (_, peers) = group.split_once(':').unwrap();
        peers.split(',').filter(|peer| !peer.is_empty()).map(|p| p.parse().unwrap()).collect()
    };
    text.split(' ').map(peers).collect()
}

fn layouts(text: &str) -> Vec<BTreeMap<usize, usize>> {
    let one = |part: &str| {
        let digits = part.trim_end_matches(|c: char| c.is_ascii_uppercase());
        let group = part[digits.len()..].bytes().next().unwrap() - b'A';
        (usize::from(group), digits.parse().unwrap_or(1))
    };
    text.split('|').map(|layout| layout.split(' ').map(one).collect()).collect()
}

/// Runs a plan: peers in `bad` fail, others endorse; answers come in the order of asking. Gives the
/// rounds of asking and who was enough in the end.
fn run(groups_text: &str, layouts_text: &str, endorsed: &[usize], bad: &[usize]) -> String {
    let groups = groups(groups_text);
    let peers = groups.iter().flatten().max().map_or(0, |max| max + 1);
    let mut plan = Plan::new(peers, groups, layouts(layouts_text));
    endorsed.iter().for_each(|peer| plan.endorsed(*peer));
    let mut asked: Vec<usize> = Vec::new();
    let mut log = Vec::new();
    loop {
        match plan.step() {
            Step::Ask(peers) => {
                if !peers.is_empty() {
                    log.push(format!("ask {peers:?}"));
                }
                asked.extend(peers);
                let first = asked.remove(0);
                if bad.contains(&first) { plan.failed(first) } else { plan.endorsed(first) }
            }
            Step::Done(peers) => {
                log.push(format!("done {peers:?}"));
                return log.join(", ");
            }
            Step::Exhausted => {
                log.push("exhausted".to_owned());
                return log.join(", ");
            }
        }
    }
}

#[test]
fn asks_one_of_each_group_at_once() {
    assert_eq!(run("A:0,1 B:2,3", "A B", &[], &[]), "ask [0, 2], done [0, 2]");
}

#[test]
fn one_endorsement_is_enough_where_one_is_asked_for() {
    assert_eq!(run("A:0 B:1", "A|B", &[0], &[]), "done [0]");
}

#[test]
fn counts_what_has_been_endorsed() {
    assert_eq!(run("A:0,1 B:2,3", "A B", &[0], &[]), "ask [2], done [0, 2]");
}

#[test]
fn another_of_the_group_takes_the_place_of_one_that_failed() {
    assert_eq!(run("A:0 B:1,2", "A B", &[0], &[1]), "ask [1], ask [2], done [0, 2]");
}

#[test]
fn goes_on_to_the_next_layout_and_keeps_endorsements() {
    assert_eq!(run("A:0 B:1 C:2", "A B|A C", &[0], &[1]), "ask [1], ask [2], done [0, 2]");
}

#[test]
fn ends_when_no_layout_is_left() {
    assert_eq!(run("A:0 B:1 C:2", "A B|B C", &[], &[1]), "ask [0, 1], exhausted");
}

#[test]
fn several_of_one_group() {
    assert_eq!(run("A:0,1,2,3", "3A", &[0], &[1]), "ask [1, 2], ask [3], done [0, 2, 3]");
}

#[test]
fn a_layout_that_nobody_can_fill_is_passed_over() {
    assert_eq!(run("A:0 B:1", "2A|A B", &[0], &[]), "ask [1], done [0, 1]");
}

#[test]
fn a_peer_of_two_groups_counts_once() {
    // 0 is in both groups, so 1 has to stand for B or A.
    assert_eq!(run("A:0,1 B:0", "A B", &[], &[]), "ask [0, 1], done [0, 1]");
    assert_eq!(run("A:0 B:0", "A B", &[0], &[]), "exhausted");
}

#[test]
fn an_endorsement_moves_to_the_group_where_it_is_needed() {
    assert_eq!(run("A:0,1 B:0", "A B", &[0], &[]), "ask [1], done [0, 1]");
}

fn asks(plan: &mut Plan, expected: &[usize]) {
    assert_eq!(plan.step(), Step::Ask(expected.to_vec()));
}

#[test]
fn another_of_the_group_is_asked_for_one_that_is_late_and_either_counts() {
    for first in [1, 2] {
        let mut plan = Plan::new(3, groups("A:0 B:1,2"), layouts("A B"));
        plan.endorsed(0);
        asks(&mut plan, &[1]);
        assert!(plan.has_other(1));
        plan.late(1);
        asks(&mut plan, &[2]);
        plan.endorsed(first);
        assert_eq!(plan.step(), Step::Done(vec![0, first]));
    }
}

#[test]
fn a_later_layout_is_better_than_one_that_is_late() {
    let mut plan = Plan::new(3, groups("A:0 B:1 C:2"), layouts("A B|A C"));
    plan.endorsed(0);
    asks(&mut plan, &[1]);
    plan.late(1);
    asks(&mut plan, &[2]);
    plan.failed(2);
    // Nobody is left but the one that is late.
    asks(&mut plan, &[]);
    assert!(!plan.has_other(1));
    plan.endorsed(1);
    assert_eq!(plan.step(), Step::Done(vec![0, 1]));
}

#[test]
fn one_that_is_late_and_fails_has_failed() {
    let mut plan = Plan::new(1, groups("A:0"), layouts("A"));
    asks(&mut plan, &[0]);
    plan.late(0);
    asks(&mut plan, &[]);
    plan.failed(0);
    assert_eq!(plan.step(), Step::Exhausted);
}

#[test]
fn an_empty_layout_is_enough() {
    let mut plan = Plan::new(1, vec![vec![0]], vec![BTreeMap::new()]);
    assert_eq!(plan.step(), Step::Done(Vec::new()));
}

proptest! {
    /// Whoever fails, the plan ends; it asks nobody twice, and what it calls enough is.
    #[test]
    fn never_asks_twice_and_is_right_in_the_end(
        groups in prop::collection::vec(prop::collection::btree_set(0_usize..6, 0..5), 1..4),
        wanted in prop::collection::vec(
            prop::collection::btree_map(0_usize..3, 1_usize..3, 1..3), 1..4),
        bad in prop::collection::btree_set(0_usize..6, 0..5),
        mut late in prop::collection::btree_set(0_usize..6, 0..5),
    ) {
        let lists: Vec<Vec<usize>> = groups.iter().map(|g| g.iter().copied().collect()).collect();
        let mut plan = Plan::new(6, lists, wanted.clone());
        let mut asked = BTreeSet::new();
        let mut open: Vec<usize> = Vec::new();
        let done = loop {
            match plan.step() {
                Step::Ask(peers) => {
                    for peer in peers {
                        prop_assert!(asked.insert(peer), "{peer} is asked twice");
                        open.push(peer);
                    }
                    prop_assert!(!open.is_empty(), "waits for nobody");
                    let peer = open.remove(0);
                    if late.remove(&peer) {
                        plan.late(peer);
                        open.push(peer);
                    } else if bad.contains(&peer) {
                        plan.failed(peer);
                    } else {
                        plan.endorsed(peer);
                    }
                }
                Step::Done(peers) => break Some(peers),
                Step::Exhausted => break None,
            }
        };
        let good = |peer: &usize| !bad.contains(peer);
        match done {
            Some(peers) => {
                prop_assert!(peers.iter().all(good));
                let fills = |layout: &BTreeMap<usize, usize>| fills(layout, &groups, &peers);
                prop_assert!(wanted.iter().any(fills));
            }
            None => {
                let all: Vec<_> = (0..6).filter(good).collect();
                prop_assert!(!wanted.iter().any(|layout| fills(layout, &groups, &all)));
            }
        }
    }
}

/// Whether peers can be given to all places, by trying.
fn fills(layout: &BTreeMap<usize, usize>, groups: &[BTreeSet<usize>], peers: &[usize]) -> bool {
    let places: Vec<_> =
        layout.iter().flat_map(|(group, count)| std::iter::repeat_n(*group, *count)).collect();
    fn place(places: &[usize], groups: &[BTreeSet<usize>], left: &[usize]) -> bool {
        let Some((group, rest)) = places.split_first() else { return true };
        left.iter().any(|peer| {
            let belongs = groups.get(*group).is_some_and(|group| group.contains(peer));
            let left: Vec<_> = left.iter().copied().filter(|other| other != peer).collect();
            belongs && place(rest, groups, &left)
        })
    }
    place(&places, groups, peers)
}
