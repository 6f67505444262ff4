//! Which configuration may follow which, above all for the consenters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use weft_config::{
    Bundle, Consensus, ConsensusState, RaftConsenter,
    consensus::{BftConsenter, BftOptions, bft_quorum},
    edit,
    genesis::ChannelProfile,
    transition::{self, CertificateFault, Membership, MembershipChange, TransitionError},
};
use weft_protos::common::Config;
use weft_testkit::{
    Network, Org,
    clock::{ALWAYS, EXPIRED, FUTURE, NOW},
    network::{OrdererNode, bundle},
    org,
};

/// What applying a change leads to, without asking who may.
fn after(current: &Bundle, change: impl FnOnce(&mut Config)) -> Bundle {
    let mut config = current.config().clone();
    change(&mut config);
    let update =
        weft_config::update::compute(current.channel_id(), current.config(), &config).unwrap();
    // Versions as an update would set them, so that what changed can be told.
    raise(config.channel_group.as_mut().unwrap(), update.write_set.as_ref().unwrap());
    config.sequence += 1;
    Bundle::new(current.channel_id().clone(), config).unwrap()
}

fn raise(group: &mut weft_protos::common::ConfigGroup, written: &weft_protos::common::ConfigGroup) {
    group.version = written.version;
    for (name, value) in &written.values {
        group.values.get_mut(name).unwrap().version = value.version;
    }
    for (name, policy) in &written.policies {
        group.policies.get_mut(name).unwrap().version = policy.version;
    }
    for (name, child) in &written.groups {
        raise(group.groups.get_mut(name).unwrap(), child);
    }
}

fn consensus(
    current: &Bundle,
    change: impl FnOnce(&mut Config),
) -> Result<Membership, TransitionError> {
    transition::check_consensus(current, &after(current, change), NOW)
}

fn places(places: &[usize]) -> BTreeSet<usize> {
    places.iter().copied().collect()
}

fn renewed(node: &OrdererNode, org: &Org) -> RaftConsenter {
    OrdererNode { tls: org.tls(&node.name, &[&node.name]), ..node.clone() }.consenter()
}

// ---- What every node checks ----

#[test]
fn groups_stay() {
    let network = Network::new(1, 1);
    let mut profile = network.profile("supply");
    let current = bundle(&profile);
    profile.application = None;
    let refused = transition::check(&current, &bundle(&profile));
    assert_eq!(refused, Err(TransitionError::GroupRemoved { group: "Application" }));
}

#[test]
fn msp_ids_stay() {
    let network = Network::new(2, 1);
    let mut profile = network.profile("supply");
    let current = bundle(&profile);
    let other = Org::new("OtherMSP");
    profile.application.as_mut().unwrap().orgs[1].msp = other.msp_config();
    match transition::check(&current, &bundle(&profile)) {
        Err(TransitionError::MspId { path, from, to }) => {
            assert_eq!(path, "/Channel/Application/Org2MSP");
            assert_eq!((from.as_str(), to.as_str()), ("Org2MSP", "OtherMSP"));
        }
        other => panic!("{other:?}"),
    }
    // Organizations come and go.
    let orgs = &mut profile.application.as_mut().unwrap().orgs;
    orgs[1] = Network::org_profile(&other);
    transition::check(&current, &bundle(&profile)).unwrap();
}

// ---- Members of a Raft cluster ----

#[test]
fn one_consenter_joins_or_leaves_at_a_time() {
    let network = Network::new(1, 3);
    let current = network.bundle("supply");
    let new = |number| OrdererNode::new(&network.orderer_org, number).consenter();
    let endpoint = |number: usize| network.orderers[number].endpoint.clone();

    let added = consensus(&current, |c| edit::add_consenter(c, &new(3)).unwrap()).unwrap();
    assert_eq!((added.change(), added.members()), (MembershipChange::Added { new: 3 }, 4));
    assert_eq!(added.assign_ids(&[1, 2, 5], 6), (vec![1, 2, 5, 6], 7));

    let removed =
        consensus(&current, |c| edit::remove_consenter(c, &endpoint(1)).unwrap()).unwrap();
    assert_eq!(removed.change(), MembershipChange::Removed { old: 1 });
    assert_eq!(removed.assign_ids(&[1, 2, 5], 6), (vec![1, 5], 6));

    let replaced = consensus(&current, |c| {
        edit::replace_consenter(c, &endpoint(1), &new(3)).unwrap();
    })
    .unwrap();
    assert_eq!(replaced.change(), MembershipChange::Replaced { old: 1, new: 1 });
    assert_eq!(replaced.assign_ids(&[1, 2, 5], 6), (vec![1, 2, 5], 6));

    let two = consensus(&current, |c| {
        edit::add_consenter(c, &new(3)).unwrap();
        edit::add_consenter(c, &new(4)).unwrap();
    });
    assert_eq!(two, Err(TransitionError::SeveralMembers { added: 2, removed: 0 }));
    let two = consensus(&current, |c| {
        edit::remove_consenter(c, &endpoint(0)).unwrap();
        edit::remove_consenter(c, &endpoint(1)).unwrap();
    });
    assert_eq!(two, Err(TransitionError::SeveralMembers { added: 0, removed: 2 }));
}

#[test]
fn an_order_of_its_own_changes_nothing_but_the_places() {
    let network = Network::new(1, 3);
    let mut profile = network.profile("supply");
    let Consensus::Raft(old) = profile.orderer.consensus.clone() else { panic!() };
    let Consensus::Raft(raft) = &mut profile.orderer.consensus else { panic!() };
    raft.consenters.rotate_left(1);
    let membership = Membership::of_raft(&old, raft).unwrap();
    assert_eq!(membership.change(), MembershipChange::None);
    assert_eq!(membership.assign_ids(&[1, 2, 3], 4), (vec![2, 3, 1], 4));
}

#[test]
fn a_removed_consenter_comes_back_under_a_new_number() {
    let network = Network::new(1, 3);
    let current = network.bundle("supply");
    let node = &network.orderers[2];
    let without = after(&current, |c| edit::remove_consenter(c, &node.endpoint).unwrap());
    let removed = transition::check_consensus(&current, &without, NOW).unwrap();
    let (ids, next_id) = removed.assign_ids(&[1, 2, 3], 4);
    let back = consensus(&without, |c| edit::add_consenter(c, &node.consenter()).unwrap()).unwrap();
    assert_eq!(back.assign_ids(&ids, next_id), (vec![1, 2, 4], 5));
}

#[test]
fn a_newcomer_needs_certificates_that_are_accepted_now() {
    let network = Network::new(1, 3);
    let current = network.bundle("supply");
    let node = OrdererNode::new(&network.orderer_org, 3);
    let fault = |tls| {
        let consenter = OrdererNode { tls, ..node.clone() }.consenter();
        match consensus(&current, |c| edit::add_consenter(c, &consenter).unwrap()) {
            Err(TransitionError::Certificate { endpoint, reason, .. }) => {
                assert_eq!(endpoint, node.endpoint);
                reason
            }
            other => panic!("{other:?}"),
        }
    };
    let org = &network.orderer_org;
    assert_eq!(fault(org.tls_valid("late", &[], EXPIRED)), CertificateFault::NotValidNow);
    assert_eq!(fault(org.tls_valid("early", &[], FUTURE)), CertificateFault::NotValidNow);
    assert_eq!(fault(Org::new("OrdererMSP").tls("alien", &[])), CertificateFault::Untrusted);
    let other_authority = org::tls_identity(&org.ca, "identity authority", &[], ALWAYS);
    assert_eq!(fault(other_authority), CertificateFault::Untrusted);
}

/// A network whose last orderer has a TLS certificate that expired.
fn with_expired() -> (Network, Bundle) {
    let mut network = Network::new(1, 3);
    network.orderers[2].tls = network.orderer_org.tls_valid("orderer2", &[], EXPIRED);
    let current = network.bundle("supply");
    (network, current)
}

#[test]
fn an_expired_certificate_blocks_no_other_update() {
    let (network, current) = with_expired();
    let batches = weft_config::BatchSize::default();
    consensus(&current, |c| edit::set_batch_size(c, batches).unwrap()).unwrap();
    let new = OrdererNode::new(&network.orderer_org, 3).consenter();
    consensus(&current, |c| edit::add_consenter(c, &new).unwrap()).unwrap();
    let endpoint = &network.orderers[2].endpoint;
    consensus(&current, |c| edit::remove_consenter(c, endpoint).unwrap()).unwrap();
}

#[test]
fn an_expired_certificate_can_be_replaced_while_its_node_is_down() {
    let (network, current) = with_expired();
    let node = &network.orderers[2];
    let renewed = renewed(node, &network.orderer_org);
    let membership = consensus(&current, |c| {
        edit::replace_consenter(c, &node.endpoint, &renewed).unwrap();
    })
    .unwrap();
    // Two of three are alive; replacing the third costs nobody.
    membership.check_quorum(&places(&[0, 1])).unwrap();
}

#[test]
fn tls_authorities_may_not_leave_consenters_behind() {
    let network = Network::new(1, 3);
    let current = network.bundle("supply");
    let org = &network.orderer_org;
    let fresh = org::authority("fresh");
    let mut msp = org.msp_config();
    msp.tls_root_certs = vec![fresh.certificate().pem().into()];
    match consensus(&current, |c| _ = edit::set_msp(c, &org.msp_id, &msp).unwrap()) {
        Err(TransitionError::Certificate { reason, .. }) => {
            assert_eq!(reason, CertificateFault::Untrusted);
        }
        other => panic!("{other:?}"),
    }
    // Trusting both is how a roll-over begins.
    msp.tls_root_certs.push(org.tls_ca.certificate().pem().into());
    consensus(&current, |c| _ = edit::set_msp(c, &org.msp_id, &msp).unwrap()).unwrap();
}

#[test]
fn a_consenter_that_was_never_trusted_blocks_no_other_update() {
    let mut network = Network::new(1, 3);
    network.orderers[1].tls = Org::new("OrdererMSP").tls("alien", &[]);
    let current = network.bundle("supply");
    let batches = weft_config::BatchSize::default();
    consensus(&current, |c| edit::set_batch_size(c, batches).unwrap()).unwrap();
}

// ---- Quorum ----

/// The change from a cluster of `members`, for a quorum question.
fn change_of(members: u16, kind: &str) -> Membership {
    let network = Network::new(0, members);
    let Consensus::Raft(old) = network.profile("a").orderer.consensus else { panic!() };
    let mut new = old.clone();
    let newcomer = OrdererNode::new(&network.orderer_org, members).consenter();
    match kind {
        "add" => new.consenters.push(newcomer),
        "remove" => _ = new.consenters.remove(0),
        "replace" => new.consenters[0] = newcomer,
        _ => {}
    }
    Membership::of_raft(&old, &new).unwrap()
}

#[test]
fn a_change_may_not_lose_the_quorum() {
    // members, change (always of the first member), alive, allowed
    let cases: &[(u16, &str, &[usize], bool)] = &[
        (3, "none", &[0], true),
        (1, "add", &[0], true),
        (2, "add", &[0, 1], true),
        (2, "add", &[0], false),
        (3, "add", &[0, 1, 2], true),
        (3, "add", &[0, 1], false),
        (4, "add", &[0, 1, 2], true),
        (3, "remove", &[0, 1, 2], true),
        (3, "remove", &[1, 2], true),
        (3, "remove", &[0, 1], false),
        (2, "remove", &[0, 1], true),
        (2, "remove", &[0], false),
        (1, "replace", &[0], true),
        (2, "replace", &[0, 1], true),
        (3, "replace", &[0, 1, 2], true),
        (3, "replace", &[0, 1], false),
        (3, "replace", &[1, 2], true),
        (5, "replace", &[0, 1, 2], false),
        (5, "replace", &[1, 2, 3], true),
    ];
    for (members, kind, alive, allowed) in cases {
        let outcome = change_of(*members, kind).check_quorum(&places(alive));
        assert_eq!(outcome.is_ok(), *allowed, "{members} {kind} {alive:?}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, TransitionError::QuorumLoss { .. }));
        }
    }
}

// ---- State and type ----

fn maintenance(config: &mut Config) {
    edit::set_consensus_state(config, ConsensusState::Maintenance).unwrap();
}

#[test]
fn the_state_changes_alone() {
    let network = Network::new(1, 3);
    let current = network.bundle("supply");
    consensus(&current, maintenance).unwrap();
    let with_more = consensus(&current, |config| {
        maintenance(config);
        edit::set_batch_size(config, weft_config::BatchSize::default()).unwrap();
    });
    match with_more {
        Err(TransitionError::StateNotAlone { path }) => {
            assert_eq!(path.to_string(), "[Value] /Channel/Orderer/BatchSize");
        }
        other => panic!("{other:?}"),
    }
    let with_members = consensus(&current, |config| {
        maintenance(config);
        edit::remove_consenter(config, &network.orderers[0].endpoint).unwrap();
    });
    assert_eq!(with_members, Err(TransitionError::StateWith { field: "metadata" }));
    let with_type = consensus(&current, |config| {
        maintenance(config);
        edit::set_consensus(config, &Consensus::Solo, &[]).unwrap();
    });
    assert_eq!(with_type, Err(TransitionError::StateWith { field: "type" }));
}

fn bft_members(network: &Network) -> Vec<BftConsenter> {
    (1..).zip(&network.orderers).map(|(id, node)| node.bft_consenter(id)).collect()
}

#[test]
fn raft_becomes_bft_in_maintenance_with_the_same_members() {
    let network = Network::new(1, 4);
    let normal = network.bundle("supply");
    let members = bft_members(&network);
    let bft = Consensus::Bft(BftOptions::default());
    let migrate = |members: Vec<BftConsenter>| {
        let bft = bft.clone();
        move |config: &mut Config| edit::set_consensus(config, &bft, &members).unwrap()
    };
    let outside = consensus(&normal, migrate(members.clone()));
    assert!(matches!(outside, Err(TransitionError::TypeOutsideMaintenance { .. })));

    let current = after(&normal, maintenance);
    consensus(&current, migrate(members.clone())).unwrap();
    let back = after(&current, migrate(members.clone()));
    let to_raft = consensus(&back, |config| {
        edit::set_consensus(config, &normal.orderer().unwrap().consensus, &[]).unwrap();
    });
    assert_eq!(to_raft, Err(TransitionError::TypeChange { from: "BFT", to: "etcdraft" }));

    let fewer = consensus(&current, migrate(members[..3].to_vec()));
    assert_eq!(fewer, Err(TransitionError::MemberCount { raft: 4, bft: 3 }));
    let mut moved = members.clone();
    moved[1].endpoint.port = 1;
    let moved = consensus(&current, migrate(moved));
    let endpoint = network.orderers[1].endpoint.clone();
    assert_eq!(moved, Err(TransitionError::MembersDiffer { endpoint }));
    let to_solo = consensus(&current, |config| {
        edit::set_consensus(config, &Consensus::Solo, &[]).unwrap();
    });
    assert_eq!(to_solo, Err(TransitionError::TypeChange { from: "etcdraft", to: "solo" }));
}

fn bft_channel() -> (Network, ChannelProfile) {
    let network = Network::new(1, 4);
    let profile = network.bft_profile("supply");
    (network, profile)
}

#[test]
fn blocks_of_a_bft_channel_need_the_quorum_of_its_members() {
    let (network, profile) = bft_channel();
    let current = bundle(&profile);
    let mut members = bft_members(&network);
    members.push(OrdererNode::new(&network.orderer_org, 4).bft_consenter(5));
    consensus(&current, |c| edit::set_bft_consenters(c, &members).unwrap()).unwrap();
    let any = weft_config::genesis::PolicyRule::any("Writers");
    let weak = consensus(&current, |c| {
        edit::set_policy(c, "/Channel/Orderer", "BlockValidation", &any).unwrap();
    });
    assert_eq!(weak, Err(TransitionError::BlockValidation));
}

#[test]
fn the_bft_lead_does_not_rotate() {
    let (network, profile) = bft_channel();
    let current = bundle(&profile);
    let rotating = BftOptions { decisions_per_leader: Some(3), ..BftOptions::default() };
    let refused = consensus(&current, |c| {
        edit::set_consensus(c, &Consensus::Bft(rotating), &bft_members(&network)).unwrap();
    });
    assert_eq!(refused, Err(TransitionError::LeaderRotation));
}

#[test]
fn bft_quorums() {
    let quorums: Vec<_> = (1..=10).map(bft_quorum).collect();
    assert_eq!(quorums, [1, 2, 2, 3, 4, 4, 5, 6, 6, 7]);
}
