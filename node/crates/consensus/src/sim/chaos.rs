//! A run under random faults, and what must be true during and after it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::net::Network;
use super::record::Violation;
use super::witness::Reader;
use super::world::{Counts, Trap, World, WorldOptions};
use super::{Make, consenters_but};
use crate::engine::{Event, NodeId, Role};
use crate::rng::Rng;

/// What a run is like.
#[derive(Clone)]
pub struct Chaos {
    /// Makes the engines.
    pub make: Make,
    /// Reads what their messages promise.
    pub promises: Reader,
    /// The engines' election timeout in milliseconds: times are chosen by it, and progress has to
    /// be made within twice as long after healing.
    pub election_timeout_ms: u64,
    /// How long faults are injected, in milliseconds.
    pub duration_ms: u64,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} at {at} ms: {violation}\n{nodes}")]
pub struct Failure {
    /// Replays the run.
    pub seed: u64,
    /// The virtual time.
    pub at: u64,
    /// What went wrong.
    pub violation: Violation,
    /// The nodes at that moment, a line each.
    pub nodes: String,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Blocks delivered.
    pub height: u64,
    /// Terms in which a node led.
    pub terms: usize,
    /// Milliseconds from healing to the first delivery of a later proposal.
    pub recovered_ms: u64,
    /// How often things happened.
    pub counts: Counts,
    /// Equal for equal runs.
    pub trace: u64,
}

/// The faults; every run draws which of them it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CrashSyncing,
    CrashAll,
    Partition,
    OneWay,
    Pause,
    Wipe,
    Grow,
    Shrink,
    Transfer,
    Loss,
    Trap,
    Storm,
    Heal,
    Restart,
}

const FAULTS: [Fault; 13] = [
    Fault::Crash,
    Fault::CrashSyncing,
    Fault::CrashAll,
    Fault::Partition,
    Fault::OneWay,
    Fault::Pause,
    Fault::Wipe,
    Fault::Grow,
    Fault::Shrink,
    Fault::Transfer,
    Fault::Loss,
    Fault::Trap,
    Fault::Storm,
];

/// Runs one seed.
///
/// # Errors
/// The first violation, with what replays it.
pub fn explore(chaos: &Chaos, seed: u64) -> Result<Report, Failure> {
    let mut run = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| run.insert(Run::new(chaos, seed)?).run_all()));
    let violation = match outcome {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Violation::Panic(text.unwrap_or_default())
        }
    };
    let (at, nodes) = run.map_or((0, String::new()), |run| (run.world.now(), run.world.describe()));
    Err(Failure { seed, at, violation, nodes })
}

struct Run {
    world: World,
    rng: Rng,
    timeout: u64,
    duration: u64,
    faults: Vec<Fault>,
    /// The node whose log was lost last, until it is a full member again.
    wiped: Option<NodeId>,
}

impl Run {
    fn new(chaos: &Chaos, seed: u64) -> Result<Self, Violation> {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let size = [1, 3, 3, 3, 4, 5][rng.range(0, 6) as usize];
        let network = Network {
            min_delay: 1,
            max_delay: rng.range(1, 60),
            lost: [0, 0, 20, 200][rng.range(0, 4) as usize],
            repeated: [0, 30, 200][rng.range(0, 3) as usize],
        };
        let sync_ms = [0, 5, 40, 150][rng.range(0, 4) as usize];
        let late = [0, 0, 50, 300][rng.range(0, 4) as usize];
        let sync_blocks = rng.range(0, 2) == 0;
        let promises = chaos.promises;
        let options = WorldOptions { network, sync_ms, sync_blocks, late, promises };
        // A different mix of faults in every run reaches states that all of them at once hide.
        // Few of them come the more often.
        let rare = rng.range(2, 5);
        let mut faults: Vec<Fault> =
            FAULTS.into_iter().filter(|_| rng.range(0, rare) == 0).collect();
        // Of two members one must not lose its log: that loses the channel.
        if faults.contains(&Fault::Wipe) {
            faults.retain(|fault| *fault != Fault::Shrink);
        }
        let world = World::new(chaos.make.clone(), size, seed, options)?;
        let (timeout, duration) = (chaos.election_timeout_ms, chaos.duration_ms);
        Ok(Self { world, rng, timeout, duration, faults, wiped: None })
    }

    fn run_all(&mut self) -> Result<Report, Violation> {
        self.inject()?;
        let moving =
            self.wiped.is_some() || self.world.has_quarantine() || self.world.has_leaving();
        self.world.heal_all();
        let recovered_ms = self.recover(moving)?;
        self.load(self.timeout * 2)?;
        self.settle()?;
        self.world.check_complete()?;
        Ok(Report {
            height: self.world.height(),
            terms: self.world.terms_led(),
            recovered_ms,
            counts: self.world.counts(),
            trace: self.world.trace(),
        })
    }

    /// Load and faults.
    fn inject(&mut self) -> Result<(), Violation> {
        let mut next = self.rng.range(0, self.timeout);
        while self.world.now() < self.duration {
            self.step()?;
            if self.world.now() >= next {
                self.fault()?;
                next = self.world.now() + self.rng.range(20, self.timeout);
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        let pause = self.rng.range(2, 40);
        self.world.run(pause)?;
        if let Some(wiped) = self.wiped {
            let role = self.world.status(wiped).map(|status| status.role);
            if role.is_some_and(|role| role != Role::Quarantined) {
                self.wiped = None;
            }
        }
        if let Some(leader) = self.world.leader() {
            let batch = self.world.batch();
            // A refusal is an answer like any other.
            let _ = self.world.propose(leader, batch);
        }
        Ok(())
    }

    fn load(&mut self, ms: u64) -> Result<(), Violation> {
        let end = self.world.now() + ms;
        while self.world.now() < end {
            self.step()?;
        }
        Ok(())
    }

    /// I5: an entry proposed after healing is delivered within two election timeouts, once no
    /// message from before can disturb. A node that is just rejoining makes the leader step down
    /// once, which may come after; one that does not know of its removal may be elected once.
    fn recover(&mut self, moving: bool) -> Result<u64, Violation> {
        let healed = self.world.now();
        let begin = self.world.last_arrival().max(healed);
        let bound = self.timeout * if moving { 6 } else { 2 };
        loop {
            self.step()?;
            let waited = self.world.now().saturating_sub(begin);
            let first = self.world.record().first_delivery_of_proposals_since(healed);
            if let Some(first) = first {
                return Ok(first - healed);
            }
            if waited > bound {
                return Err(Violation::Stuck { waited });
            }
        }
    }

    /// Without load, until everyone has everything.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..20 {
            self.world.run(self.timeout)?;
            if self.world.check_complete().is_ok() {
                break;
            }
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), Violation> {
        let choice = self.rng.range(0, self.faults.len() as u64 * 2 + 2) as usize;
        let fault = match self.faults.get(choice) {
            Some(fault) => *fault,
            None if self.rng.range(0, 2) == 0 => Fault::Heal,
            None => Fault::Restart,
        };
        self.inflict(fault)
    }

    fn any_node(&mut self) -> Option<NodeId> {
        let ids = self.world.ids();
        let at = self.rng.range(0, ids.len() as u64) as usize;
        // Half of the time the one that hurts most.
        let leader = self.world.leader().filter(|_| self.rng.range(0, 2) == 0);
        leader.or(ids.get(at).copied())
    }

    fn inflict(&mut self, fault: Fault) -> Result<(), Violation> {
        let Some(node) = self.any_node() else { return Ok(()) };
        match fault {
            Fault::Crash => self.world.crash(node),
            Fault::CrashSyncing => self.crash_syncing()?,
            Fault::CrashAll => self.world.ids().into_iter().for_each(|id| self.world.crash(id)),
            Fault::Partition => self.partition(),
            Fault::OneWay => self.one_way(node),
            Fault::Pause => self.world.pause(node),
            Fault::Wipe => self.wipe(node),
            Fault::Grow => self.change_members(true)?,
            Fault::Shrink => self.change_members(false)?,
            Fault::Transfer => self.world.tell(node, Event::TransferLeadership { to: None }),
            Fault::Loss => {
                let lost = self.rng.range(0, 500);
                self.world.options.network.lost = lost;
            }
            Fault::Trap => self.trap(),
            Fault::Storm => self.storm()?,
            Fault::Heal => self.world.heal(),
            Fault::Restart => self.restart_some(),
        }
        Ok(())
    }

    /// Power fails for the nodes that wait for their disks, and comes back for the others.
    fn crash_syncing(&mut self) -> Result<(), Violation> {
        for _ in 0..20 {
            let syncing = self.world.syncing();
            if syncing.len() * 2 >= self.world.ids().len() {
                syncing.into_iter().for_each(|id| self.world.crash(id));
                break;
            }
            self.world.run(1)?;
        }
        Ok(())
    }

    fn trap(&mut self) {
        let trap = if self.rng.range(0, 2) == 0 { Trap::Vote } else { Trap::Promise };
        self.world.trap(trap);
    }

    /// Everyone stalls past the election timeout, as when a host is suspended, and wakes at about
    /// the same time: many stand in one term, and one that votes crashes.
    fn storm(&mut self) -> Result<(), Violation> {
        let mut ids = self.world.ids();
        ids.iter().for_each(|id| self.world.pause(*id));
        self.world.run(self.timeout * 3 / 2)?;
        self.world.trap(Trap::Vote);
        let first = self.rng.range(0, ids.len() as u64) as usize;
        ids.rotate_left(first);
        for id in ids {
            self.world.resume(id);
            let pause = self.rng.range(0, 10);
            self.world.run(pause)?;
        }
        Ok(())
    }

    fn restart_some(&mut self) {
        for id in self.world.ids() {
            if self.rng.range(0, 3) > 0 {
                self.world.resume(id);
                self.world.start(id);
            }
        }
    }

    fn partition(&mut self) {
        let ids = self.world.ids();
        let group: BTreeSet<NodeId> =
            ids.into_iter().filter(|_| self.rng.range(0, 2) == 0).collect();
        self.world.heal();
        self.world.partition(&group);
    }

    /// Others do not hear the node, or it does not hear them.
    fn one_way(&mut self, node: NodeId) {
        let outward = self.rng.range(0, 2) == 0;
        for other in self.world.ids().into_iter().filter(|other| *other != node) {
            let (from, to) = if outward { (node, other) } else { (other, node) };
            self.world.cut(from, to);
        }
    }

    /// One log at a time, and never where no quorum of others would be left.
    fn wipe(&mut self, node: NodeId) {
        let member = self.world.membership().is_some_and(|m| m.len() >= 3 && m.contains(node));
        if member && self.wiped.is_none() && !self.world.has_quarantine() {
            self.world.wipe(node);
            self.wiped = Some(node);
        }
    }

    fn change_members(&mut self, grow: bool) -> Result<(), Violation> {
        // The leader's disk is mostly busy; look for a gap.
        for _ in 0..20 {
            if self.try_change(grow) {
                break;
            }
            self.world.run(3)?;
        }
        Ok(())
    }

    fn try_change(&mut self, grow: bool) -> bool {
        let (Some(leader), Some(membership)) = (self.world.leader(), self.world.membership())
        else {
            return false;
        };
        let quiet = self.wiped.is_none() && !self.world.has_quarantine();
        let fits = if grow { membership.len() < 5 } else { membership.len() > 1 };
        if !quiet || !fits {
            return false;
        }
        let consenters = if grow {
            consenters_but(&membership, None, Some(membership.next_id()))
        } else {
            let at = self.rng.range(0, membership.len() as u64) as usize;
            consenters_but(&membership, membership.ids().nth(at), None)
        };
        let entry = self.world.config(&consenters);
        entry.is_ok_and(|entry| self.world.propose(leader, entry).is_ok())
    }
}
