//! Sets of principals that satisfy several policies at once.
//!
//! A policy is satisfied by any one of its sets ([`combinations`]). Where a transaction falls under
//! several policies, one set of each has to be met, and the same endorsement can count for all of
//! them (Fabric: common/policies/inquire/merge.go).

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_msp::policy::CompileError;
use weft_msp::policy::plan::{DEFAULT_LIMIT, combinations};
use weft_msp::{Principal, PrincipalRole};
use weft_protos::common::{MspPrincipal, SignaturePolicyEnvelope};

/// A principal in a form that sorts.
pub type PrincipalKey = (i32, Bytes);

/// How many different identities have to satisfy each principal.
pub type PrincipalSet = BTreeMap<PrincipalKey, usize>;

/// The key of a principal.
#[must_use]
pub fn key(principal: &MspPrincipal) -> PrincipalKey {
    (principal.principal_classification, principal.principal.clone())
}

/// The principal of a key.
#[must_use]
pub fn principal(key: &PrincipalKey) -> MspPrincipal {
    MspPrincipal { principal_classification: key.0, principal: key.1.clone() }
}

/// The sets that satisfy one policy, smallest first.
///
/// # Errors
/// [`CompileError`] when the policy is malformed.
pub fn sets(policy: &SignaturePolicyEnvelope) -> Result<Vec<PrincipalSet>, CompileError> {
    let sets = combinations(policy, DEFAULT_LIMIT)?;
    let set = |counts: Vec<weft_msp::policy::plan::PrincipalCount>| {
        counts.iter().map(|one| (key(&one.principal), one.count)).collect()
    };
    Ok(sets.into_iter().map(set).collect())
}

/// The sets that satisfy both of two policies, given the sets of each, smallest first.
#[must_use]
pub fn merge(one: &[PrincipalSet], other: &[PrincipalSet]) -> Vec<PrincipalSet> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| merge_sets(a, b)));
    minimal(pairs.take(DEFAULT_LIMIT * 16).collect())
}

/// The smallest set that contains both.
fn merge_sets(a: &PrincipalSet, b: &PrincipalSet) -> PrincipalSet {
    let mut merged = a.clone();
    for (key, count) in b {
        let known = merged.entry(key.clone()).or_default();
        *known = (*known).max(*count);
    }
    // Whoever has a role in an organization is a member of it too. What `b` asks of roles beyond
    // `a` can therefore serve `a` as members, and the other way round.
    let members: Vec<_> =
        merged.keys().filter_map(|key| Some((key.clone(), member_of(key)?))).collect();
    for (key, msp_id) in members {
        let spare = |from: &PrincipalSet, than: &PrincipalSet| -> usize {
            let roles = from.iter().filter(|(key, _)| role_in(key, &msp_id));
            roles.map(|(key, n)| n.saturating_sub(count(than, key))).sum()
        };
        let needed = count(a, &key)
            .saturating_sub(spare(b, a))
            .max(count(b, &key).saturating_sub(spare(a, b)));
        match needed {
            0 => merged.remove(&key),
            needed => merged.insert(key, needed),
        };
    }
    merged
}

fn count(set: &PrincipalSet, key: &PrincipalKey) -> usize {
    set.get(key).copied().unwrap_or_default()
}

/// The organization whose members a principal stands for.
fn member_of(key: &PrincipalKey) -> Option<String> {
    match Principal::decode(&principal(key)) {
        Ok(Principal::Role { msp_id, role: PrincipalRole::Member }) => Some(msp_id),
        _ => None,
    }
}

/// Whether a principal stands for a role in the organization other than being a member.
fn role_in(key: &PrincipalKey, msp_id: &str) -> bool {
    match Principal::decode(&principal(key)) {
        Ok(Principal::Role { msp_id: other, role }) => {
            role != PrincipalRole::Member && other == msp_id
        }
        _ => false,
    }
}

/// Sorts by size and drops what contains a smaller one.
fn minimal(mut sets: Vec<PrincipalSet>) -> Vec<PrincipalSet> {
    let size = |set: &PrincipalSet| set.values().sum::<usize>();
    sets.sort_by_key(|set| (size(set), set.len()));
    let mut kept: Vec<PrincipalSet> = Vec::new();
    for set in sets {
        let contains = |known: &PrincipalSet| known.iter().all(|(key, n)| count(&set, key) >= *n);
        if kept.len() < DEFAULT_LIMIT && !kept.iter().any(contains) {
            kept.push(set);
        }
    }
    kept
}
