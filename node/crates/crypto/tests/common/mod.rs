#![allow(dead_code)]

use std::{path::PathBuf, process::Command};

use weft_crypto::{
    CaProfile, CertificateAuthority, LeafProfile, LeafUsage, Name, PrivateKey, SubjectAltName,
    Timestamp, Validity,
};

/// The openssl command line in a folder of its own.
pub struct Openssl {
    dir: tempfile::TempDir,
}

impl Openssl {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `openssl` with these arguments (separated by spaces) and gives what it prints.
    pub fn run(&self, arguments: &str) -> String {
        let (ok, out, err) = self.attempt(arguments);
        assert!(ok, "openssl {arguments}: {err}");
        out
    }

    /// As [`Self::run`]; says whether it succeeded.
    pub fn attempt(&self, arguments: &str) -> (bool, String, String) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .expect("the openssl command runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }
}

pub const DAY: i64 = 86_400;

/// 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600;

pub fn days(from: i64, to: i64) -> Validity {
    Validity {
        not_before: Timestamp::from_seconds(START + from * DAY),
        not_after: Timestamp::from_seconds(START + to * DAY),
    }
}

pub fn ca_profile(cn: &str) -> CaProfile {
    CaProfile {
        name: Name { organization: Some("Org1".to_owned()), ..Name::common(cn) },
        validity: days(0, 7300),
        max_path_len: None,
    }
}

pub fn root() -> CertificateAuthority {
    CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &ca_profile("root")).unwrap()
}

pub fn identity(cn: &str) -> LeafProfile {
    LeafProfile {
        name: Name {
            organization: None,
            units: vec!["client".to_owned(), "org1".to_owned()],
            common_name: cn.to_owned(),
        },
        sans: Vec::new(),
        usage: LeafUsage::Identity,
        validity: days(0, 3650),
    }
}

pub fn tls(cn: &str) -> LeafProfile {
    LeafProfile {
        name: Name::common(cn),
        sans: vec![
            SubjectAltName::host("peer0.org1"),
            SubjectAltName::host("127.0.0.1"),
            SubjectAltName::host("::1"),
        ],
        usage: LeafUsage::Tls,
        validity: days(0, 3650),
    }
}
