//! Proposals for contracts, run by real contracts over real sockets.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use weft_contract::{Context, ContractError, Functions, ServeOptions, SessionLimits};
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::policy::dsl;
use weft_peer::chaincode::package::Connection;
use weft_protos::peer::{ChaincodeAction, ChaincodeEvent, ProposalResponsePayload};
use weft_types::ValidationCode;

use crate::layout::rwset;
use crate::world::{Draft, TestPeer, World, propose, spec};

fn contract() -> Functions {
    Functions::new().on("Put", put).on("Get", get).on("Fail", fail).on("Call", call)
}

async fn put(ctx: Context, key: String, value: Bytes) -> Result<(), ContractError> {
    ctx.put_state(&key, value).await?;
    ctx.set_event("put", Bytes::from(key))
}

async fn get(ctx: Context, key: String) -> Result<Bytes, ContractError> {
    Ok(ctx.get_state(&key).await?.unwrap_or_default())
}

async fn fail(_: Context, status: String) -> Result<(), ContractError> {
    Err(ContractError::with_status(status.parse().unwrap(), "it failed"))
}

async fn call(ctx: Context, name: String, function: String) -> Result<Bytes, ContractError> {
    ctx.invoke_chaincode(&name, &function, &["key"]).await
}

async fn serve(id: &str, address: SocketAddr, contract: Functions) {
    let (started, ready) = oneshot::channel();
    let options = ServeOptions {
        chaincode_id: id.to_owned(),
        address: address.to_string(),
        tls: None,
        limits: SessionLimits::default(),
    };
    let started = move |address| started.send(address).unwrap();
    tokio::spawn(async move {
        weft_contract::serve(contract, options, started, std::future::pending()).await.unwrap();
    });
    ready.await.unwrap();
}

/// Defines and starts a chaincode that either organization may endorse.
async fn start(world: &World, peers: &[&TestPeer], draft: Draft) -> String {
    start_with(world, peers, draft, contract()).await
}

/// As [`start`], of another contract.
pub async fn start_with(
    world: &World,
    peers: &[&TestPeer],
    mut draft: Draft,
    contract: Functions,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let policy = dsl::parse("OR('Org1MSP.peer', 'Org2MSP.peer')").unwrap();
    draft.policy = ApplicationPolicy::Signature(policy).encode();
    let package = world.define(peers, &draft, &Connection::plain(address.to_string())).await;
    serve(&package, address, contract).await;
    package
}

fn action(response: &weft_protos::peer::ProposalResponse) -> ChaincodeAction {
    let payload = ProposalResponsePayload::decode(response.payload.clone()).unwrap();
    ChaincodeAction::decode(payload.extension).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_runs_and_its_results_are_endorsed_and_committed() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    start(&world, &peers, Draft::new("asset")).await;
    let client = world.client(2);

    let put = propose(client, "asset", &[b"Put", b"key", b"value"]);
    let response = one.send(&put).await;
    let action = action(&response);
    let id = action.chaincode_id.clone().unwrap();
    assert_eq!((id.name.as_str(), id.version.as_str()), ("asset", "1.0"));
    let event = ChaincodeEvent::decode(action.events).unwrap();
    assert_eq!((event.event_name.as_str(), event.payload.as_ref()), ("put", b"key".as_ref()));
    assert_eq!(event.tx_id, put.tx_id.to_string());
    let interest = response.interest.clone().unwrap();
    let names: Vec<_> = interest.chaincodes.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["asset"]);
    let set = rwset(response.clone());
    let sequence = set.namespace("_lifecycle").unwrap();
    assert_eq!(sequence.public.reads[0].key, "namespaces/fields/asset/Sequence");
    assert_eq!(two.send(&put).await.payload, response.payload, "peers agree byte by byte");

    assert_eq!(world.transact(client, &put, &[&one], &peers).await, ValidationCode::Valid);
    for peer in peers {
        let got = peer.call(client, "asset", &[b"Get", b"key"]).await;
        assert_eq!((got.status, got.payload.as_ref()), (200, b"value".as_ref()));
        let refused = peer.try_send(&put).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("duplicate transaction found [{}]", put.tx_id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_contract_is_not_endorsed() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    start(&world, &[&one, &two], Draft::new("asset")).await;
    for (status, has_payload) in [("400", false), ("499", false), ("500", true)] {
        let response =
            one.send(&propose(world.client(1), "asset", &[b"Fail", status.as_bytes()])).await;
        assert!(response.endorsement.is_none());
        assert_eq!(response.payload.is_empty(), !has_payload);
        let told = response.response.unwrap();
        assert_eq!(
            (told.status.to_string().as_str(), told.message.as_str()),
            (status, "it failed")
        );
    }
    let response = one.send(&propose(world.client(1), "asset", &[b"Nothing"])).await;
    assert!(response.endorsement.is_none());
    assert!(response.response.unwrap().status >= 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_initialization_comes_first_and_once() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    let draft = Draft { init_required: true, ..Draft::new("asset") };
    start(&world, &peers, draft).await;
    let client = world.client(1);
    let init = || {
        let spec = spec("asset", &[b"Put", b"key", b"first"]);
        weft_types::proposal::ProposalSpec { is_init: true, ..spec }.sign(client).unwrap()
    };
    let early = one.call(client, "asset", &[b"Get", b"key"]).await;
    assert!(
        early.message.ends_with(
            "chaincode 'asset' has not been initialized for this version, must call as init first"
        ),
        "{}",
        early.message
    );
    assert_eq!(world.transact(client, &init(), &[&one], &peers).await, ValidationCode::Valid);
    let got = two.call(client, "asset", &[b"Get", b"key"]).await;
    assert_eq!(got.payload.as_ref(), b"first");
    let again = one.send(&init()).await.response.unwrap();
    assert!(
        again.message.ends_with("chaincode 'asset' is already initialized but called as init"),
        "{}",
        again.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_call_each_other_but_not_the_peer() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    start(&world, &peers, Draft::new("asset")).await;
    start(&world, &peers, Draft::new("other")).await;
    let client = world.client(1);
    let put = propose(client, "other", &[b"Put", b"key", b"there"]);
    assert_eq!(world.transact(client, &put, &[&one], &peers).await, ValidationCode::Valid);

    let called = one.send(&propose(client, "asset", &[b"Call", b"other", b"Get"])).await;
    let interest = called.interest.clone().unwrap();
    let names: Vec<_> = interest.chaincodes.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["asset", "other"]);
    assert_eq!(called.response.as_ref().unwrap().payload.as_ref(), b"there");
    assert!(rwset(called).namespace("other").is_some());

    let system = one.call(client, "asset", &[b"Call", b"qscc", b"GetChainInfo"]).await;
    assert!(system.status >= 400);
    assert!(
        system.message.contains("system chaincode qscc cannot be called by a contract"),
        "{}",
        system.message
    );
    let missing = one.call(client, "asset", &[b"Call", b"nothing", b"Get"]).await;
    assert!(missing.message.contains("chaincode nothing not found"), "{}", missing.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_definition_replaces_the_package() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    let first = start(&world, &peers, Draft::new("asset")).await;
    let client = world.client(1);
    let put = propose(client, "asset", &[b"Put", b"key", b"value"]);
    let stale = [one.send(&put).await];
    let next = Draft { sequence: 2, version: "2.0".to_owned(), ..Draft::new("asset") };
    let second = start(&world, &peers, next).await;
    assert_ne!(first, second);
    let response = one.send(&propose(client, "asset", &[b"Get", b"key"])).await;
    assert_eq!(action(&response).chaincode_id.unwrap().version, "2.0");
    // What was endorsed under the old definition is not valid any more.
    let envelope = weft_types::transaction::assemble_signed(&put.proposal, &stale, client).unwrap();
    assert_eq!(world.order(&peers, &[envelope]).await, [ValidationCode::MvccReadConflict]);
}
