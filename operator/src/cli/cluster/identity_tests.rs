//! Adding users to an organization: decided, and against an API server in memory.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::super::objects::tests::objects;
use super::*;
use crate::cluster::testing::{ApiServer, Fault, at_write};

fn check(org: &str, user: &str, role: Option<Role>, expected: &str) {
    let objects = objects();
    let found = match users_with(objects.organization(org).unwrap(), user, role) {
        Ok(None) => "there".to_owned(),
        Ok(Some(users)) => {
            let texts = users.iter().map(|one| format!("{} {:?}", one.name, one.role));
            texts.collect::<Vec<_>>().join(", ")
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn a_user_is_added_once() {
    check("org1", "eve", None, "ada Client, bob Client, eve Client");
    check("org1", "eve", Some(Role::Admin), "ada Client, bob Client, eve Admin");
    check("org1", "ada", None, "there");
    check("org1", "ada", Some(Role::Client), "there");
    check("org1", "admin", Some(Role::Admin), "there");
    check("org2", "eve", None, "eve Client");
}

#[test]
fn a_role_is_not_changed_by_the_way() {
    check(
        "org1",
        "ada",
        Some(Role::Admin),
        "failed to issue an identity to ada of org1: ada is there already, with the role Client; choose another name, or change spec.users of Organization org1",
    );
}

#[test]
fn an_external_organization_issues_its_own() {
    check(
        "partner",
        "eve",
        None,
        "organization \"partner\" is external: its keys and peers are elsewhere, so issuing identities is up to whoever runs it",
    );
}

/// A server with the organizations of the test manifest.
fn server() -> ApiServer {
    let server = ApiServer::new();
    for organization in objects().organizations {
        server.put(&serde_json::to_value(&organization).unwrap(), "ledger");
    }
    server
}

fn context(server: &ApiServer) -> Context {
    Context { client: server.client(), namespace: "ledger".to_owned() }
}

fn args(user: &str) -> IssueArgs {
    IssueArgs { org: "Org1MSP".into(), user: user.into(), role: None, out: None, timeout: 1 }
}

fn users(server: &ApiServer) -> Vec<String> {
    let organization = server.object("Organization", "ledger", "org1").unwrap();
    let users = organization["spec"]["users"].as_array().unwrap();
    users.iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_clash_is_seen_and_the_user_added_to_what_is_there_then() {
    let server = server();
    let context = context(&server);
    let stale = Objects::read(&context).await.unwrap();
    ensure_user(&context, &args("eve")).await.unwrap();
    // Whoever read before that does not take eve out again.
    let organization = stale.organization("org1").unwrap();
    let mine = users_with(organization, "zed", None).unwrap().unwrap();
    let error = add(&context, organization, &mine).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    assert_eq!(users(&server), ["ada", "bob", "eve"]);
    // The command reads again when that happens to it.
    server.fail(at_write(1, Fault::Refuse(409)));
    ensure_user(&context, &args("zed")).await.unwrap();
    assert_eq!(users(&server), ["ada", "bob", "eve", "zed"]);
}

#[tokio::test]
async fn a_user_that_is_there_is_written_nowhere() {
    let server = server();
    ensure_user(&context(&server), &args("ada")).await.unwrap();
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn an_identity_is_waited_for_until_it_is_complete() {
    let server = server();
    let context = context(&server);
    let organization = Objects::read(&context).await.unwrap().organization("org1").unwrap().clone();
    let error = wait(&context, &organization, &args("ada")).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "there is no Secret ledger/org1-user-ada after 1 s: is the operator running?"
    );
    let keys = ["cert.pem", "key.pem", "cacerts.pem", "tlscacerts.pem", "config.yaml"];
    let secret = Secret {
        metadata: ObjectMeta { name: Some("org1-user-ada".into()), ..ObjectMeta::default() },
        data: Some(keys.map(|key| (key.to_owned(), ByteString(b"a".to_vec()))).into()),
        ..Secret::default()
    };
    server.put(&serde_json::to_value(&secret).unwrap(), "ledger");
    assert!(wait(&context, &organization, &args("ada")).await.unwrap().is_complete());
}
