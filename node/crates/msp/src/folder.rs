//! An MSP as a directory: what is read at start-up, and what is written to set up a node or client.
//!
//! The layout is Fabric's (msp/configbuilder.go):
//!
//! | Entry | Contents |
//! | --- | --- |
//! | `cacerts/` | root certificates; at least one |
//! | `intermediatecerts/` | intermediate certificates |
//! | `admincerts/` | certificates of administrators, where no unit stands for them |
//! | `crls/` | revocation lists |
//! | `tlscacerts/`, `tlsintermediatecerts/` | the same for TLS |
//! | `config.yaml` | organizational units, those that stand for roles among them |
//! | `signcerts/` | the certificate of the identity itself; one |
//! | `keystore/` | its private key, among others perhaps |
//!
//! All but `cacerts`, and `signcerts` and `keystore` for a signing identity, may be missing. A file
//! may hold several PEM blocks, text around them and either kind of line end; hidden files and
//! directories are skipped, so that a mounted Kubernetes secret reads like a plain directory.
//! Unlike in Fabric a file that holds nothing usable is an error, as it is never meant.

mod definition;
mod layout;
mod units;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use weft_crypto::{Certificate, CertificateError, KeyError, PrivateKey, pem};
use weft_protos::msp::{FabricCryptoConfig, FabricMspConfig};
use weft_types::MspId;

pub use definition::{ConfigText, DefinitionError, define, parse_config};
pub use layout::{FolderFile, FolderParts, layout};
pub use units::{NodeOus, OuIdentifier};

use crate::signing::SigningIdentity;

/// Names of the entries.
mod entry {
    pub(super) const CA_CERTS: &str = "cacerts";
    pub(super) const INTERMEDIATE_CERTS: &str = "intermediatecerts";
    pub(super) const ADMIN_CERTS: &str = "admincerts";
    pub(super) const CRLS: &str = "crls";
    pub(super) const TLS_CA_CERTS: &str = "tlscacerts";
    pub(super) const TLS_INTERMEDIATE_CERTS: &str = "tlsintermediatecerts";
    pub(super) const CONFIG: &str = "config.yaml";
    pub(super) const SIGN_CERTS: &str = "signcerts";
    pub(super) const KEYSTORE: &str = "keystore";
}

/// The largest file that is read, in octets; the ones that belong here have a few thousand, but a
/// revocation list can grow.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// An MSP directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or directory cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("failed to read {}: {size} octets are more than {MAX_FILE}", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// A file is not text.
    #[error("failed to read {}: it is not UTF-8 text", path.display())]
    NotText {
        /// Which one.
        path: PathBuf,
    },
    /// A file holds no block of the kind that belongs into its directory.
    #[error("failed to read {}: no PEM block {label:?}", path.display())]
    NoBlock {
        /// Which one.
        path: PathBuf,
        /// The label of such a block.
        label: &'static str,
    },
    /// A file is not PEM.
    #[error("failed to read {}", path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::PemError,
    },
    /// A certificate cannot be read.
    #[error("failed to read {}", path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// A directory that must hold something holds nothing.
    #[error("failed to load an MSP: {} holds no {what}", path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
    },
    /// There is more than one certificate to sign as.
    #[error("failed to load a signing identity: {} holds {count} certificates", path.display())]
    SeveralSigners {
        /// The directory.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// None of the private keys belongs to the certificate.
    #[error("failed to load a signing identity: {} holds no private key of {subject:?}{}", path.display(), listed(skipped))]
    NoKey {
        /// The directory.
        path: PathBuf,
        /// The certificate's subject.
        subject: String,
        /// The files that were looked at, and why each one is not it.
        skipped: Vec<(PathBuf, KeyProblem)>,
    },
    /// `config.yaml` cannot be read.
    #[error("failed to read {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_yaml::Error,
    },
    /// `config.yaml` names a file outside the directory.
    #[error("failed to read {}: {certificate:?} is not a file within the directory", path.display())]
    Outside {
        /// The configuration file.
        path: PathBuf,
        /// The name it gives.
        certificate: String,
    },
}

/// Why a file of the keystore is not the key that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It is the key of another certificate.
    #[error("the key of another certificate")]
    Other,
    /// It is no key that can be read.
    #[error("{0}")]
    Unreadable(KeyError),
}

fn listed(skipped: &[(PathBuf, KeyProblem)]) -> String {
    let one = |(path, problem): &(PathBuf, KeyProblem)| format!("; {}: {problem}", path.display());
    skipped.iter().map(one).collect()
}

/// Reads the MSP in `dir` together with the identity to sign as. The definition does not contain
/// the signing identity, so that it can be put into a channel as it is.
///
/// # Errors
/// [`FolderError`] naming the file or directory that cannot be used.
pub fn load(dir: &Path, msp_id: &MspId) -> Result<(FabricMspConfig, SigningIdentity), FolderError> {
    Ok((load_definition(dir, msp_id)?, load_signing_identity(dir, msp_id)?))
}

/// Reads the MSP in `dir`: all that is needed to judge other identities.
///
/// # Errors
/// [`FolderError`] naming the file or directory that cannot be used.
pub fn load_definition(dir: &Path, msp_id: &MspId) -> Result<FabricMspConfig, FolderError> {
    let certificates = |name: &str| blocks(&dir.join(name), pem::CERTIFICATE);
    let root_certs = certificates(entry::CA_CERTS)?;
    if root_certs.is_empty() {
        let path = dir.join(entry::CA_CERTS);
        return Err(FolderError::Nothing { path, what: "root certificate" });
    }
    let units = units::load(dir)?;
    Ok(FabricMspConfig {
        name: msp_id.as_str().to_owned(),
        root_certs,
        intermediate_certs: certificates(entry::INTERMEDIATE_CERTS)?,
        admins: certificates(entry::ADMIN_CERTS)?,
        revocation_list: blocks(&dir.join(entry::CRLS), pem::X509_CRL)?,
        signing_identity: None,
        organizational_unit_identifiers: units.recognized,
        crypto_config: Some(crypto_config()),
        tls_root_certs: certificates(entry::TLS_CA_CERTS)?,
        tls_intermediate_certs: certificates(entry::TLS_INTERMEDIATE_CERTS)?,
        fabric_node_ous: units.nodes,
    })
}

/// Reads the certificate in `signcerts` and the private key in `keystore` that belongs to it.
///
/// # Errors
/// [`FolderError`] naming the file or directory that cannot be used.
pub fn load_signing_identity(dir: &Path, msp_id: &MspId) -> Result<SigningIdentity, FolderError> {
    let certificate = signing_certificate(&dir.join(entry::SIGN_CERTS))?;
    let path = dir.join(entry::KEYSTORE);
    let mut skipped = Vec::new();
    for file in files(&path)? {
        let found = PrivateKey::from_pkcs8_pem(&read_text(&file)?);
        match found.map(|key| SigningIdentity::new(msp_id.clone(), certificate.clone(), key)) {
            Ok(Ok(identity)) => return Ok(identity),
            Ok(Err(_)) => skipped.push((file, KeyProblem::Other)),
            Err(error) => skipped.push((file, KeyProblem::Unreadable(error))),
        }
    }
    let subject = certificate.subject_text().to_owned();
    Err(FolderError::NoKey { path, subject, skipped })
}

/// The hash functions that Fabric's tools write into a definition.
pub(crate) fn crypto_config() -> FabricCryptoConfig {
    FabricCryptoConfig {
        signature_hash_family: "SHA2".to_owned(),
        identity_identifier_hash_function: "SHA256".to_owned(),
    }
}

fn signing_certificate(path: &Path) -> Result<Certificate, FolderError> {
    let mut found = Vec::new();
    for file in files(path)? {
        let read = Certificate::all_from_pem(&read_text(&file)?)
            .map_err(|source| FolderError::Certificate { path: file.clone(), source })?;
        // After the certificate itself a file may hold those of its authorities.
        let first = read.into_iter().next();
        found.push(first.ok_or(FolderError::NoBlock { path: file, label: pem::CERTIFICATE })?);
    }
    match found.pop() {
        None => Err(FolderError::Nothing { path: path.to_owned(), what: "certificate" }),
        Some(certificate) if found.is_empty() => Ok(certificate),
        Some(_) => {
            Err(FolderError::SeveralSigners { path: path.to_owned(), count: found.len() + 1 })
        }
    }
}

/// All blocks with `label` in the files of `dir`, each as PEM of its own.
fn blocks(dir: &Path, label: &'static str) -> Result<Vec<Bytes>, FolderError> {
    let mut found = Vec::new();
    for path in files(dir)? {
        let read = pem::parse(&read_text(&path)?)
            .map_err(|source| FolderError::Pem { path: path.clone(), source })?;
        let before = found.len();
        let wanted = read.iter().filter(|block| block.label == label);
        found.extend(wanted.map(|block| Bytes::from(pem::encode(label, &block.contents))));
        if found.len() == before {
            return Err(FolderError::NoBlock { path, label });
        }
    }
    Ok(found)
}

/// The files of a directory by name, so that the result does not depend on the file system; none
/// when there is no such directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let failed = |source| FolderError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Follows links: a mounted secret consists of links into a hidden directory.
        if !hidden && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn read_text(path: &Path) -> Result<zeroize::Zeroizing<String>, FolderError> {
    let failed = |source| FolderError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(FolderError::TooLarge { path: path.to_owned(), size });
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| FolderError::NotText { path: path.to_owned() });
    text.map(zeroize::Zeroizing::new)
}
