//! Implicit meta policies: over the policies of a name in the direct subgroups (Fabric:
//! common/policies/implicitmeta.go).

use std::sync::Arc;

use weft_protos::common::{ImplicitMetaPolicy, implicit_meta_policy::Rule};

use super::{CompileError, Policy, evaluation::Evaluation, manager::PolicyManager};

/// The policy of one subgroup.
pub(super) struct Sub {
    /// Where it is, or would be.
    pub(super) path: String,
    /// `None` where the subgroup has no such policy: it never holds.
    pub(super) policy: Option<Arc<Policy>>,
}

/// A threshold over the policies of a name in the direct subgroups.
pub(super) struct ImplicitMeta {
    threshold: usize,
    subs: Vec<Sub>,
}

impl ImplicitMeta {
    pub(super) fn new(
        meta: &ImplicitMetaPolicy,
        children: &[(&String, &PolicyManager)],
    ) -> Result<Self, CompileError> {
        let rule = Rule::try_from(meta.rule).map_err(|_| CompileError::ImplicitRule(meta.rule))?;
        let sub = |(_, child): &(&String, &PolicyManager)| Sub {
            path: format!("{}/{}", child.path(), meta.sub_policy),
            policy: child.get(&meta.sub_policy).ok().cloned(),
        };
        let subs: Vec<_> = children.iter().map(sub).collect();
        Ok(Self { threshold: threshold(rule, subs.len()), subs })
    }

    pub(super) fn threshold(&self) -> usize {
        self.threshold
    }

    pub(super) fn subs(&self) -> &[Sub] {
        &self.subs
    }

    pub(super) fn holds(&self, evaluation: Evaluation<'_>) -> bool {
        let holding = self.subs.iter().filter(|sub| sub.holds(evaluation));
        holding.take(self.threshold).count() == self.threshold
    }

    /// How many of the subgroups' policies hold, how many have to, and which do not.
    pub(super) fn explain(&self, evaluation: Evaluation<'_>) -> (usize, usize, String) {
        let failed: Vec<_> = self.subs.iter().filter(|sub| !sub.holds(evaluation)).collect();
        let satisfied = self.subs.len() - failed.len();
        let named = failed.iter().map(|sub| match sub.policy {
            Some(_) => sub.path.clone(),
            None => format!("{} (does not exist)", sub.path),
        });
        let named: Vec<_> = named.collect();
        (satisfied, self.threshold, format!("not satisfied: {}", named.join(", ")))
    }
}

impl Sub {
    fn holds(&self, evaluation: Evaluation<'_>) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.holds(evaluation))
    }
}

/// Without subgroups there is nothing to ask for, whatever the rule.
fn threshold(rule: Rule, count: usize) -> usize {
    match rule {
        Rule::Any => count.min(1),
        Rule::All => count,
        Rule::Majority if count == 0 => 0,
        Rule::Majority => count / 2 + 1,
    }
}
