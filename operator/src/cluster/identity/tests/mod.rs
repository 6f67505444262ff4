//! Authorities and identities for the tests of this folder.

mod actor;
mod authority;
mod bundle;
mod contract;
mod holder;
mod mounted;
mod secrecy;

use std::time::Duration;

use k8s_openapi::ByteString;
use weft_crypto::{CaProfile, Certificate, CertificateAuthority, Name, PrivateKey, Validity};
use weft_types::{MspId, Timestamp};

use super::{Authorities, Authority, Held, Origin, SecretData};
use crate::cluster::names::key;
use crate::model::Certificates;
use crate::pki::{Leaf, Role, RootUse};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn days(count: u32) -> Duration {
    DAY * count
}

fn certificates() -> Certificates {
    Certificates { duration: days(90), renew_before: days(30), ca_duration: days(3650) }
}

fn msp_id() -> MspId {
    MspId::new("Org1MSP").unwrap()
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

/// What an authority's certificate says, valid for ten years.
fn profile(name: &str, not_before: Timestamp) -> CaProfile {
    let not_after = not_before.saturating_add(days(3650));
    CaProfile {
        name: Name::common(name),
        validity: Validity { not_before, not_after },
        max_path_len: None,
    }
}

fn root(name: &str) -> CertificateAuthority {
    CertificateAuthority::new_root(key(), &profile(name, NOW)).unwrap()
}

fn below(upper: &CertificateAuthority, name: &str) -> CertificateAuthority {
    let validity = Validity { not_before: NOW, not_after: upper.certificate().not_after() };
    upper.new_intermediate(key(), &CaProfile { validity, ..profile(name, NOW) }).unwrap()
}

fn value(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn pem_of(certificates: &[&CertificateAuthority]) -> String {
    certificates.iter().map(|one| one.certificate().pem()).collect()
}

/// The Secret of an authority and those above it.
fn secret(chain: &[&CertificateAuthority]) -> SecretData {
    let private = chain[0].key().to_pkcs8_pem().unwrap();
    SecretData::from([
        (key::CA_CERT.to_owned(), value(&pem_of(chain))),
        (key::CA_KEY.to_owned(), value(&private)),
    ])
}

fn held(data: &SecretData) -> Held<'_> {
    Held {
        secret: "org1-ca",
        origin: Origin::Managed,
        data: Some(data),
        recorded: None,
        published: "",
    }
}

fn managed(use_: RootUse, now: Timestamp) -> Authority {
    Authority::make(&msp_id(), use_, &certificates(), now).unwrap().authority
}

fn authorities() -> Authorities {
    let of = |use_| managed(use_, NOW);
    Authorities::new(msp_id(), of(RootUse::Identity), of(RootUse::Tls), certificates()).unwrap()
}

/// Authorities of the user's own, each below `depth` others.
fn own(depth: usize, now: Timestamp) -> Authorities {
    let authority = |name: &str| {
        let mut chain = vec![
            CertificateAuthority::new_root(key(), &profile(&format!("root of {name}"), now))
                .unwrap(),
        ];
        for level in 0..depth {
            let upper = &chain[0];
            let not_after = upper.certificate().not_after();
            let profile = CaProfile {
                validity: Validity { not_before: now, not_after },
                ..profile(&format!("{name} {level}"), now)
            };
            let lower = upper.new_intermediate(key(), &profile).unwrap();
            chain.insert(0, lower);
        }
        Authority::read("own", &secret(&chain.iter().collect::<Vec<_>>()), now).unwrap()
    };
    Authorities::new(msp_id(), authority("ca"), authority("tlsca"), certificates()).unwrap()
}

fn leaves() -> [Leaf; 2] {
    let leaf = |root, hosts| Leaf {
        common_name: "org1-peer-0".to_owned(),
        role: Role::Peer,
        root,
        hosts,
        uris: Vec::new(),
    };
    let hosts = vec!["org1-peer-0.prod.svc".to_owned(), "127.0.0.1".to_owned()];
    [leaf(RootUse::Identity, Vec::new()), leaf(RootUse::Tls, hosts)]
}

fn certificate(data: &SecretData, name: &str) -> Certificate {
    Certificate::from_pem(text(data, name)).unwrap()
}

fn text<'a>(data: &'a SecretData, name: &str) -> &'a str {
    std::str::from_utf8(&data[name].0).unwrap()
}
