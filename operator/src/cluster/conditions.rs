//! Conditions: what a status says, and when what it says began. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions. All are positive: `True` is good.
pub mod kind {
    /// Everything that the object stands for works.
    pub const READY: &str = "Ready";
    /// Authorities are the ones that were made, and no certificate is about to end.
    pub const CERTIFICATES: &str = "CertificatesReady";
    /// Every orderer serves. A channel has it only where one does not serve that channel.
    pub const ORDERERS: &str = "OrderersReady";
    /// Every peer serves.
    pub const PEERS: &str = "PeersReady";
    /// Every channel of the network is ready.
    pub const CHANNELS: &str = "ChannelsReady";
    /// Every chaincode of the network is ready.
    pub const CHAINCODES: &str = "ChaincodesReady";
    /// A channel's config on the ledger is what the spec says.
    pub const CONFIG: &str = "ConfigInSync";
    /// A chaincode's program runs.
    pub const PROGRAM: &str = "ProgramReady";
    /// A chaincode's definition on the ledger is what the spec says.
    pub const COMMITTED: &str = "Committed";
    /// The spec can be carried out; `False` when a step was refused.
    pub const PROGRESSING: &str = "Progressing";
}

/// What is so now: one condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One of [`kind`].
    pub kind: &'static str,
    /// `True`, `False`; `None` is `Unknown`.
    pub status: Option<bool>,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence for people, without a stop at its end.
    pub message: String,
}

impl Finding {
    /// It is so.
    pub fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Finding {
        Finding { kind, status: Some(true), reason, message: message.into() }
    }

    /// It is not so.
    pub fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Finding {
        Finding { kind, status: Some(false), reason, message: message.into() }
    }

    /// It is not known.
    pub fn unknown(
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Finding {
        Finding { kind, status: None, reason, message: message.into() }
    }

    fn status_word(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }

    /// `Ready` from its parts: the first part that does not hold says why.
    pub fn roll_up(parts: &[Finding], ready: impl Into<String>) -> Finding {
        match parts.iter().find(|part| part.status != Some(true)) {
            Some(part) => Finding {
                kind: kind::READY,
                status: part.status.or(Some(false)),
                reason: part.reason,
                message: part.message.clone(),
            },
            None => Finding::yes(kind::READY, "Ready", ready),
        }
    }
}

/// The conditions that follow `before`: those found now, each with the time since which its
/// status holds. Types that were not found now are gone.
pub fn merge(
    before: &[Condition],
    found: &[Finding],
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let next = |finding: &Finding| {
        let status = finding.status_word();
        let since = before
            .iter()
            .find(|one| one.type_ == finding.kind && one.status == status)
            .map_or_else(|| now.clone(), |one| one.last_transition_time.clone());
        Condition {
            type_: finding.kind.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.to_owned(),
            message: finding.message.clone(),
            observed_generation: generation,
            last_transition_time: since,
        }
    };
    found.iter().map(next).collect()
}

/// Findings whose status or reason is another one than before: each is worth an Event.
pub fn transitions<'a>(before: &[Condition], found: &'a [Finding]) -> Vec<&'a Finding> {
    let is_new = |finding: &&Finding| {
        !before.iter().any(|one| {
            one.type_ == finding.kind
                && one.status == finding.status_word()
                && one.reason == finding.reason
        })
    };
    found.iter().filter(is_new).collect()
}

/// Whether the condition of that type is `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|one| one.type_ == kind && one.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_last_change_of_status() {
        let first = merge(&[], &[Finding::no(kind::READY, "Starting", "a")], Some(1), &at(1));
        let same = merge(&first, &[Finding::no(kind::READY, "Waiting", "b")], Some(1), &at(2));
        assert_eq!(same[0].last_transition_time, at(1));
        assert_eq!(same[0].reason, "Waiting");
        let changed = merge(&same, &[Finding::yes(kind::READY, "Ready", "c")], Some(2), &at(3));
        assert_eq!(changed[0].last_transition_time, at(3));
        assert_eq!(changed[0].observed_generation, Some(2));
    }

    #[test]
    fn what_changed_is_told_once() {
        let found = [Finding::no(kind::READY, "Starting", "a")];
        assert_eq!(transitions(&[], &found).len(), 1);
        let before = merge(&[], &found, None, &at(1));
        assert!(transitions(&before, &found).is_empty());
        let reworded = [Finding::no(kind::READY, "Starting", "b")];
        assert!(transitions(&before, &reworded).is_empty());
    }

    #[test]
    fn ready_says_what_is_missing_first() {
        let parts = [
            Finding::yes(kind::CERTIFICATES, "Issued", "all"),
            Finding::unknown(kind::PEERS, "Starting", "1 of 2 peers"),
        ];
        let ready = Finding::roll_up(&parts, "fine");
        assert_eq!((ready.status, ready.reason), (Some(false), "Starting"));
        assert_eq!(Finding::roll_up(&parts[..1], "fine").status, Some(true));
    }
}
