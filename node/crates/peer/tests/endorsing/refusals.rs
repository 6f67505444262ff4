//! Proposals that are not acceptable, and those that cannot be run.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::Code;
use weft_peer::chaincode::package::Connection;
use weft_peer::endorser::{Endorser, EndorserError, EndorserParts};
use weft_protos::peer::SignedProposal;
use weft_testkit::Org;
use weft_testkit::clock::{ALWAYS, EXPIRED, NOW};
use weft_types::proposal::ProposalSpec;
use weft_types::{ChannelId, Signer};

use crate::world::{Draft, World, propose, spec};

#[tokio::test(flavor = "multi_thread")]
async fn unacceptable_proposals_are_refused() {
    let world = World::new().await;
    let one = world.peer(1).await;
    let client = world.client(1);
    let good = propose(client, "asset", &[b"Get"]).signed;
    let signed = |spec: ProposalSpec, signer: &dyn Signer| spec.sign(signer).unwrap().signed;
    let at = |seconds: i64| ProposalSpec {
        timestamp: weft_types::Timestamp::from_seconds(NOW.seconds() + seconds),
        ..spec("asset", &[b"Get"])
    };
    let local = ProposalSpec { channel_id: None, ..spec("cscc", &[b"GetChannels"]) };
    let stranger = Org::new("Org9MSP");
    let impostor = Org::new("Org1MSP");
    let late = world.network.org(1).identity_valid("late", weft_msp::NodeRole::Client, EXPIRED);
    let denied = "error validating proposal: access denied: channel [supply] creator org [Org1MSP]";
    let unknown = "error validating proposal: access denied: channel [supply] creator org unknown, creator is malformed";
    let cases: Vec<(&str, SignedProposal, &str)> = vec![
        ("nothing", SignedProposal::default(), "it has no proposal bytes"),
        (
            "junk",
            SignedProposal { proposal_bytes: Bytes::from_static(b"\xff\xff"), ..good.clone() },
            "failed to decode proposal",
        ),
        (
            "no signature",
            SignedProposal { signature: Bytes::new(), ..good.clone() },
            "it has no signature",
        ),
        (
            "another's signature",
            SignedProposal {
                signature: propose(client, "asset", &[]).signed.signature,
                ..good.clone()
            },
            denied,
        ),
        ("too old", signed(at(-901), client), "request unauthorized due to incorrect timestamp"),
        (
            "from the future",
            signed(at(901), client),
            "request unauthorized due to incorrect timestamp",
        ),
        ("a stranger", signed(spec("asset", &[]), &stranger.client), unknown),
        ("a namesake", signed(spec("asset", &[]), &impostor.client), unknown),
        ("expired", signed(spec("asset", &[]), &late), "proposal client identity expired"),
        (
            "not a writer",
            signed(spec("asset", &[]), &world.network.org(1).peer),
            "with policy [/Channel/Application/Writers]",
        ),
        (
            "another organization's member",
            signed(local, world.client(2)),
            "access denied: channel [] creator org unknown",
        ),
    ];
    for (name, proposal, text) in cases {
        let refused = one.endorser.process_at(proposal, NOW).await.unwrap_err();
        assert!(refused.to_string().contains(text), "{name}: {refused}");
        assert_eq!(tonic::Status::from(refused).code(), Code::Unknown, "{name}");
    }
    for seconds in [-900, 0, 900] {
        let accepted = one.endorser.process_at(signed(at(seconds), client), NOW).await;
        assert!(accepted.is_ok(), "{seconds}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_creator_is_refused() {
    let mut network_org = Org::new("Org1MSP");
    let revoked = network_org.identity_valid("gone", weft_msp::NodeRole::Client, ALWAYS);
    network_org.revoke(&[revoked.certificate().clone()]);
    // The peer's own MSP knows of it; the channel is not asked for a local call.
    let world = World::new().await;
    let lone = world.lone_peer(1);
    let local = weft_msp::MspManager::new([network_org.msp()]).unwrap();
    let acl = weft_peer::acl::Acl::new(std::sync::Arc::new(local), network_org.msp_id.clone());
    let endorser = Endorser::new(EndorserParts { acl, ..lone.parts.clone() });
    let ask = |signer: &weft_msp::SigningIdentity| {
        ProposalSpec { channel_id: None, ..spec("cscc", &[b"GetChannels"]) }
            .sign(signer)
            .unwrap()
            .signed
    };
    let refused = endorser.process_at(ask(&revoked), NOW).await.unwrap_err();
    assert!(matches!(refused, EndorserError::Denied { .. }), "{refused}");
    endorser.process_at(ask(&network_org.client), NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_told_in_the_response() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let client = world.client(1);
    let elsewhere = ProposalSpec {
        channel_id: Some(ChannelId::new("elsewhere").unwrap()),
        ..spec("asset", &[])
    };
    let nowhere = ProposalSpec { channel_id: None, ..spec("asset", &[]) };
    let missing = "make sure the chaincode asset has been successfully defined on channel supply and try again: ";
    let ask = async |spec: ProposalSpec| {
        let response = one.send(&spec.sign(client).unwrap()).await;
        assert!(response.endorsement.is_none());
        let told = response.response.unwrap();
        assert_eq!(told.status, 500);
        told.message
    };
    assert_eq!(ask(elsewhere).await, "channel 'elsewhere' not found");
    assert!(ask(nowhere).await.contains("could not get channel config for channel ''"));
    assert_eq!(ask(spec("asset", &[])).await, format!("{missing}chaincode asset not found"));

    let peers = [&one, &two];
    let connection = Connection::plain("127.0.0.1:1".to_owned());
    let package = world.define(&peers, &Draft::new("asset"), &connection).await;
    let answer = ask(spec("asset", &[])).await;
    assert!(answer.starts_with("error in simulation: failed to execute transaction"), "{answer}");
    assert!(answer.contains(&format!("could not launch chaincode {package}")), "{answer}");

    let gone = Draft { sequence: 2, ..Draft::new("asset") };
    for org in [1, 2] {
        let approve = gone.approve(world.admin(org), "elsewhere:00");
        let endorser = peers[org - 1];
        world.transact(world.admin(org), &approve, &[endorser], &peers).await;
    }
    world.transact(world.admin(1), &gone.commit(world.admin(1)), &peers, &peers).await;
    assert_eq!(
        ask(spec("asset", &[])).await,
        format!("{missing}chaincode definition for 'asset' exists, but chaincode is not installed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_proposals_are_refused() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    // A contract that takes connections and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connection = Connection::plain(listener.local_addr().unwrap().to_string());
    world.define(&[&one, &two], &Draft::new("asset"), &connection).await;
    let endorser = Endorser::new(EndorserParts { max_concurrent: 1, ..one.parts.clone() });
    let busy = {
        let endorser = endorser.clone();
        let proposal = propose(world.client(1), "asset", &[b"Get"]).signed;
        tokio::spawn(async move { endorser.process_at(proposal, NOW).await })
    };
    let (_held, _) =
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    let info = propose(world.client(1), "qscc", &[b"GetChainInfo", b"supply"]).signed;
    let refused = endorser.process_at(info.clone(), NOW).await.unwrap_err();
    assert!(matches!(refused, EndorserError::Busy { limit: 1 }));
    assert_eq!(tonic::Status::from(refused).code(), Code::ResourceExhausted);
    // A caller that goes away frees its place.
    busy.abort();
    assert!(busy.await.unwrap_err().is_cancelled());
    let response = endorser.process_at(info, NOW).await.unwrap();
    assert_eq!(response.response.unwrap().status, 200);
}

#[test]
fn hostile_bytes_are_refused_without_a_panic() {
    use proptest::prelude::*;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let peer = runtime.block_on(world.peer(1));
    let good =
        propose(world.client(1), "qscc", &[b"GetChainInfo", b"supply"]).signed.encode_to_vec();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(256));
    let spoil = (0..good.len(), any::<u8>(), 0..=good.len());
    runner
        .run(&spoil, |(at, value, length)| {
            let mut bytes = good.clone();
            prop_assume!(bytes[at] != value);
            bytes[at] = value;
            bytes.truncate(length);
            let Ok(proposal) = SignedProposal::decode(bytes.as_slice()) else { return Ok(()) };
            // Every byte of a proposal is signed, or the signature itself.
            let answer = runtime.block_on(peer.endorser.process_at(proposal, NOW));
            prop_assert!(answer.map_or(true, |answer| answer.endorsement.is_none()));
            Ok(())
        })
        .unwrap();
}
