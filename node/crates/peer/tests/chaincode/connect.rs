//! Contracts that the peer dials.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use weft_contract::ServerTls;
use weft_peer::chaincode::package::Connection;
use weft_peer::chaincode::{ExecuteError, LaunchError, Runtime, RuntimeMetrics};
use weft_protos::{common, msp, peer};
use weft_testkit::Org;

use crate::contract::contract;
use crate::state::{MemoryState, name};
use crate::support::{Peer, call, config, eventually, free_address, start};

#[tokio::test]
async fn reads_and_writes() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut state = MemoryState::with(&[("cc", "a", "1"), ("other", "b", "2")]);
    assert_eq!(peer.ask(&mut state, &["Get", "a"]).await.unwrap(), "1");
    assert_eq!(peer.ask(&mut state, &["Get", "b"]).await.unwrap(), "none");
    assert_eq!(peer.ask(&mut state, &["GetMany", r#"["b","a"]"#]).await.unwrap(), "[false,true]");
    peer.ask(&mut state, &["Put", "c", "3"]).await.unwrap();
    peer.ask(&mut state, &["Delete", "a"]).await.unwrap();
    let writes: Vec<_> = state.writes.clone().into_iter().collect();
    assert_eq!(
        writes,
        [(name("cc", "a"), None), (name("cc", "c"), Some(Bytes::from_static(b"3")))]
    );
}

#[tokio::test]
async fn events_name_their_source() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let outcome =
        peer.invoke(&mut MemoryState::default(), call("tx1", &["Emit", "moved", "x"])).await;
    let event = outcome.unwrap().event.unwrap();
    assert_eq!((event.chaincode_id.as_str(), event.tx_id.as_str()), ("cc", "tx1"));
    assert_eq!((event.event_name.as_str(), event.payload.as_ref()), ("moved", &b"x"[..]));
}

#[tokio::test]
async fn the_proposal_reaches_the_contract() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut whoami = call("tx", &["Whoami"]);
    whoami.proposal = Some(proposal());
    let outcome = peer.invoke(&mut MemoryState::default(), whoami).await.unwrap();
    assert_eq!(outcome.response.payload, "Org1MSP 2023-11-14T22:13:20Z s3cret supply");
    let mut decorated = call("tx", &["Decoration", "d"]);
    decorated.decorations.insert("d".into(), Bytes::from_static(b"from the peer"));
    let outcome = peer.invoke(&mut MemoryState::default(), decorated).await.unwrap();
    assert_eq!(outcome.response.payload, "from the peer");
}

fn proposal() -> peer::SignedProposal {
    let channel_header = common::ChannelHeader {
        timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        ..Default::default()
    };
    let creator =
        msp::SerializedIdentity { mspid: "Org1MSP".into(), id_bytes: Bytes::from_static(b"pem") };
    let signature_header =
        common::SignatureHeader { creator: creator.encode_to_vec().into(), ..Default::default() };
    let header = common::Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: signature_header.encode_to_vec().into(),
    };
    let payload = peer::ChaincodeProposalPayload {
        transient_map: [("secret".to_owned(), Bytes::from_static(b"s3cret"))].into(),
        ..Default::default()
    };
    let proposal = peer::Proposal {
        header: header.encode_to_vec().into(),
        payload: payload.encode_to_vec().into(),
        ..Default::default()
    };
    peer::SignedProposal {
        proposal_bytes: proposal.encode_to_vec().into(),
        signature: Bytes::from_static(b"sig"),
    }
}

#[tokio::test]
async fn initialization() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let mut init = call("tx", &["IsInit"]);
    init.input.is_init = true;
    let refused = peer.invoke(&mut MemoryState::default(), init.clone()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "failed to execute transaction tx: invalid invocation: \
         it does not require initialization but called as init"
    );
    peer.host.init.insert("cc".into());
    let outcome = peer.invoke(&mut MemoryState::default(), init).await.unwrap();
    assert_eq!(outcome.response.payload, "true");
    let mut failing = call("tx", &["Fail", "500", "no luck"]);
    failing.input.is_init = true;
    let failed = peer.invoke(&mut MemoryState::default(), failing).await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "failed to execute transaction tx: transaction returned with failure: no luck"
    );
    // Legacy initialization without arguments succeeds and does nothing.
    let mut empty = call("tx", &[]);
    empty.input.is_init = true;
    let outcome = peer.invoke(&mut MemoryState::default(), empty).await.unwrap();
    assert_eq!(outcome.response.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_one_time() {
    let mut peer = Peer::new(config());
    peer.serve("cc", contract()).await;
    let peer = &peer;
    let transactions = (0..100).map(|n| async move {
        let mut state = MemoryState::with(&[("cc", "a", &n.to_string())]);
        let tx_id = format!("tx{n}");
        let got = peer.invoke(&mut state, call(&tx_id, &["Get", "a"])).await.unwrap();
        assert_eq!(got.response.payload, n.to_string());
        peer.invoke(&mut state, call(&tx_id, &["Put", "b", &n.to_string()])).await.unwrap();
        assert_eq!(state.writes[&name("cc", "b")].as_deref(), Some(n.to_string().as_bytes()));
    });
    futures::future::join_all(transactions).await;
}

#[tokio::test]
async fn the_first_call_waits_for_the_contract() {
    let mut peer = Peer::new(config());
    let address = free_address().await;
    let id = peer.install("cc", &Connection::plain(address.to_string()));
    let mut state = MemoryState::with(&[("cc", "a", "1")]);
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        start(&id, address, None, contract()).await
    };
    let (answer, _service) = tokio::join!(peer.ask(&mut state, &["Get", "a"]), late);
    assert_eq!(answer.unwrap(), "1");
    assert!(peer.runtime.is_connected(&id));
}

#[tokio::test]
async fn a_contract_that_is_not_there() {
    let mut config = config();
    config.startup_timeout = Duration::from_millis(300);
    let mut peer = Peer::new(config);
    let address = free_address().await;
    let id = peer.install("cc", &Connection::plain(address.to_string()));
    let mut state = MemoryState::default();
    let error = peer.invoke(&mut state, call("tx", &["Get", "a"])).await.unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string();
    let expect = format!(
        "failed to execute transaction tx: could not launch chaincode {id}: \
         failed to connect to the chaincode server at {address}: "
    );
    assert!(text.starts_with(&expect), "{text}");
    // Others need not wait as long for the same.
    let again = tokio::time::timeout(
        Duration::from_millis(250),
        peer.invoke(&mut state, call("tx", &["Get", "a"])),
    );
    assert_eq!(again.await.expect("at once").unwrap_err().to_string(), text);
    // And it is found when it comes.
    let _service = start(&id, address, None, contract()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(peer.ask(&mut state, &["Get", "a"]).await.unwrap(), "none");
}

#[tokio::test]
async fn packages_that_cannot_be_run() {
    let mut peer = Peer::new(config());
    let mut state = MemoryState::default();
    let hash = "0".repeat(64);
    peer.host.chaincodes.insert("cc".into(), format!("cc:{hash}"));
    let text = peer.ask(&mut state, &["Get", "a"]).await.unwrap_err();
    assert_eq!(
        text,
        format!(
            "failed to execute transaction tx: could not launch chaincode cc:{hash}: \
             chaincode install package 'cc:{hash}' not found"
        )
    );
    peer.install("cc", &Connection::plain("{{.peername}}_asset:9999"));
    let text = peer.ask(&mut state, &["Get", "a"]).await.unwrap_err();
    assert!(text.contains("failed to use the address \"{{.peername}}_asset:9999\""), "{text}");
    peer.install("cc", &Connection::plain("localhost"));
    let text = peer.ask(&mut state, &["Get", "a"]).await.unwrap_err();
    assert!(text.ends_with("it is not host:port"), "{text}");
}

#[tokio::test]
async fn a_contract_that_announces_another_id() {
    let mut config = config();
    config.startup_timeout = Duration::from_millis(500);
    let mut peer = Peer::new(config);
    let address = free_address().await;
    let id = peer.install("cc", &Connection::plain(address.to_string()));
    let _service = start("cc:other", address, None, contract()).await;
    let error = peer.invoke(&mut MemoryState::default(), call("tx", &["Get", "a"])).await;
    let error = error.unwrap_err();
    let ExecuteError::Launch { source, .. } = &error.source else { panic!("{error}") };
    assert!(matches!(**source, LaunchError::Handshake { .. }));
    let expect = format!("it announces itself as \"cc:other\", not as {id:?}");
    assert!(error.to_string().ends_with(&expect), "{error}");
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let registry = prometheus::Registry::new();
    let metrics = RuntimeMetrics::register(&registry).unwrap();
    let mut peer = Peer::new(config());
    let packages = peer.runtime.packages().clone();
    peer.runtime = Runtime::new(config(), packages, Some(metrics));
    let service = peer.serve("cc", contract()).await;
    peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap();
    peer.ask(&mut MemoryState::default(), &["PutPrivate", "none", "a", "1"]).await.unwrap_err();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let id = &service.id;
    let request = |kind: &str, success: bool| {
        format!(
            "chaincode_shim_requests_completed{{chaincode=\"{id}\",channel=\"supply\",\
             success=\"{success}\",type=\"{kind}\"}} 1\n"
        )
    };
    for expect in [
        request("GET_STATE", true),
        request("WRITE_BATCH_STATE", false),
        format!("chaincode_connections{{chaincode=\"{id}\"}} 1\n"),
        format!("chaincode_launch_duration_count{{chaincode=\"{id}\",success=\"true\"}} 1\n"),
        format!("chaincode_execute_duration_count{{chaincode=\"{id}\",channel=\"supply\"}} 2\n"),
    ] {
        assert!(text.contains(&expect), "{expect} in\n{text}");
    }
}

#[tokio::test]
async fn shutdown_ends_connections() {
    let mut peer = Peer::new(config());
    let service = peer.serve("cc", contract()).await;
    peer.runtime.connect(&service.id).await.unwrap();
    peer.runtime.shutdown();
    eventually("the connection ends", || !peer.runtime.is_connected(&service.id)).await;
    let text = peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap_err();
    assert!(text.ends_with("the peer is shutting down"), "{text}");
}

/// Certificates of a server and a client, and a second authority.
struct Tls {
    server: ServerTls,
    connection: Connection,
    _dir: tempfile::TempDir,
}

fn tls(address: std::net::SocketAddr) -> Tls {
    let org = Org::new("Org1MSP");
    let dir = tempfile::tempdir().unwrap();
    let server = org.tls("asset", &["asset.example.com"]);
    let client = org.tls("peer0", &[]);
    server.write(dir.path());
    let mut connection = Connection::plain(address.to_string());
    connection.tls_required = true;
    connection.client_auth_required = true;
    connection.root_cert = org.tls_ca.certificate().pem();
    connection.client_cert = String::from_utf8(client.cert_pem().to_vec()).unwrap();
    connection.client_key = client.key_pem();
    let server = ServerTls {
        certificate: dir.path().join("server.crt"),
        key: dir.path().join("server.key"),
        client_roots: Some(dir.path().join("ca.crt")),
    };
    Tls { server, connection, _dir: dir }
}

#[tokio::test]
async fn mutual_tls() {
    let address = free_address().await;
    let Tls { server, mut connection, _dir } = tls(address);
    connection.domain = "asset.example.com".into();
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &connection);
    let _service = start(&id, address, Some(server), contract()).await;
    let mut state = MemoryState::with(&[("cc", "a", "1")]);
    assert_eq!(peer.ask(&mut state, &["Get", "a"]).await.unwrap(), "1");
}

#[tokio::test]
async fn tls_refusals() {
    let address = free_address().await;
    let Tls { server, connection, _dir } = tls(address);
    let mut config = config();
    config.startup_timeout = Duration::from_millis(500);
    let mut peer = Peer::new(config);
    let stranger = Org::new("Org9MSP");
    type Change = fn(&mut Connection, &Org);
    let wrong: [(&str, Change); 4] = [
        ("another authority's server", |c, org| c.root_cert = org.tls_ca.certificate().pem()),
        ("another name", |c, _| c.domain = "other.example.com".into()),
        ("no client certificate", |c, _| c.client_auth_required = false),
        ("another authority's client", |c, org| {
            let client = org.tls("peer0", &[]);
            c.client_cert = String::from_utf8(client.cert_pem().to_vec()).unwrap();
            c.client_key = client.key_pem();
        }),
    ];
    for (what, change) in wrong {
        let mut connection = connection.clone();
        change(&mut connection, &stranger);
        let id = peer.install("cc", &connection);
        let service = start(&id, address, Some(server.clone()), contract()).await;
        let answer = peer.ask(&mut MemoryState::default(), &["Get", "a"]).await;
        assert!(answer.unwrap_err().contains("could not launch chaincode"), "{what}");
        service.stop_listening().await;
    }
}
