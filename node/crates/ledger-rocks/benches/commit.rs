//! Commits of blocks of 500 transactions to the peer's ledger on RocksDB, each synced, and the
//! validation of such a block on the stored state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use weft_ledger::kv::Batch;
use weft_ledger::kv::column::PEER_COLUMNS;
use weft_ledger::mvcc::{self, Transaction};
use weft_ledger::rwset::TxRwSet;
use weft_ledger::{CommitInput, Ledger};
use weft_ledger_rocks::{RocksKv, RocksOptions};
use weft_protos::common::Block;
use weft_types::{ChannelId, TxFilter, ValidationCode, block};

/// Transactions of a block.
const TRANSACTIONS: u64 = 500;

/// About what an envelope with one endorsement takes.
const ENVELOPE_BYTES: usize = 3_500;

const VALUE_BYTES: usize = 100;

fn ledger() -> (TempDir, Ledger) {
    let dir = TempDir::new().unwrap();
    let kv = RocksKv::open(dir.path(), PEER_COLUMNS, RocksOptions::default()).unwrap();
    let ledger = Ledger::open(kv, ChannelId::new("bench").unwrap()).unwrap();
    (dir, ledger)
}

/// Reads and writes of one key each: a new key of every transaction, or one of the 10,000 last.
fn sets(ledger: &Ledger, fresh: bool) -> Vec<TxRwSet> {
    let height = ledger.height();
    let set = |place: u64| {
        let mut tx = ledger.simulator();
        let number = height * TRANSACTIONS + place;
        let key = format!("asset{:012}", if fresh { number } else { number % 10_000 });
        if !fresh {
            tx.get_state("asset", &key).unwrap();
        }
        tx.put_state("asset", &key, vec![7; VALUE_BYTES].into()).unwrap();
        TxRwSet::parse(tx.finish().public_bytes).unwrap()
    };
    (0..TRANSACTIONS).map(set).collect()
}

fn validate(ledger: &Ledger, sets: &[TxRwSet]) -> mvcc::Validated {
    let transaction =
        |set| Transaction { code: ValidationCode::Valid, rwset: Some(set), in_history: true };
    let transactions: Vec<_> = sets.iter().map(transaction).collect();
    mvcc::validate(ledger.height(), &transactions, &ledger.state()).unwrap()
}

/// The next block, of envelopes that are half random, as certificates and signatures are to a
/// compressor, with its transactions' ids.
fn next_block(ledger: &Ledger) -> (Block, Vec<String>) {
    let number = ledger.height();
    let envelope = |place: u64| {
        let seed = (number * TRANSACTIONS + place).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let random = |n: usize| (seed >> (n % 57)) as u8 ^ n as u8;
        let byte = |n: usize| if n.is_multiple_of(2) { 0 } else { random(n) };
        (0..ENVELOPE_BYTES).map(byte).collect::<Bytes>()
    };
    let data = (0..TRANSACTIONS).map(envelope).collect();
    let ids = (0..TRANSACTIONS).map(|place| format!("{number:032x}{place:032x}")).collect();
    (block::new(number, ledger.blocks().tip().last_hash, data), ids)
}

fn commit(ledger: &Ledger, validated: &mvcc::Validated, (block, ids): (Block, Vec<String>)) {
    let input = CommitInput {
        block,
        codes: TxFilter::from_codes(&validated.codes),
        tx_ids: &ids,
        updates: &validated.updates,
        history: &validated.history,
        extra: Batch::new(),
    };
    ledger.commit(input).unwrap();
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit of 500 transactions");
    group.throughput(Throughput::Elements(TRANSACTIONS)).sample_size(20);
    let (_dir, ledger) = ledger();
    group.bench_function("synced", |bencher| {
        bencher.iter_batched(
            || (validate(&ledger, &sets(&ledger, true)), next_block(&ledger)),
            |(validated, block)| commit(&ledger, &validated, block),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validation of 500 transactions");
    group.throughput(Throughput::Elements(TRANSACTIONS)).sample_size(20);
    let (_dir, ledger) = ledger();
    for _ in 0..40 {
        let validated = validate(&ledger, &sets(&ledger, false));
        commit(&ledger, &validated, next_block(&ledger));
    }
    for (name, fresh) in [("new keys", true), ("reads and writes of stored keys", false)] {
        let sets = sets(&ledger, fresh);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(validate(&ledger, &sets)));
        });
    }
    group.finish();
}

criterion_group!(benches, commits, validation);
criterion_main!(benches);
