//! Which objects a command means.

use super::*;

/// Two organizations with peers and an external one, two channels, three contracts.
const MANIFEST: &str = include_str!("testdata/objects.yaml");

/// The objects of the test manifest, statuses included.
pub(in crate::cli::cluster) fn objects() -> Objects {
    let mut objects = Objects { namespace: "ledger".into(), ..Objects::default() };
    for document in serde_yaml::Deserializer::from_str(MANIFEST) {
        let value = <serde_yaml::Value as serde::Deserialize>::deserialize(document).unwrap();
        match value["kind"].as_str().unwrap() {
            "LedgerNetwork" => objects.networks.push(serde_yaml::from_value(value).unwrap()),
            "Organization" => objects.organizations.push(serde_yaml::from_value(value).unwrap()),
            "Channel" => objects.channels.push(serde_yaml::from_value(value).unwrap()),
            "Chaincode" => objects.chaincodes.push(serde_yaml::from_value(value).unwrap()),
            other => panic!("{other}"),
        }
    }
    objects
}

fn wanted(org: &str, channel: &str, chaincode: &str) -> Wanted {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Wanted {
        org: some(org),
        channel: some(channel),
        chaincode: some(chaincode),
        needs_chaincode: true,
        ..Wanted::default()
    }
}

fn check(wanted: &Wanted, expected: &str) {
    let chosen = match objects().choose(wanted) {
        Ok(choice) => format!(
            "{} of {} on {} {}",
            choice.user,
            choice.organization.name_any(),
            choice.channel.name_any(),
            choice.chaincode
        ),
        Err(error) => error.to_string(),
    };
    assert_eq!(chosen, expected);
}

#[test]
fn what_is_named_is_taken() {
    check(&wanted("org1", "supply", "basic"), "ada of org1 on supply basic");
    check(&wanted("Org2MSP", "supply", "qscc"), "admin of org2 on supply qscc");
    let other = Wanted { user: Some("bob".into()), ..wanted("org1", "supply", "basic") };
    check(&other, "bob of org1 on supply basic");
    let admin = Wanted { as_admin: true, ..wanted("org1", "supply", "basic") };
    check(&admin, "admin of org1 on supply basic");
}

#[test]
fn what_is_left_open_is_the_only_one() {
    // `notary` stands on one channel only, and that has one member with peers here.
    check(&wanted("", "", "notary"), "ada of org1 on audit notary");
    check(&wanted("", "audit", ""), "ada of org1 on audit notary");
    let none = Wanted { needs_chaincode: false, ..wanted("", "audit", "") };
    check(&none, "ada of org1 on audit ");
}

#[test]
fn several_are_listed_with_the_flag_that_chooses() {
    check(
        &wanted("org1", "", ""),
        "there are several channels in namespace \"ledger\": audit, supply; choose one with --channel",
    );
    check(
        &wanted("org1", "supply", ""),
        "there are several chaincodes in namespace \"ledger\": asset_v2, basic; choose one with --chaincode",
    );
    check(
        &wanted("", "supply", "basic"),
        "there are several organizations in namespace \"ledger\": org1, org2; choose one with --org",
    );
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    check(
        &wanted("org1", "suply", "basic"),
        "there is no channel \"suply\" in namespace \"ledger\"; there are: audit, supply",
    );
    check(
        &wanted("Org9MSP", "supply", "basic"),
        "there is no organization \"Org9MSP\" in namespace \"ledger\"; there are: org1, org2, partner",
    );
    check(
        &wanted("partner", "supply", "basic"),
        "organization \"partner\" is external: its keys and peers are elsewhere, so using its peers is up to whoever runs it",
    );
}
