//! The simulation finds orderers that are wrong: each bug here breaks one promise, and has to be
//! found within a thousand seeds, for the right reason.

use super::chaos::{Failure, explore};
use super::record::Violation;
use super::world::Bug;
use crate::chain::core::Effect;

fn find(bug: Bug) -> Failure {
    const SEEDS: u64 = 1000;
    let found = (0..SEEDS).find_map(|seed| explore(seed, bug).err());
    let failure = found.unwrap_or_else(|| panic!("{SEEDS} seeds did not find the bug"));
    println!("{failure}");
    failure
}

fn twist(twist: fn(Vec<Effect>) -> Vec<Effect>) -> Bug {
    Bug { twist: Some(twist), ..Bug::default() }
}

#[test]
fn a_failed_join_that_deletes() {
    let failure = find(Bug { join_deletes: true, ..Bug::default() });
    assert!(matches!(failure.violation, Violation::Deleted { .. }), "{failure}");
}

#[test]
fn sending_before_persisting() {
    let failure = find(twist(|effects| {
        let (mut first, rest): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Send { .. }));
        first.extend(rest);
        first
    }));
    let unsafe_ = matches!(
        failure.violation,
        Violation::Fork { .. }
            | Violation::Lost { .. }
            | Violation::Stopped { .. }
            | Violation::Foreign { .. }
    );
    assert!(unsafe_, "{failure}");
}

#[test]
fn dropping_after_success_uncounted() {
    let failure = find(twist(|mut effects| {
        effects.retain(|effect| !matches!(effect, Effect::Dropped(..)));
        effects
    }));
    assert!(matches!(failure.violation, Violation::Uncounted { .. }), "{failure}");
}

#[test]
fn losing_what_is_handed_over() {
    let failure = find(twist(|mut effects| {
        effects.retain(|effect| !matches!(effect, Effect::Forward { .. }));
        effects
    }));
    assert!(matches!(failure.violation, Violation::Uncounted { .. }), "{failure}");
}

#[test]
fn persisting_without_a_sync() {
    find(twist(|mut effects| {
        for effect in &mut effects {
            if let Effect::Persist { persist, .. } = effect {
                persist.sync = false;
            }
        }
        effects
    }));
}

#[test]
fn keeping_old_links() {
    let failure = find(twist(|mut effects| {
        let adopts = effects.iter().any(|effect| matches!(effect, Effect::Adopt(_)));
        effects.retain(|effect| !adopts || !matches!(effect, Effect::Link(Some(_))));
        effects
    }));
    let stuck = matches!(failure.violation, Violation::Stuck { .. } | Violation::Lost { .. });
    assert!(stuck, "{failure}");
}
