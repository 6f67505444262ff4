//! The first configuration: its golden tree, its bytes, and profiles that make no channel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;
use weft_config::{
    AnchorPeer, Bundle, ConfigError, Consensus, block,
    genesis::{self, ChannelProfile, GenesisError, PolicyRule},
    inspect::{self, GroupView},
    keys,
};
use weft_protos::common::{HeaderType, implicit_meta_policy::Rule};
use weft_testkit::{Network, clock::NOW};
use weft_types::{ParsedEnvelope, TxId, block as raw_block};

/// Every element as a line; certificates and MSPs shortened, as keys are drawn anew.
fn outline(path: &str, group: &GroupView, lines: &mut Vec<String>) {
    lines.push(format!("{path} v{} [{}]", group.version, group.mod_policy));
    for (name, policy) in &group.policies {
        lines.push(format!(
            "{path}: {name} = {} v{} [{}]",
            policy.rule, policy.version, policy.mod_policy
        ));
    }
    for (name, value) in &group.values {
        let text = match name.as_str() {
            keys::MSP => value.value["mspId"].to_string(),
            keys::CONSENSUS_TYPE => consensus(&value.value),
            _ => sorted(&value.value),
        };
        lines.push(format!("{path}. {name} = {text} v{} [{}]", value.version, value.mod_policy));
    }
    for (name, child) in &group.groups {
        outline(&format!("{path}/{name}"), child, lines);
    }
}

fn consensus(value: &Value) -> String {
    let consenters = value["metadata"]["consenters"].as_array().unwrap();
    let hosts: Vec<_> = consenters.iter().map(|c| format!("{}:{}", c["host"], c["port"])).collect();
    let (kind, state, options) = (&value["type"], &value["state"], &value["metadata"]["options"]);
    format!("{kind} {state} {} {}", hosts.join(","), sorted(options))
}

/// JSON with its keys in order, whichever order the map type of this build keeps.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<_, _> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            let entries = map.iter().map(|(key, value)| format!("{key}: {value}"));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn default_profile() -> ChannelProfile {
    let network = Network::new(2, 3);
    let mut profile = network.profile("supply");
    profile.orderer.batch_size = Default::default();
    profile.orderer.batch_timeout = std::time::Duration::from_secs(2);
    if let Consensus::Raft(raft) = &mut profile.orderer.consensus {
        raft.options = Default::default();
    }
    let application = profile.application.as_mut().unwrap();
    application.orgs[0].anchor_peers = vec![AnchorPeer { host: "peer0.org1".into(), port: 7051 }];
    application.acls.insert("qscc/GetChainInfo".into(), "/Channel/Application/Admins".into());
    profile
}

#[test]
fn the_default_tree_is_the_golden_one() {
    let profile = default_profile();
    let config = genesis::config(&profile).unwrap();
    let view = inspect::view(&profile.channel_id, &config);
    let mut lines = Vec::new();
    outline("/Channel", view.channel.as_ref().unwrap(), &mut lines);
    let golden = include_str!("data/genesis.txt");
    let found = lines.join("\n") + "\n";
    assert_eq!(found, golden, "\n{found}");
}

#[test]
fn the_same_profile_gives_the_same_bytes_and_another_one_others() {
    let mut profile = default_profile();
    let first = genesis::block(&profile).unwrap().encode_to_vec();
    assert_eq!(genesis::block(&profile.clone()).unwrap().encode_to_vec(), first);
    profile.orderer.batch_size.max_message_count += 1;
    assert_ne!(genesis::block(&profile).unwrap().encode_to_vec(), first);
}

#[test]
fn the_block_is_a_config_block_with_number_zero() {
    let profile = default_profile();
    let genesis = genesis::block(&profile).unwrap();
    raw_block::check(&genesis).unwrap();
    let header = genesis.header.as_ref().unwrap();
    assert_eq!((header.number, header.previous_hash.as_ref()), (0, [].as_slice()));
    assert!(block::is_config_block(&genesis));
    assert_eq!(block::last_config_index(&genesis).unwrap(), 0);
    let (channel, config) = block::config_from_block(&genesis).unwrap();
    assert_eq!((&channel, config.sequence), (&profile.channel_id, 0));
    assert_eq!(config, genesis::config(&profile).unwrap());

    let envelope = ParsedEnvelope::parse(raw_block::transactions(&genesis)[0].clone()).unwrap();
    assert!(envelope.signature.is_empty());
    let header = envelope.header();
    assert_eq!(header.header_type(), Some(HeaderType::Config));
    assert_eq!(header.channel_header.version, 1);
    assert_eq!(header.channel_header.timestamp, Some(NOW.into()));
    assert_eq!(header.channel_header.tx_id, TxId::compute(header.nonce(), &[]).to_string());
    assert_eq!(header.nonce().len(), 24);
    assert!(header.creator().is_empty());
}

#[test]
fn every_consensus_type_makes_a_channel() {
    let network = Network::new(1, 4);
    for profile in [network.profile("a"), network.solo_profile("a"), network.bft_profile("a")] {
        let bundle = block::bundle_from_block(&genesis::block(&profile).unwrap()).unwrap();
        let orderer = bundle.orderer().unwrap();
        assert_eq!(orderer.consensus, profile.orderer.consensus);
        assert_eq!(orderer.consenters, profile.orderer.consenters);
    }
}

#[test]
fn a_signing_identity_never_gets_into_the_channel() {
    let network = Network::new(1, 1);
    let mut profile = network.profile("a");
    let msp = &mut profile.application.as_mut().unwrap().orgs[0].msp;
    msp.signing_identity = Some(Default::default());
    let bundle = weft_testkit::network::bundle(&profile);
    let org = &bundle.application().unwrap().orgs["Org1MSP"].org;
    assert_eq!(org.msp.signing_identity, None);
}

#[test]
fn profiles_without_required_policies_make_no_channel() {
    type Remove = fn(&mut ChannelProfile);
    let cases: [(&str, &str, Remove); 4] = [
        ("/Channel", "Readers", |p| _ = p.policies.remove("Readers")),
        ("/Channel/Orderer", "BlockValidation", |p| {
            _ = p.orderer.policies.remove("BlockValidation")
        }),
        ("/Channel/Application", "Admins", |p| {
            _ = p.application.as_mut().unwrap().policies.remove("Admins");
        }),
        ("/Channel/Orderer/OrdererMSP", "Writers", |p| {
            _ = p.orderer.orgs[0].policies.remove("Writers");
        }),
    ];
    for (path, missing, remove) in cases {
        let mut profile = Network::new(1, 1).profile("a");
        remove(&mut profile);
        match genesis::block(&profile) {
            Err(GenesisError::MissingPolicy { group, name }) => {
                assert_eq!((group.as_str(), name), (path, missing));
            }
            other => panic!("{path} {missing}: {other:?}"),
        }
    }
}

#[test]
fn an_organization_stands_once_in_a_group() {
    let mut profile = Network::new(1, 1).profile("a");
    let orgs = &mut profile.application.as_mut().unwrap().orgs;
    orgs.push(orgs[0].clone());
    let refused = genesis::block(&profile);
    assert!(matches!(refused, Err(GenesisError::DuplicateOrg { group: keys::APPLICATION, .. })));
}

#[test]
fn an_ordering_organization_needs_endpoints() {
    let mut profile = Network::new(1, 1).profile("a");
    profile.orderer.orgs[0].endpoints.clear();
    let Err(GenesisError::Config { source }) = genesis::block(&profile) else { panic!() };
    assert!(matches!(*source, ConfigError::NoEndpoints { .. }), "{source}");
}

#[test]
fn policies_are_read_from_text() {
    assert_eq!(PolicyRule::parse("ANY Readers").unwrap(), PolicyRule::any("Readers"));
    assert_eq!(PolicyRule::parse(" MAJORITY  Admins ").unwrap(), PolicyRule::majority("Admins"));
    let all = PolicyRule::ImplicitMeta { rule: Rule::All, sub_policy: "Writers".into() };
    assert_eq!(PolicyRule::parse("ALL Writers").unwrap(), all);
    assert!(matches!(PolicyRule::parse("OR('Org1MSP.admin')").unwrap(), PolicyRule::Signature(_)));
    for text in ["", "ANY", "MOST Readers", "ANY Readers Writers", "OR(Org1MSP.admin"] {
        assert!(PolicyRule::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_bundle_is_cheap_to_share() {
    let bundle = Network::new(1, 1).bundle("a");
    let copy: Bundle = bundle.clone();
    assert!(std::ptr::eq(bundle.config(), copy.config()));
}
