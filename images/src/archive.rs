//! Archives that container engines load: an OCI image layout in a tar file (OCI image
//! specification 1.1, "Image Layout"), with the `manifest.json` that older Docker engines look for.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde_json::{Value, json};

use crate::digest;
use crate::layer::Packed;

/// The media type of an image's manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image as it goes into an archive.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// Name and tag, such as `weft-node:0.1.0` or `registry.example/weft-node:0.1.0`.
    pub reference: &'a str,
    /// The OCI image configuration.
    pub config: &'a Value,
    /// Layers, the lowest first.
    pub layers: &'a [Packed],
    /// Annotations of the manifest.
    pub annotations: &'a BTreeMap<String, String>,
    /// Modification time of everything, in seconds since 1970.
    pub time: u64,
}

/// An archive and the digest of the manifest in it, by which registries know the image.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The tar file.
    pub bytes: Vec<u8>,
    /// The manifest's digest.
    pub digest: String,
}

/// Writes an archive.
///
/// # Errors
///
/// Never in practice: writing goes to memory.
pub fn write(contents: &Contents<'_>) -> io::Result<Archive> {
    let config = contents.config.to_string().into_bytes();
    let layers: Vec<Value> = contents
        .layers
        .iter()
        .map(|layer| descriptor(LAYER_TYPE, &layer.digest, layer.bytes.len()))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &digest(&config), config.len()),
        "layers": layers,
        "annotations": contents.annotations,
    })
    .to_string()
    .into_bytes();
    let manifest_digest = digest(&manifest);

    let mut entry = descriptor(MANIFEST_TYPE, &manifest_digest, manifest.len());
    let (_, tag) = split_reference(contents.reference);
    entry["annotations"] = json!({
        "io.containerd.image.name": full_reference(contents.reference),
        "org.opencontainers.image.ref.name": tag,
    });
    entry["platform"] = json!({
        "architecture": contents.config["architecture"],
        "os": contents.config["os"],
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let docker = json!([{
        "Config": blob_path(&digest(&config)),
        "RepoTags": [contents.reference],
        "Layers": contents.layers.iter().map(|layer| blob_path(&layer.digest)).collect::<Vec<_>>(),
    }]);

    let mut files = BTreeMap::new();
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files.insert("manifest.json".to_owned(), docker.to_string().into_bytes());
    files.insert(blob_path(&manifest_digest), manifest);
    files.insert(blob_path(&digest(&config)), config);
    for layer in contents.layers {
        files.insert(blob_path(&layer.digest), layer.bytes.clone());
    }
    Ok(Archive { bytes: tar_of(&files, contents.time)?, digest: manifest_digest })
}

/// The files of an archive (or of any tar file) by path.
///
/// # Errors
///
/// When `bytes` are no tar file.
pub fn read(bytes: &[u8]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut contents = Vec::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_end(&mut contents)?;
            files.insert(path, contents);
        }
    }
    Ok(files)
}

/// A tar file of `files`, in their order.
///
/// # Errors
///
/// When a path is too long.
pub fn tar_of(files: &BTreeMap<String, Vec<u8>>, time: u64) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, path, contents.as_slice())?;
    }
    tar.into_inner()
}

/// Where an archive keeps the bytes of a digest.
pub fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// Name and tag. A colon before a slash belongs to a registry's port.
fn split_reference(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// The name as containerd and Kubernetes complete it: what names no registry is Docker's.
pub fn full_reference(reference: &str) -> String {
    let (name, _) = split_reference(reference);
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    }
}
