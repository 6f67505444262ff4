//! Which Debian packages files came from, asked of `dpkg-query`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// A package that a library was copied from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Name without the architecture.
    pub name: String,
    /// Full version.
    pub version: String,
    /// The source package.
    pub source: String,
    /// Debian's name of the architecture.
    pub architecture: String,
}

impl Package {
    /// The package URL (purl-spec, type `deb`).
    pub fn purl(&self, distribution: &Distribution) -> String {
        format!(
            "pkg:deb/{}/{}@{}?arch={}&distro={}-{}",
            distribution.id,
            self.name.replace('+', "%2B"),
            self.version.replace('+', "%2B").replace(':', "%3A").replace('~', "%7E"),
            self.architecture,
            distribution.id,
            distribution.version
        )
    }

    /// Where its licence text is, without a leading slash.
    pub fn copyright(&self) -> String {
        format!("usr/share/doc/{}/copyright", self.name)
    }
}

/// The distribution that libraries come from.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// `ID` of os-release, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`.
    pub version: String,
}

impl Distribution {
    /// Reads `/etc/os-release`.
    ///
    /// # Errors
    ///
    /// When that file cannot be read.
    pub fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/etc/os-release").context("failed to read os-release")?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        Ok(Self {
            id: field("ID").unwrap_or_else(|| "linux".to_owned()),
            version: field("VERSION_ID").unwrap_or_else(|| "unstable".to_owned()),
        })
    }
}

/// The package that owns `file`.
///
/// # Errors
///
/// When there is no `dpkg-query`, or no package owns the file: an image must say what is in it.
pub fn owner(file: &Path) -> anyhow::Result<Package> {
    let name = spellings(file)
        .iter()
        .find_map(|path| search(path))
        .with_context(|| format!("failed to find the Debian package of {}", file.display()))?;
    let format = "${Package}\t${Version}\t${source:Package}\t${Architecture}";
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", format, &name])
        .output()
        .with_context(|| format!("failed to ask dpkg-query about package {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = text.split('\t').collect();
    let [package, version, source, architecture] = fields[..] else {
        bail!("failed to read dpkg-query's answer about package {name}");
    };
    Ok(Package {
        name: package.to_owned(),
        version: version.to_owned(),
        source: source.to_owned(),
        architecture: architecture.to_owned(),
    })
}

/// The package database keeps paths as the package gave them, with or without `/usr`, whatever the
/// merged folders of the running system say.
fn spellings(file: &Path) -> Vec<PathBuf> {
    let mut paths = vec![file.to_owned()];
    paths.extend(file.canonicalize());
    for i in 0..paths.len() {
        match paths[i].strip_prefix("/usr") {
            Ok(rest) => paths.push(Path::new("/").join(rest)),
            Err(_) => {
                paths.push(Path::new("/usr").join(paths[i].strip_prefix("/").unwrap_or(&paths[i])))
            }
        }
    }
    paths
}

fn search(path: &Path) -> Option<String> {
    let output = Command::new("dpkg-query").arg("--search").arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `package:arch: /path`; diversions begin with other words.
    let line = text.lines().find(|line| !line.starts_with("diversion"))?;
    line.rsplit_once(": ").map(|(package, _)| package.to_owned())
}
