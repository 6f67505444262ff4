//! What the committer does to every transaction and block besides signatures.
#![allow(clippy::expect_used, missing_docs)]

use std::{collections::BTreeMap, hint::black_box};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use weft_crypto::{PrivateKey, Timestamp};
use weft_protos::peer::{ChaincodeId, Response};
use weft_types::{
    ChannelId, ParsedEnvelope, SignError, Signer, block,
    proposal::{ParsedProposal, ProposalSpec, Simulation, endorse},
    transaction::{ParsedTransaction, assemble_signed},
};

struct BenchSigner(PrivateKey);

impl Signer for BenchSigner {
    fn serialized_identity(&self) -> Bytes {
        // The size of a serialized identity with a usual certificate.
        Bytes::from_static(&[b'c'; 900])
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.0.sign(message).map(Bytes::from).map_err(|error| SignError::new("a bench", error))
    }
}

fn transaction() -> Bytes {
    let signer = BenchSigner(PrivateKey::generate().expect("a key"));
    let spec = ProposalSpec {
        channel_id: Some(ChannelId::new("supply").expect("a name")),
        chaincode: "asset".to_owned(),
        args: vec![Bytes::from_static(b"put"), Bytes::from_static(&[7; 100])],
        transient: BTreeMap::new(),
        is_init: false,
        timestamp: Timestamp::from_seconds(1_767_225_600),
        nonce: [9; 24],
    };
    let built = spec.sign(&signer).expect("a proposal");
    let parsed = ParsedProposal::parse(built.signed).expect("a sound proposal");
    let simulation = Simulation {
        results: Bytes::from_static(&[7; 200]),
        events: Bytes::new(),
        response: Response { status: 200, ..Response::default() },
        chaincode_id: ChaincodeId { name: "asset".to_owned(), ..ChaincodeId::default() },
    };
    let response = endorse(&parsed, simulation, &signer).expect("an endorsement");
    let envelope = assemble_signed(&built.proposal, &[response], &signer).expect("a transaction");
    envelope.encode_to_vec().into()
}

fn blocks(c: &mut Criterion) {
    let raw = transaction();
    c.bench_function("envelope/parse", |b| b.iter(|| ParsedEnvelope::parse(raw.clone())));
    let envelope = ParsedEnvelope::parse(raw.clone()).expect("a sound envelope");
    c.bench_function("transaction/parse", |b| {
        b.iter(|| ParsedTransaction::parse(black_box(&envelope.payload)));
    });
    let block = block::new(7, Bytes::from_static(&[1; 32]), vec![raw; 500]);
    let header = block.header.clone().expect("a header");
    let mut group = c.benchmark_group("block of 500");
    group.throughput(Throughput::Elements(500));
    group.bench_function("check", |b| b.iter(|| block::check(black_box(&block))));
    group.bench_function("header_hash", |b| b.iter(|| block::header_hash(black_box(&header))));
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
