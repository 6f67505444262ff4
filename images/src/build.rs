//! Puts an image together: a layer of libraries, a layer of programs, configuration, archive.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::{self, Contents};
use crate::debian::{self, Distribution, Package};
use crate::layer::{Layer, Packed};
use crate::libraries::{self, Library};
use crate::sbom::{Crates, Parts};
use crate::spec::{DATA, Image, LICENCE, SBOM, USER};
use crate::{check, digest};

/// What builds of all images have in common.
#[derive(Debug)]
pub struct Builder {
    /// The folder of the compiled programs.
    pub programs: PathBuf,
    /// The workspace that they were compiled from.
    pub source: PathBuf,
    /// The commit they were compiled from.
    pub revision: String,
    /// When that commit was made, in seconds since 1970: the time of everything in the images.
    pub time: u64,
    /// What stands before the images' names, such as `registry.example/weft/`; may be empty.
    pub prefix: String,
    /// Where the source can be had, if it is published.
    pub source_url: Option<String>,
    /// The crates of the workspace.
    pub crates: Crates,
}

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// Name and tag.
    pub reference: String,
    /// The digest by which registries know it.
    pub digest: String,
    /// The archive.
    pub archive: Vec<u8>,
    /// The bill of materials, as it is in the image too.
    pub sbom: Vec<u8>,
    /// Size of the layers as they are sent, in bytes.
    pub packed: u64,
    /// Size of the layers unpacked, in bytes.
    pub unpacked: u64,
}

impl Builder {
    /// Builds one image and checks it.
    ///
    /// # Errors
    ///
    /// When a program is missing, a library has no known origin, or the finished image fails
    /// [`check::problems`].
    pub fn build(&self, image: &Image) -> anyhow::Result<Built> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let programs = self.strip(image, folder.path())?;
        let libraries = libraries::of(&programs)?;
        let packages = packages_of(&libraries)?;
        let time = self.time_text()?;
        let version = self.crates.version(image.package)?;
        let bill = self.crates.bill(&Parts {
            image,
            packages: &packages,
            distribution: &Distribution::read()?,
            time: &time,
        })?;
        let sbom = serde_json::to_vec_pretty(&bill).context("failed to write the SBOM")?;
        let layers = [
            self.base(&libraries, &packages)?.pack(self.time),
            self.program_layer(&programs, &sbom)?.pack(self.time),
        ]
        .into_iter()
        .collect::<Result<Vec<Packed>, _>>()
        .context("failed to pack a layer")?;
        let labels = self.labels(image, version, &time, &sbom);
        let config = configuration(image, &layers, &labels, &time)?;
        let reference = format!("{}{}:{version}", self.prefix, image.name);
        let archive = archive::write(&Contents {
            reference: &reference,
            config: &config,
            layers: &layers,
            annotations: &labels,
            time: self.time,
        })
        .context("failed to write the archive")?;
        let problems = check::problems(&archive.bytes)?;
        if !problems.is_empty() {
            bail!("image {reference} is not as it should be: {}", problems.join("; "));
        }
        Ok(Built {
            reference,
            digest: archive.digest,
            archive: archive.bytes,
            sbom,
            packed: layers.iter().map(|layer| layer.bytes.len() as u64).sum(),
            unpacked: layers.iter().map(|layer| layer.unpacked).sum(),
        })
    }

    /// Copies of the programs without symbol tables; the build id stays.
    fn strip(&self, image: &Image, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let mut programs = Vec::new();
        for name in image.programs {
            let from = self.programs.join(name);
            let to = folder.join(name);
            let output = Command::new("strip")
                .args(["--strip-all", "-o"])
                .args([&to, &from])
                .output()
                .context("failed to run strip, of Debian's package binutils")?;
            if !output.status.success() {
                let reason = String::from_utf8_lossy(&output.stderr);
                bail!("failed to strip {}: {}", from.display(), reason.trim());
            }
            programs.push(to);
        }
        Ok(programs)
    }

    /// What is not ours. Images that link the same libraries share this layer.
    fn base(
        &self,
        libraries: &[Library],
        packages: &BTreeMap<Package, Vec<String>>,
    ) -> anyhow::Result<Layer> {
        let mut layer = Layer::default();
        let user = format!("weft:x:{USER}:{USER}:Weft:/{DATA}:/sbin/nologin\n");
        layer.file("etc/passwd", user.into_bytes(), false);
        layer.file("etc/group", format!("weft:x:{USER}:\n").into_bytes(), false);
        // The file of hosts before DNS, as everywhere; the C library's own default differs.
        layer.file("etc/nsswitch.conf", b"hosts: files dns\n".to_vec(), false);
        layer.users_folder(DATA);
        layer.shared_folder("tmp");
        for library in libraries {
            layer.file(&library.path, library.contents.clone(), library.loader);
        }
        for package in packages.keys() {
            let path = package.copyright();
            let text = fs::read(Path::new("/").join(&path))
                .with_context(|| format!("failed to read the licence of {}", package.name))?;
            layer.file(&path, text, false);
        }
        Ok(layer)
    }

    fn program_layer(&self, programs: &[PathBuf], sbom: &[u8]) -> anyhow::Result<Layer> {
        let mut layer = Layer::default();
        for program in programs {
            let contents = fs::read(program)
                .with_context(|| format!("failed to read {}", program.display()))?;
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            layer.file(&format!("usr/bin/{name}"), contents, true);
        }
        let licence = fs::read(self.source.join("LICENSE")).context("failed to read LICENSE")?;
        layer.file(LICENCE, licence, false);
        layer.file(SBOM, sbom.to_vec(), false);
        Ok(layer)
    }

    fn labels(
        &self,
        image: &Image,
        version: &str,
        time: &str,
        sbom: &[u8],
    ) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut add = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
        add("org.opencontainers.image.title", image.name);
        add("org.opencontainers.image.description", image.description);
        add("org.opencontainers.image.version", version);
        add("org.opencontainers.image.revision", &self.revision);
        add("org.opencontainers.image.created", time);
        add("org.opencontainers.image.licenses", "Apache-2.0");
        if let Some(address) = &self.source_url {
            add("org.opencontainers.image.source", address);
        }
        add("dev.weft.sbom", &format!("/{SBOM}"));
        add("dev.weft.sbom.digest", &digest(sbom));
        labels
    }

    fn time_text(&self) -> anyhow::Result<String> {
        i64::try_from(self.time)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(&Rfc3339).ok())
            .with_context(|| format!("failed to write time {} as a date", self.time))
    }
}

fn packages_of(libraries: &[Library]) -> anyhow::Result<BTreeMap<Package, Vec<String>>> {
    let mut packages: BTreeMap<Package, Vec<String>> = BTreeMap::new();
    for library in libraries {
        packages.entry(debian::owner(&library.file)?).or_default().push(library.path.clone());
    }
    Ok(packages)
}

/// The OCI image configuration.
fn configuration(
    image: &Image,
    layers: &[Packed],
    labels: &BTreeMap<String, String>,
    time: &str,
) -> anyhow::Result<Value> {
    let ports: BTreeMap<String, Value> =
        image.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    let entry = image.programs.first().context("failed to find a program to start")?;
    let mut config = json!({
        "User": format!("{USER}:{USER}"),
        "Env": image.environment,
        "Entrypoint": [format!("/usr/bin/{entry}")],
        "WorkingDir": format!("/{DATA}"),
        "Labels": labels,
        "StopSignal": "SIGTERM",
    });
    if !ports.is_empty() {
        config["ExposedPorts"] = json!(ports);
    }
    Ok(json!({
        "created": time,
        "architecture": architecture()?,
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>(),
        },
        "history": [
            { "created": time, "created_by": "weft-images", "comment": "libraries" },
            { "created": time, "created_by": "weft-images", "comment": "programs" },
        ],
    }))
}

/// Go's name of this machine's architecture, which OCI uses.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images for {other} are not known"),
    }
}
