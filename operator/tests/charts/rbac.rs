//! Permissions. The list below is the decision; `files/rbac.yaml` must say the same, and the
//! templates must take every rule from there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{text, texts_below, yaml};

const READ: &[&str] = &["get", "list", "watch"];
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "update", "delete"];
const STATUS: &[&str] = &["get", "patch", "update"];

/// Section, API group, resource, verbs. A new line here is a new power over somebody's cluster:
/// say in `docs/install.md` what it is for.
const ALLOWED: &[(&str, &str, &str, &[&str])] = &[
    ("operator", "weft.dev", "ledgernetworks", &["get", "list", "watch", "patch", "update"]),
    ("operator", "weft.dev", "organizations", &["get", "list", "watch", "patch", "update"]),
    ("operator", "weft.dev", "channels", &["get", "list", "watch", "patch", "update"]),
    ("operator", "weft.dev", "chaincodes", &["get", "list", "watch", "patch", "update"]),
    ("operator", "weft.dev", "ledgernetworks/status", STATUS),
    ("operator", "weft.dev", "organizations/status", STATUS),
    ("operator", "weft.dev", "channels/status", STATUS),
    ("operator", "weft.dev", "chaincodes/status", STATUS),
    ("operator", "weft.dev", "ledgernetworks/finalizers", &["update"]),
    ("operator", "weft.dev", "organizations/finalizers", &["update"]),
    ("operator", "weft.dev", "channels/finalizers", &["update"]),
    ("operator", "weft.dev", "chaincodes/finalizers", &["update"]),
    ("operator", "", "secrets", OWN),
    ("operator", "", "configmaps", OWN),
    ("operator", "", "services", OWN),
    ("operator", "", "persistentvolumeclaims", OWN),
    ("operator", "apps", "statefulsets", OWN),
    ("operator", "apps", "deployments", OWN),
    ("operator", "policy", "poddisruptionbudgets", OWN),
    ("operator", "networking.k8s.io", "networkpolicies", OWN),
    ("operator", "", "pods", &["get", "list", "watch", "patch", "delete"]),
    ("operator", "", "events", &["create", "patch"]),
    ("operator", "events.k8s.io", "events", &["create", "patch"]),
    ("lease", "coordination.k8s.io", "leases", &["get", "update"]),
    ("leaseCreate", "coordination.k8s.io", "leases", &["create"]),
    ("view", "weft.dev", "ledgernetworks", READ),
    ("view", "weft.dev", "organizations", READ),
    ("view", "weft.dev", "channels", READ),
    ("view", "weft.dev", "chaincodes", READ),
    ("edit", "weft.dev", "ledgernetworks", OWN),
    ("edit", "weft.dev", "organizations", OWN),
    ("edit", "weft.dev", "channels", OWN),
    ("edit", "weft.dev", "chaincodes", OWN),
];

/// What no rule may name, whatever the list above says.
const FORBIDDEN: &[&str] = &[
    "*",
    "escalate",
    "bind",
    "impersonate",
    "deletecollection",
    "pods/exec",
    "pods/log",
    "pods/attach",
    "pods/portforward",
    "serviceaccounts/token",
    "nodes/proxy",
];

type Grants = BTreeMap<(String, String, String), BTreeSet<String>>;

fn words<'a>(rule: &'a Value, key: &str) -> Vec<&'a str> {
    rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

fn granted() -> Grants {
    let mut grants = Grants::new();
    for (section, rules) in yaml("charts/weft-operator/files/rbac.yaml").as_object().unwrap() {
        for rule in rules.as_array().unwrap() {
            let keys: Vec<&String> = rule.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["apiGroups", "resources", "verbs"], "{section}");
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    let key = (section.clone(), group.to_owned(), resource.to_owned());
                    let verbs = grants.entry(key).or_default();
                    verbs.extend(words(rule, "verbs").into_iter().map(str::to_owned));
                }
            }
        }
    }
    grants
}

#[test]
fn permissions_are_the_ones_that_were_decided_on() {
    let allowed: Grants = ALLOWED
        .iter()
        .map(|(section, group, resource, verbs)| {
            let key = ((*section).to_owned(), (*group).to_owned(), (*resource).to_owned());
            (key, verbs.iter().map(|verb| (*verb).to_owned()).collect())
        })
        .collect();
    assert_eq!(granted(), allowed);
}

#[test]
fn nothing_that_leads_to_more_power_is_granted() {
    for ((section, group, resource), verbs) in granted() {
        for word in [&group, &resource].into_iter().chain(&verbs) {
            assert!(!FORBIDDEN.contains(&word.as_str()), "{section}: {group}/{resource} {word}");
        }
        assert!(!group.starts_with("rbac."), "{section}: roles are not the operator's to change");
    }
}

#[test]
fn the_lease_is_restricted_to_its_name() {
    let template = text("charts/weft-operator/templates/rbac.yaml");
    let named = r#"merge (dict "resourceNames" (list $.Values.leaderElection.leaseName)) ."#;
    assert!(template.contains(named));
}

/// A rule in a template would escape the list.
#[test]
fn templates_write_no_rules_of_their_own() {
    let templates = texts_below("charts/weft-operator/templates", "");
    let all = templates.into_iter().chain(texts_below("charts/weft-network/templates", ""));
    for (file, template) in all {
        assert!(!template.contains("apiGroups:") && !template.contains("verbs:"), "{file}");
        if !["rbac.yaml", "user-roles.yaml"].iter().any(|name| file.ends_with(name)) {
            assert!(!template.contains("rbac.authorization.k8s.io"), "{file} makes roles");
        }
    }
}
