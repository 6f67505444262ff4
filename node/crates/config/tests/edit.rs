//! Edits: what each changes, and that it can be carried out as an update.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeSet, time::Duration};

use weft_config::{
    AnchorPeer, BatchSize, Bundle, Consensus, ConsensusState, Endpoint, RaftOptions,
    capabilities::Scope,
    edit::{self, EditError},
    genesis::PolicyRule,
    keys,
};
use weft_protos::common::Config;
use weft_testkit::{Network, Org, clock::NOW, network::OrdererNode, tx};
use weft_types::Signer;

/// Edits, sends the update that follows, signed by every administrator, and returns what it leads to.
fn carried_out(network: &Network, current: &Bundle, change: impl FnOnce(&mut Config)) -> Bundle {
    let mut wanted = current.config().clone();
    change(&mut wanted);
    let admins = network.admins();
    let signers: Vec<&dyn Signer> = admins.iter().map(|admin| *admin as &dyn Signer).collect();
    let update = tx::config_update(current, &wanted, &signers);
    current.propose(&update, NOW).unwrap().next
}

fn start() -> (Network, Bundle) {
    let network = Network::new(2, 3);
    let bundle = network.bundle("supply");
    (network, bundle)
}

#[test]
fn organizations_come_and_go() {
    let (network, bundle) = start();
    let new = Org::new("Org3MSP");
    let profile = Network::org_profile(&new);
    let with = carried_out(&network, &bundle, |config| {
        edit::add_application_org(config, &profile).unwrap();
    });
    assert!(with.application().unwrap().org_of(&new.msp_id).is_some());
    assert!(with.msps().get("Org3MSP").is_some());
    let without = carried_out(&network, &with, |config| {
        edit::remove_application_org(config, "Org3MSP").unwrap();
    });
    assert!(without.msps().get("Org3MSP").is_none());
    assert_eq!(without.sequence(), 2);

    let mut config = with.config().clone();
    let twice = edit::add_application_org(&mut config, &profile);
    assert!(
        matches!(twice, Err(EditError::OrgExists { path }) if path == "/Channel/Application/Org3MSP")
    );
    let absent = edit::remove_orderer_org(&mut config, "Org3MSP");
    assert!(
        matches!(absent, Err(EditError::NoGroup { path }) if path == "/Channel/Orderer/Org3MSP")
    );
}

#[test]
fn a_second_ordering_organization_joins() {
    let (network, bundle) = start();
    let new = Org::new("Orderer2MSP");
    let node = OrdererNode::new(&new, 9);
    let profile = weft_config::genesis::OrgProfile::ordering(
        &new.msp_id,
        new.msp_config(),
        vec![node.endpoint.clone()],
    );
    let with = carried_out(&network, &bundle, |config| {
        edit::add_orderer_org(config, &profile).unwrap();
        edit::add_consenter(config, &node.consenter()).unwrap();
    });
    let orderer = with.orderer().unwrap();
    assert_eq!(orderer.org_of(&new.msp_id).unwrap().endpoints, [node.endpoint]);
    assert_eq!(orderer.consensus.raft().unwrap().consenters.len(), 4);
    weft_config::transition::check_consensus(&bundle, &with, NOW).unwrap();
}

#[test]
fn an_msp_is_replaced_wherever_it_stands() {
    let mut network = Network::new(1, 1);
    network.orgs.push(network.orderer_org.clone());
    let bundle = network.bundle("supply");
    let mut org = network.orderer_org.clone();
    org.revoke(&[org.client.certificate().clone()]);
    let next = carried_out(&network, &bundle, |config| {
        assert_eq!(edit::set_msp(config, &org.msp_id, &org.msp_config()).unwrap(), 2);
    });
    let identity = next.msps().deserialize_identity(&org.client.serialized_identity()).unwrap();
    assert!(identity.validate(NOW).is_err());
    let mut config = bundle.config().clone();
    let unknown = Org::new("OtherMSP");
    assert_eq!(edit::set_msp(&mut config, &unknown.msp_id, &unknown.msp_config()).unwrap(), 0);
}

#[test]
fn anchor_peers_and_endpoints_are_set() {
    let (network, bundle) = start();
    let anchor = AnchorPeer { host: "peer0".into(), port: 7051 };
    let endpoint = Endpoint::new("orderer.example.com", 443);
    let next = carried_out(&network, &bundle, |config| {
        edit::set_anchor_peers(config, "Org1MSP", std::slice::from_ref(&anchor)).unwrap();
        edit::set_endpoints(config, "OrdererMSP", std::slice::from_ref(&endpoint)).unwrap();
    });
    assert_eq!(next.application().unwrap().orgs["Org1MSP"].anchor_peers, [anchor]);
    assert_eq!(next.orderer().unwrap().orgs["OrdererMSP"].endpoints, [endpoint]);
    let none = carried_out(&network, &next, |config| {
        edit::set_anchor_peers(config, "Org1MSP", &[]).unwrap();
    });
    let root = none.config().channel_group.as_ref().unwrap();
    let org = &root.groups[keys::APPLICATION].groups["Org1MSP"];
    assert!(!org.values.contains_key(keys::ANCHOR_PEERS));
}

#[test]
fn batches_and_raft_options_are_set() {
    let (network, bundle) = start();
    let size = BatchSize { max_message_count: 1, absolute_max_bytes: 9, preferred_max_bytes: 8 };
    let options = RaftOptions { election_tick: 20, ..RaftOptions::default() };
    let next = carried_out(&network, &bundle, |config| {
        edit::set_batch_size(config, size).unwrap();
        edit::set_batch_timeout(config, Duration::from_millis(1500)).unwrap();
        edit::set_raft_options(config, &options).unwrap();
    });
    let orderer = next.orderer().unwrap();
    assert_eq!((orderer.batch_size, orderer.batch_timeout), (size, Duration::from_millis(1500)));
    assert_eq!(orderer.consensus.raft().unwrap().options, options);
}

#[test]
fn consenters_are_added_removed_and_replaced() {
    let (network, bundle) = start();
    let node = OrdererNode::new(&network.orderer_org, 3);
    let consenters =
        |bundle: &Bundle| bundle.orderer().unwrap().consensus.raft().unwrap().consenters.clone();
    let added = carried_out(&network, &bundle, |config| {
        edit::add_consenter(config, &node.consenter()).unwrap();
    });
    assert_eq!(consenters(&added)[3], node.consenter());
    let replaced = carried_out(&network, &bundle, |config| {
        edit::replace_consenter(config, &network.orderers[1].endpoint, &node.consenter()).unwrap();
    });
    assert_eq!(consenters(&replaced)[1], node.consenter());
    let removed = carried_out(&network, &bundle, |config| {
        edit::remove_consenter(config, &network.orderers[0].endpoint).unwrap();
    });
    assert_eq!(consenters(&removed).len(), 2);

    let mut config = bundle.config().clone();
    let twice = edit::add_consenter(&mut config, &network.orderers[0].consenter());
    assert!(matches!(twice, Err(EditError::ConsenterExists { .. })));
    let absent = edit::remove_consenter(&mut config, &node.endpoint);
    assert!(matches!(absent, Err(EditError::NoConsenter { .. })));
    edit::set_consensus(&mut config, &Consensus::Solo, &[]).unwrap();
    let solo = edit::add_consenter(&mut config, &node.consenter());
    assert!(matches!(solo, Err(EditError::OtherConsensus { found, .. }) if found == "solo"));
}

#[test]
fn the_state_is_set_and_stays_when_the_type_changes() {
    let (network, bundle) = start();
    let next = carried_out(&network, &bundle, |config| {
        edit::set_consensus_state(config, ConsensusState::Maintenance).unwrap();
    });
    assert_eq!(next.orderer().unwrap().state, ConsensusState::Maintenance);
    let mut config = next.config().clone();
    edit::set_consensus(&mut config, &Consensus::Solo, &[]).unwrap();
    let solo = Bundle::new(next.channel_id().clone(), config).unwrap();
    assert_eq!(solo.orderer().unwrap().state, ConsensusState::Maintenance);
}

#[test]
fn policies_acls_and_capabilities_are_set() {
    let (network, bundle) = start();
    let rule = PolicyRule::parse("OR('Org1MSP.peer')").unwrap();
    let path = "/Channel/Application/Org1MSP";
    let next = carried_out(&network, &bundle, |config| {
        edit::set_policy(config, path, "Auditors", &rule).unwrap();
        edit::set_acl(config, "qscc/GetChainInfo", Some("Admins")).unwrap();
        let names = BTreeSet::from(["V2_0".to_owned()]);
        edit::set_capabilities(config, Scope::Application, &names).unwrap();
    });
    assert!(next.policies().get("/Channel/Application/Org1MSP/Auditors").is_ok());
    let application = next.application().unwrap();
    assert_eq!(application.acl("qscc/GetChainInfo").unwrap(), "/Channel/Application/Admins");
    assert!(!application.capabilities.purge_private_data());
    let undone = carried_out(&network, &next, |config| {
        edit::remove_policy(config, path, "Auditors").unwrap();
        edit::set_acl(config, "qscc/GetChainInfo", None).unwrap();
    });
    assert!(undone.policies().get("/Channel/Application/Org1MSP/Auditors").is_err());
    assert!(undone.application().unwrap().acls.is_empty());

    let mut config = bundle.config().clone();
    let absent = edit::remove_policy(&mut config, path, "Auditors");
    assert!(matches!(absent, Err(EditError::NoPolicy { .. })));
    for path in ["", "Channel", "/Application", "/Channel/Nowhere", "/Channel//Application"] {
        assert!(edit::set_policy(&mut config, path, "A", &rule).is_err(), "{path}");
    }
}

#[test]
fn an_edit_keeps_a_mod_policy_of_its_own() {
    let (_, bundle) = start();
    let mut config = bundle.config().clone();
    let root = config.channel_group.as_mut().unwrap();
    let orderer = root.groups.get_mut(keys::ORDERER).unwrap();
    orderer.values.get_mut(keys::BATCH_SIZE).unwrap().mod_policy = "Writers".into();
    edit::set_batch_size(&mut config, BatchSize::default()).unwrap();
    let root = config.channel_group.as_ref().unwrap();
    assert_eq!(root.groups[keys::ORDERER].values[keys::BATCH_SIZE].mod_policy, "Writers");
}
