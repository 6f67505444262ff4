#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Ca, Server, call, connector, eventually, hex, open};
use weft_rpc::connect::{ClientIdentity, ConnectError, Endpoint, EndpointTls};
use weft_rpc::listen::Security;
use weft_rpc::tls::{
    CertificateDer, ClientAuth, ReloadingTls, RootSet, TlsError, TlsFiles, TlsIdentity,
};

fn named(address: &str, name: &str) -> Endpoint {
    let tls = EndpointTls { server_name: Some(name.to_owned()), ..EndpointTls::default() };
    Endpoint { address: address.to_owned(), tls: Some(tls) }
}

/// A call over a new connection. With TLS 1.3 a client learns of its refusal only afterwards.
async fn reach(tls: ReloadingTls, endpoint: &Endpoint) -> Result<String, String> {
    let channel = connector(tls).connect(endpoint).await.map_err(|error| error.to_string())?;
    call(channel).await.map_err(|status| status.to_string())
}

#[tokio::test]
async fn client_certificates_are_optional_or_required() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let tls = ours.tls();
    for (auth, anonymous_may) in [(ClientAuth::Optional, true), (ClientAuth::Required, false)] {
        let server = Server::start(Security::tls(&tls, auth)).await;
        let endpoint = Endpoint::tls(&server.address);
        let member = ours.client_of(&ours);
        let leaf = hex(member.identity().unwrap().leaf_sha256());
        assert_eq!(reach(member, &endpoint).await, Ok(leaf), "{auth:?}");
        let anonymous = reach(ours.anonymous(), &endpoint).await;
        assert_eq!(anonymous.is_ok(), anonymous_may, "{auth:?} {anonymous:?}");
        if anonymous_may {
            assert_eq!(anonymous, Ok(String::new()));
        }
        let stranger = reach(ours.client_of(&theirs), &endpoint).await;
        assert!(stranger.is_err(), "{auth:?}: a certificate of another CA was accepted");
        let shy = Endpoint {
            tls: Some(EndpointTls { client: ClientIdentity::Anonymous, ..Default::default() }),
            ..endpoint.clone()
        };
        assert_eq!(reach(ours.client_of(&theirs), &shy).await.is_ok(), anonymous_may);
    }
}

/// Fabric's client library for Node shows a certificate that it signed itself, for requests to be
/// tied to.
#[tokio::test]
async fn a_self_signed_certificate_passes_where_none_is_needed_and_proves_nothing() {
    let ours = Ca::new("ours");
    let own = support::self_signed();
    let shown = format!("{}?", hex(own.leaf_sha256()));
    let client = ReloadingTls::from_parts(Some(own), ours.roots(), RootSet::new());
    let server = Server::start(Security::tls(&ours.tls(), ClientAuth::Optional)).await;
    assert_eq!(reach(client.clone(), &Endpoint::tls(&server.address)).await, Ok(shown));
    let server = Server::start(Security::tls(&ours.tls(), ClientAuth::Required)).await;
    assert!(reach(client, &Endpoint::tls(&server.address)).await.is_err());
}

/// What was shown on a connection holds for each call on it, as it is never made again.
#[tokio::test]
async fn a_connection_of_its_own_ends_for_good() {
    let ours = Ca::new("ours");
    let tls = ours.tls();
    let server = Server::start(Security::tls(&tls, ClientAuth::Optional)).await;
    let endpoint = Endpoint::tls(&server.address);
    let connector = connector(ours.anonymous());
    let connection = connector.connection(&endpoint).await.unwrap();
    let again = connector.channel(&endpoint).unwrap();
    let shown = tls.identity().unwrap().leaf_sha256();
    assert_eq!(connection.served_sha256(), Some(shown));
    assert!(call(connection.channel()).await.is_ok());
    assert!(call(again.clone()).await.is_ok());
    tls.set_identity(ours.leaf(&["127.0.0.1"], 8).identity());
    server.connections.close_all();
    eventually("both connections are closed", || server.connections.is_empty()).await;
    // A channel connects again, to whatever is shown now.
    while call(again.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(call(connection.channel()).await.is_err());
    assert!(call(connection.channel()).await.is_err());
    assert_eq!(connection.served_sha256(), Some(shown));
    let renewed = connector.connection(&endpoint).await.unwrap();
    assert_eq!(renewed.served_sha256(), tls.identity().map(|it| it.leaf_sha256()));
    let plain = Server::start(Security::Plain).await;
    let plain = connector.connection(&Endpoint::plain(&plain.address)).await.unwrap();
    assert_eq!(plain.served_sha256(), None);
    assert!(call(plain.channel()).await.is_ok());
}

#[tokio::test]
async fn servers_are_recognised_by_ca_name_and_key() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let tls = ours.tls_for(&["node.example", "127.0.0.1"]);
    let server = Server::start(Security::tls(&tls, ClientAuth::Optional)).await;
    let address = server.address.as_str();
    let connect = async |tls: ReloadingTls, endpoint: Endpoint| {
        connector(tls).connect(&endpoint).await.map(|_| ())
    };
    connect(ours.anonymous(), Endpoint::tls(address)).await.expect("the address is a SAN");
    connect(ours.anonymous(), named(address, "node.example")).await.expect("the name is a SAN");
    let wrong_name = connect(ours.anonymous(), named(address, "other.example")).await;
    assert!(matches!(wrong_name, Err(ConnectError::Handshake { .. })), "{wrong_name:?}");
    let wrong_ca = connect(theirs.anonymous(), Endpoint::tls(address)).await;
    assert!(matches!(wrong_ca, Err(ConnectError::Handshake { .. })), "{wrong_ca:?}");
    let nobody = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
    let no_roots = connect(nobody, Endpoint::tls(address)).await;
    assert!(matches!(no_roots, Err(ConnectError::Handshake { .. })), "{no_roots:?}");
    connect(theirs.anonymous(), Endpoint::with_roots(address, vec![ours.der()]))
        .await
        .expect("roots of the endpoint come before those of the node");

    let pinned = |certificate: &CertificateDer<'static>| Endpoint {
        address: address.to_owned(),
        tls: Some(EndpointTls { pinned: Some(certificate.clone()), ..EndpointTls::default() }),
    };
    let own = tls.identity().unwrap().chain()[0].clone();
    connect(ours.anonymous(), pinned(&own)).await.expect("the key is the pinned one");
    let other = ours.leaf(&["127.0.0.1"], 8).identity().chain()[0].clone();
    let wrong_key = connect(ours.anonymous(), pinned(&other)).await;
    assert!(matches!(wrong_key, Err(ConnectError::Pinned { .. })), "{wrong_key:?}");
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles {
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
        root_cas: vec![dir.join("ca.crt")],
        client_root_cas: vec![dir.join("ca.crt")],
        crls: vec![dir.join("crl.pem")],
    }
}

#[tokio::test]
async fn a_changed_certificate_is_taken_over_and_connections_stay() {
    let ca = Ca::new("ca");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    std::fs::write(dir.path().join("crl.pem"), ca.crl(&[])).unwrap();
    ca.leaf(&["old.example"], 1).write(dir.path());
    let tls = ReloadingTls::load(files(dir.path())).unwrap();
    let server = Server::start(Security::tls(&tls, ClientAuth::Optional)).await;
    let old = connector(ca.tls()).connect(&named(&server.address, "old.example")).await.unwrap();
    call(old.clone()).await.unwrap();

    let new = ca.leaf(&["new.example"], 2);
    std::fs::write(dir.path().join("server.crt"), &new.cert).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Key { .. })), "the key does not fit yet");
    std::fs::write(dir.path().join("server.key"), &new.key).unwrap();
    let _watching = tls.watch(std::time::Duration::from_millis(20));
    let der = new.identity().chain()[0].clone();
    eventually("the new certificate", || tls.identity().unwrap().chain()[0] == der).await;

    connector(ca.tls()).connect(&named(&server.address, "new.example")).await.unwrap();
    assert!(connector(ca.tls()).connect(&named(&server.address, "old.example")).await.is_err());
    assert!(!tls.reload().unwrap(), "nothing changed since");
    let connections = server.connections.len();
    call(old).await.expect("the connection from before is still in use");
    assert_eq!(server.connections.len(), connections, "no new connection was made for it");
}

#[tokio::test]
async fn a_changed_root_set_counts_at_once() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let tls = ours.tls();
    let server = Server::start(Security::tls(&tls, ClientAuth::Required)).await;
    let endpoint = Endpoint::tls(&server.address);
    assert!(reach(ours.client_of(&theirs), &endpoint).await.is_err());

    assert_eq!(tls.client_roots().set("channel/supply", vec![theirs.der()]), []);
    let channel = connector(ours.client_of(&theirs)).connect(&endpoint).await.unwrap();
    let (_requests, mut responses) = open(channel, "x").await.unwrap();
    responses.message().await.unwrap();
    let own = connector(ours.client_of(&ours)).connect(&endpoint).await.unwrap();
    let (_own_requests, mut own_responses) = open(own, "x").await.unwrap();
    own_responses.message().await.unwrap();

    tls.client_roots().remove("channel/supply");
    assert!(responses.message().await.is_err(), "the open stream was not cut");
    assert!(reach(ours.client_of(&theirs), &endpoint).await.is_err());
    _own_requests.send(support::envelope("y")).await.unwrap();
    own_responses.message().await.unwrap().expect("the other stream goes on");

    let refused = tls.client_roots().set("junk", vec![CertificateDer::from(vec![1, 2, 3])]);
    assert_eq!(refused[0].index, 0);
    assert_eq!(tls.client_roots().len(), 1);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_connection_cut() {
    let ca = Ca::new("ca");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    std::fs::write(dir.path().join("crl.pem"), ca.crl(&[77])).unwrap();
    ca.leaf(&["127.0.0.1"], 1).write(dir.path());
    let tls = ReloadingTls::load(files(dir.path())).unwrap();
    let server = Server::start(Security::tls(&tls, ClientAuth::Optional)).await;
    let endpoint = Endpoint::tls(&server.address);
    let client = ca.client_of(&ca); // serial 9
    let channel = connector(client.clone()).connect(&endpoint).await.unwrap();
    let (_requests, mut responses) = open(channel, "x").await.unwrap();
    responses.message().await.unwrap();

    std::fs::write(dir.path().join("crl.pem"), ca.crl(&[77, 9])).unwrap();
    assert!(tls.reload().unwrap());
    assert!(responses.message().await.is_err(), "the open stream was not cut");
    assert!(reach(client, &endpoint).await.is_err());
    reach(ca.anonymous(), &endpoint).await.unwrap();

    std::fs::write(
        dir.path().join("crl.pem"),
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Crl { .. })));
}

#[test]
fn errors_name_the_file() {
    let ca = Ca::new("ca");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let check = |wanted: &str| {
        let error = ReloadingTls::load(files(dir.path())).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error:?} does not name {wanted:?}");
    };
    check("server.crt");
    ca.leaf(&["a"], 1).write(dir.path());
    check("ca.crt");
    std::fs::write(path("ca.crt"), "no certificate").unwrap();
    std::fs::write(path("crl.pem"), "").unwrap();
    check("failed to find a certificate in");
    std::fs::write(path("ca.crt"), ca.pem()).unwrap();
    ReloadingTls::load(files(dir.path())).expect("an empty list of revoked certificates is none");
    std::fs::write(path("server.key"), ca.leaf(&["a"], 1).key).unwrap();
    check("private key");
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn material_made_with_the_openssl_command_works() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("san.ext"), "subjectAltName=DNS:node.example,IP:127.0.0.1\n").unwrap();
    // Any extension makes it X.509 v3; rustls-webpki knows no other version.
    std::fs::write(dir.join("client.ext"), "keyUsage=digitalSignature\n").unwrap();
    for arguments in [
        "ecparam -name prime256v1 -genkey -out ca.key",
        "req -x509 -new -key ca.key -days 30 -subj /CN=ca -out ca.crt",
        "ecparam -name prime256v1 -genkey -out server.key",
        "req -new -key server.key -subj /CN=node -out server.csr",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile san.ext -out server.crt",
        "ecparam -name prime256v1 -genkey -noout -out sec1.key",
        "pkcs8 -topk8 -nocrypt -in sec1.key -out client.key",
        "req -new -key client.key -subj /CN=client -out client.csr",
        "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile client.ext -out client.crt",
    ] {
        openssl(dir, arguments);
    }
    std::fs::write(dir.join("crl.pem"), "").unwrap();
    let tls = ReloadingTls::load(files(dir)).unwrap();
    let server = Server::start(Security::tls(&tls, ClientAuth::Required)).await;
    let client = TlsIdentity::load(&dir.join("client.crt"), &dir.join("client.key")).unwrap();
    let leaf = hex(client.leaf_sha256());
    let client = ReloadingTls::from_parts(Some(client), tls.server_roots().clone(), RootSet::new());
    assert_eq!(reach(client.clone(), &Endpoint::tls(&server.address)).await, Ok(leaf.clone()));
    assert_eq!(reach(client, &named(&server.address, "node.example")).await, Ok(leaf));

    // The other way round: openssl's own client, with TLS 1.2.
    let command = format!(
        "s_client -connect {} -tls1_2 -alpn h2 -CAfile ca.crt -cert client.crt -key client.key \
         -verify_return_error -verify_ip 127.0.0.1",
        server.address
    );
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || openssl(&dir, &command)).await.unwrap();
}
