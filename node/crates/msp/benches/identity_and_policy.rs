//! What a committer does for every transaction: read identities, evaluate policies.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{hint::black_box, sync::Arc};

use common::{NOW, Org, authenticated, manager, serialized, signed};
use criterion::{Criterion, criterion_group, criterion_main};
use weft_msp::{MspManager, Policy, Principal, PrincipalRole, ValidAt, policy::dsl};

fn identities(c: &mut Criterion) {
    let org = Org::new("Org1MSP");
    let certificate = org.issue("x", &["peer"]);
    let bytes = serialized("Org1MSP", &certificate);
    let msps = MspManager::new([org.msp()]).unwrap();
    let msp = org.msp();
    c.bench_function("identity/remembered", |b| {
        b.iter(|| msps.deserialize_identity(black_box(&bytes)).unwrap());
    });
    c.bench_function("identity/first time", |b| {
        b.iter(|| msp.deserialize_identity(black_box(&bytes)).unwrap());
    });
    let identity = msps.deserialize_identity(&bytes).unwrap();
    c.bench_function("identity/validate", |b| b.iter(|| identity.validate(black_box(NOW))));
    let peer = Principal::decode(&Principal::role("Org1MSP", PrincipalRole::Peer)).unwrap();
    c.bench_function("identity/principal", |b| b.iter(|| peer.check(black_box(&identity), NOW)));
}

fn policies(c: &mut Criterion) {
    let orgs: Vec<_> = (1..=3).map(|n| Org::new(&format!("Org{n}MSP"))).collect();
    let msps = manager(&orgs);
    let signers: Vec<_> = orgs.iter().map(|org| org.signer("peer", &["peer"])).collect();
    let endorsers: Vec<_> = signers.iter().map(|signer| authenticated(&msps, signer)).collect();
    let text = "OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer', 'Org3MSP.peer')";
    let policy = dsl::parse(text).unwrap();
    let policy = Policy::signature("bench", &policy, Arc::clone(&msps)).unwrap();
    let two = &endorsers[1..];
    c.bench_function("policy/2 of 3, verified before", |b| {
        b.iter(|| policy.evaluate_authenticated(black_box(two), ValidAt::Issuance).unwrap());
    });
    let signatures: Vec<_> = signers[1..].iter().map(|s| signed(s, &[7; 1000])).collect();
    c.bench_function("policy/2 of 3, with signatures", |b| {
        b.iter(|| policy.evaluate(black_box(&signatures), NOW).unwrap());
    });
    c.bench_function("policy/parse", |b| b.iter(|| dsl::parse(black_box(text)).unwrap()));
}

criterion_group!(benches, identities, policies);
criterion_main!(benches);
