//! Events: what happened, told with the object that it happened to.
//!
//! The same sentence about the same object becomes a series of one Event. Another sentence is an
//! Event of its own, also for the same reason: `kube`'s recorder would count it as the first one
//! again, and its text would be lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;

use super::conditions::Finding;
use super::names::MANAGER;

/// Longest note that the API server takes, bytes (Kubernetes: `events/v1`, `Event.note`).
const MAX_NOTE: usize = 1000;
/// How long what is told again belongs to what was told before (client-go: `tools/events`).
const SERIES: Duration = Duration::from_secs(6 * 60);

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

/// Uid of the object, reason and text.
type Key = (Option<String>, &'static str, String);

/// What was told, and when last.
type Told = HashMap<Key, (Event, Instant)>;

/// Writes Events. One that cannot be written is told in the log: nothing waits for it.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    told: Arc<Mutex<Told>>,
}

impl Events {
    /// Events in the name of the operator's instance (its pod).
    pub fn new(client: Client, instance: Option<String>) -> Events {
        let instance = instance.unwrap_or_else(|| MANAGER.to_owned());
        Events { client, instance, told: Arc::default() }
    }

    /// Tells what happened to an object.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, note: &Note) {
        if let Err(error) = self.write(object.object_ref(&()), note).await {
            tracing::warn!(reason = note.reason, %error, "failed to write an Event");
        }
    }

    async fn write(&self, about: ObjectReference, note: &Note) -> Result<(), kube::Error> {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let key: Key = (about.uid.clone(), note.reason, shortened(&note.text));
        // Taken out: what cannot be counted on is told anew the next time.
        let event = match self.before(&key) {
            Some(event) => {
                let event = again(event);
                let patch = Patch::Merge(&event);
                api.patch(&event.name_any(), &PatchParams::default(), &patch).await?
            }
            None => api.create(&PostParams::default(), &self.event(about, note)).await?,
        };
        self.told.lock().insert(key, (event, Instant::now()));
        Ok(())
    }

    fn before(&self, key: &Key) -> Option<Event> {
        let mut told = self.told.lock();
        told.retain(|_, (_, at)| at.elapsed() < SERIES);
        told.remove(key).map(|(event, _)| event)
    }

    fn event(&self, about: ObjectReference, note: &Note) -> Event {
        let now = Timestamp::now();
        let name = about.name.as_deref().unwrap_or(MANAGER);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(&note.text)),
            reason: Some(note.reason.to_owned()),
            regarding: Some(about),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
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

/// The same Event once more.
fn again(mut event: Event) -> Event {
    let count = event.series.map_or(2, |series| series.count.saturating_add(1));
    event.series = Some(EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) });
    // Whatever became of it in between: it is counted.
    event.metadata.resource_version = None;
    event.metadata.managed_fields = None;
    event
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

    #[tokio::test]
    async fn the_same_sentence_is_counted_and_another_one_is_told() {
        use crate::cluster::testing::{ApiServer, Fault, at_write};
        let server = ApiServer::new();
        let network = serde_json::json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "LedgerNetwork",
            "metadata": { "name": "trade" }, "spec": {},
        });
        let network = server.put(&network, "n");
        let network: crate::api::LedgerNetwork = serde_json::from_value(network).unwrap();
        let events = Events::new(server.client(), None);
        for text in ["removed a", "removed b", "removed a", "removed a"] {
            events.publish(&network, &Note::normal("OrdererRemoved", text)).await;
        }
        server.fail(at_write(1, Fault::Refuse(500)));
        events.publish(&network, &Note::warning("Broken", "is broken")).await;
        let mut found: Vec<(String, i64)> = server
            .objects()
            .into_iter()
            .filter(|((kind, _, _), _)| *kind == "Event")
            .map(|(_, event)| {
                let note = event["note"].as_str().unwrap().to_owned();
                (note, event["series"]["count"].as_i64().unwrap_or(1))
            })
            .collect();
        found.sort();
        assert_eq!(found, [("removed a".to_owned(), 3), ("removed b".to_owned(), 1)]);
    }
}
