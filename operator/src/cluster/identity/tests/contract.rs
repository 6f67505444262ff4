//! The certificates of contracts that register.

use weft_crypto::SubjectAltName;
use weft_package::PackageId;

use super::super::Ensured;
use super::*;
use crate::pki::{self, Reason};

fn package(label: &str) -> PackageId {
    format!("{label}:{}", "ab".repeat(32)).parse().unwrap()
}

fn ensure(
    holder: &Authorities,
    package: &PackageId,
    current: Option<&SecretData>,
    now: Timestamp,
) -> Ensured {
    let leaf = pki::contract_leaf("asset", package, "org1");
    holder.ensure_contract(&leaf, package, current, now).unwrap()
}

fn reasons(ensured: &Ensured) -> Vec<(RootUse, Reason)> {
    ensured.issued.iter().map(|one| (one.which, one.reason)).collect()
}

#[test]
fn it_names_its_package_and_is_renewed_in_time_with_its_key() {
    let (holder, first) = (authorities(), package("asset_1.0"));
    let made = ensure(&holder, &first, None, NOW);
    assert_eq!(reasons(&made), [(RootUse::Tls, Reason::Missing)]);
    assert_eq!(made.expires, [(RootUse::Tls, NOW.saturating_add(days(90)))]);
    assert_eq!(made.renew_at, Some(NOW.saturating_add(days(60))));
    let data = made.data.unwrap();
    let names = data.keys().map(String::as_str).collect::<Vec<_>>();
    let all = ["ca.crt", "packageId", "tls.crt", "tls.crt.base64", "tls.key", "tls.key.base64"];
    assert_eq!(names, all);
    let own = certificate(&data, key::TLS_CERT);
    assert_eq!(own.sans(), [SubjectAltName::Uri(first.certificate_name())]);
    assert_eq!(own.subject_cn(), Some("asset@org1"));

    let later = ensure(&holder, &first, Some(&data), NOW.saturating_add(days(59)));
    assert!(later.data.is_none() && later.issued.is_empty(), "{later:?}");
    let renewed = ensure(&holder, &first, Some(&data), NOW.saturating_add(days(60)));
    assert_eq!(reasons(&renewed), [(RootUse::Tls, Reason::Expiring)]);
    let renewed = renewed.data.unwrap();
    assert_eq!(renewed[key::TLS_KEY], data[key::TLS_KEY]);
    assert_ne!(renewed[key::TLS_CERT], data[key::TLS_CERT]);
    assert_ne!(renewed[key::TLS_CERT_BASE64], data[key::TLS_CERT_BASE64]);
}

#[test]
fn another_package_gets_another_certificate() {
    let (holder, second) = (authorities(), package("asset_1.1"));
    let data = ensure(&holder, &package("asset_1.0"), None, NOW).data.unwrap();
    let ensured = ensure(&holder, &second, Some(&data), NOW);
    assert_eq!(reasons(&ensured), [(RootUse::Tls, Reason::Hosts)]);
    let data = ensured.data.unwrap();
    let own = certificate(&data, key::TLS_CERT);
    assert_eq!(own.sans(), [SubjectAltName::Uri(second.certificate_name())]);
    assert_eq!(text(&data, key::PACKAGE_ID), second.to_string());
}

#[test]
fn what_is_altered_is_put_right() {
    let (holder, first) = (authorities(), package("asset_1.0"));
    let made = ensure(&holder, &first, None, NOW).data.unwrap();
    for name in [key::CONTRACT_ROOTS, key::PACKAGE_ID, key::TLS_KEY_BASE64] {
        let mut data = made.clone();
        data.insert(name.to_owned(), value("something else"));
        let ensured = ensure(&holder, &first, Some(&data), NOW);
        assert!(ensured.issued.is_empty(), "{name}");
        assert_eq!(ensured.data.as_ref(), Some(&made), "{name}");
    }
}

#[test]
fn below_an_intermediate_it_comes_with_its_chain() {
    let holder = own(2, NOW);
    let data = ensure(&holder, &package("asset_1.0"), None, NOW).data.unwrap();
    let count = |name: &str| Certificate::all_from_pem(text(&data, name)).unwrap().len();
    assert_eq!((count(key::TLS_CERT), count(key::CONTRACT_ROOTS)), (3, 1));
}

#[test]
fn its_key_is_not_shown() {
    let ensured = ensure(&authorities(), &package("asset_1.0"), None, NOW);
    let shown = format!("{ensured:?} {ensured:#?}");
    let data = ensured.data.as_ref().unwrap();
    let line = text(data, key::TLS_KEY).lines().nth(2).unwrap().to_owned();
    assert!(!shown.contains("PRIVATE KEY") && !shown.contains(&line[..24]), "{shown}");
}
