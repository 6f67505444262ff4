//! The definition that an MSP directory has, without the directory.

use bytes::Bytes;
use weft_crypto::{Certificate, Crl};
use weft_protos::msp::FabricMspConfig;
use weft_types::MspId;

use super::{
    FolderParts, crypto_config, entry,
    units::{ConfigFile, NodeOus, OuIdentifier},
};

/// Parts of an MSP do not make up a definition.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The text of the units cannot be read.
    #[error("failed to read organizational units")]
    Config(#[source] serde_yaml::Error),
    /// A unit is tied to a certificate that is not among the parts, or not to be told apart.
    #[error(
        "failed to find {certificate:?}, to which an organizational unit is tied, among the certificates of authorities"
    )]
    UnknownCertificate {
        /// The name that the unit gives.
        certificate: String,
    },
}

/// What a text of `config.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigText {
    /// The units that stand for roles.
    pub node_ous: Option<NodeOus>,
    /// The units that a valid identity has to be in, if there are any.
    pub recognized_units: Vec<OuIdentifier>,
}

/// Reads the text of `config.yaml`.
///
/// # Errors
/// [`DefinitionError::Config`].
pub fn parse_config(text: &str) -> Result<ConfigText, DefinitionError> {
    let file = ConfigFile::parse(text).map_err(DefinitionError::Config)?;
    Ok(ConfigText {
        node_ous: file.node_ous,
        recognized_units: file.organizational_unit_identifiers,
    })
}

/// The definition that [`super::load_definition`] reads from the directory with these parts. Names
/// of certificates in units are those that [`super::layout`] gives; where a directory holds a
/// single certificate, any file name in it means that one.
///
/// # Errors
/// [`DefinitionError::UnknownCertificate`].
pub fn define(parts: &FolderParts, msp_id: &MspId) -> Result<FabricMspConfig, DefinitionError> {
    let units = parts.config().define(&|name| tied(parts, name))?;
    Ok(FabricMspConfig {
        name: msp_id.as_str().to_owned(),
        root_certs: pems(&parts.roots),
        intermediate_certs: pems(&parts.intermediates),
        admins: pems(&parts.admins),
        revocation_list: parts.revocation_lists.iter().map(|list| Crl::pem(list).into()).collect(),
        signing_identity: None,
        organizational_unit_identifiers: units.recognized,
        crypto_config: Some(crypto_config()),
        tls_root_certs: pems(&parts.tls_roots),
        tls_intermediate_certs: pems(&parts.tls_intermediates),
        fabric_node_ous: units.nodes,
    })
}

fn pems(certificates: &[Certificate]) -> Vec<Bytes> {
    certificates.iter().map(|certificate| certificate.pem().into()).collect()
}

fn tied(parts: &FolderParts, name: &str) -> Result<Bytes, DefinitionError> {
    let found = name.split_once('/').and_then(|(directory, file)| {
        let list = match directory {
            entry::CA_CERTS => &parts.roots,
            entry::INTERMEDIATE_CERTS => &parts.intermediates,
            _ => return None,
        };
        match list.as_slice() {
            [only] => Some(only),
            several => several.get(number(file)?),
        }
    });
    let unknown = || DefinitionError::UnknownCertificate { certificate: name.to_owned() };
    found.map(|certificate| certificate.pem().into()).ok_or_else(unknown)
}

/// Place of the file among those that are laid out: `ca.pem`, `ca-2.pem`, ….
fn number(file: &str) -> Option<usize> {
    let stem = file.strip_suffix(".pem")?.strip_prefix("ca")?;
    match stem.strip_prefix('-') {
        None => stem.is_empty().then_some(0),
        Some(number) => number.parse::<usize>().ok().filter(|n| *n > 1).map(|n| n - 1),
    }
}
