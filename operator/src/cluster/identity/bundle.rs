//! The MSP of a holder without keys: what a channel's config takes, and what others are given to
//! trust.

use std::collections::BTreeMap;

use weft_crypto::{Certificate, CertificateError};
use weft_msp::folder::{self, DefinitionError, FolderParts, NodeOus};
use weft_msp::{Msp, MspError};
use weft_protos::msp::FabricMspConfig;
use weft_types::{MspId, MspIdError};

use super::{Authorities, Authority};
use crate::cluster::names::key;
use crate::pki::RootUse;

/// The most certificates that a list of a foreign bundle may have. Paths between authorities are
/// searched, so that a crafted list could cost much more than an honest one, which has two.
const MAX_CERTIFICATES: usize = 5;

/// What a bundle may hold.
const KEYS: [&str; 6] = [
    key::MSP_ID,
    key::CA_CERTS,
    key::INTERMEDIATE_CERTS,
    key::TLS_CA_CERTS,
    key::TLS_INTERMEDIATE_CERTS,
    key::CONFIG,
];

/// Where the authority that issues identities stands in an MSP's folder.
const ROOT_ISSUES: &str = "cacerts/ca.pem";
const INTERMEDIATE_ISSUES: &str = "intermediatecerts/ca.pem";

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It holds a private key, which nobody else should have.
    #[error(
        "the bundle holds a private key in {key}: a bundle is public, and this key has to be replaced"
    )]
    PrivateKey {
        /// The key of the data.
        key: String,
    },
    /// A key is not known: its meaning would be lost.
    #[error("the bundle has {key}, which is not part of one")]
    Unknown {
        /// The key of the data.
        key: String,
    },
    /// A part is missing, or empty.
    #[error("the bundle has no {key}")]
    NoKey {
        /// The key of the data.
        key: &'static str,
    },
    /// The MSP id is not one.
    #[error("failed to read {} of the bundle", key::MSP_ID)]
    MspId(#[source] MspIdError),
    /// A certificate cannot be read.
    #[error("failed to read {key} of the bundle")]
    Certificate {
        /// The key of the data.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// A list is longer than any that is meant.
    #[error(
        "failed to read {key} of the bundle: {count} certificates are more than {MAX_CERTIFICATES}"
    )]
    TooMany {
        /// The key of the data.
        key: &'static str,
        /// How many there are.
        count: usize,
    },
    /// The organizational units cannot be read.
    #[error("failed to read {} of the bundle", key::CONFIG)]
    Config(#[source] DefinitionError),
    /// It is not the MSP of anybody.
    #[error("failed to set up the MSP of the bundle")]
    Msp(#[source] Box<MspError>),
}

/// The definition of a holder's MSP, as a channel's config holds it.
pub fn msp_config(authorities: &Authorities) -> FabricMspConfig {
    authorities.definition().clone()
}

/// The data of the ConfigMap with a holder's MSP.
pub fn bundle(authorities: &Authorities) -> BTreeMap<String, String> {
    let mut data: BTreeMap<String, String> = public_parts(authorities)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    data.insert(key::MSP_ID.to_owned(), authorities.msp_id().to_string());
    data
}

/// The certificates of a published bundle that an authority of that use may have had: roots and
/// intermediates, PEM. Empty when there are none.
pub fn published(data: &BTreeMap<String, String>, use_: RootUse) -> String {
    let (roots, intermediates) = match use_ {
        RootUse::Identity => (key::CA_CERTS, key::INTERMEDIATE_CERTS),
        RootUse::Tls => (key::TLS_CA_CERTS, key::TLS_INTERMEDIATE_CERTS),
    };
    [roots, intermediates].iter().filter_map(|name| data.get(*name)).cloned().collect()
}

/// Reads the bundle of an organization that runs elsewhere. It is checked as nodes check the MSP
/// in a channel's config.
///
/// # Errors
/// [`BundleError`] names the key of the data at fault.
pub fn parse(data: &BTreeMap<String, String>) -> Result<(MspId, FabricMspConfig), BundleError> {
    refuse_keys(data)?;
    refuse_unknown(data)?;
    let msp_id = data.get(key::MSP_ID).ok_or(BundleError::NoKey { key: key::MSP_ID })?;
    let msp_id = MspId::new(msp_id.trim()).map_err(BundleError::MspId)?;
    let config = data.get(key::CONFIG).map_or("", String::as_str);
    let config = folder::parse_config(config).map_err(BundleError::Config)?;
    let parts = FolderParts {
        roots: required(data, key::CA_CERTS)?,
        intermediates: certificates(data, key::INTERMEDIATE_CERTS)?,
        tls_roots: required(data, key::TLS_CA_CERTS)?,
        tls_intermediates: certificates(data, key::TLS_INTERMEDIATE_CERTS)?,
        node_ous: config.node_ous,
        recognized_units: config.recognized_units,
        ..FolderParts::default()
    };
    let definition = folder::define(&parts, &msp_id).map_err(BundleError::Config)?;
    Msp::new(&definition).map_err(|source| BundleError::Msp(Box::new(source)))?;
    Ok((msp_id, definition))
}

/// The parts of a holder's MSP. Roles are tied to the authority that issues, as is customary,
/// but while certificates from before its renewal are trusted too: a role is tied to one
/// certificate, and identities come from under either.
pub(super) fn parts(identity: &Authority, tls: &Authority) -> FolderParts {
    let issuer = match (identity.has_earlier(), identity.is_intermediate()) {
        (true, _) => "",
        (false, true) => INTERMEDIATE_ISSUES,
        (false, false) => ROOT_ISSUES,
    };
    FolderParts {
        roots: identity.roots(),
        intermediates: identity.intermediates(),
        tls_roots: tls.roots(),
        tls_intermediates: tls.intermediates(),
        node_ous: Some(NodeOus::customary(issuer)),
        ..FolderParts::default()
    }
}

/// The parts of a holder's MSP by key, each list in one text; what is empty is absent.
pub(super) fn public_parts(authorities: &Authorities) -> BTreeMap<&'static str, String> {
    let parts = parts(authorities.identity(), authorities.tls());
    let text = |list: &[Certificate]| list.iter().map(Certificate::pem).collect::<String>();
    let all = [
        (key::CA_CERTS, text(&parts.roots)),
        (key::INTERMEDIATE_CERTS, text(&parts.intermediates)),
        (key::TLS_CA_CERTS, text(&parts.tls_roots)),
        (key::TLS_INTERMEDIATE_CERTS, text(&parts.tls_intermediates)),
        (key::CONFIG, parts.config_text().unwrap_or_default()),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Looks everywhere, under unknown keys too: this is said before anything else.
fn refuse_keys(data: &BTreeMap<String, String>) -> Result<(), BundleError> {
    let holds_key = |text: &str| {
        text.lines().any(|line| line.contains("-----BEGIN ") && line.contains("PRIVATE KEY"))
    };
    match data.iter().find(|(_, value)| holds_key(value)) {
        Some((key, _)) => Err(BundleError::PrivateKey { key: key.clone() }),
        None => Ok(()),
    }
}

fn refuse_unknown(data: &BTreeMap<String, String>) -> Result<(), BundleError> {
    match data.keys().find(|key| !KEYS.contains(&key.as_str())) {
        Some(key) => Err(BundleError::Unknown { key: key.clone() }),
        None => Ok(()),
    }
}

fn required(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<Certificate>, BundleError> {
    let found = certificates(data, key)?;
    if found.is_empty() { Err(BundleError::NoKey { key }) } else { Ok(found) }
}

/// None when the key is absent.
fn certificates(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<Certificate>, BundleError> {
    let Some(text) = data.get(key) else { return Ok(Vec::new()) };
    let found = Certificate::all_from_pem(text)
        .map_err(|source| BundleError::Certificate { key, source })?;
    if found.len() > MAX_CERTIFICATES {
        return Err(BundleError::TooMany { key, count: found.len() });
    }
    Ok(found)
}
