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
    }
}

fn committed(chaincode: &model::Chaincode, sequence: i64) -> QueryChaincodeDefinitionResult {
    QueryChaincodeDefinitionResult {
        sequence,
        version: chaincode.version.clone(),
        validation_parameter: policy(chaincode).unwrap(),
        init_required: chaincode.init_required,
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
