//! Writing to the API server: only what differs, and never what is a stranger's.
//!
//! Objects are applied server-side under our field manager, so that fields which others set
//! stay theirs. What was applied is remembered together with the version of the object that came
//! of it: as long as neither what is wanted nor the object has changed, nothing is sent, and an
//! idle operator writes nothing. After a start nothing is remembered, and an object that holds
//! what is wanted is taken as it is.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::core::response::StatusCause;
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::controllers::quantity;
use super::metrics::Metrics;
use super::names::{MANAGER, label};

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Kind of the object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused it or did not answer.
    #[error("failed to {verb} {subject}: {}", told(.source))]
    Request {
        /// What was to be done.
        verb: &'static str,
        /// With what.
        subject: Subject,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// The object cannot be written as JSON.
    #[error("failed to write {subject} as JSON")]
    Json {
        /// Which.
        subject: Subject,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An object of that name is there and somebody else's.
    #[error(
        "{subject} exists and was not made by this operator: rename one of the two, or delete it"
    )]
    Foreign {
        /// Which.
        subject: Subject,
    },
    /// An object of that name is there and was made for another one of ours.
    #[error("{subject} was made for {other}: two objects lead to the same name, rename one")]
    Taken {
        /// Which.
        subject: Subject,
        /// For whom it was made.
        other: String,
    },
}

impl ApplyError {
    /// Whether trying again can help.
    pub fn can_retry(&self) -> bool {
        match self {
            ApplyError::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => {
                    status.code >= 500 || matches!(status.code, 408 | 409 | 429)
                }
                _ => true,
            },
            ApplyError::Json { .. } | ApplyError::Foreign { .. } | ApplyError::Taken { .. } => {
                false
            }
        }
    }
}

impl ApplyError {
    /// Whether the namespace is going away, and everything in it: nothing can be made there.
    pub fn is_namespace_ending(&self) -> bool {
        let ApplyError::Request { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice());
        let named = |cause: &StatusCause| cause.reason == "NamespaceTerminating";
        status.code == 403
            && (causes.unwrap_or_default().iter().any(named)
                || status.message.contains("because it is being terminated"))
    }
}

/// The API server's own sentence, without the structure around it.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// What came of an application.
#[derive(Clone, Debug)]
pub enum Applied<K> {
    /// It was sent.
    Written(K),
    /// It was so already.
    Unchanged,
}

/// What came of a creation.
#[derive(Clone, Debug)]
pub enum Created<K> {
    /// It is new.
    New(K),
    /// It was there already.
    Existing(K),
}

/// What came of a replacement.
#[derive(Clone, Debug)]
pub enum Replaced {
    /// It was replaced.
    Done,
    /// Somebody else changed it in between: nothing was written.
    Conflict,
}

/// A kind that the operator writes.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// What was applied: its hash, and the object that came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory {
    hash: u64,
    version: Option<Version>,
}

/// Which object, and which state of its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    uid: String,
    revision: String,
}

/// Writes to the API server. Clones share what was applied.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    metrics: Metrics,
    memory: Arc<Mutex<HashMap<Subject, Memory>>>,
}

impl Applier {
    /// Nothing is remembered yet.
    pub fn new(client: Client, metrics: Metrics) -> Applier {
        Applier { client, metrics, memory: Arc::default() }
    }

    /// Applies an object, unless it is so already. `live` is the object as last seen; without one
    /// the API server is asked, because caches lag and do not show what strangers made.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn apply<K: Object>(
        &self,
        desired: &K,
        live: Option<&K>,
    ) -> Result<Applied<K>, ApplyError> {
        let subject = subject_of(desired);
        let value = to_json(&subject, desired)?;
        let current = live.map(|live| to_json(&subject, live)).transpose()?;
        let api: Api<K> = Api::namespaced(self.client.clone(), &subject.namespace);
        self.apply_value(&api, subject, value, current).await
    }

    /// Applies an object of a kind that only the API server knows the version of. It is read
    /// first.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn apply_dynamic(
        &self,
        desired: &DynamicObject,
        resource: &ApiResource,
    ) -> Result<Applied<DynamicObject>, ApplyError> {
        let subject = Subject {
            kind: resource.kind.clone(),
            namespace: desired.namespace().unwrap_or_default(),
            name: desired.name_any(),
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &subject.namespace, resource);
        let value = to_json(&subject, desired)?;
        self.apply_value(&api, subject, value, None).await
    }

    async fn apply_value<K>(
        &self,
        api: &Api<K>,
        subject: Subject,
        desired: Value,
        live: Option<Value>,
    ) -> Result<Applied<K>, ApplyError>
    where
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let hash = hash_of(&desired);
        let live = match live {
            Some(live) => Some(live),
            None => {
                let found = api.get_opt(&subject.name).await.map_err(failed("read", &subject))?;
                found.map(|live| to_json(&subject, &live)).transpose()?
            }
        };
        if let Some(live) = &live {
            check_owner(&subject, &desired, live)?;
            let version = version_of(live);
            let known = self.memory.lock().get(&subject).cloned();
            let same = match known {
                // What was said before and is not said any more has to go: only an application
                // takes it back.
                Some(memory) if memory.hash != hash => false,
                Some(memory) => memory.version == version || contains(live, &desired),
                None => contains(live, &desired),
            };
            if same {
                self.memory.lock().insert(subject, Memory { hash, version });
                return Ok(Applied::Unchanged);
            }
        }
        let params = PatchParams::apply(MANAGER).force();
        self.metrics.write(&subject.kind, "apply");
        let written = api
            .patch(&subject.name, &params, &Patch::Apply(&desired))
            .await
            .map_err(failed("apply", &subject))?;
        let version = version_of(&to_json(&subject, &written)?);
        tracing::debug!(%subject, "applied");
        self.memory.lock().insert(subject, Memory { hash, version });
        Ok(Applied::Written(written))
    }

    /// Creates an object that must not be made twice.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn create<K: Object>(&self, desired: &K) -> Result<Created<K>, ApplyError> {
        let subject = subject_of(desired);
        let api: Api<K> = Api::namespaced(self.client.clone(), &subject.namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        self.metrics.write(&subject.kind, "create");
        match api.create(&params, desired).await {
            Ok(object) => Ok(Created::New(object)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let existing = api.get(&subject.name).await.map_err(failed("read", &subject))?;
                let current = to_json(&subject, &existing)?;
                check_owner(&subject, &to_json(&subject, desired)?, &current)?;
                Ok(Created::Existing(existing))
            }
            Err(error) => Err(failed("create", &subject)(error)),
        }
    }

    /// Writes an object over the state of it that was read, if that was made for the same.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn replace<K: Object>(&self, live: &K, object: &K) -> Result<Replaced, ApplyError> {
        let subject = subject_of(object);
        check_owner(&subject, &to_json(&subject, object)?, &to_json(&subject, live)?)?;
        let api: Api<K> = Api::namespaced(self.client.clone(), &subject.namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        self.metrics.write(&subject.kind, "replace");
        match api.replace(&subject.name, &params, object).await {
            Ok(_) => Ok(Replaced::Done),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Replaced::Conflict),
            Err(error) => Err(failed("replace", &subject)(error)),
        }
    }

    /// An object as the API server has it now.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn get<K: Object>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ApplyError> {
        let subject = named::<K>(namespace, name);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(failed("read", &subject))
    }

    /// Objects as the API server has them now.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn list<K: Object>(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<K>, ApplyError> {
        let subject = named::<K>(namespace, selector);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = ListParams::default().labels(selector);
        let list = api.list(&params).await.map_err(failed("list", &subject))?;
        Ok(list.items)
    }

    /// Deletes an object of ours; one that is gone, or a stranger's, is left alone.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn delete<K: Object>(&self, namespace: &str, name: &str) -> Result<(), ApplyError> {
        let subject = named::<K>(namespace, name);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let Some(live) = self.get::<K>(namespace, name).await? else { return Ok(()) };
        if live.labels().get(label::MANAGED_BY).is_none_or(|manager| manager != MANAGER)
            || live.meta().deletion_timestamp.is_some()
        {
            return Ok(());
        }
        let preconditions = Preconditions { uid: live.uid(), ..Preconditions::default() };
        let params = DeleteParams::background().preconditions(preconditions);
        self.metrics.write(&subject.kind, "delete");
        match api.delete(name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(failed("delete", &subject)(error)),
        }
        self.memory.lock().remove(&subject);
        Ok(())
    }

    /// Writes the status of one of our objects. Maps are always sent, empty ones too: of a map
    /// that is no longer applied, Kubernetes 1.20 leaves `null`, which the schema refuses.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn patch_status<K: Object>(
        &self,
        object: &K,
        status: &impl Serialize,
    ) -> Result<(), ApplyError> {
        let subject = subject_of(object);
        let api: Api<K> = Api::namespaced(self.client.clone(), &subject.namespace);
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": subject.name },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        self.metrics.write(&subject.kind, "status");
        match api.patch_status(&subject.name, &params, &Patch::Apply(&patch)).await {
            Ok(_) => Ok(()),
            // It was deleted in the meantime.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(failed("write the status of", &subject)(error)),
        }
    }

    /// Sets or takes away a finalizer of one of our objects.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn set_finalizer<K: Object>(
        &self,
        object: &K,
        finalizer: &str,
        wanted: bool,
    ) -> Result<(), ApplyError> {
        let mut finalizers = object.finalizers().to_vec();
        if finalizers.iter().any(|one| one == finalizer) == wanted {
            return Ok(());
        }
        if wanted {
            finalizers.push(finalizer.to_owned());
        } else {
            finalizers.retain(|one| one != finalizer);
        }
        // With the version that was read: nobody else's finalizer is lost.
        let version = object.resource_version();
        let metadata = json!({ "finalizers": finalizers, "resourceVersion": version });
        self.merge(object, "finalizer", &json!({ "metadata": metadata })).await
    }

    /// Sets an annotation.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn annotate<K: Object>(
        &self,
        object: &K,
        name: &str,
        value: &str,
    ) -> Result<(), ApplyError> {
        let patch = json!({ "metadata": { "annotations": { name: value } } });
        self.merge(object, "annotate", &patch).await
    }

    async fn merge<K: Object>(
        &self,
        object: &K,
        verb: &'static str,
        patch: &Value,
    ) -> Result<(), ApplyError> {
        let subject = subject_of(object);
        let api: Api<K> = Api::namespaced(self.client.clone(), &subject.namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        self.metrics.write(&subject.kind, verb);
        match api.patch(&subject.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(failed("change", &subject)(error)),
        }
    }
}

fn failed(verb: &'static str, subject: &Subject) -> impl FnOnce(kube::Error) -> ApplyError {
    let subject = subject.clone();
    move |source| ApplyError::Request { verb, subject, source: Box::new(source) }
}

fn subject_of<K: Object>(object: &K) -> Subject {
    named::<K>(&object.namespace().unwrap_or_default(), &object.name_any())
}

fn named<K: Object>(namespace: &str, name: &str) -> Subject {
    Subject {
        kind: K::kind(&()).into_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn to_json(subject: &Subject, object: &impl Serialize) -> Result<Value, ApplyError> {
    serde_json::to_value(object)
        .map_err(|source| ApplyError::Json { subject: subject.clone(), source })
}

/// Maps are sorted: equal values have equal texts.
fn hash_of(value: &Value) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Generation counts changes of the spec alone; kinds without one have only their version.
fn version_of(live: &Value) -> Option<Version> {
    let metadata = live.get("metadata")?;
    let revision = match metadata.get("generation").and_then(Value::as_i64) {
        Some(generation) if generation > 0 => format!("g{generation}"),
        _ => metadata.get("resourceVersion")?.as_str()?.to_owned(),
    };
    Some(Version { uid: metadata.get("uid")?.as_str()?.to_owned(), revision })
}

/// An object without our label is a stranger's; one for another owner must stay with it.
fn check_owner(subject: &Subject, desired: &Value, live: &Value) -> Result<(), ApplyError> {
    let label_of = |value: &Value, name: &str| {
        let labels = value.get("metadata")?.get("labels")?;
        labels.get(name)?.as_str().map(str::to_owned)
    };
    if label_of(live, label::MANAGED_BY).as_deref() != Some(MANAGER) {
        return Err(ApplyError::Foreign { subject: subject.clone() });
    }
    for name in [label::NETWORK, label::INSTANCE] {
        let (wanted, found) = (label_of(desired, name), label_of(live, name));
        if wanted != found {
            let other = found.unwrap_or_default();
            return Err(ApplyError::Taken { subject: subject.clone(), other });
        }
    }
    Ok(())
}

/// Whether `live` holds everything that `desired` says; what the API server or others added does
/// not matter, nor how a quantity is written.
fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, value)| {
            let has =
                if matches!(key.as_str(), "requests" | "limits") { measures } else { contains };
            live.get(key).is_some_and(|found| has(found, value))
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| contains(live, desired))
        }
        (live, desired) => live == desired,
    }
}

/// The same of maps of quantities: the API server writes `0.5` as `500m`.
fn measures(live: &Value, desired: &Value) -> bool {
    let (Some(live), Some(desired)) = (live.as_object(), desired.as_object()) else {
        return contains(live, desired);
    };
    let equal = |one: &Value, other: &Value| match (thousandths(one), thousandths(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    };
    desired.iter().all(|(name, value)| live.get(name).is_some_and(|found| equal(found, value)))
}

fn thousandths(value: &Value) -> Option<u128> {
    let text = value.as_str()?;
    match text.strip_suffix('m') {
        Some(number) => number.parse().ok(),
        // As if it had another suffix: fractions of one count.
        None if text.contains('.') && text.ends_with(|c: char| c.is_ascii_digit()) => {
            quantity::bytes(&format!("{text}k"))
        }
        None => quantity::bytes(text)?.checked_mul(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject { kind: "Service".into(), namespace: "a".into(), name: "b".into() }
    }

    fn labelled(network: &str) -> Value {
        json!({ "metadata": { "labels": { label::MANAGED_BY: MANAGER, label::NETWORK: network } } })
    }

    #[test]
    fn what_others_added_does_not_matter_and_what_is_missing_does() {
        let desired = json!({ "spec": { "ports": [{ "port": 1 }], "a": "b" } });
        let live = json!({
            "spec": { "ports": [{ "port": 1, "protocol": "TCP" }], "a": "b", "c": 1 }
        });
        assert!(contains(&live, &desired));
        assert!(!contains(&desired, &live));
        let other = json!({ "spec": { "ports": [{ "port": 2 }], "a": "b" } });
        assert!(!contains(&live, &other));
        let shorter = json!({ "spec": { "ports": [], "a": "b" } });
        assert!(!contains(&live, &shorter));
    }

    #[test]
    fn quantities_are_equal_however_they_are_written() {
        let resources = |cpu: &str, memory: &str| json!({ "resources": { "requests": { "cpu": cpu, "memory": memory } } });
        let desired = resources("0.5", "1024Mi");
        for (cpu, memory) in [("500m", "1Gi"), ("0.5", "1024Mi"), ("0.500", "1048576Ki")] {
            assert!(contains(&resources(cpu, memory), &desired), "{cpu} {memory}");
        }
        for (cpu, memory) in [("501m", "1Gi"), ("500m", "1G"), ("5", "1Gi"), ("", "1Gi")] {
            assert!(!contains(&resources(cpu, memory), &desired), "{cpu} {memory}");
        }
        assert!(!contains(&json!({ "resources": {} }), &desired));
    }

    #[test]
    fn strangers_and_others_objects_are_refused() {
        let ours = labelled("n");
        assert!(check_owner(&subject(), &ours, &ours).is_ok());
        let error = check_owner(&subject(), &ours, &json!({ "metadata": {} })).unwrap_err();
        assert!(error.to_string().contains("not made by this operator"), "{error}");
        let error = check_owner(&subject(), &ours, &labelled("m")).unwrap_err();
        assert!(error.to_string().contains("was made for m"), "{error}");
    }

    #[test]
    fn a_version_is_the_generation_where_there_is_one() {
        let service = json!({ "metadata": { "uid": "u", "resourceVersion": "7" } });
        let set = json!({ "metadata": { "uid": "u", "resourceVersion": "7", "generation": 2 } });
        assert_eq!(version_of(&service).unwrap().revision, "7");
        assert_eq!(version_of(&set).unwrap().revision, "g2");
    }
}
