//! MSPs made with nothing but the `openssl` command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use weft_crypto::{Certificate, CertificateAuthority, RevokedCertificate};
use weft_msp::{IdentityError, Msp, MspError, Principal, PrincipalRole, ValidAt, folder};
use weft_protos::msp::FabricMspConfig;
use weft_types::{MspId, Signer as _, Timestamp};

struct Openssl {
    dir: TempDir,
}

impl Openssl {
    fn new() -> Self {
        let openssl = Self { dir: TempDir::new().unwrap() };
        for name in ["cacerts", "signcerts", "keystore"] {
            fs::create_dir_all(openssl.path(&format!("msp/{name}"))).unwrap();
        }
        openssl
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the words of `command` in the directory.
    fn run(&self, command: &str) {
        let output = Command::new("openssl")
            .args(command.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .expect("the openssl command line is needed");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {command}: {message}");
    }

    fn put(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
    }

    fn key(&self, name: &str) {
        self.run(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
        ));
    }

    fn root(&self) {
        self.key("ca");
        self.run("req -x509 -new -key ca.key -sha256 -days 3650 -subj /O=Org/CN=root -out ca.pem");
        self.copy("ca.pem", "msp/cacerts/ca.pem");
    }

    /// A leaf of `ca`, by a request; `extensions` go into its certificate.
    fn leaf(&self, ca: &str, name: &str, subject: &str, extensions: &str) {
        self.key(name);
        self.run(&format!("req -new -key {name}.key -subj {subject} -out {name}.csr"));
        self.put("extensions", extensions);
        self.run(&format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -sha256 \
             -days 365 -extfile extensions -out {name}.pem"
        ));
    }

    fn copy(&self, from: &str, to: &str) {
        fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn sign_as(&self, name: &str) {
        self.copy(&format!("{name}.pem"), "msp/signcerts/cert.pem");
        self.copy(&format!("{name}.key"), "msp/keystore/key.pem");
    }

    fn msp(&self) -> PathBuf {
        self.path("msp")
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

fn load(dir: &Path) -> (Msp, weft_msp::SigningIdentity) {
    let (config, signer) = folder::load(dir, &MspId::new("OrgMSP").unwrap()).unwrap();
    (Msp::new(&config).unwrap(), signer)
}

const ROLES: &str = "\
NodeOUs:
  Enable: true
  ClientOUIdentifier:
    OrganizationalUnitIdentifier: client
  PeerOUIdentifier:
    OrganizationalUnitIdentifier: peer
  AdminOUIdentifier:
    OrganizationalUnitIdentifier: admin
";

/// A list that the authority signed, which names another key identifier than the authority's.
#[test]
fn a_list_counts_by_its_issuer_whatever_key_identifier_it_names() {
    let openssl = Openssl::new();
    openssl.root();
    // The same name and key with another key identifier: that is what the list will name.
    openssl.run(
        "req -x509 -new -key ca.key -sha256 -days 3650 -subj /O=Org/CN=root -out other.pem \
         -addext subjectKeyIdentifier=01:02:03",
    );
    openssl.put("msp/config.yaml", ROLES);
    openssl.leaf("ca", "user", "/OU=peer/CN=user", "keyUsage=digitalSignature");
    openssl.sign_as("user");
    let text = |name: &str| fs::read_to_string(openssl.path(name)).unwrap();
    let other = CertificateAuthority::from_pem(&text("other.pem"), &text("ca.key")).unwrap();
    let user = Certificate::from_pem(&text("user.pem")).unwrap();
    let revoked =
        RevokedCertificate { serial: user.serial().to_vec(), revoked_at: now(), reason: None };
    let next = now().saturating_add(Duration::from_secs(86_400));
    let list = other.issue_crl(&[revoked], 1, now(), next).unwrap();
    let root = Certificate::from_pem(&text("ca.pem")).unwrap();
    assert_ne!(list.aki(), root.ski());

    let (mut config, signer) =
        folder::load(&openssl.msp(), &MspId::new("OrgMSP").unwrap()).unwrap();
    let judge = |config: &FabricMspConfig| {
        let msp = Msp::new(config).unwrap();
        let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
        identity.validate(ValidAt::Issuance)
    };
    assert_eq!(judge(&config), Ok(()));
    config.revocation_list.push(list.pem().into());
    assert!(matches!(judge(&config), Err(IdentityError::Revoked { .. })));
}

#[test]
fn self_signed_root_and_signed_leaf() {
    let openssl = Openssl::new();
    openssl.root();
    openssl.leaf("ca", "peer", "/OU=peer/CN=peer0", "");
    openssl.run("verify -CAfile ca.pem peer.pem");
    openssl.sign_as("peer");
    openssl.put("msp/config.yaml", ROLES);
    let (msp, signer) = load(&openssl.msp());
    let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
    assert_eq!(identity.validate(now()), Ok(()));
    let peer = Principal::role("OrgMSP", PrincipalRole::Peer);
    assert_eq!(identity.satisfies(&peer, now()), Ok(()));
    identity.verify(b"message", &signer.sign(b"message").unwrap()).unwrap();
}

/// A key as `openssl ecparam` writes it: SEC 1, after a block of parameters.
#[test]
fn older_key_format_and_listed_administrator() {
    let openssl = Openssl::new();
    openssl.root();
    openssl.run("ecparam -name prime256v1 -genkey -out admin.key");
    openssl.run("req -new -key admin.key -subj /CN=admin -out admin.csr");
    openssl.run(
        "x509 -req -in admin.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -out admin.pem",
    );
    openssl.sign_as("admin");
    openssl.copy("admin.pem", "msp/admincerts/admin.pem");
    let (msp, signer) = load(&openssl.msp());
    let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
    let admin = Principal::role("OrgMSP", PrincipalRole::Admin);
    assert_eq!(identity.satisfies(&admin, now()), Ok(()));
}

#[test]
fn intermediate_authority() {
    let openssl = Openssl::new();
    openssl.root();
    openssl.leaf(
        "ca",
        "below",
        "/O=Org/CN=below",
        "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    );
    openssl.copy("below.pem", "msp/intermediatecerts/below.pem");
    openssl.leaf("below", "x", "/OU=client/CN=x", "keyUsage=critical,digitalSignature\n");
    openssl.run("verify -CAfile ca.pem -untrusted below.pem x.pem");
    openssl.sign_as("x");
    openssl.put("msp/config.yaml", ROLES);
    let (msp, signer) = load(&openssl.msp());
    let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
    assert_eq!(identity.validate(now()), Ok(()));
    // No authority may follow below.
    openssl.leaf(
        "below",
        "deep",
        "/CN=deep",
        "basicConstraints=CA:true\nsubjectKeyIdentifier=hash\n",
    );
    openssl.leaf("deep", "y", "/OU=client/CN=y", "");
    openssl.copy("deep.pem", "msp/intermediatecerts/deep.pem");
    openssl.sign_as("y");
    let (msp, signer) = load(&openssl.msp());
    assert!(msp.deserialize_identity(&signer.serialized_identity()).is_err());
}

#[test]
fn revocation_list() {
    let openssl = Openssl::new();
    openssl.root();
    openssl.leaf("ca", "good", "/OU=peer/CN=good", "");
    openssl.leaf("ca", "bad", "/OU=peer/CN=bad", "");
    openssl.put("index.txt", "");
    openssl.put("crlnumber", "01\n");
    openssl.put(
        "ca.cnf",
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n\
         default_crl_days=30\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n",
    );
    let ca = "ca -config ca.cnf -cert ca.pem -keyfile ca.key";
    openssl.run(&format!("{ca} -revoke bad.pem"));
    openssl.run(&format!("{ca} -gencrl -out crl.pem"));
    openssl.copy("crl.pem", "msp/crls/crl.pem");
    openssl.put("msp/config.yaml", ROLES);
    for (name, revoked) in [("good", false), ("bad", true)] {
        openssl.sign_as(name);
        let (msp, signer) = load(&openssl.msp());
        let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
        let result = identity.validate(ValidAt::Issuance);
        assert_eq!(matches!(result, Err(IdentityError::Revoked { .. })), revoked, "{result:?}");
        assert_eq!(result.is_err(), revoked);
    }
}

/// A certificate for TLS clients alone is none for the ledger, as in Fabric.
#[test]
fn wrong_purpose_and_unknown_critical_extension() {
    let openssl = Openssl::new();
    openssl.root();
    openssl.put("msp/config.yaml", ROLES);
    let refused = |extensions: &str| {
        openssl.leaf("ca", "x", "/OU=peer/CN=x", extensions);
        openssl.sign_as("x");
        let (msp, signer) = load(&openssl.msp());
        msp.deserialize_identity(&signer.serialized_identity()).is_err()
    };
    assert!(refused("extendedKeyUsage=clientAuth\n"));
    assert!(!refused("extendedKeyUsage=clientAuth,serverAuth\n"));
    assert!(refused("1.2.3.4=critical,ASN1:UTF8String:x\n"));
    assert!(!refused("1.2.3.4=ASN1:UTF8String:x\n"));
}

#[test]
fn authority_on_another_curve() {
    let openssl = Openssl::new();
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ca.key");
    openssl.run("req -x509 -new -key ca.key -sha384 -days 10 -subj /CN=root -out ca.pem");
    openssl.copy("ca.pem", "msp/cacerts/ca.pem");
    let config = folder::load_definition(&openssl.msp(), &MspId::new("OrgMSP").unwrap()).unwrap();
    let error = Msp::new(&config).unwrap_err();
    assert!(matches!(error, MspError::Certificate { list: "root certificate", index: 0, .. }));
}
