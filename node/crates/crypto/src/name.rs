//! Names in certificates: the subject's attributes and its alternative names.

use std::net::IpAddr;

use crate::der;

/// Object identifier contents of the X.520 attributes 2.5.4.x.
const fn x520(last: u8) -> [u8; 3] {
    [0x55, 0x04, last]
}

/// The longest value of an attribute in characters (RFC 5280, appendix A, upper bounds).
const MAX_CN_OR_OU: usize = 64;

/// A name that cannot be written into a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A value is empty or longer than 64 characters.
    #[error("failed to write the name attribute {attribute} {value:?}: 1 to 64 characters fit")]
    Length {
        /// The attribute's short name, such as `CN`.
        attribute: &'static str,
        /// The refused value.
        value: String,
    },
    /// An alternative name is empty or not ASCII.
    #[error("failed to write the alternative name {value:?}: it must be ASCII and not empty")]
    Alternative {
        /// The refused value.
        value: String,
    },
}

/// A distinguished name to be written: organization, organizational units, common name.
///
/// Units repeat, in order; they carry an identity's role (Fabric: msp/mspimplsetup.go, NodeOUs).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    /// O, left out when `None`.
    pub organization: Option<String>,
    /// OU, one attribute each.
    pub units: Vec<String>,
    /// CN.
    pub common_name: String,
}

impl Name {
    /// A name of just a common name.
    #[must_use]
    pub fn common(common_name: impl Into<String>) -> Self {
        Self { common_name: common_name.into(), ..Self::default() }
    }

    pub(crate) fn to_der(&self) -> Result<Vec<u8>, NameError> {
        let mut attributes = Vec::new();
        if let Some(organization) = &self.organization {
            attributes.push(attribute("O", x520(10), organization)?);
        }
        for unit in &self.units {
            attributes.push(attribute("OU", x520(11), unit)?);
        }
        attributes.push(attribute("CN", x520(3), &self.common_name)?);
        Ok(der::sequence(attributes))
    }
}

fn attribute(name: &'static str, oid: [u8; 3], value: &str) -> Result<Vec<u8>, NameError> {
    if value.is_empty() || value.chars().count() > MAX_CN_OR_OU {
        return Err(NameError::Length { attribute: name, value: value.to_owned() });
    }
    Ok(der::set_of_one(&der::sequence([der::oid(&oid), der::utf8_string(value)])))
}

/// A subject alternative name of the kinds that TLS and Fabric's tools use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectAltName {
    /// A host name, possibly with a leading `*.`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A mail address.
    Email(String),
    /// A URI.
    Uri(String),
}

impl SubjectAltName {
    /// `host` as an address when it reads as one, else as a host name.
    #[must_use]
    pub fn host(host: &str) -> Self {
        host.parse().map_or_else(|_| Self::Dns(host.to_owned()), Self::Ip)
    }

    /// GeneralName (RFC 5280, 4.2.1.6).
    pub(crate) fn to_der(&self) -> Result<Vec<u8>, NameError> {
        match self {
            Self::Email(text) => text_name(1, text),
            Self::Dns(text) => text_name(2, text),
            Self::Uri(text) => text_name(6, text),
            Self::Ip(IpAddr::V4(address)) => Ok(der::context_primitive(7, &address.octets())),
            Self::Ip(IpAddr::V6(address)) => Ok(der::context_primitive(7, &address.octets())),
        }
    }
}

fn text_name(tag: u8, text: &str) -> Result<Vec<u8>, NameError> {
    if text.is_empty() || !text.is_ascii() {
        return Err(NameError::Alternative { value: text.to_owned() });
    }
    Ok(der::context_primitive(tag, text.as_bytes()))
}
