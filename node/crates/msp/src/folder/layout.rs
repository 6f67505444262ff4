//! The files of an MSP directory, for others to write.

use std::fmt;

use weft_crypto::{Certificate, Crl, KeyError, PrivateKey};
use zeroize::Zeroizing;

use super::{
    entry,
    units::{ConfigFile, NodeOus, OuIdentifier},
};

/// What goes into an MSP directory.
#[derive(Debug, Clone, Default)]
pub struct FolderParts {
    /// Root certificates.
    pub roots: Vec<Certificate>,
    /// Intermediate certificates.
    pub intermediates: Vec<Certificate>,
    /// Certificates of administrators, where no unit stands for them.
    pub admins: Vec<Certificate>,
    /// Revocation lists.
    pub revocation_lists: Vec<Crl>,
    /// Root certificates of TLS.
    pub tls_roots: Vec<Certificate>,
    /// Intermediate certificates of TLS.
    pub tls_intermediates: Vec<Certificate>,
    /// The units that stand for roles.
    pub node_ous: Option<NodeOus>,
    /// The units that a valid identity has to be in, if there are any.
    pub recognized_units: Vec<OuIdentifier>,
    /// The identity to sign as.
    pub signer: Option<(Certificate, PrivateKey)>,
}

/// A file to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Path relative to the MSP directory, parts separated by `/`.
    pub path: String,
    /// Contents, text.
    pub contents: Zeroizing<String>,
    /// Whether it holds a private key: only its owner may read it.
    pub private: bool,
}

/// Does not show the contents, which may be a key.
impl fmt::Debug for FolderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderFile")
            .field("path", &self.path)
            .field("octets", &self.contents.len())
            .field("private", &self.private)
            .finish()
    }
}

/// The files of the directory, in order of their paths. Certificates of authorities are named `ca.pem`, or
/// `ca-2.pem` and so on, so that [`NodeOus::customary`] can be tied to `cacerts/ca.pem`.
///
/// # Errors
/// [`KeyError::Encode`] when the private key cannot be written.
pub fn layout(parts: &FolderParts) -> Result<Vec<FolderFile>, KeyError> {
    let mut files = Vec::new();
    let directories = [
        (entry::CA_CERTS, "ca", &parts.roots),
        (entry::INTERMEDIATE_CERTS, "ca", &parts.intermediates),
        (entry::ADMIN_CERTS, "admin", &parts.admins),
        (entry::TLS_CA_CERTS, "ca", &parts.tls_roots),
        (entry::TLS_INTERMEDIATE_CERTS, "ca", &parts.tls_intermediates),
    ];
    for (directory, name, certificates) in directories {
        files.extend(numbered(directory, name, certificates.iter().map(Certificate::pem)));
    }
    files.extend(numbered(entry::CRLS, "crl", parts.revocation_lists.iter().map(Crl::pem)));
    files.extend(config_file(parts));
    if let Some((certificate, key)) = &parts.signer {
        files.extend(numbered(entry::SIGN_CERTS, "cert", [certificate.pem()]));
        files.push(FolderFile {
            path: format!("{}/key.pem", entry::KEYSTORE),
            contents: key.to_pkcs8_pem()?,
            private: true,
        });
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn numbered(
    directory: &str,
    name: &str,
    contents: impl IntoIterator<Item = String>,
) -> Vec<FolderFile> {
    let file = |(index, contents): (usize, String)| {
        let number = if index == 0 { String::new() } else { format!("-{}", index + 1) };
        FolderFile {
            path: format!("{directory}/{name}{number}.pem"),
            contents: Zeroizing::new(contents),
            private: false,
        }
    };
    contents.into_iter().enumerate().map(file).collect()
}

fn config_file(parts: &FolderParts) -> Option<FolderFile> {
    let contents = Zeroizing::new(parts.config_text()?);
    Some(FolderFile { path: entry::CONFIG.to_owned(), contents, private: false })
}

impl FolderParts {
    /// The text of `config.yaml`; without units there is no such file.
    #[must_use]
    pub fn config_text(&self) -> Option<String> {
        if self.node_ous.is_none() && self.recognized_units.is_empty() {
            return None;
        }
        // Strings and flags always have a YAML form.
        serde_yaml::to_string(&self.config()).ok()
    }

    pub(super) fn config(&self) -> ConfigFile {
        ConfigFile {
            organizational_unit_identifiers: self.recognized_units.clone(),
            node_ous: self.node_ous.clone(),
        }
    }
}
