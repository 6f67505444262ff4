//! The shared libraries that programs link, found with their own dynamic loader.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::elf::{self, Elf};

/// A file to copy into an image.
#[derive(Clone, Debug)]
pub struct Library {
    /// Path in the image, without a leading slash.
    pub path: String,
    /// The file on this machine.
    pub file: PathBuf,
    /// Contents.
    pub contents: Vec<u8>,
    /// Whether it is the loader, which the kernel executes.
    pub loader: bool,
}

/// Libraries by path in the image, those of all `programs` together, the loader among them.
///
/// All libraries go to the folder of the C library: the loader looks there without a cache and
/// without settings. Links are followed, names are those that programs link by.
///
/// # Errors
///
/// When a program cannot be read, is linked statically, or a library is not found.
pub fn of(programs: &[PathBuf]) -> anyhow::Result<Vec<Library>> {
    let mut found = BTreeMap::new();
    let mut loaders = BTreeMap::new();
    for program in programs {
        let elf = read(program)?;
        let loader = elf
            .interpreter
            .with_context(|| format!("{} names no dynamic loader", program.display()))?;
        for (name, file) in list(Path::new(&loader), program)? {
            found.insert(name, file);
        }
        loaders.insert(loader.clone(), PathBuf::from(loader));
    }
    let folder = found
        .get("libc.so.6")
        .and_then(|file| file.parent())
        .context("failed to find libc.so.6 among the libraries of the programs")?
        .strip_prefix("/")
        .context("failed to use a relative path of libc.so.6")?
        .display()
        .to_string();
    let mut libraries = Vec::new();
    for (path, file) in loaders {
        libraries.push(library(path.trim_start_matches('/').to_owned(), file, true)?);
    }
    for (name, file) in found {
        libraries.push(library(format!("{folder}/{name}"), file, false)?);
    }
    libraries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(libraries)
}

fn library(path: String, file: PathBuf, loader: bool) -> anyhow::Result<Library> {
    let contents =
        fs::read(&file).with_context(|| format!("failed to read library {}", file.display()))?;
    Ok(Library { path, file, contents, loader })
}

fn read(program: &Path) -> anyhow::Result<Elf> {
    let bytes =
        fs::read(program).with_context(|| format!("failed to read {}", program.display()))?;
    elf::parse(&bytes).with_context(|| format!("failed to read {}", program.display()))
}

/// Names and files of everything that the loader would load for `program` (`ld.so --list`).
fn list(loader: &Path, program: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let output = Command::new(loader)
        .arg("--list")
        .arg(program)
        // What a developer preloads is no part of the program.
        .env_remove("LD_PRELOAD")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .with_context(|| format!("failed to run {}", loader.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "failed to list the libraries of {}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let mut libraries = Vec::new();
    for line in text.lines() {
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`; the kernel's and the loader's own
        // lines have no arrow.
        let Some((name, rest)) = line.trim().split_once(" => ") else { continue };
        let Some((file, _)) = rest.rsplit_once(" (") else {
            bail!("failed to find library {name} of {}", program.display());
        };
        if Path::new(name).is_absolute() {
            continue;
        }
        libraries.push((name.to_owned(), PathBuf::from(file)));
    }
    Ok(libraries)
}
