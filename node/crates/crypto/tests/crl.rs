#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{DAY, Openssl, START, identity, root};
use weft_crypto::{Crl, CrlError, PrivateKey, RevokedCertificate, Timestamp};

fn at(day: i64) -> Timestamp {
    Timestamp::from_seconds(START + day * DAY)
}

#[test]
fn a_list_revokes_what_it_names() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let good = root.issue(key.public_key(), &identity("good")).unwrap();
    let bad = root.issue(key.public_key(), &identity("bad")).unwrap();
    let entry =
        RevokedCertificate { serial: bad.serial().to_vec(), revoked_at: at(3), reason: Some(1) };
    let crl = root.issue_crl(&[entry], 7, at(4), at(5)).unwrap();
    let crl = Crl::from_pem(&crl.pem()).unwrap();
    assert_eq!(crl.verify_signed_by(root.certificate()), Ok(()));
    assert!(crl.revokes(&bad) && !crl.revokes(&good));
    let entry = crl.entry(bad.serial()).unwrap();
    assert_eq!((entry.revoked_at, entry.reason), (at(3), Some(1)));
    assert_eq!((crl.this_update(), crl.next_update()), (at(4), Some(at(5))));
    assert_eq!(crl.aki(), root.certificate().ski());
}

#[test]
fn a_list_of_another_authority_says_nothing() {
    let (ours, other, key) = (root(), root(), PrivateKey::generate().unwrap());
    let leaf = ours.issue(key.public_key(), &identity("alice")).unwrap();
    let crl = other.issue_crl(&[], 1, at(0), at(1)).unwrap();
    assert!(matches!(crl.verify_signed_by(ours.certificate()), Err(CrlError::Signature(_))));
    let refused = crl.verify_signed_by(&leaf);
    assert!(matches!(refused, Err(CrlError::IssuerMismatch { .. })));
}

#[test]
fn openssl_applies_a_list_of_ours() {
    let openssl = Openssl::new();
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let good = root.issue(key.public_key(), &identity("good")).unwrap();
    let bad = root.issue(key.public_key(), &identity("bad")).unwrap();
    let entry =
        RevokedCertificate { serial: bad.serial().to_vec(), revoked_at: at(3), reason: Some(4) };
    let crl = root.issue_crl(&[entry], 1, at(4), at(50)).unwrap();
    openssl.write("ca.pem", &root.certificate().pem());
    openssl.write("crl.pem", &crl.pem());
    openssl.write("good.pem", &good.pem());
    openssl.write("bad.pem", &bad.pem());
    let verify =
        format!("verify -attime {} -crl_check -CAfile ca.pem -CRLfile crl.pem", START + 10 * DAY);
    openssl.run(&format!("{verify} good.pem"));
    let (ok, _, error) = openssl.attempt(&format!("{verify} bad.pem"));
    assert!(!ok && error.contains("certificate revoked"), "{error}");
    let text = openssl.run("crl -in crl.pem -noout -text");
    assert!(text.contains("Superseded") && text.contains("X509v3 CRL Number"), "{text}");
}

#[test]
fn a_list_of_openssl_is_read() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out ca.key");
    openssl.run("req -x509 -new -key ca.key -days 3650 -subj /CN=ca -out ca.pem");
    openssl.run("ecparam -name prime256v1 -genkey -noout -out user.key");
    openssl.run("req -new -key user.key -subj /CN=alice -out user.csr");
    openssl.write("index.txt", "");
    openssl.write("serial", "00a1\n");
    openssl.write("crlnumber", "01\n");
    openssl.write(
        "ca.cnf",
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\ncrlnumber=crlnumber\n\
         new_certs_dir=.\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\n\
         default_days=300\ndefault_crl_days=30\npolicy=p\n[p]\ncommonName=supplied\n",
    );
    openssl.run("ca -batch -notext -config ca.cnf -in user.csr -out user.pem");
    openssl.run("ca -config ca.cnf -revoke user.pem -crl_reason keyCompromise");
    openssl.run("ca -config ca.cnf -gencrl -out crl.pem");
    let crl = Crl::from_pem(&openssl.read("crl.pem")).unwrap();
    let ca = weft_crypto::Certificate::from_pem(&openssl.read("ca.pem")).unwrap();
    let user = weft_crypto::Certificate::from_pem(&openssl.read("user.pem")).unwrap();
    assert_eq!(crl.verify_signed_by(&ca), Ok(()));
    assert_eq!(user.serial(), [0xa1]);
    assert!(crl.revokes(&user) && !crl.revokes(&ca));
    assert_eq!(crl.entry(&[0xa1]).unwrap().reason, Some(1));
}
