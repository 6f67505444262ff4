//! TLS on the port that contracts dial, and the certificates that they show there.

use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;
use weft_contract::ClientTls;
use weft_crypto::{CertificateAuthority, LeafProfile, LeafUsage, Name, SubjectAltName};
use weft_peer::chaincode::package::PackageId;
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity, certificates_from_pem};
use weft_testkit::clock::ALWAYS;
use weft_testkit::org;

struct Pki {
    authority: CertificateAuthority,
    stranger: CertificateAuthority,
    folder: TempDir,
}

/// One for all tests: contracts outlive peers.
fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let authority = org::authority("tlsca.org1");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.certificate().pem()).unwrap();
        Pki { authority, stranger: org::authority("tlsca.org2"), folder }
    })
}

/// What a client shows: a certificate and its key, PEM.
pub type Shown = (Vec<u8>, Vec<u8>);

fn issue(authority: &CertificateAuthority, name: &str, sans: Vec<SubjectAltName>) -> Shown {
    let key = org::key();
    let usage = LeafUsage::Tls;
    let profile = LeafProfile { name: Name::common(name), sans, usage, validity: ALWAYS };
    let certificate = authority.issue(key.public_key(), &profile).unwrap();
    (certificate.pem().into_bytes(), key.to_pkcs8_pem().unwrap().as_bytes().to_vec())
}

fn name_of(id: &str) -> SubjectAltName {
    SubjectAltName::Uri(id.parse::<PackageId>().unwrap().certificate_name())
}

/// The certificate of the contract of these packages.
pub fn certificate(ids: &[&str]) -> Shown {
    issue(&pki().authority, "contract", ids.iter().map(|id| name_of(id)).collect())
}

/// The certificate of a node or user, as the same authority issues them.
pub fn member() -> Shown {
    issue(&pki().authority, "peer0", vec![SubjectAltName::Dns("peer0".into())])
}

/// The right name by another organization's authority.
pub fn foreign(id: &str) -> Shown {
    issue(&pki().stranger, "contract", vec![name_of(id)])
}

/// The peer's side.
pub fn server() -> ReloadingTls {
    let (certificate, key) =
        issue(&pki().authority, "peer0", vec![SubjectAltName::host("127.0.0.1")]);
    let identity = TlsIdentity::from_pem(&certificate, &key, "test").unwrap();
    let roots = pki().authority.certificate().pem();
    let roots = certificates_from_pem(roots.as_bytes(), "test").unwrap();
    let roots = RootSet::fixed(roots).unwrap();
    ReloadingTls::from_parts(Some(identity), RootSet::new(), roots)
}

/// The contract's side.
pub fn client(shown: Option<Shown>) -> ClientTls {
    ClientTls { roots: roots_file(), server_name: None, client: shown }
}

pub fn roots_file() -> PathBuf {
    pki().folder.path().join("ca.pem")
}
