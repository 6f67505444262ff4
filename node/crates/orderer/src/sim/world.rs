//! The event loop: orderers, their disks, and the network between them.

mod clients;
mod control;
mod fetching;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_consensus::sim::Rng;
use weft_consensus::sim::net::{Calendar, Cuts, Network};
use weft_consensus::{Millis, NodeId};
use weft_protos::common::Block;

use super::fixture;
use super::host::{Down, Fetch, Host, Running};
use super::record::{Record, Violation};
use crate::chain::core::{Answer, Effect, Input, Loaded, Now, Ticket};
use crate::chain::{ChainError, carry};
use crate::replication::{ChainEnd, Pull, Source};
use clients::Handed;

/// What happens at a time.
pub(super) enum What {
    Arrive { from: u64, to: u64, message: Bytes },
    Timer { host: u64, life: u64 },
    Synced { host: u64, life: u64 },
    Fetch { host: u64, life: u64, ticket: Ticket },
    Probed { host: u64, life: u64, others: Vec<Source> },
    Scouted { host: u64, life: u64, from: ChainEnd, trusted: Arc<Bundle> },
    Handed(Handed),
    Answered { host: u64, life: u64, ticket: Ticket, answer: Answer, envelope: Bytes },
    Reopen { host: u64, life: u64 },
    Join { host: u64 },
}

/// What a planted bug changes; nothing in the orderer that is tested.
#[derive(Clone, Copy, Default)]
pub struct Bug {
    /// On the effects of every drain.
    pub twist: Option<fn(Vec<Effect>) -> Vec<Effect>>,
    /// Whether a failed join deletes the store, as it once did.
    pub join_deletes: bool,
}

/// How often things happened: whether a run tested what it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub crashes: u64,
    pub failures: u64,
    pub joins: u64,
    pub refused_joins: u64,
    pub catch_ups: u64,
    pub forwards: u64,
    pub grown: u64,
    pub shrunk: u64,
    pub leader_changes: u64,
    pub dropped: u64,
}

/// A simulated network of orderers with one channel.
pub struct World {
    pub rng: Rng,
    calendar: Calendar<What>,
    pub hosts: Vec<Host>,
    pub cuts: Cuts,
    pub network: Network,
    /// The longest that a sync takes, and a step of fetching blocks.
    pub sync_ms: u64,
    pub fetch_ms: u64,
    /// Of a thousand syncs, how many fail.
    pub failing_syncs: u64,
    pub record: Record,
    pub counts: Counts,
    pub violation: Option<Violation>,
    pub genesis: Block,
    /// The newest config block anywhere, and the configuration in it.
    pub config: (Block, Arc<Bundle>),
    bug: Bug,
    sent: u64,
    replies: BTreeMap<Ticket, (u64, u64, Ticket, Bytes)>,
    replied: Ticket,
    trace: u64,
}

impl World {
    /// A channel with so many consenters, which are still to be joined.
    pub fn new(consenters: usize, seed: u64, bug: Bug) -> Self {
        let genesis = fixture::genesis_block(consenters);
        let bundle = Arc::new(fixture::bundle(&genesis));
        Self {
            rng: Rng::new(seed),
            calendar: Calendar::default(),
            hosts: fixture::network().orderers.iter().cloned().map(Host::new).collect(),
            cuts: Cuts::default(),
            network: Network::good(),
            sync_ms: 3,
            fetch_ms: 20,
            failing_syncs: 0,
            record: Record::default(),
            counts: Counts::default(),
            violation: None,
            config: (genesis.clone(), bundle),
            genesis,
            bug,
            sent: 0,
            replies: BTreeMap::new(),
            replied: 0,
            trace: 0,
        }
    }

    pub fn now(&self) -> u64 {
        self.calendar.now()
    }

    /// Equal for equal runs.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    fn mix(&mut self, values: &[u64]) {
        for value in values.iter().chain(&[self.calendar.now()]) {
            self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
    }

    /// The numbers of all orderers.
    pub fn all(&self) -> Vec<u64> {
        (0..self.hosts.len() as u64).collect()
    }

    /// Who takes envelopes.
    pub fn leader(&self) -> Option<u64> {
        let leads = |host: &u64| {
            let host = &self.hosts[*host as usize];
            !host.paused && host.running.as_ref().is_some_and(|r| r.core.view().status.leading)
        };
        self.all().into_iter().find(leads)
    }

    pub fn host(&mut self, host: u64) -> &mut Host {
        &mut self.hosts[host as usize]
    }

    /// Lets `ms` milliseconds pass.
    ///
    /// # Errors
    /// The first violation.
    pub fn run(&mut self, ms: u64) -> Result<(), Violation> {
        let end = self.now() + ms;
        while self.violation.is_none() {
            let Some(what) = self.calendar.next(end) else { break };
            self.happen(what);
        }
        self.calendar.pass(end);
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub fn fail(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive { from, to, message } => self.arrive(from, to, message),
            What::Handed(handed) => self.handed(handed),
            What::Join { host } => self.join(host),
            What::Timer { host, life } if self.lives(host, life) => {
                if let Some(running) = &mut self.host(host).running {
                    running.timer = None;
                }
                self.give(host, Input::Time);
            }
            What::Synced { host, life } if self.lives(host, life) => self.synced(host),
            What::Fetch { host, life, ticket } if self.lives(host, life) => {
                self.fetch(host, ticket);
            }
            What::Probed { host, life, others } if self.lives(host, life) => {
                let newest = others.iter().map(|other| self.height_at(host, other));
                let ahead = newest.flatten().any(|height| height > 1);
                self.give(host, Input::Probed { ahead });
            }
            What::Scouted { host, life, from, trusted } if self.lives(host, life) => {
                let found = self.look_ahead(host, from, &trusted);
                self.give(host, Input::Scouted(found));
            }
            What::Answered { host, life, ticket, answer, envelope } if self.lives(host, life) => {
                if answer == Answer::Taken {
                    self.host(host).holds.remove(&envelope);
                }
                self.give(host, Input::Answered(ticket, answer));
            }
            What::Reopen { host, life } => {
                let place = self.host(host);
                if place.life == life && place.down == Down::Failed {
                    self.start(host);
                }
            }
            _ => {}
        }
    }

    fn lives(&self, host: u64, life: u64) -> bool {
        self.hosts[host as usize].life == life && self.hosts[host as usize].running.is_some()
    }

    /// Gives a channel that runs an input, and lets it work.
    pub fn give(&mut self, host: u64, input: Input) {
        if let Some(running) = &mut self.host(host).running {
            running.inbox.push_back(input);
            self.work(host);
        }
    }

    fn moment(&self) -> Now {
        Now { at: Millis(self.now()), wall: fixture::wall(self.now()) }
    }

    /// As the actor: take in what arrived, carry out what comes of it, wait for the disk.
    pub fn work(&mut self, host: u64) {
        while self.violation.is_none() && self.execute(host) {
            let (now, bug) = (self.moment(), self.bug);
            let Some(running) = self.host(host).awake() else { return };
            let effects = take_in(running, now);
            let mut effects = match effects {
                Ok(effects) => effects,
                Err(error) => return self.stopped(host, &error),
            };
            if let Some(twist) = bug.twist {
                effects = twist(effects);
            }
            if !effects.is_empty() {
                running.effects.extend(effects);
            } else if running.answers.is_empty() {
                if running.core.is_done(!running.queue.is_empty()) {
                    self.ended(host);
                } else {
                    self.set_timer(host);
                }
                return;
            }
        }
    }

    fn set_timer(&mut self, host: u64) {
        let now = self.now();
        let life = self.host(host).life;
        let Some(running) = &mut self.host(host).running else { return };
        let Some(wakeup) = running.core.wakeup() else { return };
        let at = wakeup.0.max(now + 1);
        if running.timer.is_none_or(|set| at < set) {
            running.timer = Some(at);
            self.calendar.after(at - now, What::Timer { host, life });
        }
    }

    /// Carries effects out until one has to wait for the disk. Whether all are done.
    fn execute(&mut self, host: u64) -> bool {
        loop {
            let nonce = fixture::nonce(&mut self.rng);
            let place = &mut self.hosts[host as usize];
            let (identity, disk) = (place.node.identity.clone(), place.disk.clone());
            let Some(running) = place.awake().filter(|running| running.syncing.is_none()) else {
                return false;
            };
            let Some(effect) = running.effects.pop_front() else { return true };
            let syncs = effect.syncs();
            let block = matches!(effect, Effect::Append { .. } | Effect::Copy(_));
            match carry::out(effect, &running.store, &identity, || Ok(nonce)) {
                Ok(Some(effect)) => self.carry(host, effect),
                Ok(None) => {
                    running.syncing = syncs.then(|| disk.written());
                    if block {
                        self.wrote(host);
                    }
                    if syncs {
                        let (delay, life) =
                            (self.rng.range(0, self.sync_ms + 1), self.host(host).life);
                        self.calendar.after(delay, What::Synced { host, life });
                    }
                }
                Err(error) => {
                    self.stopped(host, &error);
                    return false;
                }
            }
        }
    }

    fn synced(&mut self, host: u64) {
        if self.rng.range(0, 1000) < self.failing_syncs {
            // What is on the disk is unknown then, and the process ends.
            return self.crash(host);
        }
        let place = self.host(host);
        let written = place.running.as_mut().and_then(|running| running.syncing.take());
        place.disk.sync(written.unwrap_or_default());
        self.work(host);
    }

    /// A block was added to a host's chain.
    fn wrote(&mut self, host: u64) {
        let Some(running) = &self.host(host).running else { return };
        let Ok(Some(block)) = running.store.newest() else { return };
        let number = block.header.as_ref().map_or(0, |header| header.number);
        let (known, now) = (self.record.height(), self.now());
        self.mix(&[host, number, weft_types::block::transactions(&block).len() as u64]);
        if let Err(violation) = self.record.block(host, &block, now) {
            return self.fail(violation);
        }
        if self.record.height() > known && weft_config::block::is_config_block(&block) {
            self.reconfigured(block);
        }
    }

    /// The channel has a new configuration; whoever it adds is joined by an operator.
    fn reconfigured(&mut self, block: Block) {
        let bundle = Arc::new(fixture::bundle(&block));
        self.config = (block, bundle);
        for host in self.consenters() {
            if self.host(host).down == Down::NotJoined && self.host(host).running.is_none() {
                let delay = self.rng.range(1, 3_000);
                self.calendar.after(delay, What::Join { host });
            }
        }
    }

    /// The consenters of the newest configuration.
    pub fn consenters(&self) -> Vec<u64> {
        let members = crate::membership::raft_consenters(&self.config.1);
        let at = members.iter().filter_map(|member| self.at(&member.endpoint.to_string()));
        at.collect()
    }

    fn at(&self, address: &str) -> Option<u64> {
        let place = |host: &Host| host.node.endpoint.to_string() == address;
        self.hosts.iter().position(place).map(|at| at as u64)
    }

    fn carry(&mut self, host: u64, effect: Effect) {
        let life = self.host(host).life;
        let Some(running) = &mut self.hosts[host as usize].running else { return };
        match effect {
            Effect::Send { to, message } => self.send(host, to, message),
            Effect::Forward { ticket, to, envelope, sequence } => {
                self.counts.forwards += 1;
                self.record.handed(&envelope);
                match address_of(running, to) {
                    Some(address) => {
                        let Some(to) = self.at(&address) else { return };
                        let ticket = Some(ticket);
                        self.hand(Handed { from: host, life, ticket, to, envelope, sequence });
                    }
                    None => running.answers.push_back(Input::Answered(ticket, Answer::NotNow)),
                }
            }
            Effect::Reply(ticket, outcome) => self.reply(ticket, outcome.0),
            Effect::Dropped(_, count) => {
                self.counts.dropped += count as u64;
                self.record.dropped += count;
            }
            Effect::Remake(submit) => {
                let made = self.remake(host, &submit.envelope);
                if let Some(running) = &mut self.host(host).running {
                    running.answers.push_back(Input::Remade(submit, made));
                }
            }
            Effect::Adopt(bundle) => running.bundle = bundle,
            Effect::Link(None) => (running.node, running.view) = (None, Default::default()),
            Effect::Link(Some((node, view))) => {
                (running.node, running.view) = (Some(node), *view);
            }
            Effect::LeaderChanged => self.counts.leader_changes += 1,
            Effect::Load => self.load(host),
            Effect::Probe(others) => {
                let delay = self.rng.range(1, 1_000);
                self.calendar.after(delay, What::Probed { host, life, others });
            }
            Effect::Pull { ticket, from, until, trusted } => {
                self.counts.catch_ups += u64::from(until.is_some());
                let own = self.hosts[host as usize].node.endpoint.to_string();
                let pull = Pull::new(fixture::channel(), own, from, until, (*trusted).clone());
                if let Some(running) = &mut self.host(host).running {
                    running.fetch = Some(Fetch { ticket, pull, asked: None });
                }
                self.calendar.after(5, What::Fetch { host, life, ticket });
            }
            Effect::StopPulling => running.fetch = None,
            Effect::Scout { from, trusted } => {
                let delay = self.rng.range(5, 500);
                self.calendar.after(delay, What::Scouted { host, life, from, trusted });
            }
            Effect::Persist { .. }
            | Effect::Append { .. }
            | Effect::Copy(_)
            | Effect::ForgetLog
            | Effect::JoinBlock(_) => {}
        }
    }

    fn load(&mut self, host: u64) {
        let (seed, tls_key) = (self.rng.draw(), self.host(host).key.clone());
        let Some(running) = &mut self.host(host).running else { return };
        let (Ok(node), Ok(records)) = (running.store.node(), running.store.engine_records()) else {
            return;
        };
        running.answers.push_back(Input::Loaded(Loaded { node, records, tls_key, seed }));
    }

    fn send(&mut self, from: u64, to: NodeId, message: Bytes) {
        self.mix(&[from, to]);
        let Some(running) = &mut self.hosts[from as usize].running else { return };
        let Some(address) = address_of(running, to) else {
            return running.answers.push_back(Input::Unreachable(to));
        };
        let Some(host) = self.at(&address) else { return };
        let network = self.network;
        if self.cuts.is_cut(from, host) || network.loses(&mut self.rng) {
            if self.rng.range(0, 4) == 0
                && let Some(running) = &mut self.host(from).running
            {
                running.inbox.push_back(Input::Unreachable(to));
            }
            return;
        }
        for delay in network.copies(&mut self.rng) {
            let message = message.clone();
            self.calendar.after(delay, What::Arrive { from, to: host, message });
        }
    }

    /// The sender is known by its certificate.
    fn arrive(&mut self, from: u64, to: u64, message: Bytes) {
        let key = self.host(from).key.clone();
        let Some(running) = &self.host(to).running else { return };
        if let Some(from) = running.view.id_of(&key) {
            self.give(to, Input::Message { from, message });
        }
    }
}

/// Takes in what arrived, as far as it is taken, and asks what follows.
fn take_in(running: &mut Running, now: Now) -> Result<Vec<Effect>, ChainError> {
    while let Some(input) = running.answers.pop_front().or_else(|| running.inbox.pop_front()) {
        running.core.take(now, input)?;
    }
    while running.core.takes_submits() {
        let Some(submit) = running.queue.pop_front() else { break };
        running.core.take(now, Input::Submit(submit))?;
    }
    running.core.drain(now)
}

fn address_of(running: &Running, node: NodeId) -> Option<String> {
    running.view.node(node).filter(|_| running.node != Some(node)).map(|n| n.endpoint.to_string())
}
