use super::super::authority::{AuthorityError, Decision, decide};
use super::*;

type Check = fn(&AuthorityError) -> bool;

fn failure(data: &SecretData, now: Timestamp) -> AuthorityError {
    Authority::read("org1-ca", data, now).unwrap_err()
}

/// The same authority, issued anew `later`.
fn renewal(old: &CertificateAuthority, later: Duration) -> CertificateAuthority {
    let name = old.certificate().subject_cn().unwrap();
    let profile = profile(name, NOW.saturating_add(later));
    CertificateAuthority::new_root(old.key().clone(), &profile).unwrap()
}

#[test]
fn a_managed_authority_is_made_once_and_a_users_own_is_awaited() {
    let data = SecretData::new();
    let absent = Held { data: None, ..held(&data) };
    assert!(matches!(decide(&absent, NOW), Ok(Decision::Make)));
    let error = decide(&Held { origin: Origin::User, ..absent }, NOW).unwrap_err();
    assert!(matches!(error, AuthorityError::Missing { .. }) && error.is_waiting());
    for origin in [Origin::Managed, Origin::User] {
        let gone = Held { origin, recorded: Some("ab"), ..absent };
        let error = decide(&gone, NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::Gone { .. }) && !error.is_waiting());
    }
}

#[test]
fn what_is_made_is_adopted_and_then_known_again() {
    let made = Authority::make(&msp_id(), RootUse::Identity, &certificates(), NOW).unwrap();
    let fingerprint = made.authority.fingerprint();
    assert_eq!(fingerprint.len(), 64);
    let Ok(Decision::Adopt(authority)) = decide(&held(&made.data), NOW) else { panic!() };
    assert_eq!(authority.fingerprint(), fingerprint);
    assert_eq!(authority.certificate().subject_cn(), Some("ca.Org1MSP"));
    let recorded = Held { recorded: Some(&fingerprint), ..held(&made.data) };
    assert!(matches!(decide(&recorded, NOW), Ok(Decision::Use(_))));
}

#[test]
fn another_authority_in_the_place_of_the_recorded_one_is_refused() {
    let (first, other) = (root("ca"), root("ca"));
    let recorded = crate::pki::fingerprint(first.certificate());
    let published = first.certificate().pem() + &other.certificate().pem();
    let data = secret(&[&other]);
    let altered = Held { recorded: Some(&recorded), published: &published, ..held(&data) };
    let error = decide(&altered, NOW).unwrap_err();
    let AuthorityError::Altered { found, expected, .. } = &error else { panic!("{error}") };
    assert_eq!(*expected, recorded);
    assert_eq!(*found, crate::pki::fingerprint(other.certificate()));
}

#[test]
fn the_key_under_another_name_is_another_authority() {
    let first = root("ca");
    let renamed =
        CertificateAuthority::new_root(first.key().clone(), &profile("other", NOW)).unwrap();
    let recorded = crate::pki::fingerprint(first.certificate());
    let (data, published) = (secret(&[&renamed]), first.certificate().pem());
    let altered = Held { recorded: Some(&recorded), published: &published, ..held(&data) };
    assert!(matches!(decide(&altered, NOW), Err(AuthorityError::Altered { .. })));
}

#[test]
fn a_renewed_certificate_is_taken_over_and_the_one_before_stays_until_it_ends() {
    let old = root("ca");
    let new = renewal(&old, days(3000));
    let (recorded, published) =
        (crate::pki::fingerprint(old.certificate()), old.certificate().pem());
    let now = NOW.saturating_add(days(3001));
    let data = secret(&[&new]);
    let renewed = Held { recorded: Some(&recorded), published: &published, ..held(&data) };
    let Ok(Decision::Renewed(authority)) = decide(&renewed, now) else { panic!() };
    let both = [new.certificate().clone(), old.certificate().clone()];
    assert_eq!(authority.roots(), both);

    let recorded = authority.fingerprint();
    let published = published + &new.certificate().pem();
    let known = Held { recorded: Some(&recorded), published: &published, ..held(&data) };
    let Ok(Decision::Use(authority)) = decide(&known, now) else { panic!() };
    assert_eq!(authority.roots(), both);
    let Ok(Decision::Use(authority)) = decide(&known, NOW.saturating_add(days(3651))) else {
        panic!()
    };
    assert_eq!(authority.roots(), both[..1]);
}

#[test]
fn only_the_latest_certificates_from_before_renewals_stay() {
    let old = root("ca");
    let renewals: Vec<_> = (1..=6).rev().map(|day| renewal(&old, days(day))).collect();
    let all: Vec<_> = renewals.iter().collect();
    let (data, published) = (secret(&all[..1]), pem_of(&all));
    let known = Held { published: &published, ..held(&data) };
    let Ok(Decision::Adopt(authority)) = decide(&known, NOW.saturating_add(days(7))) else {
        panic!()
    };
    let latest: Vec<_> = all[..4].iter().map(|one| one.certificate().clone()).collect();
    assert_eq!(authority.roots(), latest);
}

#[test]
fn a_renewal_of_an_authority_that_nobody_published_cannot_be_told_from_another_one() {
    let old = root("ca");
    let data = secret(&[&renewal(&old, days(1))]);
    let recorded = crate::pki::fingerprint(old.certificate());
    let unknown = Held { recorded: Some(&recorded), ..held(&data) };
    let now = NOW.saturating_add(days(2));
    assert!(matches!(decide(&unknown, now), Err(AuthorityError::Altered { .. })));
}

/// A certificate in the bundle becomes a root only when the authority's own key signed it.
#[test]
fn a_tampered_bundle_adds_no_root() {
    let (own, foreign) = (root("ca"), root("ca"));
    let data = secret(&[&own]);
    let published = pem_of(&[&own, &foreign]) + "-----BEGIN CERTIFICATE-----\nAAAA\n";
    for published in [published.as_str(), &pem_of(&[&foreign])] {
        let Ok(Decision::Adopt(authority)) = decide(&Held { published, ..held(&data) }, NOW) else {
            panic!()
        };
        assert_eq!(authority.roots(), [own.certificate().clone()]);
    }
}

#[test]
fn a_renewed_intermediate_keeps_the_one_before() {
    let upper = root("root");
    let old = below(&upper, "ca");
    let validity = Validity {
        not_before: NOW.saturating_add(days(1)),
        not_after: upper.certificate().not_after(),
    };
    let new = upper
        .new_intermediate(old.key().clone(), &CaProfile { validity, ..profile("ca", NOW) })
        .unwrap();
    let recorded = crate::pki::fingerprint(old.certificate());
    let (data, published) = (secret(&[&new, &upper]), pem_of(&[&upper, &old]));
    let renewed = Held { recorded: Some(&recorded), published: &published, ..held(&data) };
    let Ok(Decision::Renewed(authority)) = decide(&renewed, NOW.saturating_add(days(2))) else {
        panic!()
    };
    assert_eq!(authority.roots(), [upper.certificate().clone()]);
    let both = [new.certificate().clone(), old.certificate().clone()];
    assert_eq!(authority.intermediates(), both);
    assert_eq!(authority.sent_chain(), both[..1]);
}

#[test]
fn a_chain_is_read_up_to_its_root_wherever_that_stands() {
    let top = root("root");
    let middle = below(&top, "middle");
    let issuer = below(&middle, "ca");
    let whole = secret(&[&issuer, &middle, &top]);
    let mut split = secret(&[&issuer, &middle]);
    split.insert("ca.crt".to_owned(), value(&pem_of(&[&top])));
    for data in [&whole, &split] {
        let authority = Authority::read("org1-ca", data, NOW).unwrap();
        assert!(authority.is_intermediate());
        assert_eq!(authority.roots(), [top.certificate().clone()]);
        let below = [issuer.certificate().clone(), middle.certificate().clone()];
        assert_eq!(authority.intermediates(), below);
    }
    let alone = Authority::read("org1-ca", &secret(&[&top]), NOW).unwrap();
    assert!(!alone.is_intermediate() && alone.intermediates().is_empty());
}

#[test]
fn what_is_wrong_with_a_secret_is_told() {
    let upper = root("root");
    let (issuer, stranger) = (below(&upper, "ca"), root("stranger"));
    let good = secret(&[&issuer, &upper]);
    let with = |name: &str, text: &[u8]| {
        let mut data = good.clone();
        data.insert(name.to_owned(), ByteString(text.to_vec()));
        data
    };
    let without = |name: &str| {
        let mut data = good.clone();
        data.remove(name);
        data
    };
    let other_key = stranger.key().to_pkcs8_pem().unwrap();
    let leaf = leaves()[0].profile(issuer.certificate(), NOW, &certificates());
    let leaf = issuer.issue(issuer.key().public_key(), &leaf).unwrap();
    let stray = pem_of(&[&issuer, &stranger]);
    let cases: [(SecretData, Check); 10] = [
        (without(key::CA_CERT), |e| matches!(e, AuthorityError::NoKey { key: key::CA_CERT, .. })),
        (with(key::CA_CERT, b""), |e| matches!(e, AuthorityError::NoKey { .. })),
        (without(key::CA_KEY), |e| matches!(e, AuthorityError::NoKey { key: key::CA_KEY, .. })),
        (with(key::CA_CERT, &[0xff]), |e| matches!(e, AuthorityError::NotText { .. })),
        (with(key::CA_CERT, b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), {
            |e| matches!(e, AuthorityError::Certificate { .. })
        }),
        (with(key::CA_KEY, b"none"), |e| matches!(e, AuthorityError::PrivateKey { .. })),
        (with(key::CA_KEY, other_key.as_bytes()), |e| {
            let AuthorityError::Unusable { source, .. } = e else { return false };
            matches!(source, weft_crypto::CaError::KeyMismatch { .. })
        }),
        (with(key::CA_CERT, leaf.pem().as_bytes()), |e| {
            let AuthorityError::Unusable { source, .. } = e else { return false };
            matches!(source, weft_crypto::CaError::NotAuthority { .. })
        }),
        (with(key::CA_CERT, stray.as_bytes()), |e| matches!(e, AuthorityError::Chain { .. })),
        (secret(&[&issuer]), |e| matches!(e, AuthorityError::NoRoot { .. })),
    ];
    assert!(Authority::read("org1-ca", &good, NOW).is_ok());
    for (index, (data, is_expected)) in cases.iter().enumerate() {
        let error = failure(data, NOW);
        assert!(is_expected(&error), "case {index}: {error:?}");
        assert!(error.to_string().contains("org1-ca"), "case {index}: {error}");
    }
}

#[test]
fn an_authority_issues_only_within_its_time() {
    let ca = root("ca");
    let data = secret(&[&ca]);
    let early = failure(&data, NOW.saturating_sub(Duration::from_secs(1)));
    assert!(matches!(early, AuthorityError::NotYetValid { .. }) && early.is_waiting());
    let last = NOW.saturating_add(days(3650));
    assert!(Authority::read("org1-ca", &data, last).is_ok());
    let late = failure(&data, last.saturating_add(Duration::from_secs(1)));
    assert!(matches!(late, AuthorityError::Expired { .. }));
}

#[test]
fn an_authority_may_have_only_so_many_below_it() {
    let limited = CaProfile { max_path_len: Some(1), ..profile("root", NOW) };
    let top = CertificateAuthority::new_root(key(), &limited).unwrap();
    let middle = below(&top, "middle");
    assert!(Authority::read("org1-ca", &secret(&[&middle, &top]), NOW).is_ok());
    let issuer = below(&middle, "ca");
    let error = failure(&secret(&[&issuer, &middle, &top]), NOW);
    let AuthorityError::PathLength { limit: 1, below: 2, .. } = error else { panic!("{error}") };
}
