//! `docs/manifest.md`: every field of the four kinds, from their CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::{ReferenceError, banner, table};
use crate::api;

const INTRODUCTION: &str = "\
# The manifest

A manifest is a YAML file of one or more documents, separated by `---`, each an object of
`apiVersion: weft.dev/v1alpha1`. `weft validate -f FILE` checks one and starts nothing;
`weft up -f FILE` carries it out. `examples/basic.yaml` is a complete one.

Every object has a `metadata.name`; `weft up` keeps no namespaces. Durations are written
`500ms`, `30s`, `15m`, `1h` or `1m30s`. Unknown fields are refused. An empty default means that
the field is absent. What holds between objects (a reference to an object that is not there, an
organization twice, a policy that names an unknown MSP) is checked as well, and every problem is
told at once, each with its object and field.

The same types are the CustomResourceDefinitions in `crds/`. `weft up` refuses the few fields
that need a cluster (`external`, `ca.identitySecretRef`, `ca.tlsSecretRef`, a Chaincode's
`image`) and says what to do instead. The kinds also have a `status`, which the operator writes in a
cluster; `deletionPolicy` is for a cluster as well.

";

/// Fields of Kubernetes' own types, described there and not field by field here.
const KUBERNETES: [(&str, &str); 2] =
    [("resources", "ResourceRequirements"), ("env", "list of EnvVar")];

/// The page on the kinds.
///
/// # Errors
/// [`ReferenceError::Describe`] when a definition cannot be written as JSON.
pub fn manifest() -> Result<String, ReferenceError> {
    let mut page = banner("weft-operator docs");
    page.push_str(INTRODUCTION);
    let mut crds = api::crds();
    // In the order in which a reader meets them, not that of the alphabet.
    let order = ["LedgerNetwork", "Organization", "Channel", "Chaincode"];
    crds.sort_by_key(|crd| order.iter().position(|kind| *kind == crd.spec.names.kind));
    for crd in &crds {
        append_kind(&mut page, crd)?;
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    Ok(page)
}

fn append_kind(page: &mut String, crd: &CustomResourceDefinition) -> Result<(), ReferenceError> {
    let names = &crd.spec.names;
    let json = serde_json::to_value(crd)
        .map_err(|source| ReferenceError::Describe { what: names.kind.clone(), source })?;
    let spec = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`"));
    let short: Vec<_> = short.collect();
    page.push_str(&format!("## {}\n\n", names.kind));
    if let Some(description) = spec.get("description").and_then(Value::as_str) {
        page.push_str(&format!("{description}\n\n"));
    }
    page.push_str(&format!("In a cluster: `{}`, short {}.\n\n", names.plural, short.join(", ")));
    let mut walk = Walk::default();
    walk.rules(spec, "spec");
    walk.fields(spec, "");
    table::append(page, &["Field of `spec`", "Value", "Default", "Meaning"], &walk.rows);
    if !walk.rules.is_empty() {
        page.push_str("Rules:\n\n");
        for rule in walk.rules {
            page.push_str(&format!("- {rule}\n"));
        }
        page.push('\n');
    }
    Ok(())
}

#[derive(Default)]
struct Walk {
    rows: Vec<Vec<String>>,
    rules: Vec<String>,
}

impl Walk {
    fn fields(&mut self, schema: &Value, prefix: &str) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        for (name, property) in properties {
            let path = format!("{prefix}{name}");
            let known = KUBERNETES.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
            let kind =
                known.map_or_else(|| table::kind(property), |kind| format!("Kubernetes' {kind}"));
            let required = schema
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|names| names.iter().any(|required| required == name));
            let nested = property.get("properties").is_some();
            let default = match property.get("default") {
                _ if required => "required".to_owned(),
                // The fields below say it one by one.
                Some(_) if nested => String::new(),
                Some(value) => table::default_value(value),
                None => String::new(),
            };
            let meaning = table::description(property).unwrap_or_default();
            self.rows.push(vec![format!("`{path}`"), kind, default, meaning]);
            self.rules(property, &format!("`{path}`"));
            if known.is_none() {
                self.fields(property, &format!("{path}."));
                if let Some(items) = property.get("items") {
                    self.rules(items, &format!("`{path}[]`"));
                    self.fields(items, &format!("{path}[]."));
                }
            }
        }
    }

    fn rules(&mut self, schema: &Value, path: &str) {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        for rule in rules.into_iter().flatten() {
            if let Some(message) = rule.get("message").and_then(Value::as_str) {
                self.rules.push(format!("{path}: {message}."));
            }
        }
    }
}
