use weft_config::Endpoint;

use super::*;
use crate::cluster::topology::NodeKind;

fn chaincode(version: &str) -> model::Chaincode {
    model::Chaincode {
        name: "asset".to_owned(),
        version: version.to_owned(),
        program: model::Program::Image("asset:1".to_owned()),
        env: Vec::new(),
        endorsement: Endorsement::ChannelPolicy(model::DEFAULT_ENDORSEMENT.to_owned()),
        init_required: false,
        collections: Vec::new(),
    }
}

fn collection(name: &str, members: &str) -> model::Collection {
    model::Collection {
        name: name.to_owned(),
        members: dsl::parse(members).unwrap(),
        required_peers: 0,
        maximum_peers: 1,
        block_to_live: 0,
        member_only_read: false,
        member_only_write: false,
        endorsement: None,
    }
}

fn committed(chaincode: &model::Chaincode, sequence: i64) -> QueryChaincodeDefinitionResult {
    QueryChaincodeDefinitionResult {
        sequence,
        version: chaincode.version.clone(),
        validation_parameter: policy(chaincode).unwrap(),
        init_required: chaincode.init_required,
        // A peer tells an empty package where there are none.
        collections: Some(collections::package(chaincode).unwrap().unwrap_or_default()),
        ..QueryChaincodeDefinitionResult::default()
    }
}

fn peer(name: &str, msp_id: &str) -> NodeRef {
    NodeRef {
        name: name.to_owned(),
        kind: NodeKind::Peer,
        holder: msp_id.to_lowercase(),
        msp_id: MspId::new(msp_id).unwrap(),
        endpoint: Endpoint::new(name, 7051),
        address: format!("{name}:7051"),
        server_name: name.to_owned(),
        participation: None,
        operations: None,
    }
}

#[test]
fn the_package_follows_from_name_version_and_address_alone() {
    let first = package(&chaincode("1.0"), "asset-a.ns.svc:9999").unwrap();
    assert_eq!(first, package(&chaincode("1.0"), "asset-a.ns.svc:9999").unwrap());
    assert!(first.id.starts_with("asset_1.0:"), "{}", first.id);
    assert_ne!(first.id, package(&chaincode("1.0"), "asset-b.ns.svc:9999").unwrap().id);
    assert!(package(&chaincode("not a label"), "a:1").is_err());
}

#[test]
fn the_sequence_moves_with_the_definition_only() {
    let now = chaincode("1.0");
    let check = |wanted: &model::Chaincode, on_ledger: Option<i64>, expected: (i64, bool)| {
        let on_ledger = on_ledger.map(|sequence| committed(&now, sequence));
        let (definition, unchanged) = definition(wanted, on_ledger.as_ref()).unwrap();
        assert_eq!((definition.sequence, unchanged), expected);
    };
    check(&now, None, (1, false));
    check(&now, Some(3), (3, true));
    check(&chaincode("1.1"), Some(3), (4, false));
    check(&model::Chaincode { init_required: true, ..now.clone() }, Some(3), (4, false));
    let endorsement = Endorsement::Signature("OR('Org1MSP.peer')".to_owned());
    check(&model::Chaincode { endorsement, ..now.clone() }, Some(3), (4, false));
    let program = model::Program::Image("asset:2".to_owned());
    check(&model::Chaincode { program, ..now.clone() }, Some(3), (3, true));
}

#[test]
fn collections_are_part_of_the_definition() {
    let both = "OR('AMSP.member','BMSP.member')";
    let with =
        |collections: Vec<model::Collection>| model::Chaincode { collections, ..chaincode("1.0") };
    let now = with(vec![collection("a", both), collection("b", "OR('AMSP.member')")]);
    let on_ledger = committed(&now, 3);
    let check = |wanted: &model::Chaincode, expected: (i64, bool)| {
        let (definition, unchanged) = definition(wanted, Some(&on_ledger)).unwrap();
        assert_eq!((definition.sequence, unchanged), expected);
        definition
    };
    check(&now, (3, true));
    let turned: Vec<_> = now.collections.iter().rev().cloned().collect();
    let kept = check(&with(turned), (3, true));
    assert_eq!(kept.collections, on_ledger.collections, "approvals are of what is committed");

    let mut more = now.collections.clone();
    more.push(collection("c", both));
    let next = check(&with(more), (4, false));
    assert_eq!(next.collections.unwrap().config.len(), 3);
    type Change = fn(&mut model::Collection);
    let changes: [Change; 6] = [
        |one| one.members = dsl::parse("OR('AMSP.member')").unwrap(),
        |one| one.required_peers = 1,
        |one| one.maximum_peers = 2,
        |one| one.member_only_read = true,
        |one| one.member_only_write = true,
        |one| one.endorsement = Some(Endorsement::Signature("OR('AMSP.peer')".to_owned())),
    ];
    for change in changes {
        let mut changed = now.collections.clone();
        change(&mut changed[0]);
        check(&with(changed), (4, false));
    }
}

#[test]
fn a_change_of_collections_that_no_peer_takes_is_told_before_it_is_tried() {
    let one = collection("a", "OR('AMSP.member')");
    let with = |collections| model::Chaincode {
        collections,
        version: "2.0".to_owned(),
        ..chaincode("1.0")
    };
    let on_ledger = committed(&with(vec![one.clone()]), 1);
    let refused = |wanted: Vec<model::Collection>| {
        definition(&with(wanted), Some(&on_ledger)).unwrap_err().to_string()
    };
    let removed = refused(Vec::new());
    assert!(removed.contains("spec.collections: \"a\" is committed"), "{removed}");
    let shorter = refused(vec![model::Collection { block_to_live: 5, ..one }]);
    assert!(shorter.contains("blockToLive of \"a\" is 0 on the channel"), "{shorter}");
}

#[test]
fn an_approval_counts_for_its_collections_only() {
    let plain = chaincode("1.0");
    let with = model::Chaincode {
        collections: vec![collection("a", "OR('AMSP.member')")],
        ..plain.clone()
    };
    let (definition, _) = definition(&with, None).unwrap();
    let approval = |of: &model::Chaincode| QueryApprovedChaincodeDefinitionResult {
        version: definition.version.clone(),
        validation_parameter: definition.policy.clone(),
        collections: collections::package(of).unwrap(),
        source: Some(weft_protos::lifecycle::ChaincodeSource {
            r#type: Some(chaincode_source::Type::LocalPackage(chaincode_source::Local {
                package_id: "asset_1.0:aa".to_owned(),
            })),
        }),
        ..QueryApprovedChaincodeDefinitionResult::default()
    };
    assert!(is_approval_of(&approval(&with), &definition, "asset_1.0:aa"));
    assert!(!is_approval_of(&approval(&plain), &definition, "asset_1.0:aa"));
}

#[test]
fn an_approval_counts_for_its_package_only() {
    let (definition, _) = definition(&chaincode("1.0"), None).unwrap();
    let approval = |package: &str| QueryApprovedChaincodeDefinitionResult {
        version: definition.version.clone(),
        validation_parameter: definition.policy.clone(),
        source: Some(weft_protos::lifecycle::ChaincodeSource {
            r#type: Some(chaincode_source::Type::LocalPackage(chaincode_source::Local {
                package_id: package.to_owned(),
            })),
        }),
        ..QueryApprovedChaincodeDefinitionResult::default()
    };
    assert!(is_approval_of(&approval("asset_1.0:aa"), &definition, "asset_1.0:aa"));
    assert!(!is_approval_of(&approval("asset_1.0:bb"), &definition, "asset_1.0:aa"));
    let other = QueryApprovedChaincodeDefinitionResult {
        version: "0.9".to_owned(),
        ..approval("asset_1.0:aa")
    };
    assert!(!is_approval_of(&other, &definition, "asset_1.0:aa"));
}

#[test]
fn a_peer_is_acquainted_when_it_knows_everybody_who_is_here() {
    let counts = |all: &[(&str, usize)]| -> BTreeMap<String, usize> {
        all.iter().map(|(org, count)| ((*org).to_owned(), *count)).collect()
    };
    let here = counts(&[("AMSP", 2), ("BMSP", 1)]);
    // More peers are elsewhere.
    assert!(is_acquainted(&counts(&[("AMSP", 2), ("BMSP", 3), ("CMSP", 1)]), &here));
    assert!(!is_acquainted(&counts(&[("AMSP", 1), ("BMSP", 1)]), &here));
    assert!(!is_acquainted(&counts(&[("AMSP", 2)]), &here));
}

#[test]
fn endorsers_are_chosen_by_the_policy() {
    let peers = [peer("a0", "AMSP"), peer("a1", "AMSP"), peer("b0", "BMSP")];
    let all: Vec<&NodeRef> = peers.iter().collect();
    let check = |text: &str, peers: &[&NodeRef], expected: Option<&[&str]>| {
        let policy = dsl::parse(text).unwrap();
        assert_eq!(choose_endorsers(&policy, peers).as_deref(), expected, "{text}");
    };
    check("OR('AMSP.peer','BMSP.peer')", &all[2..], Some(&["b0"]));
    check("AND('AMSP.peer','BMSP.peer')", &all, Some(&["a0", "b0"]));
    check("AND('AMSP.peer','BMSP.peer')", &all[..2], None);
    check("OutOf(2,'AMSP.peer','BMSP.peer','CMSP.peer')", &all[..2], None);
    check("OutOf(2,'AMSP.peer','BMSP.peer','CMSP.peer')", &all, Some(&["a0", "b0"]));
}
