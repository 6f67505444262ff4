//! How long a block of 500 transactions takes to validate: signatures on all cores, then policies
//! and versions on one.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::World;
use weft_peer::commit::Pool;
use weft_peer::commit::endorsement::{Definitions, RuleBook};
use weft_peer::commit::transaction::{self, Checked};
use weft_peer::commit::validate::validate;

const TRANSACTIONS: usize = 500;

fn block(world: &World) -> Vec<Bytes> {
    let transaction = |number: usize| {
        let mut draft = world.draft();
        draft.set = Default::default();
        draft.set.read(support::CHAINCODE, &format!("key{number}"), None);
        draft.set.write(support::CHAINCODE, &format!("key{number}"), &"x".repeat(100));
        draft.raw()
    };
    (0..TRANSACTIONS).map(transaction).collect()
}

fn benches(criterion: &mut Criterion) {
    let world = World::new();
    let raw = block(&world);
    let pool = Pool::new(0).unwrap();
    let check = |raw: &[Bytes]| -> Vec<Checked> {
        pool.map(raw, |_, raw| transaction::check(&world.bundle, raw.clone()))
    };
    let mut group = criterion.benchmark_group("block of 500");
    group.throughput(Throughput::Elements(TRANSACTIONS as u64));
    group.bench_function("signatures, one core", |bench| {
        bench.iter(|| {
            raw.iter().map(|raw| transaction::check(&world.bundle, raw.clone())).collect::<Vec<_>>()
        });
    });
    group.bench_function("signatures, all cores", |bench| bench.iter(|| check(&raw)));
    group.bench_function("policies and versions", |bench| {
        let definitions: Arc<dyn Definitions> = world.definitions.clone();
        let mut book = RuleBook::new(definitions);
        bench.iter_batched(
            || check(&raw),
            |checked| {
                validate(1, &world.bundle, &checked, &mut book, &world.state, &world.known).unwrap()
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(validation, benches);
criterion_main!(validation);
