//! Step five of every controller: what was found becomes status, Events and metrics.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use kube::ResourceExt;
use serde::Serialize;
use weft_types::Timestamp;

use super::context::Context;
use super::error::ReconcileError;
use super::holder::HolderError;
use super::holder::identities::Identities;
use super::holder::nodes::Nodes;
use crate::api::{
    Chaincode, ChaincodeStatus, Channel, ChannelStatus, LedgerNetwork, LedgerNetworkStatus,
    Organization, OrganizationStatus,
};
use crate::cluster::apply::{ApplyError, Object};
use crate::cluster::conditions::{self, Finding, kind};
use crate::cluster::events::Note;
use crate::cluster::identity::AuthorityError;
use crate::cluster::topology::NodeKind;
use crate::model::{Problem, Remedy};

/// One of our kinds.
pub trait Managed: Object {
    /// Its status.
    type Status: Clone + Debug + Default + PartialEq + Serialize + Send + Sync;
    /// Its name in CamelCase.
    const KIND: &'static str;
    /// The status as last seen.
    fn status(&self) -> Option<&Self::Status>;
    /// The conditions of a status.
    fn conditions(status: &Self::Status) -> &[Condition];
    /// Fills in what every status has.
    fn conclude(
        status: &mut Self::Status,
        generation: Option<i64>,
        message: String,
        conditions: Vec<Condition>,
    );
}

macro_rules! managed {
    ($($kind:ident, $status:ident;)*) => {$(
        impl Managed for $kind {
            type Status = $status;
            const KIND: &'static str = stringify!($kind);
            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }
            fn conditions(status: &$status) -> &[Condition] {
                &status.conditions
            }
            fn conclude(
                status: &mut $status,
                generation: Option<i64>,
                message: String,
                conditions: Vec<Condition>,
            ) {
                status.observed_generation = generation;
                status.message = Some(message);
                status.conditions = conditions;
            }
        }
    )*};
}

managed! {
    LedgerNetwork, LedgerNetworkStatus;
    Organization, OrganizationStatus;
    Channel, ChannelStatus;
    Chaincode, ChaincodeStatus;
}

/// What a controller found and did.
#[derive(Debug)]
pub struct Report<S> {
    /// The status but for conditions and message.
    pub status: S,
    /// The parts of `Ready`, in the order in which they are told.
    pub parts: Vec<Finding>,
    /// What is told when every part holds.
    pub ready: String,
    /// What was done, for Events.
    pub notes: Vec<Note>,
    /// When to look again although nothing has changed.
    pub again: Duration,
}

impl<S> Report<S> {
    /// A report that says why nothing was done.
    pub fn held(status: S, finding: Finding, again: Duration) -> Report<S> {
        Report { status, parts: vec![finding], ready: String::new(), notes: Vec::new(), again }
    }
}

/// Writes what changed of a status, tells what is new, and returns when to look again.
///
/// # Errors
/// [`ApplyError`] when the status cannot be written.
pub async fn conclude<K: Managed>(
    context: &Context,
    object: &K,
    report: Report<K::Status>,
) -> Result<Duration, ApplyError> {
    let before = object.status().cloned().unwrap_or_default();
    let mut findings = report.parts;
    let ready = Finding::roll_up(&findings, report.ready);
    context.metrics.ready(&context.key(object), K::KIND, ready.status == Some(true));
    let message = ready.message.clone();
    findings.insert(0, ready);
    let known = K::conditions(&before);
    let new: Vec<&Finding> = conditions::transitions(known, &findings);
    let generation = object.meta().generation;
    let merged = conditions::merge(known, &findings, generation, &now());
    let mut status = report.status;
    K::conclude(&mut status, generation, message, merged);
    if status != before {
        context.applier.patch_status(object, &status).await?;
    }
    for note in told_together(&report.notes) {
        context.events.publish(object, &note).await;
    }
    context.events.publish_transitions(object, &new).await;
    tracing::debug!(
        kind = K::KIND,
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any(),
        "reconciled"
    );
    Ok(report.again)
}

/// One note for each reason: the API server counts Events of the same reason as one, and keeps
/// the words of the first.
fn told_together(notes: &[Note]) -> Vec<Note> {
    let mut told: Vec<Note> = Vec::new();
    for note in notes {
        match told.iter_mut().find(|one| one.reason == note.reason) {
            Some(one) => {
                one.text.push_str("; ");
                one.text.push_str(&note.text);
            }
            None => told.push(note.clone()),
        }
    }
    told
}

/// The word for a condition that a problem of the spec makes false.
pub fn invalid(message: impl Into<String>) -> Finding {
    Finding::no(kind::PROGRESSING, "InvalidSpec", message)
}

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

/// The finding of an object that is not to be touched.
pub fn paused() -> Finding {
    Finding::no(kind::PROGRESSING, "Paused", "is paused: nothing is looked at or changed")
}

/// The finding of an object that waits for another one.
pub fn waiting(message: impl Into<String>) -> Finding {
    Finding::no(kind::PROGRESSING, "Waiting", message)
}

/// The finding of a spec that breaks rules, or names what is not there yet.
pub fn problem(problems: &[&Problem]) -> Option<Finding> {
    let first = problems.first()?;
    let more = match problems.len() {
        1 => String::new(),
        number => format!(" (and {} more)", number - 1),
    };
    let text = format!("{}: {}{more}", first.field, first.message);
    Some(match first.remedy {
        Remedy::Correct => invalid(text),
        Remedy::Wait => waiting(text),
    })
}

/// The finding of a holder whose certificates or nodes cannot be made.
pub fn of_holder(error: &HolderError) -> Finding {
    let text = crate::cli::report(error);
    match error {
        HolderError::Authority(AuthorityError::Gone { .. }) => {
            Finding::no(kind::CERTIFICATES, "AuthorityGone", text)
        }
        HolderError::Authority(AuthorityError::Altered { .. }) => {
            Finding::no(kind::CERTIFICATES, "AuthorityAltered", text)
        }
        HolderError::Authority(error) if error.is_waiting() => {
            Finding::no(kind::CERTIFICATES, "Waiting", text)
        }
        HolderError::Authority(_) => Finding::no(kind::CERTIFICATES, "AuthorityUnusable", text),
        HolderError::Identity(_) => Finding::no(kind::CERTIFICATES, "NotIssued", text),
        HolderError::Settings { .. } | HolderError::MspId { .. } => invalid(text),
        HolderError::Apply(ApplyError::Foreign { .. } | ApplyError::Taken { .. }) => {
            Finding::no(kind::PROGRESSING, "NameTaken", text)
        }
        HolderError::Resource(_) | HolderError::Apply(_) => {
            Finding::no(kind::PROGRESSING, "Failed", text)
        }
    }
}

/// The API server's part of a failure.
pub fn apply_error(error: HolderError) -> ReconcileError {
    match error {
        HolderError::Apply(error) => ReconcileError::Apply(error),
        other => ReconcileError::Holder(other),
    }
}

/// Whether certificates are there and fresh.
pub fn certificates(identities: &Identities) -> Finding {
    let until = identities.soonest.map(rfc3339).unwrap_or_default();
    Finding::yes(kind::CERTIFICATES, "Issued", format!("the first certificate ends {until}"))
}

/// Whether the nodes of a group serve.
pub fn nodes(node: NodeKind, nodes: &Nodes, hibernated: bool) -> Finding {
    let (kind, word) = match node {
        NodeKind::Orderer => (kind::ORDERERS, "orderers"),
        NodeKind::Peer => (kind::PEERS, "peers"),
    };
    let text = format!("{} of {} {word} serve", nodes.ready, nodes.wanted);
    if hibernated {
        return Finding::no(kind, "Hibernated", format!("hibernates: the {word} have no pods"));
    }
    match &nodes.trouble {
        _ if nodes.ready >= nodes.wanted => Finding::yes(kind, "Serving", text),
        Some(trouble) => Finding::no(kind, "PodsNotRunning", format!("{text}; {trouble}")),
        None => Finding::no(kind, "Starting", text),
    }
}

/// Whether changes go on; nothing when there are none.
pub fn progress(nodes: &Nodes) -> Option<Finding> {
    if let Some(refused) = &nodes.refused {
        return Some(Finding::no(kind::PROGRESSING, "Refused", refused));
    }
    let waiting = nodes.rollout.waiting.join(", ");
    if waiting.is_empty() {
        return None;
    }
    let because = nodes.rollout.because.as_deref().unwrap_or("one node at a time");
    let text = format!("{waiting} change next: {because}");
    Some(Finding { kind: kind::PROGRESSING, status: None, reason: "RollingOut", message: text })
}

/// The object as owner of what is made for it.
pub fn owner<K: Managed>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: crate::api::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A time as status fields hold it.
pub fn rfc3339(time: Timestamp) -> String {
    k8s_openapi::jiff::Timestamp::from_second(time.seconds())
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// How long it is until then; nothing when it is past.
pub fn until(now: Timestamp, then: Option<Timestamp>) -> Option<Duration> {
    let seconds = u64::try_from(then?.seconds() - now.seconds()).unwrap_or(0);
    Some(Duration::from_secs(seconds.saturating_add(1)))
}
