use super::*;

const BASIC: &str = include_str!("../../examples/basic.yaml");

fn problems(text: &str) -> Vec<String> {
    let manifest = Manifest::parse(text).unwrap();
    match validate(&manifest) {
        Ok(_) => Vec::new(),
        Err(Problems(problems)) => problems.iter().map(Problem::to_string).collect(),
    }
}

/// The example with one line changed breaks a rule.
#[track_caller]
fn check(from: &str, to: &str, expected: &str) {
    assert!(BASIC.contains(from), "the example has no {from:?}");
    let found = problems(&BASIC.replacen(from, to, 1));
    assert!(found.iter().any(|problem| problem.contains(expected)), "{found:#?}");
}

#[test]
fn the_example_is_valid() {
    let networks = validate(&Manifest::parse(BASIC).unwrap()).unwrap();
    let [network] = networks.as_slice() else { panic!("one network") };
    assert_eq!(network.ordering.replicas, 3);
    assert_eq!(network.organizations[0].users[0].name, "admin");
    assert_eq!(network.channels[0].organizations, ["org1", "org2"]);
    assert_eq!(
        network.channels[0].chaincodes[0].program,
        Program::Command(vec!["asset-contract".to_owned()])
    );
}

#[test]
fn every_rule_names_its_object_and_field() {
    check("replicas: 3", "replicas: 0", "LedgerNetwork \"basic\": spec.ordering.replicas");
    check("consensus: Raft", "consensus: Solo", "Solo runs with exactly one orderer");
    check(
        "[org1, org2]",
        "[org1, org3]",
        "Channel \"supply\": spec.organizations[1]: no Organization",
    );
    check("[org1, org2]", "[org1, org1]", "stands there twice");
    check("[org1, org2]", "[]", "at least one member");
    check("mspId: Org2MSP", "mspId: Org1MSP", "already the MSP id of Organization \"org1\"");
    check("name: supply", "name: Supply", "Channel \"Supply\": metadata.name");
    check("channelRef: supply", "channelRef: trade", "Chaincode \"asset\": spec.channelRef");
    check(
        "networkRef: basic\n  mspId: Org2MSP",
        "networkRef: other\n  mspId: Org2MSP",
        "Organization \"org2\": spec.networkRef",
    );
    check("name: user1", "name: User 1", "spec.users[0].name");
    check("OR('Org1MSP.peer', 'Org2MSP.peer')", "OR('Org1MSP.peer'", "spec.endorsementPolicy");
    check("command: [asset-contract]", "address: nowhere", "\"nowhere\" is not host:port");
    check("command: [asset-contract]", "image: a\n  address: a:1", "exactly one of");
    check("command: [asset-contract]", "address: a:1\n  register: true", "exactly one of");
    check("command: [asset-contract]", "register: false", "exactly one of");
    check(
        "replicas: 3",
        "replicas: 3\n    raft: {tickInterval: soon}",
        "spec.ordering.raft.tickInterval",
    );
    check("replicas: 3", "replicas: 3\n  batch: {preferredMaxBytes: 99999999}", "absoluteMaxBytes");
    check("replicas: 3", "replicas: 3\n  certificates: {renewBefore: 9999h}", "renewBefore");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = BASIC.replace("replicas: 3", "replicas: 0").replace("name: supply", "name: Supply");
    assert!(problems(&text).len() >= 2);
}

#[test]
fn node_settings_are_inherited_by_field() {
    let inherited = NodeSpec {
        image: Some("a".to_owned()),
        log_level: Some("info".to_owned()),
        config: BTreeMap::from([
            ("x".to_owned(), "1".to_owned()),
            ("y".to_owned(), "1".to_owned()),
        ]),
        ..NodeSpec::default()
    };
    let own = NodeSpec {
        log_level: Some("debug".to_owned()),
        config: BTreeMap::from([("y".to_owned(), "2".to_owned())]),
        ..NodeSpec::default()
    };
    let merged = merge_node(&inherited, &own);
    assert_eq!(merged.image.as_deref(), Some("a"));
    assert_eq!(merged.log_level.as_deref(), Some("debug"));
    assert_eq!(merged.config["x"], "1");
    assert_eq!(merged.config["y"], "2");
}

#[test]
fn what_is_valid_is_kept_and_what_depends_on_the_rest_waits() {
    let text = BASIC.replace("mspId: Org2MSP", "mspId: Org1MSP");
    let (networks, problems) = admissible(Manifest::parse(&text).unwrap());
    assert_eq!(networks[0].organizations.len(), 1);
    assert!(networks[0].channels.is_empty());
    let remedies: Vec<_> =
        problems.iter().map(|problem| (problem.object.kind, problem.remedy)).collect();
    assert_eq!(
        remedies,
        [("Organization", Remedy::Correct), ("Channel", Remedy::Wait), ("Chaincode", Remedy::Wait)]
    );
}

#[test]
fn a_manifest_without_its_network_waits() {
    let text = BASIC.replace("kind: LedgerNetwork", "kind: Channel");
    let manifest = Manifest::parse(&text.replace(
        "  ordering:\n    consensus: Raft\n    replicas: 3",
        "  networkRef: x\n  organizations: [y]",
    ))
    .unwrap();
    let (networks, problems) = admissible(manifest);
    assert!(networks.is_empty());
    assert!(problems.iter().all(|problem| problem.remedy == Remedy::Wait), "{problems:?}");
}
