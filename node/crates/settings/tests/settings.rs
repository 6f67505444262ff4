#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use weft_settings::{
    ClientAuth, LogFormat, OrdererSettings, PeerSettings, SettingsError, duration,
    ignored_overrides, override_names,
};

const PEER: &str = "
msp: { id: Org1MSP, dir: msp }
externalAddress: peer0.org1.example:7051
tls: { cert: tls/server.crt, key: tls/server.key, rootCas: [tls/ca.crt] }
dataDir: data
";

const ORDERER: &str = "
msp: { id: OrdererMSP, dir: msp }
externalAddress: orderer0.example:7050
tls: { cert: tls/server.crt, key: tls/server.key, rootCas: [tls/ca.crt] }
dataDir: data
";

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    owned.into_iter()
}

fn peer(extra: &str, vars: &[(&str, &str)]) -> Result<PeerSettings, SettingsError> {
    PeerSettings::load(&format!("{PEER}{extra}"), env(vars))
}

fn orderer(extra: &str, vars: &[(&str, &str)]) -> Result<OrdererSettings, SettingsError> {
    OrdererSettings::load(&format!("{ORDERER}{extra}"), env(vars))
}

#[test]
fn defaults_fill_what_is_absent() {
    let settings = peer("", &[]).unwrap();
    assert_eq!(settings.listen, "0.0.0.0:7051");
    assert_eq!(settings.limits.max_message_bytes, 104_857_600);
    assert_eq!(settings.peer_limits.concurrent_endorsements, 3125);
    assert_eq!(settings.peer_limits.gateway_concurrency, 625);
    assert_eq!(settings.chaincode.execute_timeout, Duration::from_secs(30));
    assert_eq!(settings.tls.reload_interval, Duration::from_secs(10));
    assert_eq!(settings.private_data.pull_timeout, Duration::from_secs(5));
    assert_eq!(settings.private_data.push_timeout, Duration::from_secs(3));
    assert_eq!(settings.private_data.reconcile_interval, Duration::from_secs(60));
    assert_eq!(settings.tls.effective_client_root_cas(), [PathBuf::from("tls/ca.crt")]);
    let settings = orderer("", &[]).unwrap();
    assert!(settings.batching.cut_when_idle);
    assert_eq!(settings.participation.client_auth, ClientAuth::Required);
}

#[test]
fn written_settings_read_back_the_same() {
    let mut settings = orderer("raft: { tickInterval: 250ms, catchUpEntries: 7 }", &[]).unwrap();
    settings.logging.format = LogFormat::Json;
    let yaml = serde_yaml::to_string(&settings).unwrap();
    assert_eq!(OrdererSettings::load(&yaml, env(&[])).unwrap(), settings);
    let settings = peer("knownPeers: [{ mspId: Org2MSP, address: 'p:1' }]", &[]).unwrap();
    let yaml = serde_yaml::to_string(&settings).unwrap();
    assert_eq!(PeerSettings::load(&yaml, env(&[])).unwrap(), settings);
}

#[test]
fn environment_overrides_every_kind_of_field() {
    let settings = peer(
        "",
        &[
            ("WEFT_MSP_ID", "123"),
            ("WEFT_TLS_ROOT_CAS", "a.pem, b.pem"),
            ("WEFT_TLS_CLIENT_AUTH", "required"),
            ("WEFT_GATEWAY_ENABLED", "false"),
            ("WEFT_LIMITS_KEEPALIVE_INTERVAL", "1m30s"),
            ("WEFT_OPERATIONS_LISTEN", ""),
            ("WEFT_PORT", "tcp://10.0.0.1:7051"),
        ],
    )
    .unwrap();
    assert_eq!(settings.msp.id, "123");
    assert_eq!(settings.tls.root_cas, [PathBuf::from("a.pem"), PathBuf::from("b.pem")]);
    assert_eq!(settings.tls.client_auth, ClientAuth::Required);
    assert!(!settings.gateway.enabled);
    assert_eq!(settings.limits.keepalive.interval, Duration::from_secs(90));
    assert_eq!(settings.operations.listen, "");
    let settings = orderer(
        "raft: { tickInterval: 1s }",
        &[("WEFT_RAFT_TICK_INTERVAL", "20ms"), ("WEFT_RAFT_SNAPSHOT_INTERVAL_BYTES", "77")],
    )
    .unwrap();
    assert_eq!(settings.raft.tick_interval, Some(Duration::from_millis(20)));
    assert_eq!(settings.raft.snapshot_interval_bytes, Some(77));
}

#[test]
fn override_names_are_unique_and_cover_nested_fields() {
    let mut names: Vec<_> = override_names::<PeerSettings>().into_iter().map(|n| n.0).collect();
    for wanted in ["WEFT_LISTEN", "WEFT_DATA_DIR", "WEFT_PEER_LIMITS_GATEWAY_CONCURRENCY"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is missing");
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    let ignored = ignored_overrides::<PeerSettings>(env(&[
        ("WEFT_LISTEN", "x"),
        ("WEFT_LISTN", "x"),
        ("PATH", "x"),
    ]));
    assert_eq!(ignored, ["WEFT_LISTN"]);
}

#[test]
fn errors_name_the_field() {
    let check = |error: SettingsError, wanted: &str| {
        let text = error.to_string();
        assert!(text.contains(wanted), "{text:?} does not name {wanted:?}");
    };
    check(peer("listn: x", &[]).unwrap_err(), "unknown field `listn`");
    check(peer("limits: { maxConnections: many }", &[]).unwrap_err(), "limits.maxConnections");
    check(peer("gateway: { dialTimeout: 5 }", &[]).unwrap_err(), "gateway.dialTimeout");
    check(
        peer("", &[("WEFT_LIMITS_MAX_CONNECTIONS", "many")]).unwrap_err(),
        "failed to apply WEFT_LIMITS_MAX_CONNECTIONS to limits.maxConnections",
    );
    check(PeerSettings::load("", env(&[])).unwrap_err(), "tls.cert: must be set");
    check(peer("listen: 'localhost'", &[]).unwrap_err(), "listen: \"localhost\" is not host:port");
    check(peer("operations: { listen: '0.0.0.0:7051' }", &[]).unwrap_err(), "operations.listen");
    check(peer("", &[("WEFT_EXTERNAL_ADDRESS", "0.0.0.0:1")]).unwrap_err(), "externalAddress");
    check(peer("deliverClient: { maxBackoff: 1ms }", &[]).unwrap_err(), "deliverClient.maxBackoff");
    check(peer("knownPeers: [{ mspId: A }]", &[]).unwrap_err(), "knownPeers[0].address");
    check(orderer("participation: { clientAuth: optional }", &[]).unwrap_err(), "participation");
    check(orderer("raft: { tickInterval: 0s }", &[]).unwrap_err(), "raft.tickInterval");
}

#[test]
fn all_problems_are_told_at_once() {
    let Err(SettingsError::Invalid(problems)) = OrdererSettings::load("", env(&[])) else {
        panic!("empty settings were accepted");
    };
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let wanted =
        ["msp.id", "msp.dir", "externalAddress", "tls.cert", "tls.key", "tls.rootCas", "dataDir"];
    assert_eq!(paths, wanted);
}

#[test]
fn private_data_is_checked() {
    let settings = peer(
        "privateData: { pullTimeout: 0s, reconcileInterval: 0s, maxBytes: 1024 }",
        &[("WEFT_PRIVATE_DATA_PUSH_TIMEOUT", "500ms")],
    );
    let settings = settings.unwrap().private_data;
    assert_eq!(settings.pull_timeout, Duration::ZERO, "a block need not wait");
    assert_eq!(settings.reconcile_interval, Duration::ZERO, "nobody need look");
    assert_eq!(settings.push_timeout, Duration::from_millis(500));
    assert_eq!(settings.max_bytes, 1024);
    let check = |yaml: &str, path: &str| {
        let Err(SettingsError::Invalid(problems)) = peer(yaml, &[]) else { panic!("{yaml}") };
        assert!(problems.iter().any(|problem| problem.path == path), "{yaml}: {problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    };
    check("privateData: { pushTimeout: 0s }", "privateData.pushTimeout");
    check("privateData: { maxBytes: 0 }", "privateData.maxBytes");
    check("privateData: { maxBytes: 60000000 }", "privateData.maxBytes");
    // A smaller message takes a smaller collection.
    check(
        "limits: { maxMessageBytes: 1048576 }\nchaincode: { maxPackageBytes: 1024 }",
        "privateData.maxBytes",
    );
}

#[test]
fn relative_paths_are_seen_from_the_file() {
    let mut settings = peer("", &[]).unwrap();
    settings.msp.dir = "/abs/msp".into();
    settings.resolve_paths(Path::new("/etc/weft"));
    assert_eq!(settings.msp.dir, Path::new("/abs/msp"));
    assert_eq!(settings.tls.cert, Path::new("/etc/weft/tls/server.crt"));
    assert_eq!(settings.tls.root_cas, [PathBuf::from("/etc/weft/tls/ca.crt")]);
    assert_eq!(settings.operations.tls.cert, Path::new(""));
}

#[test]
fn durations_are_read() {
    let check = |text: &str, expect: Option<u64>| {
        assert_eq!(duration::parse(text).ok(), expect.map(Duration::from_millis), "{text:?}");
    };
    check("500ms", Some(500));
    check("1m30s", Some(90_000));
    check("0s", Some(0));
    check(" 2h ", Some(7_200_000));
    check("", None);
    check("5", None);
    check("s", None);
    check("-1s", None);
    check("1.5s", None);
    check("5 s", None);
    check("99999999999999999999s", None);
    check("18446744073709551615h", None);
}

proptest! {
    #[test]
    fn durations_round_trip(seconds in 0u64..4_000_000_000, nanos in 0u32..1_000_000_000) {
        let value = Duration::new(seconds, nanos);
        prop_assert_eq!(duration::parse(&duration::format(value).to_string()).unwrap(), value);
    }

    #[test]
    fn duration_text_never_panics(text in "\\PC{0,20}") {
        let _ = duration::parse(&text);
    }
}
