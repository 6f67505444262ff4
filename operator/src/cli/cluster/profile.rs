//! `kubectl weft connection-profile`: what an SDK needs to use the network, as JSON.
//!
//! One document serves both families: the keys of a Fabric connection profile (`fabric-network`
//! 2.2), and `gateway`, the few values that the gateway clients take.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde::Serialize;

use super::context::Context;
use super::error::ClusterError;
use super::objects::Objects;
use super::secret::Identity;
use crate::api::Organization;
use crate::cli::{CommandError, Output, put};
use crate::cluster::names::{self, Holder, key, port};

/// Arguments of `connection-profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The organization whose member the client is: its name or MSP id.
    #[arg(value_name = "ORG")]
    pub org: String,
    /// Name this channel only; the organization's channels when absent.
    #[arg(long, value_name = "ID")]
    pub channel: Option<String>,
    /// Add the certificate and the private key of this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Use the Services' names, for a client in the cluster. This is the default.
    #[arg(long, conflicts_with = "local_port")]
    pub in_cluster: bool,
    /// Use 127.0.0.1 and this port, to which `kubectl port-forward` brings the first peer.
    #[arg(long, value_name = "PORT")]
    pub local_port: Option<u16>,
    /// Write the file instead of printing; with --user only its owner may read it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    name: String,
    version: &'static str,
    client: Client,
    organizations: BTreeMap<String, Member>,
    channels: BTreeMap<String, ChannelPeers>,
    peers: BTreeMap<String, Endpoint>,
    gateway: GatewayEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Client {
    organization: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Member {
    mspid: String,
    peers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ChannelPeers {
    peers: BTreeMap<String, BTreeMap<String, bool>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    url: String,
    #[serde(rename = "tlsCACerts")]
    tls_ca_certs: Pem,
    grpc_options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Pem {
    pem: String,
}

/// What `fabric-gateway` is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct GatewayEntry {
    msp_id: String,
    endpoint: String,
    tls_server_name: String,
    tls_ca_cert: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chaincode: Option<String>,
}

/// An identity in the form of `fabric-network`'s wallets.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityEntry {
    r#type: &'static str,
    version: u8,
    msp_id: String,
    credentials: Credentials,
}

#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    certificate: String,
    private_key: String,
}

/// Does not show the key.
impl std::fmt::Debug for IdentityEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityEntry").field("msp_id", &self.msp_id).finish_non_exhaustive()
    }
}

/// Prints or writes the profile.
pub(in crate::cli) async fn profile(
    context: &Context,
    args: ProfileArgs,
    output: Output,
) -> Result<(), CommandError> {
    let objects = Objects::read(context).await?;
    let organization = objects.organization(&args.org)?;
    let roots = tls_roots(context, organization).await?;
    let mut profile = build(&objects, organization, &roots, &args)?;
    if let Some(user) = &args.user {
        profile.identity = Some(identity(context, organization, user).await?);
    }
    let text = match output {
        Output::Yaml => serde_yaml::to_string(&profile)?,
        Output::Text | Output::Json => format!("{}\n", serde_json::to_string_pretty(&profile)?),
    };
    hint(&profile, &args, &context.namespace);
    match &args.out {
        Some(path) => {
            let shared = profile.identity.is_none();
            super::save(path, text.as_bytes(), shared)
        }
        None => put(&text),
    }
}

fn hint(profile: &Profile, args: &ProfileArgs, namespace: &str) {
    if let (Some(local), Some(peer)) = (args.local_port, profile.peers.keys().next()) {
        eprintln!("bring the peer to that port with:");
        eprintln!("  kubectl port-forward -n {namespace} service/{peer} {local}:{}", port::PEER);
        eprintln!("use it with a gateway client; Discovery names hosts of the cluster");
    }
    if profile.identity.is_some() {
        eprintln!("it holds a private key: keep it to yourself");
    }
}

async fn tls_roots(context: &Context, organization: &Organization) -> Result<String, ClusterError> {
    let name = Holder::Organization(organization.name_any()).msp();
    let object = format!("ConfigMap {}/{name}", context.namespace);
    let found = context.api::<ConfigMap>().get_opt(&name).await;
    let found = found.map_err(ClusterError::at(format!("read {object}")))?;
    let mut data = found.and_then(|map| map.data).unwrap_or_default();
    let missing =
        || ClusterError::NoKey { object: object.clone(), key: key::TLS_CA_CERTS.to_owned() };
    data.remove(key::TLS_CA_CERTS).ok_or_else(missing)
}

async fn identity(
    context: &Context,
    organization: &Organization,
    user: &str,
) -> Result<IdentityEntry, ClusterError> {
    let (certificate, private_key) = Identity::read(context, organization, user).await?.pem()?;
    Ok(IdentityEntry {
        r#type: "X.509",
        version: 1,
        msp_id: organization.spec.msp_id.clone(),
        credentials: Credentials { certificate, private_key },
    })
}

fn build(
    objects: &Objects,
    organization: &Organization,
    roots: &str,
    args: &ProfileArgs,
) -> Result<Profile, ClusterError> {
    let name = organization.name_any();
    if organization.spec.external.is_some() {
        let wish = "a profile of its peers";
        return Err(ClusterError::External { organization: name, wish });
    }
    let holder = Holder::Organization(name.clone());
    // One local port leads to one peer.
    let count = if args.local_port.is_some() { 1 } else { organization.spec.peers.replicas };
    let nodes: Vec<String> =
        (0..count.min(organization.spec.peers.replicas)).map(|index| holder.node(index)).collect();
    let first = nodes.first().ok_or_else(|| ClusterError::NoReadyPeer {
        organization: name.clone(),
        namespace: objects.namespace.clone(),
        pods: Vec::new(),
    })?;
    let msp_id = organization.spec.msp_id.clone();
    let channels = channels(objects, &name, args.channel.as_deref())?;
    let gateway = GatewayEntry {
        msp_id: msp_id.clone(),
        endpoint: address(first, &objects.namespace, args.local_port),
        tls_server_name: names::service_host(first, &objects.namespace),
        tls_ca_cert: roots.to_owned(),
        chaincode: channels.first().and_then(|channel| first_contract(objects, channel)),
        channel: channels.first().cloned(),
    };
    let peers = || nodes.iter().cloned();
    Ok(Profile {
        name: organization.spec.network_ref.clone(),
        version: "1.0.0",
        client: Client { organization: msp_id.clone() },
        organizations: [(msp_id.clone(), Member { mspid: msp_id, peers: nodes.clone() })].into(),
        channels: channels.into_iter().map(|channel| (channel, roles(peers()))).collect(),
        peers: peers()
            .map(|node| {
                let entry = endpoint(&node, &objects.namespace, roots, args.local_port);
                (node, entry)
            })
            .collect(),
        gateway,
        identity: None,
    })
}

fn channels(
    objects: &Objects,
    organization: &str,
    wanted: Option<&str>,
) -> Result<Vec<String>, ClusterError> {
    let is_member = |channel: &&crate::api::Channel| {
        channel.spec.organizations.iter().any(|member| member == organization)
    };
    let all: Vec<String> =
        objects.channels.iter().filter(is_member).map(ResourceExt::name_any).collect();
    match wanted {
        None => Ok(all),
        Some(name) if all.iter().any(|channel| channel == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(ClusterError::Unknown {
            what: "channel of the organization",
            name: name.to_owned(),
            namespace: objects.namespace.clone(),
            known: all,
        }),
    }
}

fn first_contract(objects: &Objects, channel: &str) -> Option<String> {
    let on_channel = objects.chaincodes.iter().find(|one| one.spec.channel_ref == channel);
    on_channel.map(super::objects::contract)
}

fn roles(nodes: impl Iterator<Item = String>) -> ChannelPeers {
    let all = ["endorsingPeer", "chaincodeQuery", "ledgerQuery", "eventSource"];
    let roles: BTreeMap<String, bool> = all.map(|role| (role.to_owned(), true)).into();
    ChannelPeers { peers: nodes.map(|node| (node, roles.clone())).collect() }
}

fn endpoint(node: &str, namespace: &str, roots: &str, local_port: Option<u16>) -> Endpoint {
    let host = names::service_host(node, namespace);
    let options = [("ssl-target-name-override", host.clone()), ("hostnameOverride", host)];
    Endpoint {
        url: format!("grpcs://{}", address(node, namespace, local_port)),
        tls_ca_certs: Pem { pem: roots.to_owned() },
        grpc_options: options.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

fn address(node: &str, namespace: &str, local_port: Option<u16>) -> String {
    match local_port {
        Some(port) => format!("127.0.0.1:{port}"),
        None => format!("{}:{}", names::service_host(node, namespace), port::PEER),
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::objects;
    use super::*;

    fn args(org: &str, channel: Option<&str>, local_port: Option<u16>) -> ProfileArgs {
        ProfileArgs {
            org: org.into(),
            channel: channel.map(str::to_owned),
            user: None,
            in_cluster: false,
            local_port,
            out: None,
        }
    }

    fn profile(args: &ProfileArgs) -> Result<serde_json::Value, String> {
        let objects = objects();
        let organization = objects.organization(&args.org).unwrap();
        build(&objects, organization, "ROOT", args)
            .map(|profile| serde_json::to_value(profile).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn in_the_cluster_every_peer_is_named_by_its_service() {
        let found = profile(&args("Org1MSP", Some("supply"), None)).unwrap();
        let roles = serde_json::json!({
            "endorsingPeer": true, "chaincodeQuery": true, "ledgerQuery": true, "eventSource": true,
        });
        let peer = |node: &str| {
            serde_json::json!({
                "url": format!("grpcs://{node}.ledger.svc:7051"),
                "tlsCACerts": {"pem": "ROOT"},
                "grpcOptions": {
                    "ssl-target-name-override": format!("{node}.ledger.svc"),
                    "hostnameOverride": format!("{node}.ledger.svc"),
                },
            })
        };
        let expected = serde_json::json!({
            "name": "net",
            "version": "1.0.0",
            "client": {"organization": "Org1MSP"},
            "organizations": {
                "Org1MSP": {"mspid": "Org1MSP", "peers": ["org1-peer-0", "org1-peer-1"]},
            },
            "channels": {"supply": {"peers": {"org1-peer-0": roles, "org1-peer-1": roles}}},
            "peers": {"org1-peer-0": peer("org1-peer-0"), "org1-peer-1": peer("org1-peer-1")},
            "gateway": {
                "mspId": "Org1MSP",
                "endpoint": "org1-peer-0.ledger.svc:7051",
                "tlsServerName": "org1-peer-0.ledger.svc",
                "tlsCaCert": "ROOT",
                "channel": "supply",
                "chaincode": "asset_v2",
            },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_local_port_leads_to_the_first_peer_under_its_own_name() {
        let found = profile(&args("org1", None, Some(17051))).unwrap();
        assert_eq!(found["peers"].as_object().unwrap().len(), 1);
        let peer = &found["peers"]["org1-peer-0"];
        assert_eq!(peer["url"], "grpcs://127.0.0.1:17051");
        assert_eq!(peer["grpcOptions"]["ssl-target-name-override"], "org1-peer-0.ledger.svc");
        assert_eq!(found["gateway"]["endpoint"], "127.0.0.1:17051");
        assert_eq!(found["channels"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn a_profile_needs_peers_and_membership() {
        assert!(profile(&args("partner", None, None)).unwrap_err().contains("is external"));
        let error = profile(&args("org2", Some("audit"), None)).unwrap_err();
        assert!(error.contains("there is no channel of the organization \"audit\""), "{error}");
    }
}
