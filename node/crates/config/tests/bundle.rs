//! What a valid configuration says, and each rule that refuses one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use prost::Message;
use weft_config::{
    Bundle, ConfigError, Consensus, ConsensusState, Endpoint, capabilities::Scope,
    consensus::ConsensusError, edit, keys, orderer::OrdererError,
};
use weft_msp::SignedData;
use weft_protos::{
    common::{self, Config, ConfigGroup, ConfigValue},
    etcdraft,
    msp::MspConfig,
    orderer,
};
use weft_testkit::{
    Network, Org,
    clock::{EXPIRED, NOW},
    org::authority_valid,
};
use weft_types::Signer;

fn group<'a>(config: &'a mut Config, path: &str) -> &'a mut ConfigGroup {
    let root = config.channel_group.as_mut().unwrap();
    path.split('/')
        .filter(|name| !name.is_empty())
        .fold(root, |group, name| group.groups.get_mut(name).unwrap())
}

fn put(config: &mut Config, path: &str, key: &str, value: &impl Message) {
    let mod_policy = "Admins".to_owned();
    let value = ConfigValue { version: 0, value: value.encode_to_vec().into(), mod_policy };
    group(config, path).values.insert(key.to_owned(), value);
}

fn capabilities(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Changes a valid configuration and returns how it is refused.
fn refused(change: impl FnOnce(&mut Config)) -> ConfigError {
    let bundle = Network::new(2, 3).bundle("supply");
    let mut config = bundle.config().clone();
    change(&mut config);
    Bundle::new(bundle.channel_id().clone(), config).expect_err("the configuration is refused")
}

fn set_raft(config: &mut Config, edit: impl FnOnce(&mut etcdraft::ConfigMetadata)) {
    let value = &group(config, "Orderer").values[keys::CONSENSUS_TYPE].value;
    let mut kind = orderer::ConsensusType::decode(value.clone()).unwrap();
    let mut metadata = etcdraft::ConfigMetadata::decode(kind.metadata.clone()).unwrap();
    edit(&mut metadata);
    kind.metadata = metadata.encode_to_vec().into();
    put(config, "Orderer", keys::CONSENSUS_TYPE, &kind);
}

fn raft_refused(edit: impl FnOnce(&mut etcdraft::ConfigMetadata)) -> ConsensusError {
    match refused(|config| set_raft(config, edit)) {
        ConfigError::Consensus { path, source } => {
            assert_eq!(path, "/Channel/Orderer/ConsensusType");
            *source
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_configuration_is_read() {
    let network = Network::new(2, 3);
    let bundle = network.bundle("supply");
    assert_eq!(bundle.channel_id().as_str(), "supply");
    assert_eq!(bundle.sequence(), 0);
    assert!(bundle.capabilities().bft());

    let orderer = bundle.orderer().unwrap();
    assert_eq!(orderer.batch_timeout, Duration::from_millis(100));
    assert_eq!(orderer.batch_size.max_message_count, 10);
    assert_eq!(orderer.state, ConsensusState::Normal);
    assert!(orderer.capabilities.consensus_migration());
    let raft = orderer.consensus.raft().unwrap();
    let consenters: Vec<_> = network.orderers.iter().map(|node| node.consenter()).collect();
    assert_eq!(raft.consenters, consenters);
    assert_eq!(raft.options.tick_interval, Duration::from_millis(50));

    let application = bundle.application().unwrap();
    assert_eq!(application.orgs.keys().collect::<Vec<_>>(), ["Org1MSP", "Org2MSP"]);
    assert!(application.capabilities.lifecycle_v2() && application.capabilities.acls());
    assert_eq!(application.acl("qscc/GetChainInfo"), None);

    let ids: Vec<_> = bundle.organizations().iter().map(|org| org.msp_id.to_string()).collect();
    assert_eq!(ids, ["OrdererMSP", "Org1MSP", "Org2MSP"]);
    assert_eq!(bundle.tls_root_certs().len(), 3);
    let endpoints: Vec<_> =
        bundle.orderer_endpoints().iter().map(|(_, at)| at.to_string()).collect();
    assert_eq!(endpoints, ["127.0.0.1:7050", "127.0.0.1:7051", "127.0.0.1:7052"]);
}

#[test]
fn the_default_policies_let_in_whom_they_should() {
    let network = Network::new(2, 1);
    let bundle = network.bundle("supply");
    let (org1, org2, orderers) = (network.org(1), network.org(2), &network.orderer_org);
    let sign = |signer: &dyn Signer| SignedData {
        data: Bytes::from_static(b"data"),
        identity: signer.serialized_identity(),
        signature: signer.sign(b"data").unwrap(),
    };
    let check = |path: &str, signers: &[&dyn Signer], expected: bool| {
        let signed: Vec<_> = signers.iter().map(|signer| sign(*signer)).collect();
        let outcome = bundle.policies().evaluate(path, &signed, NOW);
        assert_eq!(outcome.is_ok(), expected, "{path} {outcome:?}");
    };
    check("/Channel/Writers", &[&org1.client], true);
    check("/Channel/Writers", &[&org1.peer], false);
    check("/Channel/Readers", &[&org1.peer], true);
    check("/Channel/Readers", &[&orderers.orderer], true);
    check("/Channel/Application/Writers", &[&orderers.client], false);
    check("/Channel/Application/Endorsement", &[&org1.peer], false);
    check("/Channel/Application/Endorsement", &[&org1.peer, &org2.peer], true);
    check("/Channel/Application/LifecycleEndorsement", &[&org1.peer, &org2.client], false);
    check("/Channel/Application/Admins", &[&org1.admin, &org2.admin], true);
    check("/Channel/Admins", &[&org1.admin, &org2.admin], false);
    check("/Channel/Admins", &[&org1.admin, &org2.admin, &orderers.admin], true);
    check(keys::BLOCK_VALIDATION_PATH, &[&orderers.orderer], true);
    for other in [&orderers.client, &orderers.admin, &orderers.peer] {
        check(keys::BLOCK_VALIDATION_PATH, &[other], false);
    }
    check(keys::BLOCK_VALIDATION_PATH, &[&org1.orderer], false);
}

#[test]
fn the_tree_must_have_its_shape() {
    let error = refused(|config| config.channel_group = None);
    assert!(matches!(error, ConfigError::NoChannelGroup));

    let error = refused(|config| {
        config
            .channel_group
            .as_mut()
            .unwrap()
            .groups
            .insert("Consortiums".into(), Default::default());
    });
    assert!(
        matches!(error, ConfigError::UnexpectedGroup { path } if path == "/Channel/Consortiums")
    );

    let error = refused(|config| {
        group(config, "Orderer/OrdererMSP").groups.insert("Team".into(), Default::default());
    });
    let path = "/Channel/Orderer/OrdererMSP/Team";
    assert!(matches!(error, ConfigError::UnexpectedGroup { path: found } if found == path));

    for (at, key) in [("", "BatchSize"), ("Orderer", "MSP"), ("Application/Org1MSP", "Endpoints")] {
        let error = refused(|config| put(config, at, key, &common::Capabilities::default()));
        assert!(matches!(error, ConfigError::UnexpectedValue { .. }), "{at} {key}: {error}");
    }

    let error = refused(|config| {
        group(config, "Application").groups.insert("bad/name".into(), Default::default());
    });
    assert!(matches!(error, ConfigError::Path { .. }), "{error}");
}

#[test]
fn values_must_decode() {
    let error = refused(|config| {
        let values = &mut group(config, "Orderer").values;
        values.get_mut(keys::BATCH_SIZE).unwrap().value = Bytes::from_static(&[0xff; 3]);
    });
    assert!(
        matches!(error, ConfigError::Decode { path, .. } if path == "/Channel/Orderer/BatchSize")
    );
}

#[test]
fn capabilities_must_be_known_here() {
    for (scope, name) in
        [(Scope::Channel, "V4_0"), (Scope::Orderer, "V3_0"), (Scope::Application, "V9_9")]
    {
        let error = refused(|config| {
            edit::set_capabilities(config, scope, &capabilities(&[name])).unwrap();
        });
        let ConfigError::Capability { source } = error else { panic!("{error}") };
        assert_eq!((source.scope, source.name.as_str()), (scope, name));
    }
}

#[test]
fn the_orderer_group_has_capabilities_first() {
    let error = refused(|config| _ = group(config, "Orderer").values.remove(keys::CAPABILITIES));
    assert!(matches!(error, ConfigError::CapabilityOrder { scope: Scope::Channel }));
    let error = refused(|config| {
        group(config, "Orderer").values.remove(keys::CAPABILITIES);
        group(config, "").values.remove(keys::CAPABILITIES);
    });
    assert!(matches!(error, ConfigError::CapabilityOrder { scope: Scope::Application }));
}

#[test]
fn hashing_is_the_one_there_is() {
    let error = refused(|config| {
        put(
            config,
            "",
            keys::HASHING_ALGORITHM,
            &common::HashingAlgorithm { name: "SHA3_256".into() },
        );
    });
    assert!(matches!(error, ConfigError::HashingAlgorithm { name } if name == "SHA3_256"));
    let error = refused(|config| {
        let value = common::BlockDataHashingStructure { width: 2 };
        put(config, "", keys::BLOCK_DATA_HASHING_STRUCTURE, &value);
    });
    assert!(matches!(error, ConfigError::HashingWidth { width: 2 }));
}

#[test]
fn endpoints_stand_where_the_capabilities_say() {
    let addresses = common::OrdererAddresses { addresses: vec!["127.0.0.1:7050".into()] };
    let global = |config: &mut Config| put(config, "", keys::ORDERER_ADDRESSES, &addresses);
    assert!(matches!(refused(global), ConfigError::GlobalAddresses));
    let error = refused(|config| edit::set_endpoints(config, "OrdererMSP", &[]).unwrap());
    assert!(matches!(error, ConfigError::NoEndpoints { .. }));
    let old = |config: &mut Config| {
        edit::set_capabilities(config, Scope::Channel, &capabilities(&["V1_3"])).unwrap();
    };
    assert!(matches!(refused(old), ConfigError::NoGlobalAddresses));
    let error = refused(|config| {
        old(config);
        global(config);
    });
    assert!(matches!(error, ConfigError::EndpointsWithoutCapability { .. }));
    let error = refused(|config| {
        let value = common::OrdererAddresses { addresses: vec!["no port".into()] };
        put(config, "Orderer/OrdererMSP", keys::ENDPOINTS, &value);
    });
    assert!(matches!(error, ConfigError::Endpoint { .. }));
}

#[test]
fn a_channel_below_v3_may_list_orderers_globally() {
    let bundle = Network::new(1, 1).bundle("supply");
    let mut config = bundle.config().clone();
    edit::set_capabilities(&mut config, Scope::Channel, &capabilities(&["V2_0"])).unwrap();
    edit::set_endpoints(&mut config, "OrdererMSP", &[]).unwrap();
    let addresses = common::OrdererAddresses { addresses: vec!["orderer:7050".into()] };
    put(&mut config, "", keys::ORDERER_ADDRESSES, &addresses);
    let bundle = Bundle::new(bundle.channel_id().clone(), config).unwrap();
    assert_eq!(bundle.orderer_endpoints(), [(None, &Endpoint::new("orderer", 7050))]);
}

#[test]
fn batches_must_be_possible() {
    let with = |max_message_count, absolute_max_bytes, preferred_max_bytes| {
        let size =
            orderer::BatchSize { max_message_count, absolute_max_bytes, preferred_max_bytes };
        match refused(|config| put(config, "Orderer", keys::BATCH_SIZE, &size)) {
            ConfigError::Orderer { source, .. } => source,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with(0, 2, 1), OrdererError::BatchLimit { field: "max_message_count" });
    assert_eq!(with(1, 0, 1), OrdererError::BatchLimit { field: "absolute_max_bytes" });
    assert_eq!(with(1, 2, 0), OrdererError::BatchLimit { field: "preferred_max_bytes" });
    assert_eq!(with(1, 2, 3), OrdererError::BatchBytes { preferred: 3, absolute: 2 });
    for text in ["", "2", "-1s", "0s"] {
        let timeout = orderer::BatchTimeout { timeout: text.into() };
        let error = refused(|config| put(config, "Orderer", keys::BATCH_TIMEOUT, &timeout));
        assert!(matches!(error, ConfigError::Orderer { .. }), "{text:?}: {error}");
    }
}

#[test]
fn consensus_settings_must_work() {
    use ConsensusError::{
        Address, Certificate, Duration, NoConsenters, Relation, SharedCertificate, Zero,
    };
    assert!(matches!(raft_refused(|m| m.options = None), Zero { field: "Options" }));
    let options = |edit: fn(&mut etcdraft::Options)| {
        raft_refused(|metadata| edit(metadata.options.as_mut().unwrap()))
    };
    assert!(matches!(options(|o| o.tick_interval = "0s".into()), Zero { field: "TickInterval" }));
    assert!(matches!(options(|o| o.tick_interval = "soon".into()), Duration { .. }));
    assert!(matches!(options(|o| o.election_tick = 0), Zero { field: "ElectionTick" }));
    assert!(matches!(options(|o| o.heartbeat_tick = 0), Zero { field: "HeartbeatTick" }));
    assert!(matches!(options(|o| o.max_inflight_blocks = 0), Zero { .. }));
    assert!(matches!(options(|o| o.heartbeat_tick = o.election_tick), Relation { .. }));
    assert!(matches!(raft_refused(|m| m.consenters.clear()), NoConsenters));
    assert!(matches!(raft_refused(|m| m.consenters[0].host.clear()), Address { .. }));
    assert!(matches!(raft_refused(|m| m.consenters[0].port = 65_536), Address { .. }));
    assert!(matches!(
        raft_refused(|m| m.consenters[1] = m.consenters[0].clone()),
        SharedCertificate { .. }
    ));
    assert!(matches!(
        raft_refused(|m| m.consenters[1].server_tls_cert = m.consenters[0].client_tls_cert.clone()),
        SharedCertificate { .. }
    ));
    for pem in [Bytes::new(), Bytes::from_static(b"no pem"), Bytes::from_static(&[0xff, 0xfe])] {
        let error = raft_refused(|metadata| metadata.consenters[2].client_tls_cert = pem);
        assert!(matches!(error, Certificate { which: "client TLS", .. }), "{error}");
    }
}

#[test]
fn a_snapshot_interval_of_zero_is_the_default_one() {
    let bundle = Network::new(1, 1).bundle("supply");
    let mut config = bundle.config().clone();
    set_raft(&mut config, |m| m.options.as_mut().unwrap().snapshot_interval_size = 0);
    let bundle = Bundle::new(bundle.channel_id().clone(), config).unwrap();
    let Consensus::Raft(raft) = &bundle.orderer().unwrap().consensus else { panic!() };
    assert_eq!(raft.options.snapshot_interval_size, 16 * 1024 * 1024);
}

#[test]
fn consensus_types_must_be_known() {
    let error = refused(|config| {
        let kind = orderer::ConsensusType { r#type: "kafka".into(), ..Default::default() };
        put(config, "Orderer", keys::CONSENSUS_TYPE, &kind);
    });
    let ConfigError::Consensus { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, ConsensusError::UnknownType { ref name } if name == "kafka"));
    let error = refused(|config| {
        let kind = orderer::ConsensusType { r#type: "solo".into(), state: 7, ..Default::default() };
        put(config, "Orderer", keys::CONSENSUS_TYPE, &kind);
    });
    assert!(matches!(error, ConfigError::Orderer { source: OrdererError::State { state: 7 }, .. }));
}

#[test]
fn bft_needs_members_with_numbers_of_their_own() {
    let network = Network::new(1, 4);
    let bundle = weft_testkit::network::bundle(&network.bft_profile("supply"));
    let members = &bundle.orderer().unwrap().consenters;
    let refused = |members: &[_]| {
        let mut config = bundle.config().clone();
        edit::set_bft_consenters(&mut config, members).unwrap();
        match Bundle::new(bundle.channel_id().clone(), config) {
            Err(ConfigError::Consensus { source, .. }) => *source,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused(&[]), ConsensusError::NoConsenters));
    let mut twice = members.clone();
    twice[1].id = twice[0].id;
    assert!(matches!(refused(&twice), ConsensusError::Id { id: 1, .. }));
    let mut zero = members.clone();
    zero[3].id = 0;
    assert!(matches!(refused(&zero), ConsensusError::Id { id: 0, .. }));
    let mut nobody = members.clone();
    nobody[2].identity = Bytes::from_static(b"nobody");
    assert!(matches!(refused(&nobody), ConsensusError::Certificate { which: "identity", .. }));
}

#[test]
fn msps_must_be_defined_and_agree() {
    let error = refused(|config| _ = group(config, "Application/Org1MSP").values.remove(keys::MSP));
    assert!(
        matches!(error, ConfigError::MissingValue { path } if path == "/Channel/Application/Org1MSP/MSP")
    );

    let error = refused(|config| {
        let idemix = MspConfig { r#type: 1, config: Bytes::new() };
        put(config, "Application/Org1MSP", keys::MSP, &idemix);
    });
    assert!(matches!(error, ConfigError::MspKind { kind: 1, .. }));

    let error = refused(|config| {
        let nameless = MspConfig { r#type: 0, config: Bytes::new() };
        put(config, "Application/Org1MSP", keys::MSP, &nameless);
    });
    assert!(matches!(error, ConfigError::MspId { .. }));

    let impostor = Org::new("Org2MSP").msp_config();
    let error = refused(|config| {
        let value = MspConfig { r#type: 0, config: impostor.encode_to_vec().into() };
        put(config, "Application/Org1MSP", keys::MSP, &value);
    });
    assert!(
        matches!(error, ConfigError::MspConflict { msp_id, .. } if msp_id.as_str() == "Org2MSP")
    );

    let error = refused(|config| {
        let mut empty = Org::new("Org1MSP").msp_config();
        empty.root_certs.clear();
        let value = MspConfig { r#type: 0, config: empty.encode_to_vec().into() };
        put(config, "Application/Org1MSP", keys::MSP, &value);
    });
    assert!(matches!(error, ConfigError::Msp { .. }));
}

#[test]
fn one_organization_may_order_and_transact() {
    let mut network = Network::new(1, 1);
    network.orgs.push(network.orderer_org.clone());
    let bundle = network.bundle("supply");
    assert_eq!(bundle.organizations().len(), 2);
    assert!(bundle.msps().get("OrdererMSP").is_some());
}

/// Nodes must start, and channels be repaired, after an authority has expired.
#[test]
fn an_expired_authority_leaves_the_channel_readable() {
    let network = Network::new(2, 1);
    let mut profile = network.profile("supply");
    let expired = authority_valid("old", EXPIRED).certificate().pem();
    let msp = &mut profile.application.as_mut().unwrap().orgs[0].msp;
    msp.root_certs = vec![expired.clone().into()];
    msp.tls_root_certs = vec![expired.into()];
    let bundle = weft_testkit::network::bundle(&profile);
    // The others go on.
    let client = network.org(2).client.serialized_identity();
    bundle.msps().deserialize_identity(&client).unwrap().validate(NOW).unwrap();
}

#[test]
fn acls_need_their_capability() {
    let error = refused(|config| {
        edit::set_acl(config, "qscc/GetChainInfo", Some("Admins")).unwrap();
        edit::set_capabilities(config, Scope::Application, &capabilities(&["V1_1"])).unwrap();
    });
    assert!(matches!(error, ConfigError::AclsWithoutCapability));
}

#[test]
fn policies_must_be_readable() {
    let error = refused(|config| {
        let policies = &mut group(config, "Application").policies;
        policies.get_mut("Readers").unwrap().policy.as_mut().unwrap().r#type = 9;
    });
    assert!(matches!(error, ConfigError::Policies { .. }));
}
