//! Contracts that break the protocol, message by message.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use weft_peer::chaincode::package::Connection;
use weft_peer::chaincode::{ExecuteError, Runtime};
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::chaincode_server::{Chaincode, ChaincodeServer};
use weft_protos::peer::{
    self, ChaincodeId, ChaincodeMessage, GetQueryResult, GetState, QueryStateNext,
};

use crate::state::MemoryState;
use crate::support::{Peer, call, config};

/// What a contract does with a message once it is registered: the messages it sends.
type Behaviour = Arc<dyn Fn(ChaincodeMessage) -> Vec<ChaincodeMessage> + Send + Sync>;

struct Scripted {
    id: String,
    behaviour: Behaviour,
}

#[tonic::async_trait]
impl Chaincode for Scripted {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (out, outbox) = mpsc::channel(64);
        let mut inbound = request.into_inner();
        let id = ChaincodeId { name: self.id.clone(), ..Default::default() };
        let behaviour = Arc::clone(&self.behaviour);
        tokio::spawn(async move {
            let payload = id.encode_to_vec().into();
            let register = ChaincodeMessage { payload, ..of(Type::Register) };
            let _ = out.send(Ok(register)).await;
            while let Some(Ok(message)) = inbound.next().await {
                for answer in behaviour(message) {
                    let _ = out.send(Ok(answer)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox))))
    }
}

fn of(kind: Type) -> ChaincodeMessage {
    ChaincodeMessage { r#type: kind.into(), ..Default::default() }
}

/// A message of the same transaction.
fn reply(to: &ChaincodeMessage, kind: Type, payload: impl Into<Vec<u8>>) -> ChaincodeMessage {
    ChaincodeMessage {
        payload: payload.into().into(),
        txid: to.txid.clone(),
        channel_id: to.channel_id.clone(),
        ..of(kind)
    }
}

fn completed(to: &ChaincodeMessage, payload: &[u8]) -> ChaincodeMessage {
    let response =
        peer::Response { status: 200, payload: payload.to_vec().into(), ..Default::default() };
    reply(to, Type::Completed, response.encode_to_vec())
}

/// A peer with a contract that, called, sends `requests` and completes with what it gets for
/// the last of them.
async fn peer_with(
    behaviour: impl Fn(ChaincodeMessage) -> Vec<ChaincodeMessage> + Send + Sync + 'static,
) -> (Peer, String) {
    let mut config = config();
    config.execute_timeout = Duration::from_millis(500);
    let mut peer = Peer::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let id = peer.install("cc", &Connection::plain(address));
    let scripted = Scripted { id: id.clone(), behaviour: Arc::new(behaviour) };
    let server = tonic::transport::Server::builder().add_service(ChaincodeServer::new(scripted));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (peer, id)
}

/// Sends one request and completes with the answer's type and text.
async fn answer_to(kind: Type, payload: Vec<u8>) -> String {
    answer_with(|_| (), kind, payload).await
}

/// As [`answer_to`], of a peer that was prepared.
pub async fn answer_with(prepare: impl FnOnce(&mut Peer), kind: Type, payload: Vec<u8>) -> String {
    let behaviour = move |message: ChaincodeMessage| match message.r#type() {
        Type::Transaction => vec![reply(&message, kind, payload.clone())],
        Type::Response | Type::Error => {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let text = format!("{} {text}", message.r#type().as_str_name());
            vec![completed(&message, text.as_bytes())]
        }
        _ => Vec::new(),
    };
    let (mut peer, _) = peer_with(behaviour).await;
    prepare(&mut peer);
    peer.ask(&mut MemoryState::with(&[("cc", "a", "1")]), &["f"]).await.unwrap()
}

#[tokio::test]
async fn requests_and_their_answers() {
    let get = GetState { key: "a".into(), ..Default::default() }.encode_to_vec();
    assert_eq!(answer_to(Type::GetState, get.clone()).await, "RESPONSE 1");
    let failed = |kind: &str, why: &str| format!("ERROR {kind} failed: transaction ID: tx: {why}");

    let query = GetQueryResult { query: "{}".into(), ..Default::default() };
    let expect = "ExecuteQuery not supported for the peer's key/value state database";
    assert_eq!(
        answer_to(Type::GetQueryResult, query.encode_to_vec()).await,
        failed("GET_QUERY_RESULT", expect)
    );
    let private = GetState { key: "a".into(), collection: "c".into() }.encode_to_vec();
    let expect = "collection supply/cc/c could not be found";
    for kind in [Type::GetState, Type::GetPrivateDataHash, Type::GetStateMetadata] {
        let answer = answer_to(kind, private.clone()).await;
        assert_eq!(answer, failed(kind.as_str_name(), expect));
    }
    let query = GetQueryResult { query: "{}".into(), collection: "c".into(), ..Default::default() };
    assert_eq!(
        answer_to(Type::GetQueryResult, query.encode_to_vec()).await,
        failed("GET_QUERY_RESULT", expect)
    );
    let unnamed = GetState { key: "a".into(), ..Default::default() }.encode_to_vec();
    assert_eq!(
        answer_to(Type::GetPrivateDataHash, unnamed.clone()).await,
        failed("GET_PRIVATE_DATA_HASH", "collection must not be an empty string")
    );
    assert_eq!(
        answer_to(Type::PurgePrivateData, unnamed).await,
        failed("PURGE_PRIVATE_DATA", "only applicable for private data")
    );
    let next = QueryStateNext { id: "7".into() }.encode_to_vec();
    assert_eq!(
        answer_to(Type::QueryStateNext, next).await,
        failed("QUERY_STATE_NEXT", "query iterator not found")
    );
    assert_eq!(
        answer_to(Type::PutState, Vec::new()).await,
        failed("PUT_STATE", "key must not be an empty string")
    );
    let answer = answer_to(Type::GetState, vec![0xff, 0xff]).await;
    assert!(answer.starts_with("ERROR GET_STATE failed: transaction ID: tx: unmarshal failed"));
    let page = peer::QueryMetadata { page_size: -1, ..Default::default() };
    let range =
        peer::GetStateByRange { metadata: page.encode_to_vec().into(), ..Default::default() };
    assert_eq!(
        answer_to(Type::GetStateByRange, range.encode_to_vec()).await,
        failed("GET_STATE_BY_RANGE", "the page size is negative")
    );
}

#[tokio::test]
async fn requests_for_a_transaction_that_is_over() {
    let behaviour = |message: ChaincodeMessage| match message.r#type() {
        Type::Transaction => {
            let mut other = message.clone();
            other.txid = "gone".into();
            vec![
                reply(&other, Type::GetState, Vec::new()),
                reply(&other, Type::Completed, Vec::new()),
            ]
        }
        Type::Error => {
            assert_eq!(message.txid, "gone");
            let mut own = message.clone();
            own.txid = "tx".into();
            vec![completed(&own, &message.payload)]
        }
        _ => Vec::new(),
    };
    let (peer, _) = peer_with(behaviour).await;
    assert_eq!(
        peer.ask(&mut MemoryState::default(), &["f"]).await.unwrap(),
        "GET_STATE failed: transaction ID: gone: no ledger context"
    );
}

#[tokio::test]
async fn messages_that_have_no_place_end_the_stream() {
    for kind in [Type::Register, Type::Ready, Type::Transaction, Type::Undefined] {
        let behaviour = move |message: ChaincodeMessage| match message.r#type() {
            Type::Transaction => vec![reply(&message, kind, Vec::new())],
            _ => Vec::new(),
        };
        let (peer, _) = peer_with(behaviour).await;
        let error = peer.invoke(&mut MemoryState::default(), call("tx", &["f"])).await;
        let error = error.unwrap_err();
        assert!(matches!(error.source, ExecuteError::StreamTerminated), "{kind:?}: {error}");
    }
}

#[tokio::test]
async fn a_flood_of_requests_harms_its_transaction_only() {
    let behaviour = |message: ChaincodeMessage| match message.r#type() {
        Type::Transaction if message.txid == "flood" => {
            vec![reply(&message, Type::GetState, Vec::new()); 10_000]
        }
        Type::Transaction => vec![completed(&message, b"fine")],
        _ => Vec::new(),
    };
    let (peer, id) = peer_with(behaviour).await;
    let (mut first, mut second) = (MemoryState::default(), MemoryState::default());
    let flood = peer.invoke(&mut first, call("flood", &["f"]));
    let other = peer.ask(&mut second, &["f"]);
    let (flood, other) = tokio::join!(flood, other);
    assert!(matches!(flood.unwrap_err().source, ExecuteError::Timeout));
    assert_eq!(other.unwrap(), "fine");
    assert!(peer.runtime.is_connected(&id));
}

#[tokio::test]
async fn answers_that_are_none() {
    let behaviour = |message: ChaincodeMessage| match message.r#type() {
        Type::Transaction => vec![reply(&message, Type::Completed, vec![0xff])],
        _ => Vec::new(),
    };
    let (peer, _) = peer_with(behaviour).await;
    let error = peer.invoke(&mut MemoryState::default(), call("tx", &["f"])).await.unwrap_err();
    assert!(matches!(error.source, ExecuteError::Response(_)), "{error}");
    let behaviour = |message: ChaincodeMessage| match message.r#type() {
        Type::Transaction => vec![reply(&message, Type::Error, "no way")],
        _ => Vec::new(),
    };
    let (peer, _) = peer_with(behaviour).await;
    let text = peer.ask(&mut MemoryState::default(), &["f"]).await.unwrap_err();
    assert!(text.ends_with("transaction returned with failure: no way"), "{text}");
}

#[tokio::test]
async fn keepalive_is_sent() {
    let (seen, mut beats) = mpsc::unbounded_channel();
    let behaviour = move |message: ChaincodeMessage| {
        if message.r#type() == Type::Keepalive {
            let _ = seen.send(());
            return vec![of(Type::Keepalive)];
        }
        Vec::new()
    };
    let mut settings = config();
    settings.keepalive = Some(Duration::from_millis(20));
    let (mut peer, id) = peer_with(behaviour).await;
    peer.runtime = Runtime::new(settings, peer.runtime.packages().clone(), None);
    peer.runtime.connect(&id).await.unwrap();
    for _ in 0..3 {
        beats.recv().await.unwrap();
    }
    assert!(peer.runtime.is_connected(&id));
}
