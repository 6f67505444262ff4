//! Who is let in: TLS certificates on every port of every kind of node, consenters only on the
//! orderers' own service, and signers that a channel does not know.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use support::{
    BASIC, Node, authority, call, channel, eventually, expired, http, msp_id, node_named, node_tls,
    nodes, nonce, now, spawn, tls_of, user, user_tls, valid,
};
use tonic::Code;
use weft_client::{Call, ClientError, Connection, ConnectionSpec, Gateway, Orderer, Peer};
use weft_crypto::{Certificate, RevokedCertificate};
use weft_e2e::LocalNetwork;
use weft_msp::SigningIdentity;
use weft_operator::local::layout::ORDERING;
use weft_operator::pki::RootUse;
use weft_protos::common::{HeaderType, Status};
use weft_protos::orderer::step_request::Payload;
use weft_protos::orderer::{ConsensusRequest, StepRequest};
use weft_protos::peer::deliver_client::DeliverClient;
use weft_protos::peer::deliver_response::Type;
use weft_rpc::tls::TlsIdentity;
use weft_testkit::org;
use weft_types::envelope::EnvelopeSpec;
use weft_types::seek::{Position, Seek};
use weft_types::{ChannelId, MspId};

const STEP: &str = "/orderer.Cluster/Step";

fn supply() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

/// Certificates that clients may show, and who they are.
struct Shown {
    what: &'static str,
    client: Option<TlsIdentity>,
    /// Let in where a client may also have no certificate.
    optional: bool,
    /// Let in where an administrator of the orderers' organization is asked for.
    admin: bool,
    /// Let in where one of org1 is asked for: its peers' contracts.
    org1: bool,
}

fn shown(network: &LocalNetwork) -> Vec<Shown> {
    let optional = |what, client| Shown { what, client, optional: true, admin: false, org1: false };
    let invalid = |what, client| Shown { optional: false, ..optional(what, Some(client)) };
    let ordering = authority(network, ORDERING, RootUse::Tls);
    let org1 = authority(network, "org1", RootUse::Tls);
    let other = org::authority("tlsca.OrdererMSP");
    let member = |name| Some(user_tls(network, name, "user1"));
    let admin = Some(user_tls(network, ORDERING, "admin"));
    let fresh = Some(tls_of(&ordering, valid(&ordering)));
    vec![
        optional("no certificate", None),
        Shown { admin: true, ..optional("an orderers' administrator", admin) },
        Shown { admin: true, ..optional("a fresh one of the orderers", fresh) },
        Shown { org1: true, ..optional("a member of org1", member("org1")) },
        optional("a member of org2", member("org2")),
        optional("one that it signed itself", Some(own_certificate())),
        invalid("expired, of the orderers", tls_of(&ordering, expired(&ordering))),
        invalid("expired, of org1", tls_of(&org1, expired(&org1))),
        invalid("another authority's", tls_of(&other, valid(&other))),
    ]
}

/// What Fabric's client library for Node shows.
fn own_certificate() -> TlsIdentity {
    let ca = org::authority("client");
    let key = org::key();
    let profile = weft_crypto::CaProfile {
        name: weft_crypto::Name::common("own"),
        validity: valid(&ca),
        max_path_len: None,
    };
    let own = weft_crypto::CertificateAuthority::new_root(key.clone(), &profile).unwrap();
    let key = key.to_pkcs8_pem().unwrap();
    TlsIdentity::from_pem(own.certificate().pem().as_bytes(), key.as_bytes(), "test").unwrap()
}

/// Whether a gRPC port lets a client in: it is then told that there is no such service.
async fn grpc_lets_in(
    network: &LocalNetwork,
    node: &Node,
    address: &str,
    client: Option<TlsIdentity>,
) -> bool {
    let path = "/no.such.Service/Call";
    let status = call(channel(network, node, address, client), path, vec![Bytes::new()], 1)
        .await
        .expect_err("there is no such service");
    status.code() == Code::Unimplemented
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_refuses_certificates_that_are_not_valid() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let all = nodes(&network);
    let kinds = [&all[0], all.iter().find(|node| node.name == "peer0.org1").unwrap()];
    for certificate in shown(&network) {
        for node in kinds {
            let at =
                |port: &str| format!("{} at the {port} port of {}", certificate.what, node.name);
            let client = || certificate.client.clone();
            let grpc = grpc_lets_in(&network, node, &node.grpc, client()).await;
            assert_eq!(grpc, certificate.optional, "{}", at("gRPC"));
            if node.is_orderer() {
                let url = format!("https://{}/participation/v1/channels", node.extra);
                let answer = http(&network, node, client()).get(&url).await;
                assert_eq!(
                    answer.is_ok(),
                    certificate.admin,
                    "{}: {answer:?}",
                    at("participation")
                );
            } else {
                let chaincode = grpc_lets_in(&network, node, &node.extra, client()).await;
                assert_eq!(chaincode, certificate.org1, "{}", at("chaincode"));
            }
        }
    }
}

/// Operations with TLS on, and contracts with an authority of their own: the same certificates.
#[tokio::test(flavor = "multi_thread")]
async fn ports_with_stricter_settings_refuse_more() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let shown = shown(&network);
    let contracts = org::authority("contracts.org1");
    for name in ["orderer0", "peer0.org1"] {
        network.kill(name).await.unwrap();
        let node = node_named(&network, name);
        let roots = node.folder.join("tls/contracts.crt");
        std::fs::write(&roots, contracts.certificate().pem()).unwrap();
        let mut variables = vec![("WEFT_OPERATIONS_TLS_ENABLED", "true")];
        if !node.is_orderer() {
            variables.push(("WEFT_CHAINCODE_CLIENT_ROOT_CAS", roots.to_str().unwrap()));
        }
        let _child = spawn(&node, &variables);
        let at = |path: &str| format!("https://{}{path}", node.operations);
        eventually("the node serves", async || {
            http(&network, &node, None).get(&at("/healthz")).await.is_ok()
        })
        .await;
        // The operations port knows the node's own organization only.
        let root = authority(&network, &node.organization, RootUse::Tls);
        let member = Some(tls_of(&root, valid(&root)));
        let metrics = http(&network, &node, member).get(&at("/metrics")).await.unwrap();
        assert_eq!(metrics.status.as_u16(), 200, "{name}");
        for certificate in &shown {
            let client = http(&network, &node, certificate.client.clone());
            let what = format!("{} at the operations port of {name}", certificate.what);
            if certificate.client.is_none() || certificate.what.contains("itself") {
                assert_eq!(client.get(&at("/version")).await.unwrap().status.as_u16(), 200);
                for guarded in ["/metrics", "/logspec"] {
                    let answer = client.get(&at(guarded)).await.unwrap();
                    assert_eq!(answer.status.as_u16(), 401, "{what}: {guarded}");
                }
                let change = serde_json::json!({ "spec": "debug" });
                let answer = client.put_json(&at("/logspec"), &change).await.unwrap();
                assert_eq!(answer.status.as_u16(), 401, "{what}");
            } else if !certificate.optional {
                assert!(client.get(&at("/healthz")).await.is_err(), "{what}");
            }
        }
        if !node.is_orderer() {
            let contract = Some(tls_of(&contracts, valid(&contracts)));
            assert!(grpc_lets_in(&network, &node, &node.extra, contract).await);
            for certificate in &shown {
                let client = certificate.client.clone();
                let let_in = grpc_lets_in(&network, &node, &node.extra, client).await;
                assert!(!let_in, "{} at the chaincode port", certificate.what);
            }
        }
    }
}

/// A certificate that was good is revoked while the node runs: new connections are refused.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_are_refused_on_every_port() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    network.kill("orderer0").await.unwrap();
    let node = node_named(&network, "orderer0");
    let ca = authority(&network, ORDERING, RootUse::Tls);
    let list = node.folder.join("tls/crl.pem");
    let revoke = |certificates: &[&Certificate], number: u64| {
        let revoked: Vec<_> = certificates
            .iter()
            .map(|certificate| RevokedCertificate {
                serial: certificate.serial().to_vec(),
                revoked_at: now(),
                reason: None,
            })
            .collect();
        let issued = ca.issue_crl(&revoked, number, valid(&ca).not_before, valid(&ca).not_after);
        std::fs::write(&list, issued.unwrap().pem()).unwrap();
    };
    revoke(&[], 1);
    let variables = [
        ("WEFT_OPERATIONS_TLS_ENABLED", "true"),
        ("WEFT_TLS_CRLS", list.to_str().unwrap()),
        ("WEFT_TLS_RELOAD_INTERVAL", "200ms"),
    ];
    let _child = spawn(&node, &variables);
    let admin = user_tls(&network, ORDERING, "admin");
    let participation = format!("https://{}/participation/v1/channels", node.extra);
    let metrics = format!("https://{}/metrics", node.operations);
    let let_in = async |client: &TlsIdentity| {
        let http = http(&network, &node, Some(client.clone()));
        [
            grpc_lets_in(&network, &node, &node.grpc, Some(client.clone())).await,
            http.get(&participation).await.is_ok(),
            http.get(&metrics).await.is_ok(),
        ]
    };
    eventually("the node serves", async || let_in(&admin).await == [true; 3]).await;
    let certificate = Certificate::from_der(&admin.chain()[0]).unwrap();
    revoke(&[&certificate], 2);
    eventually("the refusal", async || let_in(&admin).await == [false; 3]).await;
    let other = tls_of(&ca, valid(&ca));
    assert_eq!(let_in(&other).await, [true; 3], "others are let in as before");
}

/// A step of `client` at an orderer: what the orderer says of it, if anything.
async fn step(
    network: &LocalNetwork,
    node: &Node,
    client: Option<TlsIdentity>,
    messages: Vec<ConsensusRequest>,
) -> Result<Vec<Bytes>, tonic::Status> {
    let messages = messages
        .into_iter()
        .map(|request| StepRequest { payload: Some(Payload::ConsensusRequest(request)) })
        .map(|request| request.encode_to_vec().into())
        .collect();
    call(channel(network, node, &node.grpc, client), STEP, messages, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_consenters_take_part_in_consensus() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let orderer = node_named(&network, "orderer0");
    let message = |channel: &str| ConsensusRequest {
        channel: channel.to_owned(),
        payload: Bytes::from_static(&[8, 5]),
        metadata: Bytes::new(),
    };
    let ordering = authority(&network, ORDERING, RootUse::Tls);
    let strangers = [
        ("nobody", None),
        ("a member", Some(user_tls(&network, "org1", "user1"))),
        ("a peer", Some(node_tls(&node_named(&network, "peer0.org1")))),
        ("the orderers' administrator", Some(user_tls(&network, ORDERING, "admin"))),
        ("a new node of the orderers", Some(tls_of(&ordering, valid(&ordering)))),
        ("one that it signed itself", Some(own_certificate())),
    ];
    for (who, client) in strangers {
        let status = step(&network, &orderer, client, vec![message("supply")]).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{who}: {status:?}");
    }
    let other = Some(node_tls(&node_named(&network, "orderer1")));
    let nothing = step(&network, &orderer, other.clone(), vec![message("supply")]).await.unwrap();
    assert!(nothing.is_empty());
    let status = step(&network, &orderer, other, vec![message("nowhere")]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
}

fn connection(network: &LocalNetwork, node: &Node) -> Connection {
    let root = authority(network, &node.organization, RootUse::Tls);
    let spec = ConnectionSpec {
        address: node.grpc.clone(),
        server_name: None,
        roots: vec![root.certificate().clone()],
        client: None,
    };
    Connection::new(&spec).unwrap()
}

/// Signers that may do nothing on the channel, and how Broadcast refuses them.
fn strangers(network: &LocalNetwork) -> Vec<(&'static str, SigningIdentity, Status)> {
    let ca = authority(network, "org1", RootUse::Identity);
    let other = org::authority("ca.Org1MSP");
    let org1 = msp_id(network, "org1");
    let unknown = MspId::new("Org9MSP").unwrap();
    let made = |msp: &MspId, ca, unit: &[&str], validity| {
        org::identity(msp, ca, "someone", unit, validity)
    };
    vec![
        (
            "of an unknown organization",
            made(&unknown, &other, &["client"], valid(&other)),
            Status::Forbidden,
        ),
        (
            "of another authority",
            made(&org1, &other, &["client"], valid(&other)),
            Status::Forbidden,
        ),
        // Fabric: orderer/common/msgprocessor/expiration.go.
        ("expired", made(&org1, &ca, &["client"], expired(&ca)), Status::BadRequest),
        ("in a role that may not", made(&org1, &ca, &["orderer"], valid(&ca)), Status::Forbidden),
        ("without a role", made(&org1, &ca, &[], valid(&ca)), Status::Forbidden),
        ("in two roles", made(&org1, &ca, &["client", "admin"], valid(&ca)), Status::Forbidden),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn signers_that_the_channel_does_not_know_are_refused_everywhere() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let orderer = node_named(&network, "orderer0");
    let peer = node_named(&network, "peer0.org1");
    let (height, _) = network.settled().await.unwrap();
    for (who, signer, refusal) in strangers(&network) {
        let signer = Arc::new(signer);
        let client = Orderer::new(connection(&network, &orderer), signer.clone());
        let spec = EnvelopeSpec {
            header_type: HeaderType::EndorserTransaction,
            channel_id: Some(supply()),
            data: Bytes::from_static(b"content"),
            timestamp: now(),
            nonce: nonce(),
            tls_cert_hash: Bytes::new(),
        };
        let sent = client.broadcast(spec.sign(signer.as_ref()).unwrap()).await;
        let Err(ClientError::Broadcast { status, .. }) = &sent else { panic!("{who}: {sent:?}") };
        assert_eq!(*status, refusal, "{who}: {sent:?}");
        let block = client.block(&supply(), Position::Oldest).await;
        let Err(ClientError::Deliver { status, .. }) = &block else { panic!("{who}: {block:?}") };
        assert_eq!(*status, Status::Forbidden, "{who}");
        assert_eq!(peer_delivers(&network, &peer, &signer).await, Status::Forbidden, "{who}");

        let admin = Peer::new(connection(&network, &peer), signer.clone());
        let info = admin.chain_info(&supply()).await;
        assert!(
            matches!(info, Err(ClientError::Rpc { .. } | ClientError::Proposal { .. })),
            "{who}: {info:?}"
        );
        let gateway = Gateway::new(connection(&network, &peer), supply(), signer);
        let call = || Call::new("asset", "Put", ["k", "stolen"]);
        for outcome in
            [gateway.submit(call()).await.map(|_| ()), gateway.evaluate(call()).await.map(|_| ())]
        {
            let Err(ClientError::Rpc { status, .. }) = &outcome else {
                panic!("{who}: {outcome:?}")
            };
            assert!(!matches!(status.code(), Code::Ok | Code::Unavailable), "{who}: {outcome:?}");
        }
    }
    assert_eq!(network.settled().await.unwrap().0, height, "nothing of it came into a block");
}

async fn peer_delivers(network: &LocalNetwork, peer: &Node, signer: &SigningIdentity) -> Status {
    let request = Seek::one(Position::Oldest).sign(&supply(), signer, now(), nonce(), Bytes::new());
    let mut client = DeliverClient::new(channel(network, peer, &peer.grpc, None));
    let answers = client.deliver(tokio_stream::once(request.unwrap())).await.unwrap();
    match answers.into_inner().message().await.unwrap().unwrap().r#type.unwrap() {
        Type::Status(status) => Status::try_from(status).unwrap(),
        other => panic!("the peer sent {other:?}"),
    }
}

/// What only administrators may do: a member's client and another organization's administrator
/// are not those of this peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_obeys_its_own_administrators_only() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let node = node_named(&network, "peer0.org1");
    let package = Bytes::from_static(b"package");
    for (organization, name) in [("org1", "user1"), ("org2", "admin"), (ORDERING, "admin")] {
        let signer = Arc::new(user(&network, organization, name));
        let peer = Peer::new(connection(&network, &node), signer);
        let genesis = network.peer(0, 0).unwrap().config_block(&supply()).await.unwrap();
        for refused in [
            peer.install(package.clone()).await.map(|_| ()),
            peer.join(&genesis).await,
            peer.installed().await.map(|_| ()),
        ] {
            let error = refused.expect_err("it is not for them").to_string();
            assert!(
                error.contains("access denied") || error.contains("admin"),
                "{name} of {organization}: {error}"
            );
        }
    }
    let own = network.peer(0, 0).unwrap();
    let error = own.install(package).await.unwrap_err().to_string();
    assert!(!error.contains("access denied"), "its own may, but this is no package: {error}");
}
