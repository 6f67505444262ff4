//! An organization in memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use weft_crypto::{
    CaProfile, Certificate, CertificateAuthority, Crl, LeafProfile, LeafUsage, Name, PrivateKey,
    RevokedCertificate, SubjectAltName, Validity,
};
use weft_msp::{
    Msp, NodeRole, SigningIdentity,
    folder::{FolderParts, NodeOus, layout},
};
use weft_protos::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};
use weft_types::MspId;

use crate::clock::{ALWAYS, NOT_AFTER, NOW};

/// An organization: authorities for identities and for TLS, and one identity of each role.
#[derive(Clone)]
pub struct Org {
    /// Its MSP id.
    pub msp_id: MspId,
    /// Its authority for identities.
    pub ca: CertificateAuthority,
    /// Its authority for TLS certificates.
    pub tls_ca: CertificateAuthority,
    /// An administrator.
    pub admin: SigningIdentity,
    /// A client.
    pub client: SigningIdentity,
    /// A peer.
    pub peer: SigningIdentity,
    /// An orderer.
    pub orderer: SigningIdentity,
    /// Its revocation lists; fill with [`Self::revoke`].
    pub revocation_lists: Vec<Crl>,
}

/// A TLS certificate with its key.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate, for both sides of a connection.
    pub certificate: Certificate,
    /// Its key.
    pub key: PrivateKey,
    /// The authority that issued it.
    pub authority: Certificate,
}

/// A key drawn anew.
#[must_use]
pub fn key() -> PrivateKey {
    PrivateKey::generate().expect("a key can be drawn")
}

/// A self-signed authority with the common name `name`.
#[must_use]
pub fn authority(name: &str) -> CertificateAuthority {
    authority_valid(name, ALWAYS)
}

/// A self-signed authority with a validity of its own.
#[must_use]
pub fn authority_valid(name: &str, validity: Validity) -> CertificateAuthority {
    let profile = CaProfile { name: Name::common(name), validity, max_path_len: None };
    CertificateAuthority::new_root(key(), &profile).expect("a root can be made")
}

/// An identity that `ca` vouches for.
#[must_use]
pub fn identity(
    msp_id: &MspId,
    ca: &CertificateAuthority,
    name: &str,
    units: &[&str],
    validity: Validity,
) -> SigningIdentity {
    let key = key();
    let profile = LeafProfile {
        name: Name { units: units.iter().map(ToString::to_string).collect(), ..Name::common(name) },
        sans: Vec::new(),
        usage: LeafUsage::Identity,
        validity,
    };
    let certificate = ca.issue(key.public_key(), &profile).expect("a certificate can be issued");
    SigningIdentity::new(msp_id.clone(), certificate, key).expect("the key is the certificate's")
}

/// A TLS certificate for `hosts` (names or addresses) that `ca` vouches for.
#[must_use]
pub fn tls_identity(
    ca: &CertificateAuthority,
    name: &str,
    hosts: &[&str],
    validity: Validity,
) -> TlsIdentity {
    let key = key();
    let profile = LeafProfile {
        name: Name::common(name),
        sans: hosts.iter().map(|host| SubjectAltName::host(host)).collect(),
        usage: LeafUsage::Tls,
        validity,
    };
    let certificate = ca.issue(key.public_key(), &profile).expect("a certificate can be issued");
    TlsIdentity { certificate, key, authority: ca.certificate().clone() }
}

impl TlsIdentity {
    /// The certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> Bytes {
        self.certificate.pem().into()
    }

    /// The key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.to_pkcs8_pem().expect("a key can be written").to_string()
    }

    /// Writes `server.crt`, `server.key` and `ca.crt` into `dir`, as Fabric's tools name them.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("the folder can be made");
        write_file(&dir.join("server.crt"), &self.certificate.pem(), false);
        write_file(&dir.join("server.key"), &self.key_pem(), true);
        write_file(&dir.join("ca.crt"), &self.authority.pem(), false);
    }
}

impl Org {
    /// An organization with the MSP id `msp_id`.
    ///
    /// # Panics
    /// Where `msp_id` is not valid.
    #[must_use]
    pub fn new(msp_id: &str) -> Self {
        let msp_id = MspId::new(msp_id).expect("a valid MSP id");
        let ca = authority(&format!("ca.{msp_id}"));
        let tls_ca = authority(&format!("tlsca.{msp_id}"));
        let of = |role: NodeRole| {
            let name = format!("{role}0.{msp_id}");
            identity(&msp_id, &ca, &name, &[role.as_str()], ALWAYS)
        };
        Self {
            admin: of(NodeRole::Admin),
            client: of(NodeRole::Client),
            peer: of(NodeRole::Peer),
            orderer: of(NodeRole::Orderer),
            revocation_lists: Vec::new(),
            msp_id,
            ca,
            tls_ca,
        }
    }

    /// One more identity.
    #[must_use]
    pub fn identity(&self, name: &str, role: NodeRole) -> SigningIdentity {
        self.identity_valid(name, role, ALWAYS)
    }

    /// One more identity, with a validity of its own.
    #[must_use]
    pub fn identity_valid(
        &self,
        name: &str,
        role: NodeRole,
        validity: Validity,
    ) -> SigningIdentity {
        identity(&self.msp_id, &self.ca, name, &[role.as_str()], validity)
    }

    /// A TLS certificate for `hosts`; `127.0.0.1` and `localhost` are always among them.
    #[must_use]
    pub fn tls(&self, name: &str, hosts: &[&str]) -> TlsIdentity {
        self.tls_valid(name, hosts, ALWAYS)
    }

    /// A TLS certificate with a validity of its own.
    #[must_use]
    pub fn tls_valid(&self, name: &str, hosts: &[&str], validity: Validity) -> TlsIdentity {
        let all: Vec<&str> = ["127.0.0.1", "localhost"].iter().chain(hosts).copied().collect();
        tls_identity(&self.tls_ca, name, &all, validity)
    }

    /// Lists certificates as revoked.
    pub fn revoke(&mut self, certificates: &[Certificate]) {
        let revoked: Vec<_> = certificates
            .iter()
            .map(|certificate| RevokedCertificate {
                serial: certificate.serial().to_vec(),
                revoked_at: NOW,
                reason: None,
            })
            .collect();
        let number = self.revocation_lists.len() as u64 + 1;
        let list = self.ca.issue_crl(&revoked, number, NOW, NOT_AFTER).expect("a list can be made");
        self.revocation_lists = vec![list];
    }

    /// The definition of its MSP, with roles by organizational unit.
    #[must_use]
    pub fn msp_config(&self) -> FabricMspConfig {
        let unit = |role: NodeRole| {
            Some(FabricOuIdentifier {
                certificate: Bytes::new(),
                organizational_unit_identifier: role.as_str().to_owned(),
            })
        };
        FabricMspConfig {
            name: self.msp_id.to_string(),
            root_certs: vec![self.ca.certificate().pem().into()],
            revocation_list: self.revocation_lists.iter().map(|list| list.pem().into()).collect(),
            tls_root_certs: vec![self.tls_ca.certificate().pem().into()],
            fabric_node_ous: Some(FabricNodeOUs {
                enable: true,
                client_ou_identifier: unit(NodeRole::Client),
                peer_ou_identifier: unit(NodeRole::Peer),
                admin_ou_identifier: unit(NodeRole::Admin),
                orderer_ou_identifier: unit(NodeRole::Orderer),
            }),
            ..FabricMspConfig::default()
        }
    }

    /// Its MSP.
    #[must_use]
    pub fn msp(&self) -> Msp {
        Msp::new(&self.msp_config()).expect("the definition is valid")
    }

    /// Writes an MSP folder into `dir`; with `signer`, one that a node or client can sign with.
    pub fn write_msp(&self, dir: &Path, signer: Option<&SigningIdentity>) -> PathBuf {
        let parts = FolderParts {
            roots: vec![self.ca.certificate().clone()],
            tls_roots: vec![self.tls_ca.certificate().clone()],
            revocation_lists: self.revocation_lists.clone(),
            node_ous: Some(NodeOus::customary("")),
            signer: signer.map(|signer| (signer.certificate().clone(), signer.key().clone())),
            ..FolderParts::default()
        };
        for file in layout(&parts).expect("the folder can be laid out") {
            write_file(&dir.join(&file.path), &file.contents, file.private);
        }
        dir.to_owned()
    }
}

fn write_file(path: &Path, contents: &str, private: bool) {
    use std::os::unix::fs::PermissionsExt;
    let parent = path.parent().expect("a file stands in a folder");
    fs::create_dir_all(parent).expect("the folder can be made");
    fs::write(path, contents).expect("the file can be written");
    let mode = if private { 0o600 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions can be set");
}
