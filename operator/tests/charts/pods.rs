//! The operator's pod, and how it fits the programs.

use serde_json::json;

use crate::{text, texts_below, yaml};
use weft_operator::cluster::names::{MANAGER, label, port};

/// What the profile `restricted` of Pod Security asks of a pod without volumes
/// (kubernetes.io/docs/concepts/security/pod-security-standards).
#[test]
fn the_operator_fits_the_restricted_profile() {
    let values = yaml("charts/weft-operator/values.yaml");
    let (pod, container) = (&values["podSecurityContext"], &values["securityContext"]);
    assert_eq!(pod["runAsNonRoot"], true);
    assert!(pod["runAsUser"].as_i64().unwrap() > 0);
    assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], json!({ "drop": ["ALL"] }));
    let template = text("charts/weft-operator/templates/deployment.yaml");
    for word in ["hostNetwork", "hostPID", "hostIPC", "hostPath", "privileged", "command:"] {
        assert!(!template.contains(word), "{word}");
    }
}

#[test]
fn requests_and_limits_are_those_that_are_promised() {
    let resources = &yaml("charts/weft-operator/values.yaml")["resources"];
    assert_eq!(resources["requests"], json!({ "cpu": "20m", "memory": "32Mi" }));
    assert_eq!(resources["limits"], json!({ "memory": "256Mi" }));
}

/// The policies of nodes let the operator in by this label.
#[test]
fn the_operators_pods_have_the_name_that_nodes_let_in() {
    let helpers = text("charts/weft-operator/templates/_helpers.tpl");
    assert!(helpers.contains(&format!("{}: {MANAGER}", label::NAME)));
}

#[test]
fn ports_are_those_of_the_programs() {
    let operations = port::OPERATOR_OPERATIONS;
    for file in ["deployment.yaml", "service.yaml"] {
        let template = text(&format!("charts/weft-operator/templates/{file}"));
        assert!(template.contains(&operations.to_string()), "{file}");
    }
    let policy = text("charts/weft-operator/templates/networkpolicy.yaml");
    for port in [
        port::ORDERER,
        port::PEER,
        port::PARTICIPATION,
        port::ORDERER_OPERATIONS,
        port::PEER_OPERATIONS,
    ] {
        assert!(policy.contains(&port.to_string()), "{port}");
    }
}

/// A variable that the program does not read would be a flag without effect.
#[test]
fn the_operator_reads_every_variable_that_the_chart_sets() {
    let sources = texts_below("operator/src", ".rs");
    let template = text("charts/weft-operator/templates/deployment.yaml");
    let names = template.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
    for name in names.filter(|name| name.starts_with("WEFT_") || name.starts_with("POD_")) {
        let quoted = format!("\"{name}\"");
        assert!(sources.iter().any(|(_, text)| text.contains(&quoted)), "nothing reads {name}");
    }
}
