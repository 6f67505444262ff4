//! Who is a member, and in which role.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::*;
use prost::Message as _;
use weft_crypto::{CaProfile, CertificateAuthority, LeafUsage, Name, PrivateKey};
use weft_msp::{
    ChainError, DeserializeError, IdentityError, MAX_SERIALIZED_IDENTITY, Msp, MspError,
    MspManager, NodeRole, Principal, PrincipalError, PrincipalRole, ValidAt,
};
use weft_protos::{
    common::{
        CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, OrganizationUnit,
        msp_principal::Classification,
    },
    msp::{FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig},
};
use weft_types::Timestamp;

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(NOW.seconds() + seconds)
}

fn principal(classification: Classification, message: &impl prost::Message) -> MspPrincipal {
    MspPrincipal {
        principal_classification: classification.into(),
        principal: message.encode_to_vec().into(),
    }
}

#[test]
fn roles_by_unit() {
    let org = Org::new("Org1MSP");
    for role in NodeRole::ALL {
        let identity = org.identity(&org.issue("x", &["dept", role.as_str()]));
        assert_valid(&identity);
        assert_eq!(identity.roles().iter().collect::<Vec<_>>(), [role]);
        for wanted in PrincipalRole::ALL {
            let expected = wanted == PrincipalRole::Member || wanted.as_str() == role.as_str();
            let result = identity.satisfies(&Principal::role("Org1MSP", wanted), NOW);
            assert_eq!(result.is_ok(), expected, "{role} as {wanted}: {result:?}");
        }
        let elsewhere = Principal::role("Org2MSP", PrincipalRole::Member);
        assert_eq!(identity.satisfies(&elsewhere, NOW), Err(PrincipalError::OtherMsp));
    }
}

#[test]
fn exactly_one_role() {
    let org = Org::new("Org1MSP");
    let verdict = |units: &[&str]| org.identity(&org.issue("x", units)).validate(NOW);
    assert!(matches!(verdict(&[]), Err(IdentityError::NoRole { .. })));
    assert!(matches!(verdict(&["dept"]), Err(IdentityError::NoRole { .. })));
    assert!(matches!(verdict(&["peer", "client"]), Err(IdentityError::SeveralRoles { .. })));
    assert!(matches!(verdict(&["peer", "peer"]), Err(IdentityError::SeveralRoles { .. })));
}

#[test]
fn roles_tied_to_an_authority() {
    let mut org = Org::new("Org1MSP");
    let (one, two) = (intermediate(&org.ca, "one"), intermediate(&org.ca, "two"));
    org.config.intermediate_certs = vec![pem(one.certificate()), pem(two.certificate())];
    let mut ous = node_ous().unwrap();
    ous.peer_ou_identifier.as_mut().unwrap().certificate = pem(one.certificate());
    org.config.fabric_node_ous = Some(ous);
    assert_valid(&org.identity(&issue(&one, "x", &["peer"])));
    assert_valid(&org.identity(&issue(&two, "x", &["client"])));
    let wrong = org.identity(&issue(&two, "x", &["peer"]));
    assert_eq!(wrong.validate(NOW), Err(IdentityError::WrongCertifier { unit: "peer".to_owned() }));
    // The root has subordinates and issues no identities itself.
    let direct = org.identity(&org.issue("x", &["client"]));
    assert!(matches!(direct.validate(NOW), Err(IdentityError::IssuerNotLeaf { .. })));
}

#[test]
fn units_tied_to_strangers_are_refused() {
    let mut org = Org::new("Org1MSP");
    org.config.organizational_unit_identifiers = vec![FabricOuIdentifier {
        certificate: pem(root("stranger").certificate()),
        organizational_unit_identifier: "dept".to_owned(),
    }];
    assert!(matches!(Msp::new(&org.config), Err(MspError::Unit { unit, .. }) if unit == "dept"));
}

#[test]
fn recognized_units() {
    let mut org = Org::new("Org1MSP");
    org.config.organizational_unit_identifiers = vec![FabricOuIdentifier {
        certificate: pem(org.ca.certificate()),
        organizational_unit_identifier: "dept".to_owned(),
    }];
    assert_valid(&org.identity(&org.issue("x", &["dept", "peer"])));
    let outside = org.identity(&org.issue("x", &["other", "peer"]));
    assert!(matches!(outside.validate(NOW), Err(IdentityError::UnitNotRecognized { .. })));
}

#[test]
fn validity_is_judged_at_the_time_given() {
    let org = Org::new("Org1MSP");
    let key = PrivateKey::generate().unwrap();
    let mut profile = leaf_profile("x", &["peer"]);
    profile.validity = validity(0, 60);
    let identity = org.identity(&org.ca.issue(key.public_key(), &profile).unwrap());
    let member = Principal::role("Org1MSP", PrincipalRole::Member);
    assert!(matches!(identity.validate(later(-1)), Err(IdentityError::NotYetValid { .. })));
    assert_eq!(identity.validate(later(0)), Ok(()));
    assert_eq!(identity.validate(Timestamp::new(later(60).seconds(), 999).unwrap()), Ok(()));
    assert!(matches!(identity.validate(later(61)), Err(IdentityError::Expired { .. })));
    assert!(matches!(
        identity.satisfies(&member, later(61)),
        Err(PrincipalError::Invalid(IdentityError::Expired { .. }))
    ));
    assert_eq!(identity.satisfies(&member, ValidAt::Issuance), Ok(()));
}

/// An expired authority neither keeps a node from starting nor makes the past invalid, but what it
/// issued is expired too.
#[test]
fn expired_authority() {
    let profile = CaProfile {
        name: Name::common("short"),
        validity: validity(-1000, 60),
        max_path_len: None,
    };
    let ca = CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &profile).unwrap();
    let mut org = Org::new("Org1MSP");
    org.config.root_certs = vec![pem(ca.certificate())];
    let mut profile = leaf_profile("x", &["peer"]);
    profile.validity = validity(-500, 60);
    let certificate = ca.issue(PrivateKey::generate().unwrap().public_key(), &profile).unwrap();
    let identity = org.identity(&certificate);
    assert_eq!(identity.validate(later(60)), Ok(()));
    assert!(matches!(identity.validate(later(61)), Err(IdentityError::Expired { .. })));
    assert_eq!(identity.validate(ValidAt::Issuance), Ok(()));
}

/// The authority is renewed under the same key and name, and both certificates are trusted.
#[test]
fn renewed_authority() {
    let key = PrivateKey::generate().unwrap();
    let root = |from, to| {
        let profile = CaProfile {
            name: Name::common("ca"),
            validity: validity(from, to),
            max_path_len: None,
        };
        CertificateAuthority::new_root(key.clone(), &profile).unwrap()
    };
    let (old, new) = (root(-5000, 100), root(-2000, 10_000));
    let mut org = Org::new("Org1MSP");
    org.config.root_certs = vec![pem(old.certificate()), pem(new.certificate())];
    let mut profile = leaf_profile("x", &["peer"]);
    profile.validity = validity(-1000, 5000);
    let certificate = new.issue(PrivateKey::generate().unwrap().public_key(), &profile).unwrap();
    let identity = org.identity(&certificate);
    assert_eq!(identity.validate(later(5000)), Ok(()));
    org.config.root_certs.remove(0);
    assert_eq!(org.identity(&certificate).validate(NOW), Ok(()));
}

#[test]
fn other_authorities_are_not_trusted() {
    let org = Org::new("Org1MSP");
    let stranger = issue(&root("stranger"), "x", &["peer"]);
    let refused = |certificate| {
        org.msp().deserialize_identity(&serialized("Org1MSP", certificate)).unwrap_err()
    };
    assert!(matches!(
        refused(&stranger),
        DeserializeError::Untrusted { source: ChainError::UnknownIssuer { .. }, .. }
    ));
    // The same name, another key.
    let impostor = root("ca of Org1MSP");
    assert!(matches!(
        refused(&issue(&impostor, "x", &["peer"])),
        DeserializeError::Untrusted { source: ChainError::NotSigned { .. }, .. }
    ));
    // A member cannot act as an authority.
    let signer = org.signer("x", &["peer"]);
    let fake = CertificateAuthority::new(signer.certificate().clone(), signer.key().clone());
    assert!(fake.is_err());
    // A trusted certificate under another MSP's name.
    let other = org.msp().deserialize_identity(&serialized("Org2MSP", &stranger)).unwrap_err();
    assert!(matches!(other, DeserializeError::OtherMsp { .. }));
}

#[test]
fn authorities_are_no_identities() {
    let org = Org::new("Org1MSP");
    let below = intermediate(&org.ca, "below");
    let identity = org.identity(below.certificate());
    assert_eq!(identity.validate(NOW), Err(IdentityError::IsAuthority));
    let itself = org.identity(org.ca.certificate());
    assert_eq!(itself.validate(NOW), Err(IdentityError::IsAuthority));
}

#[test]
fn intermediate_chains() {
    let mut org = Org::new("Org1MSP");
    let one = intermediate(&org.ca, "one");
    let two = intermediate(&one, "two");
    let certificate = issue(&two, "x", &["peer"]);
    // Intermediate authorities come from the MSP, not from the identity.
    assert!(org.msp().deserialize_identity(&serialized("Org1MSP", &certificate)).is_err());
    org.config.intermediate_certs = vec![pem(two.certificate()), pem(one.certificate())];
    assert_valid(&org.identity(&certificate));
    let above = org.identity(&issue(&one, "x", &["peer"]));
    assert!(matches!(above.validate(NOW), Err(IdentityError::IssuerNotLeaf { .. })));
    // Without the link in the middle there is no path.
    org.config.intermediate_certs.pop();
    assert!(matches!(
        Msp::new(&org.config),
        Err(MspError::Authorities { source: ChainError::UnknownIssuer { .. }, .. })
    ));
}

#[test]
fn path_lengths() {
    let profile = CaProfile { max_path_len: Some(1), ..ca_profile("limited") };
    let top = CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &profile).unwrap();
    let one = intermediate(&top, "one");
    let two = intermediate(&one, "two");
    let mut org = Org::new("Org1MSP");
    org.config.root_certs = vec![pem(top.certificate())];
    org.config.intermediate_certs = vec![pem(one.certificate())];
    assert_valid(&org.identity(&issue(&one, "x", &["peer"])));
    org.config.intermediate_certs.push(pem(two.certificate()));
    let refused = org
        .msp()
        .deserialize_identity(&serialized("Org1MSP", &issue(&two, "x", &["peer"])))
        .unwrap_err();
    assert!(matches!(
        refused,
        DeserializeError::Untrusted { source: ChainError::NoPath { .. }, .. }
    ));
}

#[test]
fn revoked_identities() {
    let mut org = Org::new("Org1MSP");
    let (good, bad) = (org.issue("good", &["peer"]), org.issue("bad", &["peer"]));
    let ca = org.ca.clone();
    org.revoke(&ca, &bad);
    assert_valid(&org.identity(&good));
    let revoked = org.identity(&bad);
    assert!(matches!(revoked.validate(ValidAt::Issuance), Err(IdentityError::Revoked { .. })));
    let member = Principal::role("Org1MSP", PrincipalRole::Member);
    assert!(revoked.satisfies(&member, NOW).is_err());
}

#[test]
fn lists_of_others_do_not_revoke() {
    let mut org = Org::new("Org1MSP");
    let certificate = org.issue("x", &["peer"]);
    org.revoke(&root("stranger"), &certificate);
    // The right name and key identifier cannot be had without the key: an impostor's list.
    org.revoke(&root("ca of Org1MSP"), &certificate);
    assert_valid(&org.identity(&certificate));
}

#[test]
fn revoked_intermediate_authority() {
    let mut org = Org::new("Org1MSP");
    let below = intermediate(&org.ca, "below");
    org.config.intermediate_certs = vec![pem(below.certificate())];
    let ca = org.ca.clone();
    org.revoke(&ca, below.certificate());
    assert!(matches!(Msp::new(&org.config), Err(MspError::AuthorityRevoked { .. })));
}

#[test]
fn listed_administrators() {
    let mut org = Org::new("Org1MSP");
    org.config.fabric_node_ous = None;
    let admin = org.issue("admin", &[]);
    assert!(matches!(Msp::new(&org.config), Err(MspError::NoAdministrators { .. })));
    org.config.admins = vec![pem(&admin)];
    let role = |role| Principal::role("Org1MSP", role);
    let identity = org.identity(&admin);
    assert_eq!(identity.satisfies(&role(PrincipalRole::Admin), NOW), Ok(()));
    assert_eq!(identity.satisfies(&role(PrincipalRole::Member), NOW), Ok(()));
    assert_eq!(
        identity.satisfies(&role(PrincipalRole::Peer), NOW),
        Err(PrincipalError::RolesDisabled(PrincipalRole::Peer))
    );
    let member = org.identity(&org.issue("member", &[]));
    assert_eq!(
        member.satisfies(&role(PrincipalRole::Admin), NOW),
        Err(PrincipalError::NotInRole(PrincipalRole::Admin))
    );
    // A revoked administrator cannot be listed, and is none where roles let it be listed.
    let ca = org.ca.clone();
    org.revoke(&ca, &admin);
    assert!(matches!(Msp::new(&org.config), Err(MspError::AdminInvalid { index: 0, .. })));
}

#[test]
fn listed_administrators_beside_roles() {
    let mut org = Org::new("Org1MSP");
    let client = org.issue("c", &["client"]);
    org.config.admins = vec![pem(&client)];
    let admin = Principal::role("Org1MSP", PrincipalRole::Admin);
    assert_eq!(org.identity(&client).satisfies(&admin, NOW), Ok(()));
    org.config.admins = vec![pem(&org.issue("p", &["peer"]))];
    assert!(matches!(Msp::new(&org.config), Err(MspError::AdminRole { index: 0, .. })));
    org.config.admins = vec![pem(&issue(&root("stranger"), "x", &["client"]))];
    assert!(matches!(Msp::new(&org.config), Err(MspError::AdminUntrusted { index: 0, .. })));
}

#[test]
fn other_principals() {
    let org = Org::new("Org1MSP");
    let certificate = org.issue("x", &["dept", "peer"]);
    let identity = org.identity(&certificate);
    let check = |principal: &MspPrincipal| identity.satisfies(principal, NOW);

    let unit = |name: &str, certifiers: &[u8]| {
        let unit = OrganizationUnit {
            msp_identifier: "Org1MSP".to_owned(),
            organizational_unit_identifier: name.to_owned(),
            certifiers_identifier: Bytes::copy_from_slice(certifiers),
        };
        principal(Classification::OrganizationUnit, &unit)
    };
    // The certifiers' identifier of one root is the hash of its certificate.
    let certifiers = org.ca.certificate().fingerprint();
    assert_eq!(check(&unit("dept", &certifiers)), Ok(()));
    assert_eq!(check(&unit("dept", b"other")), Err(PrincipalError::NotInUnit));
    assert_eq!(check(&unit("other", &certifiers)), Err(PrincipalError::NotInUnit));

    let same = Principal::identity(serialized("Org1MSP", &certificate));
    assert_eq!(check(&same), Ok(()));
    let another = Principal::identity(serialized("Org1MSP", &org.issue("y", &["peer"])));
    assert_eq!(check(&another), Err(PrincipalError::OtherIdentity));

    let anonymity = |anonymity_type| {
        principal(Classification::Anonymity, &MspIdentityAnonymity { anonymity_type })
    };
    assert_eq!(check(&anonymity(0)), Ok(()));
    assert_eq!(check(&anonymity(1)), Err(PrincipalError::NotAnonymous));
    assert_eq!(check(&anonymity(2)), Err(PrincipalError::UnknownAnonymity(2)));

    let combined = |principals: Vec<MspPrincipal>| {
        principal(Classification::Combined, &CombinedPrincipal { principals })
    };
    let peer = Principal::role("Org1MSP", PrincipalRole::Peer);
    let client = Principal::role("Org1MSP", PrincipalRole::Client);
    assert_eq!(check(&combined(vec![peer.clone(), unit("dept", &certifiers)])), Ok(()));
    assert!(check(&combined(vec![peer.clone(), client])).is_err());
    assert_eq!(check(&combined(vec![])), Err(PrincipalError::EmptyCombination));
    let deep = (0..1000).fold(peer, |inner, _| combined(vec![inner]));
    assert_eq!(check(&deep), Err(PrincipalError::TooDeep));

    let unknown = MspPrincipal { principal_classification: 9, principal: Bytes::new() };
    assert_eq!(check(&unknown), Err(PrincipalError::UnknownClassification(9)));
    let malformed =
        MspPrincipal { principal_classification: 0, principal: Bytes::from_static(b"\xff") };
    assert!(matches!(check(&malformed), Err(PrincipalError::Decode(_))));
}

/// Whoever rewrites a certificate's signature does not become somebody else.
#[test]
fn both_forms_of_a_certificate_are_one_identity() {
    let mut org = Org::new("Org1MSP");
    let certificate = org.issue("x", &["peer"]);
    let rewritten = with_other_s(&certificate);
    assert_ne!(certificate.der(), rewritten.der());
    let (one, other) = (org.identity(&certificate), org.identity(&rewritten));
    assert_valid(&other);
    assert!(one.is_same(&other));
    let principal = Principal::identity(serialized("Org1MSP", &certificate));
    assert_eq!(other.satisfies(&principal, NOW), Ok(()));
    // The same holds for what units are tied to.
    let before = *one.certifiers_identifier();
    org.config.root_certs = vec![pem(&with_other_s(org.ca.certificate()))];
    assert_eq!(*org.identity(&certificate).certifiers_identifier(), before);
}

#[test]
fn purpose_of_the_certificate() {
    let org = Org::new("Org1MSP");
    let mut profile = leaf_profile("x", &["peer"]);
    // Includes serverAuth, which is what Fabric looks for where there is a purpose at all.
    profile.usage = LeafUsage::Tls;
    let key = PrivateKey::generate().unwrap();
    assert_valid(&org.identity(&org.ca.issue(key.public_key(), &profile).unwrap()));
}

#[test]
fn definitions_that_are_refused() {
    let check = |change: &dyn Fn(&mut Org), expected: fn(&MspError) -> bool| {
        let mut org = Org::new("Org1MSP");
        change(&mut org);
        let error = Msp::new(&org.config).unwrap_err();
        assert!(expected(&error), "{error:?}");
    };
    check(&|org| org.config.name.clear(), |e| matches!(e, MspError::Id(_)));
    check(&|org| org.config.root_certs.clear(), |e| matches!(e, MspError::NoRoots { .. }));
    check(&|org| org.config.root_certs.push(Bytes::from_static(b"nonsense")), |e| {
        matches!(e, MspError::Certificate { list: "root certificate", index: 1, .. })
    });
    check(&|org| org.config.root_certs = vec![pem(&org.issue("x", &["peer"]))], |e| {
        matches!(e, MspError::Authorities { source: ChainError::NotAuthority { .. }, .. })
    });
    check(
        &|org| org.config.root_certs = vec![pem(intermediate(&org.ca, "below").certificate())],
        |e| matches!(e, MspError::Authorities { source: ChainError::RootNotSelfSigned { .. }, .. }),
    );
    check(
        &|org| {
            org.config.tls_intermediate_certs = vec![pem(intermediate(&org.ca, "b").certificate())]
        },
        |e| matches!(e, MspError::TlsAuthorities { .. }),
    );
    check(&|org| org.config.revocation_list = vec![Bytes::from_static(b"nonsense")], |e| {
        matches!(e, MspError::RevocationList { index: 0, .. })
    });
    check(
        &|org| {
            org.config.crypto_config = Some(FabricCryptoConfig {
                signature_hash_family: "SHA3".to_owned(),
                identity_identifier_hash_function: String::new(),
            });
        },
        |e| matches!(e, MspError::HashFunction { name, .. } if name == "SHA3"),
    );
    check(
        &|org| {
            let ous = org.config.fabric_node_ous.as_mut().unwrap();
            ous.admin_ou_identifier = None;
        },
        |e| matches!(e, MspError::NoAdministrators { .. }),
    );
    // Roles that are enabled but not defined are no roles, and leave nobody to administer.
    check(
        &|org| {
            org.config.fabric_node_ous =
                Some(FabricNodeOUs { enable: true, ..FabricNodeOUs::default() });
        },
        |e| matches!(e, MspError::NoAdministrators { .. }),
    );
    let idemix = MspConfig { r#type: 1, config: Bytes::new() };
    assert!(matches!(Msp::from_config(&idemix), Err(MspError::Type(1))));
}

#[test]
fn definition_from_a_channel() {
    let org = Org::new("Org1MSP");
    let config = MspConfig { r#type: 0, config: org.config.encode_to_vec().into() };
    let msp = Msp::from_config(&config).unwrap();
    assert_eq!(msp.id().as_str(), "Org1MSP");
    assert_eq!(msp.root_certificates(), [org.ca.certificate().clone()]);
    assert!(msp.roles_enabled());
}

#[test]
fn manager_reads_identities_of_all_its_msps() {
    let (one, two) = (Org::new("Org1MSP"), Org::new("Org2MSP"));
    let msps = manager([&one, &two]);
    let certificate = two.issue("x", &["peer"]);
    let bytes = serialized("Org2MSP", &certificate);
    let identity = msps.deserialize_identity(&bytes).unwrap();
    assert_eq!(identity.msp_id().as_str(), "Org2MSP");
    assert_eq!(identity.serialized(), &bytes);
    assert_eq!(identity.to_string(), "Org2MSP/x");
    let again = msps.deserialize_identity(&bytes).unwrap();
    assert!(std::sync::Arc::ptr_eq(&identity, &again), "read from memory");

    let refused = |bytes: &[u8]| msps.deserialize_identity(bytes).unwrap_err();
    assert!(matches!(
        refused(&serialized("Org3MSP", &certificate)),
        DeserializeError::UnknownMsp { msp_id } if msp_id == "Org3MSP"
    ));
    assert!(matches!(
        refused(&serialized("Org1MSP", &certificate)),
        DeserializeError::Untrusted { .. }
    ));
    assert!(matches!(refused(b"\xff\xff"), DeserializeError::Decode(_)));
    assert!(matches!(
        refused(&serialized_text("Org1MSP", "nonsense")),
        DeserializeError::Certificate { .. }
    ));
    assert!(matches!(
        refused(&vec![0; MAX_SERIALIZED_IDENTITY + 1]),
        DeserializeError::TooLarge { .. }
    ));
    assert!(MspManager::new([one.msp(), one.msp()]).is_err());
}

/// More identities than there is room for, from many threads.
#[test]
fn manager_is_bounded_and_shared() {
    let org = Org::new("Org1MSP");
    let msps = MspManager::with_capacity([org.msp()], 4).unwrap();
    let all: Vec<_> =
        (0..40).map(|n| serialized("Org1MSP", &org.issue(&format!("{n}"), &["peer"]))).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for bytes in all.iter().chain(all.iter().rev()) {
                    let identity = msps.deserialize_identity(bytes).unwrap();
                    assert_eq!(identity.serialized(), bytes);
                    assert_valid(&identity);
                }
            });
        }
    });
}

#[test]
fn empty_definition_is_an_error_and_no_panic() {
    assert!(Msp::new(&FabricMspConfig::default()).is_err());
}
