//! Values, their schemas and the templates that use them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{json, texts_below, yaml};

/// Paths of a schema's fields that are fixed by name, with each field's schema.
pub fn fields(schema: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let Some(properties) = schema["properties"].as_object() else { return found };
    for (name, field) in properties {
        found.push((name.clone(), field.clone()));
        let below = fields(field);
        found.extend(below.into_iter().map(|(path, field)| (format!("{name}.{path}"), field)));
    }
    found
}

/// What the values say at a dotted path.
pub fn at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |value, key| value.get(key))
}

fn fits(value: &Value, schema: &Value) -> bool {
    let is = |word: &str| match word {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("the schema has the type {other}"),
    };
    match &schema["type"] {
        Value::String(word) => is(word),
        Value::Array(words) => words.iter().any(|word| is(word.as_str().unwrap())),
        other => panic!("the schema has the type {other}"),
    }
}

#[test]
fn every_value_of_the_operator_has_a_default_of_its_type_and_a_description() {
    let schema = json("charts/weft-operator/values.schema.json");
    let values = yaml("charts/weft-operator/values.yaml");
    for (path, field) in fields(&schema) {
        assert!(field["description"].is_string(), "{path} has no description");
        if path == "global" {
            continue;
        }
        let value = at(&values, &path).unwrap_or_else(|| panic!("{path} has no default"));
        assert!(fits(value, &field), "{path} does not fit its type");
    }
}

/// A value that is not there would be an empty string in what is rendered.
#[test]
fn templates_use_every_value_and_no_other() {
    let schema = json("charts/weft-operator/values.schema.json");
    let known: BTreeSet<String> = fields(&schema).into_iter().map(|(path, _)| path).collect();
    let mut used = BTreeSet::new();
    for (file, template) in texts_below("charts/weft-operator/templates", "") {
        for rest in template.split(".Values.").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let path = rest[..end.unwrap_or(rest.len())].trim_end_matches('.').to_owned();
            assert!(known.contains(&path), "{file} uses {path}, which is not in the schema");
            used.insert(path);
        }
    }
    for path in known {
        let is_used = used.iter().any(|one| {
            *one == path
                || one.starts_with(&format!("{path}."))
                || path.starts_with(&format!("{one}."))
        });
        assert!(is_used || path == "global", "no template uses {path}");
    }
}

#[test]
fn schemas_refuse_unknown_fields() {
    fn walk(path: &str, schema: &Value) {
        if schema["properties"].is_object() {
            assert_eq!(schema["additionalProperties"], false, "{path}");
        }
        match schema {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, below)| walk(&format!("{path}/{key}"), below));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(path, item)),
            _ => {}
        }
    }
    for chart in ["weft-operator", "weft-network"] {
        walk(chart, &json(&format!("charts/{chart}/values.schema.json")));
    }
}

/// The defaults are what the operator accepts: read by its own types.
#[test]
fn the_default_network_is_one_that_the_operator_takes() {
    use weft_operator::api::{ChaincodeSpec, ChannelSpec, LedgerNetworkSpec, OrganizationSpec};
    let values = yaml("charts/weft-network/values.yaml");
    let entries = |key: &str| values[key].as_array().unwrap().clone();
    let spec = |mut entry: Value, network: Option<&str>| {
        let fields = entry.as_object_mut().unwrap();
        fields.remove("name");
        if let Some(network) = network {
            fields.insert("networkRef".to_owned(), network.into());
        }
        entry
    };
    let network: LedgerNetworkSpec =
        serde_json::from_value(spec(values["network"].clone(), None)).unwrap();
    assert_eq!(network.ordering.replicas, 3);
    let organizations = entries("organizations");
    assert_eq!(organizations.len(), 2);
    for organization in &organizations {
        let spec: OrganizationSpec =
            serde_json::from_value(spec(organization.clone(), Some("n"))).unwrap();
        assert_eq!(spec.peers.replicas, 2);
    }
    for channel in entries("channels") {
        let spec: ChannelSpec = serde_json::from_value(spec(channel, Some("n"))).unwrap();
        for member in &spec.organizations {
            assert!(organizations.iter().any(|one| one["name"] == **member), "{member}");
        }
    }
    for chaincode in entries("chaincodes") {
        let spec: ChaincodeSpec = serde_json::from_value(spec(chaincode, None)).unwrap();
        assert!(spec.image.is_some());
    }
}

/// Values that pages tell people to set.
#[test]
fn every_documented_value_exists() {
    let schema = json("charts/weft-operator/values.schema.json");
    let known = fields(&schema);
    let mut pages = texts_below("docs", ".md");
    pages.push(("README.md".to_owned(), crate::text("README.md")));
    let mut found = 0;
    for (page, text) in pages {
        let after = text.split("--set ").skip(1).map(|rest| rest.trim_start_matches('\''));
        for rest in after {
            let end = rest.find(['=', '[']).unwrap_or(0);
            let path = &rest[..end];
            let exists = known.iter().any(|(known, field)| {
                let below = path.strip_prefix(&format!("{known}."));
                known == path || below.is_some_and(|_| field["additionalProperties"].is_object())
            });
            assert!(exists, "{page}: there is no value {path:?}");
            found += 1;
        }
    }
    assert!(found > 5, "{found} values found");
}
