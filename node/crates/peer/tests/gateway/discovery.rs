//! Discovery's queries, as clients send them.

use bytes::Bytes;
use prost::Message;
use tonic::Status;
use weft_msp::SigningIdentity;
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::policy::dsl;
use weft_package::Connection;
use weft_protos::discovery::query::Query as Kind;
use weft_protos::discovery::{
    AuthInfo, ChaincodeQuery, ConfigQuery, LocalPeerQuery, Peer, PeerMembershipQuery, Query,
    QueryResult, Request, SignedRequest, query_result,
};
use weft_protos::ext::decode;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{AliveMessage, GossipMessage, StateInfo};
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest};
use weft_types::Signer;

use crate::node::Node;
use crate::support::CHANNEL;
use crate::world::{Draft, World};

async fn ask(
    node: &Node,
    signer: &SigningIdentity,
    channel: &str,
    kind: Kind,
) -> Result<query_result::Result, Status> {
    let query = Query { channel: channel.to_owned(), query: Some(kind) };
    let mut results = ask_all(node, signer, vec![query]).await?;
    Ok(results.remove(0).result.unwrap())
}

async fn ask_all(
    node: &Node,
    signer: &SigningIdentity,
    queries: Vec<Query>,
) -> Result<Vec<QueryResult>, Status> {
    let authentication = AuthInfo {
        client_identity: signer.serialized_identity(),
        client_tls_cert_hash: Bytes::new(),
    };
    let request = Request { authentication: Some(authentication), queries };
    let payload = Bytes::from(request.encode_to_vec());
    let signature = signer.sign(&payload).unwrap();
    let signed = SignedRequest { payload, signature };
    Ok(node.discovery().discover(signed).await?.into_inner().results)
}

fn error(result: query_result::Result) -> String {
    match result {
        query_result::Result::Error(error) => error.content,
        other => panic!("{other:?}"),
    }
}

fn message(envelope: Option<&weft_protos::gossip::Envelope>) -> Content {
    let payload = envelope.unwrap().payload.clone();
    let message: GossipMessage = decode("gossip message", payload).unwrap();
    message.content.unwrap()
}

fn alive(peer: &Peer) -> AliveMessage {
    match message(peer.membership_info.as_ref()) {
        Content::AliveMsg(alive) => alive,
        other => panic!("{other:?}"),
    }
}

fn state(peer: &Peer) -> StateInfo {
    match message(peer.state_info.as_ref()) {
        Content::StateInfo(state) => state,
        other => panic!("{other:?}"),
    }
}

async fn network(policy: &str) -> (World, Node, Node) {
    let world = World::new().await;
    let a = Node::start(&world, 1, "peer0", &[]).await;
    let b = Node::start(&world, 2, "peer0", &[&a]).await;
    let mut draft = Draft::new("asset");
    draft.policy = ApplicationPolicy::Signature(dsl::parse(policy).unwrap()).encode();
    let connection = Connection::plain("127.0.0.1:1".to_owned());
    world.define(&[&a.peer, &b.peer], &draft, &connection).await;
    a.sees(2).await;
    (world, a, b)
}

fn interest(name: &str) -> ChaincodeInterest {
    let call = ChaincodeCall { name: name.to_owned(), ..Default::default() };
    ChaincodeInterest { chaincodes: vec![call] }
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration() {
    let (world, a, _b) = network("OR('Org1MSP.peer')").await;
    let config = ask(&a, world.client(1), CHANNEL, Kind::ConfigQuery(ConfigQuery {})).await;
    let query_result::Result::ConfigResult(config) = config.unwrap() else { panic!() };
    assert_eq!(config.msps.keys().collect::<Vec<_>>(), ["OrdererMSP", "Org1MSP", "Org2MSP"]);
    assert_eq!(config.msps["Org1MSP"], world.network.org(1).msp_config());
    let orderers = &config.orderers["OrdererMSP"].endpoint;
    assert_eq!(orderers.len(), 1);
    assert_eq!(orderers[0].host, "127.0.0.1");
    assert_eq!(orderers[0].port, u32::from(world.network.orderers[0].endpoint.port));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_with_what_they_say_of_themselves() {
    let (world, a, b) = network("OR('Org1MSP.peer')").await;
    let query = Kind::PeerQuery(PeerMembershipQuery { filter: None });
    let members = ask(&a, world.client(1), CHANNEL, query).await.unwrap();
    let query_result::Result::Members(members) = members else { panic!() };
    for (org, node) in [("Org1MSP", &a), ("Org2MSP", &b)] {
        let peers = &members.peers_by_org[org].peers;
        assert_eq!(peers.len(), 1);
        assert_eq!(alive(&peers[0]).membership.unwrap().endpoint, node.address);
        assert_eq!(peers[0].identity, node.identity.serialized_identity());
        let properties = state(&peers[0]).properties.unwrap();
        assert!(properties.ledger_height > 0);
        assert!(properties.chaincodes.iter().any(|one| one.name == "asset"));
        let envelope = peers[0].state_info.as_ref().unwrap();
        let key = node.identity.certificate().public_key();
        key.verify(&envelope.payload, &envelope.signature).unwrap();
        let envelope = peers[0].membership_info.as_ref().unwrap();
        key.verify(&envelope.payload, &envelope.signature).unwrap();
    }
    // A filter leaves those out that lack the chaincode.
    b.chaincodes.0.lock().clear();
    a.sees(1).await;
    let query = Kind::PeerQuery(PeerMembershipQuery { filter: Some(interest("asset")) });
    let members = ask(&a, world.client(1), CHANNEL, query).await.unwrap();
    let query_result::Result::Members(members) = members else { panic!() };
    assert_eq!(members.peers_by_org.keys().collect::<Vec<_>>(), ["Org1MSP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_peers_are_for_administrators() {
    let (world, a, _b) = network("OR('Org1MSP.peer')").await;
    let query = || Kind::LocalPeers(LocalPeerQuery {});
    let members = ask(&a, world.admin(1), "", query()).await.unwrap();
    let query_result::Result::Members(members) = members else { panic!() };
    assert_eq!(members.peers_by_org.len(), 2);
    assert!(members.peers_by_org["Org1MSP"].peers[0].state_info.is_none());
    for refused in [world.client(1), world.admin(2)] {
        assert_eq!(error(ask(&a, refused, "", query()).await.unwrap()), "access denied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endorsers_in_groups_and_layouts() {
    let (world, a, b) = network("OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer', 'Org3MSP.peer')").await;
    let query = |name: &str| Kind::CcQuery(ChaincodeQuery { interests: vec![interest(name)] });
    let found = ask(&a, world.client(1), CHANNEL, query("asset")).await.unwrap();
    let query_result::Result::CcQueryRes(found) = found else { panic!("{found:?}") };
    let descriptor = &found.content[0];
    assert_eq!(descriptor.chaincode, "asset");
    // Nobody is there for Org3, so one layout is left.
    assert_eq!(descriptor.layouts.len(), 1);
    assert!(descriptor.layouts[0].quantities_by_group.values().all(|count| *count == 1));
    let groups: Vec<_> = descriptor.layouts[0].quantities_by_group.keys().collect();
    assert_eq!(groups, descriptor.endorsers_by_groups.keys().collect::<Vec<_>>());
    let mut endpoints: Vec<_> = descriptor
        .endorsers_by_groups
        .values()
        .flat_map(|group| &group.peers)
        .map(|peer| alive(peer).membership.unwrap().endpoint)
        .collect();
    endpoints.sort();
    let mut expected = vec![a.address.clone(), b.address.clone()];
    expected.sort();
    assert_eq!(endpoints, expected);
    let unknown = ask(&a, world.client(1), CHANNEL, query("nothing")).await.unwrap();
    assert_eq!(error(unknown), "failed constructing descriptor for chaincodes:{name:\"nothing\"}");
    b.stop();
    a.sees(1).await;
    let nobody = ask(&a, world.client(1), CHANNEL, query("asset")).await.unwrap();
    assert_eq!(error(nobody), "failed constructing descriptor for chaincodes:{name:\"asset\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let (world, a, _b) = network("OR('Org1MSP.peer')").await;
    let config = || Kind::ConfigQuery(ConfigQuery {});
    let stranger = weft_testkit::Org::new("OtherMSP").client;
    let told = ask(&a, &stranger, CHANNEL, config()).await.unwrap();
    assert_eq!(error(told), "access denied");
    let told = ask(&a, world.client(1), "elsewhere", config()).await.unwrap();
    assert_eq!(error(told), "access denied");
    let told = ask(&a, world.admin(1), "", config()).await.unwrap();
    assert_eq!(error(told), "unknown or missing request type");
    let none = Kind::CcQuery(ChaincodeQuery { interests: Vec::new() });
    let told = ask(&a, world.client(1), CHANNEL, none).await.unwrap();
    assert_eq!(error(told), "chaincode query must have at least one chaincode interest");
    let request = Request { authentication: None, queries: Vec::new() };
    let signed = SignedRequest { payload: request.encode_to_vec().into(), signature: Bytes::new() };
    let status = a.discovery().discover(signed).await.unwrap_err();
    assert_eq!(status.message(), "access denied, no authentication info in request");
    // A signature by somebody else than the one named.
    let authentication = AuthInfo {
        client_identity: world.client(1).serialized_identity(),
        client_tls_cert_hash: Bytes::new(),
    };
    let queries = vec![Query { channel: CHANNEL.to_owned(), query: Some(config()) }];
    let request = Request { authentication: Some(authentication), queries };
    let payload = Bytes::from(request.encode_to_vec());
    let signature = world.client(2).sign(&payload).unwrap();
    let response = a.discovery().discover(SignedRequest { payload, signature }).await.unwrap();
    let result = response.into_inner().results.remove(0).result.unwrap();
    assert_eq!(error(result), "access denied");
}

/// A short request cannot ask for work without end.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_ask_for_too_much_are_refused_before_the_work() {
    let (world, a, _b) = network("OR('Org1MSP.peer')").await;
    let channel = |kind| Query { channel: CHANNEL.to_owned(), query: Some(kind) };
    let interests = |call: ChaincodeCall, count| {
        let interest = ChaincodeInterest { chaincodes: vec![call; count] };
        vec![channel(Kind::CcQuery(ChaincodeQuery { interests: vec![interest] }))]
    };
    let call = ChaincodeCall { name: "asset".to_owned(), ..Default::default() };
    let collections =
        ChaincodeCall { collection_names: vec!["c".to_owned(); 1025], ..call.clone() };
    let policies = ChaincodeCall { key_policies: vec![Default::default(); 9], ..call.clone() };
    for (queries, refusal) in [
        (vec![channel(Kind::ConfigQuery(ConfigQuery {})); 65], "more than 64 queries"),
        (interests(call, 257), "more than 256 chaincode calls"),
        (interests(collections, 1), "more than 1024 collections"),
        (interests(policies, 1), "more than 8 key policies"),
    ] {
        let status = ask_all(&a, world.client(1), queries).await.unwrap_err();
        assert_eq!(status.message(), format!("{refusal} in a request"));
    }
}

/// What has no room in the answer, which is of 256 KiB at these nodes, is not worked out.
#[tokio::test(flavor = "multi_thread")]
async fn answers_end_where_their_room_does() {
    let (world, a, _b) = network("OR('Org1MSP.peer')").await;
    let kinds = (0..64).map(|number| match number {
        0..56 => Kind::ConfigQuery(ConfigQuery {}),
        _ => Kind::CcQuery(ChaincodeQuery { interests: vec![interest("asset"); 32] }),
    });
    let queries = kinds.map(|kind| Query { channel: CHANNEL.to_owned(), query: Some(kind) });
    let results = ask_all(&a, world.client(1), queries.collect()).await.unwrap();
    let bytes: usize = results.iter().map(QueryResult::encoded_len).sum();
    assert!(bytes <= 1 << 18, "{bytes}");
    let refused: Vec<_> = results
        .into_iter()
        .filter_map(|result| match result.result {
            Some(query_result::Result::Error(error)) => Some(error.content),
            _ => None,
        })
        .collect();
    assert!(!refused.is_empty() && refused.len() < 64, "{}", refused.len());
    let told = "the answer would be larger than 262144 bytes; ask for less at a time";
    assert!(refused.iter().all(|refusal| refusal == told), "{refused:?}");
}
