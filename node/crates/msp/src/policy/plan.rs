//! Which sets of principals satisfy a signature policy: what endorsements are collected by.

use std::collections::BTreeSet;

use weft_protos::common::{
    MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope, signature_policy::Type,
};

use super::CompileError;

/// A limit that fits networks of some dozen organizations.
pub const DEFAULT_LIMIT: usize = 1024;

/// How many sets may be built on the way, for each one that is returned.
const WORK_PER_SET: usize = 64;

/// How many different identities have to satisfy a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalCount {
    /// The principal.
    pub principal: MspPrincipal,
    /// How many, at least 1.
    pub count: usize,
}

/// The minimal sets of principals that satisfy `policy`, smallest first: each one is enough, and
/// would not be without any of its members. At most `limit` are returned; a policy with more is cut
/// off, which leaves correct sets but not all. None at all means that nothing satisfies the policy;
/// one empty set, that everything does.
///
/// Principals count as different unless they are equal: that a peer is also a member is not used.
///
/// # Errors
/// [`CompileError`] when the version is not 0, a rule is empty or refers to a principal that is not
/// there.
pub fn combinations(
    policy: &SignaturePolicyEnvelope,
    limit: usize,
) -> Result<Vec<Vec<PrincipalCount>>, CompileError> {
    if policy.version != 0 {
        return Err(CompileError::Version(policy.version));
    }
    let rule = policy.rule.as_ref().ok_or(CompileError::Empty)?;
    let first = first_equal(&policy.identities);
    let mut search = Search { first, limit, work: limit.saturating_mul(WORK_PER_SET) };
    let sets = minimal(search.sets(rule)?);
    let named = |(index, count): (usize, usize)| {
        let principal = policy.identities.get(index)?.clone();
        Some(PrincipalCount { principal, count })
    };
    Ok(sets.into_iter().map(|set| set.0.into_iter().filter_map(named).collect()).collect())
}

/// For every principal the index of the first one that equals it.
fn first_equal(principals: &[MspPrincipal]) -> Vec<usize> {
    let first = |principal| principals.iter().position(|other| other == principal);
    principals.iter().map(|principal| first(principal).unwrap_or_default()).collect()
}

/// Principals by index, ascending, with their counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Set(Vec<(usize, usize)>);

impl Set {
    fn size(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn count(&self, index: usize) -> usize {
        self.0.iter().find(|(known, _)| *known == index).map_or(0, |(_, count)| *count)
    }

    fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(index, count)| self.count(*index) >= *count)
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (index, count) in &other.0 {
            match sum.0.binary_search_by_key(index, |(known, _)| *known) {
                Ok(at) => {
                    if let Some((_, known)) = sum.0.get_mut(at) {
                        *known += count;
                    }
                }
                Err(at) => sum.0.insert(at, (*index, *count)),
            }
        }
        sum
    }
}

/// Sorts by size and drops what contains a smaller one.
fn minimal(sets: BTreeSet<Set>) -> Vec<Set> {
    let mut sets: Vec<_> = sets.into_iter().collect();
    sets.sort_by_key(Set::size);
    let mut kept: Vec<Set> = Vec::new();
    for set in sets {
        let size = set.size();
        let smaller = kept.iter().take_while(|known| known.size() < size);
        if !smaller.into_iter().any(|known| set.contains(known)) {
            kept.push(set);
        }
    }
    kept
}

struct Search {
    first: Vec<usize>,
    limit: usize,
    work: usize,
}

impl Search {
    fn sets(&mut self, rule: &SignaturePolicy) -> Result<BTreeSet<Set>, CompileError> {
        match &rule.r#type {
            None => Err(CompileError::Empty),
            Some(Type::SignedBy(index)) => {
                let known = usize::try_from(*index).ok().and_then(|index| self.first.get(index));
                let known = known.ok_or(CompileError::PrincipalIndex {
                    index: *index,
                    count: self.first.len(),
                })?;
                Ok(BTreeSet::from([Set(vec![(*known, 1)])]))
            }
            Some(Type::NOutOf(threshold)) => self.choose(threshold.n, &threshold.rules),
        }
    }

    /// All ways to satisfy `needed` of `rules`: `chosen[n]` are those that satisfy n of the rules
    /// looked at so far.
    fn choose(
        &mut self,
        needed: i32,
        rules: &[SignaturePolicy],
    ) -> Result<BTreeSet<Set>, CompileError> {
        let alternatives: Vec<_> =
            rules.iter().map(|rule| self.sets(rule)).collect::<Result<_, _>>()?;
        let needed = usize::try_from(needed).unwrap_or_default();
        if needed > rules.len() {
            return Ok(BTreeSet::new());
        }
        let mut chosen = vec![BTreeSet::new(); needed + 1];
        if let Some(none) = chosen.first_mut() {
            none.insert(Set::default());
        }
        for alternatives in &alternatives {
            for n in (0..needed).rev() {
                let Some([before, after]) = chosen.get_mut(n..n + 2) else { continue };
                self.extend(before, alternatives, after);
            }
        }
        Ok(chosen.pop().unwrap_or_default())
    }

    /// Adds every sum of one of `before` and one of `alternatives` to `sums`, within the limits.
    fn extend(
        &mut self,
        before: &BTreeSet<Set>,
        alternatives: &BTreeSet<Set>,
        sums: &mut BTreeSet<Set>,
    ) {
        for set in before {
            for alternative in alternatives {
                if sums.len() >= self.limit || self.work == 0 {
                    return;
                }
                self.work -= 1;
                sums.insert(set.plus(alternative));
            }
        }
    }
}
