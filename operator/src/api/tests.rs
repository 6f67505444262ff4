use kube::CustomResourceExt;

use super::*;

#[test]
fn every_field_of_every_crd_has_a_description() {
    fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) else {
            if let Some(items) = schema.get("items") {
                walk(path, items, missing);
            }
            return;
        };
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            if property.get("description").is_none() {
                missing.push(path.clone());
            }
            walk(&path, property, missing);
        }
    }
    for crd in crds() {
        let json = serde_json::to_value(&crd).unwrap();
        let schema =
            &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut missing = Vec::new();
        walk("spec", schema, &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "{}", crd.spec.names.kind);
    }
}

#[test]
fn crds_carry_short_names_and_the_category() {
    let names: Vec<_> = crds()
        .into_iter()
        .map(|c| (c.spec.names.short_names.unwrap(), c.spec.names.categories.unwrap()))
        .collect();
    for (short, (short_names, categories)) in ["cc", "ch", "ln", "org"].iter().zip(names) {
        assert_eq!(short_names, [short.to_string()]);
        assert_eq!(categories, ["weft"]);
    }
}

#[test]
fn immutable_fields_are_guarded_by_cel() {
    let crd = serde_json::to_string(&Organization::crd()).unwrap();
    assert!(crd.contains("an MSP id cannot change"));
}

#[test]
fn a_minimal_network_takes_every_default() {
    let network: LedgerNetwork = serde_yaml::from_str(
        "apiVersion: weft.dev/v1alpha1\nkind: LedgerNetwork\nmetadata: {name: n}\nspec: {}",
    )
    .unwrap();
    assert_eq!(network.spec.ordering.replicas, 3);
    assert_eq!(network.spec.ordering.consensus, ConsensusType::Raft);
    assert_eq!(network.spec.batch.max_message_count, 500);
    assert_eq!(network.spec.deletion_policy, DeletionPolicy::Retain);
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let error = serde_yaml::from_str::<OrganizationSpec>("networkRef: n\nmspId: A\npers: {}")
        .unwrap_err()
        .to_string();
    assert!(error.contains("pers"), "{error}");
}
