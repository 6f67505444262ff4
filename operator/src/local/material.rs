//! Keys and certificates of a local network, on disk.
//!
//! Roots are made once and their fingerprints recorded; a root that is gone or altered
//! afterwards is an error, never made anew. Leaves follow [`pki::due`]: issued when missing,
//! renewed with the same key.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use weft_crypto::{CaError, Certificate, CertificateAuthority, KeyError, PrivateKey};
use weft_msp::SigningIdentity;
use weft_msp::folder::{self, FolderParts, NodeOus};
use weft_package::PackageId;
use weft_rpc::tls::{TlsError, TlsIdentity};
use weft_types::{MspId, Timestamp};

use super::files::{self, FileError};
use super::layout::Layout;
use super::nodes::Node;
use super::state::State;
use crate::api::UserSpec;
use crate::model::Certificates;
use crate::pki::{self, Fresh, IssueError, Leaf, Reason, Role, RootUse};

/// Keys or certificates that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file.
    #[error("failed to keep keys and certificates")]
    File(#[source] FileError),
    /// A root was made earlier and is gone.
    #[error(
        "the certificate authority in {} is gone: put its ca.pem and key.pem back from a backup; it is never made anew, because everything it signed would stop working",
        folder.display()
    )]
    RootGone {
        /// Where it was.
        folder: PathBuf,
    },
    /// A root is not the one that was made.
    #[error(
        "the certificate authority in {} was altered: its fingerprint is {found}, expected {expected}; put the original back",
        folder.display()
    )]
    RootAltered {
        /// Where it is.
        folder: PathBuf,
        /// What stands there.
        found: String,
        /// What was recorded.
        expected: String,
    },
    /// A root cannot be read or made.
    #[error("failed to set up the certificate authority in {}", folder.display())]
    Root {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: CaError,
    },
    /// A certificate cannot be issued.
    #[error("failed to issue a certificate for {holder}")]
    Issue {
        /// Node or user.
        holder: String,
        /// Why.
        #[source]
        source: CaError,
    },
    /// A key cannot be made, read or written.
    #[error("failed to set up the key of {holder}")]
    Key {
        /// Node, user or root.
        holder: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// An MSP folder cannot be read back.
    #[error("failed to read the MSP folder {}", folder.display())]
    Msp {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: folder::FolderError,
    },
    /// A TLS certificate and key cannot be read back.
    #[error("failed to read the TLS certificate of {holder}")]
    Tls {
        /// Node or user.
        holder: String,
        /// Why.
        #[source]
        source: TlsError,
    },
}

impl From<FileError> for MaterialError {
    fn from(source: FileError) -> Self {
        MaterialError::File(source)
    }
}

/// A certificate that was issued: what for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Node or user, and which of its certificates.
    pub holder: String,
    /// Why.
    pub reason: Reason,
}

/// An organization's two roots.
#[derive(Clone, Debug)]
pub struct OrgMaterial {
    /// Folder name of the organization.
    pub name: String,
    /// Its MSP.
    pub msp_id: MspId,
    certificates: Certificates,
    identity: CertificateAuthority,
    tls: CertificateAuthority,
}

impl OrgMaterial {
    /// The roots of an organization: read, or made when the organization is new. Writes the
    /// MSP without keys to `ORGANIZATION/msp`, for others to trust.
    ///
    /// # Errors
    /// [`MaterialError::RootGone`] and [`MaterialError::RootAltered`] for a root that was made earlier;
    /// others where files or keys cannot be read or written.
    pub fn ensure(
        layout: &Layout,
        state: &mut State,
        name: &str,
        msp_id: &MspId,
        certificates: Certificates,
        now: Timestamp,
    ) -> Result<OrgMaterial, MaterialError> {
        let mut root = |use_| ensure_root(layout, state, name, msp_id, use_, &certificates, now);
        let material = OrgMaterial {
            name: name.to_owned(),
            msp_id: msp_id.clone(),
            identity: root(RootUse::Identity)?,
            tls: root(RootUse::Tls)?,
            certificates,
        };
        write_folder(&material.msp_folder(layout), &material.public_parts())?;
        Ok(material)
    }

    /// Where the MSP without keys stands.
    pub fn msp_folder(&self, layout: &Layout) -> PathBuf {
        layout.root().join(&self.name).join("msp")
    }

    /// The MSP without keys, as a channel's config holds it.
    ///
    /// # Errors
    /// [`MaterialError`] when the MSP folder cannot be read.
    pub fn msp_config(
        &self,
        layout: &Layout,
    ) -> Result<weft_protos::msp::FabricMspConfig, MaterialError> {
        let folder = self.msp_folder(layout);
        folder::load_definition(&folder, &self.msp_id)
            .map_err(|source| MaterialError::Msp { folder, source })
    }

    /// The root of TLS certificates.
    pub fn tls_root(&self) -> &Certificate {
        self.tls.certificate()
    }

    /// A node's certificates: issues what is due and returns what was issued.
    ///
    /// # Errors
    /// [`MaterialError`] names the holder or file.
    pub fn ensure_node(&self, node: &Node, now: Timestamp) -> Result<Vec<Issued>, MaterialError> {
        let [identity, tls] = node.leaves();
        let paths = TlsPaths { cert: node.tls_cert(), key: node.tls_key(), root: node.tls_root() };
        self.ensure_holder(&node.folder, &identity, &tls, &paths, now)
    }

    /// A user's certificates: issues what is due and returns what was issued.
    ///
    /// # Errors
    /// [`MaterialError`] names the holder or file.
    pub fn ensure_user(
        &self,
        layout: &Layout,
        user: &UserSpec,
        now: Timestamp,
    ) -> Result<Vec<Issued>, MaterialError> {
        let folder = layout.user(&self.name, &user.name);
        let [identity, tls] = pki::user_leaves(&user.name, Role::from(user.role), &self.name);
        self.ensure_holder(&folder, &identity, &tls, &TlsPaths::client(&folder), now)
    }

    fn ensure_holder(
        &self,
        folder: &Path,
        identity: &Leaf,
        tls: &Leaf,
        paths: &TlsPaths,
        now: Timestamp,
    ) -> Result<Vec<Issued>, MaterialError> {
        let msp = folder.join("msp");
        let mut issued = Vec::new();
        let signcert = msp.join("signcerts/cert.pem");
        let signkey = msp.join("keystore/key.pem");
        if let Some(fresh) = self.ensure_leaf(identity, &signcert, &signkey, now)? {
            let Fresh { certificate, key, reason } = fresh;
            let signer = Some((certificate, key));
            let parts = FolderParts { signer, ..self.public_parts() };
            write_folder(&msp, &parts)?;
            issued.push(Issued { holder: identity.common_name.clone(), reason });
        }
        issued.extend(self.ensure_tls(tls, paths, now)?);
        Ok(issued)
    }

    fn ensure_tls(
        &self,
        tls: &Leaf,
        paths: &TlsPaths,
        now: Timestamp,
    ) -> Result<Option<Issued>, MaterialError> {
        let Some(fresh) = self.ensure_leaf(tls, &paths.cert, &paths.key, now)? else {
            return Ok(None);
        };
        let Fresh { certificate, key, reason } = fresh;
        let holder = format!("{} (TLS)", tls.common_name);
        let pem = key
            .to_pkcs8_pem()
            .map_err(|source| MaterialError::Key { holder: holder.clone(), source })?;
        files::write(&paths.root, self.tls.certificate().pem().as_bytes())?;
        files::write(&paths.key, pem.as_bytes())?;
        files::write(&paths.cert, certificate.pem().as_bytes())?;
        Ok(Some(Issued { holder, reason }))
    }

    /// The certificate of a contract that registers with the organization's peers: issues it when it
    /// is due. Beside the PEM files stand the same in base64, as the contract libraries for Node and
    /// Java want them.
    ///
    /// # Errors
    /// [`MaterialError`] names the holder or file.
    pub fn ensure_contract(
        &self,
        folder: &Path,
        chaincode: &str,
        package: &PackageId,
        now: Timestamp,
    ) -> Result<Option<Issued>, MaterialError> {
        let leaf = pki::contract_leaf(chaincode, package, &self.name);
        let paths = TlsPaths::contract(folder);
        let issued = self.ensure_tls(&leaf, &paths, now)?;
        for path in [&paths.cert, &paths.key] {
            let Some(pem) = files::read(path)? else { continue };
            let wrapped = STANDARD.encode(pem);
            let mut name = path.clone().into_os_string();
            name.push(".base64");
            let beside = PathBuf::from(name);
            if files::read(&beside)?.as_deref() != Some(wrapped.as_bytes()) {
                files::write(&beside, wrapped.as_bytes())?;
            }
        }
        Ok(issued)
    }

    /// The certificate and key to write, when one is due; the key that is there is kept.
    fn ensure_leaf(
        &self,
        leaf: &Leaf,
        cert: &Path,
        key: &Path,
        now: Timestamp,
    ) -> Result<Option<Fresh>, MaterialError> {
        let holder = || leaf.common_name.clone();
        let authority = match leaf.root {
            RootUse::Identity => &self.identity,
            RootUse::Tls => &self.tls,
        };
        let key_error = |source| MaterialError::Key { holder: holder(), source };
        let key = match files::read_text(key)? {
            Some(pem) => Some(PrivateKey::from_pkcs8_pem(&pem).map_err(key_error)?),
            None => None,
        };
        let found = files::read_text(cert)?.and_then(|pem| Certificate::from_pem(&pem).ok());
        let current = pki::usable(found, key.as_ref());
        let issuer = authority.certificate();
        let Some(reason) = pki::due(leaf, current.as_ref(), issuer, now, &self.certificates) else {
            return Ok(None);
        };
        pki::issue(leaf, key, authority, reason, now, &self.certificates).map(Some).map_err(
            |error| match error {
                IssueError::Key(source) => key_error(source),
                IssueError::Issue(source) => MaterialError::Issue { holder: holder(), source },
            },
        )
    }

    fn public_parts(&self) -> FolderParts {
        FolderParts {
            roots: vec![self.identity.certificate().clone()],
            tls_roots: vec![self.tls.certificate().clone()],
            node_ous: Some(NodeOus::customary("cacerts/ca.pem")),
            ..FolderParts::default()
        }
    }
}

/// A user's or node's identity, read back to be used.
///
/// # Errors
/// [`MaterialError`] when certificate or key is missing or cannot be used.
pub fn load_signer(folder: &Path, msp_id: &MspId) -> Result<SigningIdentity, MaterialError> {
    let folder = folder.join("msp");
    folder::load_signing_identity(&folder, msp_id)
        .map_err(|source| MaterialError::Msp { folder: folder.clone(), source })
}

/// A user's TLS certificate and key, read back to be used.
///
/// # Errors
/// [`MaterialError`] when certificate or key is missing or cannot be used.
pub fn load_client_tls(folder: &Path) -> Result<TlsIdentity, MaterialError> {
    let paths = TlsPaths::client(folder);
    TlsIdentity::load(&paths.cert, &paths.key)
        .map_err(|source| MaterialError::Tls { holder: folder.display().to_string(), source })
}

/// The certificates of a user or node that are in its folder.
///
/// # Errors
/// [`MaterialError`] when one that is there cannot be read.
pub fn certificates(folder: &Path) -> Result<Vec<Certificate>, MaterialError> {
    let paths = ["msp/signcerts/cert.pem", "tls/server.crt", "tls/client.crt"];
    let mut found = Vec::new();
    for path in paths {
        if let Some(pem) = files::read_text(&folder.join(path))? {
            found.extend(Certificate::from_pem(&pem).ok());
        }
    }
    Ok(found)
}

/// The root of an organization's TLS certificates, read back to be used.
///
/// # Errors
/// [`MaterialError`] when it is missing or cannot be read.
pub fn load_tls_root(layout: &Layout, organization: &str) -> Result<Certificate, MaterialError> {
    let folder = layout.authority(organization, RootUse::Tls);
    match files::read_text(&folder.join("ca.pem"))?.map(|pem| Certificate::from_pem(&pem)) {
        Some(Ok(certificate)) => Ok(certificate),
        Some(Err(source)) => {
            Err(MaterialError::Root { folder, source: CaError::Certificate(source) })
        }
        None => Err(MaterialError::RootGone { folder }),
    }
}

struct TlsPaths {
    cert: PathBuf,
    key: PathBuf,
    root: PathBuf,
}

impl TlsPaths {
    fn client(folder: &Path) -> TlsPaths {
        Self::contract(&folder.join("tls"))
    }

    fn contract(tls: &Path) -> TlsPaths {
        TlsPaths {
            cert: tls.join("client.crt"),
            key: tls.join("client.key"),
            root: tls.join("ca.crt"),
        }
    }
}

fn ensure_root(
    layout: &Layout,
    state: &mut State,
    name: &str,
    msp_id: &MspId,
    use_: RootUse,
    certificates: &Certificates,
    now: Timestamp,
) -> Result<CertificateAuthority, MaterialError> {
    let folder = layout.authority(name, use_);
    let record = format!("{name}/{}", use_.label());
    let stored = read_root(&folder)?;
    match (stored, state.authorities.get(&record)) {
        (Some(root), Some(expected)) => {
            let found = pki::fingerprint(root.certificate());
            if found == *expected {
                return Ok(root);
            }
            Err(MaterialError::RootAltered { folder, found, expected: expected.clone() })
        }
        (None, Some(_)) => Err(MaterialError::RootGone { folder }),
        // The record is written after the root: a crash between the two leaves a root that
        // nothing relies on yet, and it is taken as it is. So is a root of the user's own.
        (Some(root), None) => {
            state.authorities.insert(record, pki::fingerprint(root.certificate()));
            Ok(root)
        }
        (None, None) => {
            let root = make_root(&folder, msp_id, use_, certificates, now)?;
            state.authorities.insert(record, pki::fingerprint(root.certificate()));
            Ok(root)
        }
    }
}

fn read_root(folder: &Path) -> Result<Option<CertificateAuthority>, MaterialError> {
    let certificate = files::read_text(&folder.join("ca.pem"))?;
    let key = files::read_text(&folder.join("key.pem"))?;
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    CertificateAuthority::from_pem(&certificate, &key)
        .map(Some)
        .map_err(|source| MaterialError::Root { folder: folder.to_owned(), source })
}

fn make_root(
    folder: &Path,
    msp_id: &MspId,
    use_: RootUse,
    certificates: &Certificates,
    now: Timestamp,
) -> Result<CertificateAuthority, MaterialError> {
    let holder = || format!("the {} of {msp_id}", use_.label());
    let key_error = |source| MaterialError::Key { holder: holder(), source };
    let root = pki::make_root(msp_id, use_, now, certificates).map_err(|error| match error {
        IssueError::Key(source) => key_error(source),
        IssueError::Issue(source) => MaterialError::Root { folder: folder.to_owned(), source },
    })?;
    let pem = root.key().to_pkcs8_pem().map_err(key_error)?;
    files::write(&folder.join("key.pem"), pem.as_bytes())?;
    files::write(&folder.join("ca.pem"), root.certificate().pem().as_bytes())?;
    Ok(root)
}

fn write_folder(folder: &Path, parts: &FolderParts) -> Result<(), MaterialError> {
    let all = folder::layout(parts)
        .map_err(|source| MaterialError::Key { holder: folder.display().to_string(), source })?;
    for file in all {
        let path = folder.join(&file.path);
        // Unchanged files are left alone: running again changes nothing.
        if files::read(&path)?.as_deref() != Some(file.contents.as_bytes()) {
            files::write(&path, file.contents.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_crypto::SubjectAltName;

    use super::*;

    fn certificates() -> Certificates {
        let day = 24 * 3600;
        Certificates {
            duration: Duration::from_secs(90 * day),
            renew_before: Duration::from_secs(30 * day),
            ca_duration: Duration::from_secs(3650 * day),
        }
    }

    struct Place {
        _folder: tempfile::TempDir,
        layout: Layout,
        state: State,
    }

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::new(folder.path().to_owned());
            Place { _folder: folder, layout, state: State::default() }
        }

        fn ensure(&mut self, now: Timestamp) -> Result<OrgMaterial, MaterialError> {
            let msp_id = MspId::new("Org1MSP").unwrap();
            OrgMaterial::ensure(&self.layout, &mut self.state, "org1", &msp_id, certificates(), now)
        }
    }

    fn user() -> UserSpec {
        UserSpec { name: "user1".to_owned(), role: crate::api::UserRole::Client }
    }

    #[test]
    fn a_second_run_issues_nothing_and_a_late_one_renews_with_the_same_key() {
        let mut place = Place::new();
        let now = Timestamp::from_seconds(1_800_000_000);
        let material = place.ensure(now).unwrap();
        let issued = material.ensure_user(&place.layout, &user(), now).unwrap();
        assert_eq!(issued.len(), 2);
        assert_eq!(issued[0].reason, Reason::Missing);
        let folder = place.layout.user("org1", "user1");
        let first = load_signer(&folder, &material.msp_id).unwrap();
        load_client_tls(&folder).unwrap();

        let material = place.ensure(now).unwrap();
        assert_eq!(material.ensure_user(&place.layout, &user(), now).unwrap(), []);

        let late = now.saturating_add(Duration::from_secs(61 * 24 * 3600));
        let material = place.ensure(late).unwrap();
        let issued = material.ensure_user(&place.layout, &user(), late).unwrap();
        assert!(issued.iter().all(|one| one.reason == Reason::Expiring), "{issued:?}");
        let second = load_signer(&folder, &material.msp_id).unwrap();
        assert_eq!(first.certificate().public_key(), second.certificate().public_key());
        assert_ne!(first.certificate(), second.certificate());
    }

    #[test]
    fn a_root_that_is_gone_or_altered_is_never_made_anew() {
        let mut place = Place::new();
        let now = Timestamp::from_seconds(1_800_000_000);
        place.ensure(now).unwrap();
        let folder = place.layout.authority("org1", RootUse::Identity);
        let key = std::fs::read(folder.join("key.pem")).unwrap();
        std::fs::remove_file(folder.join("key.pem")).unwrap();
        assert!(matches!(place.ensure(now), Err(MaterialError::RootGone { .. })));
        std::fs::write(folder.join("key.pem"), key).unwrap();
        place.ensure(now).unwrap();

        let mut other = Place::new();
        other.ensure(now).unwrap();
        let foreign = other.layout.authority("org1", RootUse::Identity);
        for name in ["ca.pem", "key.pem"] {
            std::fs::copy(foreign.join(name), folder.join(name)).unwrap();
        }
        assert!(matches!(place.ensure(now), Err(MaterialError::RootAltered { .. })));
    }

    #[test]
    fn a_contracts_certificate_names_its_package_and_follows_it() {
        let mut place = Place::new();
        let now = Timestamp::from_seconds(1_800_000_000);
        let material = place.ensure(now).unwrap();
        let folder = place.layout.contract("org1", &"supply".parse().unwrap(), "asset");
        let package = |digit: &str| format!("asset_1.0:{}", digit.repeat(64)).parse().unwrap();
        let named = || {
            let pem = files::read_text(&folder.join("client.crt")).unwrap().unwrap();
            Certificate::from_pem(&pem).unwrap().sans().to_vec()
        };
        let (first, second): (PackageId, PackageId) = (package("a"), package("b"));
        let issued = material.ensure_contract(&folder, "asset", &first, now).unwrap();
        assert_eq!(issued.unwrap().reason, Reason::Missing);
        assert_eq!(named(), [SubjectAltName::Uri(first.certificate_name())]);
        assert_eq!(material.ensure_contract(&folder, "asset", &first, now).unwrap(), None);
        let issued = material.ensure_contract(&folder, "asset", &second, now).unwrap();
        assert_eq!(issued.unwrap().reason, Reason::Hosts);
        assert_eq!(named(), [SubjectAltName::Uri(second.certificate_name())]);

        let wrapped = std::fs::read(folder.join("client.key.base64")).unwrap();
        let key = std::fs::read(folder.join("client.key")).unwrap();
        assert_eq!(STANDARD.decode(wrapped).unwrap(), key);
    }

    #[test]
    fn the_public_folder_holds_no_key() {
        let mut place = Place::new();
        let material = place.ensure(Timestamp::from_seconds(1_800_000_000)).unwrap();
        let config = material.msp_config(&place.layout).unwrap();
        assert_eq!(config.root_certs.len(), 1);
        assert_eq!(config.tls_root_certs.len(), 1);
        assert!(config.signing_identity.is_none());
        assert!(!material.msp_folder(&place.layout).join("keystore").exists());
    }
}
