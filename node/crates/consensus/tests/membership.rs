//! The rules by which consenters get ids and change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use bytes::Bytes;
use weft_consensus::membership::Difference;
use weft_consensus::{Change, Member, Membership, MembershipError as E};

fn keys(text: &str) -> Vec<Bytes> {
    text.chars().map(|c| Bytes::from(c.to_string())).collect()
}

/// `abc` as ids 1, 2, 3 with 4 to come.
fn abc() -> Membership {
    Membership::genesis(&keys("abc")).unwrap()
}

fn ids(membership: &Membership) -> Vec<u64> {
    membership.ids().collect()
}

#[test]
fn genesis() {
    assert_eq!((ids(&abc()), abc().next_id(), abc().quorum()), (vec![1, 2, 3], 4, 2));
    assert_eq!(abc().id_of(b"b"), Some(2));
    assert_eq!(Membership::genesis(&[]), Err(E::Empty));
    assert_eq!(Membership::genesis(&keys("aba")), Err(E::DuplicateConsenter(3)));
}

#[test]
fn metadata() {
    let check = |ids: &[u64], next, consenters| {
        Membership::from_metadata(ids, next, &keys(consenters)).map(|_| ())
    };
    assert_eq!(check(&[4, 2], 5, "ab"), Ok(()));
    assert_eq!(check(&[1], 2, "ab"), Err(E::Count { ids: 1, consenters: 2 }));
    assert_eq!(check(&[0, 1], 2, "ab"), Err(E::Id { id: 0, next_id: 2 }));
    assert_eq!(check(&[1, 2], 2, "ab"), Err(E::Id { id: 2, next_id: 2 }));
    assert_eq!(check(&[1, 1], 2, "ab"), Err(E::DuplicateId(1)));
    let heavy = |id, weight| Member { id, weight, consenter: Bytes::from(id.to_string()) };
    let new = |members| Membership::new(members, 9).map(|_| ());
    assert_eq!(new(vec![heavy(1, 0)]), Err(E::Weight { id: 1, weight: 0 }));
    let overflow = new(vec![heavy(1, u64::MAX), heavy(2, 1)]);
    assert_eq!(overflow, Err(E::Weight { id: 2, weight: 1 }));
}

#[test]
fn updates() {
    fn check(consenters: &str, expected: &[u64], next_id: u64, difference: Difference) {
        let next = abc().updated(&keys(consenters)).unwrap();
        assert_eq!((ids(&next), next.next_id()), (expected.to_vec(), next_id), "{consenters}");
        assert_eq!(abc().difference(&next), Ok(difference), "{consenters}");
    }
    check("abc", &[1, 2, 3], 4, Difference::None);
    check("cab", &[3, 1, 2], 4, Difference::None);
    check("abcd", &[1, 2, 3, 4], 5, Difference::Added(4));
    check("dabc", &[4, 1, 2, 3], 5, Difference::Added(4));
    check("ac", &[1, 3], 4, Difference::Removed(2));
    // One out and one in keeps the id: a rotated certificate.
    check("axc", &[1, 2, 3], 4, Difference::Replaced(2));
}

#[test]
fn ids_are_never_used_again() {
    let without = abc().updated(&keys("ab")).unwrap();
    let again = without.updated(&keys("abc")).unwrap();
    assert_eq!((ids(&again), again.next_id()), (vec![1, 2, 4], 5));
}

/// A next id may come from another node: at the end of the numbers nobody is added any more.
#[test]
fn ids_have_an_end() {
    let last = Membership::from_metadata(&[1, 2], u64::MAX, &keys("ab")).unwrap();
    let refused = Err(E::Id { id: u64::MAX, next_id: u64::MAX });
    assert_eq!(last.updated(&keys("abc")), refused);
    assert_eq!(last.difference(&last.updated(&keys("b")).unwrap()), Ok(Difference::Removed(1)));
}

#[test]
fn one_change_at_a_time() {
    let refused = |consenters| abc().updated(&keys(consenters)).unwrap_err();
    assert_eq!(refused("abcde"), E::TooManyChanges { added: 2, removed: 0 });
    assert_eq!(refused("a"), E::TooManyChanges { added: 0, removed: 2 });
    assert_eq!(refused("axy"), E::TooManyChanges { added: 2, removed: 2 });
    assert_eq!(Membership::genesis(&keys("a")).unwrap().updated(&[]), Err(E::Empty));
    // Ids that were not assigned by the rules are noticed, whoever proposes them.
    let forged = Membership::from_metadata(&[1, 2, 3, 9], 10, &keys("abcd")).unwrap();
    assert_eq!(abc().difference(&forged), Err(E::Assignment { id: 9 }));
    let skipped = Membership::from_metadata(&[1, 2, 3], 9, &keys("abc")).unwrap();
    assert_eq!(abc().difference(&skipped), Err(E::Assignment { id: 9 }));
    let swapped = Membership::from_metadata(&[2, 1, 3], 4, &keys("abc")).unwrap();
    assert!(matches!(abc().difference(&swapped), Err(E::TooManyChanges { .. })));
}

#[test]
fn a_quorum_has_to_be_alive() {
    fn check(from: &str, to: &str, active: &[u64], expected: Result<(), (usize, usize, usize)>) {
        let now = Membership::genesis(&keys(from)).unwrap();
        let next = now.updated(&keys(to)).unwrap();
        let active: BTreeSet<u64> = active.iter().copied().collect();
        let result = now.check_change(&next, &active).map(|_| ()).map_err(|error| match error {
            E::QuorumLoss { active, members, quorum } => (active, members, quorum),
            other => panic!("{other}"),
        });
        assert_eq!(result, expected, "{from} to {to} with {active:?}");
    }
    // Growing: the newcomer is not up yet.
    check("a", "ab", &[1], Ok(()));
    check("ab", "abc", &[1, 2], Ok(()));
    check("ab", "abc", &[1], Err((1, 3, 2)));
    check("abc", "abcd", &[1, 2, 3], Ok(()));
    check("abc", "abcd", &[1, 2], Err((2, 4, 3)));
    // Shrinking: removing who is down helps, removing who is up may not.
    check("abc", "ab", &[1, 2], Ok(()));
    check("abc", "ac", &[1, 2], Err((1, 2, 2)));
    check("abcd", "abc", &[1, 2, 4], Ok(()));
    check("ab", "a", &[1], Ok(()));
    // Replacing: the same node with another certificate; it counts as it did.
    check("abc", "abx", &[1, 3], Ok(()));
    check("abc", "abx", &[1, 2], Ok(()));
    check("abc", "abx", &[1], Err((1, 3, 2)));
    // Leaving the members alone is always possible.
    check("abc", "cba", &[1], Ok(()));
}

#[test]
fn round_trips() {
    let next = abc().updated(&keys("abcd")).unwrap();
    let mut encoded = Vec::new();
    abc().change_to(&next).encode(&mut encoded);
    abc().change_to(&abc()).encode(&mut encoded);
    let mut input = Bytes::from(encoded);
    assert_eq!(Change::decode(&mut input), Ok(Change::To(next)));
    assert_eq!(Change::decode(&mut input), Ok(Change::None));
    assert!(Change::decode(&mut input).is_err());
}
