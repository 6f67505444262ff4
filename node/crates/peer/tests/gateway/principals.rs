//! Sets of principals that satisfy several policies, written in the policy language.

use weft_msp::policy::dsl;
use weft_msp::{Principal, PrincipalRole};
use weft_peer::discovery::principals::{PrincipalSet, merge, principal, sets};

pub fn text(sets: &[PrincipalSet]) -> String {
    let one = |set: &PrincipalSet| {
        let parts = set.iter().map(|(key, count)| {
            let Ok(Principal::Role { msp_id, role }) = Principal::decode(&principal(key)) else {
                panic!("a role")
            };
            let role = if role == PrincipalRole::Member { "member" } else { role.as_str() };
            match count {
                1 => format!("{msp_id}.{role}"),
                count => format!("{count}x{msp_id}.{role}"),
            }
        });
        let mut parts: Vec<_> = parts.collect();
        parts.sort();
        parts.join("+")
    };
    let mut all: Vec<_> = sets.iter().map(one).collect();
    all.sort();
    all.join(" | ")
}

fn check(policies: &[&str], expected: &str) {
    let mut policies = policies.iter().map(|policy| sets(&dsl::parse(policy).unwrap()).unwrap());
    let first = policies.next().unwrap();
    let merged = policies.fold(first, |before, next| merge(&before, &next));
    assert_eq!(text(&merged), expected);
}

#[test]
fn one_policy() {
    check(&["OR('A.peer', 'B.peer')"], "A.peer | B.peer");
    check(
        &["OutOf(2, 'A.peer', 'B.peer', 'C.peer')"],
        "A.peer+B.peer | A.peer+C.peer | B.peer+C.peer",
    );
}

#[test]
fn an_endorsement_counts_for_every_policy() {
    check(&["AND('A.peer', 'B.peer')", "OR('A.peer', 'C.peer')"], "A.peer+B.peer");
    check(&["OR('A.peer', 'B.peer')", "OR('A.peer', 'C.peer')"], "A.peer | B.peer+C.peer");
}

#[test]
fn a_peer_is_a_member() {
    check(&["OR('A.peer')", "OR('A.member')"], "A.peer");
    check(&["AND('A.member', 'B.member')", "OR('B.peer')"], "A.member+B.peer");
}

#[test]
fn a_peer_does_not_stand_for_two_members() {
    check(&["OutOf(2, 'A.member', 'A.member')", "OR('A.peer')"], "A.member+A.peer");
    // One policy that asks for both keeps asking for both.
    check(&["AND('A.member', 'A.peer')", "OR('A.peer')"], "A.member+A.peer");
}

#[test]
fn policies_of_different_organizations_add_up() {
    check(&["OR('A.peer')", "OR('B.peer')", "OR('C.peer')"], "A.peer+B.peer+C.peer");
}
