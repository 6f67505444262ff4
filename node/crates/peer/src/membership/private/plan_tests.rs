#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weft_crypto::sha256;
use weft_ledger::private::WritesProof;
use weft_protos::gossip::PvtDataElement;
use weft_testkit::Network;
use weft_types::MspId;

use super::{BATCH, Digest, Plan, Question, Taken, Wanted, digest, encode};
use crate::membership::Member;
use crate::membership::message::PkiId;
use crate::private::Collection;

/// Peers `0`, `1`, … by number.
fn peers(count: u8) -> Vec<Arc<Member>> {
    let network = Network::new(1, 1);
    let identity = network.org(1).peer.authenticated();
    let peer = |number| Member {
        id: PkiId([number; 32]),
        identity: identity.clone(),
        endpoint: number.to_string(),
        alive: Default::default(),
        is_self: false,
    };
    (0..count).map(|number| Arc::new(peer(number))).collect()
}

fn value(index: u32) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn wanted(index: u32) -> Wanted {
    let org = MspId::new("Org1MSP").unwrap();
    Wanted {
        digest: Digest {
            block: 7,
            index,
            tx_id: format!("tx{index}"),
            namespace: "asset".to_owned(),
            collection: "secrets".to_owned(),
        },
        collection: Collection::implicit("secrets", &org),
        proof: WritesProof::new(sha256(&value(index)).to_vec().into()),
        endorsers: Vec::new(),
    }
}

fn element(index: u32, payload: &[Bytes]) -> PvtDataElement {
    PvtDataElement { digest: Some(encode(wanted(index).digest)), payload: payload.to_vec() }
}

/// `peer: place place …`
fn text(question: &Question) -> String {
    let places: Vec<_> = question.digests.iter().map(|one| one.index.to_string()).collect();
    format!("{}: {}", question.peer.endpoint, places.join(" "))
}

fn found(taken: &Taken) -> Vec<u32> {
    assert!(taken.found.iter().all(|one| one.writes == value(one.digest.index)));
    taken.found.iter().map(|one| one.digest.index).collect()
}

fn next(plan: &mut Plan, expect: &str) -> Question {
    let question = plan.next().unwrap_or_else(|| panic!("nothing instead of {expect:?}"));
    assert_eq!(text(&question), expect);
    question
}

#[test]
fn each_peer_is_asked_once_for_what_is_still_missing() {
    let peers = peers(3);
    let order = |of: &[usize]| of.iter().map(|at| Arc::clone(&peers[*at])).collect::<Vec<_>>();
    let mut plan = Plan::default();
    plan.add(wanted(0), order(&[0, 1, 2]));
    plan.add(wanted(1), order(&[0, 2]));
    plan.add(wanted(2), order(&[1, 0]));
    plan.add(wanted(3), order(&[]));
    let first = next(&mut plan, "0: 0 1");
    let second = next(&mut plan, "1: 2");
    assert!(plan.next().is_none(), "all that can be asked is under way");
    // What is found is not asked for again; the peer that had it is asked for the rest once more.
    assert_eq!(found(&plan.take(first, vec![element(0, &[value(0)])])), [0]);
    let again = next(&mut plan, "0: 1");
    assert!(plan.next().is_none());
    assert!(found(&plan.take(second, Vec::new())).is_empty());
    // Peer 0 is busy.
    assert!(plan.next().is_none());
    assert!(found(&plan.take(again, Vec::new())).is_empty());
    let questions: BTreeMap<_, _> =
        std::iter::from_fn(|| plan.next()).map(|question| (text(&question), question)).collect();
    assert_eq!(questions.keys().collect::<Vec<_>>(), ["0: 2", "2: 1"]);
    for question in questions.into_values() {
        plan.take(question, Vec::new());
    }
    assert!(plan.next().is_none(), "everybody was asked");
    assert_eq!(plan.missing(), 3);
}

#[test]
fn only_what_has_the_hash_is_taken() {
    let peers = peers(2);
    let mut plan = Plan::default();
    for index in 0..3 {
        plan.add(wanted(index), peers.iter().cloned());
    }
    let question = next(&mut plan, "0: 0 1 2");
    let answer = vec![
        PvtDataElement { digest: None, payload: vec![value(0)] },
        element(9, &[value(9)]),
        element(0, &[]),
        element(0, &[value(1), value(0)]),
        element(0, &[value(0)]),
        element(1, &[value(0), Bytes::new()]),
        element(1, &[value(1)]),
    ];
    let taken = plan.take(question, answer);
    assert_eq!(found(&taken), [0]);
    assert_eq!(taken.wrong.iter().map(|one| one.index).collect::<Vec<_>>(), [1]);
    // Whoever sent something else is not asked for it again.
    let one = next(&mut plan, "1: 1");
    let other = next(&mut plan, "0: 2");
    assert_eq!(found(&plan.take(one, vec![element(1, &[value(1)])])), [1]);
    assert_eq!(found(&plan.take(other, vec![element(2, &[value(2)])])), [2]);
    assert!(plan.next().is_none());
    assert_eq!(plan.missing(), 0);
}

#[test]
fn questions_are_bounded() {
    let peers = peers(1);
    let mut plan = Plan::default();
    let count = u32::try_from(BATCH).unwrap() + 3;
    (0..count).for_each(|index| plan.add(wanted(index), peers.iter().cloned()));
    let first = plan.next().unwrap();
    assert_eq!(first.digests.len(), BATCH);
    assert!(plan.next().is_none(), "a peer is asked one question at a time");
    plan.take(first, Vec::new());
    assert_eq!(plan.next().unwrap().digests.len(), 3);
}

#[test]
fn digests_are_read() {
    let one = wanted(3).digest;
    assert_eq!(digest(encode(one.clone())), Some(one.clone()));
    let mut beyond = encode(one);
    beyond.seq_in_block = u64::from(u32::MAX) + 1;
    assert_eq!(digest(beyond), None);
}
