//! Envelopes: into batches and to the engine where this node leads, on to the leader where
//! another does, and into custody while nobody does.

use bytes::Bytes;
use tracing::{info, warn};
use weft_config::Bundle;
use weft_consensus::{Change, Entry, Event, Severity};
use weft_protos::common::Status;

use super::batch::{Config, Proposal};
use super::{Answer, Core, Effect, Loss, Submit, Ticket};
use crate::answer::Outcome;
use crate::chain::{ChainError, parse};
use crate::membership;
use crate::msgprocessor::{Processor, Rejection};

fn leadership_lost() -> Outcome {
    (Status::ServiceUnavailable, "leadership was lost".to_owned())
}

impl Core {
    /// Whether this node can take an envelope into a batch.
    pub(super) fn has_room(&self) -> bool {
        !self.config_in_flight && self.batcher.has_room() && !self.custody.has_waiting()
    }

    pub(super) fn leads_or_follows(&self) -> bool {
        self.leading || self.leader.is_some()
    }

    pub(super) fn submit(&mut self, submit: Submit) {
        if self.leading && self.has_room() {
            self.order(submit);
        } else if submit.reply.is_some() && !self.leading {
            self.reply(submit.reply, leadership_lost());
        } else {
            self.custody.keep(submit, self.now.at);
        }
    }

    /// Lets go what waits, as far as there is somebody to take it.
    pub(super) fn release(&mut self) {
        if self.leading {
            while !self.config_in_flight && self.batcher.has_room() {
                let Some(submit) = self.custody.next() else { return };
                self.order(submit);
            }
        } else if let Some(to) = self.leader {
            while let Some((envelope, sequence)) = self.custody.send(self.tickets + 1, self.now.at)
            {
                let ticket = self.ticket();
                self.effects.push(Effect::Forward { ticket, to, envelope, sequence });
            }
        }
    }

    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(loss) = self.custody.answered(ticket, answer, self.now.at) {
            self.drop_envelopes(loss, 1);
        }
    }

    /// Gives up what no leader was found for.
    pub(super) fn expire(&mut self) {
        let late = self.custody.expired(self.now.at);
        let gone = self.custody.gave_up(self.now.at) && !self.leads_or_follows();
        for (submit, loss) in late {
            self.give_up(submit, loss);
        }
        while let Some((submit, loss)) = gone.then(|| self.custody.next_lost()).flatten() {
            self.give_up(submit, loss);
        }
    }

    fn give_up(&mut self, submit: Submit, loss: Loss) {
        match submit.reply {
            Some(_) => self.reply(submit.reply, leadership_lost()),
            None => self.drop_envelopes(loss, 1),
        }
    }

    fn drop_envelopes(&mut self, loss: Loss, count: usize) {
        if count > 0 {
            let (channel, reason) = (&self.channel, loss.as_str());
            warn!(%channel, reason, count, "dropped envelopes that were accepted");
            self.effects.push(Effect::Dropped(loss, count));
        }
    }

    fn reply(&mut self, to: Option<Ticket>, outcome: Outcome) {
        self.effects.extend(to.map(|to| Effect::Reply(to, outcome)));
    }

    fn sequence(&self) -> u64 {
        self.bundle.as_ref().map_or(0, |bundle| bundle.sequence())
    }

    /// Takes an envelope into a batch.
    fn order(&mut self, submit: Submit) {
        match submit.config {
            true => self.order_config(submit),
            false => self.order_normal(submit),
        }
    }

    fn order_normal(&mut self, submit: Submit) {
        let Some(bundle) = &self.bundle else { return };
        if submit.sequence < bundle.sequence() {
            let processor = Processor::new(bundle, self.now.wall);
            let checked = parse(&submit.envelope).and_then(|parsed| processor.normal(&parsed));
            if let Err(rejection) = checked {
                info!(channel = %self.channel, %rejection, "the new configuration refuses an envelope");
                return self.drop_envelopes(Loss::Refused, 1);
            }
        }
        self.batcher.add(submit.envelope, self.now.at);
    }

    fn order_config(&mut self, submit: Submit) {
        if submit.sequence < self.sequence() {
            return self.effects.push(Effect::Remake(submit));
        }
        match self.check_config(&submit.envelope) {
            Ok(change) => {
                let Submit { envelope, sequence, reply, .. } = submit;
                self.batcher.add_config(Config { envelope, change, sequence, reply });
            }
            Err(outcome) => self.refuse_config(submit.reply, outcome),
        }
    }

    /// Refuses a configuration: to its sender, or counted where that has an answer already.
    fn refuse_config(&mut self, reply: Option<Ticket>, outcome: Outcome) {
        info!(channel = %self.channel, reason = outcome.1, "refused a configuration");
        match reply {
            Some(_) => self.reply(reply, outcome),
            None => self.drop_envelopes(Loss::Refused, 1),
        }
    }

    pub(super) fn remade(&mut self, submit: Submit, made: Result<(Bytes, u64), Outcome>) {
        match made {
            Ok((envelope, sequence)) => self.submit(Submit { envelope, sequence, ..submit }),
            Err(outcome) => self.refuse_config(submit.reply, outcome),
        }
    }

    /// What a configuration does to the consenters, if it may follow the present one.
    fn check_config(&self, envelope: &Bytes) -> Result<Change, Outcome> {
        let refused = |rejection: Rejection| (rejection.status(), rejection.to_string());
        let invalid = |error: &dyn std::error::Error| (Status::BadRequest, error.to_string());
        let missing = || (Status::ServiceUnavailable, "the channel is not ready".to_owned());
        let bundle = self.bundle.as_ref().ok_or_else(missing)?;
        let running = self.engine.as_ref().ok_or_else(missing)?;
        let parsed = parse(envelope).map_err(refused)?;
        let next = Processor::new(bundle, self.now.wall).config(&parsed).map_err(refused)?;
        let keys = membership::keys(&next).map_err(|error| invalid(&error))?;
        let present = running.engine.status().membership;
        let wanted = present.updated(&keys).map_err(|error| invalid(&error))?;
        running.engine.check_change(&wanted).map_err(|error| invalid(&error))?;
        Ok(present.change_to(&wanted))
    }

    /// Leadership was lost: what was accepted and not proposed waits for the next leader.
    pub(super) fn lose_leadership(&mut self) {
        self.leading = false;
        self.config_in_flight = false;
        let sequence = self.sequence();
        let taken = self.batcher.take_all();
        for envelope in taken.envelopes {
            let submit = Submit { envelope, config: false, sequence, reply: None, _share: None };
            self.custody.keep(submit, self.now.at);
        }
        for Config { envelope, sequence, reply, .. } in taken.configs {
            match reply {
                Some(_) => self.reply(reply, leadership_lost()),
                None => {
                    let submit = Submit { envelope, config: true, sequence, reply, _share: None };
                    self.custody.keep(submit, self.now.at);
                }
            }
        }
    }

    pub(super) fn cut_and_propose(&mut self) -> Result<(), ChainError> {
        let Some(running) = self.engine.as_ref().filter(|_| self.leading) else { return Ok(()) };
        let in_flight = running.engine.status().in_flight;
        match self.stopping {
            Some(_) => self.batcher.cut_now(self.now.at),
            None => self.batcher.cut_if_due(self.now.at, in_flight),
        }
        while let Some(proposal) = self.batcher.next() {
            if !self.propose(proposal)? {
                break;
            }
        }
        Ok(())
    }

    /// Proposes; `false` when the engine takes nothing more for now.
    fn propose(&mut self, proposal: Proposal) -> Result<bool, ChainError> {
        let (now, present) = (self.engine_now(), self.sequence());
        let Some(running) = &mut self.engine else { return Ok(false) };
        let (entry, sequence, config) = match proposal.clone() {
            Proposal::Normal(envelopes) => (Entry::normal(envelopes), present, false),
            Proposal::Config(Config { envelope, sequence, .. }) if sequence < present => {
                // Another came between.
                let Proposal::Config(Config { reply, .. }) = proposal else { return Ok(false) };
                let submit = Submit { envelope, config: true, sequence, reply, _share: None };
                self.effects.push(Effect::Remake(submit));
                return Ok(true);
            }
            Proposal::Config(Config { envelope, change, sequence, .. }) => {
                (Entry::config(envelope, change), sequence, true)
            }
        };
        let envelopes = entry.envelopes.clone();
        match running.engine.receive(now, Event::Propose(entry)) {
            Ok(()) => {
                let index = running.engine.status().last_index;
                self.custody.proposed(index, envelopes, config, sequence);
                self.config_in_flight |= config;
                self.reply(proposal.reply(), (Status::Success, String::new()));
                Ok(true)
            }
            Err(error) if error.severity() == Severity::Stop => Err(ChainError::Engine(error)),
            Err(error) if error.severity() == Severity::Retry => {
                self.batcher.put_back(proposal);
                Ok(false)
            }
            Err(error) => {
                warn!(channel = %self.channel, %error, "the engine refused a batch");
                match proposal.reply() {
                    Some(_) => {
                        self.reply(proposal.reply(), (Status::BadRequest, error.to_string()))
                    }
                    None => self.drop_envelopes(Loss::Refused, envelopes.len()),
                }
                Ok(true)
            }
        }
    }

    /// What the engine's log holds no more of this node's proposals waits for a leader again.
    pub(super) fn find_superseded(&mut self) {
        let Some(running) = self.engine.as_ref().filter(|_| self.custody.has_proposed()) else {
            return;
        };
        let status = running.engine.status();
        if status.catching_up_to.is_none() {
            self.custody.applied(status.applied, self.now.at);
        }
    }

    pub(super) fn adopt_limits(&mut self, bundle: &Bundle) {
        let Some(orderer) = bundle.orderer() else { return };
        self.batcher.configure(orderer);
        if let Some(running) = &mut self.engine {
            running.engine.limit_entries(crate::chain::start::max_entry_bytes(orderer));
        }
    }
}
