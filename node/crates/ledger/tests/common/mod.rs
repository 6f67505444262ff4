//! What the tests of this crate share: transactions and blocks without signatures, a chain that
//! validates and commits them, and a store whose writes fail when told to.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, Entry, KeyRange, Kv, KvError, KvRead};
use weft_ledger::mvcc::{self, Transaction, Validated};
use weft_ledger::rwset::TxRwSet;
use weft_ledger::{CommitInput, Committed, Ledger, Simulator};
use weft_protos::common::{
    Block, ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use weft_protos::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ProposalResponsePayload,
    TransactionAction,
};
use weft_types::{ChannelId, TxFilter, ValidationCode, block};

pub fn channel() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

pub fn memory_ledger() -> Ledger {
    Ledger::open(Arc::new(MemoryKv::new()), channel()).unwrap()
}

/// An endorsed transaction as it stands in a block, with `results` as its read-write set.
pub fn envelope(tx_id: &str, results: Bytes) -> Bytes {
    let channel_header = ChannelHeader {
        r#type: HeaderType::EndorserTransaction.into(),
        channel_id: "supply".into(),
        tx_id: tx_id.into(),
        timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        ..Default::default()
    }
    .encode_to_vec();
    let signature_header =
        SignatureHeader { creator: Bytes::from_static(b"creator"), nonce: tx_id.to_owned().into() }
            .encode_to_vec();
    let input = b"input";
    let hash = weft_crypto::sha256_parts([&channel_header[..], &signature_header, &input[..]]);
    let response = ProposalResponsePayload {
        proposal_hash: Bytes::copy_from_slice(&hash),
        extension: ChaincodeAction { results, ..Default::default() }.encode_to_vec().into(),
    };
    let action = ChaincodeActionPayload {
        chaincode_proposal_payload: Bytes::from_static(input),
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: response.encode_to_vec().into(),
            endorsements: Vec::new(),
        }),
    };
    let action = TransactionAction {
        header: signature_header.clone().into(),
        payload: action.encode_to_vec().into(),
    };
    let transaction = weft_protos::peer::Transaction { actions: vec![action] };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.into(),
            signature_header: signature_header.into(),
        }),
        data: transaction.encode_to_vec().into(),
    };
    let payload = payload.encode_to_vec().into();
    Envelope { payload, signature: Bytes::from_static(b"signature") }.encode_to_vec().into()
}

/// The next block of `ledger`, with these transactions.
pub fn next_block(ledger: &Ledger, data: Vec<Bytes>) -> Block {
    let tip = ledger.blocks().tip();
    block::new(tip.height, tip.last_hash, data)
}

pub fn results(simulator: Simulator) -> TxRwSet {
    TxRwSet::parse(simulator.finish().public_bytes).unwrap()
}

/// Simulates on the newest state.
pub fn simulate(ledger: &Ledger, run: impl FnOnce(&mut Simulator)) -> Bytes {
    let mut simulator = ledger.simulator();
    run(&mut simulator);
    simulator.finish().public_bytes
}

pub fn parsed(results: &[Bytes]) -> Vec<TxRwSet> {
    results.iter().map(|bytes| TxRwSet::parse(bytes.clone()).unwrap()).collect()
}

pub fn inputs(sets: &[TxRwSet]) -> Vec<Transaction<'_>> {
    let valid =
        |set| Transaction { code: ValidationCode::Valid, rwset: Some(set), in_history: true };
    sets.iter().map(valid).collect()
}

pub fn tx_id(block: u64, place: usize) -> String {
    format!("tx-{block}-{place}")
}

pub fn tx_ids(block: u64, count: usize) -> Vec<String> {
    (0..count).map(|place| tx_id(block, place)).collect()
}

/// Validates and commits a block of transactions with these results.
pub fn commit(ledger: &Ledger, results: &[Bytes]) -> (Validated, Committed) {
    let number = ledger.height();
    let sets = parsed(results);
    let validated = mvcc::validate(number, &inputs(&sets), &ledger.state()).unwrap();
    let committed = try_commit(ledger, results, &validated).unwrap();
    (validated, committed)
}

pub fn try_commit(
    ledger: &Ledger,
    results: &[Bytes],
    validated: &Validated,
) -> Result<Committed, weft_ledger::LedgerError> {
    let number = ledger.height();
    let ids = tx_ids(number, results.len());
    let data = ids.iter().zip(results).map(|(id, bytes)| envelope(id, bytes.clone())).collect();
    ledger.commit(CommitInput {
        block: next_block(ledger, data),
        codes: TxFilter::from_codes(&validated.codes),
        tx_ids: &ids,
        updates: &validated.updates,
        history: &validated.history,
        extra: Batch::new(),
    })
}

/// Where a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing of the batch is stored.
    Before,
    /// The batch is stored, but the write is not acknowledged.
    After,
}

/// A store that stops at one of its writes, as if the machine had.
pub struct FaultyKv {
    pub inner: Arc<MemoryKv>,
    left: AtomicUsize,
    fault: Fault,
}

impl FaultyKv {
    /// Stops at the write after `writes` good ones.
    pub fn new(inner: Arc<MemoryKv>, writes: usize, fault: Fault) -> Self {
        Self { inner, left: AtomicUsize::new(writes), fault }
    }
}

impl KvRead for FaultyKv {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.inner.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        self.inner.scan(column, range, direction, limit)
    }
}

impl Kv for FaultyKv {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        self.inner.snapshot()
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let take = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            return self.inner.write(batch, durability);
        }
        if self.fault == Fault::After {
            self.inner.write(batch, durability)?;
        }
        Err(KvError::Stopped { reason: "power cut".into() })
    }
}
