//! The pod of a node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, KeyToPath,
    PersistentVolumeClaimVolumeSource, PodAffinityTerm, PodAntiAffinity, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SecretVolumeSource, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::node::{RunOptions, port_name, port_numbers};
use super::{TCP, labels, security, selector};
use crate::cluster::names::{annotation, key, path};
use crate::cluster::topology::{Node, NodeKind};

const CONTAINER: &str = "node";
const SETTINGS: &str = "settings";
const IDENTITY: &str = "identity";
const DATA: &str = "data";
/// Seconds that a node has to end: it answers what it has begun and closes its stores.
const TERMINATION_SECONDS: i64 = 30;
/// Owner and group read: keys are for nobody else.
const KEY_MODE: i32 = 0o440;

/// The template of the node's pod.
pub(super) fn template(node: &Node, options: &RunOptions) -> PodTemplateSpec {
    let mut annotations =
        BTreeMap::from([(annotation::SETTINGS_HASH.to_owned(), options.settings_hash.clone())]);
    if let Some(at) = &options.restarted_at {
        annotations.insert(annotation::RESTARTED_AT.to_owned(), at.clone());
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            annotations: Some(annotations),
            labels: Some(labels::for_node(node)),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(node, options)),
    }
}

fn spec(node: &Node, options: &RunOptions) -> PodSpec {
    PodSpec {
        affinity: Some(apart(node)),
        automount_service_account_token: Some(false),
        containers: vec![container(node, options)],
        enable_service_links: Some(false),
        security_context: Some(security::pod()),
        termination_grace_period_seconds: Some(TERMINATION_SECONDS),
        volumes: Some(volumes(node, options)),
        ..PodSpec::default()
    }
}

/// Nodes of a group run on different machines when there are enough. It is a wish: a cluster of
/// one machine runs them all.
fn apart(node: &Node) -> Affinity {
    let group = labels::selector_for_group(&node.holder, &node.network);
    let term = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            label_selector: Some(selector(group)),
            topology_key: "kubernetes.io/hostname".to_owned(),
            ..PodAffinityTerm::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn container(node: &Node, options: &RunOptions) -> Container {
    let image = node.spec.image.as_ref().unwrap_or(&options.image);
    let settings = format!("{}/{}", path::SETTINGS, key::SETTINGS);
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec![node.kind.word().to_owned(), "--config".to_owned(), settings]),
        ports: Some(container_ports(node.kind)),
        resources: Some(resources(node)),
        security_context: Some(security::container()),
        startup_probe: Some(startup()),
        readiness_probe: Some(readiness()),
        liveness_probe: Some(liveness()),
        volume_mounts: Some(mounts()),
        ..Container::default()
    }
}

fn container_ports(kind: NodeKind) -> Vec<ContainerPort> {
    port_numbers(kind).into_iter().map(|(name, port)| container_port(name, port)).collect()
}

/// A container's port of that name.
pub(super) fn container_port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some(TCP.to_owned()),
        ..ContainerPort::default()
    }
}

fn resources(node: &Node) -> ResourceRequirements {
    let memory = match node.kind {
        NodeKind::Orderer => "512Mi",
        NodeKind::Peer => "1Gi",
    };
    node.spec.resources.clone().unwrap_or_else(|| ResourceRequirements {
        requests: Some(quantities([("cpu", "50m"), ("memory", "64Mi")])),
        limits: Some(quantities([("memory", memory)])),
        ..ResourceRequirements::default()
    })
}

/// Amounts by name.
pub(super) fn quantities<const N: usize>(amounts: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    amounts
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
        .collect()
}

/// Asked every second, so that a node which starts quickly serves quickly; for 5 minutes, which
/// a store that was not closed may take to recover.
fn startup() -> Probe {
    Probe {
        failure_threshold: Some(300),
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        ..healthy()
    }
}

fn readiness() -> Probe {
    Probe {
        failure_threshold: Some(3),
        period_seconds: Some(2),
        timeout_seconds: Some(5),
        ..healthy()
    }
}

/// A restart is the last resort: the node is away for minutes of ill health first.
fn liveness() -> Probe {
    Probe {
        failure_threshold: Some(6),
        period_seconds: Some(20),
        timeout_seconds: Some(10),
        ..healthy()
    }
}

fn healthy() -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/healthz".to_owned()),
            port: IntOrString::String(port_name::OPERATIONS.to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn mounts() -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    vec![
        mount(SETTINGS, path::SETTINGS, Some(true)),
        mount(IDENTITY, path::IDENTITY, Some(true)),
        mount(DATA, path::DATA, None),
    ]
}

fn volumes(node: &Node, options: &RunOptions) -> Vec<Volume> {
    vec![
        Volume {
            name: SETTINGS.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: node.name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: IDENTITY.to_owned(),
            secret: Some(SecretVolumeSource {
                default_mode: Some(KEY_MODE),
                items: Some(identity(options)),
                secret_name: Some(node.identity()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: DATA.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: node.name.clone(),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

/// The identity Secret laid out as the folders that a node reads (Fabric:
/// `msp/configbuilder.go`). The Secret is mounted as a whole, not by sub-path, because only then
/// does the kubelet put renewed certificates into the running pod.
fn identity(options: &RunOptions) -> Vec<KeyToPath> {
    let intermediates = [
        (options.intermediates, key::INTERMEDIATE_CERTS, "msp/intermediatecerts/ca.pem"),
        (options.tls_intermediates, key::TLS_INTERMEDIATE_CERTS, "msp/tlsintermediatecerts/ca.pem"),
    ];
    let always = [
        (key::SIGN_CERT, "msp/signcerts/cert.pem"),
        (key::SIGN_KEY, "msp/keystore/key.pem"),
        (key::CA_CERTS, "msp/cacerts/ca.pem"),
        (key::TLS_CA_CERTS, "msp/tlscacerts/ca.pem"),
        (key::CONFIG, "msp/config.yaml"),
        (key::TLS_CERT, "tls/server.crt"),
        (key::TLS_KEY, "tls/server.key"),
        (key::TLS_CA_CERTS, "tls/ca.crt"),
    ];
    let present = intermediates.into_iter().filter(|(present, ..)| *present);
    let items = always.into_iter().chain(present.map(|(_, key, path)| (key, path)));
    items
        .map(|(key, path)| KeyToPath {
            key: key.to_owned(),
            path: path.to_owned(),
            ..KeyToPath::default()
        })
        .collect()
}
