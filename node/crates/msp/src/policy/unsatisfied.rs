//! What is told about a policy that is not satisfied.

use std::{fmt, sync::Arc};

use super::IgnoredReason;

/// How many names a message lists before it only counts.
const LISTED: usize = 8;

/// A signature that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredSignature {
    /// Which one of those that were passed, counted from 0.
    pub index: usize,
    /// Why.
    pub reason: IgnoredReason,
}

/// A policy that is not satisfied, for people who want to know what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsatisfied {
    /// The policy's name.
    pub policy: Arc<str>,
    /// How many rules, or policies of subgroups, hold.
    pub satisfied: usize,
    /// How many have to.
    pub needed: usize,
    /// The rules as text, or the subgroups' policies that do not hold.
    pub detail: String,
    /// Who signed.
    pub signers: Vec<String>,
    /// Signatures that were left out.
    pub ignored: Vec<IgnoredSignature>,
}

impl fmt::Display for Unsatisfied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "policy {} is not satisfied: {} of {} needed; {}; signed by ",
            self.policy, self.satisfied, self.needed, self.detail
        )?;
        if self.signers.is_empty() {
            f.write_str("nobody")?;
        }
        list(f, &self.signers, |f, signer| f.write_str(signer))?;
        if self.ignored.is_empty() {
            return Ok(());
        }
        f.write_str("; left out: ")?;
        list(f, &self.ignored, |f, ignored| {
            write!(f, "signature {} ({})", ignored.index, ignored.reason)
        })
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    write_one: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.iter().take(LISTED).enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write_one(f, item)?;
    }
    match items.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}
