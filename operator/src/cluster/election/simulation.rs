//! Many elections with requests that are late, lost and refused, and processes that stand still:
//! there are never two leaders, and in the end there is one.

use super::tests::{TIMES, wall};
use super::*;

/// Length of a step, milliseconds.
const TICK: u64 = 50;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

/// What a process is doing; times are the simulation's, milliseconds.
enum Phase {
    Asleep { until: u64 },
    Reading { arrives: u64 },
    Writing(Write),
}

struct Write {
    spec: LeaseSpec,
    over: u64,
    asked: Duration,
    lands: u64,
    /// Absent when the answer is lost.
    answers: Option<u64>,
    gives_up: u64,
    granted: Option<bool>,
}

struct Process {
    candidate: Candidate,
    /// Its clock began at another moment.
    offset: u64,
    phase: Phase,
}

struct World {
    random: Random,
    now: u64,
    lease: Option<LeaseSpec>,
    version: u64,
    processes: Vec<Process>,
    /// Writes of those who gave up waiting: they land nevertheless.
    stray: Vec<Write>,
    disturbed: bool,
    started: u64,
    terms: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed),
            now: 0,
            lease: None,
            version: 0,
            processes: Vec::new(),
            stray: Vec::new(),
            disturbed: true,
            started: 0,
            terms: 0,
        };
        world.processes = (0..3).map(|_| world.start()).collect();
        world
    }

    fn start(&mut self) -> Process {
        self.started += 1;
        Process {
            candidate: Candidate::new(format!("p{}", self.started), TIMES),
            offset: self.random.below(1_000_000),
            phase: Phase::Asleep { until: self.now + self.random.below(5000) },
        }
    }

    fn delay(&mut self) -> u64 {
        match self.random.below(10) {
            0 if self.disturbed => self.random.below(20_000),
            1 | 2 if self.disturbed => self.random.below(3000),
            _ => self.random.below(200),
        }
    }

    fn land(&mut self, write: &mut Write) {
        if write.granted.is_some() || self.now < write.lands {
            return;
        }
        let granted = write.over == self.version;
        if granted {
            self.lease = Some(write.spec.clone());
            self.version += 1;
        }
        write.granted = Some(granted);
    }

    fn tick(&mut self) {
        self.now += TICK;
        let mut stray = std::mem::take(&mut self.stray);
        stray.iter_mut().for_each(|write| self.land(write));
        stray.retain(|write| write.granted.is_none());
        self.stray = stray;
        for at in 0..self.processes.len() {
            // It stands still for a moment, whatever it was doing.
            if self.disturbed && self.random.one_in(4) {
                continue;
            }
            let mut process = self.processes.remove(at);
            if self.disturbed && self.random.one_in(2000) {
                process = self.start();
            }
            let process = self.step(process);
            self.processes.insert(at, process);
        }
        let leaders = self.leaders();
        assert!(leaders.len() <= 1, "{leaders:?} lead at {}", self.now);
    }

    fn leaders(&self) -> Vec<&str> {
        let leads = |one: &&Process| one.candidate.leads(clock(self.now, one));
        self.processes.iter().filter(leads).map(|one| one.candidate.identity.as_str()).collect()
    }

    fn step(&mut self, mut process: Process) -> Process {
        let here = clock(self.now, &process);
        process.phase = match process.phase {
            Phase::Asleep { until } if self.now >= until => {
                let delay = self.delay();
                Phase::Reading { arrives: self.now + delay }
            }
            Phase::Reading { arrives } if self.now >= arrives => {
                process.candidate.saw(self.lease.as_ref(), here);
                match process.candidate.decide(here, wall(self.now / 1000)) {
                    Step::Lost => return self.start(),
                    Step::Wait(pause) => Phase::Asleep { until: self.now + millis(pause) },
                    Step::Write(spec) => self.write(*spec, here),
                }
            }
            Phase::Writing(mut write) => {
                self.land(&mut write);
                self.answer(&mut process.candidate, write)
            }
            phase => phase,
        };
        process
    }

    fn write(&mut self, spec: LeaseSpec, asked: Duration) -> Phase {
        let lands = self.now + self.delay();
        let answers = lands + self.delay();
        let is_lost = self.disturbed && self.random.one_in(8);
        Phase::Writing(Write {
            spec,
            over: self.version,
            asked,
            lands,
            answers: (!is_lost).then_some(answers),
            gives_up: self.now + millis(TIMES.renew / 2),
            granted: None,
        })
    }

    fn answer(&mut self, candidate: &mut Candidate, write: Write) -> Phase {
        if self.now >= write.gives_up {
            self.stray.push(write);
            return Phase::Asleep { until: self.now + millis(TIMES.renew / 5) };
        }
        match (write.granted, write.answers) {
            (Some(true), Some(at)) if self.now >= at => {
                self.terms += usize::from(candidate.renewed.is_none());
                candidate.wrote(&write.spec, write.asked);
                Phase::Asleep { until: self.now + millis(TIMES.renew) }
            }
            (Some(false), Some(at)) if self.now >= at => {
                Phase::Asleep { until: self.now + millis(TIMES.renew / 5) }
            }
            _ => Phase::Writing(write),
        }
    }
}

fn clock(now: u64, process: &Process) -> Duration {
    Duration::from_millis(now + process.offset)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

#[test]
fn there_are_never_two_leaders_and_in_the_end_there_is_one() {
    let mut terms = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        while world.now < 600_000 {
            world.tick();
        }
        world.disturbed = false;
        while world.now < 700_000 {
            world.tick();
        }
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
        terms += world.terms;
    }
    assert!(terms > 450, "leaders change, or this tests nothing: {terms}");
}
