//! Signature policies against independent evaluations of the same rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use weft_msp::{
    Authenticated, Identity, MspManager, Policy, PolicyError, Principal, PrincipalRole,
    SigningIdentity, ValidAt,
    policy::{CompileError, IgnoredReason, dsl, plan},
};
use weft_protos::common::{
    MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope,
    signature_policy::{NOutOf, Type},
};
use weft_types::Timestamp;

/// Three organizations with two peers, a client and an administrator each.
struct World {
    msps: Arc<MspManager>,
    signers: Vec<SigningIdentity>,
    identities: Vec<Arc<Identity>>,
    authenticated: Vec<Authenticated>,
}

const KINDS: [&str; 4] = ["peer", "peer", "client", "admin"];

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let orgs: Vec<_> = ["A", "B", "C"].into_iter().map(Org::new).collect();
        let msps = manager(&orgs);
        let signers: Vec<_> =
            orgs.iter().flat_map(|org| KINDS.map(|kind| org.signer(kind, &[kind]))).collect();
        let identities = signers.iter().map(|signer| read(&msps, signer)).collect();
        let authenticated = signers.iter().map(|signer| authenticated(&msps, signer)).collect();
        World { msps, signers, identities, authenticated }
    })
}

fn policy(envelope: &SignaturePolicyEnvelope) -> Policy {
    Policy::signature("test", envelope, Arc::clone(&world().msps)).unwrap()
}

fn parsed(text: &str) -> Policy {
    policy(&dsl::parse(text).unwrap())
}

/// Roles overlap: a peer is a member too.
fn overlapping() -> Vec<MspPrincipal> {
    let roles = [PrincipalRole::Member, PrincipalRole::Peer, PrincipalRole::Admin];
    let of = |msp_id| roles.into_iter().map(move |role| Principal::role(msp_id, role));
    ["A", "B", "C"].into_iter().flat_map(of).collect()
}

/// Nobody is of two of these.
fn disjoint() -> Vec<MspPrincipal> {
    let roles = [PrincipalRole::Client, PrincipalRole::Peer, PrincipalRole::Admin];
    let of = |msp_id| roles.into_iter().map(move |role| Principal::role(msp_id, role));
    ["A", "B", "C"].into_iter().flat_map(of).collect()
}

fn rules() -> impl Strategy<Value = SignaturePolicy> {
    let leaf = (0..9).prop_map(|index| SignaturePolicy { r#type: Some(Type::SignedBy(index)) });
    leaf.prop_recursive(3, 12, 4, |inner| {
        (prop::collection::vec(inner, 0..4), -1..4).prop_map(|(rules, n)| SignaturePolicy {
            r#type: Some(Type::NOutOf(NOutOf { n, rules })),
        })
    })
}

/// Indexes of signers, in any order, possibly repeated.
fn signers() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..12_usize, 0..7)
}

fn chosen(signers: &[usize]) -> Vec<Authenticated> {
    signers.iter().map(|index| world().authenticated[*index].clone()).collect()
}

fn satisfies(principal: &MspPrincipal, signer: usize) -> bool {
    world().identities[signer].satisfies(principal, NOW).is_ok()
}

/// Every set of signers, as bits, that a rule can be satisfied with: all assignments there are.
fn ways(rule: &SignaturePolicy, principals: &[MspPrincipal], signers: &[usize]) -> Vec<u32> {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(index) => signers
            .iter()
            .filter(|signer| satisfies(&principals[*index as usize], **signer))
            .map(|signer| 1 << signer)
            .collect(),
        Type::NOutOf(NOutOf { n, rules }) => {
            // Each entry: how many rules are satisfied, and by whom.
            let mut partial = vec![(0, 0_u32)];
            for rule in rules {
                let alternatives = ways(rule, principals, signers);
                let mut more = Vec::new();
                for (count, used) in &partial {
                    let free = alternatives.iter().filter(|way| *way & used == 0);
                    more.extend(free.map(|way| (count + 1, used | way)));
                }
                partial.extend(more);
                partial.sort_unstable();
                partial.dedup();
            }
            partial.retain(|(count, _)| count >= n);
            partial.into_iter().map(|(_, used)| used).collect()
        }
    }
}

/// Fabric's evaluation, written down from its description: returns who is used up afterwards.
fn in_order(
    rule: &SignaturePolicy,
    principals: &[MspPrincipal],
    signers: &[usize],
    used: &[usize],
) -> Option<Vec<usize>> {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(index) => {
            let free = signers.iter().filter(|signer| !used.contains(signer));
            let first =
                { free }.find(|signer| satisfies(&principals[*index as usize], **signer))?;
            Some([used, &[*first]].concat())
        }
        Type::NOutOf(NOutOf { n, rules }) => {
            let (count, used) = rules.iter().fold((0, used.to_vec()), |(count, used), rule| {
                match in_order(rule, principals, signers, &used) {
                    Some(more) => (count + 1, more),
                    None => (count, used),
                }
            });
            (count >= *n).then_some(used)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The result is Fabric's, and never yes where no assignment of signers to principals exists.
    #[test]
    fn overlapping_principals(rule in rules(), signers in signers()) {
        let identities = overlapping();
        let envelope =
            SignaturePolicyEnvelope { version: 0, rule: Some(rule.clone()), identities };
        let result = policy(&envelope).evaluate_authenticated(&chosen(&signers), NOW).is_ok();
        let expected = in_order(&rule, &envelope.identities, &signers, &[]).is_some();
        prop_assert_eq!(result, expected);
        if result {
            prop_assert!(!ways(&rule, &envelope.identities, &signers).is_empty());
        }
    }

    /// Where nobody satisfies two principals, it is yes exactly when there is an assignment, in
    /// whatever order they signed.
    #[test]
    fn disjoint_principals(rule in flat_rules(), signers in signers()) {
        let identities = disjoint();
        let envelope =
            SignaturePolicyEnvelope { version: 0, rule: Some(rule.clone()), identities };
        let policy = policy(&envelope);
        let expected = !ways(&rule, &envelope.identities, &signers).is_empty();
        let mut chosen = chosen(&signers);
        prop_assert_eq!(policy.evaluate_authenticated(&chosen, NOW).is_ok(), expected);
        chosen.reverse();
        prop_assert_eq!(policy.evaluate_authenticated(&chosen, NOW).is_ok(), expected);
    }

    /// Who signs twice counts once.
    #[test]
    fn repetition_changes_nothing(rule in rules(), signers in signers()) {
        let envelope = SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule),
            identities: overlapping(),
        };
        let policy = policy(&envelope);
        let once = policy.evaluate_authenticated(&chosen(&signers), NOW).is_ok();
        let twice = [signers.clone(), signers].concat();
        prop_assert_eq!(policy.evaluate_authenticated(&chosen(&twice), NOW).is_ok(), once);
    }

    /// The planned sets are the minimal ones, all of them.
    #[test]
    fn plans_are_the_minimal_sets(rule in rules()) {
        let envelope = SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule.clone()),
            identities: disjoint(),
        };
        let planned = plan::combinations(&envelope, 10_000).unwrap();
        let mut found: Vec<Vec<usize>> = planned
            .iter()
            .map(|set| {
                let mut counts = vec![0; 9];
                for one in set {
                    let index = envelope.identities.iter().position(|p| *p == one.principal);
                    counts[index.unwrap()] += one.count;
                }
                counts
            })
            .collect();
        let mut expected: Vec<Vec<usize>> = counts(&rule);
        let all = expected.clone();
        expected.retain(|set| {
            !all.iter().any(|other| other != set && other.iter().zip(set).all(|(o, s)| o <= s))
        });
        expected.sort_unstable();
        expected.dedup();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

/// One threshold over principals, or over such thresholds without a principal in two of them: the
/// order of rules cannot matter then.
fn flat_rules() -> impl Strategy<Value = SignaturePolicy> {
    let threshold = |rules: Vec<i32>, n| {
        let rules = rules.into_iter().map(|i| SignaturePolicy { r#type: Some(Type::SignedBy(i)) });
        NOutOf { n, rules: rules.collect() }
    };
    let gate = |from: i32| {
        (prop::collection::vec(from..from + 3, 0..4), 0..4)
            .prop_map(move |(rules, n)| threshold(rules, n))
    };
    (gate(0), gate(3), gate(6), 0..5).prop_map(|(a, b, c, n)| {
        let rules = [a, b, c].map(|gate| SignaturePolicy { r#type: Some(Type::NOutOf(gate)) });
        SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n, rules: rules.to_vec() })) }
    })
}

/// How often each principal is asked for, for every choice of rules that is enough.
fn counts(rule: &SignaturePolicy) -> Vec<Vec<usize>> {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(index) => {
            let mut counts = vec![0; 9];
            counts[*index as usize] = 1;
            vec![counts]
        }
        Type::NOutOf(NOutOf { n, rules }) => {
            let mut partial = vec![(0, vec![0; 9])];
            for rule in rules {
                let alternatives = counts(rule);
                let mut more = Vec::new();
                for (count, before) in &partial {
                    for alternative in &alternatives {
                        let sum = before.iter().zip(alternative).map(|(b, a)| b + a).collect();
                        more.push((count + 1, sum));
                    }
                }
                partial.extend(more);
                partial.sort_unstable();
                partial.dedup();
            }
            partial.retain(|(count, _)| count >= n);
            partial.into_iter().map(|(_, counts)| counts).collect()
        }
    }
}

#[test]
fn the_order_of_rules_can_matter() {
    let peer_then_member = "AND('A.peer', 'A.member')";
    let member_then_peer = "AND('A.member', 'A.peer')";
    let (peer, client) = (0, 2);
    let signed_by = |text: &str, signers: &[usize]| {
        parsed(text).evaluate_authenticated(&chosen(signers), NOW).is_ok()
    };
    assert!(signed_by(peer_then_member, &[peer, client]));
    // The member rule takes the peer, and then there is none left, as in Fabric.
    assert!(!signed_by(member_then_peer, &[peer, client]));
    assert!(signed_by(member_then_peer, &[client, peer]));
}

#[test]
fn signatures_are_verified() {
    let world = world();
    let policy = parsed("AND('A.peer', 'B.peer')");
    let (a, b) = (&world.signers[0], &world.signers[4]);
    let good = [signed(a, b"data"), signed(b, b"data")];
    assert_eq!(policy.evaluate(&good, NOW), Ok(()));
    assert_eq!(policy.evaluate(&good, ValidAt::Issuance), Ok(()));

    let mut bad = good.clone();
    bad[1].data = Bytes::from_static(b"other");
    let Err(PolicyError::Unsatisfied(error)) = policy.evaluate(&bad, NOW) else { panic!() };
    assert_eq!((error.satisfied, error.needed), (1, 2));
    assert_eq!(error.signers, ["A/peer"]);
    assert_eq!(error.ignored[0].index, 1);
    assert!(matches!(error.ignored[0].reason, IgnoredReason::Signature(_)));
    assert_eq!(
        error.to_string(),
        "policy test is not satisfied: 1 of 2 needed; AND('A.peer', 'B.peer'); signed by A/peer; \
         left out: signature 1 (failed to verify a signature: it does not match the key and the \
         message)"
    );

    // A signature that does not hold does not keep a later one of the same identity from counting.
    let mut twice = vec![bad[1].clone()];
    twice.extend(good.clone());
    assert_eq!(policy.evaluate(&twice, NOW), Ok(()));

    let mut stranger = good.clone();
    stranger[0].identity = Bytes::from_static(b"nobody");
    let Err(PolicyError::Unsatisfied(error)) = policy.evaluate(&stranger, NOW) else { panic!() };
    assert!(matches!(error.ignored[0].reason, IgnoredReason::Identity(_)));

    let Err(PolicyError::Unsatisfied(error)) = policy.evaluate(&[], NOW) else { panic!() };
    assert!(error.to_string().ends_with("signed by nobody"), "{error}");
}

#[test]
fn a_second_signature_of_the_same_identity_is_left_out() {
    let world = world();
    let policy = parsed("AND('A.peer', 'A.peer')");
    let signer = &world.signers[0];
    let both = [signed(signer, b"one"), signed(signer, b"two")];
    let Err(PolicyError::Unsatisfied(error)) = policy.evaluate(&both, NOW) else { panic!() };
    assert_eq!(error.ignored[0].reason, IgnoredReason::Duplicate);
    let two = [signed(signer, b"one"), signed(&world.signers[1], b"one")];
    assert_eq!(policy.evaluate(&two, NOW), Ok(()));
    // Nor does writing its certificate differently help.
    let rewritten = with_other_s(signer.certificate());
    let mut disguised = both;
    disguised[1].identity = serialized("A", &rewritten);
    assert!(policy.evaluate(&disguised, NOW).is_err());
}

#[test]
fn expired_signers_do_not_count_now_but_did_then() {
    let policy = parsed("OR('A.member')");
    let signature = [signed(&world().signers[0], b"data")];
    let later = Timestamp::from_seconds(NOW.seconds() + 100_000_000);
    assert!(policy.evaluate(&signature, later).is_err());
    assert_eq!(policy.evaluate(&signature, ValidAt::Issuance), Ok(()));
}

/// More signers than fit into one word of marks.
#[test]
fn many_signers() {
    let org = Org::new("A");
    let msps = manager([&org]);
    let signer = |n: i32| org.signer(&n.to_string(), &["peer"]);
    let identities: Vec<_> = (0..70).map(|n| authenticated(&msps, &signer(n))).collect();
    let rules = (0..70).map(|_| SignaturePolicy { r#type: Some(Type::SignedBy(0)) }).collect();
    let envelope = |n| SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy {
            r#type: Some(Type::NOutOf(NOutOf { n, rules: Vec::clone(&rules) })),
        }),
        identities: vec![Principal::role("A", PrincipalRole::Peer)],
    };
    let policy = |n| Policy::signature("many", &envelope(n), Arc::clone(&msps)).unwrap();
    assert_eq!(policy(70).evaluate_authenticated(&identities, NOW), Ok(()));
    let mut repeated = identities.clone();
    repeated[69] = repeated[0].clone();
    assert!(policy(70).evaluate_authenticated(&repeated, NOW).is_err());
    assert_eq!(policy(69).evaluate_authenticated(&repeated, NOW), Ok(()));
}

#[test]
fn policies_that_cannot_be_set_up() {
    let check = |envelope: SignaturePolicyEnvelope, expected: CompileError| {
        let result = Policy::signature("x", &envelope, Arc::clone(&world().msps));
        assert_eq!(result.err(), Some(expected.clone()));
        assert_eq!(plan::combinations(&envelope, 10), Err(expected));
    };
    let rule = |r#type| Some(SignaturePolicy { r#type });
    let envelope = |rule| SignaturePolicyEnvelope { version: 0, rule, identities: disjoint() };
    check(envelope(None), CompileError::Empty);
    check(envelope(rule(None)), CompileError::Empty);
    for index in [-1, 9] {
        check(
            envelope(rule(Some(Type::SignedBy(index)))),
            CompileError::PrincipalIndex { index, count: 9 },
        );
    }
    let newer = SignaturePolicyEnvelope { version: 1, ..envelope(rule(Some(Type::SignedBy(0)))) };
    check(newer, CompileError::Version(1));
}

/// Somebody counts under the MSPs of the policy, whichever MSPs verified the signature.
#[test]
fn what_other_msps_made_of_a_signer_does_not_count() {
    let (real, mut made_up) = (Org::new("A"), Org::new("A"));
    let member = dsl::parse("OR('A.member')").unwrap();
    let policy = |org: &Org| Policy::signature("members", &member, manager([org])).unwrap();
    let judged = |policy: &Policy, who: &Authenticated| {
        policy.evaluate_authenticated(std::slice::from_ref(who), NOW)
    };
    let signer = real.signer("user", &["client"]);
    let here = authenticated(&manager([&real]), &signer);
    assert_eq!(judged(&policy(&real), &here), Ok(()), "other MSPs of the same definition");
    let intruder = authenticated(&manager([&made_up]), &made_up.signer("user", &["client"]));
    assert_eq!(judged(&policy(&made_up), &intruder), Ok(()));
    match judged(&policy(&real), &intruder) {
        Err(PolicyError::Unsatisfied(why)) => {
            assert!(matches!(why.ignored[0].reason, IgnoredReason::Identity(_)), "{why}");
        }
        other => panic!("{other:?}"),
    }

    // Revoked there and not here.
    let user = made_up.signer("gone", &["client"]);
    let before = manager([&made_up]);
    let ca = made_up.ca.clone();
    made_up.revoke(&ca, user.certificate());
    let user = authenticated(&before, &user);
    assert!(judged(&policy(&made_up), &user).is_err());
    assert!(manager([&made_up]).identity_of(&user).unwrap().validate(NOW).is_err());
    before.identity_of(&user).unwrap().validate(NOW).unwrap();
}

/// A principal that nobody can read is one that nobody satisfies.
#[test]
fn unreadable_principals() {
    let mut envelope = dsl::parse("OR('A.peer', 'B.peer')").unwrap();
    envelope.identities[0].principal = Bytes::from_static(b"\xff");
    let policy = policy(&envelope);
    assert!(policy.evaluate_authenticated(&chosen(&[0]), NOW).is_err());
    assert_eq!(policy.evaluate_authenticated(&chosen(&[4]), NOW), Ok(()));
}

#[test]
fn plans() {
    let check = |text: &str, expect: &[&[(&str, usize)]]| {
        let planned = plan::combinations(&dsl::parse(text).unwrap(), plan::DEFAULT_LIMIT).unwrap();
        let named: Vec<Vec<(String, usize)>> = planned
            .iter()
            .map(|set| {
                let named = set.iter().map(|one| {
                    let principal = Principal::decode(&one.principal).unwrap();
                    (principal.msp_id().unwrap().to_owned(), one.count)
                });
                named.collect()
            })
            .collect();
        let expect: Vec<Vec<(String, usize)>> = expect
            .iter()
            .map(|set| set.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect())
            .collect();
        assert_eq!(named, expect, "{text}");
    };
    check("OR('A.peer', 'B.peer')", &[&[("A", 1)], &[("B", 1)]]);
    check("AND('A.peer', 'B.peer')", &[&[("A", 1), ("B", 1)]]);
    check("AND('A.peer', 'A.peer')", &[&[("A", 2)]]);
    check("OR('A.peer', AND('A.peer', 'B.peer'))", &[&[("A", 1)]]);
    check(
        "OutOf(2, 'A.peer', 'B.peer', 'C.peer')",
        &[&[("A", 1), ("B", 1)], &[("A", 1), ("C", 1)], &[("B", 1), ("C", 1)]],
    );
    check("OutOf(0, 'A.peer')", &[&[]]);
    check("OutOf(2, 'A.peer')", &[]);
}

/// Plans of policies with more sets than anybody wants stay small, and what they hold is right.
#[test]
fn plans_are_bounded() {
    let principals: Vec<_> = (0..40).map(|n| format!("'O{n}.peer'")).collect();
    let text = format!("OutOf(20, {})", principals.join(", "));
    let planned = plan::combinations(&dsl::parse(&text).unwrap(), 100).unwrap();
    assert!((1..=100).contains(&planned.len()), "{}", planned.len());
    assert!(planned.iter().all(|set| set.iter().map(|one| one.count).sum::<usize>() == 20));
}
