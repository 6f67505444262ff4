//! The contract's side of a stream, against a peer made of messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_contract::{Bytes, Context, ContractError, Functions, ServeOptions, SessionLimits, serve};
use weft_protos::peer::chaincode_client::ChaincodeClient;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    ChaincodeAdditionalParams, ChaincodeId, ChaincodeInput, ChaincodeMessage, DelState,
    GetStateByRange, PurgePrivateState, PutState, Response, WriteBatchState,
};

async fn write(ctx: Context) -> Result<(), ContractError> {
    ctx.put_state("a", "1").await?;
    ctx.put_state("b", "2").await?;
    ctx.delete_state("c").await
}

async fn both(ctx: Context) -> Result<Bytes, ContractError> {
    let (one, two) = tokio::try_join!(ctx.get_state("a"), ctx.get_state("b"))?;
    Ok([one.unwrap(), two.unwrap()].concat().into())
}

async fn wait(_: Context) -> Result<(), ContractError> {
    std::future::pending().await
}

async fn secrets(ctx: Context) -> Result<(), ContractError> {
    ctx.put_private("c", "a", "1").await?;
    ctx.delete_private("c", "b").await?;
    ctx.purge_private("c", "d").await?;
    // The peer has to know of the writes to refuse this.
    ctx.private_range("c", "", "").await.map(drop)
}

fn contract() -> Functions {
    Functions::new().on("Write", write).on("Both", both).on("Wait", wait).on("Secrets", secrets)
}

/// A peer that has dialled a contract.
struct Peer {
    out: mpsc::Sender<ChaincodeMessage>,
    inbound: Streaming<ChaincodeMessage>,
}

impl Peer {
    /// Dials a fresh contract and reads its REGISTER.
    async fn dial(limits: SessionLimits) -> Self {
        let (started, ready) = oneshot::channel();
        let options = ServeOptions {
            chaincode_id: "cc:1".into(),
            address: "127.0.0.1:0".into(),
            tls: None,
            limits,
        };
        let started = move |address| started.send(address).unwrap();
        tokio::spawn(serve(contract(), options, started, std::future::pending()));
        let endpoint = format!("http://{}", ready.await.unwrap());
        let channel = tonic::transport::Endpoint::from_shared(endpoint).unwrap().connect().await;
        let (out, outbox) = mpsc::channel(16);
        let mut client = ChaincodeClient::new(channel.unwrap());
        let inbound = client.connect(ReceiverStream::new(outbox)).await.unwrap().into_inner();
        let mut peer = Self { out, inbound };
        let register = peer.next().await;
        assert_eq!(register.r#type(), Type::Register);
        assert_eq!(ChaincodeId::decode(register.payload).unwrap().name, "cc:1");
        peer
    }

    async fn ready(limits: SessionLimits, params: ChaincodeAdditionalParams) -> Self {
        let peer = Self::dial(limits).await;
        peer.send(Type::Registered, "", Bytes::new()).await;
        peer.send(Type::Ready, "", params.encode_to_vec().into()).await;
        peer
    }

    async fn send(&self, kind: Type, txid: &str, payload: Bytes) {
        let message = ChaincodeMessage {
            r#type: kind.into(),
            txid: txid.into(),
            payload,
            ..Default::default()
        };
        self.out.send(message).await.unwrap();
    }

    async fn start(&self, txid: &str, function: &str) {
        let args = vec![Bytes::copy_from_slice(function.as_bytes())];
        let input = ChaincodeInput { args, ..Default::default() };
        self.send(Type::Transaction, txid, input.encode_to_vec().into()).await;
    }

    async fn next(&mut self) -> ChaincodeMessage {
        let next = tokio::time::timeout(Duration::from_secs(10), self.inbound.message());
        next.await.expect("in time").unwrap().expect("not the end")
    }

    async fn expect(&mut self, kind: Type) -> ChaincodeMessage {
        let message = self.next().await;
        assert_eq!(message.r#type(), kind, "{:?}", message.payload);
        message
    }
}

fn batches(size: u32) -> ChaincodeAdditionalParams {
    ChaincodeAdditionalParams {
        use_write_batch: true,
        max_size_write_batch: size,
        ..Default::default()
    }
}

fn payload(completed: ChaincodeMessage) -> Bytes {
    let response = Response::decode(completed.payload).unwrap();
    assert_eq!(response.status, 200, "{}", response.message);
    response.payload
}

#[tokio::test]
async fn peers_without_batches_get_each_write() {
    let mut peer = Peer::ready(SessionLimits::default(), Default::default()).await;
    peer.start("t", "Write").await;
    for key in ["a", "b"] {
        let put = peer.expect(Type::PutState).await;
        assert_eq!(PutState::decode(put.payload).unwrap().key, key);
        peer.send(Type::Response, "t", Bytes::new()).await;
    }
    let delete = peer.expect(Type::DelState).await;
    assert_eq!(DelState::decode(delete.payload).unwrap().key, "c");
    peer.send(Type::Response, "t", Bytes::new()).await;
    peer.expect(Type::Completed).await;
}

#[tokio::test]
async fn batches_keep_to_the_peers_size_and_order() {
    let mut peer = Peer::ready(SessionLimits::default(), batches(2)).await;
    peer.start("t", "Write").await;
    let mut keys = Vec::new();
    for size in [2, 1] {
        let batch = peer.expect(Type::WriteBatchState).await;
        let batch = WriteBatchState::decode(batch.payload).unwrap();
        assert_eq!(batch.rec.len(), size);
        keys.extend(batch.rec.into_iter().map(|record| record.key));
        peer.send(Type::Response, "t", Bytes::new()).await;
    }
    assert_eq!(keys, ["a", "b", "c"]);
    peer.expect(Type::Completed).await;
}

#[tokio::test]
async fn private_writes_name_their_collection_and_come_before_ranges() {
    let mut peer = Peer::ready(SessionLimits::default(), Default::default()).await;
    peer.start("t", "Secrets").await;
    let put = PutState::decode(peer.expect(Type::PutState).await.payload).unwrap();
    assert_eq!((put.collection.as_str(), put.key.as_str()), ("c", "a"));
    peer.send(Type::Response, "t", Bytes::new()).await;
    let delete = DelState::decode(peer.expect(Type::DelState).await.payload).unwrap();
    assert_eq!((delete.collection.as_str(), delete.key.as_str()), ("c", "b"));
    peer.send(Type::Response, "t", Bytes::new()).await;
    let purge = peer.expect(Type::PurgePrivateData).await.payload;
    let purge = PurgePrivateState::decode(purge).unwrap();
    assert_eq!((purge.collection.as_str(), purge.key.as_str()), ("c", "d"));
    peer.send(Type::Response, "t", Bytes::new()).await;
    peer.expect(Type::GetStateByRange).await;
    peer.send(Type::Response, "t", Bytes::new()).await;
    peer.expect(Type::Completed).await;

    let mut peer = Peer::ready(SessionLimits::default(), batches(100)).await;
    peer.start("t", "Secrets").await;
    let batch = peer.expect(Type::WriteBatchState).await.payload;
    let batch = WriteBatchState::decode(batch).unwrap();
    assert!(batch.rec.iter().all(|record| record.collection == "c"));
    assert_eq!(batch.rec.len(), 3);
    peer.send(Type::Response, "t", Bytes::new()).await;
    let range = peer.expect(Type::GetStateByRange).await.payload;
    assert_eq!(GetStateByRange::decode(range).unwrap().collection, "c");
    peer.send(Type::Error, "t", Bytes::from_static(b"read-only")).await;
    let response = Response::decode(peer.expect(Type::Completed).await.payload).unwrap();
    assert_eq!((response.status, response.message.as_str()), (500, "read-only"));
}

#[tokio::test]
async fn a_refused_write_refuses_the_transaction() {
    let mut peer = Peer::ready(SessionLimits::default(), batches(100)).await;
    peer.start("t", "Write").await;
    peer.expect(Type::WriteBatchState).await;
    peer.send(Type::Error, "t", Bytes::from_static(b"read-only")).await;
    let completed = peer.expect(Type::Completed).await;
    let response = Response::decode(completed.payload).unwrap();
    assert_eq!((response.status, response.message.as_str()), (500, "read-only"));
}

#[tokio::test]
async fn one_request_at_a_time() {
    let mut peer = Peer::ready(SessionLimits::default(), Default::default()).await;
    peer.start("t", "Both").await;
    peer.expect(Type::GetState).await;
    let early = tokio::time::timeout(Duration::from_millis(100), peer.inbound.message()).await;
    assert!(early.is_err(), "the second waits for the first's answer");
    peer.send(Type::Response, "t", Bytes::from_static(b"1")).await;
    peer.expect(Type::GetState).await;
    peer.send(Type::Response, "t", Bytes::from_static(b"2")).await;
    assert_eq!(payload(peer.expect(Type::Completed).await), "12");
}

#[tokio::test]
async fn transactions_do_not_wait_for_each_other() {
    let mut peer = Peer::ready(SessionLimits::default(), batches(100)).await;
    peer.start("hangs", "Wait").await;
    peer.start("t", "Write").await;
    assert_eq!(peer.expect(Type::WriteBatchState).await.txid, "t");
    peer.send(Type::Response, "t", Bytes::new()).await;
    assert_eq!(peer.expect(Type::Completed).await.txid, "t");
    // The same transaction cannot be twice at work, but may come again.
    peer.start("hangs", "Write").await;
    let refused = peer.expect(Type::Error).await;
    assert_eq!(refused.payload, "the contract works on this transaction already");
    peer.start("t", "Write").await;
    peer.expect(Type::WriteBatchState).await;
}

#[tokio::test]
async fn transactions_are_bounded() {
    let limits = SessionLimits { max_transactions: 2, ..Default::default() };
    let mut peer = Peer::ready(limits, batches(100)).await;
    for txid in ["one", "two", "three"] {
        peer.start(txid, "Wait").await;
    }
    let refused = peer.expect(Type::Error).await;
    assert_eq!(refused.txid, "three");
    assert_eq!(refused.payload, "the contract is busy: too many transactions at one time");
}

#[tokio::test]
async fn keepalive_is_answered() {
    let mut peer = Peer::dial(SessionLimits::default()).await;
    peer.send(Type::Keepalive, "", Bytes::new()).await;
    peer.expect(Type::Keepalive).await;
    peer.send(Type::Registered, "", Bytes::new()).await;
    peer.send(Type::Ready, "", Bytes::new()).await;
    peer.send(Type::Keepalive, "", Bytes::new()).await;
    peer.expect(Type::Keepalive).await;
}

#[tokio::test]
async fn malformed_input_is_an_error_of_its_transaction() {
    let mut peer = Peer::ready(SessionLimits::default(), batches(100)).await;
    peer.send(Type::Transaction, "t", Bytes::from_static(&[0xff])).await;
    assert_eq!(peer.expect(Type::Error).await.payload, "failed to decode chaincode input");
    // Answers that nobody waits for are dropped.
    peer.send(Type::Response, "t", Bytes::new()).await;
    peer.start("t", "Nothing").await;
    let response = Response::decode(peer.expect(Type::Completed).await.payload).unwrap();
    assert_eq!(response.status, 400);
}

#[tokio::test]
async fn what_has_no_place_ends_the_stream() {
    for early in [Type::Ready, Type::Transaction] {
        let mut peer = Peer::dial(SessionLimits::default()).await;
        peer.send(early, "", Bytes::new()).await;
        assert!(matches!(peer.inbound.message().await, Ok(None) | Err(_)), "{early:?}");
    }
    let mut peer = Peer::ready(SessionLimits::default(), batches(100)).await;
    peer.send(Type::GetState, "", Bytes::new()).await;
    assert!(matches!(peer.inbound.message().await, Ok(None) | Err(_)));
}
