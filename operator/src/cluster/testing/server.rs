//! The server: answers requests from its objects, as far as faults let it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{BoxError, Service};

use super::faults::{Fault, Plan};
use super::kinds::{self, KINDS};
use super::objects::{Change, Key, Objects, Refusal};
use super::request::{self, Call, Verb};
use super::selecting::Selector;

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;
type Answer = Response<StreamBody<Frames>>;

/// A Kubernetes API server in memory. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

struct State {
    objects: Objects,
    calls: Vec<Call>,
    writes: usize,
    plan: Option<Plan>,
    down: bool,
    /// Counts restarts: a watch of before has ended.
    epoch: u64,
    /// Revisions before this one can no longer be watched from.
    compacted: u64,
    /// Kinds whose watches show nothing newer than a revision.
    held: BTreeMap<&'static str, u64>,
    /// Versions that discovery does not tell of.
    hidden: BTreeSet<(&'static str, &'static str)>,
}

impl ApiServer {
    pub fn new() -> ApiServer {
        let state = State {
            objects: Objects::default(),
            calls: Vec::new(),
            writes: 0,
            plan: None,
            down: false,
            epoch: 0,
            compacted: 0,
            held: BTreeMap::new(),
            hidden: BTreeSet::new(),
        };
        ApiServer { state: Arc::new(Mutex::new(state)), changed: Arc::new(watch::channel(0).0) }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(Handle(self.clone()), "default")
    }

    /// From now on this decides what happens to requests. Writes are counted from here.
    pub fn fail(&self, plan: Plan) {
        let mut state = self.state.lock();
        state.plan = Some(plan);
        state.writes = 0;
    }

    /// After a crash: requests are answered again, and nothing fails. Watches of before ended.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        state.down = false;
        state.plan = None;
        state.epoch += 1;
        drop(state);
        self.tick();
    }

    /// Whether a [`Fault::Crash`] happened.
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Watches and reads of "any version" of a kind show what is there now and nothing newer.
    pub fn hold(&self, kind: &str) {
        let mut state = self.state.lock();
        let revision = state.objects.revision;
        state.held.insert(kinds::by_name(kind).name, revision);
    }

    /// The opposite of [`ApiServer::hold`]; what was held back is shown in the order of changes.
    pub fn release(&self, kind: &str) {
        self.state.lock().held.remove(kind);
        self.tick();
    }

    pub fn is_held(&self, kind: &str) -> bool {
        self.state.lock().held.contains_key(kind)
    }

    /// Names and versions of the objects of a kind with these labels.
    pub fn versions(&self, kind: &str, labels: &str) -> BTreeMap<String, String> {
        let state = self.state.lock();
        let selector = Selector::new("", labels, "");
        let text = |object: &Value, field: &str| {
            object["metadata"][field].as_str().unwrap_or_default().to_owned()
        };
        let found = state
            .objects
            .all()
            .filter(|((name, _, _), one)| *name == kind && selector.matches(one));
        found.map(|(_, one)| (text(one, "name"), text(one, "resourceVersion"))).collect()
    }

    /// Open watches end with 410, and none can begin at a version of before.
    pub fn expire(&self) {
        let mut state = self.state.lock();
        state.compacted = state.objects.revision;
        state.epoch += 1;
        drop(state);
        self.tick();
    }

    /// Discovery does not tell of this version of a group.
    pub fn hide(&self, group: &'static str, version: &'static str) {
        self.state.lock().hidden.insert((group, version));
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    /// Every write so far that was asked for, one that failed as well.
    pub fn writes(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.verb.is_write()).collect()
    }

    /// Every change of objects so far.
    pub fn history(&self) -> Vec<Change> {
        self.state.lock().objects.history.clone()
    }

    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().objects.get(kinds::by_name(kind), namespace, name).cloned()
    }

    pub fn objects(&self) -> BTreeMap<Key, Value> {
        let state = self.state.lock();
        state.objects.all().map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Creates or replaces an object, as a person does: no fault, no line in the log.
    pub fn put(&self, object: &Value, namespace: &str) -> Value {
        let kind = object["kind"].as_str().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut object = object.clone();
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let verb = match self.object(kind, namespace, name) {
            Some(_) => Verb::Replace,
            None => Verb::Create,
        };
        self.act(verb, kind, (namespace, name), false, object)
    }

    /// Changes an object, as a person does.
    pub fn edit(&self, kind: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.object(kind, namespace, name).unwrap();
        edit(&mut object);
        self.act(Verb::Replace, kind, (namespace, name), false, object);
    }

    /// Writes a status, as the controllers of Kubernetes do.
    pub fn set_status(&self, kind: &str, namespace: &str, name: &str, status: Value) {
        let patch = json!({ "status": status });
        self.act(Verb::Merge, kind, (namespace, name), true, patch);
    }

    /// Changes a status, as nobody should.
    pub fn edit_status(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut Value),
    ) {
        let mut object = self.object(kind, namespace, name).unwrap();
        edit(&mut object["status"]);
        self.act(Verb::Replace, kind, (namespace, name), true, object);
    }

    /// Deletes an object, as a person does.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.act(Verb::Delete, kind, (namespace, name), false, Value::Null);
    }

    /// Removes what has lost its owner.
    pub fn collect_garbage(&self) -> usize {
        let removed = self.state.lock().objects.collect_garbage();
        self.tick();
        removed
    }

    fn act(&self, verb: Verb, kind: &str, at: (&str, &str), status: bool, body: Value) -> Value {
        let kind = kinds::by_name(kind);
        let call = Call {
            number: 0,
            write: None,
            verb,
            kind,
            version: kind.versions[0].to_owned(),
            namespace: at.0.to_owned(),
            name: at.1.to_owned(),
            status,
            query: BTreeMap::new(),
        };
        let done = self.state.lock().objects.write(&call, body).unwrap();
        self.tick();
        done
    }

    fn tick(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    async fn answer(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if let Some(found) = self.discover(parts.uri.path())? {
            return Ok(json_answer(200, &found));
        }
        let mut call = match request::parse(&parts) {
            Ok(call) => call,
            Err(refusal) => return Ok(json_answer(refusal.code, &refusal.status())),
        };
        let fault = self.admit(&mut call, &body)?;
        match fault {
            None => {}
            Some(Fault::Refuse(code)) => return Ok(refused(code)),
            Some(Fault::Reset) => return Err(broken()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::DoneBut(_) | Fault::Lost | Fault::Crash) => {}
        }
        let answer = self.perform(&call, body);
        match fault {
            Some(Fault::DoneBut(code)) => Ok(refused(code)),
            Some(Fault::Lost) => Err(broken()),
            Some(Fault::Crash) => {
                self.state.lock().down = true;
                self.tick();
                Err(broken())
            }
            _ => Ok(answer),
        }
    }

    /// Counts a request, and asks the plan about it.
    fn admit(&self, call: &mut Call, body: &Value) -> Result<Option<Fault>, BoxError> {
        let mut state = self.state.lock();
        if state.down {
            return Err(broken());
        }
        call.number = state.calls.len() + 1;
        if call.verb == Verb::Create {
            call.name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        }
        if call.verb.is_write() {
            state.writes += 1;
            call.write = Some(state.writes);
        }
        state.calls.push(call.clone());
        Ok(state.plan.as_mut().and_then(|plan| plan(call)))
    }

    fn perform(&self, call: &Call, body: Value) -> Answer {
        let done = match call.verb {
            Verb::Watch => return self.watch(call),
            Verb::Get => self.get(call),
            Verb::List => Ok(self.list(call)),
            _ => {
                let written = self.state.lock().objects.write(call, body);
                self.tick();
                written.map(|object| in_version(call, object))
            }
        };
        match done {
            Ok(value) if call.verb == Verb::Create => json_answer(201, &value),
            Ok(value) => json_answer(200, &value),
            Err(refusal) => json_answer(refusal.code, &refusal.status()),
        }
    }

    fn get(&self, call: &Call) -> Result<Value, Refusal> {
        let state = self.state.lock();
        let found = state.objects.get(call.kind, &call.namespace, &call.name);
        let missing = || Refusal::not_found(format!("{} {:?}", call.kind.resource, call.name));
        found.cloned().map(|object| in_version(call, object)).ok_or_else(missing)
    }

    fn list(&self, call: &Call) -> Value {
        let state = self.state.lock();
        let selector = selector_of(call);
        let held = state.held.get(call.kind.name).copied();
        let (revision, items) = match held.filter(|_| call.query("resourceVersion") == Some("0")) {
            Some(held) => (held, state.objects.list_as_of(call.kind, &selector, held)),
            None => (state.objects.revision, state.objects.list(call.kind, &selector)),
        };
        let items: Vec<Value> = items.into_iter().map(|one| in_version(call, one)).collect();
        json!({
            "apiVersion": call.api_version(),
            "kind": format!("{}List", call.kind.name),
            "metadata": { "resourceVersion": revision.to_string() },
            "items": items,
        })
    }

    fn watch(&self, call: &Call) -> Answer {
        let state = self.state.lock();
        let from = call.query("resourceVersion").and_then(|text| text.parse().ok());
        let watcher = Watcher {
            server: self.clone(),
            call: call.clone(),
            selector: selector_of(call),
            from: from.unwrap_or(state.objects.revision),
            epoch: state.epoch,
            changed: self.changed.subscribe(),
            over: false,
        };
        Response::new(StreamBody::new(Box::pin(stream::unfold(watcher, Watcher::next))))
    }

    /// The answer about which groups and versions there are.
    fn discover(&self, path: &str) -> Result<Option<Value>, BoxError> {
        let state = self.state.lock();
        if state.down {
            return Err(broken());
        }
        Ok((path.trim_end_matches('/') == "/apis").then(|| {
            let named: BTreeSet<&str> = KINDS.iter().map(|kind| kind.group).collect();
            let groups = named.into_iter().filter(|group| !group.is_empty());
            let groups: Vec<Value> = groups.map(|group| group_of(&state, group)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }))
    }
}

fn group_of(state: &State, group: &str) -> Value {
    let kinds = KINDS.iter().filter(|kind| kind.group == group);
    let versions: BTreeSet<&str> = kinds.flat_map(|kind| kind.versions).copied().collect();
    let versions: Vec<Value> = versions
        .into_iter()
        .filter(|version| !state.hidden.iter().any(|one| *one == (group, *version)))
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": versions.first(), "versions": versions })
}

/// One open watch.
struct Watcher {
    server: ApiServer,
    call: Call,
    selector: Selector,
    from: u64,
    epoch: u64,
    changed: watch::Receiver<u64>,
    over: bool,
}

impl Watcher {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, BoxError>, Watcher)> {
        loop {
            if self.over {
                return None;
            }
            self.changed.borrow_and_update();
            if let Some(found) = self.look() {
                return Some((found.map(|lines| Frame::data(Bytes::from(lines))), self));
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// What there is to tell now.
    fn look(&mut self) -> Option<Result<String, BoxError>> {
        let server = self.server.clone();
        let state = server.state.lock();
        if state.down {
            self.over = true;
            return Some(Err(broken()));
        }
        if self.from < state.compacted {
            self.over = true;
            let gone = Refusal::new(410, "Expired", "too old resource version");
            return Some(Ok(line("ERROR", &gone.status())));
        }
        if state.epoch != self.epoch {
            self.over = true;
            return Some(Err(broken()));
        }
        let shown = state.held.get(self.call.kind.name).copied().unwrap_or(state.objects.revision);
        let history = &state.objects.history;
        let first = history.partition_point(|change| change.revision <= self.from);
        let news = history[first..].iter().take_while(|change| change.revision <= shown);
        let lines: String = news
            .filter(|change| change.kind == self.call.kind)
            .filter_map(|change| self.tell(change))
            .collect();
        self.from = self.from.max(shown);
        (!lines.is_empty()).then_some(Ok(lines))
    }

    fn tell(&self, change: &Change) -> Option<String> {
        let matching =
            |object: &Option<Value>| object.clone().filter(|one| self.selector.matches(one));
        let (kind, mut object) = match (matching(&change.before), matching(&change.after)) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        object["metadata"]["resourceVersion"] = change.revision.to_string().into();
        Some(line(kind, &in_version(&self.call, object)))
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

fn selector_of(call: &Call) -> Selector {
    let text = |name| call.query(name).unwrap_or_default();
    Selector::new(&call.namespace, text("labelSelector"), text("fieldSelector"))
}

fn in_version(call: &Call, mut object: Value) -> Value {
    object["apiVersion"] = call.api_version().into();
    object
}

fn broken() -> BoxError {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset by peer").into()
}

fn refused(code: u16) -> Answer {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        403 => "Forbidden",
        422 => "Invalid",
        504 => "Timeout",
        _ => "InternalError",
    };
    let refusal = Refusal::new(code, reason, format!("the plan of this test says {code}"));
    let mut answer = json_answer(code, &refusal.status());
    if code == 429 {
        answer.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
    }
    answer
}

fn json_answer(code: u16, value: &Value) -> Answer {
    let bytes = Bytes::from(value.to_string());
    let frames = stream::once(std::future::ready(Ok(Frame::data(bytes)))).boxed();
    let builder = Response::builder().status(code).header("content-type", "application/json");
    builder.body(StreamBody::new(frames)).unwrap()
}

/// The server as `kube` calls it.
struct Handle(ApiServer);

impl Service<Request<Body>> for Handle {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.clone().answer(request))
    }
}
