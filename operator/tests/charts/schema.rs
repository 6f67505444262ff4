//! `values.schema.json` of the network's chart, which is made of the definitions of the kinds.

use serde_json::{Map, Value, json};

use crate::{check_or_write, yaml};

#[test]
fn the_schema_of_networks_is_that_of_the_kinds() {
    let schema = serde_json::to_string_pretty(&network_schema()).unwrap();
    check_or_write("charts/weft-network/values.schema.json", &(schema + "\n"));
}

/// The schema, from `crds/`.
pub fn network_schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of weft-network",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "global": {
                "description": "Values that a parent chart hands to all its charts; not used here.",
                "type": "object"
            },
            "keep": {
                "description": "Leave the objects, and with them the network, when the release is uninstalled.",
                "type": "boolean"
            },
            "commonLabels": strings("Labels on every object."),
            "commonAnnotations": strings("Annotations on every object, such as `weft.dev/paused`."),
            "network": network(),
            "organizations": entries("organizations", "The organizations.", &["networkRef"]),
            "channels": entries("channels", "The channels.", &["networkRef"]),
            "chaincodes": entries("chaincodes", "The contracts.", &[]),
        }
    })
}

fn strings(description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": { "type": "string" }
    })
}

/// The spec of a kind as an entry of the values: its fields, and its metadata beside them.
fn entry(plural: &str, without: &[&str]) -> Map<String, Value> {
    let definition = yaml(&format!("crds/{plural}.yaml"));
    let version = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let spec = plain(&version["properties"]["spec"]);
    let Value::Object(mut spec) = spec else { panic!("{plural} has no spec") };
    let fields = spec["properties"].as_object_mut().unwrap();
    fields.retain(|name, _| !without.contains(&name.as_str()));
    // A chaincode's name on its channel; `name` is the object's.
    if let Some(name) = fields.remove("name") {
        fields.insert("chaincodeName".to_owned(), name);
    }
    fields.insert("labels".to_owned(), strings("Labels on the object."));
    fields.insert("annotations".to_owned(), strings("Annotations on the object."));
    if let Some(required) = spec.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !without.contains(&name.as_str().unwrap()));
    }
    spec
}

fn network() -> Value {
    let mut network = entry("ledgernetworks", &[]);
    let name = name("Name of the LedgerNetwork; the release's when absent.");
    network["properties"].as_object_mut().unwrap().insert("name".to_owned(), name);
    let about = "The LedgerNetwork: every field of its spec, and `name`, `labels`, `annotations`.";
    network.insert("description".to_owned(), about.into());
    Value::Object(network)
}

fn entries(plural: &str, about: &str, without: &[&str]) -> Value {
    let mut item = entry(plural, without);
    item["properties"]
        .as_object_mut()
        .unwrap()
        .insert("name".to_owned(), name("Name of the object."));
    let mut required = vec![Value::from("name")];
    let of_the_kind = item.get("required").and_then(Value::as_array).cloned();
    required.extend(of_the_kind.unwrap_or_default());
    item.insert("required".to_owned(), required.into());
    json!({ "description": about, "type": "array", "items": item })
}

fn name(about: &str) -> Value {
    json!({
        "description": about,
        "type": "string",
        "maxLength": 253,
        "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
    })
}

/// A schema without what only Kubernetes knows, that refuses unknown fields.
fn plain(schema: &Value) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    let mut plain = Map::new();
    for (key, value) in schema {
        match key.as_str() {
            "format" | "nullable" => {}
            key if key.starts_with("x-kubernetes-") => {}
            "properties" => {
                let fields = value.as_object().unwrap().iter();
                let fields: Map<_, _> =
                    fields.map(|(name, field)| (name.clone(), self::plain(field))).collect();
                plain.insert("additionalProperties".to_owned(), false.into());
                plain.insert(key.clone(), fields.into());
            }
            "items" | "additionalProperties" => {
                plain.insert(key.clone(), self::plain(value));
            }
            _ => {
                plain.insert(key.clone(), value.clone());
            }
        }
    }
    if schema.get("x-kubernetes-int-or-string") == Some(&true.into()) {
        plain.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if schema.get("nullable") == Some(&true.into())
        && let Some(Value::String(one)) = plain.get("type")
    {
        plain.insert("type".to_owned(), json!([one, "null"]));
    }
    plain.into()
}
