//! Bytes and structures that no honest client sends: each gets an answer that says so, the node
//! lives, and others are served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use support::{
    BASIC, Node, PATIENCE, Random, Watch, call, channel, is_answer, node_named, node_tls, nonce,
    now, user,
};
use tokio::time::timeout;
use tonic::Code;
use weft_e2e::LocalNetwork;
use weft_msp::SigningIdentity;
use weft_protos::common::{ChannelHeader, Envelope, Header, HeaderType, Payload, Status};
use weft_protos::gateway::{EndorseRequest, EvaluateRequest};
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_protos::orderer::step_request::Payload as Step;
use weft_protos::orderer::{
    ConsensusRequest, StepRequest, StepResponse, SubmitRequest, step_response,
};
use weft_protos::peer::endorser_client::EndorserClient;
use weft_protos::peer::{Proposal, SignedProposal};
use weft_types::envelope::EnvelopeSpec;
use weft_types::proposal::ProposalSpec;
use weft_types::{ChannelId, Signer};

const BROADCAST: &str = "/orderer.AtomicBroadcast/Broadcast";
const STEP: &str = "/orderer.Cluster/Step";
const ORDERER: [&str; 3] = [BROADCAST, "/orderer.AtomicBroadcast/Deliver", STEP];
const PEER: [&str; 11] = [
    "/protos.Endorser/ProcessProposal",
    "/protos.Deliver/Deliver",
    "/protos.Deliver/DeliverFiltered",
    "/protos.Deliver/DeliverWithPrivateData",
    "/gateway.Gateway/Endorse",
    "/gateway.Gateway/Submit",
    "/gateway.Gateway/CommitStatus",
    "/gateway.Gateway/Evaluate",
    "/gateway.Gateway/ChaincodeEvents",
    "/discovery.Discovery/Discover",
    "/gossip.Gossip/GossipStream",
];
const REGISTER: &str = "/protos.ChaincodeSupport/Register";

/// Messages that are no message of any service, or an empty one.
fn garbage(random: &mut Random) -> Vec<Bytes> {
    let mut all = vec![
        Bytes::new(),
        // A field of 2^63 bytes, of which none follow; a varint without an end; a group.
        Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        Bytes::from_static(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Bytes::from_static(&[0x0b, 0x0c]),
        Bytes::from_static(&[0x00]),
    ];
    // A message in a message, 2,000 deep, by each of the first fields; and open groups.
    for field in 1..=4u8 {
        let mut nested = Vec::new();
        for _ in 0..2_000 {
            let mut outer = vec![(field << 3) | 2];
            prost::encoding::encode_varint(nested.len() as u64, &mut outer);
            outer.extend_from_slice(&nested);
            nested = outer;
        }
        all.push(nested.into());
    }
    all.push(vec![0x0b; 10_000].into());
    for _ in 0..30 {
        let length = random.below(300);
        all.push(random.bytes(length).into());
    }
    // What begins as an envelope or a signed proposal does.
    for _ in 0..20 {
        let length = random.below(100);
        let inner = Envelope {
            payload: random.bytes(length).into(),
            signature: random.bytes(length / 2).into(),
        };
        all.push(inner.encode_to_vec().into());
        let header = random.bytes(length).into();
        let payload = Payload { header: None, data: header }.encode_to_vec();
        all.push(
            Envelope { payload: payload.into(), signature: Bytes::new() }.encode_to_vec().into(),
        );
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_gets_an_answer_on_every_service() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let mut random = Random::seeded();
    let messages = garbage(&mut random);
    let orderer = node_named(&network, "orderer0");
    let peer = node_named(&network, "peer0.org1");
    let consenter = Some(node_tls(&node_named(&network, "orderer1")));
    let ports = ORDERER.iter().map(|path| (&orderer, &orderer.grpc, *path));
    let ports = ports.chain(PEER.iter().map(|path| (&peer, &peer.grpc, *path)));
    for (node, address, path) in ports.chain([(&peer, &peer.extra, REGISTER)]) {
        // For Step, in the name of a consenter: others are refused before anything is read. The port
        // of contracts wants a certificate of the peer's own organization.
        let client = match path {
            STEP => consenter.clone(),
            REGISTER => Some(node_tls(&peer)),
            _ => None,
        };
        let channel = channel(&network, node, address, client);
        for message in &messages {
            let shown = &message[..message.len().min(40)];
            // A request that asks nothing is answered with nothing.
            let may_be_silent = path.ends_with("GossipStream") || path.ends_with("Discover");
            match call(channel.clone(), path, vec![message.clone()], 1).await {
                Ok(answers) => {
                    let said = answers.first().is_some_and(|answer| !answer.is_empty());
                    assert!(said || may_be_silent, "{path} says nothing to {shown:?}");
                }
                Err(status) => assert!(is_answer(&status), "{path}: {shown:?}: {status:?}"),
            }
        }
    }
    watch.unharmed(64).await;
}

/// Envelopes that are well-formed and wrong, and the status that each gets.
fn wrong_envelopes(client: &SigningIdentity) -> Vec<(&'static str, Envelope, Status)> {
    let spec = |kind, channel: &str, data: &'static [u8]| EnvelopeSpec {
        header_type: kind,
        channel_id: Some(ChannelId::new(channel).unwrap()),
        data: Bytes::from_static(data),
        timestamp: now(),
        nonce: nonce(),
        tls_cert_hash: Bytes::new(),
    };
    let signed = |payload: Vec<u8>| {
        let signature = client.sign(&payload).unwrap();
        Envelope { payload: payload.into(), signature }
    };
    let with_header = |change: &dyn Fn(&mut Header)| {
        let sound = spec(HeaderType::EndorserTransaction, "supply", b"x").sign(client).unwrap();
        let mut payload = Payload::decode(sound.payload).unwrap();
        change(payload.header.as_mut().unwrap());
        signed(payload.encode_to_vec())
    };
    let of_type = |kind: i32| {
        with_header(&|header| {
            let mut inner = ChannelHeader::decode(header.channel_header.clone()).unwrap();
            inner.r#type = kind;
            header.channel_header = inner.encode_to_vec().into();
        })
    };
    let no_header = Payload { header: None, data: Bytes::from_static(b"x") };
    let mut unsigned = spec(HeaderType::EndorserTransaction, "supply", b"x").sign(client).unwrap();
    unsigned.signature = Bytes::new();
    let elsewhere = spec(HeaderType::EndorserTransaction, "nowhere", b"x").sign(client).unwrap();
    let update = spec(HeaderType::ConfigUpdate, "supply", b"\x0a\x03abc").sign(client).unwrap();
    vec![
        ("empty", Envelope::default(), Status::BadRequest),
        ("a payload of nothing", signed(Vec::new()), Status::BadRequest),
        ("no header", signed(no_header.encode_to_vec()), Status::BadRequest),
        ("an empty header", with_header(&|header| *header = Header::default()), Status::BadRequest),
        (
            "a bad channel header",
            with_header(&|header| header.channel_header = Bytes::from_static(b"\xff\xff")),
            Status::BadRequest,
        ),
        (
            "a bad signature header",
            with_header(&|header| header.signature_header = Bytes::from_static(b"\xff\xff")),
            Status::BadRequest,
        ),
        ("an unknown channel", elsewhere, Status::BadRequest),
        ("a configuration", of_type(HeaderType::Config as i32), Status::BadRequest),
        (
            "the system channel's",
            of_type(HeaderType::OrdererTransaction as i32),
            Status::BadRequest,
        ),
        ("a bad update", update, Status::BadRequest),
        ("unsigned", unsigned, Status::Forbidden),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_envelopes_get_their_status_and_make_no_block() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let (height, _) = network.settled().await.unwrap();
    let client = user(&network, "org1", "user1");
    let orderer = node_named(&network, "orderer0");
    for (what, envelope, expected) in wrong_envelopes(&client) {
        let channel = channel(&network, &orderer, &orderer.grpc, None);
        let mut broadcast = AtomicBroadcastClient::new(channel);
        let answers = broadcast.broadcast(tokio_stream::once(envelope)).await.unwrap();
        let answer = timeout(PATIENCE, answers.into_inner().message()).await.expect(what);
        let answer = answer.unwrap().expect(what);
        assert_eq!(Status::try_from(answer.status), Ok(expected), "{what}: {}", answer.info);
        assert!(!answer.info.is_empty(), "{what}: it is said why");
    }
    assert_eq!(network.settled().await.unwrap().0, height, "one of them came into a block");
    watch.unharmed(64).await;
}

/// A consenter passes on what it should have refused. What is not whole must not come into a
/// block, which no peer would take; the rest is for the peers to find invalid.
#[tokio::test(flavor = "multi_thread")]
async fn envelopes_that_a_broken_consenter_forwards_stop_nobody() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let client = user(&network, "org1", "user1");
    let mut refused = Vec::new();
    for name in ["orderer0", "orderer1", "orderer2"] {
        let orderer = node_named(&network, name);
        let other = if name == "orderer1" { "orderer2" } else { "orderer1" };
        let consenter = node_tls(&node_named(&network, other));
        for (what, envelope, _) in wrong_envelopes(&client) {
            let forwarded = SubmitRequest {
                channel: "supply".to_owned(),
                last_validation_seq: 0,
                payload: Some(envelope),
            };
            let request = StepRequest { payload: Some(Step::SubmitRequest(forwarded)) };
            let answers = step(&network, &orderer, &consenter, request).await.unwrap();
            let answer = StepResponse::decode(answers[0].clone()).unwrap().payload.unwrap();
            let step_response::Payload::SubmitRes(answer) = answer;
            if answer.status == Status::BadRequest as i32 {
                refused.push(what);
            }
        }
        watch.unharmed(64).await;
    }
    for what in ["empty", "a payload of nothing", "no header", "a bad channel header", "unsigned"] {
        assert!(refused.contains(&what), "the leader took: {what}; it refused {refused:?}");
    }
}

async fn step(
    network: &LocalNetwork,
    orderer: &Node,
    consenter: &weft_rpc::tls::TlsIdentity,
    request: StepRequest,
) -> Result<Vec<Bytes>, tonic::Status> {
    let channel = channel(network, orderer, &orderer.grpc, Some(consenter.clone()));
    let answer = call(channel, STEP, vec![request.encode_to_vec().into()], 1).await;
    assert!(answer.as_ref().err().is_none_or(is_answer), "{answer:?}");
    answer
}

/// Fabric's orderer once ended on a consensus message without content.
#[tokio::test(flavor = "multi_thread")]
async fn consensus_messages_of_a_broken_consenter_stop_nobody() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let mut random = Random::seeded();
    let consenter = node_tls(&node_named(&network, "orderer1"));
    for name in ["orderer0", "orderer2"] {
        let orderer = node_named(&network, name);
        for length in [0, 0, 1, 2, 10, 100, 1_000].into_iter().cycle().take(70) {
            let request = ConsensusRequest {
                channel: "supply".to_owned(),
                payload: random.bytes(length).into(),
                metadata: random.bytes(length / 2).into(),
            };
            let request = StepRequest { payload: Some(Step::ConsensusRequest(request)) };
            let _ = step(&network, &orderer, &consenter, request).await;
        }
        let empty = SubmitRequest { channel: "supply".to_owned(), ..SubmitRequest::default() };
        let request = StepRequest { payload: Some(Step::SubmitRequest(empty)) };
        let _ = step(&network, &orderer, &consenter, request).await;
        let status =
            step(&network, &orderer, &consenter, StepRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    watch.unharmed(64).await;
}

/// Proposals that are well-formed and wrong.
fn wrong_proposals(client: &SigningIdentity) -> Vec<(&'static str, SignedProposal)> {
    let spec = |channel: &str, chaincode: &str, timestamp| ProposalSpec {
        channel_id: Some(ChannelId::new(channel).unwrap()),
        chaincode: chaincode.to_owned(),
        args: ["Put", "k", "stolen"].map(Bytes::from).to_vec(),
        transient: BTreeMap::new(),
        is_init: false,
        timestamp,
        nonce: nonce(),
    };
    let sound = |channel, chaincode| spec(channel, chaincode, now()).sign(client).unwrap().signed;
    let signed = |proposal: Proposal| {
        let proposal_bytes: Bytes = proposal.encode_to_vec().into();
        let signature = client.sign(&proposal_bytes).unwrap();
        SignedProposal { proposal_bytes, signature }
    };
    let changed = |change: &dyn Fn(&mut Header, &mut ChannelHeader)| {
        let mut proposal = spec("supply", "asset", now()).sign(client).unwrap().proposal;
        let mut header = Header::decode(proposal.header).unwrap();
        let mut inner = ChannelHeader::decode(header.channel_header.clone()).unwrap();
        change(&mut header, &mut inner);
        header.channel_header = inner.encode_to_vec().into();
        proposal.header = header.encode_to_vec().into();
        signed(proposal)
    };
    let window = Duration::from_secs(16 * 60);
    let past = spec("supply", "asset", now().saturating_sub(window)).sign(client).unwrap();
    let future = spec("supply", "asset", now().saturating_add(window)).sign(client).unwrap();
    let mut unsigned = sound("supply", "asset");
    unsigned.signature = Bytes::new();
    let mut forged = sound("supply", "asset");
    forged.signature = sound("supply", "asset").signature;
    vec![
        ("empty", SignedProposal::default()),
        ("an empty proposal", signed(Proposal::default())),
        ("16 minutes old", past.signed),
        ("16 minutes early", future.signed),
        ("no time", changed(&|_, inner| inner.timestamp = None)),
        ("another's transaction id", changed(&|_, inner| inner.tx_id = "00".repeat(32))),
        ("no transaction id", changed(&|_, inner| inner.tx_id.clear())),
        ("an unknown type", changed(&|_, inner| inner.r#type = 99)),
        (
            "a type that is no proposal",
            changed(&|_, inner| inner.r#type = HeaderType::Message as i32),
        ),
        ("an epoch", changed(&|_, inner| inner.epoch = 7)),
        ("no chaincode", changed(&|_, inner| inner.extension = Bytes::new())),
        ("a bad extension", changed(&|_, inner| inner.extension = Bytes::from_static(b"\xff"))),
        ("no creator", changed(&|header, _| header.signature_header = Bytes::new())),
        (
            "a bad creator",
            changed(&|header, _| header.signature_header = Bytes::from_static(b"\x0a\x01\xff")),
        ),
        ("an unknown channel", sound("nowhere", "asset")),
        ("an unknown chaincode", sound("supply", "nothing")),
        ("a chaincode with a path", sound("supply", "../asset")),
        ("unsigned", unsigned),
        ("signed for another", forged),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_proposals_are_not_endorsed() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let watch = Watch::new(&network);
    let client = user(&network, "org1", "user1");
    let peer = node_named(&network, "peer0.org1");
    let grpc = channel(&network, &peer, &peer.grpc, None);
    let mut gateway = weft_protos::gateway::gateway_client::GatewayClient::new(grpc.clone());
    let check = |what: &str, status: tonic::Status| {
        assert!(is_answer(&status), "{what}: {status:?}");
        assert!(!status.message().is_empty(), "{what}: it is said why");
        assert!(status.code() != Code::Internal, "{what}: {status:?}");
        assert!(status.code() != Code::ResourceExhausted, "{what}: {status:?}");
    };
    for (what, proposal) in wrong_proposals(&client) {
        match EndorserClient::new(grpc.clone()).process_proposal(proposal.clone()).await {
            Err(status) => check(what, status),
            Ok(answer) => {
                let answer = answer.into_inner();
                let response = answer.response.unwrap();
                assert!(response.status >= 400, "{what}: {response:?}");
                assert!(answer.endorsement.is_none(), "{what} is endorsed");
            }
        }
        for proposed_transaction in [Some(proposal.clone()), None] {
            let request = EndorseRequest {
                transaction_id: "x".to_owned(),
                channel_id: "supply".to_owned(),
                proposed_transaction: proposed_transaction.clone(),
                endorsing_organizations: Vec::new(),
            };
            check(what, gateway.endorse(request).await.expect_err(what));
            let request = EvaluateRequest {
                transaction_id: "x".to_owned(),
                channel_id: "supply".to_owned(),
                proposed_transaction,
                target_organizations: Vec::new(),
            };
            check(what, gateway.evaluate(request).await.expect_err(what));
        }
    }
    watch.unharmed(64).await;
}
