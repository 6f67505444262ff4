//! The controllers against a server that fails: whatever happens, in the end everything is as if
//! nothing had, and what must be made once is made once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::operator::{NAMESPACE, Operator, apply_manifest, start_pods};
use super::runs::{
    MINIMAL, PLURAL, Running, SMALL, bring_about, check_same, condition, undisturbed,
};
use super::{ApiServer, Call, Fault, Plan, Verb, at_every, at_write, crash_after};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/controllers").join(name)
}

/// `UPDATE_GOLDEN=1 cargo test -p weft-operator controllers_tests` writes the file anew.
#[tokio::test]
async fn a_manifest_becomes_these_objects() {
    let (objects, _) = undisturbed(MINIMAL).await;
    let text = format!("{}\n", serde_json::to_string_pretty(&objects).unwrap());
    let path = golden("minimal.objects.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected: BTreeMap<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&expected), names(&objects));
    for (name, object) in &expected {
        assert_eq!(object, &objects[name], "{name}");
    }
}

#[tokio::test]
async fn nothing_is_written_when_nothing_is_to_be_done() {
    let server = ApiServer::new();
    bring_about(&server, PLURAL, None).await;
    let before = server.writes().len();
    // A new process remembers nothing, and finds everything as it should be.
    let operator = Operator::start(&server).await;
    for _ in 0..3 {
        let errors = operator.pass().await;
        assert!(errors.is_empty(), "{errors:?}");
        operator.catch_up().await;
    }
    let written: Vec<String> = server.writes()[before..].iter().map(Call::to_string).collect();
    assert!(written.is_empty(), "{written:#?}");
}

#[tokio::test]
async fn a_crash_after_any_write_changes_nothing_in_the_end() {
    let (expected, writes) = undisturbed(SMALL).await;
    for number in 1..=writes {
        let server = ApiServer::new();
        let deaths = bring_about(&server, SMALL, Some(crash_after(number))).await;
        assert_eq!(deaths, 1, "write {number} of {writes}");
        check_same(&expected, &server, &format!("crash after write {number}"));
    }
}

#[tokio::test]
async fn crashes_again_and_again_change_nothing_in_the_end() {
    let (expected, _) = undisturbed(PLURAL).await;
    let server = ApiServer::new();
    apply_manifest(&server, PLURAL);
    // Each process dies after its third write.
    for pods in [false, false, true] {
        loop {
            server.fail(crash_after(3));
            let settled = Operator::start(&server).await.settle().await;
            server.restart();
            if settled.is_ok() {
                break;
            }
        }
        if !pods {
            start_pods(&server);
        }
    }
    check_same(&expected, &server, "a crash after every third write");
}

#[tokio::test]
async fn a_refused_or_unanswered_write_changes_nothing_in_the_end() {
    let (expected, writes) = undisturbed(SMALL).await;
    let faults = [
        Fault::Refuse(409),
        Fault::Refuse(429),
        Fault::Refuse(500),
        Fault::DoneBut(500),
        Fault::Reset,
        Fault::Lost,
    ];
    // Each write fails in one of the ways, and each way happens to a sixth of them.
    for shift in 0..faults.len() {
        let server = ApiServer::new();
        let mut last = 0;
        let plan: Plan = Box::new(move |call| {
            let number = call.write?;
            // Every other request of a kind fails: what fails is tried again, and must get on.
            last = if last + 1 < number { number } else { return None };
            Some(faults[(number + shift) % faults.len()])
        });
        bring_about(&server, SMALL, Some(plan)).await;
        check_same(&expected, &server, &format!("faults from {shift}"));
    }
    for number in 1..=writes {
        let server = ApiServer::new();
        let fault = faults[number % faults.len()];
        bring_about(&server, SMALL, Some(at_write(number, fault))).await;
        check_same(&expected, &server, &format!("{fault:?} at write {number}"));
    }
}

#[tokio::test]
async fn slow_answers_change_nothing_in_the_end() {
    let (expected, _) = undisturbed(SMALL).await;
    let server = ApiServer::new();
    let delay = Fault::Delay(Duration::from_millis(2));
    bring_about(&server, SMALL, Some(at_every(3, delay))).await;
    check_same(&expected, &server, "delays");
}

/// What is shown late is taken for what it is not: things are done twice, and nothing is lost.
#[tokio::test]
async fn caches_that_lag_change_nothing_in_the_end() {
    let (expected, _) = undisturbed(PLURAL).await;
    let kinds = [
        "Secret",
        "ConfigMap",
        "StatefulSet",
        "Service",
        "Organization",
        "LedgerNetwork",
        "Channel",
        "PersistentVolumeClaim",
    ];
    for held in kinds {
        let server = ApiServer::new();
        apply_manifest(&server, PLURAL);
        let operator = Operator::start(&server).await;
        for _ in 0..2 {
            server.hold(held);
            for _ in 0..3 {
                operator.catch_up().await;
                operator.pass().await;
            }
            server.release(held);
            operator.catch_up().await;
            operator.pass().await;
        }
        operator.settle().await.unwrap();
        for _ in 0..2 {
            start_pods(&server);
            operator.settle().await.unwrap();
        }
        check_same(&expected, &server, &format!("{held} shown late"));
    }
}

/// The last processes' caches may be old when the next one writes.
#[tokio::test]
async fn two_processes_at_the_same_time_make_things_once() {
    let (expected, _) = undisturbed(PLURAL).await;
    let server = ApiServer::new();
    apply_manifest(&server, PLURAL);
    let (one, other) = tokio::join!(Operator::start(&server), Operator::start(&server));
    for _ in 0..6 {
        tokio::join!(one.pass(), other.pass());
    }
    drop(one);
    for _ in 0..2 {
        other.settle().await.unwrap();
        start_pods(&server);
    }
    other.settle().await.unwrap();
    check_same(&expected, &server, "two processes");
}

#[tokio::test]
async fn a_watch_that_expires_changes_nothing_in_the_end() {
    let (expected, _) = undisturbed(MINIMAL).await;
    let server = ApiServer::new();
    apply_manifest(&server, MINIMAL);
    let operator = Operator::start(&server).await;
    operator.pass().await;
    server.expire();
    operator.settle().await.unwrap();
    for _ in 0..2 {
        start_pods(&server);
        operator.settle().await.unwrap();
    }
    check_same(&expected, &server, "watches that expire");
}

/// What is written by whom after a change to the authority of `org1`.
async fn after_harm(harm: impl Fn(&ApiServer), restart: bool) -> (ApiServer, Vec<Call>) {
    let server = ApiServer::new();
    bring_about(&server, PLURAL, None).await;
    let mut operator = Operator::start(&server).await;
    let before = server.writes().len();
    harm(&server);
    if restart {
        operator = Operator::start(&server).await;
    }
    operator.settle().await.unwrap();
    let written = server.writes()[before..].to_vec();
    (server, written)
}

/// Statuses and Events tell of it; nothing else changes.
fn check_only_told(written: &[Call]) {
    let told = |call: &&Call| !(call.status || call.kind.name == "Event");
    let others: Vec<String> = written.iter().filter(told).map(Call::to_string).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test]
async fn an_authority_that_is_gone_is_not_made_again() {
    for restart in [false, true] {
        for name in ["org1-ca", "org1-tlsca"] {
            let harm = |server: &ApiServer| server.delete("Secret", NAMESPACE, name);
            let (server, written) = after_harm(harm, restart).await;
            assert!(server.object("Secret", NAMESPACE, name).is_none());
            let told = condition(&server, "Organization", "org1", "CertificatesReady");
            assert_eq!(told, ("False".to_owned(), "AuthorityGone".to_owned()), "{name}");
            check_only_told(&written);
        }
        let harm = |server: &ApiServer| server.delete("Secret", NAMESPACE, "trade-orderer-ca");
        let (server, written) = after_harm(harm, restart).await;
        let told = condition(&server, "LedgerNetwork", "trade", "CertificatesReady");
        assert_eq!(told, ("False".to_owned(), "AuthorityGone".to_owned()));
        check_only_told(&written);
    }
}

#[tokio::test]
async fn an_authority_that_is_another_one_is_not_used() {
    for restart in [false, true] {
        let harm = |server: &ApiServer| {
            let other = server.object("Secret", NAMESPACE, "org2-ca").unwrap()["data"].clone();
            server.edit("Secret", NAMESPACE, "org1-ca", |secret| secret["data"] = other);
        };
        let (server, written) = after_harm(harm, restart).await;
        let told = condition(&server, "Organization", "org1", "CertificatesReady");
        assert_eq!(told, ("False".to_owned(), "AuthorityAltered".to_owned()));
        check_only_told(&written);
    }
}

#[tokio::test]
async fn a_status_that_is_lost_with_the_authority_does_not_make_a_new_one() {
    let harm = |server: &ApiServer| {
        server.delete("Secret", NAMESPACE, "org1-ca");
        server.edit_status("Organization", NAMESPACE, "org1", |status| *status = Value::Null);
    };
    let (server, _) = after_harm(harm, true).await;
    assert!(server.object("Secret", NAMESPACE, "org1-ca").is_none());
    let told = condition(&server, "Organization", "org1", "CertificatesReady");
    assert_eq!(told.1, "AuthorityGone");
}

#[tokio::test]
async fn a_genesis_block_that_is_gone_is_not_made_again() {
    for restart in [false, true] {
        let harm = |server: &ApiServer| server.delete("ConfigMap", NAMESPACE, "supply-genesis");
        let (server, written) = after_harm(harm, restart).await;
        let recorded = server.object("Channel", NAMESPACE, "supply").unwrap();
        assert!(recorded["status"]["genesisHash"].is_string(), "{recorded:#}");
        assert!(server.object("ConfigMap", NAMESPACE, "supply-genesis").is_none());
        check_only_told(&written);
    }
}

#[tokio::test]
async fn objects_of_strangers_are_left_alone() {
    let server = ApiServer::new();
    let stranger = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "org1-peer-0" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    let made = server.put(&stranger, NAMESPACE);
    apply_manifest(&server, MINIMAL);
    let operator = Operator::start(&server).await;
    for _ in 0..4 {
        operator.catch_up().await;
        operator.pass().await;
    }
    assert_eq!(server.object("Service", NAMESPACE, "org1-peer-0").unwrap(), made);
}

#[tokio::test]
async fn nothing_is_made_for_an_object_that_is_paused() {
    let server = ApiServer::new();
    let paused = MINIMAL.replace(
        "metadata: {name: basic}",
        "metadata: {name: basic, annotations: {weft.dev/paused: \"true\"}}",
    );
    bring_about(&server, &paused, None).await;
    let made: Vec<String> = server
        .writes()
        .iter()
        .filter(|call| matches!(call.verb, Verb::Create | Verb::Apply) && !call.status)
        .filter(|call| call.kind.name != "Event")
        .map(Call::to_string)
        .collect();
    assert!(made.is_empty(), "{made:#?}");
}

/// The controllers as they run, with their queues and pauses.
#[tokio::test]
async fn running_controllers_bring_the_same_about_and_then_write_nothing() {
    let (expected, _) = undisturbed(SMALL).await;
    let server = ApiServer::new();
    let running = Running::start(&server).await;
    apply_manifest(&server, SMALL);
    running.quiet().await;
    for _ in 0..2 {
        start_pods(&server);
        running.quiet().await;
    }
    check_same(&expected, &server, "running controllers");
    running.stop().await;
}

#[tokio::test]
async fn a_name_that_a_stranger_has_is_told() {
    let server = ApiServer::new();
    let stranger = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "org1-peer" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    let made = server.put(&stranger, NAMESPACE);
    let running = Running::start(&server).await;
    apply_manifest(&server, SMALL);
    running.quiet().await;
    assert_eq!(server.object("Service", NAMESPACE, "org1-peer").unwrap(), made);
    let told = condition(&server, "Organization", "org1", "Ready");
    assert_eq!(told, ("False".to_owned(), "NameTaken".to_owned()));
    running.stop().await;
}
