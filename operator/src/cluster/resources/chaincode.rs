//! The program of a contract: a Deployment that the peers call, and its address.
//!
//! A new version or image is a new program beside the old one, because the peers know a contract
//! by its package, the package names the program's address, and the old package serves until the
//! new one is committed. A change of environment or resources rolls the program in place.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    Service, ServiceSpec, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{self, Labels, MAX_VALUE};
use super::network_policy::{allow, here, ingress};
use super::node::port_name;
use super::pod::{container_port, quantities};
use super::{ResourceError, hash, meta, security, selector, service_port};
use crate::cluster::names::{self, annotation, component, label, port};

const CONTAINER: &str = "chaincode";
const SCRATCH: &str = "tmp";
/// Variable with the package id, by which the peers know the program (Fabric:
/// `fabric-chaincode-go`, `shim/chaincodeserver.go`).
const CHAINCODE_ID: &str = "CHAINCODE_ID";
/// Variable with the address on which the program listens.
const SERVER_ADDRESS: &str = "CHAINCODE_SERVER_ADDRESS";

/// The program of a version of a contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Name of the `Chaincode`.
    pub chaincode: String,
    /// Name of the contract on the channel.
    pub contract: String,
    /// Version of the contract.
    pub version: String,
    /// Namespace of the network.
    pub namespace: String,
    /// Name of the `LedgerNetwork`.
    pub network: String,
    /// Name of the `Channel`.
    pub channel: String,
    /// Image.
    pub image: String,
    /// The user's environment.
    pub env: Vec<EnvVar>,
    /// CPU and memory, when the user gives any.
    pub resources: Option<ResourceRequirements>,
    /// Package id, which depends on [`Program::address`].
    pub package_id: String,
    /// How many pods run; 0 while the network is hibernated.
    pub replicas: u32,
    /// Names of the organizations whose peers may call it: the channel's members.
    pub organizations: Vec<String>,
}

/// Name of a program's Deployment and Service: the `Chaincode`'s name and a hash of what makes
/// it another program (object, contract, version, image). It is an RFC 1035 label, as names of
/// Services are.
pub fn program_name(chaincode: &str, contract: &str, version: &str, image: &str) -> String {
    let digest = hash::texts([chaincode, contract, version, image]);
    let digest: String = digest.chars().take(8).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut stem: String = chaincode.chars().map(plain).collect();
    if !stem.starts_with(|first: char| first.is_ascii_lowercase()) {
        stem.insert_str(0, "cc-");
    }
    stem.truncate(MAX_VALUE - digest.len() - 1);
    format!("{}-{digest}", stem.trim_end_matches('-'))
}

/// `host:port` of a program, for the package: the peers dial it.
pub fn program_address(program: &str, namespace: &str) -> String {
    format!("{}:{}", names::service_host(program, namespace), port::CHAINCODE)
}

impl Program {
    /// Name of its Deployment and Service.
    pub fn name(&self) -> String {
        program_name(&self.chaincode, &self.contract, &self.version, &self.image)
    }

    /// `host:port` at which peers dial it.
    pub fn address(&self) -> String {
        program_address(&self.name(), &self.namespace)
    }

    fn labels(&self) -> Labels {
        let mut labels = labels::for_chaincode(&self.chaincode, &self.channel, &self.network);
        labels.insert(label::PROGRAM.to_owned(), self.name());
        labels
    }

    fn selector(&self) -> Labels {
        labels::selector_for_program(&self.chaincode, &self.name())
    }

    fn meta(&self, owner: &OwnerReference) -> ObjectMeta {
        meta(&self.name(), &self.namespace, self.labels(), Some(owner))
    }
}

/// What keeps the program running. A pod is replaced when its successor is ready.
/// [`annotation::TEMPLATE_HASH`] is the hash of the pod template.
///
/// # Errors
/// [`ResourceError::TemplateHash`].
pub fn deployment(program: &Program, owner: &OwnerReference) -> Result<Deployment, ResourceError> {
    let template = template(program);
    let hash = hash::canonical(&template)
        .map_err(|source| ResourceError::TemplateHash { name: program.name(), source })?;
    let mut metadata = program.meta(owner);
    metadata.annotations = Some([(annotation::TEMPLATE_HASH.to_owned(), hash)].into());
    Ok(Deployment {
        metadata,
        spec: DeploymentSpec {
            replicas: Some(i32::try_from(program.replicas).unwrap_or(i32::MAX)),
            revision_history_limit: Some(2),
            selector: selector(program.selector()),
            strategy: Some(DeploymentStrategy {
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
                type_: Some("RollingUpdate".to_owned()),
            }),
            template,
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    })
}

fn template(program: &Program) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(program.labels()), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            containers: vec![container(program)],
            enable_service_links: Some(false),
            security_context: Some(security::pod()),
            volumes: Some(vec![Volume {
                name: SCRATCH.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }),
    }
}

fn container(program: &Program) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(program.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        env: Some(environment(program)),
        ports: Some(vec![container_port(port_name::CHAINCODE, port::CHAINCODE)]),
        readiness_probe: Some(listens()),
        resources: Some(resources(program)),
        security_context: Some(security::container()),
        // The root file system is read-only, and runtimes of some languages want to write.
        volume_mounts: Some(vec![VolumeMount {
            name: SCRATCH.to_owned(),
            mount_path: "/tmp".to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// The user's environment and then ours, which wins. Of variables with one name the last one
/// counts, as it would in the container; the API server takes a name once only.
fn environment(program: &Program) -> Vec<EnvVar> {
    let ours = [
        (CHAINCODE_ID, program.package_id.clone()),
        (SERVER_ADDRESS, format!("0.0.0.0:{}", port::CHAINCODE)),
    ];
    let ours = ours.map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    });
    let mut all: Vec<EnvVar> = Vec::new();
    for variable in program.env.iter().chain(&ours) {
        all.retain(|other| other.name != variable.name);
        all.push(variable.clone());
    }
    all
}

/// No limit by default: what a contract needs is not known here.
fn resources(program: &Program) -> ResourceRequirements {
    program.resources.clone().unwrap_or_else(|| ResourceRequirements {
        requests: Some(quantities([("cpu", "10m"), ("memory", "32Mi")])),
        ..ResourceRequirements::default()
    })
}

fn listens() -> Probe {
    Probe {
        failure_threshold: Some(3),
        period_seconds: Some(2),
        timeout_seconds: Some(2),
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::String(port_name::CHAINCODE.to_owned()),
            ..TCPSocketAction::default()
        }),
        ..Probe::default()
    }
}

/// The program's address.
pub fn service(program: &Program, owner: &OwnerReference) -> Service {
    Service {
        metadata: program.meta(owner),
        spec: Some(ServiceSpec {
            ports: Some(vec![service_port(port_name::CHAINCODE, port::CHAINCODE)]),
            selector: Some(program.selector()),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Who may reach the program: peers of the channel's members. Its connection is not encrypted,
/// and whoever reaches it can have it run transactions, so that it is closed to all others.
pub fn policy(program: &Program, owner: &OwnerReference) -> NetworkPolicy {
    let members: BTreeSet<_> =
        program.organizations.iter().map(|name| labels::value(name)).collect();
    // A selector must name a value; with no members nobody may call.
    let rules = if members.is_empty() {
        Vec::new()
    } else {
        vec![allow(port::CHAINCODE, vec![here(peers(program, members))])]
    };
    NetworkPolicy {
        metadata: program.meta(owner),
        spec: Some(ingress(selector(program.selector()), rules)),
    }
}

fn peers(program: &Program, organizations: BTreeSet<String>) -> LabelSelector {
    let mut peers = labels::selector_for_network(&program.network);
    peers.insert(label::COMPONENT.to_owned(), component::PEER.to_owned());
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: label::ORGANIZATION.to_owned(),
            operator: "In".to_owned(),
            values: Some(organizations.into_iter().collect()),
        }]),
        match_labels: Some(peers),
    }
}
