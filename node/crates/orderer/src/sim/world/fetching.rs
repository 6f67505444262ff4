//! Blocks from other orderers.

use weft_config::Bundle;
use weft_protos::common::Block;

use super::super::fixture;
use super::super::host::Fetch;
use super::super::record::Violation;
use super::{What, World};
use crate::chain::core::{Input, Ticket};
use crate::replication::{Ahead, ChainEnd, Next, Pull, Source};

/// Blocks that one step brings.
const AT_ONCE: usize = 4;

impl World {
    /// Number of blocks that another orderer shows.
    pub(super) fn height_at(&self, host: u64, source: &Source) -> Option<u64> {
        let other = self.at(&source.address)?;
        let up = self.cuts.are_linked(host, other) && !self.hosts[other as usize].paused;
        let running = self.hosts[other as usize].running.as_ref().filter(|_| up)?;
        Some(running.store.height())
    }

    fn block_at(&self, source: &Source, number: u64) -> Option<Block> {
        let other = self.at(&source.address)?;
        let running = self.hosts[other as usize].running.as_ref()?;
        running.store.block(number).ok().flatten()
    }

    pub(super) fn fetch(&mut self, host: u64, ticket: Ticket) {
        let Some(running) = &mut self.host(host).running else { return };
        let Some(mut fetch) = running.fetch.take_if(|fetch| fetch.ticket == ticket) else { return };
        let delay = self.fetch_step(host, &mut fetch);
        let life = self.host(host).life;
        let Some(running) = &mut self.host(host).running else { return };
        match delay {
            Some(delay) => {
                running.fetch = Some(fetch);
                self.calendar.after(delay, What::Fetch { host, life, ticket });
            }
            None => running.inbox.push_back(Input::PullEnded(ticket)),
        }
        self.work(host);
    }

    /// One step of fetching blocks; when the next is due.
    fn fetch_step(&mut self, host: u64, fetch: &mut Fetch) -> Option<u64> {
        let now = self.now();
        let settings = fixture::settings(&self.host(host).node).cluster.replication;
        let limit = match fetch.pull.until() {
            Some(_) => settings.pull_timeout,
            None => settings.refresh_interval,
        };
        let Some((source, silent)) = fetch.asked.clone() else {
            return match fetch.pull.next() {
                Next::Done => None,
                Next::Rest { .. } => Some(settings.retry_interval.as_millis() as u64),
                Next::Ask(source) => {
                    fetch.asked = Some((source, now + limit.as_millis() as u64));
                    Some(self.rng.range(1, self.fetch_ms + 1))
                }
            };
        };
        let more = self.height_at(host, &source).is_some_and(|height| height > fetch.pull.height());
        if !fetch.pull.wants_more() || (!more && silent <= now) {
            fetch.asked = None;
            return Some(1);
        }
        if !more {
            return Some(40);
        }
        fetch.asked = Some((source.clone(), now + limit.as_millis() as u64));
        for _ in 0..AT_ONCE {
            let wanted = fetch.pull.wants_more();
            let Some(block) = self.block_at(&source, fetch.pull.height()).filter(|_| wanted) else {
                break;
            };
            match fetch.pull.take(block) {
                Ok(pulled) => {
                    if let Some(running) = &mut self.host(host).running {
                        running.inbox.push_back(Input::Pulled(fetch.ticket, pulled));
                    }
                }
                Err(error) => self.fail(Violation::Stopped { host, error: error.to_string() }),
            }
        }
        Some(self.rng.range(1, self.fetch_ms + 1))
    }

    pub(super) fn look_ahead(&self, host: u64, from: ChainEnd, trusted: &Bundle) -> Option<Ahead> {
        let own = self.hosts[host as usize].node.endpoint.to_string();
        let sources = crate::replication::chain::sources(&own, trusted);
        let newest = sources
            .into_iter()
            .filter_map(|source| self.height_at(host, &source).map(|height| (height, source)));
        let (height, source) = newest.max_by_key(|(height, _)| *height)?;
        let mut bundle = from.bundle.clone().unwrap_or_else(|| trusted.clone());
        let mut pull = Pull::new(fixture::channel(), own, from, Some(height), trusted.clone());
        let mut last = None;
        while pull.wants_more() {
            let pulled = pull.take(self.block_at(&source, pull.height())?).ok()?;
            bundle = pulled.next.unwrap_or(bundle);
            last = Some(pulled.block);
        }
        last.map(|newest| Ahead { newest, bundle })
    }
}
