//! Events: what happened, told with the object that it happened to.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use super::conditions::Finding;
use super::names::MANAGER;

/// Longest note that the API server takes, bytes (Kubernetes: `events/v1`, `Event.note`).
const MAX_NOTE: usize = 1000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look at it.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence for people.
    pub text: String,
}

impl Note {
    /// Something that is meant to happen.
    pub fn normal(reason: &'static str, text: impl Into<String>) -> Note {
        Note { warning: false, reason, text: text.into() }
    }

    /// Something that somebody should look at.
    pub fn warning(reason: &'static str, text: impl Into<String>) -> Note {
        Note { warning: true, reason, text: text.into() }
    }
}

/// Writes Events. One that cannot be written is told in the log: nothing waits for it.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events in the name of the operator's instance (its pod).
    pub fn new(client: Client, instance: Option<String>) -> Events {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance };
        Events { recorder: Recorder::new(client, reporter) }
    }

    /// Tells what happened to an object.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, note: &Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.to_owned(),
            note: Some(shortened(&note.text)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(reason = note.reason, %error, "failed to write an Event");
        }
    }

    /// Tells what is true of an object that was not true before.
    pub async fn publish_transitions<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        findings: &[&Finding],
    ) {
        for finding in findings {
            let note = Note {
                warning: is_alarming(finding),
                reason: finding.reason,
                text: format!("{}: {}", finding.kind, finding.message),
            };
            self.publish(object, &note).await;
        }
    }
}

/// A part that is not there yet is on its way; one that was refused or broke is not.
fn is_alarming(finding: &Finding) -> bool {
    let on_its_way = ["Starting", "Waiting", "Joining", "RollingOut", "Hibernated", "Paused"];
    finding.status == Some(false) && !on_its_way.contains(&finding.reason)
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_NOTE {
        return text.to_owned();
    }
    let end = (0..=MAX_NOTE - 4).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_at_a_character() {
        let long = "ä".repeat(MAX_NOTE);
        let cut = shortened(&long);
        assert!(cut.len() <= MAX_NOTE && cut.ends_with('…'));
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn only_what_broke_is_alarming() {
        use crate::cluster::conditions::kind;
        assert!(is_alarming(&Finding::no(kind::CERTIFICATES, "AuthorityGone", "a")));
        assert!(!is_alarming(&Finding::no(kind::PEERS, "Starting", "a")));
        assert!(!is_alarming(&Finding::yes(kind::PEERS, "Serving", "a")));
    }
}
