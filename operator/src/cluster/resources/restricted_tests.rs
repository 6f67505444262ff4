//! A pod that passes, and for each rule the least change that breaks it.

use serde_json::{Value, json};

use super::*;

fn pod() -> Value {
    json!({
        "containers": [{
            "name": "node",
            "ports": [{ "containerPort": 7050 }],
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8443 } },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
            },
        }],
        "securityContext": {
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumes": [
            { "name": "a", "configMap": { "name": "a" } },
            { "name": "b", "secret": { "secretName": "b" } },
            { "name": "c", "persistentVolumeClaim": { "claimName": "c" } },
            { "name": "d", "emptyDir": {} },
            { "name": "e", "projected": { "sources": [] } },
            { "name": "f", "downwardAPI": {} },
            { "name": "g", "csi": { "driver": "g" } },
            { "name": "h", "ephemeral": {} },
        ],
    })
}

fn broken(pod: Value) -> Vec<String> {
    violations(&serde_json::from_value::<PodSpec>(pod).unwrap())
}

/// Sets the value at a path of the pod that passes (`null` removes it), and compares what is
/// wrong then.
fn check(path: &str, value: Value, expected: &[&str]) {
    let mut pod = pod();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = pod.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(name.to_owned(), value.clone());
    assert_eq!(broken(pod), expected, "{path} = {value}");
}

const CONTEXT: &str = "/containers/0/securityContext";

#[test]
fn a_restricted_pod_passes() {
    assert_eq!(broken(pod()), Vec::<String>::new());
}

#[test]
fn a_bare_pod_breaks_every_rule_that_asks_for_something() {
    let field = "containers[node].securityContext";
    assert_eq!(
        broken(json!({ "containers": [{ "name": "node" }] })),
        [
            format!("{field}.allowPrivilegeEscalation: must be false"),
            format!("{field}.runAsNonRoot: must be true, here or for the pod"),
            format!(
                "{field}.seccompProfile: must be RuntimeDefault or Localhost, here or for the pod"
            ),
            format!("{field}.capabilities: must drop ALL"),
        ]
    );
}

#[test]
fn the_host_stays_out_of_reach() {
    check("/hostNetwork", json!(true), &["hostNetwork: must not be true"]);
    check("/hostPID", json!(true), &["hostPID: must not be true"]);
    check("/hostIPC", json!(true), &["hostIPC: must not be true"]);
    check("/hostNetwork", json!(false), &[]);
    let ports = "/containers/0/ports/0/hostPort";
    check(ports, json!(80), &["containers[node].ports[7050].hostPort: must not be set"]);
    check(ports, json!(0), &[]);
    let probe = "/containers/0/readinessProbe/httpGet/host";
    check(probe, json!("10.0.0.1"), &["containers[node].readinessProbe: must not name a host"]);
    check(probe, json!(""), &[]);
    let hook = json!({ "preStop": { "tcpSocket": { "host": "10.0.0.1", "port": 1 } } });
    let expected = ["containers[node].lifecycle.preStop: must not name a host"];
    check("/containers/0/lifecycle", hook, &expected);
    let windows = json!({ "hostProcess": true });
    let expected = ["securityContext.windowsOptions: hostProcess must not be true"];
    check("/securityContext/windowsOptions", windows, &expected);
}

#[test]
fn only_listed_types_of_volumes_pass() {
    let expected = ["volumes[v]: must be of a type that the profile allows"];
    for source in [
        json!({ "hostPath": { "path": "/" } }),
        json!({ "hostPath": { "path": "/" }, "emptyDir": {} }),
        json!({ "nfs": { "path": "/", "server": "s" } }),
        json!({ "gitRepo": { "repository": "r" } }),
        json!({}),
    ] {
        let mut volume = source;
        volume.as_object_mut().unwrap().insert("name".to_owned(), json!("v"));
        check("/volumes", json!([volume]), &expected);
    }
}

#[test]
fn nothing_makes_a_container_mightier() {
    let field = |name: &str| format!("{CONTEXT}/{name}");
    let privileged = ["containers[node].securityContext.privileged: must not be true"];
    check(&field("privileged"), json!(true), &privileged);
    let escalation = ["containers[node].securityContext.allowPrivilegeEscalation: must be false"];
    check(&field("allowPrivilegeEscalation"), json!(true), &escalation);
    check(&field("allowPrivilegeEscalation"), Value::Null, &escalation);
    let drop = "containers[node].securityContext.capabilities: must drop ALL";
    let add =
        "containers[node].securityContext.capabilities: must add nothing but NET_BIND_SERVICE";
    check(&field("capabilities"), Value::Null, &[drop]);
    check(&field("capabilities"), json!({ "drop": ["KILL"] }), &[drop]);
    check(&field("capabilities"), json!({ "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] }), &[]);
    check(&field("capabilities"), json!({ "drop": ["ALL"], "add": ["CHOWN"] }), &[add]);
    let proc = ["containers[node].securityContext.procMount: must be Default"];
    check(&field("procMount"), json!("Unmasked"), &proc);
    check(&field("procMount"), json!("Default"), &[]);
}

#[test]
fn nobody_is_root() {
    let non_root =
        ["containers[node].securityContext.runAsNonRoot: must be true, here or for the pod"];
    check("/securityContext/runAsNonRoot", Value::Null, &non_root);
    check("/securityContext/runAsNonRoot", json!(false), &non_root);
    // A container's own word goes before the pod's.
    check(&format!("{CONTEXT}/runAsNonRoot"), json!(false), &non_root);
    check("/securityContext/runAsUser", json!(0), &["securityContext.runAsUser: must not be 0"]);
    check("/securityContext/runAsUser", json!(65532), &[]);
    let expected = ["containers[node].securityContext.runAsUser: must not be 0"];
    check(&format!("{CONTEXT}/runAsUser"), json!(0), &expected);
}

#[test]
fn profiles_of_the_kernel_stay_on() {
    let seccomp = [
        "containers[node].securityContext.seccompProfile: must be RuntimeDefault or Localhost, here or for the pod",
    ];
    let unconfined = json!({ "type": "Unconfined" });
    check("/securityContext/seccompProfile", unconfined.clone(), &seccomp);
    check("/securityContext/seccompProfile", Value::Null, &seccomp);
    check(&format!("{CONTEXT}/seccompProfile"), unconfined.clone(), &seccomp);
    let local = json!({ "type": "Localhost", "localhostProfile": "p" });
    check("/securityContext/seccompProfile", local, &[]);
    let expected = ["securityContext.appArmorProfile: must be RuntimeDefault or Localhost"];
    check("/securityContext/appArmorProfile", unconfined, &expected);
    let expected = ["securityContext.seLinuxOptions: type must be one that confines"];
    check("/securityContext/seLinuxOptions", json!({ "type": "spc_t" }), &expected);
    let expected = ["securityContext.seLinuxOptions: role must not be set"];
    check("/securityContext/seLinuxOptions", json!({ "role": "r" }), &expected);
    check("/securityContext/seLinuxOptions", json!({ "type": "container_t" }), &[]);
    let expected = ["securityContext.sysctls: kernel.msgmax is not a safe one"];
    let sysctl = |name: &str| json!([{ "name": name, "value": "1" }]);
    check("/securityContext/sysctls", sysctl("kernel.msgmax"), &expected);
    check("/securityContext/sysctls", sysctl("net.ipv4.tcp_syncookies"), &[]);
}

#[test]
fn init_and_ephemeral_containers_are_held_to_the_same_rules() {
    for list in ["initContainers", "ephemeralContainers"] {
        let mut pod = pod();
        let mut containers = pod["containers"].clone();
        containers[0]["securityContext"]["privileged"] = json!(true);
        pod[list] = containers;
        let expected = format!("{list}[node].securityContext.privileged: must not be true");
        assert_eq!(broken(pod), [expected]);
    }
}

#[test]
fn an_annotation_does_not_unconfine() {
    let template = |profile: &str| {
        let key = format!("{APP_ARMOR_ANNOTATION}node");
        let annotations = json!({ key: profile });
        let template = json!({ "metadata": { "annotations": annotations }, "spec": pod() });
        template_violations(&serde_json::from_value(template).unwrap())
    };
    assert_eq!(template("runtime/default"), Vec::<String>::new());
    assert_eq!(template("unconfined").len(), 1);
}
