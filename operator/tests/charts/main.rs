//! The Helm charts, read without a cluster and without Helm: what in them is generated is as the
//! kinds say, what they document is there, permissions are the ones that were decided on, and
//! what rules and dashboards ask for exists.
//!
//! `WEFT_UPDATE=1` writes what is generated instead of comparing it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod generated;
mod monitoring;
mod pods;
mod rbac;
mod readme;
mod schema;
mod values;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of the files of a folder that end so, in order.
fn files(folder: &str, suffix: &str) -> Vec<String> {
    let entries =
        std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(suffix))
        .collect();
    names.sort();
    names
}

/// Texts of a folder's files of that suffix, folders in it included.
fn texts_below(folder: &str, suffix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(texts_below(&path, suffix));
        } else if path.ends_with(suffix) {
            let text = text(&path);
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// Compares a generated file with what it should be, or writes it.
fn check_or_write(path: &str, expected: &str) {
    if std::env::var_os("WEFT_UPDATE").is_some() {
        std::fs::write(root().join(path), expected).unwrap();
        return;
    }
    assert!(text(path) == expected, "{path} is not as generated: run `make fix`");
}
