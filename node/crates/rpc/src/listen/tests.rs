use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn leaf(&self) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap().der().clone()
    }
}

async fn door(roots: &RootSet) -> (Door, Connections) {
    let options = ListenOptions {
        max_connections: 10,
        stranger_connections: 10,
        handshake_timeout: Duration::from_secs(1),
    };
    let listener = Listener::bind("127.0.0.1:0", options, Security::Plain, Alpn::H2);
    let listener = listener.await.unwrap();
    let door = Door { roots: Some(roots.clone()), ..Door::new(&listener) };
    (door, listener.connections())
}

/// The roots change between the check of a client's certificate and the connection's entry among
/// the open ones, so that the sweep has passed.
#[tokio::test]
async fn a_certificate_revoked_during_the_handshake_opens_nothing() {
    let (gone, stays) = (Ca::new("gone"), Ca::new("stays"));
    let roots = RootSet::fixed(vec![gone.der(), stays.der()]).unwrap();
    let (door, open) = door(&roots).await;
    let of = |ca: &Ca| PeerCertificates::new(vec![ca.leaf()]);
    let (revoked, good, stranger) = (of(&gone), of(&stays), PeerCertificates::default());

    let seen = Some(roots.version());
    let before = door.register(&revoked, seen).expect("it is trusted yet");
    roots.set("fixed", vec![stays.der()]);
    open.close_if(|certificates| !is_trusted(&roots, certificates));
    assert!(before.token.is_cancelled(), "the sweep closes what is open");

    assert!(door.register(&revoked, seen).is_none(), "it was trusted when the handshake began");
    assert!(door.register(&good, seen).is_some());
    assert!(door.register(&stranger, seen).is_some());
    drop(before);
    assert!(open.is_empty());
}

#[test]
fn a_client_counts_for_the_ca_that_its_chain_comes_from() {
    let (one, two) = (Ca::new("one"), Ca::new("two"));
    let roots = RootSet::fixed(vec![one.der(), two.der()]).unwrap();
    let holder = |chain: Vec<CertificateDer<'static>>| {
        let certificates = PeerCertificates::new(chain).vouched_by(&roots, UnixTime::now());
        PeerInfo { remote: ([10, 0, 0, 1], 1).into(), secure: true, certificates }.holder()
    };
    let first = holder(vec![one.leaf()]);
    assert!(matches!(first, Holder::Authority(_)));
    assert_eq!(first, holder(vec![one.leaf()]));
    assert_ne!(first, holder(vec![two.leaf()]));
    // Certificates that are not on the way change nothing: a share is not had twice.
    assert_eq!(first, holder(vec![one.leaf(), two.der(), Ca::new("made up").der()]));
    let nobody = Holder::address(([10, 0, 0, 1], 2).into());
    assert_eq!(holder(vec![Ca::new("unknown").leaf()]), nobody);
    assert_eq!(holder(Vec::new()), nobody);
}
