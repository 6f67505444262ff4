//! The software bill of materials of an image, in CycloneDX 1.6 JSON: the crates that are linked
//! into its programs, Rust's standard library, and the Debian packages of its libraries.
//!
//! `cargo tree` says which crates are linked, with the features that this build turns on (`cargo
//! metadata` unites the features of the whole workspace, tests included); `cargo metadata` knows
//! their licences. What only runs while building (build scripts, procedural macros) is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::debian::{Distribution, Package};
use crate::digest;
use crate::spec::Image;

/// Name and version of a crate.
pub type CrateId = (String, String);

/// The crates of a workspace that end up in programs.
#[derive(Debug)]
pub struct Crates {
    facts: BTreeMap<CrateId, Facts>,
    links: BTreeMap<CrateId, BTreeSet<CrateId>>,
    rust: String,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Facts>,
}

#[derive(Debug, Deserialize)]
struct Facts {
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    description: Option<String>,
}

/// Everything else that a bill of materials names.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The image.
    pub image: &'a Image,
    /// Debian packages, each with the paths of its files in the image.
    pub packages: &'a BTreeMap<Package, Vec<String>>,
    /// Where they come from.
    pub distribution: &'a Distribution,
    /// When the source was committed, RFC 3339.
    pub time: &'a str,
}

impl Crates {
    /// Asks cargo about the workspace in `folder`, for a build of `packages` together.
    ///
    /// # Errors
    ///
    /// When cargo fails, such as for a lock file that is out of date.
    pub fn load(folder: &Path, packages: &[&str]) -> anyhow::Result<Self> {
        let compiler = run(folder, "RUSTC", "rustc", &["-vV"])?;
        let field = |name: &str| {
            compiler
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::to_owned)
                .with_context(|| format!("failed to find `{name}` in what rustc -vV prints"))
        };
        let (rust, target) = (field("release: ")?, field("host: ")?);
        let arguments =
            ["metadata", "--locked", "--format-version", "1", "--filter-platform", &target];
        let metadata: Metadata = serde_json::from_str(&run(folder, "CARGO", "cargo", &arguments)?)
            .context("failed to read what cargo metadata prints")?;
        let mut arguments = vec!["tree", "--locked", "--edges", "normal,no-proc-macro"];
        arguments.extend(["--prefix", "depth", "--format", " {p}", "--target", &target]);
        for package in packages {
            arguments.extend(["--package", package]);
        }
        let links = parse_tree(&run(folder, "CARGO", "cargo", &arguments)?)?;
        let facts = metadata
            .packages
            .into_iter()
            .map(|facts| ((facts.name.clone(), facts.version.clone()), facts))
            .collect();
        Ok(Self { facts, links, rust })
    }

    /// The version of a package of the workspace.
    ///
    /// # Errors
    ///
    /// When the build does not have it.
    pub fn version(&self, package: &str) -> anyhow::Result<&str> {
        let found = self.links.keys().find(|(name, _)| name == package);
        let (_, version) = found.with_context(|| format!("failed to find package {package}"))?;
        Ok(version)
    }

    /// All crates that `package` links, itself among them.
    ///
    /// # Errors
    ///
    /// When the build does not have it.
    pub fn linked(&self, package: &str) -> anyhow::Result<BTreeSet<CrateId>> {
        let root = (package.to_owned(), self.version(package)?.to_owned());
        let mut linked = BTreeSet::new();
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if linked.insert(id.clone()) {
                open.extend(self.links.get(&id).into_iter().flatten().cloned());
            }
        }
        Ok(linked)
    }

    /// The bill of materials.
    ///
    /// # Errors
    ///
    /// When the image's package is not in the build, or cargo knows nothing of a crate.
    pub fn bill(&self, parts: &Parts<'_>) -> anyhow::Result<Value> {
        let linked = self.linked(parts.image.package)?;
        let root = (parts.image.package.to_owned(), self.version(parts.image.package)?.to_owned());
        let standard = format!("pkg:generic/rust-std@{}", self.rust);
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        for id in &linked {
            let below = self.links.get(id).into_iter().flatten().map(purl);
            let mut below: Vec<String> = below.collect();
            if *id == root {
                below.push(standard.clone());
                below.extend(parts.packages.keys().map(|package| package.purl(parts.distribution)));
            } else {
                components.push(self.component(id, "library")?);
            }
            dependencies.push(json!({ "ref": purl(id), "dependsOn": below }));
        }
        components.push(json!({
            "type": "library",
            "bom-ref": standard,
            "name": "rust-std",
            "version": self.rust,
            "purl": standard,
            "description": "The standard library of the Rust toolchain",
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        }));
        for (package, files) in parts.packages {
            components.push(debian_component(package, files, parts.distribution));
        }
        let mut bill = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "timestamp": parts.time,
                "lifecycles": [{ "phase": "build" }],
                "component": self.component(&root, "application")?,
                "properties": [
                    { "name": "weft:image", "value": parts.image.name },
                    { "name": "weft:programs", "value": parts.image.programs.join(" ") },
                ],
            },
            "components": components,
            "dependencies": dependencies,
        });
        bill["serialNumber"] = json!(serial_number(&bill));
        Ok(bill)
    }

    fn component(&self, id: &CrateId, kind: &str) -> anyhow::Result<Value> {
        let facts = self
            .facts
            .get(id)
            .with_context(|| format!("failed to find crate {} {} in the metadata", id.0, id.1))?;
        let mut component = json!({
            "type": kind,
            "bom-ref": purl(id),
            "name": id.0,
            "version": id.1,
            "purl": purl(id),
        });
        if let Some(license) = &facts.license {
            // Before SPDX expressions, a slash stood for OR.
            let expression = license.replace(" / ", "/").replace('/', " OR ");
            component["licenses"] = json!([{ "expression": expression }]);
        }
        if let Some(text) = &facts.description {
            component["description"] = json!(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if let Some(address) = &facts.repository {
            component["externalReferences"] = json!([{ "type": "vcs", "url": address }]);
        }
        Ok(component)
    }
}

fn debian_component(package: &Package, files: &[String], distribution: &Distribution) -> Value {
    let purl = package.purl(distribution);
    let places: Vec<Value> =
        files.iter().map(|path| json!({ "location": format!("/{path}") })).collect();
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "licenses": [{ "license": { "name": format!("see /{}", package.copyright()) } }],
        "evidence": { "occurrences": places },
        "properties": [{ "name": "weft:debian:source", "value": package.source }],
    })
}

/// The package URL of a crate (purl-spec, type `cargo`).
fn purl((name, version): &CrateId) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// A UUID (version 8, RFC 9562) that follows from the contents: equal bills have equal numbers.
fn serial_number(bill: &Value) -> String {
    let digest = digest(bill.to_string().as_bytes());
    let hex: String = digest.chars().skip("sha256:".len()).take(32).collect();
    format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// Who links whom, from lines such as `2 tokio v1.52.0 (*)`: depth, then the crate. A star stands
/// for a crate whose own lines came before.
fn parse_tree(text: &str) -> anyhow::Result<BTreeMap<CrateId, BTreeSet<CrateId>>> {
    let mut links: BTreeMap<CrateId, BTreeSet<CrateId>> = BTreeMap::new();
    let mut path: Vec<CrateId> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [depth, name, version, ..] = words[..] else {
            bail!("failed to read cargo tree's line {line:?}");
        };
        let depth: usize = depth.parse().with_context(|| format!("failed to read {line:?}"))?;
        let version = version.strip_prefix('v').unwrap_or(version);
        let id = (name.to_owned(), version.to_owned());
        if depth > path.len() {
            bail!("failed to read cargo tree's line {line:?}: it has no parent");
        }
        path.truncate(depth);
        if let Some(parent) = path.last() {
            links.entry(parent.clone()).or_default().insert(id.clone());
        }
        links.entry(id.clone()).or_default();
        path.push(id);
    }
    Ok(links)
}

/// What a program of the toolchain prints. `variable` names the program when cargo runs us.
fn run(folder: &Path, variable: &str, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var_os(variable).unwrap_or_else(|| name.into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .with_context(|| format!("failed to run {name}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run {name} {}: {}", arguments.join(" "), reason.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("failed to read {name}'s output"))
}
