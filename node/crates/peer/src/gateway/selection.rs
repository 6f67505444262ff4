//! Which of the peers that could answer are asked first (Fabric:
//! internal/pkg/gateway/registry.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::Inner;
use super::plan::Plan;
use crate::channel::Channel;
use crate::discovery::analysis::Descriptor;
use crate::membership::message::PkiId;
use crate::membership::{ChannelPeer, Member};

/// This peer is asked first unless another one is ahead by more than this many blocks. Heights of
/// others are known with a delay; and what a client has seen committed, it has seen here.
const TOLERANCE: u64 = 2;

/// Peers that have a chaincode.
pub(super) struct Candidates(Vec<ChannelPeer>);

impl Inner {
    /// The peers of a channel that have a chaincode. System chaincodes are everywhere.
    pub(super) fn candidates(&self, channel: &Channel, chaincode: &str) -> Candidates {
        let membership = self.deps.endorsers.membership();
        let system = crate::syscc::is_system(chaincode);
        let having = |peers: Vec<ChannelPeer>| -> Vec<ChannelPeer> {
            peers.into_iter().filter(|peer| system || peer.state.has(chaincode)).collect()
        };
        let found = having(membership.channel_peers(channel));
        if found.iter().any(|peer| peer.member.is_self) {
            return Candidates(found);
        }
        Candidates(having(membership.fresh_channel_peers(channel)))
    }

    /// The same peers, those that answer first.
    pub(super) fn healthy_first(&self, mut peers: Vec<Arc<Member>>) -> Vec<Arc<Member>> {
        let now = Instant::now();
        peers.sort_by_cached_key(|peer| self.endorser_health.standing(&peer.endpoint, now));
        peers
    }

    /// Turns who could endorse into whom to ask. `first` has endorsed; equal choices go by `turn`.
    pub(super) fn plan(
        &self,
        channel: &Channel,
        descriptor: &Descriptor,
        first: &Arc<Member>,
        turn: usize,
    ) -> (Plan, Vec<Arc<Member>>) {
        let heights: BTreeMap<PkiId, u64> = self
            .deps
            .endorsers
            .membership()
            .channel_peers(channel)
            .iter()
            .map(|peer| (peer.member.id, peer.state.height))
            .collect();
        let mut peers: Vec<Arc<Member>> = vec![Arc::clone(first)];
        let mut groups = Vec::with_capacity(descriptor.groups.len());
        for group in &descriptor.groups {
            // Who is not in touch any more has no height.
            let known = group
                .peers
                .iter()
                .filter_map(|peer| heights.get(&peer.id).map(|height| (*height, Arc::clone(peer))));
            let mut indices = Vec::new();
            for member in self.healthy_first(sorted(known.collect(), turn)) {
                let index = peers.iter().position(|known| known.id == member.id);
                indices.push(index.unwrap_or_else(|| {
                    peers.push(member);
                    peers.len() - 1
                }));
            }
            groups.push(indices);
        }
        let layouts = ordered(descriptor, &groups, turn);
        let mut plan = Plan::new(peers.len(), groups, layouts);
        plan.endorsed(0);
        (plan, peers)
    }
}

/// Layouts that the first endorsement counts for, then small ones, first; equal ones take turns.
fn ordered(
    descriptor: &Descriptor,
    groups: &[Vec<usize>],
    turn: usize,
) -> Vec<BTreeMap<usize, usize>> {
    let has_first = |group: &usize| groups.get(*group).is_some_and(|peers| peers.contains(&0));
    let missing = |layout: &BTreeMap<usize, usize>| {
        let wanted: usize = layout.values().sum();
        wanted - usize::from(layout.keys().any(has_first)).min(wanted)
    };
    let mut layouts = descriptor.layouts.clone();
    let count = layouts.len().max(1);
    layouts.rotate_left(turn % count);
    layouts.sort_by_key(missing);
    layouts
}

impl Candidates {
    /// The organizations that have a candidate, each with its candidates as [`sorted`] puts them.
    pub(super) fn by_org(self, turn: usize) -> BTreeMap<String, Vec<Arc<Member>>> {
        let mut orgs: BTreeMap<String, Vec<(u64, Arc<Member>)>> = BTreeMap::new();
        for ChannelPeer { member, state } in self.0 {
            let org = member.identity.claimed_msp_id().to_string();
            orgs.entry(org).or_default().push((state.height, member));
        }
        orgs.into_iter().map(|(org, peers)| (org, sorted(peers, turn))).collect()
    }

    pub(super) fn into_sorted(self, turn: usize) -> Vec<Arc<Member>> {
        sorted(self.0.into_iter().map(|peer| (peer.state.height, peer.member)).collect(), turn)
    }
}

/// Peers by height, the highest first; those at about the same height take turns. This one comes
/// first unless it is behind.
fn sorted(mut peers: Vec<(u64, Arc<Member>)>, turn: usize) -> Vec<Arc<Member>> {
    let highest = peers.iter().map(|(height, _)| *height).max().unwrap_or_default();
    let count = peers.len().max(1);
    peers.rotate_left(turn % count);
    peers.sort_by_key(|(height, member)| {
        let behind = highest.saturating_sub(*height);
        let behind = if behind <= TOLERANCE { 0 } else { behind };
        (behind, !member.is_self)
    });
    peers.into_iter().map(|(_, member)| member).collect()
}
