#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status as RpcStatus};
use weft_protos::common::{Block, Envelope, HeaderType, Status};
use weft_protos::orderer::deliver_response::Type as Answer;
use weft_protos::orderer::seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse};
use weft_protos::orderer::{SeekInfo, SeekPosition};
use weft_protos::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeEvent,
    ProposalResponsePayload, Transaction, TransactionAction,
};
use weft_rpc::deliver::{
    BoxError, DataType, DeliverChannel, DeliverMetrics, DeliverOptions, DeliverService,
    DeliverSource, DeliverStream, FilteredReply, OrdererReply, SeekRequest, TlsBinding,
    filtered_block,
};
use weft_rpc::listen::{PeerCertificates, PeerInfo};
use weft_rpc::tls::CertificateDer;
use weft_settings::Limits;
use weft_types::envelope::EnvelopeSpec;
use weft_types::seek::{Position, Seek};
use weft_types::{
    BlockNumber, ChannelId, SignError, Signer, Timestamp, TxFilter, ValidationCode, block,
};

const NOW: i64 = 1_800_000_000;

/// Signs by writing its name.
struct Named(&'static str);

impl Signer for Named {
    fn serialized_identity(&self) -> Bytes {
        Bytes::from_static(self.0.as_bytes())
    }

    fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Ok(Bytes::from_static(self.0.as_bytes()))
    }
}

/// A chain in memory that whoever is called `reader` may read.
struct Chain {
    first: BlockNumber,
    blocks: Mutex<BTreeMap<BlockNumber, Block>>,
    height: watch::Sender<BlockNumber>,
    sequence: watch::Sender<u64>,
    available: watch::Sender<bool>,
    readers: Mutex<Vec<&'static str>>,
    expires: Option<i64>,
    broken: Option<BlockNumber>,
    asked: AtomicUsize,
    read: AtomicUsize,
    data: Mutex<Option<DataType>>,
}

fn chain(first: BlockNumber, height: BlockNumber) -> Chain {
    let chain = Chain {
        first,
        blocks: Mutex::default(),
        height: watch::Sender::new(first),
        sequence: watch::Sender::new(0),
        available: watch::Sender::new(true),
        readers: Mutex::new(vec!["reader"]),
        expires: None,
        broken: None,
        asked: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        data: Mutex::default(),
    };
    for _ in first..height {
        chain.grow(data(1000));
    }
    chain
}

impl Chain {
    fn grow(&self, content: Bytes) {
        let number = *self.height.borrow();
        self.blocks.lock().insert(number, block::new(number, Bytes::new(), vec![content]));
        self.height.send_modify(|height| *height += 1);
    }
}

fn data(size: usize) -> Bytes {
    Bytes::from(vec![0xff; size])
}

fn config_content() -> Bytes {
    let spec = EnvelopeSpec {
        header_type: HeaderType::Config,
        channel_id: Some(ChannelId::new("supply").unwrap()),
        data: Bytes::new(),
        timestamp: Timestamp::from_seconds(NOW),
        nonce: [1; 24],
        tls_cert_hash: Bytes::new(),
    };
    spec.unsigned().encode_to_vec().into()
}

/// A node with the channel `supply`.
#[derive(Clone)]
struct Node(Arc<Chain>);

impl DeliverSource for Node {
    type Channel = Node;

    fn channel(&self, id: &ChannelId) -> Option<Node> {
        (id.as_str() == "supply").then(|| self.clone())
    }
}

impl DeliverChannel for Node {
    fn first_block(&self) -> BlockNumber {
        self.0.first
    }

    fn height(&self) -> watch::Receiver<BlockNumber> {
        self.0.height.subscribe()
    }

    fn config_sequence(&self) -> watch::Receiver<u64> {
        self.0.sequence.subscribe()
    }

    fn available(&self) -> watch::Receiver<bool> {
        self.0.available.subscribe()
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, BoxError> {
        self.0.read.fetch_add(1, Ordering::SeqCst);
        if self.0.broken == Some(number) {
            return Err("the disk is broken".into());
        }
        Ok(self.0.blocks.lock().get(&number).cloned())
    }

    fn authorize(
        &self,
        request: &SeekRequest,
        data: DataType,
        _: Timestamp,
    ) -> Result<Option<Timestamp>, BoxError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        *self.0.data.lock() = Some(data);
        let name = request.creator();
        let known = self.0.readers.lock().iter().any(|reader| reader.as_bytes() == name);
        if !known || request.envelope.signature != name {
            return Err("not a reader".into());
        }
        Ok(self.0.expires.map(Timestamp::from_seconds))
    }
}

/// A call to a node, and what the node sees around it.
struct Call {
    node: Node,
    requests: mpsc::Sender<Result<Envelope, RpcStatus>>,
    responses: DeliverStream<weft_protos::orderer::DeliverResponse>,
    clock: Arc<AtomicI64>,
}

fn options(clock: &Arc<AtomicI64>, shutdown: CancellationToken) -> DeliverOptions {
    let clock = clock.clone();
    DeliverOptions {
        clock: Arc::new(move || Timestamp::from_seconds(clock.load(Ordering::SeqCst))),
        ..DeliverOptions::new(&Limits::default(), TlsBinding::WhenSent, shutdown)
    }
}

fn call(chain: Chain) -> Call {
    call_as(chain, None, TlsBinding::WhenSent)
}

fn call_as(chain: Chain, peer: Option<PeerInfo>, binding: TlsBinding) -> Call {
    let clock = Arc::new(AtomicI64::new(NOW));
    let node = Node(Arc::new(chain));
    let options = DeliverOptions { binding, ..options(&clock, CancellationToken::new()) };
    let service = DeliverService::new(Arc::new(node.clone()), options);
    let (requests, receiver) = mpsc::channel(8);
    let responses = service.serve(peer, ReceiverStream::new(receiver), OrdererReply);
    Call { node, requests, responses, clock }
}

impl Call {
    async fn ask(&self, envelope: Envelope) {
        self.requests.send(Ok(envelope)).await.unwrap();
    }

    async fn next(&mut self) -> Option<Answer> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.next());
        next.await.expect("an answer").map(|response| response.unwrap().r#type.unwrap())
    }

    async fn block(&mut self) -> Block {
        match self.next().await {
            Some(Answer::Block(block)) => block,
            other => panic!("not a block: {other:?}"),
        }
    }

    async fn number(&mut self) -> BlockNumber {
        self.block().await.header.unwrap().number
    }

    async fn status(&mut self) -> Status {
        match self.next().await {
            Some(Answer::Status(status)) => Status::try_from(status).unwrap(),
            other => panic!("not a status: {other:?}"),
        }
    }

    /// Nothing comes while other tasks run until they are idle.
    async fn is_waiting(&mut self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let next = tokio::time::timeout(Duration::ZERO, self.responses.next()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

fn seek(start: Position, stop: Position, behavior: SeekBehavior) -> Seek {
    Seek::range(start, stop, behavior)
}

fn sign(seek: SeekInfo) -> Envelope {
    sign_as(seek, "reader", "supply", NOW, Bytes::new())
}

fn sign_as(
    seek: SeekInfo,
    name: &'static str,
    channel: &str,
    at: i64,
    tls_cert_hash: Bytes,
) -> Envelope {
    let spec = EnvelopeSpec {
        header_type: HeaderType::DeliverSeekInfo,
        channel_id: Some(ChannelId::new(channel).unwrap()),
        data: seek.encode_to_vec().into(),
        timestamp: Timestamp::from_seconds(at),
        nonce: [1; 24],
        tls_cert_hash,
    };
    spec.sign(&Named(name)).unwrap()
}

use Position::{Block as At, Newest, NextCommit, Oldest};
use SeekBehavior::{BlockUntilReady as Wait, FailIfNotReady as Fail};

/// The blocks, then the status; `None` for a stream that waits for more.
#[tokio::test]
async fn seeks_reach_the_blocks_they_name() {
    let cases = [
        // A chain of blocks 0 to 4.
        (0, 5, Oldest, Newest, Wait, vec![0, 1, 2, 3, 4], Some(Status::Success)),
        (0, 5, Oldest, Oldest, Wait, vec![0], Some(Status::Success)),
        (0, 5, Newest, Newest, Wait, vec![4], Some(Status::Success)),
        (0, 5, At(2), At(3), Wait, vec![2, 3], Some(Status::Success)),
        (0, 5, At(3), At(3), Fail, vec![3], Some(Status::Success)),
        (0, 5, At(3), Newest, Fail, vec![3, 4], Some(Status::Success)),
        (0, 5, At(3), At(2), Wait, vec![], Some(Status::BadRequest)),
        (0, 5, At(3), At(9), Fail, vec![3, 4], Some(Status::NotFound)),
        (0, 5, At(3), At(u64::MAX), Wait, vec![3, 4], None),
        (0, 5, At(5), At(5), Wait, vec![], None),
        (0, 5, At(5), At(5), Fail, vec![], Some(Status::NotFound)),
        (0, 5, At(6), At(9), Wait, vec![], Some(Status::NotFound)),
        (0, 5, At(u64::MAX), At(u64::MAX), Wait, vec![], Some(Status::NotFound)),
        (0, 5, NextCommit, At(9), Wait, vec![], None),
        (0, 5, NextCommit, NextCommit, Fail, vec![], Some(Status::NotFound)),
        (0, 5, At(3), NextCommit, Wait, vec![3, 4], None),
        (0, 5, Newest, At(1), Wait, vec![], Some(Status::BadRequest)),
        // Nothing yet.
        (0, 0, Oldest, Newest, Wait, vec![], None),
        (0, 0, Newest, Newest, Fail, vec![], Some(Status::NotFound)),
        // A ledger made from a snapshot after block 6.
        (7, 9, Oldest, Newest, Wait, vec![7, 8], Some(Status::Success)),
        (7, 9, At(3), At(8), Wait, vec![], Some(Status::NotFound)),
        (7, 7, Newest, At(9), Wait, vec![], None),
    ];
    for (first, height, start, stop, behavior, blocks, end) in cases {
        let case = format!("{first}..{height}: {start:?} to {stop:?}, {behavior:?}");
        let mut call = call(chain(first, height));
        call.ask(sign(seek(start, stop, behavior).to_info())).await;
        for number in blocks {
            assert_eq!(call.number().await, number, "{case}");
        }
        match end {
            Some(status) => assert_eq!(call.status().await, status, "{case}"),
            None => call.is_waiting().await,
        }
    }
}

#[tokio::test]
async fn requests_are_refused_with_the_right_status() {
    let good = || seek(Oldest, Oldest, Wait).to_info();
    let signed = |name, channel, at| sign_as(good(), name, channel, at, Bytes::new());
    let without = |header: fn(&mut weft_protos::common::ChannelHeader)| {
        let envelope = sign(good());
        let mut payload = weft_protos::common::Payload::decode(envelope.payload.clone()).unwrap();
        let headers = payload.header.as_mut().unwrap();
        let mut channel =
            weft_protos::common::ChannelHeader::decode(headers.channel_header.clone()).unwrap();
        header(&mut channel);
        headers.channel_header = channel.encode_to_vec().into();
        Envelope { payload: payload.encode_to_vec().into(), ..envelope }
    };
    let window = 15 * 60;
    let nowhere = Some(SeekPosition { r#type: None });
    let forged = Envelope { signature: Bytes::from_static(b"other"), ..sign(good()) };
    let junk = |bytes: &'static [u8]| Envelope {
        payload: Bytes::from_static(bytes),
        ..Envelope::default()
    };
    let content = |bytes: &'static [u8]| {
        let spec = EnvelopeSpec {
            header_type: HeaderType::DeliverSeekInfo,
            channel_id: Some(ChannelId::new("supply").unwrap()),
            data: Bytes::from_static(bytes),
            timestamp: Timestamp::from_seconds(NOW),
            nonce: [1; 24],
            tls_cert_hash: Bytes::new(),
        };
        spec.sign(&Named("reader")).unwrap()
    };
    let cases = [
        ("good", sign(good()), Status::Success),
        ("empty envelope", Envelope::default(), Status::BadRequest),
        ("junk", junk(b"\xff\xff"), Status::BadRequest),
        ("no header", junk(b"\x12\x01x"), Status::BadRequest),
        ("no timestamp", without(|header| header.timestamp = None), Status::BadRequest),
        ("at the window's end", signed("reader", "supply", NOW - window), Status::Success),
        ("too old", signed("reader", "supply", NOW - window - 1), Status::BadRequest),
        ("too early", signed("reader", "supply", NOW + window + 1), Status::BadRequest),
        ("other channel", signed("reader", "other", NOW), Status::NotFound),
        ("no channel", without(|h| h.channel_id.clear()), Status::NotFound),
        ("bad channel", without(|h| h.channel_id = "../supply".to_owned()), Status::NotFound),
        ("content", content(b"\xff"), Status::BadRequest),
        ("no content", content(b""), Status::BadRequest),
        ("stranger", signed("stranger", "supply", NOW), Status::Forbidden),
        ("forged", forged, Status::Forbidden),
        ("no start", sign(SeekInfo { start: None, ..good() }), Status::BadRequest),
        ("no stop", sign(SeekInfo { stop: None, ..good() }), Status::BadRequest),
        ("start nowhere", sign(SeekInfo { start: nowhere, ..good() }), Status::NotFound),
    ];
    for (name, envelope, status) in cases {
        let mut call = call(chain(0, 1));
        call.ask(envelope).await;
        if status == Status::Success {
            assert_eq!(call.number().await, 0, "{name}");
        }
        assert_eq!(call.status().await, status, "{name}");
        if status != Status::Success {
            assert!(call.next().await.is_none(), "{name}: the stream goes on");
        }
    }
}

#[tokio::test]
async fn requests_are_bound_to_the_tls_certificate() {
    let der = CertificateDer::from(vec![1, 2, 3]);
    let peer = |chain| PeerInfo {
        remote: "127.0.0.1:9".parse().unwrap(),
        secure: true,
        certificates: PeerCertificates::new(chain),
    };
    let own = Bytes::copy_from_slice(&peer(vec![der.clone()]).certificates.leaf_sha256().unwrap());
    let wrong = Bytes::from_static(&[9; 32]);
    let none = Bytes::new;
    for (certificate, hash, when_sent, required) in [
        (true, own.clone(), true, true),
        (true, wrong.clone(), false, false),
        (true, none(), true, false),
        (false, own, false, false),
        (false, none(), true, false),
    ] {
        for (binding, accepted) in
            [(TlsBinding::WhenSent, when_sent), (TlsBinding::Required, required)]
        {
            let chain_of = if certificate { vec![der.clone()] } else { Vec::new() };
            let mut call = call_as(chain(0, 1), Some(peer(chain_of)), binding);
            let info = seek(Oldest, Oldest, Wait).to_info();
            call.ask(sign_as(info, "reader", "supply", NOW, hash.clone())).await;
            let first = call.next().await.unwrap();
            let case = format!("{certificate} {hash:?} {binding:?}");
            assert_eq!(matches!(first, Answer::Block(_)), accepted, "{case}: {first:?}");
        }
    }
}

#[tokio::test]
async fn several_seeks_follow_each_other() {
    let mut call = call(chain(0, 3));
    for number in [2, 0] {
        call.ask(sign(seek(At(number), At(number), Wait).to_info())).await;
        assert_eq!(call.number().await, number);
        assert_eq!(call.status().await, Status::Success);
    }
    call.ask(sign(seek(At(3), At(4), Wait).to_info())).await;
    call.is_waiting().await;
    call.node.0.grow(data(1));
    assert_eq!(call.number().await, 3);
    call.is_waiting().await;
    call.node.0.grow(data(1));
    assert_eq!(call.number().await, 4);
    assert_eq!(call.status().await, Status::Success);
    let Call { requests, mut responses, .. } = call;
    drop(requests);
    assert!(responses.next().await.is_none(), "the client has hung up");
}

#[tokio::test]
async fn headers_only_leaves_configuration_blocks_whole() {
    let whole = chain(0, 1);
    whole.grow(config_content());
    let mut call = call(whole);
    let mut info = seek(Oldest, Newest, Wait).to_info();
    info.content_type = SeekContentType::HeaderWithSig as i32;
    call.ask(sign(info)).await;
    let plain = call.block().await;
    assert!(plain.data.is_none() && plain.header.is_some() && plain.metadata.is_some());
    assert!(call.block().await.data.is_some());
}

#[tokio::test]
async fn a_change_of_configuration_checks_the_right_again() {
    let mut call = call(chain(0, 2));
    call.ask(sign(seek(Oldest, At(u64::MAX), Wait).to_info())).await;
    assert_eq!((call.number().await, call.number().await), (0, 1));
    call.node.0.sequence.send_replace(1);
    call.is_waiting().await;
    assert_eq!(call.node.0.asked.load(Ordering::SeqCst), 2, "once a configuration");
    call.node.0.grow(data(1));
    assert_eq!(call.number().await, 2);
    assert_eq!(call.node.0.asked.load(Ordering::SeqCst), 2, "not for every block");
    call.node.0.readers.lock().clear();
    call.node.0.sequence.send_replace(2);
    assert_eq!(call.status().await, Status::Forbidden);
    assert!(call.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_ends_a_waiting_stream() {
    let mut call = call(Chain { expires: Some(NOW + 30), ..chain(0, 1) });
    call.ask(sign(seek(Oldest, At(u64::MAX), Wait).to_info())).await;
    assert_eq!(call.number().await, 0);
    call.clock.store(NOW + 30, Ordering::SeqCst);
    call.is_waiting().await;
    call.clock.store(NOW + 31, Ordering::SeqCst);
    // No block comes; the stream's own timer ends it.
    let end = tokio::time::timeout(Duration::from_secs(120), call.responses.next()).await;
    let end = end.expect("the stream ends").unwrap().unwrap().r#type;
    assert_eq!(end, Some(Answer::Status(Status::Forbidden as i32)));
}

#[tokio::test]
async fn without_consensus_only_best_effort_is_served() {
    let strict = seek(Oldest, At(5), Wait).to_info();
    let best_effort = SeekInfo {
        error_response: SeekErrorResponse::BestEffort as i32,
        ..seek(Oldest, Newest, Wait).to_info()
    };
    let mut lost = call(chain(0, 1));
    lost.node.0.available.send_replace(false);
    lost.ask(sign(best_effort)).await;
    assert_eq!(lost.number().await, 0);
    assert_eq!(lost.status().await, Status::Success);
    lost.ask(sign(strict)).await;
    assert_eq!(lost.status().await, Status::ServiceUnavailable);

    let mut losing = call(chain(0, 1));
    losing.ask(sign(strict)).await;
    assert_eq!(losing.number().await, 0);
    losing.is_waiting().await;
    losing.node.0.available.send_replace(false);
    assert_eq!(losing.status().await, Status::ServiceUnavailable);
}

#[tokio::test]
async fn a_block_that_cannot_be_read_ends_the_request() {
    let mut call = call(Chain { broken: Some(1), ..chain(0, 3) });
    call.ask(sign(seek(Oldest, Newest, Wait).to_info())).await;
    assert_eq!(call.number().await, 0);
    assert_eq!(call.status().await, Status::ServiceUnavailable);
}

#[tokio::test]
async fn a_slow_reader_holds_few_blocks() {
    let long = chain(0, 0);
    for _ in 0..64 {
        long.grow(data(1 << 20));
    }
    let mut call = call(long);
    call.ask(sign(seek(Oldest, Newest, Wait).to_info())).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let read = call.node.0.read.load(Ordering::SeqCst);
    assert!((1..=6).contains(&read), "{read} blocks of 1 MiB were read for a budget of 4 MiB");
    for number in 0..64 {
        assert_eq!(call.number().await, number);
    }
    assert_eq!(call.status().await, Status::Success);
}

#[tokio::test]
async fn calls_are_limited_counted_and_ended_at_shutdown() {
    let registry = prometheus::Registry::new();
    let clock = Arc::new(AtomicI64::new(NOW));
    let shutdown = CancellationToken::new();
    let options = DeliverOptions {
        max_streams: 1,
        metrics: Some(DeliverMetrics::register(&registry).unwrap()),
        ..options(&clock, shutdown.clone())
    };
    let service = DeliverService::new(Arc::new(Node(Arc::new(chain(0, 2)))), options);
    let open = || {
        let (requests, receiver) = mpsc::channel(8);
        (requests, service.serve(None, ReceiverStream::new(receiver), FilteredReply))
    };
    // A call that has asked for nothing takes no place, whoever opens it.
    let silent: Vec<_> = (0..10).map(|_| open()).collect();
    let (requests, mut responses) = open();
    requests.send(Ok(sign(seek(Oldest, Newest, Wait).to_info()))).await.unwrap();
    for _ in 0..3 {
        responses.next().await.unwrap().unwrap();
    }
    let (again, mut refused) = open();
    again.send(Ok(sign(seek(Oldest, Newest, Wait).to_info()))).await.unwrap();
    let refused = refused.next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop((responses, silent));
    let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    while !text().contains("deliver_streams_closed 1") {
        tokio::task::yield_now().await;
    }
    let labels = "channel=\"supply\",data_type=\"filtered_block\"";
    for line in [
        format!("deliver_blocks_sent{{{labels}}} 2"),
        format!("deliver_requests_received{{{labels}}} 2"),
        format!("deliver_requests_completed{{{labels},status=\"SUCCESS\"}} 1"),
    ] {
        assert!(text().contains(&line), "{line} is missing in\n{}", text());
    }
    // The place is free again.
    let (_requests, mut responses) = loop {
        let (requests, mut responses) = open();
        requests.send(Ok(sign(seek(Oldest, Newest, Wait).to_info()))).await.unwrap();
        if responses.next().await.unwrap().is_ok() {
            break (requests, responses);
        }
    };
    for _ in 0..2 {
        responses.next().await.unwrap().unwrap();
    }
    shutdown.cancel();
    assert_eq!(responses.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(responses.next().await.is_none());
}

#[test]
fn filtered_blocks_hold_ids_codes_and_events() {
    let event = ChaincodeEvent {
        chaincode_id: "asset".to_owned(),
        tx_id: "id".to_owned(),
        event_name: "created".to_owned(),
        payload: Bytes::from_static(b"secret"),
    };
    let action = |events: Bytes| {
        let action = ChaincodeAction { events, ..ChaincodeAction::default() };
        let response = ProposalResponsePayload {
            extension: action.encode_to_vec().into(),
            ..ProposalResponsePayload::default()
        };
        let payload = ChaincodeActionPayload {
            action: Some(ChaincodeEndorsedAction {
                proposal_response_payload: response.encode_to_vec().into(),
                ..ChaincodeEndorsedAction::default()
            }),
            ..ChaincodeActionPayload::default()
        };
        TransactionAction { payload: payload.encode_to_vec().into(), ..Default::default() }
    };
    let transaction = |actions| {
        let spec = EnvelopeSpec {
            header_type: HeaderType::EndorserTransaction,
            channel_id: None,
            data: Transaction { actions }.encode_to_vec().into(),
            timestamp: Timestamp::from_seconds(NOW),
            nonce: [1; 24],
            tls_cert_hash: Bytes::new(),
        };
        Bytes::from(spec.unsigned().encode_to_vec())
    };
    let mut source = block::new(
        3,
        Bytes::new(),
        vec![
            transaction(vec![action(event.encode_to_vec().into()), action(Bytes::new())]),
            Bytes::from_static(b"\xff"),
            config_content(),
        ],
    );
    let codes =
        [ValidationCode::MvccReadConflict, ValidationCode::BadPayload, ValidationCode::Valid];
    block::metadata::set_filter(&mut source, TxFilter::from_codes(&codes));
    let filtered = filtered_block("supply", &source);
    assert_eq!((filtered.channel_id.as_str(), filtered.number), ("supply", 3));
    let [first, second, third] = filtered.filtered_transactions.as_slice() else {
        panic!("{filtered:?}")
    };
    assert_eq!(first.tx_validation_code(), ValidationCode::MvccReadConflict);
    let Some(weft_protos::peer::filtered_transaction::Data::TransactionActions(actions)) =
        &first.data
    else {
        panic!("{first:?}")
    };
    let [action] = actions.chaincode_actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(action.chaincode_event, Some(ChaincodeEvent { payload: Bytes::new(), ..event }));
    assert_eq!(second.tx_validation_code(), ValidationCode::BadPayload);
    assert_eq!(second.txid, "");
    assert_eq!(third.r#type(), HeaderType::Config);
    assert_eq!(third.data, None);
    assert_eq!(third.tx_validation_code(), ValidationCode::Valid);
    // A filter that does not fit the block says nothing good about any transaction.
    block::metadata::set_filter(&mut source, TxFilter::from_codes(&codes[2..]));
    let unfit = filtered_block("supply", &source).filtered_transactions;
    assert!(unfit.iter().all(|tx| tx.tx_validation_code() == ValidationCode::NotValidated));
}
