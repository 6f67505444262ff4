//! Which change of a Raft channel's consenters comes next. Pure.
//!
//! The rules, in this order; one change at a time, and none while an earlier one is settling:
//!
//! 1. A consenter whose orderer has lost the channel's ledger is removed. It may have voted and
//!    acknowledged under its id what it does not know any more, so it comes back under a new one:
//!    as a follower that catches up, then by rule 3.
//! 2. A consenter whose TLS certificate is not the one in the config gets it exchanged.
//! 3. A wanted orderer that is no consenter is added once it has caught up.
//! 4. A consenter that is not wanted any more is removed: those that are down first, the leader
//!    last.
//!
//! Each change has to leave a majority of the consenters after it able to go on (the orderers
//! check that, too: [`weft_config::transition::Membership::check_quorum`]). Clusters of one or
//! two bear no fault whatever is done, so additions and exchanges are not held up there.

use weft_config::Endpoint;

use super::observe::OrdererChannel;
use super::{Refused, Waiting};
use crate::channel_config::Edit;

/// What is known of an orderer's ledger of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The orderer does not answer.
    Unknown,
    /// It has not joined the channel.
    Missing,
    /// It has a ledger of an earlier channel of this name, which begins with the genesis block of
    /// this hash.
    Foreign(String),
    /// It has joined, and may have failed.
    Has(OrdererChannel),
}

/// An orderer as the consenters of one channel go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name, or its endpoint when it has none here.
    pub name: String,
    /// Where it serves, as the config names it.
    pub endpoint: Endpoint,
    /// Whether it should be a consenter.
    pub wanted: bool,
    /// Whether it is one.
    pub listed: bool,
    /// Whether the certificate in the config is the one that it should have.
    pub current_certificate: bool,
    /// Its ledger.
    pub chain: Chain,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the consenters are those that are wanted.
    Done,
    /// Change the config, and say so.
    Change {
        /// The change.
        edit: Edit,
        /// One sentence for people.
        why: String,
    },
    /// Nothing yet.
    Wait(Waiting),
    /// It would do harm.
    Refuse(Refused),
}

/// The consenters of a channel as they are: who votes, who leads, how far they are.
struct Cluster<'a> {
    all: &'a [Standing],
    height: u64,
    members: usize,
    alive: usize,
}

/// The next change. `height` is the greatest height at any node.
pub fn decide(orderers: &[Standing], height: u64) -> Step {
    let cluster = Cluster::new(orderers, height);
    let lost = orderers.iter().find(|one| one.listed && one.wanted && one.has_lost(height));
    if let Some(lost) = lost {
        return cluster.remove_lost(lost);
    }
    let stale = |one: &&Standing| one.listed && one.wanted && !one.current_certificate;
    if let Some(stale) = orderers.iter().filter(stale).min_by_key(|one| one.leads()) {
        return cluster.exchange(stale);
    }
    if orderers.iter().any(|one| one.wanted && !one.listed) {
        return cluster.add();
    }
    let extra: Vec<&Standing> = orderers.iter().filter(|one| one.listed && !one.wanted).collect();
    match cluster.first_to_go(&extra) {
        Some(extra) => cluster.remove(extra),
        None => Step::Done,
    }
}

impl Standing {
    /// A ledger of more than the genesis block that others have and this orderer has not. One that
    /// has failed is there, and a foreign one says nothing of what was voted.
    fn has_lost(&self, height: u64) -> bool {
        self.chain == Chain::Missing && height > 1
    }

    /// How many blocks it surely has; `None` when it does not say, or has none of this channel.
    pub(super) fn height(&self) -> Option<u64> {
        match &self.chain {
            Chain::Has(chain) if !(chain.has_failed() && chain.height == 0) => Some(chain.height),
            _ => None,
        }
    }

    /// Whether it may have more than it says: it is silent, or its ledger cannot be read.
    pub(super) fn is_silent(&self) -> bool {
        match &self.chain {
            Chain::Unknown => true,
            Chain::Has(chain) => chain.has_failed(),
            Chain::Missing | Chain::Foreign(_) => false,
        }
    }

    fn takes_part(&self, height: u64) -> bool {
        self.listed && matches!(&self.chain, Chain::Has(chain) if chain.takes_part(height))
    }

    fn leads(&self) -> bool {
        matches!(&self.chain, Chain::Has(chain) if chain.is_leader)
    }

    /// What keeps an orderer that should serve the channel from doing so and goes not away by
    /// itself.
    fn trouble(&self) -> Option<(&'static str, String)> {
        let name = &self.name;
        match &self.chain {
            _ if !self.listed && !self.wanted => None,
            Chain::Foreign(genesis) => Some((
                "ForeignLedger",
                format!(
                    "{name} has a ledger of an earlier channel of this name (genesis block \
                     {genesis}): remove the channel there"
                ),
            )),
            Chain::Has(chain) if chain.has_failed() => {
                let why = chain.failure.as_deref().unwrap_or("it does not say why");
                Some(("ChannelFailed", format!("the channel has failed at {name}: {why}")))
            }
            _ => None,
        }
    }
}

/// What keeps orderers from serving the channel; `None` where nothing does.
pub fn troubles(orderers: &[Standing]) -> Option<Waiting> {
    let troubles: Vec<_> = orderers.iter().filter_map(Standing::trouble).collect();
    let reason = troubles.first()?.0;
    let all: Vec<_> = troubles.into_iter().map(|(_, message)| message).collect();
    Some(Waiting::new(reason, all.join("; ")))
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

impl<'a> Cluster<'a> {
    fn new(all: &'a [Standing], height: u64) -> Self {
        let members = all.iter().filter(|one| one.listed).count();
        let alive = all.iter().filter(|one| one.takes_part(height)).count();
        Self { all, height, members, alive }
    }

    fn remove_lost(&self, lost: &Standing) -> Step {
        let name = &lost.name;
        let gone = self.all.iter().filter(|one| one.listed && one.has_lost(self.height)).count();
        if self.members - gone < quorum(self.members) {
            let message = format!(
                "{gone} of {} orderers have lost the channel's ledger; the others cannot agree on \
                 anything without them",
                self.members
            );
            return Step::Refuse(Refused::new("QuorumLost", message));
        }
        if let Some(wait) = self.without_quorum() {
            return Step::Wait(wait);
        }
        if self.alive < quorum(self.members - 1) {
            let message = format!("{name} has lost its ledger and has to be removed");
            return Step::Refuse(self.at_risk(&message, self.alive, self.members - 1));
        }
        let why = format!(
            "Removed {name} from the consenters: it has lost its ledger, and comes back as a new \
             one"
        );
        Step::Change { edit: Edit::RemoveConsenter(lost.endpoint.clone()), why }
    }

    fn exchange(&self, stale: &Standing) -> Step {
        let name = &stale.name;
        if let Some(wait) = self.without_quorum().or_else(|| self.unsettled()) {
            return Step::Wait(wait);
        }
        let alive = self.alive - usize::from(stale.takes_part(self.height));
        if self.members > 2 && alive < quorum(self.members) {
            let message = format!("the certificate of {name} has to be exchanged in the config");
            let at_risk = self.at_risk(&message, alive, self.members);
            return Step::Wait(Waiting::new(at_risk.reason, at_risk.message));
        }
        let why = format!("Exchanged the TLS certificate of {name} in the config");
        Step::Change { edit: Edit::ReplaceConsenter(stale.endpoint.clone()), why }
    }

    fn add(&self) -> Step {
        if let Some(wait) = self.without_quorum().or_else(|| self.unsettled()) {
            return Step::Wait(wait);
        }
        let missing: Vec<_> = self.all.iter().filter(|one| one.wanted && !one.listed).collect();
        let ready = missing
            .iter()
            .find(|one| matches!(&one.chain, Chain::Has(chain) if chain.keeps_up(self.height)));
        let Some(ready) = ready else { return Step::Wait(self.catching_up(&missing)) };
        let after = self.members + 1;
        if after > 2 && self.alive < quorum(after) {
            let message = format!("{} has caught up and is to be added", ready.name);
            let at_risk = self.at_risk(&message, self.alive, after);
            return Step::Wait(Waiting::new(at_risk.reason, at_risk.message));
        }
        let why = format!("Added {} to the consenters", ready.name);
        Step::Change { edit: Edit::AddConsenter(ready.endpoint.clone()), why }
    }

    fn remove(&self, extra: &Standing) -> Step {
        let name = &extra.name;
        if self.members == 1 {
            let message = format!("{name} is the only consenter and cannot be removed");
            return Step::Refuse(Refused::new("QuorumAtRisk", message));
        }
        if let Some(wait) = self.without_quorum().or_else(|| self.unsettled()) {
            return Step::Wait(wait);
        }
        let alive = self.alive - usize::from(extra.takes_part(self.height));
        if alive < quorum(self.members - 1) {
            let message = format!("{name} is to be removed");
            return Step::Refuse(self.at_risk(&message, alive, self.members - 1));
        }
        let why = format!("Removed {name} from the consenters");
        Step::Change { edit: Edit::RemoveConsenter(extra.endpoint.clone()), why }
    }

    /// Those that are down cost the cluster nothing; the leader's going costs an election.
    fn first_to_go<'b>(&self, extra: &[&'b Standing]) -> Option<&'b Standing> {
        let cost = |one: &&&Standing| (one.takes_part(self.height), one.leads());
        extra.iter().rev().min_by_key(cost).copied()
    }

    /// Nothing is agreed on without a majority.
    fn without_quorum(&self) -> Option<Waiting> {
        let needed = quorum(self.members);
        (self.alive < needed).then(|| {
            let message = format!(
                "{} of {} consenters take part, {needed} have to",
                self.alive, self.members
            );
            Waiting::new("NoQuorum", message)
        })
    }

    /// A consenter that runs and does not take part yet: it was just added or started. One with
    /// another certificate than the config's may be waiting for just that change.
    fn unsettled(&self) -> Option<Waiting> {
        let settling = |one: &&Standing| {
            one.listed
                && one.current_certificate
                && matches!(&one.chain, Chain::Has(chain) if !chain.has_failed())
                && !one.takes_part(self.height)
        };
        let one = self.all.iter().find(settling)?;
        let message = format!("consenter {} is catching up", one.name);
        Some(Waiting::new("CatchingUp", message))
    }

    fn catching_up(&self, missing: &[&Standing]) -> Waiting {
        let each = missing.iter().map(|one| match &one.chain {
            Chain::Unknown => format!("{} does not answer", one.name),
            Chain::Missing => format!("{} has yet to join", one.name),
            Chain::Foreign(_) => format!("{} has another ledger of this name", one.name),
            Chain::Has(chain) if chain.has_failed() => format!("{} has failed", one.name),
            Chain::Has(chain) => {
                format!("{} has {} of {} blocks", one.name, chain.height, self.height)
            }
        });
        Waiting::new("CatchingUp", each.collect::<Vec<_>>().join("; "))
    }

    fn at_risk(&self, what: &str, alive: usize, members: usize) -> Refused {
        let needed = quorum(members);
        let message = format!(
            "{what}, but then {alive} of {members} consenters would be up, and {needed} have to be"
        );
        Refused::new("QuorumAtRisk", message)
    }
}

#[cfg(test)]
#[path = "consenters_tests.rs"]
mod tests;
