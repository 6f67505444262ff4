//! Answers in the form that clients read (Fabric: discovery/support).

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_config::{Bundle, OrdererOrg};
use weft_protos::discovery::{
    ConfigResult, EndorsementDescriptor, Endpoint, Endpoints, Layout, Peer, PeerMembershipResult,
    Peers,
};
use weft_protos::gossip::Envelope;

use super::analysis::Descriptor;
use crate::membership::message::PkiId;
use crate::membership::{ChannelPeer, Member, Membership};

/// The MSPs of a channel and its orderers, by organization.
#[must_use]
pub fn config(bundle: &Bundle) -> ConfigResult {
    let orgs = bundle.organizations().into_iter();
    let msps = orgs.map(|org| (org.msp_id.to_string(), org.msp.clone())).collect();
    let orgs: Vec<&OrdererOrg> =
        bundle.orderer().into_iter().flat_map(|orderer| orderer.orgs.values()).collect();
    let own = orgs.iter().any(|org| !org.endpoints.is_empty());
    let orderers = orgs.iter().map(|org| {
        let endpoints = if own { &org.endpoints[..] } else { bundle.orderer_addresses() };
        let endpoint = endpoints
            .iter()
            .map(|at| Endpoint { host: at.host.clone(), port: u32::from(at.port) })
            .collect();
        (org.org.msp_id.to_string(), Endpoints { endpoint })
    });
    ConfigResult { msps, orderers: orderers.collect() }
}

/// All peers, without what they have of channels.
#[must_use]
pub fn local_peers(membership: &Membership) -> PeerMembershipResult {
    by_org(membership.peers().into_iter().map(|member| (member, None)))
}

/// Peers of a channel.
#[must_use]
pub fn channel_peers(peers: Vec<ChannelPeer>) -> PeerMembershipResult {
    by_org(peers.into_iter().map(|peer| (peer.member, Some(peer.state.envelope.clone()))))
}

fn by_org(peers: impl Iterator<Item = (Arc<Member>, Option<Envelope>)>) -> PeerMembershipResult {
    let mut peers_by_org: BTreeMap<String, Peers> = BTreeMap::new();
    for (member, state_info) in peers {
        let org = member.identity.claimed_msp_id().to_string();
        peers_by_org.entry(org).or_default().peers.push(peer(&member, state_info));
    }
    PeerMembershipResult { peers_by_org }
}

fn peer(member: &Member, state_info: Option<Envelope>) -> Peer {
    Peer {
        state_info,
        membership_info: Some(member.alive.clone()),
        identity: member.identity.serialized().clone(),
    }
}

/// Who can endorse. `peers` are the channel's, for what they have of it now.
#[must_use]
pub fn descriptor(descriptor: &Descriptor, peers: &[ChannelPeer]) -> EndorsementDescriptor {
    let states: BTreeMap<PkiId, &ChannelPeer> =
        peers.iter().map(|peer| (peer.member.id, peer)).collect();
    let name = |group: &usize| format!("G{group}");
    let used = |group: &usize| descriptor.layouts.iter().any(|layout| layout.contains_key(group));
    let groups = descriptor.groups.iter().enumerate().filter(|(index, _)| used(index));
    let endorsers_by_groups = groups.map(|(index, group)| {
        let found = group.peers.iter().filter_map(|member| states.get(&member.id));
        let found = found.map(|one| peer(&one.member, Some(one.state.envelope.clone())));
        (name(&index), Peers { peers: found.collect() })
    });
    let layouts = descriptor.layouts.iter().map(|layout| {
        let quantities = layout
            .iter()
            .map(|(group, count)| (name(group), u32::try_from(*count).unwrap_or(u32::MAX)));
        Layout { quantities_by_group: quantities.collect() }
    });
    EndorsementDescriptor {
        chaincode: descriptor.chaincode.clone(),
        endorsers_by_groups: endorsers_by_groups.collect(),
        layouts: layouts.collect(),
    }
}
