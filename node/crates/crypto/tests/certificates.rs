#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{DAY, Openssl, START, ca_profile, days, identity, root, tls};
use proptest::prelude::*;
use weft_crypto::{
    CaError, CaProfile, Certificate, CertificateAuthority, CertificateError, Csr, CsrError, Name,
    PrivateKey, SubjectAltName, Timestamp, Validity, cert::KeyUsage, name::NameError,
    pem::PemError, sha256,
};

#[test]
fn a_root_says_what_its_profile_says() {
    let root = root();
    let certificate = root.certificate();
    assert_eq!(certificate.verify_signed_by(certificate), Ok(()));
    assert!(certificate.is_self_issued() && certificate.is_self_signed() && certificate.is_ca());
    // An authority that issues to its own name has not made a root.
    let key = PrivateKey::generate().unwrap();
    let namesake = root.issue(key.public_key(), &identity("root")).unwrap();
    assert!(!namesake.is_self_signed());
    assert_eq!(certificate.subject_cn(), Some("root"));
    assert_eq!(certificate.ski(), certificate.aki());
    assert_eq!(certificate.ski().unwrap(), root.key().public_key().key_identifier());
    let usage = certificate.key_usage().unwrap();
    assert!(usage.cert_sign && usage.crl_sign && !usage.digital_signature);
    assert_eq!(certificate.not_before().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(certificate.serial().len(), 16);
    assert_eq!(certificate.fingerprint(), sha256(certificate.der()));
    assert_eq!(Certificate::from_pem(&certificate.pem()).as_ref(), Ok(certificate));
}

#[test]
fn an_identity_says_what_its_profile_says() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let leaf = root.issue(key.public_key(), &identity("alice")).unwrap();
    assert_eq!(leaf.verify_signed_by(root.certificate()), Ok(()));
    assert_eq!(leaf.subject_cn(), Some("alice"));
    assert_eq!(leaf.subject_ous(), ["client", "org1"]);
    assert_eq!(leaf.public_key(), key.public_key());
    assert!(!leaf.is_ca() && !leaf.is_self_issued());
    assert_eq!(leaf.aki(), root.certificate().ski());
    assert_eq!(leaf.extended_key_usage(), None);
    let expected = KeyUsage {
        digital_signature: true,
        key_encipherment: false,
        cert_sign: false,
        crl_sign: false,
    };
    assert_eq!(leaf.key_usage(), Some(expected));
}

#[test]
fn a_tls_certificate_names_its_hosts() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let leaf = root.issue(key.public_key(), &tls("peer0")).unwrap();
    assert_eq!(leaf.sans(), tls("peer0").sans);
    let usage = leaf.extended_key_usage().unwrap();
    assert!(usage.server_auth && usage.client_auth && !usage.any);
}

#[test]
fn validity_includes_both_ends() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let profile = weft_crypto::LeafProfile { validity: days(1, 2), ..identity("alice") };
    let leaf = root.issue(key.public_key(), &profile).unwrap();
    let at = |seconds, nanos| leaf.is_valid_at(Timestamp::new(seconds, nanos).unwrap());
    assert!(!at(START + DAY - 1, 999_999_999));
    assert!(at(START + DAY, 0));
    assert!(at(START + 2 * DAY, 999_999_999));
    assert!(!at(START + 2 * DAY + 1, 0));
}

#[test]
fn renewing_keeps_the_key_and_changes_the_serial() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let old = root.issue(key.public_key(), &identity("alice")).unwrap();
    let new = root.issue(old.public_key(), &identity("alice")).unwrap();
    assert_eq!(new.public_key(), old.public_key());
    assert_ne!(new.serial(), old.serial());
    assert_eq!(new.verify_signed_by(root.certificate()), Ok(()));
}

#[test]
fn a_renewed_root_still_vouches_for_what_the_old_one_issued() {
    let (old, key) = (root(), PrivateKey::generate().unwrap());
    let leaf = old.issue(key.public_key(), &identity("alice")).unwrap();
    let later = CaProfile { validity: days(3000, 9000), ..ca_profile("root") };
    let new = CertificateAuthority::new_root(old.key().clone(), &later).unwrap();
    assert_eq!(leaf.verify_signed_by(new.certificate()), Ok(()));
    assert_eq!(leaf.aki(), new.certificate().ski());
}

#[test]
fn an_intermediate_issues_within_its_limits() {
    let root = root();
    let profile = CaProfile { max_path_len: Some(0), ..ca_profile("ica") };
    let intermediate = root.new_intermediate(PrivateKey::generate().unwrap(), &profile).unwrap();
    assert_eq!(intermediate.certificate().verify_signed_by(root.certificate()), Ok(()));
    assert_eq!(intermediate.certificate().max_path_len(), Some(0));
    let key = PrivateKey::generate().unwrap();
    let leaf = intermediate.issue(key.public_key(), &identity("alice")).unwrap();
    assert_eq!(leaf.verify_signed_by(intermediate.certificate()), Ok(()));
    assert!(matches!(
        leaf.verify_signed_by(root.certificate()),
        Err(CertificateError::IssuerMismatch { .. })
    ));
    let below = intermediate.new_intermediate(key, &ca_profile("below"));
    assert!(matches!(below, Err(CaError::PathLength { .. })));
}

#[test]
fn a_leaf_cannot_issue_even_under_the_right_name() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let mut profile = identity("x");
    profile.name = ca_profile("root").name;
    let impostor = root.issue(key.public_key(), &profile).unwrap();
    let error = CertificateAuthority::new(impostor.clone(), key).unwrap_err();
    assert!(matches!(error, CaError::NotAuthority { .. }));
    let leaf = root.issue(impostor.public_key(), &identity("y")).unwrap();
    assert!(matches!(
        leaf.verify_signed_by(&impostor),
        Err(CertificateError::IssuerNotAuthority { .. })
    ));
}

#[test]
fn another_root_of_the_same_name_did_not_sign() {
    let (real, other) = (root(), root());
    let key = PrivateKey::generate().unwrap();
    let leaf = real.issue(key.public_key(), &identity("alice")).unwrap();
    assert!(matches!(
        leaf.verify_signed_by(other.certificate()),
        Err(CertificateError::Signature { .. })
    ));
}

#[test]
fn what_cannot_be_issued_is_refused() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let issue = |profile| root.issue(key.public_key(), &profile).unwrap_err();
    let outlives = weft_crypto::LeafProfile { validity: days(0, 7301), ..identity("a") };
    assert!(matches!(issue(outlives), CaError::OutlivesIssuer { .. }));
    let backwards = weft_crypto::LeafProfile { validity: days(2, 1), ..identity("a") };
    assert!(matches!(issue(backwards), CaError::Validity { .. }));
    assert!(matches!(issue(identity("")), CaError::Name(NameError::Length { .. })));
    let long = "x".repeat(65);
    assert!(matches!(issue(identity(&long)), CaError::Name(NameError::Length { .. })));
    let mut unicode = tls("a");
    unicode.sans.push(SubjectAltName::Dns("bücher".to_owned()));
    assert!(matches!(issue(unicode), CaError::Name(NameError::Alternative { .. })));
    let other = PrivateKey::generate().unwrap();
    let mismatch = CertificateAuthority::new(root.certificate().clone(), other).unwrap_err();
    assert!(matches!(mismatch, CaError::KeyMismatch { .. }));
}

#[test]
fn times_past_2050_survive() {
    let validity = Validity {
        not_before: Timestamp::from_seconds(-1_000_000_000),
        not_after: Timestamp::from_seconds(4_000_000_000),
    };
    let profile = CaProfile { validity, ..ca_profile("root") };
    let root = CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &profile).unwrap();
    assert_eq!(root.certificate().not_before(), validity.not_before);
    assert_eq!(root.certificate().not_after(), validity.not_after);
}

#[test]
fn a_request_proves_possession_of_its_key() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let sans = [SubjectAltName::host("peer0.org1"), SubjectAltName::host("10.0.0.1")];
    let name = identity("alice").name;
    let request = Csr::create(&key, &name, &sans).unwrap();
    let request = Csr::from_pem(&request.pem()).unwrap();
    assert_eq!(request.verify(), Ok(()));
    assert_eq!(request.subject_cn(), Some("alice"));
    assert_eq!(request.subject_ous(), ["client", "org1"]);
    assert_eq!(request.sans(), sans);
    let leaf = root.issue_for(&request, &identity("alice")).unwrap();
    assert_eq!(leaf.public_key(), key.public_key());
    assert_eq!(leaf.subject(), request.subject());
}

#[test]
fn a_request_for_anothers_key_is_refused() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let victim = PrivateKey::generate().unwrap();
    let der = Csr::create(&key, &Name::common("alice"), &[]).unwrap().der().to_vec();
    let at = find(&der, key.public_key().bits());
    let mut forged = der;
    forged[at..at + 65].copy_from_slice(victim.public_key().bits());
    let forged = Csr::from_der(&forged).unwrap();
    assert_eq!(forged.public_key(), victim.public_key());
    assert!(matches!(forged.verify(), Err(CsrError::Signature(_))));
    let refused = root.issue_for(&forged, &identity("alice"));
    assert!(matches!(refused, Err(CaError::Request(_))));
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

#[test]
fn texts_that_are_not_certificates_are_errors() {
    let missing = CertificateError::Pem(PemError::Missing { label: "CERTIFICATE" });
    assert_eq!(Certificate::from_pem("").unwrap_err(), missing);
    assert_eq!(Certificate::all_from_pem("nothing"), Ok(vec![]));
    let open = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let error = Certificate::from_pem(open).unwrap_err();
    assert!(matches!(error, CertificateError::Pem(PemError::Unterminated { .. })));
    let not_base64 = format!("{open}?!\n-----END CERTIFICATE-----\n");
    let error = Certificate::from_pem(&not_base64).unwrap_err();
    assert!(matches!(error, CertificateError::Pem(PemError::Base64 { .. })));
    let mut trailing = root().certificate().der().to_vec();
    trailing.push(0);
    let error = Certificate::from_der(&trailing).unwrap_err();
    assert!(matches!(error, CertificateError::Malformed { .. }));
}

#[test]
fn openssl_accepts_a_chain_of_ours() {
    let openssl = Openssl::new();
    let root = root();
    let intermediate = root
        .new_intermediate(
            PrivateKey::generate().unwrap(),
            &CaProfile { max_path_len: Some(0), ..ca_profile("ica") },
        )
        .unwrap();
    let key = PrivateKey::generate().unwrap();
    let identity = intermediate.issue(key.public_key(), &identity("alice")).unwrap();
    let tls = intermediate.issue(key.public_key(), &tls("peer0")).unwrap();
    openssl.write("root.pem", &root.certificate().pem());
    openssl.write("ica.pem", &intermediate.certificate().pem());
    openssl.write("identity.pem", &identity.pem());
    openssl.write("tls.pem", &tls.pem());
    let verify = format!("verify -x509_strict -attime {} -CAfile root.pem", START + DAY);
    openssl.run(&format!("{verify} root.pem"));
    openssl.run(&format!("{verify} -untrusted ica.pem identity.pem"));
    for purpose in ["sslserver", "sslclient"] {
        openssl.run(&format!("{verify} -purpose {purpose} -untrusted ica.pem tls.pem"));
    }
    openssl.run(&format!("{verify} -untrusted ica.pem -verify_hostname peer0.org1 tls.pem"));
    openssl.run(&format!("{verify} -untrusted ica.pem -verify_ip ::1 tls.pem"));
    let (ok, ..) = openssl
        .attempt(&format!("{verify} -untrusted ica.pem -verify_hostname peer1.org1 tls.pem"));
    assert!(!ok);
    let (ok, ..) = openssl.attempt(&format!("{verify} identity.pem"));
    assert!(!ok, "the intermediate is needed");
}

/// What `openssl x509 -text` says, without what differs between any two certificates.
fn normalised(text: &str) -> Vec<String> {
    let hexadecimal =
        |line: &str| line.contains(':') && line.split(':').all(|part| part.trim().len() <= 2);
    let mut lines = text.lines().map(|line| line.trim().trim_start_matches("keyid:"));
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        if line == "Serial Number:" {
            lines.next();
        } else if !hexadecimal(line) {
            kept.push(line.to_owned());
        }
    }
    kept
}

#[test]
fn a_root_of_ours_reads_as_one_of_openssl() {
    let openssl = Openssl::new();
    let ours = root();
    openssl.write("ours.pem", &ours.certificate().pem());
    openssl.write("key.pem", &ours.key().to_pkcs8_pem().unwrap());
    openssl.write(
        "ca.cnf",
        "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\n[dn]\nO=Org1\nCN=root\n\
         [v3]\nkeyUsage=critical,keyCertSign,cRLSign\nbasicConstraints=critical,CA:TRUE\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n",
    );
    openssl.run("req -x509 -new -key key.pem -sha256 -days 7300 -config ca.cnf -out theirs.pem");
    let shape = |name: &str| {
        let text =
            openssl.run(&format!("x509 -in {name} -noout -text -certopt no_validity,no_sigdump"));
        normalised(&text)
    };
    assert_eq!(shape("ours.pem"), shape("theirs.pem"));
    assert!(shape("ours.pem").len() > 10, "{:?}", shape("ours.pem"));
}

#[test]
fn a_request_of_ours_reads_as_one_of_openssl() {
    let openssl = Openssl::new();
    let key = PrivateKey::generate().unwrap();
    let name = Name {
        organization: Some("Org1".to_owned()),
        units: vec!["peer".to_owned()],
        common_name: "peer0".to_owned(),
    };
    let sans = [SubjectAltName::host("peer0.org1"), SubjectAltName::host("127.0.0.1")];
    openssl.write("ours.pem", &Csr::create(&key, &name, &sans).unwrap().pem());
    openssl.write("key.pem", &key.to_pkcs8_pem().unwrap());
    openssl.run(
        "req -new -key key.pem -sha256 -subj /O=Org1/OU=peer/CN=peer0 \
         -addext subjectAltName=DNS:peer0.org1,IP:127.0.0.1 -out theirs.pem",
    );
    let text =
        |name| openssl.run(&format!("req -in {name} -noout -verify -text -reqopt no_sigdump"));
    assert_eq!(text("ours.pem"), text("theirs.pem"));
    // Byte for byte: only the signatures differ.
    let signed_part = |name: &str| {
        let der =
            weft_crypto::pem::parse_first(&openssl.read(name), "CERTIFICATE REQUEST").unwrap();
        let at = find(&der, key.suite().signature_algorithm());
        der[4..at].to_vec()
    };
    assert_eq!(signed_part("ours.pem"), signed_part("theirs.pem"));
}

#[test]
fn an_organization_made_with_openssl_is_read_and_continued() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out ca.sec1");
    openssl.run("pkcs8 -topk8 -nocrypt -in ca.sec1 -out ca.key");
    openssl
        .run("req -x509 -new -key ca.key -sha256 -days 3650 -subj /O=Org1/CN=ca.org1 -out ca.pem");
    openssl.run("ecparam -name prime256v1 -genkey -noout -out user.key");
    openssl.run("req -new -key user.key -subj /O=Org1/OU=client/OU=dept/CN=alice -out user.csr");
    openssl.run(
        "x509 -req -in user.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 300 -out user.pem",
    );

    let authority =
        CertificateAuthority::from_pem(&openssl.read("ca.pem"), &openssl.read("ca.key")).unwrap();
    let root = authority.certificate();
    assert_eq!(root.verify_signed_by(root), Ok(()));
    let user = Certificate::from_pem(&openssl.read("user.pem")).unwrap();
    assert_eq!(user.verify_signed_by(root), Ok(()));
    assert_eq!(user.subject_cn(), Some("alice"));
    assert_eq!(user.subject_ous(), ["client", "dept"]);
    let request = Csr::from_pem(&openssl.read("user.csr")).unwrap();
    assert_eq!(request.verify(), Ok(()));

    // The text that `x509 -text` puts before the block does not disturb.
    let with_text = openssl.run("x509 -in user.pem -text");
    assert_eq!(Certificate::from_pem(&with_text).as_ref(), Ok(&user));
    let serial = openssl.run("x509 -in user.pem -noout -serial");
    let ours = hex::encode_upper(user.serial());
    assert_eq!(serial.trim(), format!("serial={ours}"));
    let fingerprint = openssl.run("x509 -in user.pem -noout -fingerprint -sha256");
    let ours = hex::encode_upper(user.fingerprint());
    assert!(fingerprint.replace(':', "").trim().ends_with(&ours));

    let start = root.not_before().seconds();
    let validity = Validity {
        not_before: Timestamp::from_seconds(start),
        not_after: Timestamp::from_seconds(start + 100 * DAY),
    };
    let profile = weft_crypto::LeafProfile { validity, ..identity("alice") };
    let renewed = authority.issue_for(&request, &profile).unwrap();
    openssl.write("renewed.pem", &renewed.pem());
    openssl.run("verify -CAfile ca.pem renewed.pem");
    assert_eq!(renewed.public_key(), user.public_key());
}

#[test]
fn a_request_with_another_hash_is_told_apart() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -noout -out user.key");
    openssl.run("req -new -sha384 -key user.key -subj /CN=alice -out user.csr");
    let request = Csr::from_pem(&openssl.read("user.csr")).unwrap();
    let oid = "1.2.840.10045.4.3.3".to_owned();
    assert_eq!(request.verify(), Err(CsrError::SignatureAlgorithm { oid }));
}

#[test]
fn no_bit_of_a_certificate_can_be_flipped() {
    let (root, key) = (root(), PrivateKey::generate().unwrap());
    let der = root.issue(key.public_key(), &tls("peer0")).unwrap().der().to_vec();
    for bit in 0..der.len() * 8 {
        let mut damaged = der.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let verified = Certificate::from_der(&damaged)
            .and_then(|leaf| leaf.verify_signed_by(root.certificate()));
        assert!(verified.is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_printable_name_survives(
        cn in "[a-zA-Z0-9 ._@ä-ü-]{1,40}",
        units in prop::collection::vec("[a-z]{1,20}", 0..4),
        organization in prop::option::of("[A-Za-z0-9 ]{1,20}"),
    ) {
        let mut profile = identity("x");
        profile.name = Name { organization, units: units.clone(), common_name: cn.clone() };
        let key = PrivateKey::generate().unwrap();
        let leaf = root().issue(key.public_key(), &profile).unwrap();
        prop_assert_eq!(leaf.subject_cn(), Some(cn.as_str()));
        prop_assert_eq!(leaf.subject_ous(), units);
    }

    #[test]
    fn hostile_bytes_are_errors(bytes: Vec<u8>) {
        prop_assert!(Certificate::from_der(&bytes).is_err());
        prop_assert!(Csr::from_der(&bytes).is_err());
        prop_assert!(weft_crypto::Crl::from_der(&bytes).is_err());
    }
}
