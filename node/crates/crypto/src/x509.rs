//! What certificates, requests and revocation lists have in common: reading names, times and
//! alternative names; writing extensions and the signed envelope.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::{
    extensions::GeneralName,
    time::ASN1Time,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::{
    der,
    key::{PrivateKey, SignError},
    name::{NameError, SubjectAltName},
    time::Timestamp,
};

/// Content octets of the extensions' object identifiers (2.5.29.x).
pub(crate) mod extension_oid {
    pub(crate) const SUBJECT_KEY_ID: [u8; 3] = [0x55, 0x1d, 14];
    pub(crate) const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 15];
    pub(crate) const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 17];
    pub(crate) const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];
    pub(crate) const CRL_NUMBER: [u8; 3] = [0x55, 0x1d, 20];
    pub(crate) const REASON_CODE: [u8; 3] = [0x55, 0x1d, 21];
    pub(crate) const AUTHORITY_KEY_ID: [u8; 3] = [0x55, 0x1d, 35];
    pub(crate) const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 37];
}

pub(crate) fn timestamp(at: ASN1Time) -> Timestamp {
    Timestamp::from_seconds(at.timestamp())
}

/// The values of a name's attributes as text; values that are not text are left out.
pub(crate) fn texts<'a>(
    attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes.filter_map(|attribute| attribute.as_str().ok()).map(str::to_owned).collect()
}

/// The last common name, which is the most specific one.
pub(crate) fn common_name(name: &X509Name<'_>) -> Option<String> {
    texts(name.iter_common_name()).pop()
}

pub(crate) fn alternative_names(names: &[GeneralName<'_>]) -> Vec<SubjectAltName> {
    names.iter().filter_map(alternative_name).collect()
}

fn alternative_name(name: &GeneralName<'_>) -> Option<SubjectAltName> {
    match name {
        GeneralName::DNSName(text) => Some(SubjectAltName::Dns((*text).to_owned())),
        GeneralName::RFC822Name(text) => Some(SubjectAltName::Email((*text).to_owned())),
        GeneralName::URI(text) => Some(SubjectAltName::Uri((*text).to_owned())),
        GeneralName::IPAddress(octets) => address(octets).map(SubjectAltName::Ip),
        _ => None,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::V4(Ipv4Addr::from(four)));
    }
    <[u8; 16]>::try_from(octets).ok().map(|sixteen| IpAddr::V6(Ipv6Addr::from(sixteen)))
}

/// Extension ::= SEQUENCE { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING }.
pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::oid(oid)];
    if critical {
        parts.push(der::boolean_true());
    }
    parts.push(der::octet_string(value));
    der::sequence(parts)
}

/// The subjectAltName extension, or `None` without names.
pub(crate) fn alternative_names_extension(
    names: &[SubjectAltName],
) -> Result<Option<Vec<u8>>, NameError> {
    if names.is_empty() {
        return Ok(None);
    }
    let names = names.iter().map(SubjectAltName::to_der).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(extension(&extension_oid::SUBJECT_ALT_NAME, false, &der::sequence(names))))
}

/// SIGNED ::= SEQUENCE { to-be-signed, AlgorithmIdentifier, BIT STRING }, the outer form of
/// certificates, requests and revocation lists.
pub(crate) fn signed(to_be_signed: &[u8], key: &PrivateKey) -> Result<Vec<u8>, SignError> {
    let signature = key.sign(to_be_signed)?;
    let algorithm = key.suite().signature_algorithm();
    Ok(der::sequence([to_be_signed, algorithm, &der::bit_string(&signature)]))
}
