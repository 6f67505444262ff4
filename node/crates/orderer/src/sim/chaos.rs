//! A run under random faults, and what must be true during and after it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use weft_consensus::sim::Network;
use weft_consensus::sim::Rng;

use super::fixture::{self, ELECTION_MS};
use super::host::Down;
use super::record::Violation;
use super::world::{Bug, Counts, World};
use crate::msgprocessor::Class;

/// How long faults are injected, milliseconds.
const DURATION: u64 = 10_000;
/// Longer than an accepted envelope waits for a leader.
const SETTLE: u64 = 40_000;

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} at {at} ms: {violation}\n{hosts}")]
pub struct Failure {
    /// Replays the run.
    pub seed: u64,
    /// The virtual time.
    pub at: u64,
    /// What went wrong.
    pub violation: Violation,
    /// The orderers at that moment, a line each.
    pub hosts: String,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Blocks ordered.
    pub height: u64,
    /// Milliseconds from healing until an envelope was ordered that was sent after it, where all
    /// consenters were up to date.
    pub recovered_ms: Option<u64>,
    /// How often things happened.
    pub counts: Counts,
    /// Equal for equal runs.
    pub trace: u64,
}

/// The faults; every run draws which of them it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CrashAll,
    Stop,
    Partition,
    OneWay,
    Pause,
    Full,
    JoinAgain,
    Grow,
    Shrink,
    Loss,
    Heal,
    Restart,
}

const FAULTS: [Fault; 11] = [
    Fault::Crash,
    Fault::CrashAll,
    Fault::Stop,
    Fault::Partition,
    Fault::OneWay,
    Fault::Pause,
    Fault::Full,
    Fault::JoinAgain,
    Fault::Grow,
    Fault::Shrink,
    Fault::Loss,
];

/// Runs one seed.
///
/// # Errors
/// The first violation, with what replays it.
pub fn explore(seed: u64, bug: Bug) -> Result<Report, Failure> {
    let mut run = Run::new(seed, bug);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.run_all()));
    let violation = match outcome {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Violation::Panic(text.unwrap_or_default())
        }
    };
    let line =
        |host: u64| format!("  host {host}: {}\n", run.world.hosts[host as usize].describe());
    let hosts = run.world.all().into_iter().map(line).collect();
    Err(Failure { seed, at: run.world.now(), violation, hosts })
}

struct Run {
    world: World,
    rng: Rng,
    faults: Vec<Fault>,
}

impl Run {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let size = [1, 3, 3, 3, 4, 5][rng.range(0, 6) as usize];
        let mut world = World::new(size, seed, bug);
        world.network = Network {
            min_delay: 1,
            max_delay: rng.range(1, 40),
            lost: [0, 0, 20, 150][rng.range(0, 4) as usize],
            repeated: [0, 30, 200][rng.range(0, 3) as usize],
        };
        world.sync_ms = [0, 5, 40, 100][rng.range(0, 4) as usize];
        world.fetch_ms = [10, 50, 400][rng.range(0, 3) as usize];
        world.failing_syncs = [0, 0, 2][rng.range(0, 3) as usize];
        // A different mix of faults in every run reaches states that all of them at once hide.
        let faults = FAULTS.into_iter().filter(|_| rng.range(0, 2) == 0).collect();
        for host in 0..size as u64 {
            let slow = rng.range(0, 4) == 0;
            world.plan_join(host, if slow { rng.range(0, 3_000) } else { 0 });
        }
        Self { world, rng, faults }
    }

    fn run_all(&mut self) -> Result<Report, Violation> {
        self.inject()?;
        let whole = self.heal_all();
        let recovered_ms = self.recover(whole)?;
        self.settle()?;
        self.check_complete()?;
        self.world.record.check_counted()?;
        Ok(Report {
            height: self.world.record.height(),
            recovered_ms: whole.then_some(recovered_ms),
            counts: self.world.counts,
            trace: self.world.trace(),
        })
    }

    /// Load and faults.
    fn inject(&mut self) -> Result<(), Violation> {
        let mut next = self.rng.range(0, ELECTION_MS);
        while self.world.now() < DURATION {
            self.step()?;
            if self.world.now() >= next {
                self.fault();
                next = self.world.now() + self.rng.range(20, ELECTION_MS);
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        let pause = self.rng.range(10, 60);
        self.world.run(pause)?;
        for _ in 0..self.rng.range(1, 3) {
            let host = self.any_consenter();
            self.world.transact(host);
        }
        self.world.run(0)
    }

    fn any_consenter(&mut self) -> u64 {
        let consenters = self.world.consenters();
        let at = self.rng.range(0, consenters.len() as u64) as usize;
        consenters.get(at).copied().unwrap_or_default()
    }

    /// Ends all faults. Whether every consenter has a log that it can go on with at once.
    fn heal_all(&mut self) -> bool {
        let world = &mut self.world;
        world.cuts.heal();
        world.network = Network::good();
        (world.sync_ms, world.fetch_ms, world.failing_syncs) = (3, 10, 0);
        for host in world.all() {
            world.host(host).disk.set_full(false);
            world.host(host).paused = false;
            if world.host(host).running.as_ref().is_some_and(|running| running.stopping) {
                world.crash(host);
            }
            world.start(host);
            world.work(host);
        }
        let consenters = world.consenters();
        for host in &consenters {
            if world.host(*host).running.is_none() {
                world.plan_join(*host, 0);
            }
        }
        consenters.into_iter().all(|host| {
            let running = world.hosts[host as usize].running.as_ref();
            let view = running.map(|running| running.core.view());
            view.and_then(|view| view.engine).is_some_and(|engine| {
                let quarantined = engine.role == weft_consensus::Role::Quarantined;
                !quarantined && engine.catching_up_to.is_none()
            })
        })
    }

    /// I5: an envelope that is sent after healing is ordered within two election timeouts. Where
    /// a consenter still has to fetch blocks first, that takes its time, too.
    fn recover(&mut self, whole: bool) -> Result<u64, Violation> {
        let healed = self.world.now();
        let bound = ELECTION_MS * if whole { 2 } else { 16 };
        loop {
            self.step()?;
            let waited = self.world.now() - healed;
            if let Some(first) = self.world.record.first_ordered_since(healed) {
                return Ok(first - healed);
            }
            if waited > bound {
                return Err(Violation::Stuck { waited });
            }
        }
    }

    /// Without load, until everyone has everything and nobody waits for anything.
    fn settle(&mut self) -> Result<(), Violation> {
        let end = self.world.now() + SETTLE;
        while self.world.now() < end {
            self.world.run(1_000)?;
            let counted = self.world.record.check_counted().is_ok();
            if counted && self.check_complete().is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// I1: all consenters have everything that was ever ordered.
    fn check_complete(&self) -> Result<(), Violation> {
        let expected = self.world.record.height();
        for host in self.world.consenters() {
            let height = self.world.hosts[host as usize].height();
            if height != expected {
                return Err(Violation::Lost { host, height, expected });
            }
        }
        Ok(())
    }

    fn fault(&mut self) {
        let choice = self.rng.range(0, self.faults.len() as u64 * 2 + 2) as usize;
        let fault = match self.faults.get(choice) {
            Some(fault) => *fault,
            None if self.rng.range(0, 2) == 0 => Fault::Heal,
            None => Fault::Restart,
        };
        self.inflict(fault);
    }

    /// Half of the time the one that hurts most.
    fn victim(&mut self) -> u64 {
        let leader = self.world.leader().filter(|_| self.rng.range(0, 2) == 0);
        leader.unwrap_or_else(|| self.any_consenter())
    }

    fn inflict(&mut self, fault: Fault) {
        let host = self.victim();
        match fault {
            Fault::Crash => self.world.crash(host),
            Fault::CrashAll => self.world.all().into_iter().for_each(|h| self.world.crash(h)),
            Fault::Stop => self.world.stop(host),
            Fault::Partition => self.partition(),
            Fault::OneWay => self.one_way(host),
            Fault::Pause => self.world.host(host).paused = true,
            Fault::Full => self.world.host(host).disk.set_full(true),
            Fault::JoinAgain => self.join_again(),
            Fault::Grow => self.change_consenters(true),
            Fault::Shrink => self.change_consenters(false),
            Fault::Loss => self.world.network.lost = self.rng.range(0, 400),
            Fault::Heal => self.world.cuts.heal(),
            Fault::Restart => self.restart_some(),
        }
    }

    fn restart_some(&mut self) {
        for host in self.world.all() {
            if self.rng.range(0, 3) > 0 {
                self.world.host(host).disk.set_full(false);
                self.world.host(host).paused = false;
                self.world.start(host);
                self.world.work(host);
            }
        }
    }

    fn partition(&mut self) {
        let all = self.world.all();
        let group: BTreeSet<u64> =
            all.iter().copied().filter(|_| self.rng.range(0, 2) == 0).collect();
        self.world.cuts.heal();
        self.world.cuts.partition(&all, &group);
    }

    /// Others do not hear the host, or it does not hear them.
    fn one_way(&mut self, host: u64) {
        let outward = self.rng.range(0, 2) == 0;
        for other in self.world.all().into_iter().filter(|other| *other != host) {
            let (from, to) = if outward { (host, other) } else { (other, host) };
            self.world.cuts.cut(from, to);
        }
    }

    /// An administrator finds no channel where one failed, and joins it again.
    fn join_again(&mut self) {
        let failed = |host: &u64| {
            let host = &self.world.hosts[*host as usize];
            host.running.is_none() && host.down == Down::Failed
        };
        let failed = self.world.all().into_iter().find(failed);
        if let Some(host) = failed {
            self.world.join(host);
        }
    }

    fn change_consenters(&mut self, add: bool) {
        let Some(leader) = self.world.leader() else { return };
        let consenters = self.world.consenters();
        let all = self.world.all();
        let others: Vec<u64> =
            all.into_iter().filter(|host| consenters.contains(host) != add).collect();
        let fits = if add { consenters.len() < 5 } else { consenters.len() > 1 };
        let at = self.rng.range(0, others.len() as u64) as usize;
        let Some(host) = others.get(at).copied().filter(|_| fits) else { return };
        let Some(running) = &self.world.hosts[leader as usize].running else { return };
        let members = crate::membership::raft_consenters(&running.bundle);
        let node = &fixture::network().orderers[host as usize];
        if members.iter().any(|member| member.endpoint == node.endpoint) == add {
            return;
        }
        let update =
            fixture::update(&running.bundle, |config| fixture::change_consenter(config, node, add));
        if self.world.broadcast(leader, update, Class::ConfigUpdate) {
            let counts = &mut self.world.counts;
            *(if add { &mut counts.grown } else { &mut counts.shrunk }) += 1;
        }
    }
}
