//! The simulation finds engines that are wrong: each mutant here breaks one promise of Raft or of
//! the engine's contract, and has to be caught within a few seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use common::{chaos, options};
use weft_consensus::raft::{RaftEngine, Start};
use weft_consensus::sim::{Failure, Make, Spec, Violation, explore, restore_raft};
use weft_consensus::{
    Action, Engine, EngineError, Event, LogWrite, Membership, MembershipError, Millis, Status,
};

/// What a mutant does with what the right engine wants done.
type Twist = fn(&RaftEngine, Vec<Action>) -> Vec<Action>;

struct Mutant {
    engine: RaftEngine,
    twist: Twist,
}

impl Engine for Mutant {
    fn receive(&mut self, now: Millis, event: Event) -> Result<(), EngineError> {
        self.engine.receive(now, event)
    }
    fn drain(&mut self) -> Vec<Action> {
        let actions = self.engine.drain();
        (self.twist)(&self.engine, actions)
    }
    fn wakeup(&self) -> Option<Millis> {
        self.engine.wakeup()
    }
    fn status(&self) -> Status {
        self.engine.status()
    }
    fn check_change(&self, next: &Membership) -> Result<(), MembershipError> {
        self.engine.check_change(next)
    }
}

fn mutant(twist: Twist) -> Make {
    Arc::new(move |spec| {
        let engine = restore_raft(&options(), spec)?;
        Ok(Box::new(Mutant { engine, twist }) as Box<dyn Engine>)
    })
}

/// A different start than the one asked for.
fn starting(change: fn(Start) -> Start) -> Make {
    Arc::new(move |spec| {
        let spec = Spec { start: change(spec.start), ..spec };
        Ok(Box::new(restore_raft(&options(), spec)?) as Box<dyn Engine>)
    })
}

fn find(make: Make) -> Failure {
    const SEEDS: u64 = 400;
    let chaos = chaos(make);
    let found = (0..SEEDS).find_map(|seed| explore(&chaos, seed).err());
    let failure = found.unwrap_or_else(|| panic!("{SEEDS} seeds did not catch the mutant"));
    println!("{failure}");
    // The seed alone brings the failure back.
    assert_eq!(explore(&chaos, failure.seed), Err(failure.clone()));
    failure
}

#[test]
fn sending_before_persisting() {
    find(mutant(|_, actions| {
        let (mut sends, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Send { .. }));
        sends.extend(rest);
        sends
    }));
}

#[test]
fn delivering_before_persisting() {
    find(mutant(|_, actions| {
        let (mut first, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Deliver(_)));
        first.extend(rest);
        first
    }));
}

#[test]
fn not_syncing() {
    find(mutant(|_, mut actions| {
        for action in &mut actions {
            if let Action::Persist(persist) = action {
                persist.sync = false;
            }
        }
        actions
    }));
}

#[test]
fn forgetting_votes_and_terms() {
    find(mutant(|engine, mut actions| {
        let fresh = engine.status().last_index == 0 && engine.status().term == 0;
        for action in &mut actions {
            if let Action::Persist(persist) = action {
                persist.writes.retain(|write| match write {
                    LogWrite::Put { key, .. } => fresh || key.as_ref() != b"h",
                    LogWrite::Delete { .. } => true,
                });
            }
        }
        actions
    }));
}

#[test]
fn keeping_overwritten_entries() {
    find(mutant(|_, mut actions| {
        for action in &mut actions {
            if let Action::Persist(persist) = action {
                persist.writes.retain(|write| matches!(write, LogWrite::Put { .. }));
            }
        }
        actions
    }));
}

#[test]
fn losing_a_delivery() {
    let failure = find(mutant(|engine, mut actions| {
        if engine.status().height % 50 == 49 {
            actions.retain(|action| !matches!(action, Action::Deliver(_)));
        }
        actions
    }));
    assert!(matches!(failure.violation, Violation::Number { .. } | Violation::Restart { .. }));
}

#[test]
fn delivering_twice() {
    let failure = find(mutant(|_, actions| {
        let again: Vec<Action> =
            actions.iter().filter(|a| matches!(a, Action::Deliver(_))).cloned().collect();
        actions.into_iter().chain(again).collect()
    }));
    assert!(matches!(failure.violation, Violation::Number { .. }));
}

#[test]
fn not_catching_up() {
    find(mutant(|_, mut actions| {
        actions.retain(|action| !matches!(action, Action::CatchUp { .. }));
        actions
    }));
}

#[test]
fn staying_silent_after_losing_office() {
    let failure = find(mutant(|engine, mut actions| {
        if engine.status().term > 1 {
            actions.retain(|action| !matches!(action, Action::Send { .. }));
        }
        actions
    }));
    let stuck = matches!(failure.violation, Violation::Stuck { .. } | Violation::Lost { .. });
    assert!(stuck, "{failure}");
}

#[test]
fn voting_with_a_lost_log() {
    find(starting(|start| if start == Start::Rejoin { Start::Join } else { start }));
}
