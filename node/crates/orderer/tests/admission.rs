#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! The pure parts: when a block is full, and what is let in.

use bytes::Bytes;
use proptest::prelude::*;
use weft_config::{BatchSize, Bundle, ConsensusState, edit};
use weft_msp::{NodeRole, SigningIdentity};
use weft_orderer::blockcutter::BlockCutter;
use weft_orderer::msgprocessor::{Class, Processor, Rejection, classify};
use weft_protos::common::{Config, Envelope, HeaderType, Status};
use weft_testkit::clock::{EXPIRED, NOW};
use weft_testkit::network::Network;
use weft_testkit::org::Org;
use weft_testkit::tx;
use weft_types::envelope::EnvelopeSpec;
use weft_types::{ChannelId, ParsedEnvelope, Signer};

fn cutter(count: u32, preferred: u32) -> BlockCutter {
    BlockCutter::new(BatchSize {
        max_message_count: count,
        absolute_max_bytes: 1000,
        preferred_max_bytes: preferred,
    })
}

/// Sizes of envelopes in, sizes of each batch's envelopes out; what is left is cut at the end.
#[track_caller]
fn check(count: u32, preferred: u32, sizes: &[usize], expect: &[&[usize]]) {
    let mut cutter = cutter(count, preferred);
    let mut batches = Vec::new();
    for size in sizes {
        batches.extend(cutter.add(Bytes::from(vec![1; *size])));
    }
    batches.extend(cutter.cut());
    let found: Vec<Vec<usize>> =
        batches.iter().map(|batch| batch.iter().map(Bytes::len).collect()).collect();
    assert_eq!(found, expect);
    assert!(cutter.is_empty());
}

#[test]
fn blocks_are_cut_by_count_and_size() {
    check(3, 100, &[], &[]);
    check(3, 100, &[10], &[&[10]]);
    check(3, 100, &[10, 10, 10], &[&[10, 10, 10]]);
    check(3, 100, &[10, 10, 10, 10], &[&[10, 10, 10], &[10]]);
    check(1, 100, &[10, 20], &[&[10], &[20]]);
    // Exactly the preferred size still fits.
    check(9, 100, &[50, 50], &[&[50, 50]]);
    // Overflow cuts what was pending first.
    check(9, 100, &[50, 51], &[&[50], &[51]]);
    // Over the preferred size: alone, behind what was pending.
    check(9, 100, &[10, 101, 10], &[&[10], &[101], &[10]]);
    check(9, 100, &[101], &[&[101]]);
    // Overflow and count at once.
    check(1, 100, &[100, 100], &[&[100], &[100]]);
}

proptest! {
    #[test]
    fn no_envelope_is_lost_moved_or_misplaced(
        count in 1u32..6,
        preferred in 1u32..200,
        sizes in proptest::collection::vec(1usize..300, 0..40),
    ) {
        let mut cutter = cutter(count, preferred);
        let mut batches = Vec::new();
        let all: Vec<Bytes> = (0u8..).zip(&sizes).map(|(n, size)| vec![n; *size].into()).collect();
        for envelope in &all {
            batches.extend(cutter.add(envelope.clone()));
        }
        batches.extend(cutter.cut());
        for batch in &batches {
            let bytes: usize = batch.iter().map(Bytes::len).sum();
            prop_assert!(!batch.is_empty());
            prop_assert!(batch.len() <= count as usize);
            prop_assert!(bytes <= preferred as usize || batch.len() == 1);
        }
        let flat: Vec<Bytes> = batches.into_iter().flatten().collect();
        prop_assert_eq!(flat, all);
    }
}

fn envelope(kind: HeaderType, signer: &dyn Signer, data: Bytes) -> ParsedEnvelope {
    let spec = EnvelopeSpec {
        header_type: kind,
        channel_id: Some(ChannelId::new("supply").unwrap()),
        data,
        timestamp: NOW,
        nonce: tx::nonce(),
        tls_cert_hash: Bytes::new(),
    };
    ParsedEnvelope::from_envelope(spec.sign(signer).unwrap()).unwrap()
}

fn transaction(signer: &dyn Signer) -> ParsedEnvelope {
    envelope(HeaderType::EndorserTransaction, signer, "content".into())
}

fn changed(bundle: &Bundle, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = bundle.config().clone();
    change(&mut config);
    config
}

fn parsed(envelope: Envelope) -> ParsedEnvelope {
    ParsedEnvelope::from_envelope(envelope).unwrap()
}

fn by_admins(
    network: &Network,
    bundle: &Bundle,
    change: impl FnOnce(&mut Config),
) -> ParsedEnvelope {
    let admins = network.admins();
    let signers: Vec<&dyn Signer> = admins.iter().map(|admin| *admin as &dyn Signer).collect();
    parsed(tx::config_update(bundle, &changed(bundle, change), &signers))
}

#[test]
fn types_are_told_apart() {
    let client = Org::new("Org1MSP").client;
    let class = |kind| classify(&envelope(kind, &client, Bytes::new()));
    assert_eq!(class(HeaderType::EndorserTransaction).unwrap(), Class::Normal);
    assert_eq!(class(HeaderType::Message).unwrap(), Class::Normal);
    assert_eq!(class(HeaderType::ConfigUpdate).unwrap(), Class::ConfigUpdate);
    for kind in [HeaderType::Config, HeaderType::OrdererTransaction] {
        assert_eq!(class(kind).unwrap_err().status(), Status::BadRequest);
    }
}

#[test]
fn filters_refuse_in_their_order() {
    let network = Network::new(2, 1);
    let bundle = network.bundle("supply");
    let processor = Processor::new(&bundle, NOW);
    let org = network.org(1);
    assert!(processor.normal(&transaction(&org.client)).is_ok());
    assert!(processor.normal(&transaction(&network.org(2).admin)).is_ok());

    let check = |envelope: &ParsedEnvelope, status, what: &str| {
        let error = processor.normal(envelope).unwrap_err();
        assert_eq!(error.status(), status, "{what}: {error}");
        error
    };
    let limit = bundle.orderer().unwrap().batch_size.absolute_max_bytes as usize;
    // Larger comes before everything about the signer.
    let mut large = envelope(HeaderType::Message, &org.client, vec![0; limit].into());
    large.signature = Bytes::new();
    let error = check(&large, Status::BadRequest, "large");
    assert!(matches!(error, Rejection::TooLarge { .. }));
    // Expiry comes before the signature.
    let old = org.identity_valid("old", NodeRole::Client, EXPIRED);
    let mut expired = transaction(&old);
    expired.signature = "forged".into();
    let error = check(&expired, Status::BadRequest, "expired");
    assert!(matches!(error, Rejection::Expired { .. }));
    let mut forged = transaction(&org.client);
    forged.signature = "forged".into();
    check(&forged, Status::Forbidden, "forged");
    let stranger = Org::new("Org9MSP").client;
    check(&transaction(&stranger), Status::Forbidden, "stranger");
    // An organization of the same name with an authority of its own.
    check(&transaction(&Org::new("Org1MSP").client), Status::Forbidden, "impostor");
}

#[test]
fn a_certificate_counts_as_of_now() {
    let network = Network::new(1, 1);
    let bundle = network.bundle("supply");
    let short = network.org(1).identity_valid("old", NodeRole::Client, EXPIRED);
    let before = EXPIRED.not_after;
    assert!(Processor::new(&bundle, before).normal(&transaction(&short)).is_ok());
    assert!(Processor::new(&bundle, NOW).normal(&transaction(&short)).is_err());
}

#[test]
fn updates_become_configurations_signed_by_the_orderer() {
    let network = Network::new(2, 3);
    let bundle = network.bundle("supply");
    let processor = Processor::new(&bundle, NOW);
    let orderer: &SigningIdentity = &network.orderers[0].identity;
    let size = BatchSize { max_message_count: 7, ..BatchSize::default() };
    let update = by_admins(&network, &bundle, |c| edit::set_batch_size(c, size).unwrap());
    let configured = processor.config_update(&update, orderer, tx::nonce()).unwrap();
    assert_eq!(configured.next.sequence(), 1);
    let config = parsed(configured.envelope);
    assert_eq!(config.header().header_type(), Some(HeaderType::Config));
    assert_eq!(*config.header().creator(), orderer.serialized_identity());
    // The leader that it is forwarded to comes to the same.
    let next = processor.config(&config).unwrap();
    assert_eq!(next.config(), configured.next.config());
    // It may be carried out again as long as it is based on the present configuration.
    assert!(processor.config_again(&config, orderer, tx::nonce()).is_ok());
    let later = Processor::new(&next, NOW);
    assert!(later.config(&config).is_err());
    let again = later.config_again(&config, orderer, tx::nonce()).unwrap_err();
    assert_eq!(again.status(), Status::BadRequest);
}

#[test]
fn updates_are_refused_with_their_statuses() {
    let network = Network::new(2, 3);
    let bundle = network.bundle("supply");
    let processor = Processor::new(&bundle, NOW);
    let orderer = &network.orderers[0].identity;
    let refused = |update: &ParsedEnvelope| {
        processor.config_update(update, orderer, tx::nonce()).unwrap_err().status()
    };
    let size = BatchSize { max_message_count: 7, ..BatchSize::default() };
    let alone = changed(&bundle, |config| edit::set_batch_size(config, size).unwrap());
    let client = &network.org(1).client;
    let update = parsed(tx::config_update(&bundle, &alone, &[client]));
    assert_eq!(refused(&update), Status::Forbidden);
    let garbage = envelope(HeaderType::ConfigUpdate, client, "garbage".into());
    assert_eq!(refused(&garbage), Status::BadRequest);
    // Two consenters at once.
    let two = by_admins(&network, &bundle, |config| {
        for orderer in &network.orderers[1..] {
            edit::remove_consenter(config, &orderer.endpoint).unwrap();
        }
    });
    assert_eq!(refused(&two), Status::BadRequest);
    // State and something else.
    let state = by_admins(&network, &bundle, |config| {
        edit::set_consensus_state(config, ConsensusState::Maintenance).unwrap();
        edit::set_batch_size(config, size).unwrap();
    });
    assert_eq!(refused(&state), Status::BadRequest);
    // A signer that the channel does not know could not write what it signed.
    let stranger = Org::new("OrdererMSP").orderer;
    let update = by_admins(&network, &bundle, |c| edit::set_batch_size(c, size).unwrap());
    let error = processor.config_update(&update, &stranger, tx::nonce()).unwrap_err();
    assert_eq!(error.status(), Status::Forbidden);
}

#[test]
fn maintenance_locks_members_out() {
    let network = Network::new(1, 1);
    let normal = network.bundle("supply");
    let config = changed(&normal, |config| {
        edit::set_consensus_state(config, ConsensusState::Maintenance).unwrap();
    });
    let bundle = Bundle::new(normal.channel_id().clone(), config).unwrap();
    let processor = Processor::new(&bundle, NOW);
    let client = transaction(&network.org(1).client);
    assert_eq!(processor.normal(&client).unwrap_err().status(), Status::ServiceUnavailable);
    assert!(processor.reader(&client).is_err());
    assert!(processor.reader(&transaction(&network.orderer_org.admin)).is_ok());
    let leave = |config: &mut Config| {
        edit::set_consensus_state(config, ConsensusState::Normal).unwrap();
    };
    let orderer = &network.orderers[0].identity;
    let update = by_admins(&network, &bundle, leave);
    assert!(processor.config_update(&update, orderer, tx::nonce()).is_ok());
    // Sent by a member that does not order.
    let admins = [&network.org(1).admin as &dyn Signer, &network.orderer_org.admin];
    let update = parsed(tx::config_update(&bundle, &changed(&bundle, leave), &admins));
    let error = processor.config_update(&update, orderer, tx::nonce()).unwrap_err();
    assert_eq!(error.status(), Status::Forbidden);
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(payload: Vec<u8>, data: Vec<u8>) {
        let network = NETWORK.with(Clone::clone);
        let bundle = BUNDLE.with(Clone::clone);
        let processor = Processor::new(&bundle, NOW);
        let raw = Envelope { payload: payload.into(), signature: "x".into() };
        if let Ok(parsed) = ParsedEnvelope::from_envelope(raw) {
            prop_assert!(processor.normal(&parsed).is_err());
        }
        let client = &network.org(1).client;
        let update = envelope(HeaderType::ConfigUpdate, client, data.clone().into());
        let orderer = &network.orderers[0].identity;
        prop_assert!(processor.config_update(&update, orderer, tx::nonce()).is_err());
        let config = envelope(HeaderType::Config, client, data.into());
        prop_assert!(processor.config(&config).is_err());
        prop_assert!(processor.config_again(&config, orderer, tx::nonce()).is_err());
    }
}

thread_local! {
    static NETWORK: std::rc::Rc<Network> = std::rc::Rc::new(Network::new(1, 1));
    static BUNDLE: Bundle = NETWORK.with(|network| network.bundle("supply"));
}
