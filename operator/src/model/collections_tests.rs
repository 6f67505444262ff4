use super::*;
use crate::manifest::Manifest;
use crate::model::{Network, Problems, validate};

const BASIC: &str = include_str!("../../../examples/basic.yaml");

/// The example with a third organization that is not on the channel, and these collections.
fn validated(collections: &str) -> Result<Vec<Network>, Problems> {
    let text = format!(
        "{}  collections: {collections}\n---\napiVersion: weft.dev/v1alpha1\nkind: Organization\n\
         metadata: {{name: org3}}\nspec: {{networkRef: basic, mspId: Org3MSP}}\n",
        BASIC.trim_end().to_owned() + "\n"
    );
    validate(&Manifest::parse(&text).unwrap())
}

fn collections(text: &str) -> Vec<Collection> {
    let networks = validated(text).unwrap_or_else(|problems| panic!("{text}: {problems}"));
    networks[0].channels[0].chaincodes[0].collections.clone()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let problems = validated(text).expect_err(text).to_string();
    assert!(problems.contains(&format!("Chaincode \"asset\": {expected}")), "{problems}");
}

#[test]
fn a_collection_is_of_its_organizations_members() {
    let named = collections("[{name: a, organizations: [org2, org1]}]");
    let written = collections("[{name: a, policy: \"OR('Org1MSP.member', 'Org2MSP.member')\"}]");
    assert_eq!(named, written, "the order of names does not count");
    let expected = dsl::parse("OR('Org1MSP.member', 'Org2MSP.member')").unwrap();
    assert_eq!(named[0].members, expected);
    let alone = collections("[{name: a, organizations: [org1]}]");
    assert_eq!(alone[0].members, dsl::parse("OR('Org1MSP.member')").unwrap());
}

#[test]
fn what_is_left_out_is_as_in_fabrics_collection_files() {
    let [one] = &collections("[{name: a, organizations: [org1, org2]}]")[..] else { panic!() };
    assert_eq!((one.required_peers, one.block_to_live), (0, 0));
    assert!(!one.member_only_read && !one.member_only_write);
    assert_eq!(one.endorsement, None);
}

#[test]
fn values_go_to_every_other_organization_unless_told_otherwise() {
    let maximum = |more: &str| {
        let text = format!("[{{name: a, {more}}}]");
        collections(&text)[0].maximum_peers
    };
    assert_eq!(maximum("organizations: [org1]"), 1);
    assert_eq!(maximum("organizations: [org1, org2]"), 1);
    assert_eq!(maximum("organizations: [org1, org2], requiredPeerCount: 3"), 3);
    assert_eq!(maximum("organizations: [org1, org2], maxPeerCount: 0"), 0);
    let both = "policy: \"OR('Org1MSP.member', 'Org1MSP.admin', 'Org2MSP.member')\"";
    assert_eq!(maximum(both), 1, "organizations count, not principals");
}

#[test]
fn every_rule_names_its_field() {
    let field = "spec.collections[0]";
    refused("[{name: _a, organizations: [org1]}]", &format!("{field}.name: \"_a\" must be"));
    refused("[{name: a.b, organizations: [org1]}]", &format!("{field}.name"));
    refused("[{name: \"\", organizations: [org1]}]", &format!("{field}.name"));
    refused(
        "[{name: a, organizations: [org1]}, {name: a, organizations: [org2]}]",
        "spec.collections[1].name: \"a\" stands there twice",
    );
    refused("[{name: a}]", &format!("{field}: set exactly one of"));
    refused(
        "[{name: a, organizations: [org1], policy: \"OR('Org1MSP.member')\"}]",
        &format!("{field}: set exactly one of"),
    );
    refused(
        "[{name: a, organizations: []}]",
        &format!("{field}.organizations: a collection needs"),
    );
    refused(
        "[{name: a, organizations: [org1, org3]}]",
        &format!("{field}.organizations[1]: \"org3\" is no member of Channel \"supply\""),
    );
    refused("[{name: a, organizations: [org9]}]", &format!("{field}.organizations[0]: \"org9\""));
    refused(
        "[{name: a, organizations: [org1, org1]}]",
        &format!("{field}.organizations[1]: \"org1\" stands there twice"),
    );
    refused("[{name: a, policy: OR(}]", &format!("{field}.policy"));
    refused(
        "[{name: a, policy: \"AND('Org1MSP.member', 'Org2MSP.member')\"}]",
        &format!("{field}.policy: must be nothing but an OR"),
    );
    refused(
        "[{name: a, policy: \"OR('Org1MSP.member', AND('Org1MSP.member', 'Org2MSP.member'))\"}]",
        &format!("{field}.policy: must be nothing but an OR"),
    );
    refused(
        "[{name: a, policy: \"OR('Org1MSP.member', 'Org3MSP.member')\"}]",
        &format!("{field}.policy: Org3MSP is not the MSP id of a member"),
    );
    refused(
        "[{name: a, organizations: [org1], requiredPeerCount: 2, maxPeerCount: 1}]",
        &format!("{field}.maxPeerCount: must not be less than requiredPeerCount (2)"),
    );
    refused(
        "[{name: a, organizations: [org1], endorsementPolicy: OR(}]",
        &format!("{field}.endorsementPolicy"),
    );
}

#[test]
fn a_collection_may_have_endorsers_of_its_own() {
    let endorsement = |text: &str| {
        let text = format!("[{{name: a, organizations: [org1], endorsementPolicy: \"{text}\"}}]");
        collections(&text)[0].endorsement.clone().unwrap()
    };
    let text = "OR('Org1MSP.peer')";
    assert_eq!(endorsement(text), Endorsement::Signature(text.to_owned()));
    let path = "/Channel/Application/Endorsement";
    assert_eq!(endorsement(path), Endorsement::ChannelPolicy(path.to_owned()));
}
