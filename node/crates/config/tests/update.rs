//! Configuration updates: each rule, kept and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use prost::Message;
use weft_config::{
    Bundle, edit, keys,
    update::{self, ComputeError, ElementKind, ElementPath, UpdateError},
};
use weft_msp::ValidAt;
use weft_protos::common::{
    Config, ConfigGroup, ConfigUpdate, ConfigUpdateEnvelope, ConfigValue, Envelope, Payload,
};
use weft_testkit::{
    Network,
    clock::{EXPIRED, NOW},
    tx,
};
use weft_types::{ChannelId, Signer};

fn network() -> (Network, Bundle) {
    let network = Network::new(2, 3);
    let bundle = network.bundle("supply");
    (network, bundle)
}

/// A copy of the configuration with a change.
fn changed(bundle: &Bundle, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = bundle.config().clone();
    change(&mut config);
    config
}

fn larger_batches(config: &mut Config) {
    let size = weft_config::BatchSize { max_message_count: 77, ..Default::default() };
    edit::set_batch_size(config, size).unwrap();
}

fn computed(bundle: &Bundle, change: impl FnOnce(&mut Config)) -> ConfigUpdate {
    update::compute(bundle.channel_id(), bundle.config(), &changed(bundle, change)).unwrap()
}

fn sent(update: &ConfigUpdate, signers: &[&dyn Signer]) -> Envelope {
    let channel = ChannelId::new("supply").unwrap();
    tx::signed_update(&channel, update.encode_to_vec().into(), signers)
}

fn value_path(path: &str) -> ElementPath {
    ElementPath { kind: ElementKind::Value, path: path.to_owned() }
}

fn orderer_set(update: &mut ConfigUpdate) -> &mut ConfigGroup {
    update.write_set.as_mut().unwrap().groups.get_mut(keys::ORDERER).unwrap()
}

#[test]
fn an_update_holds_no_more_than_it_must() {
    let (_, bundle) = network();
    let update = computed(&bundle, larger_batches);
    let read = update.read_set.unwrap();
    assert_eq!(read.groups[keys::ORDERER], ConfigGroup::default());
    assert!(read.values.is_empty() && read.policies.is_empty());
    let write = update.write_set.unwrap();
    let orderer = &write.groups[keys::ORDERER];
    assert_eq!(orderer.values.keys().collect::<Vec<_>>(), [keys::BATCH_SIZE]);
    assert_eq!(orderer.values[keys::BATCH_SIZE].version, 1);
    assert!(orderer.groups.is_empty() && orderer.policies.is_empty());
    assert_eq!((write.groups.len(), write.version), (1, 0));
}

#[test]
fn a_change_of_membership_lists_every_member() {
    let (_, bundle) = network();
    let update = computed(&bundle, |config| {
        edit::remove_application_org(config, "Org2MSP").unwrap();
    });
    let write = &update.write_set.unwrap().groups[keys::APPLICATION];
    assert_eq!((write.version, write.mod_policy.as_str()), (1, "Admins"));
    assert_eq!(write.groups.keys().collect::<Vec<_>>(), ["Org1MSP"]);
    assert_eq!(write.policies.len(), 5);
    // What stays the same is named by version only.
    assert_eq!(write.groups["Org1MSP"], ConfigGroup::default());
}

#[test]
fn nothing_comes_of_nothing() {
    let (_, bundle) = network();
    let channel = bundle.channel_id();
    let same = update::compute(channel, bundle.config(), bundle.config());
    assert_eq!(same, Err(ComputeError::NoDifference));
    let versions_only = changed(&bundle, |config| {
        config.channel_group.as_mut().unwrap().version = 9;
        config.sequence = 9;
    });
    let same = update::compute(channel, bundle.config(), &versions_only);
    assert_eq!(same, Err(ComputeError::NoDifference));
    let absent = update::compute(channel, bundle.config(), &Config::default());
    assert_eq!(absent, Err(ComputeError::NoChannelGroup { which: "changed" }));
}

#[test]
fn an_allowed_update_leads_to_the_next_configuration() {
    let (network, bundle) = network();
    let wanted = changed(&bundle, larger_batches);
    let envelope = tx::config_update(&bundle, &wanted, &[&network.orderer_org.admin]);
    let proposed = bundle.propose(&envelope, NOW).unwrap();
    assert_eq!(proposed.next.sequence(), 1);
    assert_eq!(proposed.next.orderer().unwrap().batch_size.max_message_count, 77);
    let orderer = &proposed.next.config().channel_group.as_ref().unwrap().groups[keys::ORDERER];
    assert_eq!((orderer.version, orderer.values[keys::BATCH_SIZE].version), (0, 1));
    assert_eq!(proposed.envelope.last_update, Some(envelope.clone()));
    assert_eq!(bundle.propose_update(&envelope, NOW).unwrap(), proposed.envelope);

    let next = bundle.validate_next(&proposed.envelope, ValidAt::Issuance).unwrap();
    assert_eq!(next.config(), proposed.next.config());
}

#[test]
fn the_policy_of_each_changed_element_must_hold() {
    let (network, bundle) = network();
    let (org1, org2, orderers) = (network.org(1), network.org(2), &network.orderer_org);
    let outcome = |change: fn(&mut Config), signers: &[&dyn Signer]| {
        bundle.propose(&tx::config_update(&bundle, &changed(&bundle, change), signers), NOW)
    };
    // Batches are the business of the ordering organization's administrators.
    for signer in [&org1.admin, &orderers.client, &orderers.orderer] {
        match outcome(larger_batches, &[signer]) {
            Err(error @ UpdateError::Refused { .. }) => {
                assert!(error.is_forbidden());
                let text = error.to_string();
                assert!(text.contains("[Value] /Channel/Orderer/BatchSize"), "{text}");
                assert!(text.contains("/Channel/Orderer/Admins"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    // An organization sets its own anchor peers, and nobody else's.
    let anchors: fn(&mut Config) = |config| {
        let peers = [weft_config::AnchorPeer { host: "peer0".into(), port: 7051 }];
        edit::set_anchor_peers(config, "Org1MSP", &peers).unwrap();
    };
    outcome(anchors, &[&org1.admin]).unwrap();
    let Err(UpdateError::Refused { path, policy, .. }) = outcome(anchors, &[&org2.admin]) else {
        panic!()
    };
    assert_eq!(path.to_string(), "[Group] /Channel/Application/Org1MSP");
    assert_eq!(policy, "/Channel/Application/Org1MSP/Admins");
    // A majority decides about the members.
    let leave: fn(&mut Config) = |config| edit::remove_application_org(config, "Org2MSP").unwrap();
    outcome(leave, &[&org1.admin, &org2.admin]).unwrap();
    assert!(matches!(outcome(leave, &[&org1.admin]), Err(UpdateError::Refused { .. })));
    // Signing twice does not make a majority.
    let twice = outcome(leave, &[&org1.admin, &org1.admin]);
    assert!(matches!(twice, Err(UpdateError::Refused { .. })));
}

#[test]
fn the_present_policy_decides_about_its_own_change() {
    let (network, bundle) = network();
    // Org1 hands the batches to itself: the present mod_policy counts, not the written one.
    let grab = changed(&bundle, |config| {
        let root = config.channel_group.as_mut().unwrap();
        let orderer = root.groups.get_mut(keys::ORDERER).unwrap();
        let value = orderer.values.get_mut(keys::BATCH_SIZE).unwrap();
        value.mod_policy = "/Channel/Application/Org1MSP/Admins".into();
    });
    let envelope = tx::config_update(&bundle, &grab, &[&network.org(1).admin]);
    assert!(bundle.propose(&envelope, NOW).unwrap_err().is_forbidden());

    // Once the ordering organization has done it, the absolute path is what counts.
    let envelope = tx::config_update(&bundle, &grab, &[&network.orderer_org.admin]);
    let next = bundle.propose(&envelope, NOW).unwrap().next;
    let wanted = changed(&next, larger_batches);
    next.propose(&tx::config_update(&next, &wanted, &[&network.org(1).admin]), NOW).unwrap();
    let refused =
        next.propose(&tx::config_update(&next, &wanted, &[&network.orderer_org.admin]), NOW);
    assert!(refused.unwrap_err().is_forbidden());
}

#[test]
fn a_policy_that_does_not_exist_is_never_satisfied() {
    let (network, bundle) = network();
    let lost = changed(&bundle, |config| {
        let root = config.channel_group.as_mut().unwrap();
        let orderer = root.groups.get_mut(keys::ORDERER).unwrap();
        orderer.values.get_mut(keys::BATCH_SIZE).unwrap().mod_policy = "Nobody".into();
    });
    let envelope = tx::config_update(&bundle, &lost, &[&network.orderer_org.admin]);
    let next = bundle.propose(&envelope, NOW).unwrap().next;
    let wanted = changed(&next, larger_batches);
    let admins = network.admins();
    let signers: Vec<&dyn Signer> = admins.iter().map(|admin| *admin as &dyn Signer).collect();
    let refused = next.propose(&tx::config_update(&next, &wanted, &signers), NOW);
    let Err(UpdateError::Refused { policy, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(policy, "/Channel/Orderer/Nobody");
}

#[test]
fn signatures_must_be_over_this_update_and_of_the_time() {
    let (network, bundle) = network();
    let update = computed(&bundle, larger_batches);
    let other = computed(&bundle, |config| edit::set_acl(config, "a", Some("Admins")).unwrap());
    let admin = &network.orderer_org.admin;
    let stolen = update::sign_update(&other.encode_to_vec(), admin, tx::nonce()).unwrap();
    let signed = ConfigUpdateEnvelope {
        config_update: update.encode_to_vec().into(),
        signatures: vec![stolen],
    };
    let channel = bundle.channel_id();
    let envelope = update::update_envelope(channel, signed, admin, NOW, tx::nonce()).unwrap();
    assert!(bundle.propose(&envelope, NOW).unwrap_err().is_forbidden());

    let old = network.orderer_org.identity_valid("old", weft_msp::NodeRole::Admin, EXPIRED);
    let envelope = sent(&update, &[&old]);
    assert!(bundle.propose(&envelope, NOW).unwrap_err().is_forbidden());
    // What is already in the chain is judged without asking the clock.
    bundle.propose(&envelope, ValidAt::Issuance).unwrap();
}

#[test]
fn the_submitter_alone_supports_nothing() {
    let (network, bundle) = network();
    let update = computed(&bundle, larger_batches).encode_to_vec().into();
    let signed = ConfigUpdateEnvelope { config_update: update, signatures: Vec::new() };
    let (channel, admin) = (bundle.channel_id(), &network.orderer_org.admin);
    let envelope = update::update_envelope(channel, signed, admin, NOW, tx::nonce()).unwrap();
    assert!(bundle.propose(&envelope, NOW).unwrap_err().is_forbidden());
}

#[test]
fn an_update_is_for_its_channel() {
    let (network, bundle) = network();
    let mut update = computed(&bundle, larger_batches);
    update.channel_id = "other".into();
    let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
    assert!(matches!(refused, Err(UpdateError::Channel { found, .. }) if found == "other"));
}

#[test]
fn of_two_racing_updates_one_wins() {
    let (network, bundle) = network();
    let admin: &dyn Signer = &network.orderer_org.admin;
    let first = sent(&computed(&bundle, larger_batches), &[admin]);
    let second = sent(&computed(&bundle, larger_batches), &[admin]);
    let next = bundle.propose(&first, NOW).unwrap().next;
    match next.propose(&second, NOW) {
        Err(UpdateError::WriteVersion { path, written: 1, current: Some(1) }) => {
            assert_eq!(path, value_path("/Channel/Orderer/BatchSize"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_read_must_stand_at_its_version() {
    let (network, bundle) = network();
    let admin: &dyn Signer = &network.orderer_org.admin;
    let mut update = computed(&bundle, larger_batches);
    let read = update.read_set.as_mut().unwrap().groups.get_mut(keys::ORDERER).unwrap();
    let unread = ConfigValue { version: 4, ..Default::default() };
    read.values.insert(keys::BATCH_TIMEOUT.into(), unread.clone());
    match bundle.propose(&sent(&update, &[admin]), NOW) {
        Err(UpdateError::ReadVersion { path, expected: 4, current: Some(0) }) => {
            assert_eq!(path, value_path("/Channel/Orderer/BatchTimeout"));
        }
        other => panic!("{other:?}"),
    }
    let read = update.read_set.as_mut().unwrap().groups.get_mut(keys::ORDERER).unwrap();
    read.values.clear();
    read.values.insert("Absent".into(), unread);
    let refused = bundle.propose(&sent(&update, &[admin]), NOW);
    assert!(matches!(refused, Err(UpdateError::ReadVersion { current: None, .. })));
}

#[test]
fn versions_go_up_by_one_and_begin_at_zero() {
    let (network, bundle) = network();
    let admin: &dyn Signer = &network.orderer_org.admin;
    for version in [2, u64::MAX] {
        let mut update = computed(&bundle, larger_batches);
        orderer_set(&mut update).values.get_mut(keys::BATCH_SIZE).unwrap().version = version;
        let refused = bundle.propose(&sent(&update, &[admin]), NOW);
        let Err(UpdateError::WriteVersion { written, current, .. }) = refused else { panic!() };
        assert_eq!((written, current), (version, Some(0)));
    }
    let mut update = computed(&bundle, |config| {
        edit::set_policy(config, "/Channel/Orderer", "New", &"ANY Admins".parse_rule()).unwrap();
    });
    orderer_set(&mut update).policies.get_mut("New").unwrap().version = 1;
    let refused = bundle.propose(&sent(&update, &[admin]), NOW);
    let Err(UpdateError::WriteVersion { written: 1, current: None, path }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(path.to_string(), "[Policy] /Channel/Orderer/New");
}

trait ParseRule {
    fn parse_rule(&self) -> weft_config::genesis::PolicyRule;
}

impl ParseRule for str {
    fn parse_rule(&self) -> weft_config::genesis::PolicyRule {
        weft_config::genesis::PolicyRule::parse(self).unwrap()
    }
}

#[test]
fn an_update_must_change_something() {
    let (network, bundle) = network();
    let mut update = computed(&bundle, larger_batches);
    update.write_set = update.read_set.clone();
    let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
    assert!(matches!(refused, Err(UpdateError::NoChange)));
    update.write_set = None;
    let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
    assert!(matches!(refused, Err(UpdateError::NoChange)));
}

#[test]
fn written_elements_need_a_mod_policy() {
    let (network, bundle) = network();
    let too_long = "x".repeat(250);
    for policy in ["", "/", "a//b", "Admins/", "../Admins", "Ad mins", &too_long] {
        let mut update = computed(&bundle, larger_batches);
        let value = orderer_set(&mut update).values.get_mut(keys::BATCH_SIZE).unwrap();
        value.mod_policy = policy.to_owned();
        let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
        assert!(matches!(refused, Err(UpdateError::Path { set: "write", .. })), "{policy:?}");
    }
}

#[test]
fn names_must_be_allowed() {
    let (network, bundle) = network();
    let too_long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "\u{e4}", &too_long] {
        let mut update = computed(&bundle, larger_batches);
        orderer_set(&mut update).values.insert(name.to_owned(), ConfigValue::default());
        let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
        assert!(matches!(refused, Err(UpdateError::Path { set: "write", .. })), "{name:?}");
    }
}

#[test]
fn an_element_that_no_group_lists_is_refused_when_proposed() {
    let (network, bundle) = network();
    let mut update = computed(&bundle, larger_batches);
    let new = ConfigValue { version: 0, value: Bytes::new(), mod_policy: "Admins".into() };
    orderer_set(&mut update).values.insert("New".into(), new);
    let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
    let Err(UpdateError::Unlisted { path }) = refused else { panic!("{refused:?}") };
    assert_eq!(path, value_path("/Channel/Orderer/New"));
}

#[test]
fn a_new_organization_must_be_complete() {
    let (network, bundle) = network();
    let mut update = computed(&bundle, |config| {
        edit::remove_policy(config, "/Channel/Orderer", "BlockValidation").unwrap();
    });
    let ghost = ConfigGroup { version: 0, mod_policy: "Admins".into(), ..Default::default() };
    orderer_set(&mut update).groups.insert("GhostMSP".into(), ghost);
    let refused = bundle.propose(&sent(&update, &[&network.orderer_org.admin]), NOW);
    let Err(UpdateError::Result { source }) = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("/Channel/Orderer/GhostMSP/Endpoints"), "{source}");
}

#[test]
fn the_result_must_be_a_valid_configuration() {
    let (network, bundle) = network();
    let broken = changed(&bundle, |config| {
        let size = weft_config::BatchSize { max_message_count: 0, ..Default::default() };
        edit::set_batch_size(config, size).unwrap();
    });
    let envelope = tx::config_update(&bundle, &broken, &[&network.orderer_org.admin]);
    let refused = bundle.propose(&envelope, NOW);
    assert!(matches!(refused, Err(UpdateError::Result { .. })));
    assert!(!refused.unwrap_err().is_forbidden());
}

#[test]
fn malformed_envelopes_are_errors() {
    let (network, bundle) = network();
    let good = sent(&computed(&bundle, larger_batches), &[&network.orderer_org.admin]);
    let with = |edit: &dyn Fn(&mut Payload)| {
        let mut payload = Payload::decode(good.payload.clone()).unwrap();
        edit(&mut payload);
        let payload = payload.encode_to_vec().into();
        bundle.propose(&Envelope { payload, signature: Bytes::new() }, NOW).unwrap_err()
    };
    let nothing = bundle.propose(&Envelope::default(), NOW);
    assert!(matches!(nothing, Err(UpdateError::Envelope { .. })));
    assert!(matches!(with(&|p| p.header = None), UpdateError::Envelope { .. }));
    assert!(matches!(
        with(&|p| p.header.as_mut().unwrap().channel_header = Bytes::from_static(b"\xff")),
        UpdateError::Envelope { .. }
    ));
    assert!(matches!(
        with(&|p| p.header.as_mut().unwrap().channel_header = Bytes::new()),
        UpdateError::NotAnUpdate { kind: 0 }
    ));
    assert!(matches!(with(&|p| p.data = Bytes::from_static(b"\xff")), UpdateError::Decode { .. }));
    // No data is an update that names no channel.
    assert!(matches!(with(&|p| p.data = Bytes::new()), UpdateError::Channel { .. }));
    assert!(matches!(
        with(&|p| {
            let mut update = ConfigUpdateEnvelope::decode(p.data.clone()).unwrap();
            update.signatures[0].signature_header = Bytes::from_static(b"\xff");
            p.data = update.encode_to_vec().into();
        }),
        UpdateError::Decode { .. }
    ));
}

#[test]
fn a_config_envelope_is_what_its_update_leads_to() {
    let (network, bundle) = network();
    let wanted = changed(&bundle, larger_batches);
    let envelope = tx::config_update(&bundle, &wanted, &[&network.orderer_org.admin]);
    let good = bundle.propose(&envelope, NOW).unwrap().envelope;
    let check = |edit: &dyn Fn(&mut weft_protos::common::ConfigEnvelope)| {
        let mut envelope = good.clone();
        edit(&mut envelope);
        bundle.validate_next(&envelope, NOW).unwrap_err()
    };
    assert!(matches!(check(&|e| e.config = None), UpdateError::Incomplete { part: "config" }));
    assert!(matches!(check(&|e| e.last_update = None), UpdateError::Incomplete { .. }));
    for sequence in [0, 2, u64::MAX] {
        let error = check(&|e| e.config.as_mut().unwrap().sequence = sequence);
        assert!(matches!(error, UpdateError::Sequence { current: 0, .. }));
    }
    assert!(matches!(
        check(&|e| {
            let root = e.config.as_mut().unwrap().channel_group.as_mut().unwrap();
            root.groups.get_mut(keys::ORDERER).unwrap().version = 5;
        }),
        UpdateError::Mismatch
    ));
    // The same block twice does not apply twice.
    let next = bundle.validate_next(&good, NOW).unwrap();
    assert!(matches!(next.validate_next(&good, NOW), Err(UpdateError::Sequence { .. })));
}

#[test]
fn elements_of_old_tools_get_a_mod_policy() {
    let (network, bundle) = network();
    let mut config = bundle.config().clone();
    let root = config.channel_group.as_mut().unwrap();
    root.mod_policy.clear();
    root.values.get_mut(keys::HASHING_ALGORITHM).unwrap().mod_policy.clear();
    root.policies.get_mut(keys::READERS).unwrap().mod_policy.clear();
    let old = Bundle::new(bundle.channel_id().clone(), config).unwrap();
    let wanted = changed(&old, larger_batches);
    let envelope = tx::config_update(&old, &wanted, &[&network.orderer_org.admin]);
    let next = old.propose(&envelope, NOW).unwrap().next;
    let root = next.config().channel_group.as_ref().unwrap();
    assert_eq!(root.mod_policy, "Admins");
    assert_eq!(root.values[keys::HASHING_ALGORITHM].mod_policy, "Admins");
    assert_eq!(root.policies[keys::READERS].mod_policy, "Admins");
}
