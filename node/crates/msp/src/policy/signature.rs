//! Signature policies: thresholds over principals (Fabric: common/cauthdsl/cauthdsl.go).
//!
//! The evaluation is Fabric's, step by step, because every node must come to the same result: rules
//! are tried in order, a rule takes the first unused identity that satisfies its principal, every
//! rule of a threshold is tried even when enough hold, and a rule that fails gives back what it
//! took. It does not look for a better assignment, so the order of rules and signers can matter
//! where an identity satisfies several principals.

use weft_protos::common::{
    MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope,
    signature_policy::{NOutOf, Type},
};

use super::{
    CompileError, dsl,
    evaluation::{Evaluation, Used},
};
use crate::principal::{Principal, PrincipalError};

enum Rule {
    /// Index of a principal.
    SignedBy(usize),
    /// How many of the rules have to hold; not positive is always the case.
    NOutOf(i32, Vec<Rule>),
}

/// A signature policy with its principals decoded.
pub(super) struct Signature {
    envelope: SignaturePolicyEnvelope,
    rule: Rule,
    principals: Vec<Result<Principal, PrincipalError>>,
}

impl Signature {
    pub(super) fn new(envelope: &SignaturePolicyEnvelope) -> Result<Self, CompileError> {
        if envelope.version != 0 {
            return Err(CompileError::Version(envelope.version));
        }
        let root = envelope.rule.as_ref().ok_or(CompileError::Empty)?;
        let rule = compile(root, envelope.identities.len())?;
        let principals = envelope.identities.iter().map(Principal::decode).collect();
        Ok(Self { envelope: envelope.clone(), rule, principals })
    }

    pub(super) fn envelope(&self) -> &SignaturePolicyEnvelope {
        &self.envelope
    }

    pub(super) fn holds(&self, evaluation: Evaluation<'_>) -> bool {
        if evaluation.identities.len() <= u64::BITS as usize {
            self.holds_with(evaluation, 0_u64)
        } else {
            self.holds_with(evaluation, vec![false; evaluation.identities.len()])
        }
    }

    fn holds_with<U: Used>(&self, evaluation: Evaluation<'_>, mut used: U) -> bool {
        evaluation.mark_repeated(&mut used);
        self.rule_holds(&self.rule, evaluation, &mut used)
    }

    fn rule_holds<U: Used>(&self, rule: &Rule, evaluation: Evaluation<'_>, used: &mut U) -> bool {
        match rule {
            Rule::SignedBy(principal) => self.take(*principal, evaluation, used),
            Rule::NOutOf(needed, rules) => self.count(rules, evaluation, used) >= *needed,
        }
    }

    fn count<U: Used>(&self, rules: &[Rule], evaluation: Evaluation<'_>, used: &mut U) -> i32 {
        let mut count = 0;
        for rule in rules {
            let mut trial = used.clone();
            if self.rule_holds(rule, evaluation, &mut trial) {
                count += 1;
                *used = trial;
            }
        }
        count
    }

    /// Uses up the first unused identity that satisfies the principal.
    fn take<U: Used>(&self, principal: usize, evaluation: Evaluation<'_>, used: &mut U) -> bool {
        let Some(Ok(principal)) = self.principals.get(principal) else { return false };
        let found = evaluation.identities.iter().enumerate().find(|(index, identity)| {
            !used.is_marked(*index) && principal.check(identity, evaluation.at).is_ok()
        });
        if let Some((index, _)) = found {
            used.mark(index);
        }
        found.is_some()
    }

    /// How many of the outermost rules hold, how many have to, and the policy as text.
    pub(super) fn explain(&self, evaluation: Evaluation<'_>) -> (usize, usize, String) {
        let mut used = vec![false; evaluation.identities.len()];
        evaluation.mark_repeated(&mut used);
        let (count, needed) = match &self.rule {
            Rule::SignedBy(principal) => {
                (i32::from(self.take(*principal, evaluation, &mut used)), 1)
            }
            Rule::NOutOf(needed, rules) => (self.count(rules, evaluation, &mut used), *needed),
        };
        let positive = |number: i32| usize::try_from(number).unwrap_or_default();
        (positive(count), positive(needed), dsl::describe(&self.envelope))
    }
}

fn compile(policy: &SignaturePolicy, principals: usize) -> Result<Rule, CompileError> {
    match &policy.r#type {
        None => Err(CompileError::Empty),
        Some(Type::SignedBy(index)) => match usize::try_from(*index) {
            Ok(principal) if principal < principals => Ok(Rule::SignedBy(principal)),
            _ => Err(CompileError::PrincipalIndex { index: *index, count: principals }),
        },
        Some(Type::NOutOf(threshold)) => {
            let rules = threshold.rules.iter().map(|rule| compile(rule, principals));
            Ok(Rule::NOutOf(threshold.n, rules.collect::<Result<_, _>>()?))
        }
    }
}

/// The policy that one signature of any of `principals` satisfies; without any, nobody does.
#[must_use]
pub fn any_of(principals: Vec<MspPrincipal>) -> SignaturePolicyEnvelope {
    let signed_by = |index| SignaturePolicy { r#type: Some(Type::SignedBy(index)) };
    let rules = (0_i32..).take(principals.len()).map(signed_by).collect();
    envelope(1, rules, principals)
}

/// A signature policy of a threshold over `rules`.
pub(super) fn envelope(
    needed: usize,
    rules: Vec<SignaturePolicy>,
    identities: Vec<MspPrincipal>,
) -> SignaturePolicyEnvelope {
    let n = i32::try_from(needed).unwrap_or(i32::MAX);
    let rule = SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n, rules })) };
    SignaturePolicyEnvelope { version: 0, rule: Some(rule), identities }
}

/// Adds the principals of `other` that are not yet among `principals`, and returns its rule with
/// the indexes that the principals have there.
pub(super) fn merge_into(
    principals: &mut Vec<MspPrincipal>,
    other: &SignaturePolicyEnvelope,
) -> SignaturePolicy {
    let moved: Vec<usize> = other
        .identities
        .iter()
        .map(|principal| {
            principals.iter().position(|known| known == principal).unwrap_or_else(|| {
                principals.push(principal.clone());
                principals.len() - 1
            })
        })
        .collect();
    other.rule.as_ref().map_or_else(SignaturePolicy::default, |rule| renumber(rule, &moved))
}

fn renumber(rule: &SignaturePolicy, moved: &[usize]) -> SignaturePolicy {
    let renumbered = match &rule.r#type {
        Some(Type::SignedBy(index)) => {
            let to = usize::try_from(*index).ok().and_then(|index| moved.get(index));
            // Policies are compiled before they are merged, so every index is one that was moved.
            to.and_then(|to| i32::try_from(*to).ok()).map(Type::SignedBy)
        }
        Some(Type::NOutOf(threshold)) => {
            let rules = threshold.rules.iter().map(|rule| renumber(rule, moved)).collect();
            Some(Type::NOutOf(NOutOf { n: threshold.n, rules }))
        }
        None => None,
    };
    SignaturePolicy { r#type: renumbered }
}
