//! Which policies a call falls under: the chaincode's, its collections', its keys'.

use std::collections::BTreeMap;

use weft_msp::policy::dsl;
use weft_peer::discovery::analysis::{
    AnalysisError, ChaincodeRules, CollectionRules, principal_sets,
};
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest};

use crate::principals::text;

/// `asset` needs A; its collection `own` needs B, its collection `plain` has no policy. `money`
/// needs C.
fn lookup(call: &ChaincodeCall) -> Result<ChaincodeRules, AnalysisError> {
    let policy = |text: &str| dsl::parse(text).unwrap();
    let collection =
        |text: Option<&str>| CollectionRules { members: Vec::new(), policy: text.map(policy) };
    let (org, collections) = match call.name.as_str() {
        "asset" => {
            let own = ("own".to_owned(), collection(Some("OR('B.peer')")));
            let plain = ("plain".to_owned(), collection(None));
            ("A", BTreeMap::from([own, plain]))
        }
        "money" => ("C", BTreeMap::new()),
        name => {
            let (chaincode, channel) = (name.to_owned(), "ch".to_owned());
            return Err(AnalysisError::NoChaincode { chaincode, channel });
        }
    };
    let policy = policy(&format!("OR('{org}.peer')"));
    Ok(ChaincodeRules { sequence: 1, policy, collections })
}

fn call(name: &str, collections: &[&str]) -> ChaincodeCall {
    ChaincodeCall {
        name: name.to_owned(),
        collection_names: collections.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn keyed(mut call: ChaincodeCall, policies: &[&str]) -> ChaincodeCall {
    call.disregard_namespace_policy = true;
    call.key_policies = policies.iter().map(|policy| dsl::parse(policy).unwrap()).collect();
    call
}

fn check(calls: Vec<ChaincodeCall>, expected: &str) {
    let found = principal_sets(&ChaincodeInterest { chaincodes: calls }, &lookup);
    assert_eq!(found.map_or_else(|error| error.to_string(), |sets| text(&sets)), expected);
}

#[test]
fn a_chaincode_and_those_it_calls() {
    check(vec![call("asset", &[])], "A.peer");
    check(vec![call("asset", &[]), call("money", &[])], "A.peer+C.peer");
    check(vec![call("nothing", &[])], "No metadata was found for chaincode nothing in channel ch");
    check(Vec::new(), "no principal sets remained after filtering");
}

#[test]
fn a_collections_own_policy_stands_for_the_chaincodes() {
    check(vec![call("asset", &["plain"])], "A.peer");
    check(vec![call("asset", &["own"])], "B.peer");
    check(vec![call("asset", &["own", "plain"])], "A.peer+B.peer");
    check(vec![call("asset", &[]), call("asset", &["own"])], "A.peer+B.peer");
}

#[test]
fn keys_with_policies_of_their_own() {
    check(vec![keyed(call("asset", &[]), &["OR('D.peer')"])], "D.peer");
    check(vec![keyed(call("asset", &[]), &["OR('D.peer')", "OR('E.peer')"])], "D.peer+E.peer");
    check(vec![keyed(call("asset", &["own"]), &[])], "B.peer");
    check(vec![keyed(call("asset", &["own"]), &["OR('D.peer')"])], "B.peer+D.peer");
    check(
        vec![keyed(call("asset", &[]), &[])],
        "requested to disregard chaincode asset's policy but key and collection policies are missing, either disable DisregardNamespacePolicy or specify at least one key policy or at least one collection policy",
    );
    let mut both = keyed(call("asset", &[]), &["OR('D.peer')"]);
    both.disregard_namespace_policy = false;
    check(vec![both], "A.peer+D.peer");
}
