//! The files of a report, and the archive that they become. Pure.

use std::collections::BTreeMap;
use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use weft_types::Timestamp;

use super::redact;
use crate::cli::report as told;

/// Folder of the archive under which everything is.
const ROOT: &str = "weft-report";

/// Files by path. There is one way in, and it takes secrets out.
#[derive(Default)]
pub(super) struct Bundle {
    files: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Bundle {
    /// Adds a file, without what is secret in it.
    pub(super) fn add(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), redact::text(text));
    }

    /// Adds a value as YAML, without what is secret in it.
    pub(super) fn add_value(&mut self, path: &str, value: &Value) {
        match serde_yaml::to_string(value) {
            Ok(text) => self.add(path, &text),
            Err(error) => self.note(format!("{path}: {error}")),
        }
    }

    /// Notes what could not be had.
    pub(super) fn problem(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.note(told(error));
    }

    /// Notes what could not be had.
    pub(super) fn note(&mut self, text: String) {
        self.problems.push(redact::text(&text));
    }

    /// What could not be had.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Number of files.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The files as a compressed archive; what could not be had is in `missing.txt`.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(super) fn archive(&self, now: Timestamp) -> io::Result<Vec<u8>> {
        let seconds = u64::try_from(now.unix_nanos() / 1_000_000_000).unwrap_or_default();
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let missing: String = self.problems.iter().map(|problem| format!("{problem}\n")).collect();
        let files = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        for (path, text) in files.chain([("missing.txt", missing.as_str())]) {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(seconds);
            archive.append_data(&mut header, format!("{ROOT}/{path}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn no_key_comes_into_the_archive() {
        let key = weft_crypto::PrivateKey::generate().unwrap().to_pkcs8_pem().unwrap();
        let mut bundle = Bundle::default();
        bundle.add("logs/a.log", &format!("started\n{}", key.as_str()));
        bundle.add_value("pods/a.yaml", &serde_json::json!({"deep": {"key": key.as_str()}}));
        bundle.note(format!("failed: {}", key.as_str()));
        let bytes = bundle.archive(Timestamp::new(1_700_000_000, 0).unwrap()).unwrap();
        let mut found = BTreeMap::new();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(entry.path().unwrap().display().to_string(), text);
        }
        let paths: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            ["weft-report/logs/a.log", "weft-report/missing.txt", "weft-report/pods/a.yaml"]
        );
        let body = key.lines().nth(1).unwrap();
        assert!(found.values().all(|text| text.contains("[REDACTED]") && !text.contains(body)));
    }
}
