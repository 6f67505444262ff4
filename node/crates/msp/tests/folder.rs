//! MSP directories: written, read, and wrong in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::*;
use tempfile::TempDir;
use weft_crypto::{PrivateKey, RevokedCertificate};
use weft_msp::{
    Msp, SigningIdentity,
    folder::{self, FolderError, FolderParts, KeyProblem, NodeOus, OuIdentifier},
};
use weft_types::{MspId, Signer as _, Timestamp};

fn write(dir: &Path, parts: &FolderParts) {
    for file in folder::layout(parts).unwrap() {
        let path = dir.join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.contents.as_bytes()).unwrap();
    }
}

struct Folder {
    dir: TempDir,
    org: Org,
    signer: SigningIdentity,
}

fn parts(org: &Org, signer: &SigningIdentity) -> FolderParts {
    FolderParts {
        roots: vec![org.ca.certificate().clone()],
        node_ous: Some(NodeOus::customary("cacerts/ca.pem")),
        signer: Some((signer.certificate().clone(), signer.key().clone())),
        ..FolderParts::default()
    }
}

fn folder() -> Folder {
    let org = Org::new("Org1MSP");
    let signer = org.signer("peer0", &["peer"]);
    let dir = TempDir::new().unwrap();
    write(dir.path(), &parts(&org, &signer));
    Folder { dir, org, signer }
}

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), contents).unwrap();
    }

    fn load(&self) -> Result<(Msp, SigningIdentity), FolderError> {
        let (config, signer) = folder::load(self.dir.path(), &self.org.msp_id)?;
        Ok((Msp::new(&config).unwrap(), signer))
    }

    fn error(&self) -> FolderError {
        self.load().unwrap_err()
    }
}

#[test]
fn what_is_written_can_be_read() {
    let folder = folder();
    let (msp, signer) = folder.load().unwrap();
    assert_eq!(msp.root_certificates(), [folder.org.ca.certificate().clone()]);
    assert!(msp.roles_enabled());
    assert_eq!(signer.serialized_identity(), folder.signer.serialized_identity());
    let identity = msp.deserialize_identity(&signer.serialized_identity()).unwrap();
    assert_valid(&identity);
    identity.verify(b"message", &signer.sign(b"message").unwrap()).unwrap();
}

#[test]
fn every_part_of_the_layout() {
    let org = Org::new("Org1MSP");
    let below = intermediate(&org.ca, "below");
    let (tls, tls_second) = (root("tls"), root("tls 2"));
    let tls_below = intermediate(&tls, "tls below");
    let admin = issue(&below, "admin", &["client", "dept"]);
    let revoked = RevokedCertificate { serial: vec![7], revoked_at: NOW, reason: None };
    let next = Timestamp::from_seconds(NOW.seconds() + 1000);
    let crl = below.issue_crl(&[revoked], 1, NOW, next).unwrap();
    let key = PrivateKey::generate().unwrap();
    let certificate = below.issue(key.public_key(), &leaf_profile("x", &["peer", "dept"])).unwrap();
    let parts = FolderParts {
        roots: vec![org.ca.certificate().clone()],
        intermediates: vec![below.certificate().clone()],
        admins: vec![admin.clone()],
        revocation_lists: vec![crl.clone()],
        tls_roots: vec![tls.certificate().clone(), tls_second.certificate().clone()],
        tls_intermediates: vec![tls_below.certificate().clone()],
        node_ous: Some(NodeOus::customary("")),
        recognized_units: vec![OuIdentifier {
            certificate: "intermediatecerts/ca.pem".to_owned(),
            organizational_unit_identifier: "dept".to_owned(),
        }],
        signer: Some((certificate.clone(), key)),
    };
    let files = folder::layout(&parts).unwrap();
    let paths: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.private)).collect();
    assert_eq!(
        paths,
        [
            ("admincerts/admin.pem", false),
            ("cacerts/ca.pem", false),
            ("config.yaml", false),
            ("crls/crl.pem", false),
            ("intermediatecerts/ca.pem", false),
            ("keystore/key.pem", true),
            ("signcerts/cert.pem", false),
            ("tlscacerts/ca-2.pem", false),
            ("tlscacerts/ca.pem", false),
            ("tlsintermediatecerts/ca.pem", false),
        ]
    );
    assert!(!format!("{files:?}").contains("PRIVATE"));

    let dir = TempDir::new().unwrap();
    write(dir.path(), &parts);
    let (config, signer) = folder::load(dir.path(), &org.msp_id).unwrap();
    assert_eq!(config.admins, [pem(&admin)]);
    assert_eq!(config.revocation_list, [crl.pem()]);
    assert_eq!(config.tls_root_certs.len(), 2);
    assert_eq!(config.tls_intermediate_certs, [pem(tls_below.certificate())]);
    assert_eq!(config.signing_identity, None);
    let msp = Msp::new(&config).unwrap();
    assert_valid(&identity(&msp, signer.certificate()));
    assert!(identity(&msp, &issue(&below, "y", &["peer"])).validate(NOW).is_err(), "not in dept");
}

#[test]
fn config_file_is_as_fabrics_tools_write_it() {
    let parts = FolderParts {
        node_ous: Some(NodeOus::customary("cacerts/ca.pem")),
        ..FolderParts::default()
    };
    let files = folder::layout(&parts).unwrap();
    let expected = "\
NodeOUs:
  Enable: true
  ClientOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: client
  PeerOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: peer
  AdminOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: admin
  OrdererOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: orderer
";
    assert_eq!(files[0].contents.as_str(), expected);
    assert_eq!(files.len(), 1);
}

#[test]
fn forgiving_where_tools_differ() {
    let folder = folder();
    let pem = folder.org.ca.certificate().pem();
    let other = root("other").certificate().pem();
    // Text around the block, Windows line ends, no line end at the end, two blocks in a file.
    let text = format!("Certificate:\n    Data:\n{pem}\nand\n{other}").replace('\n', "\r\n");
    folder.put("cacerts/ca.pem", text.trim_end());
    // Hidden files and directories, as a mounted secret has them.
    folder.put("cacerts/..data/ca.pem", "not read");
    folder.put("cacerts/.keep", "");
    // Other keys and things that are no keys.
    folder.put("keystore/a.pem", PrivateKey::generate().unwrap().to_pkcs8_pem().unwrap());
    folder.put("keystore/b.txt", "no key");
    // Authorities after the certificate itself.
    let chain = format!("{}{pem}", folder.signer.certificate().pem());
    folder.put("signcerts/cert.pem", chain);
    let (msp, signer) = folder.load().unwrap();
    assert_eq!(msp.root_certificates().len(), 2);
    assert_eq!(signer.serialized_identity(), folder.signer.serialized_identity());
}

#[test]
fn config_files() {
    let folder = folder();
    let enabled = |text: &str| {
        folder.put("config.yaml", text);
        let config = folder::load_definition(folder.dir.path(), &folder.org.msp_id).unwrap();
        config.fabric_node_ous.map(|ous| {
            let units = [
                ous.client_ou_identifier,
                ous.peer_ou_identifier,
                ous.admin_ou_identifier,
                ous.orderer_ou_identifier,
            ];
            let named = units.into_iter().flatten();
            named.map(|unit| unit.organizational_unit_identifier).collect::<Vec<_>>().join(" ")
        })
    };
    assert_eq!(enabled(""), None);
    assert_eq!(enabled("# nothing\n"), None);
    assert_eq!(enabled("OrganizationalUnitIdentifiers:\n"), None);
    assert_eq!(enabled("NodeOUs:\n  Enable: false\n"), None);
    assert_eq!(
        enabled(
            "NodeOUs:\n  Enable: true\n  PeerOUIdentifier:\n    Certificate: cacerts/ca.pem\n    \
             OrganizationalUnitIdentifier: p\n  AdminOUIdentifier:\n    \
             OrganizationalUnitIdentifier: \"a\"\n  ClientOUIdentifier:\n"
        )
        .as_deref(),
        Some("p a")
    );
    // Keys that other versions know are not minded.
    assert_eq!(enabled("Future: 1\n"), None);
    folder.put("config.yaml", "NodeOUs: 3\n");
    assert!(matches!(folder.error(), FolderError::Config { .. }));
    let unit = |certificate: &str| {
        format!(
            "OrganizationalUnitIdentifiers:\n- Certificate: {certificate}\n  OrganizationalUnitIdentifier: x\n"
        )
    };
    for outside in ["../ca.pem", "/etc/hostname", "cacerts/../../x"] {
        folder.put("config.yaml", unit(outside));
        assert!(matches!(folder.error(), FolderError::Outside { .. }), "{outside}");
    }
    folder.put("config.yaml", unit("cacerts/missing.pem"));
    assert!(matches!(folder.error(), FolderError::Read { .. }));
}

#[test]
fn folders_that_are_refused() {
    let check = |change: &dyn Fn(&Folder), expected: fn(&FolderError) -> bool| {
        let folder = folder();
        change(&folder);
        let error = folder.error();
        assert!(expected(&error), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(folder.dir.path().to_str().unwrap()), "{text}");
    };
    let remove = |name: &'static str| {
        move |folder: &Folder| {
            fs::remove_dir_all(folder.path(name)).unwrap();
        }
    };
    check(&remove("cacerts"), |e| {
        matches!(e, FolderError::Nothing { what: "root certificate", .. })
    });
    check(&remove("signcerts"), |e| matches!(e, FolderError::Nothing { what: "certificate", .. }));
    check(
        &remove("keystore"),
        |e| matches!(e, FolderError::NoKey { skipped, .. } if skipped.is_empty()),
    );
    check(&|folder| folder.put("cacerts/x.pem", "hello"), |e| {
        matches!(e, FolderError::NoBlock { label: "CERTIFICATE", .. })
    });
    check(&|folder| folder.put("cacerts/x.pem", [0xff, 0xfe]), |e| {
        matches!(e, FolderError::NotText { .. })
    });
    check(&|folder| folder.put("crls/x.pem", "-----BEGIN X509 CRL-----\n"), |e| {
        matches!(e, FolderError::Pem { .. })
    });
    check(&|folder| folder.put("signcerts/second.pem", folder.signer.certificate().pem()), |e| {
        matches!(e, FolderError::SeveralSigners { count: 2, .. })
    });
    check(
        &|folder| {
            let other = PrivateKey::generate().unwrap();
            folder.put("keystore/key.pem", other.to_pkcs8_pem().unwrap());
        },
        |e| matches!(e, FolderError::NoKey { skipped, .. } if skipped[0].1 == KeyProblem::Other),
    );
    check(&|folder| folder.put("keystore/key.pem", "no key"), |e| {
        matches!(e, FolderError::NoKey { skipped, .. }
            if matches!(skipped[0].1, KeyProblem::Unreadable(_)))
    });
}

#[test]
fn a_definition_needs_no_signing_identity() {
    let folder = folder();
    fs::remove_dir_all(folder.path("keystore")).unwrap();
    fs::remove_dir_all(folder.path("signcerts")).unwrap();
    let id = MspId::new("Org1MSP").unwrap();
    assert!(folder::load_definition(folder.dir.path(), &id).is_ok());
}

#[test]
fn key_and_certificate_belong_together() {
    let org = Org::new("Org1MSP");
    let certificate = org.issue("x", &["peer"]);
    let key = PrivateKey::generate().unwrap();
    assert!(SigningIdentity::new(org.msp_id.clone(), certificate, key).is_err());
}
