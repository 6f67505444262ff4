//! Evaluate and Endorse with endorsers that fail, differ, refuse and keep silent.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::policy::dsl;
use weft_package::Connection;
use weft_peer::gateway;
use weft_peer::gateway::error::details;
use weft_protos::common::Envelope;
use weft_protos::gateway::{
    EndorseRequest, EvaluateRequest, SignedCommitStatusRequest, SubmitRequest,
};
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest, SignedProposal};
use weft_types::ParsedPayload;
use weft_types::proposal::BuiltSignedProposal;
use weft_types::transaction::ParsedTransaction;

use crate::node::{Node, Script};
use crate::support::CHANNEL;
use crate::world::{Draft, World, propose, spec};

fn proposal(world: &World) -> BuiltSignedProposal {
    propose(world.client(1), "asset", &[b"put"])
}

fn endorse_request(signed: SignedProposal, organizations: &[&str]) -> EndorseRequest {
    EndorseRequest {
        transaction_id: String::new(),
        channel_id: CHANNEL.to_owned(),
        proposed_transaction: Some(signed),
        endorsing_organizations: organizations.iter().map(ToString::to_string).collect(),
    }
}

async fn endorse(node: &Node, signed: SignedProposal, orgs: &[&str]) -> Result<Envelope, Status> {
    let response = node.gateway().endorse(endorse_request(signed, orgs)).await?;
    Ok(response.into_inner().prepared_transaction.unwrap())
}

async fn evaluate(node: &Node, signed: SignedProposal, orgs: &[&str]) -> Result<String, Status> {
    let request = EvaluateRequest {
        transaction_id: String::new(),
        channel_id: CHANNEL.to_owned(),
        proposed_transaction: Some(signed),
        target_organizations: orgs.iter().map(ToString::to_string).collect(),
    };
    let result = node.gateway().evaluate(request).await?.into_inner().result.unwrap();
    Ok(String::from_utf8(result.payload.to_vec()).unwrap())
}

/// Who endorsed a prepared transaction: MSP ids, sorted.
fn endorsers(envelope: &Envelope) -> Vec<String> {
    let payload = ParsedPayload::parse(envelope.payload.clone()).unwrap();
    let transaction = ParsedTransaction::parse(&payload).unwrap();
    let org = |endorser: &Bytes| {
        let identity: weft_protos::msp::SerializedIdentity =
            weft_protos::ext::decode("identity", endorser.clone()).unwrap();
        identity.mspid
    };
    let mut orgs: Vec<_> =
        transaction.endorsements.iter().map(|endorsement| org(&endorsement.endorser)).collect();
    orgs.sort();
    orgs
}

/// Two peers of different organizations and one more of the second, and `asset` under a policy.
async fn network(policy: &str) -> (World, Node, Node, Node) {
    network_within(policy, Duration::from_secs(2)).await
}

/// The same with another time for endorsers to answer the first peer.
async fn network_within(policy: &str, limit: Duration) -> (World, Node, Node, Node) {
    let world = World::new().await;
    let options = gateway::Options { endorsement_timeout: limit, ..gateway::Options::default() };
    let a = Node::start_with(&world, 1, "peer0", &[], options).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    let c = Node::start(&world, 2, "peer1", &[&a]).await;
    let mut draft = Draft::new("asset");
    draft.policy = ApplicationPolicy::Signature(dsl::parse(policy).unwrap()).encode();
    let connection = Connection::plain("127.0.0.1:1".to_owned());
    world.define(&[&a.peer, &b.peer, &c.peer], &draft, &connection).await;
    a.sees(3).await;
    (world, a, b, c)
}

const BOTH: &str = "AND('Org1MSP.peer', 'Org2MSP.peer')";
const ANY: &str = "OR('Org1MSP.peer', 'Org2MSP.peer')";

#[tokio::test(flavor = "multi_thread")]
async fn endorses_with_as_many_as_the_policy_asks_for() {
    let (world, a, b, c) = network(BOTH).await;
    let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
    assert!(envelope.signature.is_empty());
    assert_eq!(a.endorser.asked(), 1);
    assert_eq!(b.endorser.asked() + c.endorser.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_endorsement_is_this_peers_own() {
    let (world, a, b, c) = network(ANY).await;
    for _ in 0..4 {
        let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
        assert_eq!(endorsers(&envelope), ["Org1MSP"]);
    }
    assert_eq!(b.endorser.asked() + c.endorser.asked(), 0);
    // The other organization's gateway has its own peers.
    let envelope = endorse(&b, proposal(&world).signed, &[]).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org2MSP"]);
    assert_eq!(b.endorser.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_peer_of_the_organization_stands_in() {
    let (world, a, b, c) = network(BOTH).await;
    b.endorser.script([Script::Peer("failed to start chaincode")]);
    c.endorser.script([Script::Peer("failed to start chaincode")]);
    // Each of them fails once; whichever is asked first, the other one fails too.
    let status = endorse(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "failed to collect enough transaction endorsements, see attached details for more info"
    );
    let mut told: Vec<_> = details(&status);
    told.sort_by(|one, other| one.address.cmp(&other.address));
    let mut addresses = vec![b.address.clone(), c.address.clone()];
    addresses.sort();
    assert_eq!(told.iter().map(|one| one.address.clone()).collect::<Vec<_>>(), addresses);
    assert!(told.iter().all(|one| one.msp_id == "Org2MSP"));
    assert!(told.iter().all(|one| one.message == "failed to start chaincode"));
    b.endorser.script([Script::Peer("failed to start chaincode")]);
    for _ in 0..2 {
        let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
        assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
    }
    assert_eq!(b.endorser.asked() + c.endorser.asked(), 2 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_or_silent_is_replaced() {
    let (world, a, b, c) = network(BOTH).await;
    b.endorser.script([Script::Hang, Script::Hang]);
    let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
    c.stop();
    b.endorser.script([]);
    for _ in 0..2 {
        let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
        assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
    }
}

/// The time that an endorser has is far longer than the test may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_endorser_is_not_waited_for() {
    let (world, a, b, c) = network_within(BOTH, Duration::from_secs(3600)).await;
    let all_hang = || std::iter::repeat_n(Script::Hang, 100);
    let calls = async {
        b.endorser.script(all_hang());
        // Whoever is asked first; afterwards it is known to be silent.
        for _ in 0..4 {
            let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
            assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
            let named = endorse(&a, proposal(&world).signed, &["Org2MSP"]).await.unwrap();
            assert_eq!(endorsers(&named), ["Org2MSP"]);
        }
        assert!(b.endorser.asked() < 8, "a silent peer is asked last");
        // The first endorsement, and answers without one.
        a.endorser.script(all_hang());
        assert_eq!(evaluate(&a, proposal(&world).signed, &[]).await.unwrap(), "ok");
    };
    tokio::time::timeout(Duration::from_secs(60), calls).await.unwrap();
    assert!(c.endorser.asked() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_results_are_refused_with_details() {
    let (world, a, b, c) = network(BOTH).await;
    b.endorser.script([Script::Endorse("other")]);
    c.endorser.script([Script::Endorse("other")]);
    let status = endorse(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let told = details(&status);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|one| one.message == "ProposalResponsePayloads do not match"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contracts_error_is_told_for_each_endorser() {
    let (world, a, _b, _c) = network(BOTH).await;
    a.endorser.script([Script::Chaincode(500, "the asset does not exist")]);
    let status = endorse(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "failed to endorse transaction, see attached details for more info"
    );
    let told = details(&status);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].address, a.address);
    assert_eq!(told[0].msp_id, "Org1MSP");
    assert_eq!(told[0].message, "chaincode response 500, the asset does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_identity_is_told_differently_by_both_methods() {
    let (world, a, _b, _c) = network(ANY).await;
    a.endorser.script([Script::Refuse("access denied"), Script::Refuse("access denied")]);
    let status = evaluate(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "evaluate call to endorser returned error: access denied");
    let status = endorse(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(details(&status)[0].message, "access denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_choice_of_organizations_is_followed() {
    let (world, a, b, c) = network(ANY).await;
    let envelope = endorse(&a, proposal(&world).signed, &["Org2MSP"]).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org2MSP"]);
    assert_eq!(a.endorser.asked(), 0);
    let both = ["Org2MSP", "Org1MSP", "Org2MSP"];
    let envelope = endorse(&a, proposal(&world).signed, &both).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
    assert_eq!(b.endorser.asked() + c.endorser.asked(), 2);
    let unknown = ["Org3MSP", "Org1MSP"];
    let status = endorse(&a, proposal(&world).signed, &unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "failed to find any endorsing peers for org(s): Org3MSP");
}

#[tokio::test(flavor = "multi_thread")]
async fn called_chaincodes_have_their_say() {
    let (world, a, b, c) = network(ANY).await;
    let mut draft = Draft::new("money");
    draft.policy = ApplicationPolicy::Signature(dsl::parse(BOTH).unwrap()).encode();
    let connection = Connection::plain("127.0.0.1:1".to_owned());
    let call = |name: &str| ChaincodeCall { name: name.to_owned(), ..Default::default() };
    let interest = ChaincodeInterest { chaincodes: vec![call("asset"), call("money")] };
    *a.endorser.interest.lock() = interest;
    let status = endorse(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("chaincode money"), "{}", status.message());
    world.define(&[&a.peer, &b.peer, &c.peer], &draft, &connection).await;
    let status = endorse(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().ends_with("required chaincodes are not installed on sufficient peers")
    );
    for node in [&a, &b, &c] {
        node.chaincodes.0.lock().push(("money".to_owned(), 1));
    }
    crate::node::until(|| {
        let peers = a.membership.channel_peers(&a.peer.channel());
        peers.iter().all(|peer| peer.state.has("money"))
    })
    .await;
    let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lifecycle_is_endorsed_by_its_own_policy() {
    let (world, a, _b, _c) = network(ANY).await;
    let built = propose(world.admin(1), "_lifecycle", &[b"CommitChaincodeDefinition", b""]);
    let envelope = endorse(&a, built.signed, &[]).await.unwrap();
    // The majority of two organizations is both.
    assert_eq!(endorsers(&envelope), ["Org1MSP", "Org2MSP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluates_here_and_elsewhere_when_this_peer_fails() {
    let (world, a, b, c) = network(ANY).await;
    a.endorser.script([Script::Endorse("here"), Script::Peer("no chaincode")]);
    assert_eq!(evaluate(&a, proposal(&world).signed, &[]).await.unwrap(), "here");
    for node in [&b, &c] {
        node.endorser.script([Script::Endorse("there"), Script::Endorse("there")]);
    }
    assert_eq!(evaluate(&a, proposal(&world).signed, &[]).await.unwrap(), "there");
    assert_eq!(evaluate(&a, proposal(&world).signed, &["Org2MSP"]).await.unwrap(), "there");
    assert_eq!(a.endorser.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_errors() {
    let (world, a, b, c) = network(ANY).await;
    a.endorser.script([Script::Chaincode(404, "not found")]);
    let status = evaluate(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    let text = "evaluate call to endorser returned error: chaincode response 404, not found";
    assert_eq!(status.message(), text);
    assert_eq!(b.endorser.asked() + c.endorser.asked(), 0);
    for node in [&a, &b, &c] {
        node.endorser.script([Script::Peer("down")]);
    }
    let status = evaluate(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(details(&status).len(), 3);
    let status = evaluate(&a, proposal(&world).signed, &["Org3MSP"]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let unknown = propose(world.client(1), "nothing", &[b"get"]).signed;
    let status = evaluate(&a, unknown.clone(), &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let text = format!("no peers available to evaluate chaincode nothing in channel {CHANNEL}");
    assert_eq!(status.message(), text);
    let status = endorse(&a, unknown, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        status.message(),
        format!(
            "no combination of peers can be derived which satisfy the endorsement policy: No metadata was found for chaincode nothing in channel {CHANNEL}"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_data_stays_at_home() {
    let (world, a, b, c) = network(ANY).await;
    let mut with_secret = spec("asset", &[b"put"]);
    with_secret.transient.insert("secret".to_owned(), Bytes::from_static(b"7"));
    let signed = with_secret.sign(world.client(1)).unwrap().signed;
    a.endorser.script([Script::Peer("down"), Script::Peer("down")]);
    let status = evaluate(&a, signed.clone(), &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    a.chaincodes.0.lock().clear();
    crate::node::until(|| {
        let peers = a.membership.channel_peers(&a.peer.channel());
        !peers[0].state.has("asset")
    })
    .await;
    for status in [
        evaluate(&a, signed.clone(), &[]).await.unwrap_err(),
        endorse(&a, signed, &[]).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::FailedPrecondition);
        let text = "no endorsers found in the gateway's organization; retry specifying";
        assert!(status.message().starts_with(text), "{}", status.message());
    }
    assert_eq!(b.endorser.asked() + c.endorser.asked(), 0);
    // Without secrets, others may be asked.
    let envelope = endorse(&a, proposal(&world).signed, &[]).await.unwrap();
    assert_eq!(endorsers(&envelope), ["Org2MSP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_read() {
    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let empty = SignedProposal::default();
    let status = endorse(&a, empty.clone(), &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "the proposed transaction must contain a signed proposal");
    let status = evaluate(&a, empty, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let text = "failed to unpack transaction proposal: a signed proposal is required";
    assert_eq!(status.message(), text);
    let mut elsewhere = spec("asset", &[]);
    elsewhere.channel_id = None;
    let status =
        evaluate(&a, elsewhere.sign(world.client(1)).unwrap().signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut elsewhere = spec("asset", &[]);
    elsewhere.channel_id = Some(weft_types::ChannelId::new("elsewhere").unwrap());
    let elsewhere = elsewhere.sign(world.client(1)).unwrap().signed;
    let status = evaluate(&a, elsewhere, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let mut gateway = a.gateway();
    let submit = SubmitRequest { channel_id: CHANNEL.to_owned(), ..Default::default() };
    let status = gateway.submit(submit.clone()).await.unwrap_err();
    assert_eq!(status.message(), "a prepared transaction is required");
    let unsigned = SubmitRequest { prepared_transaction: Some(Envelope::default()), ..submit };
    let status = gateway.submit(unsigned).await.unwrap_err();
    assert_eq!(status.message(), "prepared transaction must be signed");
    let status = gateway.commit_status(SignedCommitStatusRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_past_the_limit_are_refused() {
    let world = World::new().await;
    let options = gateway::Options {
        concurrency: 1,
        endorsement_timeout: Duration::from_secs(60),
        ..gateway::Options::default()
    };
    let a = Node::start_with(&world, 1, "peer0", &[], options).await;
    a.endorser.script([Script::Hang]);
    let hanging = {
        let mut gateway = a.gateway();
        let signed = proposal(&world).signed;
        tokio::spawn(async move {
            let request =
                EvaluateRequest { proposed_transaction: Some(signed), ..Default::default() };
            gateway.evaluate(request).await
        })
    };
    crate::node::until(|| a.endorser.asked() == 1).await;
    let status = evaluate(&a, proposal(&world).signed, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    // A client that goes away makes room.
    hanging.abort();
    let _ = hanging.await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while evaluate(&a, proposal(&world).signed, &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}
