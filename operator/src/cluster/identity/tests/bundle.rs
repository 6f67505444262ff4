use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_msp::Msp;

use super::super::bundle::{BundleError, bundle, msp_config, parse, published};
use super::*;

type Data = BTreeMap<String, String>;
type Check = fn(&BundleError) -> bool;

#[test]
fn a_bundle_is_a_readable_msp_without_keys() {
    let holder = authorities();
    let data = bundle(&holder);
    let names: Vec<_> = data.keys().map(String::as_str).collect();
    assert_eq!(names, ["cacerts.pem", "config.yaml", "mspId", "tlscacerts.pem"]);
    assert_eq!(data["mspId"], "Org1MSP");
    assert_eq!(data["cacerts.pem"], holder.identity().certificate().pem());
    assert_eq!(data["tlscacerts.pem"], holder.tls().certificate().pem());
    assert_eq!(
        data["config.yaml"],
        "\
NodeOUs:
  Enable: true
  ClientOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: client
  PeerOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: peer
  AdminOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: admin
  OrdererOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: orderer
"
    );
}

#[test]
fn a_bundle_says_the_same_when_it_is_read_back() {
    for depth in 0..4 {
        let holder = own(depth, NOW);
        let data = bundle(&holder);
        let (id, definition) = parse(&data).unwrap();
        assert_eq!(id, msp_id());
        assert_eq!(definition, msp_config(&holder), "depth {depth}");
        assert!(definition.signing_identity.is_none());
        let msp = Msp::new(&definition).unwrap();
        assert_eq!(msp.root_certificates(), holder.identity().roots());
        assert_eq!(msp.intermediate_certificates(), holder.identity().intermediates());
        assert_eq!(msp.tls_root_certificates(), holder.tls().roots());
        assert_eq!(msp.tls_intermediate_certificates(), holder.tls().intermediates());
        assert!(msp.roles_enabled());
    }
}

/// Below an intermediate authority roles are tied to that one.
#[test]
fn roles_are_tied_to_the_authority_that_issues() {
    let holder = own(2, NOW);
    let units = msp_config(&holder).fabric_node_ous.unwrap();
    let tied = units.peer_ou_identifier.unwrap();
    assert_eq!(tied.certificate, holder.identity().certificate().pem());
    assert!(bundle(&holder)["config.yaml"].contains("intermediatecerts/ca.pem"));
}

#[test]
fn what_was_published_is_found_by_its_use() {
    let holder = own(1, NOW);
    let data = bundle(&holder);
    for (use_, authority) in [(RootUse::Identity, holder.identity()), (RootUse::Tls, holder.tls())]
    {
        let found = Certificate::all_from_pem(&published(&data, use_)).unwrap();
        let all: Vec<_> = authority.roots().into_iter().chain(authority.intermediates()).collect();
        assert_eq!(found, all);
    }
    assert_eq!(published(&Data::new(), RootUse::Tls), "");
}

/// As `fabric-ca` and `cryptogen` name the file.
#[test]
fn the_file_that_units_of_elsewhere_name_is_the_only_certificate() {
    let mut data = bundle(&authorities());
    let config = data["config.yaml"].replace("ca.pem", "ca.org1.example.com-cert.pem");
    data.insert("config.yaml".to_owned(), config);
    let (_, definition) = parse(&data).unwrap();
    let units = definition.fabric_node_ous.unwrap();
    assert_eq!(units.admin_ou_identifier.unwrap().certificate, data["cacerts.pem"]);
}

#[test]
fn a_private_key_in_a_bundle_is_refused_wherever_it_stands() {
    let good = bundle(&authorities());
    let pem = key().to_pkcs8_pem().unwrap();
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
    for (name, text) in [
        ("cacerts.pem", good["cacerts.pem"].clone() + &pem),
        ("keystore", sec1.to_owned()),
        ("mspId", format!("x {}", pem.as_str())),
        ("config.yaml", format!("  {}", pem.as_str())),
    ] {
        let mut data = good.clone();
        data.insert(name.to_owned(), text);
        let error = parse(&data).unwrap_err();
        assert!(matches!(&error, BundleError::PrivateKey { key } if key == name), "{error:?}");
        assert!(error.to_string().contains("holds a private key"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_bundle_is_told() {
    let good = bundle(&authorities());
    let with = |name: &str, text: &str| {
        let mut data = good.clone();
        data.insert(name.to_owned(), text.to_owned());
        data
    };
    let without = |name: &str| {
        let mut data = good.clone();
        data.remove(name);
        data
    };
    let six: String = (0..6).map(|_| good["cacerts.pem"].as_str()).collect();
    let other = root("other").certificate().pem();
    let broken = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let cases: [(Data, Check); 14] = [
        (without("mspId"), |e| matches!(e, BundleError::NoKey { key: "mspId" })),
        (without("cacerts.pem"), |e| matches!(e, BundleError::NoKey { key: "cacerts.pem" })),
        (without("tlscacerts.pem"), |e| matches!(e, BundleError::NoKey { key: "tlscacerts.pem" })),
        (with("cacerts.pem", ""), |e| matches!(e, BundleError::NoKey { .. })),
        (with("mspId", "no id"), |e| matches!(e, BundleError::MspId(_))),
        (with("crls.pem", ""), |e| matches!(e, BundleError::Unknown { key } if key == "crls.pem")),
        (with("cacerts.pem", broken), |e| matches!(e, BundleError::Certificate { .. })),
        (with("cacerts.pem", &six), |e| matches!(e, BundleError::TooMany { count: 6, .. })),
        (with("config.yaml", "["), |e| matches!(e, BundleError::Config(_))),
        (with("config.yaml", &good["config.yaml"].replace("cacerts/", "../")), |e| {
            matches!(e, BundleError::Config(_))
        }),
        (with("config.yaml", &good["config.yaml"].replace("cacerts/", "admincerts/")), |e| {
            matches!(e, BundleError::Config(_))
        }),
        (with("intermediatecerts.pem", &other), |e| matches!(e, BundleError::Msp(_))),
        (with("tlsintermediatecerts.pem", &other), |e| matches!(e, BundleError::Msp(_))),
        (without("config.yaml"), |e| matches!(e, BundleError::Msp(_))),
    ];
    assert!(parse(&good).is_ok());
    for (index, (data, is_expected)) in cases.iter().enumerate() {
        let error = parse(data).unwrap_err();
        assert!(is_expected(&error), "case {index}: {error:?}");
    }
}

proptest! {
    /// Whatever the text: it is read or refused, and a refusal repeats no more than a name of it.
    #[test]
    fn any_text_is_read_or_refused(
        name in prop::sample::select(vec![
            "mspId", "cacerts.pem", "intermediatecerts.pem", "tlscacerts.pem",
            "tlsintermediatecerts.pem", "config.yaml", "other",
        ]),
        text in "\\PC{0,60}|(-----BEGIN [A-Z ]{0,12}-----\\n[A-Za-z0-9+/=\\n]{0,40}(-----END [A-Z ]{0,12}-----)?)",
    ) {
        static GOOD: std::sync::LazyLock<Data> = std::sync::LazyLock::new(|| bundle(&authorities()));
        let mut data = GOOD.clone();
        data.insert(name.to_owned(), text);
        if let Ok((_, definition)) = parse(&data) {
            prop_assert!(Msp::new(&definition).is_ok());
        }
    }
}
