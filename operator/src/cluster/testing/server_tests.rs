//! The server does what the API server does, as far as the operator relies on it.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
    WatchEvent, WatchParams,
};
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use super::{ApiServer, Fault, Verb, at_write, crash_after};

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app".to_owned(), value.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("key".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    }
}

fn maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "n")
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

#[tokio::test]
async fn an_object_is_made_once_and_replaced_over_the_version_that_was_read() {
    let maps = maps(&ApiServer::new());
    let post = PostParams::default();
    let first = maps.create(&post, &config_map("a", "1")).await.unwrap();
    let error = maps.create(&post, &config_map("a", "2")).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.is_already_exists()), "{error}");

    let mut changed = first.clone();
    changed.data = config_map("a", "2").data;
    let second = maps.replace("a", &post, &changed).await.unwrap();
    assert_ne!(second.metadata.resource_version, first.metadata.resource_version);
    assert_eq!(second.metadata.uid, first.metadata.uid);
    let error = maps.replace("a", &post, &changed).await.unwrap_err();
    assert_eq!(code(&error), 409);
    let same = maps.replace("a", &post, &second).await.unwrap();
    assert_eq!(same, second, "what changes nothing is no change");
}

#[tokio::test]
async fn immutable_maps_do_not_change() {
    let maps = maps(&ApiServer::new());
    let fixed = ConfigMap { immutable: Some(true), ..config_map("a", "1") };
    maps.create(&PostParams::default(), &fixed).await.unwrap();
    let patch = Patch::Merge(json!({ "data": { "key": "2" } }));
    let error = maps.patch("a", &PatchParams::default(), &patch).await.unwrap_err();
    assert_eq!(code(&error), 422);
}

#[tokio::test]
async fn statuses_are_written_apart_and_generations_count_specs() {
    let server = ApiServer::new();
    let network = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "LedgerNetwork",
        "metadata": { "name": "a" }, "spec": {}, "status": { "message": "no" },
    });
    let made = server.put(&network, "n");
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made.get("status").is_none());
    server.set_status("LedgerNetwork", "n", "a", json!({ "message": "yes" }));
    server.edit("LedgerNetwork", "n", "a", |object| {
        object["status"] = json!({ "message": "other" });
        object["spec"] = json!({ "image": "x" });
    });
    let found = server.object("LedgerNetwork", "n", "a").unwrap();
    assert_eq!(found["status"]["message"], "yes");
    assert_eq!(found["metadata"]["generation"], 2);
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_deletion() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let mut map = config_map("a", "1");
    map.metadata.finalizers = Some(vec!["f/x".to_owned()]);
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let other = Preconditions { uid: Some("x".to_owned()), ..Preconditions::default() };
    let params = DeleteParams::default().preconditions(other);
    assert_eq!(code(&maps.delete("a", &params).await.unwrap_err()), 409);
    let same = Preconditions { uid: made.metadata.uid, ..Preconditions::default() };
    maps.delete("a", &DeleteParams::default().preconditions(same)).await.unwrap();
    let ending = maps.get("a").await.unwrap();
    assert!(ending.metadata.deletion_timestamp.is_some());
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn applying_makes_merges_and_keeps_what_others_set() {
    let server = ApiServer::new();
    let services: Api<Service> = Api::namespaced(server.client(), "n");
    let params = PatchParams::apply("us").force();
    let service = |port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a" },
            "spec": { "ports": [{ "name": "grpc", "port": port }] },
        })
    };
    let made = services.patch("a", &params, &Patch::Apply(service(1))).await.unwrap();
    let address = made.spec.unwrap().cluster_ip;
    assert!(address.is_some());
    let merge = Patch::Merge(json!({ "metadata": { "annotations": { "theirs": "1" } } }));
    services.patch("a", &PatchParams::default(), &merge).await.unwrap();
    let changed = services.patch("a", &params, &Patch::Apply(service(2))).await.unwrap();
    assert_eq!(changed.metadata.annotations.unwrap()["theirs"], "1");
    let spec = changed.spec.unwrap();
    assert_eq!(spec.ports.unwrap().len(), 1);
    assert_eq!(spec.cluster_ip, address);
}

#[tokio::test]
async fn a_watch_shows_changes_of_what_it_selects_from_a_version_on() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let post = PostParams::default();
    maps.create(&post, &config_map("a", "1")).await.unwrap();
    let listed = maps.list(&ListParams::default().labels("app=1")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let version = listed.metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("app=1");
    let mut events = Box::pin(maps.watch(&params, &version).await.unwrap());
    maps.create(&post, &config_map("b", "2")).await.unwrap();
    maps.create(&post, &config_map("c", "1")).await.unwrap();
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "app": "2" } } }));
    maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    maps.delete("c", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => format!("added {}", map.metadata.name.unwrap()),
            WatchEvent::Deleted(map) => format!("deleted {}", map.metadata.name.unwrap()),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added c", "deleted a", "deleted c"]);
}

#[tokio::test]
async fn a_watcher_begins_anew_when_its_version_is_gone() {
    let server = ApiServer::new();
    let maps = maps(&server);
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let mut events = Box::pin(watcher::watcher(maps.clone(), watcher::Config::default()));
    let mut names = Vec::new();
    let mut inits = 0;
    while inits < 2 {
        match events.next().await {
            Some(Ok(Event::InitApply(map))) => names.push(map.metadata.name.unwrap()),
            Some(Ok(Event::InitDone)) => {
                inits += 1;
                if inits == 1 {
                    maps.create(&PostParams::default(), &config_map("b", "1")).await.unwrap();
                    server.expire();
                }
            }
            Some(_) => {}
            None => panic!("a watcher never ends"),
        }
    }
    assert_eq!(names, ["a", "a", "b"]);
}

#[tokio::test]
async fn what_is_held_back_is_shown_when_it_is_released() {
    let server = ApiServer::new();
    let maps = maps(&server);
    server.hold("ConfigMap");
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let stale = maps.list(&ListParams::default().match_any()).await.unwrap();
    assert!(stale.items.is_empty());
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    server.release("ConfigMap");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
}

#[tokio::test]
async fn faults_happen_to_the_write_that_they_are_for() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let post = PostParams::default();
    server.fail(at_write(2, Fault::Refuse(429)));
    maps.create(&post, &config_map("a", "1")).await.unwrap();
    assert_eq!(code(&maps.create(&post, &config_map("b", "1")).await.unwrap_err()), 429);
    maps.create(&post, &config_map("b", "1")).await.unwrap();

    server.fail(crash_after(1));
    assert_eq!(code(&maps.create(&post, &config_map("c", "1")).await.unwrap_err()), 0);
    assert!(maps.get("a").await.is_err());
    server.restart();
    assert!(maps.get("c").await.is_ok(), "it was done before the crash");
    let verbs: Vec<Verb> = server.writes().iter().map(|call| call.verb).collect();
    assert_eq!(verbs, [Verb::Create; 4]);
}

#[tokio::test]
async fn discovery_tells_of_versions_that_are_not_hidden() {
    let server = ApiServer::new();
    server.hide("policy", "v1");
    let groups = server.client().list_api_groups().await.unwrap().groups;
    let policy = groups.into_iter().find(|group| group.name == "policy").unwrap();
    let versions: Vec<String> = policy.versions.into_iter().map(|one| one.version).collect();
    assert_eq!(versions, ["v1beta1"]);
}

#[tokio::test]
async fn what_lost_its_owner_is_collected() {
    let server = ApiServer::new();
    let owner = server
        .put(&json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "o" } }), "n");
    let reference = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "o",
        "uid": owner["metadata"]["uid"] }]);
    let owned = json!({ "kind": "Secret", "apiVersion": "v1",
        "metadata": { "name": "s", "ownerReferences": reference } });
    server.put(&owned, "n");
    assert_eq!(server.collect_garbage(), 0);
    server.delete("ConfigMap", "n", "o");
    assert_eq!(server.collect_garbage(), 1);
    assert!(server.objects().is_empty());
}
