#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use weft_ops::health::Health;
use weft_ops::logging::{LogHandle, layer};
use weft_ops::metrics::{BuildInfo, registry};
use weft_ops::service::Operations;
use weft_rpc::https::{Client, ClientOptions, HttpsOptions};
use weft_rpc::listen::Security;
use weft_rpc::tls::{ClientAuth, ReloadingTls, RootSet, TlsIdentity};
use weft_settings::{Limits, LogFormat, Logging};

/// Log lines, kept in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
    }
}

/// Logging of this thread.
fn logging(spec: &str, format: LogFormat) -> (LogHandle, Lines, DefaultGuard) {
    let lines = Lines::default();
    let settings = Logging { spec: spec.to_owned(), format, ..Logging::default() };
    let (layer, handle) = layer(&settings, lines.clone(), false).unwrap();
    let subscriber = tracing_subscriber::Registry::default().with(layer);
    (handle, lines, tracing::subscriber::set_default(subscriber))
}

fn build() -> BuildInfo {
    BuildInfo { component: "peer".into(), version: "1.2.3".into(), commit: "abc".into() }
}

async fn serve(operations: Operations, security: Security) -> String {
    let options = HttpsOptions::from(&Limits::default());
    let server = operations.bind("127.0.0.1:0", options, security).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(std::future::pending()));
    address.to_string()
}

fn plain_client() -> Client {
    let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
    Client::new(tls, ClientOptions::default())
}

#[tokio::test]
async fn health_follows_the_checks() {
    let (logging, _lines, _guard) = logging("off", LogFormat::Text);
    let health = Health::new();
    let operations = Operations {
        health: health.clone(),
        registry: registry(&build()).unwrap(),
        logging,
        build: build(),
    };
    let url = format!("http://{}/healthz", serve(operations, Security::Plain).await);
    let client = plain_client();
    let answer = client.get(&url).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json().unwrap()["status"]), (200, &json!("OK")));
    assert!(answer.json().unwrap()["time"].as_str().unwrap().ends_with('Z'));

    health.register("orderer", || async { Ok(()) });
    health.register("store", || async { Err("disk full".to_owned()) });
    let answer = client.get(&url).await.unwrap();
    assert_eq!(answer.status, 503);
    let body = answer.json().unwrap();
    assert_eq!(body["status"], "Service Unavailable");
    assert_eq!(body["failed_checks"], json!([{ "component": "store", "reason": "disk full" }]));

    health.deregister("store");
    assert_eq!(client.get(&url).await.unwrap().status, 200);

    // A part that does not serve is no reason to restart the node.
    health.register_parts("channels", || vec![("a".to_owned(), "disk full".to_owned())]);
    let answer = client.get(&url).await.unwrap();
    assert_eq!(answer.status, 200);
    let degraded = json!([{ "component": "channels/a", "reason": "disk full" }]);
    assert_eq!(answer.json().unwrap()["degraded"], degraded);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_has_failed() {
    let health = Health::new();
    health.register("stuck", || async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(())
    });
    let failed = health.run().await;
    assert_eq!(failed[0].component, "stuck");
    assert_eq!(failed[0].reason, "no answer in 5 s");
}

#[tokio::test]
async fn metrics_and_version_are_shown() {
    let (logging, _lines, _guard) = logging("off", LogFormat::Text);
    let registry = registry(&build()).unwrap();
    let operations = Operations { health: Health::new(), registry, logging, build: build() };
    let address = serve(operations, Security::Plain).await;
    let client = plain_client();
    let text = client.get(&format!("http://{address}/metrics")).await.unwrap().text();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "weft_build_info{commit=\"abc\",component=\"peer\",version=\"1.2.3\"} 1",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    let version = client.get(&format!("http://{address}/version")).await.unwrap();
    assert_eq!(version.json().unwrap(), json!({ "CommitSHA": "abc", "Version": "1.2.3" }));
    assert_eq!(client.get(&format!("http://{address}/other")).await.unwrap().status, 404);
}

#[tokio::test]
async fn the_log_specification_changes_while_running() {
    let (handle, lines, _guard) = logging("info", LogFormat::Text);
    let operations = Operations {
        health: Health::new(),
        registry: registry(&build()).unwrap(),
        logging: handle,
        build: build(),
    };
    let url = format!("http://{}/logspec", serve(operations, Security::Plain).await);
    let client = plain_client();
    let spec = async || client.get(&url).await.unwrap().json().unwrap();
    let put = async |body: Value| client.put_json(&url, &body).await.unwrap();
    // Events at each level, as a module of the node logs them.
    let logged = || {
        lines.take();
        tracing::debug!(target: "weft_peer::commit", "fine");
        tracing::info!(target: "weft_rpc", "plain");
        tracing::error!(target: "weft_peer", "grave");
        let text = lines.take();
        ["fine", "plain", "grave"].map(|word| text.contains(word))
    };
    assert_eq!(spec().await, json!({ "spec": "info" }));
    assert_eq!(logged(), [false, true, true]);

    assert_eq!(put(json!({ "spec": "error:weft_peer=debug" })).await.status, 204);
    assert_eq!(spec().await, json!({ "spec": "error:weft_peer=debug" }));
    assert_eq!(logged(), [true, false, true]);

    assert_eq!(put(json!({ "spec": "off,weft_rpc=trace" })).await.status, 204);
    assert_eq!(logged(), [false, true, false]);

    for bad in [json!({ "spec": "loud" }), json!({ "spec": "a b=info" }), json!({}), json!("x")] {
        let answer = put(bad.clone()).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.json().unwrap()["error"].is_string(), "{bad}");
    }
    assert_eq!(spec().await, json!({ "spec": "off,weft_rpc=trace" }), "the last good one stays");
}

#[test]
fn lines_can_be_json() {
    let (_handle, lines, _guard) = logging("info", LogFormat::Json);
    tracing::info!(channel = "supply", block = 7, "committed");
    let line: Value = serde_json::from_str(&lines.take()).unwrap();
    assert_eq!(line["message"], "committed");
    assert_eq!((&line["channel"], &line["block"]), (&json!("supply"), &json!(7)));
    assert_eq!(line["level"], "INFO");
}

fn issue(ca: &CertifiedIssuer<'static, KeyPair>) -> TlsIdentity {
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, ca).unwrap();
    let key = key.serialize_pem();
    TlsIdentity::from_pem(cert.pem().as_bytes(), key.as_bytes(), "test").unwrap()
}

#[tokio::test]
async fn with_tls_only_probes_are_anonymous() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let roots = RootSet::fixed(vec![ca.der().clone()]).unwrap();
    let tls = ReloadingTls::from_parts(Some(issue(&ca)), roots.clone(), roots.clone());
    let (logging, _lines, _guard) = logging("off", LogFormat::Text);
    let registry = registry(&build()).unwrap();
    let operations = Operations { health: Health::new(), registry, logging, build: build() };
    let address = serve(operations, Security::tls(&tls, ClientAuth::Optional)).await;
    let client = |identity| {
        let tls = ReloadingTls::from_parts(identity, roots.clone(), RootSet::new());
        Client::new(tls, ClientOptions::default())
    };
    let (anonymous, member) = (client(None), client(Some(issue(&ca))));
    for (path, open) in
        [("healthz", true), ("version", true), ("metrics", false), ("logspec", false)]
    {
        let url = format!("https://{address}/{path}");
        let status = anonymous.get(&url).await.unwrap().status.as_u16();
        assert_eq!(status, if open { 200 } else { 401 }, "{path}");
        assert_eq!(member.get(&url).await.unwrap().status, 200, "{path}");
    }
}
