//! The objects of the server, and the rules by which the API server changes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::merging;
use super::request::{Call, Verb};
use super::selecting::Selector;

/// A request that is not carried out, as the API server says it.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl Refusal {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason: reason.to_owned(), message: message.into() }
    }

    pub fn not_found(what: impl std::fmt::Display) -> Refusal {
        Refusal::new(404, "NotFound", format!("{what} not found"))
    }

    fn conflict(what: impl std::fmt::Display) -> Refusal {
        Refusal::new(409, "Conflict", format!("{what}: the object has been modified"))
    }

    fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(422, "Invalid", message)
    }

    /// As the body of an answer, or of an event of a watch.
    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

/// Name of a kind, namespace, name.
pub type Key = (&'static str, String, String);

#[derive(Clone, Debug)]
struct Stored {
    object: Value,
    /// What each field manager applied last, apart for the status.
    applied: BTreeMap<(String, bool), Value>,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub kind: &'static Kind,
    pub before: Option<Value>,
    /// Absent when it was deleted.
    pub after: Option<Value>,
}

/// All objects, and everything that ever changed.
#[derive(Default)]
pub struct Objects {
    pub revision: u64,
    pub history: Vec<Change>,
    objects: BTreeMap<Key, Stored>,
    made: u64,
}

impl Objects {
    pub fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<&Value> {
        let key = (kind.name, namespace.to_owned(), name.to_owned());
        self.objects.get(&key).map(|stored| &stored.object)
    }

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter().map(|(key, stored)| (key, &stored.object))
    }

    pub fn list(&self, kind: &'static Kind, selector: &Selector) -> Vec<Value> {
        let of_kind = self.all().filter(|((name, _, _), _)| *name == kind.name);
        of_kind.map(|(_, object)| object.clone()).filter(|one| selector.matches(one)).collect()
    }

    /// The objects of a kind as they were.
    pub fn list_as_of(
        &self,
        kind: &'static Kind,
        selector: &Selector,
        revision: u64,
    ) -> Vec<Value> {
        let mut then: BTreeMap<String, Value> = BTreeMap::new();
        let changes = self.history.iter().filter(|change| change.kind == kind);
        for change in changes.take_while(|change| change.revision <= revision) {
            let any = change.after.as_ref().or(change.before.as_ref()).unwrap();
            let key = format!("{}/{}", any["metadata"]["namespace"], any["metadata"]["name"]);
            match &change.after {
                Some(after) => then.insert(key, after.clone()),
                None => then.remove(&key),
            };
        }
        then.into_values().filter(|one| selector.matches(one)).collect()
    }

    /// Carries a write out and returns what the API server answers.
    pub fn write(&mut self, call: &Call, body: Value) -> Result<Value, Refusal> {
        let mut body = body;
        let name = match call.verb {
            Verb::Create => self.name_of(&mut body)?,
            _ => call.name.clone(),
        };
        let key = (call.kind.name, call.namespace.clone(), name);
        if call.verb == Verb::Create {
            if self.objects.contains_key(&key) {
                let message = format!("{} {:?} already exists", call.kind.resource, key.2);
                return Err(Refusal::new(409, "AlreadyExists", message));
            }
            return self.insert(call, key, body, BTreeMap::new());
        }
        let Some(stored) = self.objects.get(&key).cloned() else {
            if call.verb == Verb::Apply && !call.status {
                let applied = self.record(call, BTreeMap::new(), &body)?;
                return self.insert(call, key, body, applied);
            }
            return Err(Refusal::not_found(format!("{} {:?}", call.kind.resource, key.2)));
        };
        if call.verb == Verb::Delete {
            return self.delete(call, key, stored, &body);
        }
        let is_checked = |version: &Value| *version != stored.object["metadata"]["resourceVersion"];
        match body["metadata"].get("resourceVersion") {
            Some(version) if !version.is_null() && is_checked(version) => {
                return Err(Refusal::conflict(&key.2));
            }
            _ => {}
        }
        let mut after = stored.object.clone();
        let mut applied = stored.applied.clone();
        match call.verb {
            Verb::Replace => after = body,
            Verb::Merge => merging::merge(&mut after, &body),
            Verb::Apply => {
                let manager = (manager(call)?, call.status);
                let before = applied.get(&manager).cloned().unwrap_or(Value::Null);
                merging::apply(&mut after, &before, &body);
                applied = self.record(call, applied, &body)?;
            }
            _ => return Err(Refusal::new(405, "MethodNotAllowed", format!("{:?}", call.verb))),
        }
        self.update(call, key, &stored, after, applied)
    }

    fn record(
        &self,
        call: &Call,
        mut applied: BTreeMap<(String, bool), Value>,
        body: &Value,
    ) -> Result<BTreeMap<(String, bool), Value>, Refusal> {
        applied.insert((manager(call)?, call.status), body.clone());
        Ok(applied)
    }

    fn name_of(&mut self, body: &mut Value) -> Result<String, Refusal> {
        if let Some(name) = body["metadata"]["name"].as_str() {
            return Ok(name.to_owned());
        }
        let stem = body["metadata"]["generateName"].as_str();
        let stem = stem.ok_or_else(|| Refusal::invalid("name or generateName is required"))?;
        let name = format!("{stem}{:05}", self.made + 1);
        body["metadata"]["name"] = name.clone().into();
        Ok(name)
    }

    fn insert(
        &mut self,
        call: &Call,
        key: Key,
        body: Value,
        applied: BTreeMap<(String, bool), Value>,
    ) -> Result<Value, Refusal> {
        let mut object = body;
        self.made += 1;
        let made = self.made;
        if call.kind.status {
            object.as_object_mut().unwrap().remove("status");
        }
        let metadata = object_of(&mut object, "metadata");
        metadata.insert("name".into(), key.2.clone().into());
        metadata.insert("namespace".into(), key.1.clone().into());
        metadata.insert("uid".into(), format!("00000000-0000-0000-0000-{made:012}").into());
        metadata.insert("creationTimestamp".into(), time(made).into());
        metadata.remove("deletionTimestamp");
        if call.kind.generation {
            metadata.insert("generation".into(), 1.into());
        }
        if call.kind.name == "Service" {
            default_address(&mut object, made);
        }
        object["apiVersion"] = call.api_version().into();
        object["kind"] = call.kind.name.into();
        Ok(self.commit(call.kind, key, None, object, applied))
    }

    fn update(
        &mut self,
        call: &Call,
        key: Key,
        stored: &Stored,
        after: Value,
        applied: BTreeMap<(String, bool), Value>,
    ) -> Result<Value, Refusal> {
        let before = &stored.object;
        let mut object = if call.status {
            let mut object = before.clone();
            object["status"] = after["status"].clone();
            object
        } else {
            let mut object = after;
            if call.kind.status {
                match before.get("status") {
                    Some(status) => object["status"] = status.clone(),
                    None => drop(object.as_object_mut().unwrap().remove("status")),
                }
            }
            object
        };
        let fixed =
            ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "generation"];
        for field in fixed.into_iter().chain(["resourceVersion"]) {
            let metadata = object_of(&mut object, "metadata");
            match before["metadata"].get(field) {
                Some(value) => metadata.insert(field.into(), value.clone()),
                None => metadata.remove(field),
            };
        }
        object["apiVersion"] = before["apiVersion"].clone();
        object["kind"] = before["kind"].clone();
        if call.kind.name == "Service" && object["spec"]["clusterIP"].is_null() {
            object["spec"]["clusterIP"] = before["spec"]["clusterIP"].clone();
        }
        check_fixed(call.kind, before, &object)?;
        if object == *before {
            self.objects.get_mut(&key).unwrap().applied = applied;
            return Ok(object);
        }
        if call.kind.generation && spec_of(before) != spec_of(&object) {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = generation.into();
        }
        if is_over(&object) {
            self.remove(call.kind, key, &object);
            return Ok(object);
        }
        Ok(self.commit(call.kind, key, Some(before.clone()), object, applied))
    }

    fn delete(
        &mut self,
        call: &Call,
        key: Key,
        stored: Stored,
        options: &Value,
    ) -> Result<Value, Refusal> {
        let metadata = &stored.object["metadata"];
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != metadata[field] {
                return Err(Refusal::conflict(&key.2));
            }
        }
        let mut object = stored.object.clone();
        if metadata["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = time(self.revision + 1).into();
        }
        if is_over(&object) {
            self.remove(call.kind, key, &object);
            return Ok(object);
        }
        if object == stored.object {
            return Ok(object);
        }
        if let Some(generation) = metadata["generation"].as_i64() {
            object["metadata"]["generation"] = (generation + 1).into();
        }
        Ok(self.commit(call.kind, key, Some(stored.object), object, stored.applied))
    }

    fn commit(
        &mut self,
        kind: &'static Kind,
        key: Key,
        before: Option<Value>,
        mut object: Value,
        applied: BTreeMap<(String, bool), Value>,
    ) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let after = Some(object.clone());
        self.history.push(Change { revision: self.revision, kind, before, after });
        self.objects.insert(key, Stored { object: object.clone(), applied });
        object
    }

    fn remove(&mut self, kind: &'static Kind, key: Key, last: &Value) {
        self.revision += 1;
        self.objects.remove(&key);
        let before = Some(last.clone());
        self.history.push(Change { revision: self.revision, kind, before, after: None });
    }

    /// Removes objects all of whose owners are gone, as the garbage collector does. Returns how
    /// many.
    pub fn collect_garbage(&mut self) -> usize {
        let uids: Vec<Value> = self.all().map(|(_, one)| one["metadata"]["uid"].clone()).collect();
        let orphaned = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|owners| {
                !owners.is_empty() && owners.iter().all(|owner| !uids.contains(&owner["uid"]))
            })
        };
        let gone: Vec<(Key, Value)> = self
            .all()
            .filter(|(_, object)| orphaned(object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for (key, object) in &gone {
            self.remove(super::kinds::by_name(key.0), key.clone(), object);
        }
        match gone.len() {
            0 => 0,
            // What belonged to these goes as well.
            number => number + self.collect_garbage(),
        }
    }
}

fn manager(call: &Call) -> Result<String, Refusal> {
    call.query("fieldManager")
        .map(str::to_owned)
        .ok_or_else(|| Refusal::new(400, "BadRequest", "fieldManager is required for apply patch"))
}

fn object_of<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value[field].is_object() {
        value[field] = json!({});
    }
    value[field].as_object_mut().unwrap()
}

/// A moment that grows with the number.
fn time(number: u64) -> String {
    let (hours, minutes, seconds) = (number / 3600, number / 60 % 60, number % 60);
    format!("2026-01-01T{hours:02}:{minutes:02}:{seconds:02}Z")
}

/// Addresses that lead to this machine and to nobody.
fn default_address(service: &mut Value, made: u64) {
    let spec = object_of(service, "spec");
    if spec.get("clusterIP").is_none_or(Value::is_null) {
        let address = format!("127.77.{}.{}", made / 250, made % 250 + 1);
        spec.insert("clusterIP".into(), address.into());
    }
}

fn is_over(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let has_finalizers = metadata["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    !metadata["deletionTimestamp"].is_null() && !has_finalizers
}

fn spec_of(object: &Value) -> Value {
    let mut object = object.clone();
    let fields = object.as_object_mut().unwrap();
    fields.remove("metadata");
    fields.remove("status");
    object
}

/// Fields that the API server does not let anybody change.
fn check_fixed(kind: &Kind, before: &Value, after: &Value) -> Result<(), Refusal> {
    let fixed: &[&str] = match kind.name {
        "ConfigMap" | "Secret" if before["immutable"] == true => {
            &["data", "binaryData", "immutable", "type"]
        }
        "Secret" => &["type"],
        "StatefulSet" => {
            &["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"]
        }
        "Deployment" => &["selector"],
        "PersistentVolumeClaim" => &["accessModes", "storageClassName", "volumeName"],
        "Service" => &["clusterIP"],
        _ => &[],
    };
    let in_spec = before["spec"].is_object();
    let part = |object: &Value, field: &str| {
        if in_spec { object["spec"][field].clone() } else { object[field].clone() }
    };
    for field in fixed {
        if part(before, field) != part(after, field) {
            let message = format!("{} is invalid: {field}: field is immutable", kind.name);
            return Err(Refusal::invalid(message));
        }
    }
    Ok(())
}
