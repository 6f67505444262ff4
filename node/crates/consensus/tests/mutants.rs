//! The simulation finds engines that are wrong: each bug planted here breaks one promise of Raft
//! or of the engine's contract and nothing else, and has to be found within a thousand seeds, for
//! the right reason. (What only an orderer can do wrong, such as a failed join that deletes, is
//! planted in the orderer's own simulation.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{chaos, options};
use prost::Message as _;
use raft::eraftpb::{Message, MessageType};
use weft_consensus::raft::{RaftEngine, Start};
use weft_consensus::sim::{Make, Spec, Violation, explore, restore_raft};
use weft_consensus::{
    Action, Engine, EngineError, Event, LogWrite, Membership, MembershipError, Millis, NodeId,
    Persist, Status,
};

/// Seeds within which a bug has to be found.
const SEEDS: u64 = 1_000;

/// The list: a name, the violations that are the bug's own, the engines that have it.
macro_rules! planted {
    ($($name:ident: $right:pat, $make:expr;)*) => {
        $(#[test]
        fn $name() {
            find(|| $make, |violation| matches!(violation, $right));
        })*
    };
}

use Violation as V;

planted! {
    vote_not_persisted: V::TwoVotes { .. } | V::TwoLeaders { .. },
        persisting(forget_vote);
    hard_state_not_persisted: V::ForgotTerm { .. } | V::TwoVotes { .. } | V::Restart { .. },
        persisting(no_hard_state);
    hard_state_not_synced: V::ForgotTerm { .. } | V::TwoVotes { .. },
        persisting(|_, persist| persist.sync &= !persist.writes.iter().all(is_hard_state));
    nothing_synced: V::ForgotTerm { .. } | V::ForgotLog { .. } | V::Incomplete { .. },
        persisting(|_, persist| persist.sync = false);
    send_before_persist: V::ForgotTerm { .. } | V::ForgotLog { .. } | V::TwoVotes { .. },
        mutant(|_, actions| first(actions, is_send));
    deliver_before_persist: V::Restart { .. } | V::Incomplete { .. } | V::Fork { .. },
        mutant(|_, actions| first(actions, is_delivery));
    election_quorum_off_by_one: V::TwoLeaders { .. } | V::Incomplete { .. },
        forger();
    commit_quorum_off_by_one: V::Fork { .. } | V::Incomplete { .. },
        mutant(commit_what_one_follower_has);
    log_end_forgotten: V::ForgotLog { .. } | V::Restart { .. } | V::Incomplete { .. },
        restoring(forget_log_end);
    overwritten_entries_kept: V::Restart { .. },
        persisting(keep_overwritten);
    membership_stale_after_restart: V::Membership { .. },
        stale_membership();
    votes_with_a_lost_log: V::ForgotTerm { .. } | V::TwoVotes { .. },
        restoring(join_instead_of_rejoining);
    delivery_lost: V::Number { .. } | V::Restart { .. },
        mutant(|engine, actions| without(actions, engine.status().height % 50 == 49, is_delivery));
    delivered_twice: V::Number { .. },
        mutant(|_, actions| twice(actions, is_delivery));
    catch_up_not_asked_for: V::Stuck { .. } | V::Lost { .. },
        mutant(|_, actions| without(actions, true, |a| matches!(a, Action::CatchUp { .. })));
    silent_after_losing_office: V::Stuck { .. } | V::Lost { .. },
        mutant(|engine, actions| without(actions, engine.status().term > 1, is_send));
}

/// Runs seeds until one fails. Engines are made afresh for each: some mutants remember.
fn find(make: impl Fn() -> Make, is_right: impl Fn(&Violation) -> bool) {
    let found = (0..SEEDS).find_map(|seed| explore(&chaos(make()), seed).err());
    let failure = found.unwrap_or_else(|| panic!("{SEEDS} seeds did not find the bug"));
    println!("{failure}");
    assert!(is_right(&failure.violation), "found, but for another reason: {failure}");
    // The seed alone brings the failure back.
    assert_eq!(explore(&chaos(make()), failure.seed), Err(failure));
}

/// What a mutant does with what the right engine wants done.
trait Twist: Fn(&RaftEngine, Vec<Action>) -> Vec<Action> + Copy + Send + 'static {}
impl<T: Fn(&RaftEngine, Vec<Action>) -> Vec<Action> + Copy + Send + 'static> Twist for T {}

struct Mutant<T> {
    engine: RaftEngine,
    twist: T,
}

impl<T: Twist> Engine for Mutant<T> {
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

fn mutant(twist: impl Twist) -> Make {
    Arc::new(move |spec| {
        let engine = restore_raft(&options(), spec)?;
        Ok(Box::new(Mutant { engine, twist }) as Box<dyn Engine>)
    })
}

/// Engines that are made from something else than what is there.
fn restoring(change: fn(Spec) -> Spec) -> Make {
    Arc::new(move |spec| Ok(Box::new(restore_raft(&options(), change(spec))?) as Box<dyn Engine>))
}

/// Engines that write something else than what the right one does.
fn persisting(change: fn(&RaftEngine, &mut Persist)) -> Make {
    mutant(move |engine, mut actions| {
        for action in &mut actions {
            if let Action::Persist(persist) = action {
                change(engine, persist);
            }
        }
        actions
    })
}

fn is_send(action: &Action) -> bool {
    matches!(action, Action::Send { .. })
}

fn is_delivery(action: &Action) -> bool {
    matches!(action, Action::Deliver(_))
}

/// Some actions before all others.
fn first(actions: Vec<Action>, some: fn(&Action) -> bool) -> Vec<Action> {
    let (mut first, rest): (Vec<_>, Vec<_>) = actions.into_iter().partition(some);
    first.extend(rest);
    first
}

fn without(mut actions: Vec<Action>, now: bool, some: fn(&Action) -> bool) -> Vec<Action> {
    actions.retain(|action| !(now && some(action)));
    actions
}

fn twice(actions: Vec<Action>, some: fn(&Action) -> bool) -> Vec<Action> {
    let again: Vec<Action> = actions.iter().filter(|action| some(action)).cloned().collect();
    actions.into_iter().chain(again).collect()
}

fn is_hard_state(write: &LogWrite) -> bool {
    matches!(write, LogWrite::Put { key, .. } if key.as_ref() == b"h")
}

/// Writes none but the first, without which there is no log.
fn no_hard_state(engine: &RaftEngine, persist: &mut Persist) {
    let fresh = engine.status().last_index == 0 && engine.status().term == 0;
    persist.writes.retain(|write| fresh || !is_hard_state(write));
}

/// Keeps term and commit index of a hard state (each a LEB128 number), writes no vote.
fn forget_vote(_: &RaftEngine, persist: &mut Persist) {
    for write in persist.writes.iter_mut().filter(|write| is_hard_state(write)) {
        let LogWrite::Put { value, .. } = write else { continue };
        let mut numbers = value.split_inclusive(|byte| byte & 0x80 == 0);
        let (term, _vote, commit) = (numbers.next(), numbers.next(), numbers.next());
        *value = Bytes::from([term.unwrap(), &[0], commit.unwrap()].concat());
    }
}

/// Deletes none but what a new base makes needless.
fn keep_overwritten(_: &RaftEngine, persist: &mut Persist) {
    let is_base = |w: &LogWrite| matches!(w, LogWrite::Put { key, .. } if key.as_ref() == b"b");
    let compacts = persist.writes.iter().any(is_base);
    persist.writes.retain(|write| compacts || matches!(write, LogWrite::Put { .. }));
}

fn forget_log_end(mut spec: Spec) -> Spec {
    let is_entry = |record: &&(Bytes, Bytes)| record.0.starts_with(b"e");
    let last = spec.records.iter().filter(is_entry).map(|(key, _)| key.clone()).max();
    spec.records.retain(|(key, _)| Some(key) != last.as_ref());
    spec
}

fn join_instead_of_rejoining(spec: Spec) -> Spec {
    let start = if spec.start == Start::Rejoin { Start::Join } else { spec.start };
    Spec { start, ..spec }
}

fn decode(bytes: &Bytes) -> Message {
    Message::decode(&bytes[1..]).unwrap()
}

fn encode(message: &Message) -> Bytes {
    let mut bytes = vec![1];
    message.encode(&mut bytes).unwrap();
    bytes.into()
}

/// Sends, synced, as committed what it sends to a follower: of four or five members two have it
/// then, which is one fewer than a quorum.
fn commit_what_one_follower_has(engine: &RaftEngine, actions: Vec<Action>) -> Vec<Action> {
    if engine.status().membership.len() < 4 {
        return actions;
    }
    let mut actions = first(actions, |action| !is_send(action));
    for action in &mut actions {
        let Action::Send { message: bytes, .. } = action else { continue };
        let mut message = decode(bytes);
        if message.msg_type == MessageType::MsgAppend as i32 {
            let last = message.entries.last().map_or(0, |entry| entry.index);
            message.commit = message.commit.max(last);
            *bytes = encode(&message);
        }
    }
    actions
}

/// Wins elections with one vote less than a quorum: of the others it always counts the first as
/// having voted for it.
struct Forger {
    engine: RaftEngine,
    now: Millis,
}

fn forger() -> Make {
    Arc::new(|spec| {
        let engine = restore_raft(&options(), spec)?;
        Ok(Box::new(Forger { engine, now: Millis(0) }) as Box<dyn Engine>)
    })
}

impl Forger {
    fn forged(&self, action: &Action) -> Option<Event> {
        let Action::Send { to, message } = action else { return None };
        let Status { node, membership, .. } = self.engine.status();
        membership.ids().find(|id| *id != node).filter(|first| first == to)?;
        let message = decode(message);
        let answer = match MessageType::from_i32(message.msg_type)? {
            MessageType::MsgRequestVote => MessageType::MsgRequestVoteResponse,
            MessageType::MsgRequestPreVote => MessageType::MsgRequestPreVoteResponse,
            _ => return None,
        };
        let Message { to, from, term, .. } = message;
        let vote = Message { msg_type: answer as i32, from: to, to: from, term, ..<_>::default() };
        Some(Event::Message { from: to, message: encode(&vote) })
    }
}

impl Engine for Forger {
    fn receive(&mut self, now: Millis, event: Event) -> Result<(), EngineError> {
        self.now = now;
        self.engine.receive(now, event)
    }
    fn drain(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        loop {
            let actions = self.engine.drain();
            let forged: Vec<Event> = actions.iter().filter_map(|a| self.forged(a)).collect();
            all.extend(actions);
            if forged.is_empty() {
                return all;
            }
            for event in forged {
                self.engine.receive(self.now, event).unwrap();
            }
        }
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

/// The memberships with which a node started: the last one, and the last other one.
type History = Arc<Mutex<BTreeMap<NodeId, [Arc<Membership>; 2]>>>;

/// A restarted node goes by the membership of before a change, as if the block that brought the
/// change were not there.
fn stale_membership() -> Make {
    let history = History::default();
    Arc::new(move |mut spec| {
        let mut history = history.lock().unwrap();
        let now = Arc::clone(&spec.applied.membership);
        let [last, before] = history.entry(spec.node).or_insert([now.clone(), now.clone()]);
        if *last != now {
            *before = std::mem::replace(last, now);
        }
        if before.contains(spec.node) {
            spec.applied.membership = Arc::clone(before);
        }
        Ok(Box::new(restore_raft(&options(), spec)?) as Box<dyn Engine>)
    })
}
