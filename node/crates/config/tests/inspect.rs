//! The view for people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use weft_config::{inspect, keys};
use weft_protos::common::{Config, ConfigValue};
use weft_testkit::Network;

#[test]
fn values_policies_and_certificates_are_readable() {
    let network = Network::new(1, 1);
    let bundle = network.bundle("supply");
    let view = inspect::view(bundle.channel_id(), bundle.config());
    let json: serde_json::Value = serde_json::from_str(&view.to_json().unwrap()).unwrap();
    assert_eq!(json["channelId"], "supply");
    let application = &json["channel"]["groups"]["Application"];
    assert_eq!(application["policies"]["Endorsement"]["rule"], "MAJORITY Endorsement");
    let org = &application["groups"]["Org1MSP"];
    assert_eq!(org["policies"]["Admins"]["rule"], "OR('Org1MSP.admin')");
    let msp = &org["values"]["MSP"]["value"];
    assert_eq!(msp["rootCerts"][0]["subject"], network.org(1).ca.certificate().subject_text());
    assert_eq!(msp["rootCerts"][0]["notAfter"], "2049-01-01T00:00:00Z");
    assert_eq!(msp["nodeOus"]["peer"], "peer");
    let orderer = &json["channel"]["groups"]["Orderer"]["values"];
    assert_eq!(orderer["BatchTimeout"]["value"], "100ms");
    let consenter = &orderer["ConsensusType"]["value"]["metadata"]["consenters"][0];
    let sha256 = hex(&network.orderers[0].tls.certificate.fingerprint());
    assert_eq!(consenter["serverTlsCert"]["sha256"], sha256);

    let yaml: serde_yaml::Value = serde_yaml::from_str(&view.to_yaml().unwrap()).unwrap();
    assert_eq!(serde_json::to_value(yaml).unwrap(), json);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn whatever_the_tree_holds_can_be_shown() {
    let bundle = Network::new(1, 4).bundle("supply");
    let mut config = bundle.config().clone();
    let root = config.channel_group.as_mut().unwrap();
    let value = |bytes: &'static [u8]| ConfigValue {
        value: Bytes::from_static(bytes),
        ..ConfigValue::default()
    };
    for key in [keys::CAPABILITIES, keys::CONSENSUS_TYPE, keys::MSP, keys::ACLS, "Unknown"] {
        root.values.insert(key.to_owned(), value(b"\xff\x01"));
    }
    let policy = root.policies.get_mut(keys::READERS).unwrap();
    policy.policy.as_mut().unwrap().r#type = 77;
    root.policies.get_mut(keys::WRITERS).unwrap().policy = None;
    let view = inspect::view(bundle.channel_id(), &config);
    let root = view.channel.unwrap();
    assert_eq!(root.values["Unknown"].value["base64"], "/wE=");
    assert_eq!(root.values[keys::MSP].value["base64"], "/wE=");
    assert!(root.policies[keys::READERS].rule.starts_with("<type 77"));
    assert_eq!(root.policies[keys::WRITERS].rule, "<none>");
    assert_eq!(inspect::view(bundle.channel_id(), &Config::default()).channel, None);
}

#[test]
fn a_bft_channel_is_readable() {
    let network = Network::new(1, 4);
    let bundle = weft_testkit::network::bundle(&network.bft_profile("supply"));
    let view = inspect::view(bundle.channel_id(), bundle.config());
    let orderer = &view.channel.unwrap().groups[keys::ORDERER];
    assert_eq!(orderer.values[keys::ORDERERS].value[3]["id"], 4);
    let consensus = &orderer.values[keys::CONSENSUS_TYPE].value;
    assert_eq!(consensus["metadata"]["leaderRotation"], "ROTATION_OFF");
}
