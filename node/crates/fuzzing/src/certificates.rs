//! Identities and the certificates, requests and revocation lists they rest on.

use prost::Message as _;
use weft_crypto::{Certificate, Crl, Csr, PrivateKey, PublicKey};
use weft_msp::{Msp, Principal, ValidAt};
use weft_protos::common::MspPrincipal;
use weft_protos::msp::MspConfig;
use weft_testkit::clock::NOW;

use crate::fixture::BUNDLE;

/// A serialized identity, and the bytes as whatever an identity is made of.
pub(crate) fn identity(data: &[u8]) {
    if let Ok(identity) = BUNDLE.msps().deserialize_identity(data) {
        assert_eq!(identity.serialized(), data);
        let _ = identity.validate(NOW);
        let _ = identity.validate(ValidAt::Issuance);
        let _ = identity.verify(b"message", data);
    }
    der(data);
    if let Ok(text) = std::str::from_utf8(data) {
        pem(text);
    }
}

fn der(data: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(data) {
        assert_eq!(certificate.der(), data);
        let _ = certificate.is_self_signed();
        let _ = certificate.subject_text();
    }
    let _ = Crl::from_der(data).map(|crl| crl.entries().len());
    let _ = Csr::from_der(data).map(|csr| csr.verify().is_ok());
    let _ = PublicKey::from_spki_der(data);
    let _ = PrivateKey::from_der(data);
}

fn pem(text: &str) {
    let _ = Certificate::all_from_pem(text);
    let _ = Crl::from_pem(text);
    let _ = Csr::from_pem(text);
    let _ = PrivateKey::from_pkcs8_pem(text);
    let _ = PublicKey::from_spki_pem(text);
}

/// An MSP definition in a configuration, and a principal of a policy.
pub(crate) fn msp(data: &[u8]) {
    if let Ok(config) = MspConfig::decode(data)
        && let Ok(msp) = Msp::from_config(&config)
    {
        let _ = msp.deserialize_identity(data);
        let _ = (msp.roles_enabled(), msp.admins().len());
    }
    if let Ok(principal) = MspPrincipal::decode(data) {
        let _ = Principal::decode(&principal);
    }
}
