//! What a channel's status says.

use std::collections::BTreeMap;

use super::{Done, QUIET, SOON, status_of};
use crate::api::{Channel, ChannelStatus};
use crate::cluster::conditions::{Finding, kind};
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::report::Report;
use crate::cluster::events::Note;
use crate::cluster::ledger::channel::{ChannelOutcome, ConfigState};

/// Everything that is known, in the status's words.
pub(super) fn report(context: &Context, object: &Channel, done: Done) -> Report<ChannelStatus> {
    let outcome = &done.outcome;
    let parts = [Some(config(&outcome.config)), orderers(outcome), Some(peers(outcome))];
    let parts: Vec<Finding> = parts.into_iter().flatten().collect();
    let all_well = parts.iter().all(|part| part.status == Some(true));
    let (orderer_heights, peer_heights) = heights(outcome);
    for (node, height) in &outcome.heights {
        context.metrics.height(&context.key(object), &object.spec.network_ref, node, *height);
    }
    let height = peer_heights.values().chain(orderer_heights.values()).max().copied();
    let did = outcome.did.iter().map(|text| Note::normal("ChannelChanged", text.clone()));
    Report {
        status: ChannelStatus {
            height,
            consenters: consenters(object, &done),
            leader: outcome.leader.clone(),
            term: outcome.term,
            genesis_hash: Some(done.genesis_hash.clone()),
            config_sequence: outcome.sequence,
            orderer_heights,
            peer_heights,
            ..status_of(object)
        },
        parts,
        ready: format!("is at height {}", height.unwrap_or(0)),
        notes: done.notes.clone().into_iter().chain(did).collect(),
        again: if all_well { QUIET } else { SOON },
    }
}

fn config(state: &ConfigState) -> Finding {
    let no = |reason, text: &str| Finding::no(kind::CONFIG, reason, text);
    match state {
        ConfigState::InSync => {
            Finding::yes(kind::CONFIG, "InSync", "the config on the ledger is what the spec says")
        }
        ConfigState::Waiting(waiting) => no(waiting.reason, &waiting.message),
        ConfigState::NeedsSignatures(needed) => {
            let problem = needed.problem.iter().map(|problem| format!("; {problem}"));
            let text = format!("{}{}", needed.message, problem.collect::<String>());
            no("SignaturesNeeded", &text)
        }
        ConfigState::Refused(refused) => no(refused.reason, &refused.message),
    }
}

/// Told only while orderers have trouble with the channel: whether they are there is for their
/// network to say.
fn orderers(outcome: &ChannelOutcome) -> Option<Finding> {
    let waiting = outcome.orderers.as_ref()?;
    Some(Finding::no(kind::ORDERERS, waiting.reason, &waiting.message))
}

fn peers(outcome: &ChannelOutcome) -> Finding {
    match &outcome.peers {
        None => Finding::yes(kind::PEERS, "Joined", "every peer of its members has joined"),
        Some(waiting) => Finding::no(kind::PEERS, waiting.reason, &waiting.message),
    }
}

fn heights(outcome: &ChannelOutcome) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let heights = outcome.heights.clone().into_iter();
    heights.partition(|(node, _)| outcome.observation.orderers.contains_key(node))
}

/// The consenters, each with the certificate that the config pins. In sync, these are the
/// certificates that the nodes have; otherwise what was pinned before still is.
fn consenters(object: &Channel, done: &Done) -> BTreeMap<String, String> {
    let before = status_of(object).consenters;
    let in_sync = matches!(done.outcome.config, ConfigState::InSync);
    let pinned = |name: &String| {
        let current = done.certificates.get(name).filter(|_| in_sync);
        current.or_else(|| before.get(name)).cloned().unwrap_or_default()
    };
    done.outcome.consenters.iter().map(|name| (name.clone(), pinned(name))).collect()
}
