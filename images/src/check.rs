//! Reads an archive back and says what an image of ours must not be: runnable as root, holding a
//! shell, lacking a library, or silent about what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::archive::{self, blob_path};
use crate::digest;
use crate::elf::{self, Elf};
use crate::spec::{DATA, SBOM, USER};

/// Programs that run commands given to them.
const SHELLS: &[&str] = &[
    "ash", "bash", "busybox", "csh", "dash", "env", "fish", "ksh", "lua", "perl", "python",
    "python3", "sh", "tcsh", "toybox", "zsh",
];

/// A file or folder of an image.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: tar::EntryType,
    /// Permissions.
    pub mode: u32,
    /// Owning user.
    pub user: u64,
    /// Contents of a file.
    pub contents: Vec<u8>,
}

/// An image out of an archive.
#[derive(Debug)]
pub struct Image {
    /// Name and tag.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The OCI image configuration.
    pub config: Value,
    /// Everything in it by path, without leading and trailing slashes.
    pub nodes: BTreeMap<String, Node>,
}

/// Reads an archive that holds one image.
///
/// # Errors
///
/// When it is no such archive, or a digest in it is not that of the bytes.
pub fn open(bytes: &[u8]) -> anyhow::Result<Image> {
    let files = archive::read(bytes).context("failed to read the archive")?;
    let index = document(&files, "index.json")?;
    let entry = &index["manifests"][0];
    let manifest_bytes = blob(&files, entry)?;
    let manifest: Value =
        serde_json::from_slice(manifest_bytes).context("failed to read the manifest")?;
    let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])?)
        .context("failed to read the configuration")?;
    let layers = manifest["layers"].as_array().context("failed to find layers")?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array().context("failed to find diff_ids")?;
    if layers.len() != diff_ids.len() {
        bail!("the manifest has {} layers, the configuration {}", layers.len(), diff_ids.len());
    }
    let docker = document(&files, "manifest.json")?;
    let mut nodes = BTreeMap::new();
    for (i, (layer, diff_id)) in layers.iter().zip(diff_ids).enumerate() {
        let mut plain = Vec::new();
        GzDecoder::new(blob(&files, layer)?)
            .read_to_end(&mut plain)
            .context("failed to unpack a layer")?;
        if Some(digest(&plain).as_str()) != diff_id.as_str() {
            bail!("layer {i} is not the one of the configuration");
        }
        let path = layer["digest"].as_str().map(blob_path);
        if docker[0]["Layers"][i].as_str().map(str::to_owned) != path {
            bail!("manifest.json names another layer {i} than the manifest");
        }
        add_layer(&plain, &mut nodes).context("failed to read a layer")?;
    }
    let reference = docker[0]["RepoTags"][0].as_str().context("failed to find the name")?;
    Ok(Image {
        reference: reference.to_owned(),
        digest: digest(manifest_bytes),
        manifest,
        config,
        nodes,
    })
}

/// What is wrong with an image; empty when nothing is.
///
/// # Errors
///
/// When the archive cannot be read.
pub fn problems(bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let image = open(bytes)?;
    let mut problems = Vec::new();
    image.check_user(&mut problems);
    image.check_nodes(&mut problems);
    image.check_programs(&mut problems);
    image.check_bill(&mut problems);
    Ok(problems)
}

impl Image {
    /// The ELF files in it.
    pub fn elves(&self) -> BTreeMap<&str, Elf> {
        let files = self.nodes.iter().filter(|(_, node)| elf::is_elf(&node.contents));
        files
            .filter_map(|(path, node)| Some((path.as_str(), elf::parse(&node.contents).ok()?)))
            .collect()
    }

    /// The bill of materials, if there is one.
    pub fn bill(&self) -> Option<Value> {
        serde_json::from_slice(&self.nodes.get(SBOM)?.contents).ok()
    }

    fn check_user(&self, problems: &mut Vec<String>) {
        let user = self.config["config"]["User"].as_str().unwrap_or_default();
        let ids: Option<Vec<u32>> = user.split(':').map(|id| id.parse().ok()).collect();
        match ids {
            Some(ids) if ids.len() == 2 && !ids.contains(&0) => {}
            _ => problems.push(format!("user {user:?} is not a numeric user and group above 0")),
        }
        let name = |file: &str| {
            let node = self.nodes.get(file)?;
            let text = String::from_utf8_lossy(&node.contents).into_owned();
            text.lines().any(|line| line.split(':').nth(2) == Some(&USER.to_string())).then_some(())
        };
        for file in ["etc/passwd", "etc/group"] {
            if name(file).is_none() {
                problems.push(format!("/{file} has no line of {USER}"));
            }
        }
    }

    fn check_nodes(&self, problems: &mut Vec<String>) {
        for (path, node) in &self.nodes {
            let name = path.rsplit('/').next().unwrap_or(path);
            if !node.kind.is_file() && !node.kind.is_dir() {
                problems.push(format!("/{path} is neither file nor folder"));
            }
            if node.kind.is_file() && SHELLS.contains(&name) {
                problems.push(format!("/{path} is a shell"));
            }
            if node.contents.starts_with(b"#!") {
                problems.push(format!("/{path} is a script"));
            }
            if node.mode & 0o6000 != 0 {
                problems.push(format!("/{path} runs as its owner"));
            }
            let executable = node.kind.is_file() && node.mode & 0o111 != 0;
            if executable && !elf::is_elf(&node.contents) {
                problems.push(format!("/{path} is executable and no program"));
            }
            let own = path == DATA && node.kind.is_dir();
            if node.user != 0 && !own {
                problems.push(format!("/{path} belongs to user {}", node.user));
            }
            let sticky = node.kind.is_dir() && node.mode & 0o1000 != 0;
            if node.mode & 0o022 != 0 && !own && !sticky {
                problems.push(format!("/{path} can be written by others than root"));
            }
        }
        match self.nodes.get(DATA) {
            Some(node) if node.kind.is_dir() && node.user == u64::from(USER) => {}
            _ => problems.push(format!("/{DATA} is no folder of user {USER}")),
        }
        let inside = format!("{DATA}/");
        if self.nodes.keys().any(|path| path.starts_with(&inside)) {
            problems.push(format!("/{DATA} is not empty"));
        }
    }

    fn check_programs(&self, problems: &mut Vec<String>) {
        let entry = self.config["config"]["Entrypoint"][0].as_str().unwrap_or_default();
        let elves = self.elves();
        if !elves.contains_key(entry.trim_start_matches('/')) {
            problems.push(format!("the entry point {entry:?} is no program in the image"));
        }
        // The loader finds a library by its file name, in the one folder that has them.
        let there: BTreeSet<&str> =
            elves.keys().filter_map(|path| path.rsplit('/').next()).collect();
        for (path, elf) in &elves {
            for library in elf.needed.iter().filter(|name| !there.contains(name.as_str())) {
                problems.push(format!("/{path} needs {library}, which is missing"));
            }
            if let Some(loader) = &elf.interpreter
                && !elves.contains_key(loader.trim_start_matches('/'))
            {
                problems.push(format!("/{path} needs the loader {loader}, which is missing"));
            }
            if elf.symbols {
                problems.push(format!("/{path} still has its symbol table"));
            }
        }
    }

    fn check_bill(&self, problems: &mut Vec<String>) {
        let Some(bill) = self.bill() else {
            problems.push(format!("/{SBOM} is missing or no JSON"));
            return;
        };
        check_bill_form(&bill, problems);
        let described = bill["components"].as_array().into_iter().flatten();
        let described: BTreeSet<&str> = described
            .flat_map(|component| component["evidence"]["occurrences"].as_array())
            .flatten()
            .filter_map(|place| place["location"].as_str())
            .collect();
        for path in self.elves().keys().filter(|path| !path.starts_with("usr/bin/")) {
            if !described.contains(format!("/{path}").as_str()) {
                problems.push(format!("the SBOM does not say where /{path} comes from"));
            }
        }
        let label = self.config["config"]["Labels"]["dev.weft.sbom.digest"].as_str();
        let contents = self.nodes.get(SBOM).map(|node| digest(&node.contents));
        if label != contents.as_deref() {
            problems.push("the SBOM is not the one of the label".to_owned());
        }
    }
}

/// The rules of CycloneDX 1.6 that our bills could break: required fields, references that are
/// unique and lead somewhere, the forms of serial number and licences.
pub fn check_bill_form(bill: &Value, problems: &mut Vec<String>) {
    let mut problem = |text: String| problems.push(format!("SBOM: {text}"));
    if bill["bomFormat"] != "CycloneDX" || bill["specVersion"] != "1.6" {
        problem("not CycloneDX 1.6".to_owned());
    }
    if bill["version"].as_u64().is_none_or(|version| version == 0) {
        problem("version is no number above 0".to_owned());
    }
    let serial = bill["serialNumber"].as_str().unwrap_or_default();
    let groups: Vec<usize> =
        serial.trim_start_matches("urn:uuid:").split('-').map(str::len).collect();
    if !serial.starts_with("urn:uuid:") || groups != [8, 4, 4, 4, 12] {
        problem(format!("serial number {serial:?} is no UUID"));
    }
    let mut references = BTreeSet::new();
    let components = bill["components"].as_array().into_iter().flatten();
    for component in std::iter::once(&bill["metadata"]["component"]).chain(components) {
        for field in ["type", "name", "version", "purl", "bom-ref"] {
            if component[field].as_str().is_none_or(str::is_empty) {
                problem(format!("component {} has no {field}", component["name"]));
            }
        }
        if component["licenses"].as_array().is_none_or(Vec::is_empty) {
            problem(format!("component {} has no licence", component["name"]));
        }
        if let Some(reference) = component["bom-ref"].as_str()
            && !references.insert(reference)
        {
            problem(format!("{reference} is there twice"));
        }
    }
    let mut reached = BTreeSet::new();
    for dependency in bill["dependencies"].as_array().into_iter().flatten() {
        let below = dependency["dependsOn"].as_array().into_iter().flatten();
        for reference in std::iter::once(&dependency["ref"]).chain(below) {
            let reference = reference.as_str().unwrap_or_default();
            reached.insert(reference);
            if !references.contains(reference) {
                problem(format!("{reference:?} is no component"));
            }
        }
    }
    for reference in references.difference(&reached) {
        problem(format!("nothing depends on {reference}"));
    }
}

fn document(files: &BTreeMap<String, Vec<u8>>, path: &str) -> anyhow::Result<Value> {
    let bytes = files.get(path).with_context(|| format!("failed to find {path}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("failed to read {path}"))
}

/// The bytes that a descriptor stands for.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, entry: &Value) -> anyhow::Result<&'a [u8]> {
    let name = entry["digest"].as_str().context("failed to find a digest")?;
    let bytes = files.get(&blob_path(name)).with_context(|| format!("failed to find {name}"))?;
    if digest(bytes) != name || entry["size"].as_u64() != Some(bytes.len() as u64) {
        bail!("{name} is not the digest and size of its bytes");
    }
    Ok(bytes)
}

fn add_layer(plain: &[u8], nodes: &mut BTreeMap<String, Node>) -> anyhow::Result<()> {
    for entry in tar::Archive::new(plain).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_matches('/').to_owned();
        let header = entry.header();
        let (kind, mode, user) = (header.entry_type(), header.mode()?, header.uid()?);
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents)?;
        nodes.insert(path, Node { kind, mode, user, contents });
    }
    Ok(())
}
