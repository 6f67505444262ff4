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

/// The definition that [`super::load_definition`] reads from the directory with these parts, each
/// list in the order of the parts (a directory is read in that of file names). Names
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use weft_crypto::{
        CaProfile, CertificateAuthority, Name, PrivateKey, RevokedCertificate, Timestamp, Validity,
    };

    use super::super::{layout, load_definition};
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const END: Timestamp = Timestamp::from_seconds(2_000_000_000);

    fn root(name: &str) -> CertificateAuthority {
        let validity = Validity { not_before: START, not_after: END };
        let profile = CaProfile { name: Name::common(name), validity, max_path_len: None };
        CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &profile).unwrap()
    }

    fn roots(count: usize) -> Vec<Certificate> {
        (0..count).map(|index| root(&format!("root {index}")).certificate().clone()).collect()
    }

    fn write(dir: &Path, parts: &FolderParts) {
        for file in layout(parts).unwrap() {
            let path = dir.join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.contents.as_bytes()).unwrap();
        }
    }

    fn whole() -> FolderParts {
        let ca = root("ca");
        let revoked = RevokedCertificate { serial: vec![7], revoked_at: START, reason: None };
        FolderParts {
            roots: roots(3),
            intermediates: roots(2),
            admins: roots(1),
            revocation_lists: vec![ca.issue_crl(&[revoked], 1, START, END).unwrap()],
            tls_roots: roots(2),
            tls_intermediates: roots(1),
            node_ous: Some(NodeOus::customary("cacerts/ca-2.pem")),
            recognized_units: vec![OuIdentifier {
                certificate: "intermediatecerts/ca.pem".to_owned(),
                organizational_unit_identifier: "sales".to_owned(),
            }],
            signer: None,
        }
    }

    fn sorted(mut definition: FabricMspConfig) -> FabricMspConfig {
        for list in [
            &mut definition.root_certs,
            &mut definition.intermediate_certs,
            &mut definition.tls_root_certs,
        ] {
            list.sort();
        }
        definition
    }

    #[test]
    fn the_definition_is_that_of_the_directory_with_these_parts() {
        let msp_id = MspId::new("Org1MSP").unwrap();
        let untied = NodeOus::customary("");
        let disabled = NodeOus { enable: false, ..untied.clone() };
        let some = |node_ous| FolderParts { node_ous, roots: roots(1), ..FolderParts::default() };
        for parts in [whole(), some(None), some(Some(untied)), some(Some(disabled))] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &parts);
            let defined = sorted(define(&parts, &msp_id).unwrap());
            assert_eq!(defined, sorted(load_definition(dir.path(), &msp_id).unwrap()));
        }
    }

    #[test]
    fn the_text_of_units_is_read_back() {
        let parts = whole();
        let text = parse_config(&parts.config_text().unwrap()).unwrap();
        assert_eq!(text.node_ous, parts.node_ous);
        assert_eq!(text.recognized_units, parts.recognized_units);
        assert_eq!(parse_config("").unwrap(), ConfigText::default());
        assert!(matches!(parse_config("["), Err(DefinitionError::Config(_))));
        assert_eq!(FolderParts::default().config_text(), None);
    }

    #[test]
    fn a_unit_is_tied_to_one_certificate_of_the_parts() {
        let msp_id = MspId::new("Org1MSP").unwrap();
        let tied = |count: usize, name: &str| {
            let parts = FolderParts {
                roots: roots(count),
                node_ous: Some(NodeOus::customary(name)),
                ..FolderParts::default()
            };
            let units = define(&parts, &msp_id).ok()?.fabric_node_ous?;
            let tied = units.peer_ou_identifier?.certificate;
            parts.roots.iter().position(|root| root.pem().as_bytes() == tied)
        };
        assert_eq!(tied(1, "cacerts/ca.example.com-cert.pem"), Some(0));
        assert_eq!(tied(2, "cacerts/ca.pem"), Some(0));
        assert_eq!(tied(2, "cacerts/ca-2.pem"), Some(1));
        for unknown in [
            "cacerts/ca-3.pem",
            "cacerts/ca-1.pem",
            "cacerts/ca-0.pem",
            "cacerts/ca-x.pem",
            "cacerts/ca.example.com-cert.pem",
            "intermediatecerts/ca.pem",
            "tlscacerts/ca.pem",
            "../ca.pem",
            "ca.pem",
        ] {
            assert_eq!(tied(2, unknown), None, "{unknown}");
        }
    }
}
