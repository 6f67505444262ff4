use proptest::prelude::*;
use weft_msp::{Msp, SigningIdentity};
use weft_types::Signer;

use super::super::holder::{Ensured, Hold, IdentityError, Issued};
use super::super::{Decision, authority, bundle, hash};
use super::*;
use crate::pki::Reason;

fn ensure(holder: &Authorities, current: Option<&SecretData>, now: Timestamp) -> Ensured {
    holder.ensure(&leaves(), current, Hold::Nothing, now).unwrap()
}

fn issued(which: RootUse, reason: Reason) -> Issued {
    Issued { holder: "org1-peer-0".to_owned(), which, reason }
}

fn first(holder: &Authorities) -> SecretData {
    ensure(holder, None, NOW).data.unwrap()
}

#[test]
fn a_new_identity_has_all_parts_and_an_unchanged_one_is_left_alone() {
    let (managed, below) = (authorities(), own(2, NOW));
    for holder in [&managed, &below] {
        let ensured = ensure(holder, None, NOW);
        let both = [RootUse::Identity, RootUse::Tls].map(|which| issued(which, Reason::Missing));
        assert_eq!(ensured.issued, both);
        let end = NOW.saturating_add(days(90));
        assert_eq!(ensured.expires, [(RootUse::Identity, end), (RootUse::Tls, end)]);
        assert_eq!(ensured.renew_at, Some(NOW.saturating_add(days(60))));
        let data = ensured.data.unwrap();
        let again = ensure(holder, Some(&data), NOW.saturating_add(days(59)));
        assert!(again.data.is_none() && again.issued.is_empty(), "{again:?}");
        assert_eq!(again.renew_at, ensured.renew_at);
    }
    let names = |data: &SecretData| data.keys().cloned().collect::<Vec<_>>();
    let short = names(&first(&managed));
    assert_eq!(
        short,
        [
            "cacerts.pem",
            "cert.pem",
            "config.yaml",
            "key.pem",
            "tls.crt",
            "tls.key",
            "tlscacerts.pem"
        ]
    );
    let long = names(&first(&below));
    assert_eq!(long.len(), short.len() + 2);
    assert!(long.iter().any(|name| name == "tlsintermediatecerts.pem"), "{long:?}");
}

#[test]
fn a_signing_certificate_stands_alone_and_a_tls_certificate_with_its_chain() {
    let data = first(&own(2, NOW));
    let count = |name: &str| Certificate::all_from_pem(text(&data, name)).unwrap().len();
    assert_eq!(count(key::SIGN_CERT), 1);
    assert_eq!(count(key::TLS_CERT), 3);
    assert_eq!((count(key::CA_CERTS), count(key::TLS_CA_CERTS)), (1, 1));
    assert_eq!((count(key::INTERMEDIATE_CERTS), count(key::TLS_INTERMEDIATE_CERTS)), (2, 2));
}

#[test]
fn a_renewal_keeps_the_keys() {
    let holder = authorities();
    let before = first(&holder);
    let ensured = ensure(&holder, Some(&before), NOW.saturating_add(days(60)));
    let both = [RootUse::Identity, RootUse::Tls].map(|which| issued(which, Reason::Expiring));
    assert_eq!(ensured.issued, both);
    assert_eq!(
        ensured.issued[1].to_string(),
        "issued the TLS certificate of org1-peer-0: it was about to expire"
    );
    let after = ensured.data.unwrap();
    for name in [key::SIGN_KEY, key::TLS_KEY] {
        assert_eq!(before[name], after[name], "{name}");
    }
    for name in [key::SIGN_CERT, key::TLS_CERT] {
        assert_ne!(before[name], after[name], "{name}");
        let of = |data| certificate(data, name).public_key().clone();
        assert_eq!(of(&before), of(&after), "{name}");
    }
    assert_ne!(hash(&before), hash(&after));
}

#[test]
fn the_renewal_of_a_tls_certificate_can_be_held_back_but_not_its_making() {
    let holder = authorities();
    let before = first(&holder);
    let late = NOW.saturating_add(days(60));
    let held = holder.ensure(&leaves(), Some(&before), Hold::Tls, late).unwrap();
    assert_eq!(held.issued, [issued(RootUse::Identity, Reason::Expiring)]);
    assert_eq!(held.held, Some(Reason::Expiring));
    assert_eq!(held.renew_at, Some(late.saturating_add(days(60))), "the held one is left out");
    assert_eq!(held.expires[1].1, NOW.saturating_add(days(90)));
    let after = held.data.unwrap();
    assert_eq!(before[key::TLS_CERT], after[key::TLS_CERT]);

    let mut without = after.clone();
    without.remove(key::TLS_CERT);
    let made = holder.ensure(&leaves(), Some(&without), Hold::Tls, late).unwrap();
    assert_eq!(made.issued, [issued(RootUse::Tls, Reason::Missing)]);
    assert_eq!(made.held, None);
    let fresh = holder.ensure(&leaves(), Some(&after), Hold::Nothing, late).unwrap();
    assert_eq!(fresh.issued, [issued(RootUse::Tls, Reason::Expiring)]);
}

#[test]
fn a_certificate_that_does_not_go_with_its_key_is_issued_for_the_key() {
    let holder = authorities();
    let (data, other) = (first(&holder), first(&holder));
    let changed = |change: &dyn Fn(&mut SecretData)| {
        let mut changed = data.clone();
        change(&mut changed);
        let ensured = ensure(&holder, Some(&changed), NOW);
        assert_eq!(ensured.issued, [issued(RootUse::Identity, Reason::Missing)]);
        (changed, ensured.data.unwrap())
    };
    let no_certificate = changed(&|data| drop(data.remove(key::SIGN_CERT)));
    let broken = changed(&|data| drop(data.insert(key::SIGN_CERT.to_owned(), value("?"))));
    let other_key = changed(&|data| {
        data.insert(key::SIGN_KEY.to_owned(), other[key::SIGN_KEY].clone());
    });
    for (before, after) in [no_certificate, broken, other_key] {
        assert_eq!(before[key::SIGN_KEY], after[key::SIGN_KEY]);
        let private = PrivateKey::from_pkcs8_pem(text(&after, key::SIGN_KEY)).unwrap();
        assert_eq!(private.public_key(), certificate(&after, key::SIGN_CERT).public_key());
    }
    let (_, no_key) = changed(&|data| drop(data.remove(key::SIGN_KEY)));
    assert_ne!(no_key[key::SIGN_KEY], data[key::SIGN_KEY]);
}

#[test]
fn a_key_that_cannot_be_read_is_not_thrown_away() {
    let holder = authorities();
    let failure = |bytes: &[u8]| {
        let mut data = first(&holder);
        data.insert(key::TLS_KEY.to_owned(), ByteString(bytes.to_vec()));
        holder.ensure(&leaves(), Some(&data), Hold::Nothing, NOW).unwrap_err()
    };
    assert!(matches!(failure(b"none"), IdentityError::Key { key: key::TLS_KEY, .. }));
    assert!(matches!(failure(&[0xff]), IdentityError::NotText { key: key::TLS_KEY, .. }));
}

#[test]
fn what_others_put_into_the_secret_does_not_matter_and_what_is_left_over_does() {
    let holder = authorities();
    let mut data = first(&holder);
    data.insert("note".to_owned(), value("by someone"));
    assert!(ensure(&holder, Some(&data), NOW).data.is_none());
    data.insert(key::INTERMEDIATE_CERTS.to_owned(), data[key::CA_CERTS].clone());
    let ensured = ensure(&holder, Some(&data), NOW);
    assert!(ensured.issued.is_empty());
    assert!(!ensured.data.unwrap().contains_key(key::INTERMEDIATE_CERTS));
}

#[test]
fn an_authority_that_cannot_issue_for_so_long_says_so() {
    let holder = authorities();
    let nameless = Leaf { common_name: String::new(), ..leaves()[0].clone() };
    let wanted = [nameless, leaves()[1].clone()];
    let error = holder.ensure(&wanted, None, Hold::Nothing, NOW).unwrap_err();
    assert!(matches!(error, IdentityError::Issue { which: RootUse::Identity, .. }), "{error}");
}

#[test]
fn certificates_that_end_with_their_authority_have_no_renewal() {
    let holder = authorities();
    let ensured = ensure(&holder, None, NOW.saturating_add(days(3600)));
    assert_eq!(ensured.renew_at, None);
    assert_eq!(ensured.expires[0].1, holder.identity().certificate().not_after());
}

/// Roots that a node accepts as TLS authorities, and an MSP does not as those of identities.
#[test]
fn authorities_that_make_up_no_msp_are_refused() {
    let upper = root("root");
    let late = CertificateAuthority::new_root(
        upper.key().clone(),
        &profile("root", NOW.saturating_add(days(1))),
    )
    .unwrap();
    let issuer = below(&upper, "ca");
    let now = NOW.saturating_add(days(2));
    let identity = Authority::read("own", &secret(&[&issuer, &late]), now).unwrap();
    let tls = managed(RootUse::Tls, NOW);
    let error = Authorities::new(msp_id(), identity, tls, certificates()).unwrap_err();
    assert!(matches!(error, IdentityError::Msp { .. }), "{error}");
}

fn validate(msp: &Msp, data: &SecretData, now: Timestamp) -> Result<(), String> {
    let private = PrivateKey::from_pkcs8_pem(text(data, key::SIGN_KEY)).unwrap();
    let signer =
        SigningIdentity::new(msp_id(), certificate(data, key::SIGN_CERT), private).unwrap();
    let identity = msp
        .deserialize_identity(&signer.serialized_identity())
        .map_err(|error| format!("{error:?}"))?;
    assert!(identity.roles().contains(weft_msp::NodeRole::Peer));
    msp.validate(&identity, now).map_err(|error| format!("{error:?}"))
}

#[test]
fn identities_are_valid_members_of_the_msp_also_below_intermediates() {
    for depth in 0..3 {
        let holder = own(depth, NOW);
        let msp = Msp::new(&bundle::msp_config(&holder)).unwrap();
        let data = first(&holder);
        assert_eq!(validate(&msp, &data, NOW), Ok(()), "depth {depth}");
        let stranger = Msp::new(&bundle::msp_config(&own(depth, NOW))).unwrap();
        assert!(validate(&stranger, &data, NOW).is_err());
    }
}

/// The authority's certificate is renewed shortly before its end, with the key.
#[test]
fn identities_from_before_and_after_the_renewal_of_their_authority_are_valid() {
    let old = root("ca");
    let tls = managed(RootUse::Tls, NOW);
    let with = |identity: Authority| {
        Authorities::new(msp_id(), identity, tls.clone(), certificates()).unwrap()
    };
    let before = with(Authority::read("own", &secret(&[&old]), NOW).unwrap());
    let soon = NOW.saturating_add(days(3500));
    let data = ensure(&before, None, soon).data.unwrap();

    let now = NOW.saturating_add(days(3510));
    let new = CertificateAuthority::new_root(old.key().clone(), &profile("ca", now)).unwrap();
    let (recorded, published) = (
        before.identity().fingerprint(),
        bundle::published(&bundle::bundle(&before), RootUse::Identity),
    );
    let renewed = secret(&[&new]);
    let seen = Held { recorded: Some(&recorded), published: &published, ..held(&renewed) };
    let Ok(Decision::Renewed(authority)) = authority::decide(&seen, now) else { panic!() };
    let after = with(authority);
    let ensured = ensure(&after, Some(&data), now);
    assert_eq!(ensured.issued, [issued(RootUse::Identity, Reason::IssuerRenewed)]);
    let fresh = ensured.data.unwrap();
    assert!(ensure(&after, Some(&fresh), now).data.is_none(), "it is issued once");

    let both = Msp::new(&bundle::msp_config(&after)).unwrap();
    let only_old = Msp::new(&bundle::msp_config(&before)).unwrap();
    let only_new = with(after.identity().clone().without_earlier());
    let only_new = Msp::new(&bundle::msp_config(&only_new)).unwrap();
    let at = now.saturating_add(DAY);
    assert_eq!(validate(&both, &data, at), Ok(()));
    assert_eq!(validate(&both, &fresh, at), Ok(()));
    assert_eq!(validate(&only_old, &fresh, at), Ok(()), "channels may take over later");
    assert_eq!(validate(&only_new, &fresh, at), Ok(()));
    assert!(validate(&only_new, &data, at).is_err(), "that is why it was issued again");
}

#[test]
fn the_hash_is_of_certificates_and_not_of_keys() {
    let data = first(&authorities());
    let with = |name: &str, text: &str| {
        let mut data = data.clone();
        data.insert(name.to_owned(), value(text));
        hash(&data)
    };
    assert_eq!(hash(&data).len(), 64);
    for name in [key::SIGN_KEY, key::TLS_KEY, "note"] {
        assert_eq!(with(name, "other"), hash(&data), "{name}");
    }
    for name in [key::SIGN_CERT, key::TLS_CERT, key::CA_CERTS, key::TLS_CA_CERTS, key::CONFIG] {
        assert_ne!(with(name, "other"), hash(&data), "{name}");
    }
    assert_ne!(with(key::INTERMEDIATE_CERTS, ""), hash(&data), "that a part is there counts");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// `renew_at` is the very moment: nothing happens before, and the renewal then.
    #[test]
    fn renewals_happen_when_they_were_told(
        (minutes, share) in (10_u32..1_000_000, 1_u32..990),
        begin in 0_u64..2000,
        nanos in 0_u32..1_000_000_000,
    ) {
        let duration = Duration::from_secs(u64::from(minutes) * 60);
        let renew_before = duration * share / 1000;
        let certificates = Certificates { duration, renew_before, ca_duration: days(3650) };
        let of = |use_| managed(use_, NOW);
        let holder =
            Authorities::new(msp_id(), of(RootUse::Identity), of(RootUse::Tls), certificates)
                .unwrap();
        let now = NOW.saturating_add(DAY * u32::try_from(begin).unwrap())
            .saturating_add(Duration::from_nanos(u64::from(nanos)));
        let made = ensure(&holder, None, now);
        let data = made.data.unwrap();
        match made.renew_at {
            None => prop_assert_eq!(made.expires[0].1, holder.identity().certificate().not_after()),
            Some(at) => {
                let before = ensure(&holder, Some(&data), at.saturating_sub(Duration::from_nanos(1)));
                prop_assert!(before.issued.is_empty());
                let then = ensure(&holder, Some(&data), at);
                prop_assert_eq!(then.issued.len(), 2);
                let renewed = then.data.unwrap();
                prop_assert_eq!(&renewed[key::SIGN_KEY], &data[key::SIGN_KEY]);
                prop_assert_eq!(&renewed[key::TLS_KEY], &data[key::TLS_KEY]);
                prop_assert!(ensure(&holder, Some(&renewed), at).data.is_none());
            }
        }
    }
}
