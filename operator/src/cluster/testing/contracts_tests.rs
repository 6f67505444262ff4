//! Contracts that register: the certificates that members have for them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weft_crypto::{Certificate, PrivateKey, SubjectAltName};
use weft_package::PackageId;

use super::operator::{NAMESPACE, Operator, apply_manifest, start_pods};
use super::runs::{
    PLURAL, Running, SMALL, bring_about, check_made_once, check_same, condition, undisturbed,
};
use super::{ApiServer, crash_after, normal};

const SECRETS: [&str; 2] = ["org1-contract-asset", "org2-contract-asset"];

fn registering(manifest: &str) -> String {
    let text = manifest.replace("image: \"asset-contract:0.1.0\"", "register: true");
    assert_ne!(text, manifest);
    text
}

async fn made() -> ApiServer {
    let server = ApiServer::new();
    bring_about(&server, &registering(PLURAL), None).await;
    server
}

async fn settle(server: &ApiServer) {
    Operator::start(server).await.settle().await.unwrap();
}

/// The decoded data of a Secret.
fn data(server: &ApiServer, name: &str) -> BTreeMap<String, Vec<u8>> {
    let secret = server.object("Secret", NAMESPACE, name).unwrap_or_else(|| panic!("no {name}"));
    let data = secret["data"].as_object().unwrap().clone();
    let decoded = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    data.iter().map(|(name, value)| (name.clone(), decoded(value))).collect()
}

fn certificate(data: &BTreeMap<String, Vec<u8>>, key: &str) -> Certificate {
    Certificate::from_pem(std::str::from_utf8(&data[key]).unwrap()).unwrap()
}

fn package(server: &ApiServer) -> PackageId {
    let chaincode = server.object("Chaincode", NAMESPACE, "asset").unwrap();
    chaincode["status"]["packageId"].as_str().unwrap().parse().unwrap()
}

/// What a peer of the organization takes for the contract of the package, and of no other.
fn check_for(server: &ApiServer, secret: &str, package: &PackageId) {
    let data = data(server, secret);
    let own = certificate(&data, "tls.crt");
    assert_eq!(own.sans(), [SubjectAltName::Uri(package.certificate_name())], "{secret}");
    let authority = secret.replace("-contract-asset", "-tlsca");
    let authority = certificate(&self::data(server, &authority), "tls.crt");
    own.verify_signed_by(&authority).unwrap();
    assert_eq!(certificate(&data, "ca.crt"), authority);
    let key = std::str::from_utf8(&data["tls.key"]).unwrap();
    assert_eq!(PrivateKey::from_pkcs8_pem(key).unwrap().public_key(), own.public_key());
    for name in ["tls.crt", "tls.key"] {
        let wrapped = STANDARD.decode(&data[&format!("{name}.base64")]).unwrap();
        assert_eq!(wrapped, data[name], "{secret}: {name}");
    }
    assert_eq!(data["packageId"], package.to_string().as_bytes());
}

/// `UPDATE_GOLDEN=1 cargo test -p weft-operator contracts_tests` writes the file anew.
#[tokio::test]
async fn a_contract_that_registers_becomes_these_secrets() {
    let server = made().await;
    let objects = normal::objects(&server).into_iter();
    let found: BTreeMap<_, _> = objects.filter(|(name, _)| name.contains("-contract-")).collect();
    let text = format!("{}\n", serde_json::to_string_pretty(&found).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/controllers/registering.secrets.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[tokio::test]
async fn each_member_has_a_certificate_for_just_the_package() {
    let server = made().await;
    let package = package(&server);
    for name in SECRETS {
        check_for(&server, name, &package);
    }
    let keys = SECRETS.map(|name| data(&server, name)["tls.key"].clone());
    assert_ne!(keys[0], keys[1]);
    check_made_once(&server);
}

#[tokio::test]
async fn a_new_version_has_a_new_certificate() {
    let server = made().await;
    let before = package(&server);
    let key = data(&server, SECRETS[0])["tls.key"].clone();
    server.edit("Chaincode", NAMESPACE, "asset", |one| one["spec"]["version"] = "1.1".into());
    settle(&server).await;
    let after = package(&server);
    assert_ne!(before, after);
    check_for(&server, SECRETS[0], &after);
    assert_eq!(data(&server, SECRETS[0])["tls.key"], key, "the key stays");
    let told =
        server.objects().into_values().any(|object| object["reason"] == "CertificateRenewed");
    assert!(told);
}

#[tokio::test]
async fn a_certificate_goes_with_what_it_is_for_and_with_nothing_else() {
    let gone =
        |server: &ApiServer| SECRETS.map(|name| server.object("Secret", NAMESPACE, name).is_none());
    type Change = fn(&ApiServer);
    let invalid: Change = |server| {
        server.edit("Chaincode", NAMESPACE, "asset", |one| {
            one["spec"]["endorsementPolicy"] = "OR(".into();
        });
    };
    let no_channel: Change = |server| server.delete("Channel", NAMESPACE, "supply");
    let leaves: Change = |server| {
        server.edit("Channel", NAMESPACE, "supply", |one| {
            one["spec"]["organizations"] = json!(["org1"]);
        });
    };
    let is_dialled: Change = |server| {
        server.edit("Chaincode", NAMESPACE, "asset", |one| {
            one["spec"]["register"] = false.into();
            one["spec"]["address"] = "asset:9999".into();
        });
    };
    let deleted: Change = |server| server.delete("Chaincode", NAMESPACE, "asset");
    let cases = [
        ("a spec that is not valid", invalid, [false, false]),
        ("a channel that is gone", no_channel, [false, false]),
        ("a member that leaves", leaves, [false, true]),
        ("a contract that is dialled", is_dialled, [true, true]),
        ("a chaincode that is deleted", deleted, [true, true]),
    ];
    for (what, change, expected) in cases {
        let server = made().await;
        let before = data(&server, SECRETS[0]);
        change(&server);
        settle(&server).await;
        assert_eq!(gone(&server), expected, "{what}");
        if !expected[0] {
            assert_eq!(data(&server, SECRETS[0]), before, "{what}");
        }
    }
}

#[tokio::test]
async fn it_goes_with_its_organization() {
    let server = ApiServer::new();
    bring_about(&server, &registering(SMALL), None).await;
    assert!(server.object("Secret", NAMESPACE, SECRETS[0]).is_some());
    server.delete("Organization", NAMESPACE, "org1");
    server.collect_garbage();
    assert!(server.object("Secret", NAMESPACE, SECRETS[0]).is_none());
}

#[tokio::test]
async fn a_crash_after_any_write_changes_nothing_in_the_end() {
    let manifest = registering(SMALL);
    let (expected, writes) = undisturbed(&manifest).await;
    for number in 1..=writes {
        let server = ApiServer::new();
        bring_about(&server, &manifest, Some(crash_after(number))).await;
        check_same(&expected, &server, &format!("crash after write {number}"));
    }
}

#[tokio::test]
async fn a_secret_of_a_stranger_is_left_alone() {
    let server = ApiServer::new();
    let stranger = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRETS[0] },
        "data": { "token": "aHVudGVyMg==" },
    });
    let made = server.put(&stranger, NAMESPACE);
    let running = Running::start(&server).await;
    apply_manifest(&server, &registering(SMALL));
    running.quiet().await;
    assert_eq!(server.object("Secret", NAMESPACE, SECRETS[0]).unwrap(), made);
    let told = condition(&server, "Organization", "org1", "Ready");
    assert_eq!(told, ("False".to_owned(), "NameTaken".to_owned()));
    running.stop().await;
}

/// What changes wakes the organization, which would look by itself only minutes later.
#[tokio::test]
async fn running_controllers_follow_at_once() {
    let server = ApiServer::new();
    let running = Running::start(&server).await;
    apply_manifest(&server, &registering(SMALL));
    running.quiet().await;
    start_pods(&server);
    running.quiet().await;
    check_for(&server, SECRETS[0], &package(&server));
    server.delete("Secret", NAMESPACE, SECRETS[0]);
    running.quiet().await;
    check_for(&server, SECRETS[0], &package(&server));
    server.edit("Chaincode", NAMESPACE, "asset", |one| one["spec"]["version"] = "1.1".into());
    running.quiet().await;
    check_for(&server, SECRETS[0], &package(&server));
    server.delete("Chaincode", NAMESPACE, "asset");
    running.quiet().await;
    assert!(server.object("Secret", NAMESPACE, SECRETS[0]).is_none());
    running.stop().await;
}
