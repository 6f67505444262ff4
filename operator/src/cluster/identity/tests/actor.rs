use weft_types::Signer;

use super::super::actor::{Actor, ActorError, certificates as read_certificates, tls_roots};
use super::super::holder::Hold;
use super::*;

type Check = fn(&ActorError) -> bool;

fn issue(holder: &Authorities) -> SecretData {
    let [identity, tls] = crate::pki::user_leaves("admin", Role::Admin, "org1");
    holder.ensure(&[identity, tls], None, Hold::Nothing, NOW).unwrap().data.unwrap()
}

#[test]
fn an_identity_is_read_back_to_sign_and_connect_with() {
    let holder = own(1, NOW);
    let data = issue(&holder);
    let actor = Actor::read("org1-user-admin", &data, &msp_id()).unwrap();
    assert_eq!(actor.signer.msp_id(), &msp_id());
    assert_eq!(actor.signer.certificate().subject_cn(), Some("admin@org1"));
    let signature = actor.signer.sign(b"message").unwrap();
    let public = certificate(&data, key::SIGN_CERT).public_key().clone();
    assert!(public.verify(b"message", &signature).is_ok());
    assert_eq!(actor.tls.chain().len(), 2);
    assert_eq!(tls_roots("org1-user-admin", &data).unwrap(), holder.tls().roots());
    let [signing, tls] = read_certificates("org1-user-admin", &data).unwrap();
    assert_eq!(signing, certificate(&data, key::SIGN_CERT));
    assert_eq!(tls, certificate(&data, key::TLS_CERT));
}

#[test]
fn what_is_wrong_with_an_identity_is_told() {
    let (data, other) = (issue(&authorities()), issue(&authorities()));
    let with = |name: &str, value: &ByteString| {
        let mut data = data.clone();
        data.insert(name.to_owned(), value.clone());
        data
    };
    let without = |name: &str| {
        let mut data = data.clone();
        data.remove(name);
        data
    };
    let (binary, nothing) = (ByteString(vec![0xff]), value("none"));
    let cases: [(SecretData, Check); 8] = [
        (without(key::SIGN_CERT), |e| matches!(e, ActorError::NoKey { key: key::SIGN_CERT, .. })),
        (without(key::TLS_KEY), |e| matches!(e, ActorError::NoKey { key: key::TLS_KEY, .. })),
        (with(key::SIGN_KEY, &binary), |e| matches!(e, ActorError::NotText { .. })),
        (with(key::SIGN_CERT, &nothing), |e| matches!(e, ActorError::Certificate { .. })),
        (with(key::SIGN_KEY, &nothing), |e| matches!(e, ActorError::Key { .. })),
        (with(key::SIGN_KEY, &other[key::SIGN_KEY]), |e| matches!(e, ActorError::Signer { .. })),
        (with(key::TLS_KEY, &other[key::TLS_KEY]), |e| matches!(e, ActorError::Tls { .. })),
        (with(key::TLS_CERT, &nothing), |e| matches!(e, ActorError::Tls { .. })),
    ];
    for (index, (data, is_expected)) in cases.iter().enumerate() {
        let error = Actor::read("org1-user-admin", data, &msp_id()).unwrap_err();
        assert!(is_expected(&error), "case {index}: {error:?}");
        assert!(error.to_string().contains("org1-user-admin"), "case {index}: {error}");
    }
    let roots = |data: &SecretData| tls_roots("org1-user-admin", data).unwrap_err();
    let missing = roots(&without(key::TLS_CA_CERTS));
    assert!(matches!(missing, ActorError::NoKey { key: key::TLS_CA_CERTS, .. }));
    let empty = roots(&with(key::TLS_CA_CERTS, &nothing));
    assert!(matches!(empty, ActorError::NoKey { key: key::TLS_CA_CERTS, .. }));
}
