//! The conformance suite: what every ordering engine has to do, whatever its protocol.
//!
//! It looks at engines through [`Engine`](crate::Engine) alone, in a [`World`] without faults but
//! those that a case names. [`run`] takes an engine and the cluster sizes that it is made for.

use bytes::Bytes;

use crate::engine::{Action, EngineError, Event, MessageError, Millis, NodeId, Severity};
use crate::entry::{Entry, EntryKind};
use crate::membership::Change;
use crate::sim::{Make, Spec, Violation, World, WorldOptions};

/// What the suite has to know about an engine.
#[derive(Clone)]
pub struct Subject {
    /// Makes it.
    pub make: Make,
    /// The numbers of nodes to try.
    pub sizes: Vec<u64>,
    /// The longest, in milliseconds, that it takes to have a leader.
    pub election_ms: u64,
}

/// A case that failed.
#[derive(Debug, thiserror::Error)]
#[error("{case} with {size} nodes: {violation}")]
pub struct CaseFailed {
    /// The case.
    pub case: &'static str,
    /// The number of nodes.
    pub size: u64,
    /// What went wrong.
    #[source]
    pub violation: Violation,
}

type Case = fn(&Subject, u64) -> Result<(), Violation>;

const CASES: [(&str, Case); 11] = [
    ("total order", total_order),
    ("config entries", config_entries),
    ("bounded proposals", bounded_proposals),
    ("bad entries", bad_entries),
    ("bad messages", bad_messages),
    ("unasked answers", unasked_answers),
    ("time", time),
    ("repeated and reordered messages", repeated_messages),
    ("restart of one", restart_of_one),
    ("restart of all", restart_of_all),
    ("loss of the leader", loss_of_the_leader),
];

/// Runs every case with every size.
///
/// # Errors
/// The first case that failed.
pub fn run(subject: &Subject) -> Result<(), CaseFailed> {
    for &size in &subject.sizes {
        for (case, check) in CASES {
            check(subject, size).map_err(|violation| CaseFailed { case, size, violation })?;
        }
    }
    Ok(())
}

fn expect(holds: bool, what: &str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::Expected(what.to_owned())) }
}

fn world(subject: &Subject, size: u64) -> Result<World, Violation> {
    let mut world = World::new(subject.make.clone(), size, 7, WorldOptions::default())?;
    elect(subject, &mut world)?;
    Ok(world)
}

fn elect(subject: &Subject, world: &mut World) -> Result<NodeId, Violation> {
    world.run_until(subject.election_ms, "a leader", |world| world.leader().is_some())?;
    leader(world)
}

fn leader(world: &World) -> Result<NodeId, Violation> {
    world.leader().ok_or_else(|| Violation::Expected("a leader".into()))
}

/// Proposes once the node is not busy with its disk.
fn offer(
    world: &mut World,
    node: NodeId,
    entry: &Entry,
) -> Result<Result<(), EngineError>, Violation> {
    for _ in 0..1000 {
        match world.propose(node, entry.clone()) {
            Ok(()) => return Ok(Ok(())),
            Err(Some(error)) => return Ok(Err(error)),
            Err(None) => world.run(1)?,
        }
    }
    Err(Violation::Expected("a node that is not always busy".into()))
}

/// Proposes until it is taken.
fn propose(world: &mut World, entry: &Entry) -> Result<(), Violation> {
    for _ in 0..1000 {
        if let Some(leader) = world.leader() {
            match world.propose(leader, entry.clone()) {
                Ok(()) => return Ok(()),
                Err(Some(error)) if error.severity() != Severity::Retry => {
                    return Err(Violation::Expected(format!("a proposal to be taken: {error}")));
                }
                Err(_) => {}
            }
        }
        world.run(10)?;
    }
    Err(Violation::Expected("a proposal to be taken".into()))
}

/// Waits until all have what was proposed, and looks whether it is that and nothing else.
fn complete(world: &mut World, proposed: &[Entry]) -> Result<(), Violation> {
    let blocks = proposed.len() as u64 + 1;
    let all_have = |world: &World| {
        world.ids().into_iter().all(|id| world.is_removed(id) || world.height_of(id) >= blocks)
    };
    world.run_until(20_000, "all entries on all nodes", all_have)?;
    for id in world.ids() {
        expect(world.entries_of(id) == proposed, "the entries in the order they were taken")?;
    }
    world.check_complete()
}

fn load(world: &mut World, count: usize) -> Result<Vec<Entry>, Violation> {
    let mut proposed = Vec::new();
    for _ in 0..count {
        let entry = world.batch();
        propose(world, &entry)?;
        proposed.push(entry);
    }
    Ok(proposed)
}

fn total_order(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut world = world(subject, size)?;
    let proposed = load(&mut world, 60)?;
    complete(&mut world, &proposed)?;
    for id in world.ids() {
        let status = world.status(id).ok_or_else(|| Violation::Expected("a status".into()))?;
        expect(status.height == 61, "the height in the status")?;
        expect(status.applied <= status.committed, "nothing applied that is not committed")?;
        expect(status.in_flight == 0, "nothing in flight")?;
        expect(status.leader == world.leader(), "all to know the leader")?;
    }
    Ok(())
}

fn config_entries(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut world = world(subject, size)?;
    let mut proposed = load(&mut world, 3)?;
    let leader = leader(&world)?;
    let config = Entry::config(Bytes::from_static(b"a config"), Change::None);
    propose(&mut world, &config)?;
    proposed.push(config);
    // Whatever is proposed while it is in flight is refused, or comes after it.
    let next = world.batch();
    match offer(&mut world, leader, &next)? {
        Ok(()) => {}
        Err(EngineError::ConfigInFlight { .. }) => propose(&mut world, &next)?,
        Err(other) => return Err(Violation::Expected(format!("ConfigInFlight: {other}"))),
    }
    proposed.push(next);
    proposed.extend(load(&mut world, 3)?);
    complete(&mut world, &proposed)
}

/// Without the others' answers a leader takes only so much.
fn bounded_proposals(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut world = world(subject, size)?;
    let leader = leader(&world)?;
    world.partition(&[leader].into());
    let mut proposed = Vec::new();
    let mut busy = false;
    for _ in 0..100_000 {
        let entry = world.batch();
        match world.propose(leader, entry.clone()) {
            Ok(()) => proposed.push(entry),
            Err(Some(EngineError::Busy { .. })) => {
                busy = true;
                break;
            }
            Err(Some(other)) => return Err(Violation::Expected(format!("Busy: {other}"))),
            Err(None) => world.run(1)?,
        }
        if world.height_of(leader) > 1 {
            break;
        }
    }
    expect(busy == (size > 1), "a bound where others have to agree")?;
    world.heal();
    complete(&mut world, &proposed)
}

fn bad_entries(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut world = world(subject, size)?;
    let leader = leader(&world)?;
    let (some, none) = (Bytes::from_static(b"envelope"), Bytes::new());
    let config = EntryKind::Config { change: Change::None };
    let bad = [
        Entry { kind: EntryKind::Normal, envelopes: vec![] },
        Entry { kind: EntryKind::Normal, envelopes: vec![some.clone(), none] },
        Entry { kind: config.clone(), envelopes: vec![] },
        Entry { kind: config, envelopes: vec![some.clone(), some] },
    ];
    for entry in bad {
        let refused = offer(&mut world, leader, &entry)?;
        expect(matches!(refused, Err(EngineError::Entry(_))), "a bad entry to be refused")?;
    }
    let proposed = load(&mut world, 2)?;
    complete(&mut world, &proposed)
}

/// One engine that is handed to a case directly, without a world.
fn alone(subject: &Subject) -> Result<Box<dyn crate::Engine>, Violation> {
    let size = subject.sizes.iter().copied().max().unwrap_or(1);
    let consenters: Vec<Bytes> = (1..=size).map(crate::sim::consenter).collect();
    let membership =
        crate::Membership::genesis(&consenters).map_err(|e| Violation::Expected(e.to_string()))?;
    let applied = crate::Applied { index: 0, height: 1, membership: membership.into() };
    let spec = Spec {
        node: 1,
        applied,
        records: Vec::new(),
        start: crate::raft::Start::Bootstrap,
        seed: 1,
        now: Millis(0),
    };
    (subject.make)(spec).map_err(|error| Violation::Restart { node: 1, error })
}

fn bad_messages(subject: &Subject, _size: u64) -> Result<(), Violation> {
    let mut engine = alone(subject)?;
    engine.drain();
    let before = engine.status();
    let bad: [&'static [u8]; 6] = [b"", b"\0", b"\x01", b"\x01\xff", b"\xff\xff\xff", b"nonsense"];
    for bytes in bad {
        for from in [0, 1, 2, 99, u64::MAX] {
            let event = Event::Message { from, message: Bytes::from_static(bytes) };
            let refused = engine.receive(Millis(0), event);
            let typed = matches!(&refused, Err(EngineError::BadMessage { from: named, reason })
                if *named == from && (!bytes.is_empty() || *reason == MessageError::Empty
                    || *reason == MessageError::UnknownSender));
            expect(typed, "a bad message to be refused by name")?;
        }
    }
    expect(engine.drain().is_empty(), "no answer to bad messages")?;
    expect(engine.status() == before, "bad messages to change nothing")
}

fn unasked_answers(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut engine = alone(subject)?;
    engine.drain();
    let refused = engine.receive(Millis(0), Event::CaughtUp { height: 9 });
    let mismatch = matches!(refused, Err(EngineError::CatchUpMismatch { height: 9, .. }));
    expect(mismatch, "an unasked catch-up to be refused")?;
    let verified = engine.receive(Millis(0), Event::Verified { ticket: 1, valid: vec![true] });
    expect(verified.is_err(), "an unasked verdict to be refused")?;
    engine
        .receive(Millis(0), Event::Unreachable { node: 77 })
        .map_err(|e| Violation::Expected(format!("a stranger's absence to be ignored: {e}")))?;
    let mut world = world(subject, size)?;
    let proposed = load(&mut world, 2)?;
    complete(&mut world, &proposed)
}

/// Time that stands still or goes back is no time.
fn time(subject: &Subject, _size: u64) -> Result<(), Violation> {
    let mut engine = alone(subject)?;
    engine.drain();
    let before = engine.status();
    for now in [0, 0, 0] {
        engine
            .receive(Millis(now), Event::Tick)
            .map_err(|e| Violation::Expected(format!("a tick to be taken: {e}")))?;
    }
    expect(engine.drain().is_empty(), "nothing to do while no time passes")?;
    expect(engine.status() == before, "nothing to change while no time passes")?;
    let Some(wakeup) = engine.wakeup() else { return Ok(()) };
    expect(wakeup > Millis(0), "a time to wake up that is to come")?;
    for now in [wakeup.0, 0, wakeup.0, 3, u64::MAX, 5] {
        engine
            .receive(Millis(now), Event::Tick)
            .map_err(|e| Violation::Expected(format!("a tick to be taken: {e}")))?;
        let actions = engine.drain();
        expect(!actions.iter().any(|a| matches!(a, Action::Evicted)), "time to evict nobody")?;
    }
    Ok(())
}

fn repeated_messages(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut world = world(subject, size)?;
    world.options.network.repeated = 1000;
    world.options.network.max_delay = 80;
    let proposed = load(&mut world, 40)?;
    complete(&mut world, &proposed)
}

fn restart_of_one(subject: &Subject, size: u64) -> Result<(), Violation> {
    for victim in 1..=size {
        let mut world = world(subject, size)?;
        let mut proposed = load(&mut world, 20)?;
        complete(&mut world, &proposed)?;
        world.crash(victim);
        world.run(100)?;
        world.start(victim);
        elect(subject, &mut world)?;
        proposed.extend(load(&mut world, 10)?);
        complete(&mut world, &proposed)?;
    }
    Ok(())
}

/// What was delivered anywhere is there after all were down at once, even if the disks lost what
/// was not synced; what was not may be there or not.
fn restart_of_all(subject: &Subject, size: u64) -> Result<(), Violation> {
    let mut world = world(subject, size)?;
    for _ in 0..5 {
        load(&mut world, 8)?;
        let delivered = world.height();
        world.ids().into_iter().for_each(|id| world.crash(id));
        world.run(50)?;
        world.ids().into_iter().for_each(|id| world.start(id));
        elect(subject, &mut world)?;
        load(&mut world, 1)?;
        world.run_until(20_000, "the old entries and a new one", |world| {
            world.height() > delivered && world.check_complete().is_ok()
        })?;
    }
    Ok(())
}

fn loss_of_the_leader(subject: &Subject, size: u64) -> Result<(), Violation> {
    if size < 3 {
        return Ok(());
    }
    let mut world = world(subject, size)?;
    load(&mut world, 10)?;
    let lost = leader(&world)?;
    let delivered = world.height();
    world.crash(lost);
    world.run_until(2 * subject.election_ms, "another leader", |world| {
        world.leader().is_some_and(|leader| leader != lost)
    })?;
    let follower = world.ids().into_iter().find(|id| *id != lost && Some(*id) != world.leader());
    if let Some(follower) = follower {
        let batch = world.batch();
        let refused = offer(&mut world, follower, &batch)?;
        let told = matches!(&refused, Err(EngineError::NotLeader { leader, .. })
            if *leader == world.leader());
        expect(told, "a follower to name the leader")?;
    }
    load(&mut world, 10)?;
    world.start(lost);
    world.run_until(20_000, "everything on all nodes", |world| {
        world.height() >= delivered + 10 && world.check_complete().is_ok()
    })
}
