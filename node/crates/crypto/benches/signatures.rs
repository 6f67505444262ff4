//! How many signatures a core makes and checks.
#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weft_crypto::{PrivateKey, PublicKey, sha256};

fn signatures(c: &mut Criterion) {
    let key = PrivateKey::generate().expect("a key");
    // About the size of a transaction of one endorsement.
    let message = vec![7; 3_000];
    let signature = key.sign(&message).expect("a signature");
    let spki = key.public_key().spki_der().to_vec();
    let mut group = c.benchmark_group("p256");
    group.bench_function("sign", |b| b.iter(|| key.sign(black_box(&message))));
    group.bench_function("verify", |b| {
        b.iter(|| key.public_key().verify(black_box(&message), black_box(&signature)));
    });
    group.bench_function("parse_public_key", |b| {
        b.iter_batched(|| &spki, |der| PublicKey::from_spki_der(der), BatchSize::SmallInput);
    });
    group.finish();
    c.bench_function("sha256/3000", |b| b.iter(|| sha256(black_box(&message))));
}

criterion_group!(benches, signatures);
criterion_main!(benches);
