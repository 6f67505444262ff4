//! Identities as a node finds them: an MSP folder, and TLS connections.

use std::path::Path;
use std::time::SystemTime;

use weft_msp::{Msp, NodeRole, folder};
use weft_rpc::connect::{ConnectOptions, Connector, Endpoint};
use weft_rpc::listen::{ListenOptions, Listener, Security};
use weft_rpc::tls::{
    Alpn, CertificateDer, ClientAuth, ReloadingTls, RootSet, TlsIdentity, certificates_from_pem,
};
use weft_types::Signer;

use super::super::holder::Hold;
use super::super::{actor, bundle};
use super::*;

fn issue(holder: &Authorities, now: Timestamp) -> SecretData {
    holder.ensure(&leaves(), None, Hold::Nothing, now).unwrap().data.unwrap()
}

/// Where the parts of an identity stand in an MSP folder.
const FILES: [(&str, &str); 7] = [
    (key::SIGN_CERT, "signcerts/cert.pem"),
    (key::SIGN_KEY, "keystore/key.pem"),
    (key::CA_CERTS, "cacerts/ca.pem"),
    (key::INTERMEDIATE_CERTS, "intermediatecerts/ca.pem"),
    (key::TLS_CA_CERTS, "tlscacerts/ca.pem"),
    (key::TLS_INTERMEDIATE_CERTS, "tlsintermediatecerts/ca.pem"),
    (key::CONFIG, "config.yaml"),
];

fn mount(data: &SecretData, folder: &Path) {
    for (name, file) in FILES {
        let Some(value) = data.get(name) else { continue };
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &value.0).unwrap();
    }
}

#[test]
fn a_mounted_identity_is_a_peer_of_its_own_msp() {
    for depth in 0..3 {
        let holder = own(depth, NOW);
        let place = tempfile::tempdir().unwrap();
        mount(&issue(&holder, NOW), place.path());
        let (definition, signer) = folder::load(place.path(), &msp_id()).unwrap();
        let of_channel = bundle::msp_config(&holder);
        assert_eq!(definition.root_certs, of_channel.root_certs);
        assert_eq!(definition.intermediate_certs, of_channel.intermediate_certs);
        assert_eq!(definition.tls_root_certs, of_channel.tls_root_certs);
        let local = Msp::new(&definition).unwrap();
        let channel = Msp::new(&of_channel).unwrap();
        for msp in [local, channel] {
            let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
            msp.validate(&identity, NOW).unwrap();
            assert!(identity.roles().contains(NodeRole::Peer), "depth {depth}");
        }
    }
}

fn material(identity: TlsIdentity, roots: &str) -> ReloadingTls {
    let roots: Vec<CertificateDer<'static>> =
        certificates_from_pem(roots.as_bytes(), "the roots").unwrap();
    let set = || RootSet::fixed(roots.clone()).unwrap();
    ReloadingTls::from_parts(Some(identity), set(), set())
}

/// Both ends show their certificates; each knows only the other's roots.
async fn shake_hands(
    server: ReloadingTls,
    client: ReloadingTls,
    patience: Duration,
) -> Result<(), String> {
    let limits = weft_settings::PeerSettings::default().limits;
    let listener = Listener::bind(
        "127.0.0.1:0",
        ListenOptions::from(&limits),
        Security::tls(&server, ClientAuth::Required),
        Alpn::H2,
    )
    .await
    .unwrap();
    let endpoint = Endpoint::tls(listener.local_addr().to_string());
    let mut incoming = listener.into_incoming();
    let options = ConnectOptions::new(Duration::from_secs(10), &limits);
    let connector = Connector::new(client.clone(), options);
    let accepted = tokio::time::timeout(patience, incoming.next());
    let (open, accepted) = tokio::join!(connector.connect(&endpoint), accepted);
    let _open = open.map_err(|error| format!("{error:?}"))?;
    // With TLS 1.3 a client learns of its refusal only afterwards: the server decides.
    let accepted = accepted.ok().flatten().ok_or("the server did not take the connection")?;
    let shown = accepted.info().certificates.leaf_sha256();
    assert_eq!(shown, client.identity().map(|identity| identity.leaf_sha256()));
    Ok(())
}

#[tokio::test]
async fn tls_certificates_are_trusted_by_their_roots_on_both_sides() {
    let now = Timestamp::from_system_time(SystemTime::now()).saturating_sub(DAY);
    let (long, short) = (Duration::from_secs(30), Duration::from_millis(200));
    for depth in 0..3 {
        let (one, other) = (own(depth, now), own(depth, now));
        let (ours, theirs) = (issue(&one, now), issue(&other, now));
        let tls = |data: &SecretData, roots: &SecretData| {
            let identity = actor::Actor::read("a", data, &msp_id()).unwrap().tls;
            material(identity, text(roots, key::TLS_CA_CERTS))
        };
        let met = shake_hands(tls(&ours, &theirs), tls(&theirs, &ours), long).await;
        assert_eq!(met, Ok(()), "depth {depth}");
        let stranger = shake_hands(tls(&ours, &ours), tls(&theirs, &ours), short).await;
        assert!(stranger.is_err(), "depth {depth}: a client of another root was accepted");
        let elsewhere = shake_hands(tls(&ours, &theirs), tls(&theirs, &theirs), short).await;
        assert!(elsewhere.is_err(), "depth {depth}: a server of another root was trusted");
    }
}
