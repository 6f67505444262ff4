//! Envelopes: from clients to an orderer, and from there to the leader.

use bytes::Bytes;
use prost::Message as _;
use weft_protos::common::{Envelope, HeaderType, Status};
use weft_types::ParsedEnvelope;

use super::super::fixture::{self, Steady};
use super::super::host::Host;
use super::{What, World, address_of};
use crate::answer::Outcome;
use crate::chain::core::{Answer, Submit, Ticket};
use crate::msgprocessor::{self, Class, Processor};

/// Envelopes that may wait in a queue.
const QUEUE: usize = 200;

/// An envelope on its way to the leader.
pub struct Handed {
    pub from: u64,
    pub life: u64,
    /// For an envelope that was accepted already.
    pub ticket: Option<Ticket>,
    pub to: u64,
    pub envelope: Bytes,
    pub sequence: u64,
}

impl World {
    /// A stream of envelopes loses its end where it breaks, and never one in the middle.
    pub(super) fn hand(&mut self, handed: Handed) {
        let delay = self.network.delay(&mut self.rng);
        self.calendar.after(delay, What::Handed(handed));
    }

    pub(super) fn handed(&mut self, handed: Handed) {
        let Handed { from, life, ticket, to, envelope, sequence } = handed;
        let key = self.host(from).key.clone();
        let reached = !self.cuts.is_cut(from, to) && !self.network.loses(&mut self.rng);
        let known = |host: &Host| {
            host.running.as_ref().is_some_and(|running| running.view.id_of(&key).is_some())
        };
        let answer = match reached && known(self.host(to)) && !self.host(to).paused {
            false => Some(Answer::Unknown),
            true => self.accept(to, &envelope, sequence, ticket.map(|ticket| (from, life, ticket))),
        };
        let (Some(ticket), Some(answer)) = (ticket, answer) else { return };
        self.answer(to, (from, life, ticket, envelope), answer);
    }

    fn answer(&mut self, at: u64, to: (u64, u64, Ticket, Bytes), answer: Answer) {
        let (host, life, ticket, envelope) = to;
        let lost = self.cuts.is_cut(at, host) || self.network.loses(&mut self.rng);
        let answer = if lost { Answer::Unknown } else { answer };
        // Where nothing is heard, the time for an answer passes.
        let delay = if answer == Answer::Unknown { 700 } else { self.network.delay(&mut self.rng) };
        self.calendar.after(delay, What::Answered { host, life, ticket, answer, envelope });
    }

    /// The leader's side of a handed envelope; `None` where the answer comes later.
    fn accept(
        &mut self,
        host: u64,
        envelope: &Bytes,
        sequence: u64,
        from: Option<(u64, u64, Ticket)>,
    ) -> Option<Answer> {
        let Some(running) = self.host(host).awake() else { return Some(Answer::Unknown) };
        if !running.core.view().status.leading || running.queue.len() >= QUEUE {
            return Some(Answer::NotNow);
        }
        let parsed = Envelope::decode(envelope.clone()).ok();
        let parsed = parsed.and_then(|envelope| ParsedEnvelope::from_envelope(envelope).ok());
        let Some(parsed) = parsed else { return Some(Answer::Refused) };
        let config = parsed.header().header_type() == Some(HeaderType::Config);
        self.enqueue(host, envelope.clone(), config, sequence, from);
        (!config).then_some(Answer::Taken)
    }

    fn enqueue(
        &mut self,
        host: u64,
        envelope: Bytes,
        config: bool,
        sequence: u64,
        from: Option<(u64, u64, Ticket)>,
    ) {
        let reply = config.then(|| {
            self.replied += 1;
            self.replied
        });
        if let (Some(reply), Some((from, life, ticket))) = (reply, from) {
            self.replies.insert(reply, (from, life, ticket, envelope.clone()));
        }
        if !config {
            self.record.accepted(&envelope);
            self.host(host).holds.insert(envelope.clone());
        }
        if let Some(running) = &mut self.host(host).running {
            running.queue.push_back(Submit { envelope, config, sequence, reply, _share: None });
            self.work(host);
        }
    }

    pub(super) fn reply(&mut self, ticket: Ticket, status: Status) {
        let Some(to) = self.replies.remove(&ticket) else { return };
        let answer = match status {
            Status::Success => Answer::Taken,
            Status::ServiceUnavailable => Answer::NotNow,
            _ => Answer::Refused,
        };
        let at = to.0;
        self.answer(at, to, answer);
    }

    pub(super) fn remake(&mut self, host: u64, envelope: &Bytes) -> Result<(Bytes, u64), Outcome> {
        let (nonce, wall) = (fixture::nonce(&mut self.rng), fixture::wall(self.now()));
        let refused = || (Status::BadRequest, String::new());
        let identity = self.host(host).node.identity.clone();
        let running = self.host(host).running.as_ref().ok_or_else(refused)?;
        let parsed = Envelope::decode(envelope.clone()).map_err(|_| refused())?;
        let parsed = ParsedEnvelope::from_envelope(parsed).map_err(|_| refused())?;
        let processor = Processor::new(&running.bundle, wall);
        let again = processor.config_again(&parsed, &Steady(&identity), nonce);
        let again = again.map_err(|rejection| (rejection.status(), rejection.to_string()))?;
        Ok((msgprocessor::encode(&again.envelope), running.bundle.sequence()))
    }

    /// A client sends a transaction to an orderer.
    pub fn transact(&mut self, host: u64) {
        let padding = self.rng.range(0, 400) as usize;
        self.transact_large(host, padding);
    }

    /// The same with so many more bytes.
    pub fn transact_large(&mut self, host: u64, padding: usize) {
        self.sent += 1;
        let envelope = fixture::envelope(self.sent, padding, &mut self.rng);
        self.broadcast(host, envelope, Class::Normal);
    }

    /// Checks an envelope and hands it to the leader, as the Broadcast call does.
    pub fn broadcast(&mut self, host: u64, envelope: Envelope, class: Class) -> bool {
        let (nonce, wall) = (fixture::nonce(&mut self.rng), fixture::wall(self.now()));
        let (life, now) = (self.host(host).life, self.now());
        let identity = self.host(host).node.identity.clone();
        let Some(running) = self.host(host).awake() else { return false };
        let Ok(parsed) = ParsedEnvelope::from_envelope(envelope.clone()) else { return false };
        let processor = Processor::new(&running.bundle, wall);
        let checked = match class {
            Class::Normal => processor.normal(&parsed).map(|()| envelope),
            Class::ConfigUpdate => processor
                .config_update(&parsed, &Steady(&identity), nonce)
                .map(|configured| configured.envelope),
        };
        let Ok(envelope) = checked else { return false };
        let (sequence, status) = (running.bundle.sequence(), running.core.view().status);
        let leader = status.leader.filter(|leader| Some(*leader) != status.node);
        let leader = leader.and_then(|leader| address_of(running, leader));
        let (envelope, config) = (msgprocessor::encode(&envelope), class == Class::ConfigUpdate);
        let full = running.queue.len() >= QUEUE;
        if !config {
            self.record.sent(envelope.clone(), now);
        }
        match (status.leading, leader.and_then(|address| self.at(&address))) {
            (true, _) if full => return false,
            (true, _) => self.enqueue(host, envelope, config, sequence, None),
            (false, Some(to)) => {
                let from = host;
                self.hand(Handed { from, life, ticket: None, to, envelope, sequence });
            }
            (false, None) => return false,
        }
        true
    }
}
