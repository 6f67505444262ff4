use proptest::prelude::*;

use super::*;

const DAY: u64 = 24 * 3600;

fn certificates() -> Certificates {
    Certificates {
        duration: Duration::from_secs(90 * DAY),
        renew_before: Duration::from_secs(30 * DAY),
        ca_duration: Duration::from_secs(3650 * DAY),
    }
}

fn root(now: Timestamp, name: &str) -> CertificateAuthority {
    let msp_id = MspId::new(name).unwrap();
    let profile = root_profile(&msp_id, RootUse::Tls, now, &certificates());
    CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &profile).unwrap()
}

fn leaf() -> Leaf {
    Leaf {
        common_name: "peer0".to_owned(),
        role: Role::Peer,
        root: RootUse::Tls,
        hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        uris: Vec::new(),
    }
}

#[test]
fn a_leaf_is_renewed_in_its_last_days_and_not_before() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let ca = root(now, "Org1MSP");
    let key = PrivateKey::generate().unwrap();
    let profile = leaf().profile(ca.certificate(), now, &certificates());
    let certificate = ca.issue(key.public_key(), &profile).unwrap();
    let due_after = |days: u64| {
        let at = now.saturating_add(Duration::from_secs(days * DAY));
        due(&leaf(), Some(&certificate), ca.certificate(), at, &certificates())
    };
    assert_eq!(due_after(0), None);
    assert_eq!(due_after(59), None);
    assert_eq!(due_after(60), Some(Reason::Expiring));
    assert_eq!(due_after(100), Some(Reason::Expiring));
}

#[test]
fn a_leaf_never_outlives_its_root_and_is_not_renewed_for_nothing() {
    let made = Timestamp::from_seconds(1_800_000_000);
    let ca = root(made, "Org1MSP");
    let key = PrivateKey::generate().unwrap();
    let late = made.saturating_add(Duration::from_secs(3600 * DAY));
    let profile = leaf().profile(ca.certificate(), late, &certificates());
    assert_eq!(profile.validity.not_after, ca.certificate().not_after());
    let certificate = ca.issue(key.public_key(), &profile).unwrap();
    assert_eq!(due(&leaf(), Some(&certificate), ca.certificate(), late, &certificates()), None);
}

#[test]
fn a_certificate_that_does_not_fit_is_replaced() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let (ca, other) = (root(now, "Org1MSP"), root(now, "Org2MSP"));
    let key = PrivateKey::generate().unwrap();
    let issue = |ca: &CertificateAuthority, leaf: &Leaf| {
        let profile = leaf.profile(ca.certificate(), now, &certificates());
        ca.issue(key.public_key(), &profile).unwrap()
    };
    let check = |current: Option<&Certificate>, expected: Option<Reason>| {
        assert_eq!(due(&leaf(), current, ca.certificate(), now, &certificates()), expected);
    };
    check(None, Some(Reason::Missing));
    check(Some(&issue(&other, &leaf())), Some(Reason::OtherIssuer));
    let fewer = Leaf { hosts: vec!["localhost".to_owned()], ..leaf() };
    check(Some(&issue(&ca, &fewer)), Some(Reason::Hosts));
    let renamed = Leaf { common_name: "peer1".to_owned(), ..leaf() };
    check(Some(&issue(&ca, &renamed)), Some(Reason::Subject));
    let client = Leaf { role: Role::Client, ..leaf() };
    check(Some(&issue(&ca, &client)), Some(Reason::Subject));
    check(Some(&issue(&ca, &leaf())), None);
}

#[test]
fn an_identity_from_before_the_renewal_of_its_authority_is_issued_again() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let (old, later) = (root(now, "Org1MSP"), now.saturating_add(Duration::from_secs(DAY)));
    let msp_id = MspId::new("Org1MSP").unwrap();
    let profile = root_profile(&msp_id, RootUse::Tls, later, &certificates());
    let new = CertificateAuthority::new_root(old.key().clone(), &profile).unwrap();
    for (root, expected) in [(RootUse::Identity, Some(Reason::IssuerRenewed)), (RootUse::Tls, None)]
    {
        let leaf = Leaf { root, ..leaf() };
        let before = fresh(&leaf, &old, now).certificate;
        let after = fresh(&leaf, &new, later).certificate;
        let check = |current| due(&leaf, Some(current), new.certificate(), later, &certificates());
        assert_eq!(check(&before), expected);
        assert_eq!(check(&after), None);
    }
}

fn fresh(leaf: &Leaf, ca: &CertificateAuthority, now: Timestamp) -> Fresh {
    issue(leaf, None, ca, Reason::Missing, now, &certificates()).unwrap()
}

#[test]
fn a_certificate_serves_only_with_its_key() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let fresh = fresh(&leaf(), &root(now, "Org1MSP"), now);
    let other = PrivateKey::generate().unwrap();
    let usable = |key| usable(Some(fresh.certificate.clone()), key);
    assert_eq!(usable(Some(&fresh.key)), Some(fresh.certificate.clone()));
    assert_eq!(usable(Some(&other)), None);
    assert_eq!(usable(None), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Until the moment that is told nothing is due, and from then on the renewal is.
    #[test]
    fn a_renewal_is_due_when_it_was_told(
        duration in 60_u64..400 * DAY,
        share in 0_u32..1000,
        begin in 0_u64..3700 * DAY,
        nanos in 0_u32..1_000_000_000,
    ) {
        let made = Timestamp::from_seconds(1_800_000_000);
        let ca = root(made, "Org1MSP");
        let duration = Duration::from_secs(duration);
        let certificates = Certificates {
            duration,
            renew_before: duration * share / 1000,
            ..certificates()
        };
        let now = made.saturating_add(Duration::new(begin.min(3650 * DAY - 1), nanos));
        let leaf = leaf();
        let fresh = issue(&leaf, None, &ca, Reason::Missing, now, &certificates).unwrap();
        let (current, issuer) = (&fresh.certificate, ca.certificate());
        let due_at = |at| due(&leaf, Some(current), issuer, at, &certificates);
        match renew_at(current, issuer, &certificates) {
            Some(at) => {
                prop_assert_eq!(due_at(at.saturating_sub(Duration::from_nanos(1))), None);
                prop_assert_eq!(due_at(at), Some(Reason::Expiring));
                prop_assert_eq!(due_at(current.not_after()), Some(Reason::Expiring));
            }
            None => {
                prop_assert_eq!(current.not_after(), issuer.not_after());
                prop_assert_eq!(due_at(issuer.not_after()), None);
            }
        }
    }
}
