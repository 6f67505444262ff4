//! Processes and channels that begin and end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use weft_channels::{Aftermath, Backoff, Channels, JoinRefused, Run, Stores as _};
use weft_protos::common::Block;

use super::super::fixture;
use super::super::host::{Down, Host, Running};
use super::super::record::Violation;
use super::{What, World};
use crate::chain::ChainError;
use crate::chain::core::{Core, Input, Now, Stored};
use crate::registrar::{OpenError, open_store};
use crate::store::ChainStore;

/// Time after which a failed channel is opened again.
const REOPEN: u64 = 5_000;
/// Time after which an operator tries to join again.
const JOIN_AGAIN: u64 = 1_000;

impl World {
    /// A channel ended by itself. A full disk is a fault that was injected; anything else is not.
    pub(super) fn stopped(&mut self, host: u64, error: &ChainError) {
        match error {
            ChainError::Store(store) if store.can_retry() => {
                self.counts.failures += 1;
                self.end(host, Down::Failed);
                let life = self.host(host).life;
                self.calendar.after(REOPEN, What::Reopen { host, life });
            }
            _ => self.fail(Violation::Stopped { host, error: error.to_string() }),
        }
    }

    /// A channel was stopped in order.
    pub(super) fn ended(&mut self, host: u64) {
        let Some(running) = &mut self.host(host).running else { return };
        let queued = running.queue.iter().filter(|submit| submit.reply.is_none()).count();
        let gone = running.core.abandon() + queued;
        let doubtful = running.core.in_doubt();
        self.record.dropped += gone;
        self.record.excuse(&doubtful);
        self.host(host).holds.clear();
        let disk = self.host(host).disk.clone();
        disk.sync(disk.written());
        self.end(host, Down::Crashed);
    }

    fn end(&mut self, host: u64, down: Down) {
        let holds = std::mem::take(&mut self.host(host).holds);
        self.record.excuse(&holds);
        let place = self.host(host);
        if place.running.take().is_some() {
            place.down = down;
        }
        place.life += 1;
        place.paused = false;
    }

    /// Ends a process in order.
    pub fn stop(&mut self, host: u64) {
        if let Some(running) = &mut self.host(host).running {
            running.stopping = true;
        }
        self.give(host, Input::Stop);
    }

    /// Kills a process; its disk loses part of what was not synced.
    pub fn crash(&mut self, host: u64) {
        if self.host(host).down == Down::NotJoined && self.host(host).running.is_none() {
            return;
        }
        self.counts.crashes += 1;
        self.end(host, Down::Crashed);
        self.host(host).down = Down::Crashed;
        let disk = self.host(host).disk.clone();
        disk.crash(&mut self.rng);
    }

    /// Opens the channel of a process that starts, or of a channel that failed.
    pub fn start(&mut self, host: u64) {
        let (now, place) = (self.moment(), self.host(host));
        if place.running.is_some() || place.down == Down::NotJoined {
            return;
        }
        let kv = place.disk.open(&fixture::channel());
        let store = kv.map_err(|error| error.to_string());
        let store = store.map(|opened| opened.into_parts().0);
        let store = store.and_then(|kv| ChainStore::open(kv).map_err(|error| error.to_string()));
        match store.and_then(|store| open(place, store, now)) {
            Ok(running) => {
                place.running = Some(running);
                place.life += 1;
                self.work(host);
            }
            Err(error) => self.fail(Violation::Stopped { host, error }),
        }
    }

    /// An administrator joins an orderer, with the genesis block or the newest config block.
    pub fn join(&mut self, host: u64) {
        let genesis = self.rng.range(0, 4) == 0;
        let block = if genesis { &self.genesis } else { &self.config.0 }.clone();
        let deletes = self.bug.join_deletes;
        if self.host(host).running.is_some() {
            return;
        }
        let before = height_on(self.host(host));
        let disk = self.host(host).disk.clone();
        let joined = self.attempt(host, block);
        if joined.is_err() && deletes {
            disk.wipe();
        }
        match joined {
            Ok(running) => {
                self.counts.joins += 1;
                disk.sync(disk.written());
                let place = self.host(host);
                place.running = Some(running);
                place.life += 1;
                self.wrote(host);
                self.work(host);
            }
            Err(()) => {
                self.counts.refused_joins += 1;
                let after = height_on(self.host(host));
                if after != before {
                    self.fail(Violation::Deleted { host, before, after });
                }
                self.calendar.after(JOIN_AGAIN, What::Join { host });
            }
        }
    }

    /// One join, as the states of a node's channels let it happen.
    fn attempt(&mut self, host: u64, block: Block) -> Result<Running, ()> {
        let (now, place) = (self.moment(), self.host(host));
        let (disk, channel) = (place.disk.clone(), fixture::channel());
        let mut states = Channels::new(Backoff::default());
        if disk.is_kept() {
            states.found(&channel);
        }
        let run: Run = states.join(&channel).map_err(|_: JoinRefused| ())?;
        let (left, opened) = open_store(&disk, &channel, Some(block), |store| {
            open(place, store, now).map_err(|_| OpenError::Broken)
        });
        opened.map_err(|error| {
            let failed = states.failed(&run, Duration::ZERO, left, error.to_string(), error.cure());
            if let Aftermath::Discard(removal) = failed {
                // A simulated disk is always rid of what it is told to delete.
                let _ = disk.remove(&removal);
            }
        })
    }

    /// Plans a join.
    pub fn plan_join(&mut self, host: u64, delay: u64) {
        self.calendar.after(delay, What::Join { host });
    }
}

/// Blocks on a disk.
fn height_on(host: &Host) -> u64 {
    if !host.disk.is_made() {
        return 0;
    }
    ChainStore::open(Arc::new(host.disk.clone())).map_or(0, |store| store.height())
}

fn open(host: &Host, store: ChainStore, now: Now) -> Result<Running, String> {
    let stored = Stored::read(&store).map_err(|error| error.to_string())?;
    let bundle = stored.first_bundle().map_err(|error| error.to_string())?.clone();
    let settings = fixture::settings(&host.node);
    let core = Core::new(fixture::channel(), &settings, stored, &host.key, now);
    Ok(Running {
        core: core.map_err(|error| error.to_string())?,
        store: Arc::new(store),
        effects: VecDeque::new(),
        answers: VecDeque::new(),
        inbox: VecDeque::new(),
        queue: VecDeque::new(),
        bundle: Arc::new(bundle),
        view: Default::default(),
        node: None,
        fetch: None,
        timer: None,
        syncing: None,
        stopping: false,
    })
}
