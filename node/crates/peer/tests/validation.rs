//! Every validation code, by spoiling a valid transaction in one place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use bytes::Bytes;
use prost::Message;
use support::{CHAINCODE, Draft, World};
use weft_protos::common::{Envelope, HeaderType, Payload};
use weft_protos::kvrwset::{QueryReads, RangeQueryInfo, range_query_info::ReadsInfo};
use weft_types::ValidationCode::{self, *};

/// One way to spoil a transaction, and the code it should get.
type Case = (&'static str, fn(&World, &mut Draft), ValidationCode);

fn check(cases: &[Case]) {
    let world = World::new();
    for (name, spoil, expected) in cases {
        let mut draft = world.draft();
        spoil(&world, &mut draft);
        assert_eq!(world.code(draft.raw()), *expected, "{name}");
    }
}

#[test]
fn headers_creator_and_id() {
    check(&[
        ("nothing", |_, _| {}, Valid),
        ("epoch", |_, d| d.channel_header.epoch = 1, BadCommonHeader),
        ("unknown type", |_, d| d.channel_header.r#type = 99, BadCommonHeader),
        ("type of a message", |_, d| d.channel_header.r#type = 0, BadCommonHeader),
        (
            "configuration update",
            |_, d| d.channel_header.r#type = HeaderType::ConfigUpdate.into(),
            UnsupportedTxPayload,
        ),
        ("no nonce", |_, d| d.nonce = Bytes::new(), BadCommonHeader),
        ("id of another", |_, d| d.tx_id = Some("00".repeat(32)), BadProposalTxid),
        ("id in capitals", |_, d| d.tx_id = Some(d.id().to_uppercase()), BadProposalTxid),
        (
            "creator of a stranger",
            |_, d| d.creator = weft_testkit::Org::new("Org1MSP").client,
            BadCreatorSignature,
        ),
        (
            "another channel",
            |_, d| d.channel_header.channel_id = "other".into(),
            TargetChainNotFound,
        ),
        ("no channel", |_, d| d.channel_header.channel_id = String::new(), TargetChainNotFound),
    ]);
}

#[test]
fn envelopes_that_are_none() {
    let world = World::new();
    let draft = world.draft();
    let good = draft.envelope();
    let raw = |envelope: Envelope| Bytes::from(envelope.encode_to_vec());
    let no_header = Payload { header: None, data: Bytes::new() }.encode_to_vec();
    let cases: Vec<(&str, Bytes, ValidationCode)> = vec![
        ("no envelope", Bytes::from_static(&[0xff, 1, 2]), InvalidOtherReason),
        ("no bytes", Bytes::new(), NilEnvelope),
        ("no payload", raw(Envelope { payload: Bytes::new(), ..good.clone() }), BadCommonHeader),
        ("payload of junk", raw(draft.sign(Bytes::from_static(&[0xff]))), BadPayload),
        ("no header", raw(draft.sign(no_header.into())), BadCommonHeader),
        (
            "no signature",
            raw(Envelope { signature: Bytes::new(), ..good.clone() }),
            BadCreatorSignature,
        ),
        (
            "signature by another",
            raw(Envelope {
                signature: world.peer(2).key().sign(&good.payload).unwrap().into(),
                ..good.clone()
            }),
            BadCreatorSignature,
        ),
    ];
    for (name, raw, expected) in cases {
        assert_eq!(world.code(raw), expected, "{name}");
    }
}

#[test]
fn the_endorsed_action() {
    check(&[
        ("no action", |_, d| d.actions = 0, InvalidEndorserTransaction),
        ("two actions", |_, d| d.actions = 2, InvalidEndorserTransaction),
        (
            "no transaction",
            |_, d| d.data = Some(Bytes::from_static(&[0xff])),
            InvalidEndorserTransaction,
        ),
        ("empty transaction", |_, d| d.data = Some(Bytes::new()), InvalidEndorserTransaction),
        (
            "proposal hash",
            |_, d| d.proposal_hash = Some(vec![1; 32].into()),
            InvalidEndorserTransaction,
        ),
        (
            "no action header",
            |_, d| d.action_header = Some(Bytes::new()),
            InvalidEndorserTransaction,
        ),
        (
            "header extension",
            |_, d| d.extension = Some(Bytes::from_static(&[0xff])),
            BadHeaderExtension,
        ),
        ("no header extension", |_, d| d.extension = Some(Bytes::new()), InvalidOtherReason),
        (
            "response payload",
            |_, d| d.response_extension = Some(Bytes::from_static(&[0xff])),
            BadResponsePayload,
        ),
        (
            "empty response payload",
            |_, d| d.response_extension = Some(Bytes::new()),
            BadResponsePayload,
        ),
        ("read-write set", |_, d| d.results = Some(Bytes::from_static(&[0xff])), BadRwset),
        ("no executed chaincode", |_, d| d.executed = None, InvalidOtherReason),
        ("no chaincode name", |_, d| d.invoke(""), InvalidChaincode),
        ("no version", |_, d| d.executed.as_mut().unwrap().version.clear(), InvalidChaincode),
        ("two names", |_, d| d.executed.as_mut().unwrap().name = "other".into(), InvalidChaincode),
        ("event", |_, d| d.event(CHAINCODE), Valid),
        ("event of another", |_, d| d.event("other"), InvalidOtherReason),
        ("event of junk", |_, d| d.events = Bytes::from_static(&[0xff]), InvalidOtherReason),
        (
            "namespace twice",
            |_, d| {
                let twice = d.set.namespaces[0].clone();
                d.set.namespaces.push(twice);
            },
            IllegalWriteset,
        ),
    ]);
}

#[test]
fn the_order_of_checks() {
    check(&[
        (
            "extension before response payload",
            |_, d| {
                d.extension = Some(Bytes::from_static(&[0xff]));
                d.response_extension = Some(Bytes::from_static(&[0xff]));
            },
            BadHeaderExtension,
        ),
        (
            "id before action",
            |_, d| {
                d.tx_id = Some("00".repeat(32));
                d.actions = 2;
            },
            BadProposalTxid,
        ),
        (
            "action before channel",
            |_, d| {
                d.channel_header.channel_id = "other".into();
                d.actions = 2;
            },
            InvalidEndorserTransaction,
        ),
    ]);
    let mut world = World::new();
    let mut draft = world.draft();
    draft.response_extension = Some(Bytes::from_static(&[0xff]));
    world.known.0.insert(draft.id());
    assert_eq!(world.code(draft.raw()), DuplicateTxid, "duplicate before content");
}

#[test]
fn namespaces_and_the_chaincode_policy() {
    check(&[
        ("unknown chaincode", |_, d| d.invoke("unknown"), InvalidChaincode),
        ("writes to an unknown one", |_, d| d.set.write("unknown", "k", "v"), InvalidChaincode),
        ("reads of an unknown one", |_, d| d.set.read("unknown", "k", None), Valid),
        ("system chaincode", |_, d| d.invoke("qscc"), InvalidChaincode),
        ("writes to a system chaincode", |_, d| d.set.write("lscc", "k", "v"), InvalidChaincode),
        ("one endorser", |_, d| drop(d.endorsers.pop()), EndorsementPolicyFailure),
        ("no endorser", |_, d| d.endorsers.clear(), EndorsementPolicyFailure),
        (
            "no endorser, nothing written",
            |_, d| {
                d.endorsers.clear();
                d.set = Default::default();
            },
            EndorsementPolicyFailure,
        ),
        ("nothing written", |_, d| d.set = Default::default(), Valid),
        ("one endorser twice", |w, d| d.endorsers[1] = w.peer(1).clone(), EndorsementPolicyFailure),
        (
            "clients endorse",
            |w, d| d.endorsers[1] = w.network.org(2).client.clone(),
            EndorsementPolicyFailure,
        ),
        (
            "a stranger endorses too",
            |_, d| d.endorsers.push(weft_testkit::Org::new("Org3MSP").peer),
            Valid,
        ),
        ("lifecycle by a majority", |_, d| d.set.write("_lifecycle", "k", "v"), Valid),
    ]);
}

#[test]
fn an_endorsement_over_other_results_does_not_count() {
    let world = World::new();
    let draft = world.draft();
    let mut payload = draft.payload();
    let mut changed = draft.clone();
    changed.set.write(CHAINCODE, "key", "another value");
    let other = changed.payload();
    // The other transaction with this one's endorsements.
    let endorsed = |payload: &Payload| {
        let tx = weft_protos::peer::Transaction::decode(payload.data.clone()).unwrap();
        let action = tx.actions[0].clone();
        let content =
            weft_protos::peer::ChaincodeActionPayload::decode(action.payload.clone()).unwrap();
        (tx, content)
    };
    let (mut tx, mut content) = endorsed(&payload);
    let (_, others) = endorsed(&other);
    content.action.as_mut().unwrap().proposal_response_payload =
        others.action.unwrap().proposal_response_payload;
    tx.actions[0].payload = content.encode_to_vec().into();
    payload.data = tx.encode_to_vec().into();
    let raw = draft.sign(payload.encode_to_vec().into()).encode_to_vec();
    assert_eq!(world.code(raw.into()), EndorsementPolicyFailure);
}

#[test]
fn collection_policies() {
    let mut world = World::new();
    let definitions = (*world.definitions)
        .clone()
        .with_collection(CHAINCODE, "plain", None)
        .with_collection(CHAINCODE, "first", Some("OR('Org1MSP.peer')"))
        .with_collection(CHAINCODE, "second", Some("OR('Org2MSP.peer')"));
    world.definitions = definitions.into();
    let code = |collections: &[&str], endorsers: &[usize]| {
        let mut draft = world.draft();
        draft.set = Default::default();
        for collection in collections {
            draft.set.write_hash(CHAINCODE, collection, "key");
        }
        draft.endorsers = endorsers.iter().map(|org| world.peer(*org).clone()).collect();
        world.code(draft.raw())
    };
    assert_eq!(code(&["first"], &[1]), Valid);
    assert_eq!(code(&["first"], &[2]), EndorsementPolicyFailure);
    assert_eq!(code(&["first", "second"], &[1]), EndorsementPolicyFailure);
    assert_eq!(code(&["first", "second"], &[1, 2]), Valid);
    assert_eq!(code(&["plain"], &[1]), EndorsementPolicyFailure);
    assert_eq!(code(&["plain"], &[1, 2]), Valid);
    assert_eq!(code(&["missing"], &[1, 2]), EndorsementPolicyFailure);
    assert_eq!(code(&["_implicit_org_Org1MSP"], &[1]), Valid);
    assert_eq!(code(&["_implicit_org_Org1MSP"], &[2]), EndorsementPolicyFailure);
    assert_eq!(code(&["_implicit_org_Org9MSP"], &[1, 2]), EndorsementPolicyFailure);
}

#[test]
fn key_policies() {
    let mut world = World::new();
    world.state.put(CHAINCODE, "own", (1, 0), Some("OR('Org1MSP.peer')"));
    world.state.put(CHAINCODE, "plain", (1, 1), None);
    world.state.put_hash(CHAINCODE, "_implicit_org_Org1MSP", "own", Some("OR('Org2MSP.peer')"));
    let code = |keys: &[&str], endorsers: &[usize]| {
        let mut draft = world.draft();
        draft.set = Default::default();
        for key in keys {
            draft.set.write(CHAINCODE, key, "after");
        }
        draft.endorsers = endorsers.iter().map(|org| world.peer(*org).clone()).collect();
        world.code(draft.raw())
    };
    assert_eq!(code(&["own"], &[1]), Valid, "the key's policy stands in for the chaincode's");
    assert_eq!(code(&["own"], &[2]), EndorsementPolicyFailure);
    assert_eq!(code(&["own", "plain"], &[1]), EndorsementPolicyFailure);
    assert_eq!(code(&["own", "plain"], &[1, 2]), Valid);

    let mut draft = world.draft();
    draft.set = Default::default();
    draft.set.write_hash(CHAINCODE, "_implicit_org_Org1MSP", "own");
    draft.endorsers = vec![world.peer(1).clone()];
    assert_eq!(world.code(draft.raw()), EndorsementPolicyFailure);
    draft.endorsers = vec![world.peer(2).clone()];
    assert_eq!(world.code(draft.raw()), Valid);
}

#[test]
fn a_policy_that_changes_within_the_block() {
    let world = World::new();
    let mut sets = world.draft();
    sets.set.write_policy(CHAINCODE, "key", "OR('Org1MSP.peer')");
    let writes = world.draft();
    let mut elsewhere = world.draft();
    elsewhere.set = Default::default();
    elsewhere.set.write(CHAINCODE, "another key", "value");
    let block = [sets.raw(), writes.raw(), elsewhere.raw()];
    assert_eq!(world.codes(&block), [Valid, EndorsementPolicyFailure, Valid]);
    let block = [writes.raw(), sets.raw()];
    assert_eq!(world.codes(&block), [Valid, Valid], "only earlier ones count");

    // One that fails sets nothing.
    sets.endorsers.clear();
    let block = [sets.raw(), writes.raw()];
    assert_eq!(world.codes(&block), [EndorsementPolicyFailure, Valid]);

    // One that fails later does: its policy was judged before its versions were.
    let mut conflicting = world.draft();
    conflicting.set.write_policy(CHAINCODE, "key", "OR('Org1MSP.peer')");
    conflicting.set.read(CHAINCODE, "missing", Some((1, 1)));
    let block = [conflicting.raw(), writes.raw()];
    assert_eq!(world.codes(&block), [MvccReadConflict, EndorsementPolicyFailure]);
}

#[test]
fn policies_that_cannot_be_used_satisfy_nobody() {
    let mut world = World::new();
    let missing = (*world.definitions).clone().with(CHAINCODE, "/Channel/Application/Missing");
    world.definitions = missing.into();
    assert_eq!(world.code(world.draft().raw()), EndorsementPolicyFailure);
    let mut junk = (*world.definitions).clone();
    junk.0.get_mut(CHAINCODE).unwrap().policy = Bytes::from_static(&[0xff]);
    world.definitions = junk.into();
    assert_eq!(world.code(world.draft().raw()), EndorsementPolicyFailure);
    let channel = (*world.definitions).clone().with(CHAINCODE, "/Channel/Application/Endorsement");
    world.definitions = channel.into();
    assert_eq!(world.code(world.draft().raw()), Valid);
}

#[test]
fn duplicates_in_the_chain_and_in_the_block() {
    let mut world = World::new();
    let (first, second) = (world.draft(), world.draft());
    let block = [first.raw(), second.raw(), first.raw(), first.raw()];
    assert_eq!(world.codes(&block), [Valid, Valid, DuplicateTxid, DuplicateTxid]);
    world.known.0.insert(first.id());
    assert_eq!(world.codes(&block), [DuplicateTxid, Valid, DuplicateTxid, DuplicateTxid]);

    // A copy of one that was not endorsed is no duplicate.
    let mut unendorsed = second.clone();
    unendorsed.endorsers.clear();
    let block = [unendorsed.raw(), second.raw()];
    assert_eq!(world.codes(&block), [EndorsementPolicyFailure, Valid]);
}

#[test]
fn versions_and_phantoms() {
    let mut world = World::new();
    world.state.put(CHAINCODE, "a", (3, 1), None);
    let reads = |key: &str, version| {
        let mut draft = world.draft();
        draft.set.read(CHAINCODE, key, version);
        draft.raw()
    };
    assert_eq!(world.code(reads("a", Some((3, 1)))), Valid);
    assert_eq!(world.code(reads("a", Some((3, 0)))), MvccReadConflict);
    assert_eq!(world.code(reads("a", None)), MvccReadConflict);
    assert_eq!(world.code(reads("b", None)), Valid);
    let twice = [reads("key", None), reads("key", None)];
    assert_eq!(world.codes(&twice), [Valid, MvccReadConflict]);

    let mut range = world.draft();
    range.set.namespace(CHAINCODE).1.range_queries_info.push(RangeQueryInfo {
        start_key: "a".into(),
        end_key: "b".into(),
        itr_exhausted: true,
        reads_info: Some(ReadsInfo::RawReads(QueryReads::default())),
    });
    assert_eq!(world.code(range.raw()), PhantomReadConflict);
}

#[test]
fn of_a_hundred_spends_one_is_valid_and_the_sum_stays() {
    let mut world = World::new();
    for (place, account) in (0..).zip(["alice", "bob"]) {
        world.state.put(CHAINCODE, account, (1, place), None);
    }
    let spend = |amount: usize| {
        let mut draft = world.draft();
        draft.set = Default::default();
        draft.set.read(CHAINCODE, "alice", Some((1, 0)));
        draft.set.read(CHAINCODE, "bob", Some((1, 1)));
        draft.set.write(CHAINCODE, "alice", &(100 - amount).to_string());
        draft.set.write(CHAINCODE, "bob", &(100 + amount).to_string());
        draft.raw()
    };
    let block: Vec<_> = (0..100).map(spend).collect();
    let validated = world.validate(2, &block);
    let valid = validated.codes.iter().filter(|code| **code == Valid).count();
    assert_eq!(valid, 1);
    assert_eq!(validated.codes[0], Valid);
    let after = |account| {
        let update = validated.updates.get(CHAINCODE, account).unwrap();
        let value = update.value.clone().unwrap();
        std::str::from_utf8(&value).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(after("alice") + after("bob"), 200);
}

#[test]
fn configurations_stand_alone() {
    let world = World::new();
    let genesis = world.network.genesis(support::CHANNEL);
    let mut draft = world.draft();
    draft.channel_header.r#type = HeaderType::Config.into();
    draft.data = Some(genesis.data.unwrap().data[0].clone());
    assert_eq!(world.codes(&[draft.raw()]), [Valid]);
    let other = world.draft();
    assert_eq!(world.codes(&[draft.raw(), other.raw()]), [InvalidConfigTransaction, Valid]);
}

#[test]
fn expired_certificates_stay_valid_in_the_chain() {
    let world = World::new();
    let long_ago = weft_crypto::Validity {
        not_before: weft_types::Timestamp::from_seconds(1_600_000_000),
        not_after: weft_types::Timestamp::from_seconds(1_600_086_400),
    };
    let org = world.network.org(1);
    let mut draft = world.draft();
    draft.creator = org.identity_valid("expired", weft_msp::NodeRole::Client, long_ago);
    draft.endorsers[0] = org.identity_valid("expired", weft_msp::NodeRole::Peer, long_ago);
    assert_eq!(world.code(draft.raw()), Valid);
}

#[test]
fn revoked_certificates_count_for_nothing() {
    let mut network = weft_testkit::Network::new(2, 1);
    let (client, peer) = (network.org(1).client.clone(), network.org(2).peer.clone());
    network.orgs[0].revoke(&[client.certificate().clone()]);
    network.orgs[1].revoke(&[peer.certificate().clone()]);
    let mut world = World::new();
    world.bundle = network.bundle(support::CHANNEL);
    world.network = network;
    assert_eq!(world.code(world.draft().raw()), BadCreatorSignature);
    let mut draft = world.draft();
    draft.creator = world.network.org(1).admin.clone();
    assert_eq!(world.code(draft.raw()), EndorsementPolicyFailure);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// A transaction that was changed anywhere is not valid, and changes nobody's mind by a panic.
    #[test]
    fn any_changed_byte_is_noticed(place in 0usize..1 << 20, flip in 1u8..=255, cut in proptest::bool::ANY) {
        thread_local! {
            static SAMPLE: (World, Bytes) = {
                let world = World::new();
                let raw = world.draft().raw();
                (world, raw)
            };
        }
        SAMPLE.with(|(world, raw)| {
            let mut bytes = raw.to_vec();
            let place = place % bytes.len();
            if cut {
                bytes.truncate(place);
            } else {
                bytes[place] ^= flip;
            }
            assert_ne!(world.code(bytes.into()), Valid);
        });
    }

    /// Bytes of any kind inside a well-signed envelope get a code.
    #[test]
    fn any_content_gets_a_code(
        data in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        layer in 0usize..5,
    ) {
        thread_local! {
            static WORLD: World = World::new();
        }
        WORLD.with(|world| {
            let mut draft = world.draft();
            let data = Bytes::from(data);
            match layer {
                0 => draft.data = Some(data),
                1 => draft.results = Some(data),
                2 => draft.response_extension = Some(data),
                3 => draft.extension = Some(data),
                _ => draft.events = data,
            }
            let code = world.code(draft.raw());
            // Only an empty event or set says nothing wrong.
            assert!(code != Valid || layer == 1 || draft.events.is_empty());
        });
    }
}
