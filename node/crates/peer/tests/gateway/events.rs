//! CommitStatus and ChaincodeEvents on blocks that come from an orderer.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use weft_msp::SigningIdentity;
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::policy::dsl;
use weft_package::Connection;
use weft_protos::common::Envelope;
use weft_protos::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, CommitStatusRequest, CommitStatusResponse,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest,
};
use weft_protos::orderer::{SeekNewest, SeekPosition, SeekSpecified, seek_position};
use weft_protos::peer::{ChaincodeId, Response};
use weft_types::proposal::{self, ParsedProposal, Simulation};
use weft_types::{Signer, ValidationCode, transaction};

use crate::node::{Node, event};
use crate::support::CHANNEL;
use crate::world::{Draft, World, propose};

const SOON: Duration = Duration::from_secs(20);

async fn network() -> (World, Node) {
    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let two = world.peer(2).await;
    let mut draft = Draft::new("asset");
    let policy = dsl::parse("OR('Org1MSP.peer')").unwrap();
    draft.policy = ApplicationPolicy::Signature(policy).encode();
    let connection = Connection::plain("127.0.0.1:1".to_owned());
    world.define(&[&a.peer, &two], &draft, &connection).await;
    (world, a)
}

/// A transaction with an event; one that Org2 endorses is not valid.
fn transaction(world: &World, org: usize, name: &str) -> (String, Envelope) {
    let client = world.client(1);
    let built = propose(client, "asset", &[b"put"]);
    let tx_id = built.tx_id.to_string();
    let parsed = ParsedProposal::parse(built.signed.clone()).unwrap();
    let simulation = Simulation {
        results: Bytes::new(),
        events: event("asset", &tx_id, name),
        response: Response { status: 200, ..Response::default() },
        chaincode_id: ChaincodeId {
            name: "asset".to_owned(),
            version: "1.0".to_owned(),
            ..ChaincodeId::default()
        },
    };
    let response = proposal::endorse(&parsed, simulation, &world.network.org(org).peer).unwrap();
    (tx_id, transaction::assemble_signed(&built.proposal, &[response], client).unwrap())
}

async fn status(
    node: &Node,
    signer: &SigningIdentity,
    channel: &str,
    tx_id: &str,
) -> Result<CommitStatusResponse, Status> {
    let request = CommitStatusRequest {
        transaction_id: tx_id.to_owned(),
        channel_id: channel.to_owned(),
        identity: signer.serialized_identity(),
    };
    let request = Bytes::from(request.encode_to_vec());
    let signature = signer.sign(&request).unwrap();
    let signed = SignedCommitStatusRequest { request, signature };
    timeout(SOON, node.gateway().commit_status(signed)).await.unwrap().map(|r| r.into_inner())
}

async fn events(
    node: &Node,
    signer: &SigningIdentity,
    start: Option<seek_position::Type>,
    after: &str,
) -> Result<Streaming<ChaincodeEventsResponse>, Status> {
    let request = ChaincodeEventsRequest {
        channel_id: CHANNEL.to_owned(),
        chaincode_id: "asset".to_owned(),
        identity: signer.serialized_identity(),
        start_position: start.map(|start| SeekPosition { r#type: Some(start) }),
        after_transaction_id: after.to_owned(),
    };
    let request = Bytes::from(request.encode_to_vec());
    let signature = signer.sign(&request).unwrap();
    let signed = SignedChaincodeEventsRequest { request, signature };
    node.gateway().chaincode_events(signed).await.map(|stream| stream.into_inner())
}

/// The next response: its block and the names of its events.
async fn next(stream: &mut Streaming<ChaincodeEventsResponse>) -> (u64, Vec<String>) {
    let response = timeout(SOON, stream.message()).await.unwrap().unwrap().unwrap();
    let names = response.events.into_iter().map(|event| event.event_name);
    (response.block_number, names.collect())
}

fn from(number: u64) -> Option<seek_position::Type> {
    Some(seek_position::Type::Specified(SeekSpecified { number }))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_became_of_a_transaction() {
    let (world, a) = network().await;
    let height = a.peer.channel().height();
    let (good, envelope) = transaction(&world, 1, "e");
    let (bad, refused) = transaction(&world, 2, "e");
    let waiting = {
        let (tx_id, signer) = (good.clone(), world.client(1).clone());
        let transport = a.transport.clone();
        tokio::spawn(async move {
            let request = CommitStatusRequest {
                transaction_id: tx_id,
                channel_id: CHANNEL.to_owned(),
                identity: signer.serialized_identity(),
            };
            let request = Bytes::from(request.encode_to_vec());
            let signature = signer.sign(&request).unwrap();
            let signed = SignedCommitStatusRequest { request, signature };
            let mut gateway = weft_protos::gateway::gateway_client::GatewayClient::new(transport);
            gateway.commit_status(signed).await
        })
    };
    let channel = a.peer.channel();
    crate::node::until(|| channel.waiting() == 1).await;
    world.order(&[&a.peer], &[envelope, refused]).await;
    let told = timeout(SOON, waiting).await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(told.result, i32::from(ValidationCode::Valid));
    assert_eq!(told.block_number, height);
    let told = status(&a, world.client(1), CHANNEL, &bad).await.unwrap();
    assert_eq!(told.result, i32::from(ValidationCode::EndorsementPolicyFailure));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_for_readers_of_the_channel() {
    let (_, a) = network().await;
    let stranger = weft_testkit::Org::new("OtherMSP").client;
    let refused = status(&a, &stranger, CHANNEL, "00").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = events(&a, &stranger, None, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = status(&a, &stranger, "elsewhere", "00").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_peer() {
    let (world, a) = network().await;
    let client = world.client(1).clone();
    let channel = a.peer.channel();
    let (told, mut stream) =
        tokio::join!(async { status(&a, &client, CHANNEL, "00").await }, async {
            let stream = events(&a, &client, None, "").await.unwrap();
            crate::node::until(|| channel.waiting() == 1).await;
            a.stop();
            stream
        });
    assert_eq!(told.unwrap_err().code(), Code::Unavailable);
    let ended = timeout(SOON, stream.message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_valid_transactions_block_by_block() {
    let (world, a) = network().await;
    let client = world.client(1);
    let mut live = events(&a, client, None, "").await.unwrap();
    let height = a.peer.channel().height();
    let (_, one) = transaction(&world, 1, "one");
    let (_, bad) = transaction(&world, 2, "bad");
    let (second, two) = transaction(&world, 1, "two");
    let (_, three) = transaction(&world, 1, "three");
    world.order(&[&a.peer], &[one, bad, two, three]).await;
    assert_eq!(next(&mut live).await, (height, names(&["one", "two", "three"])));
    // A block without such events is passed over.
    let (_, bad) = transaction(&world, 2, "bad");
    world.order(&[&a.peer], &[bad]).await;
    let (_, four) = transaction(&world, 1, "four");
    world.order(&[&a.peer], &[four]).await;
    assert_eq!(next(&mut live).await, (height + 2, names(&["four"])));
    // Replay from a block, and from a checkpoint within it.
    let mut replay = events(&a, client, from(0), "").await.unwrap();
    assert_eq!(next(&mut replay).await, (height, names(&["one", "two", "three"])));
    assert_eq!(next(&mut replay).await, (height + 2, names(&["four"])));
    let mut resumed = events(&a, client, from(height), &second).await.unwrap();
    assert_eq!(next(&mut resumed).await, (height, names(&["three"])));
    assert_eq!(next(&mut resumed).await, (height + 2, names(&["four"])));
    let newest = Some(seek_position::Type::Newest(SeekNewest {}));
    let refused = events(&a, client, newest, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
