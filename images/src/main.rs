//! `weft-images`: builds the container images of compiled programs as archives, and checks
//! archives.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use weft_images::build::Builder;
use weft_images::sbom::Crates;
use weft_images::{check, spec};

#[derive(Parser)]
#[command(name = "weft-images", version, about = "Builds Weft's container images")]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Write an archive and a software bill of materials for each image.
    Build(BuildArgs),
    /// Say what is wrong with archives; fail when something is.
    Check {
        /// Archives.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct BuildArgs {
    /// The folder of the compiled programs.
    #[arg(long, value_name = "DIR")]
    bin_dir: PathBuf,
    /// Where to write the archives.
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// The workspace that the programs were compiled from.
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// Registry and path before the images' names, such as `registry.example/weft/`.
    #[arg(long, env = "IMAGE_PREFIX", default_value = "")]
    prefix: String,
    /// The commit that the programs were compiled from; git is asked by default.
    #[arg(long)]
    revision: Option<String>,
    /// The time of everything in the images, in seconds since 1970; by default the commit's.
    #[arg(long, env = "SOURCE_DATE_EPOCH")]
    time: Option<u64>,
    /// Where the source can be had.
    #[arg(long, value_name = "URL", env = "IMAGE_SOURCE")]
    source_url: Option<String>,
    /// Images to build; all by default.
    images: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Subcommands::Build(args) => build(args),
        Subcommands::Check { files } => check_files(&files),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(args: BuildArgs) -> anyhow::Result<()> {
    let images = match args.images.as_slice() {
        [] => spec::IMAGES.iter().collect(),
        names => names
            .iter()
            .map(|name| spec::by_name(name).with_context(|| format!("no image is named {name}")))
            .collect::<anyhow::Result<Vec<_>>>()?,
    };
    let revision = match args.revision {
        Some(revision) => revision,
        None => revision_of(&args.source)?,
    };
    let time = match args.time {
        Some(time) => time,
        None => git(&args.source, &["log", "-1", "--format=%ct"])
            .and_then(|text| text.parse().context("failed to read the commit's time"))
            .context("set SOURCE_DATE_EPOCH")?,
    };
    // The programs are compiled together, whichever images are built.
    let packages: Vec<&str> = spec::IMAGES.iter().map(|image| image.package).collect();
    let builder = Builder {
        crates: Crates::load(&args.source, &packages)?,
        programs: args.bin_dir,
        source: args.source,
        revision,
        time,
        prefix: args.prefix,
        source_url: args.source_url,
    };
    fs::create_dir_all(&args.out)
        .with_context(|| format!("failed to make {}", args.out.display()))?;
    let mut out = io::stdout();
    for image in images {
        let built =
            builder.build(image).with_context(|| format!("failed to build {}", image.name))?;
        write(&args.out.join(format!("{}.tar", image.name)), &built.archive)?;
        write(&args.out.join(format!("{}.cdx.json", image.name)), &built.sbom)?;
        writeln!(
            out,
            "{:<24} {}  {:>5.1} MiB, {:>5.1} MiB unpacked",
            built.reference,
            built.digest,
            mebibytes(built.packed),
            mebibytes(built.unpacked)
        )
        .context("failed to print")?;
    }
    Ok(())
}

fn check_files(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut bad = 0;
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        let problems = check::problems(&bytes)
            .with_context(|| format!("failed to check {}", file.display()))?;
        for problem in &problems {
            eprintln!("{}: {problem}", file.display());
        }
        bad += usize::from(!problems.is_empty());
    }
    if bad > 0 {
        bail!("{bad} of {} images are not as they should be", files.len());
    }
    Ok(())
}

/// The commit, marked when what was compiled may differ from it.
fn revision_of(source: &Path) -> anyhow::Result<String> {
    let revision = git(source, &["rev-parse", "HEAD"]).context("give --revision")?;
    let changes = git(source, &["status", "--porcelain", "--untracked-files=no"])?;
    Ok(if changes.is_empty() { revision } else { format!("{revision}-dirty") })
}

fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .context("failed to run git")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run git {}: {}", arguments.join(" "), reason.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("failed to write {}", path.display()))
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
