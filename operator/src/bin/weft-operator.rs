//! `weft-operator`: brings networks in a Kubernetes cluster to what their objects say. It also
//! prints, writes and checks what is generated from the kinds' types: the
//! CustomResourceDefinitions in `crds/` and the reference pages in `docs/`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use kube::ResourceExt;
use weft_operator::cluster::run::RunArgs;
use weft_operator::{api, cluster, reference};

#[derive(Parser)]
#[command(name = "weft-operator", version, about = "The operator of weft.dev networks")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the cluster that it is in, or that the kubeconfig names.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions, or keep a folder of them.
    Crd(FolderArgs),
    /// Print the reference pages on the manifest and the node's settings, or keep them in a
    /// folder.
    Docs(FolderArgs),
}

#[derive(Args)]
#[group(multiple = false)]
struct FolderArgs {
    /// Write the files into this folder.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Fail when this folder differs from what would be written.
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let (args, files) = match cli.command {
        Command::Run(args) => return run_operator(*args),
        Command::Crd(args) => (args, crds()?),
        Command::Docs(args) => (args, reference::pages()?),
    };
    if let Some(folder) = args.write {
        return write(&folder, &files);
    }
    if let Some(folder) = args.check {
        return check(&folder, &files);
    }
    for (_, text) in files {
        print!("{text}");
    }
    Ok(())
}

fn run_operator(args: RunArgs) -> anyhow::Result<()> {
    weft_ops::private::by_default();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    Ok(runtime.block_on(cluster::run::run(args))?)
}

/// File name and text of each definition.
fn crds() -> anyhow::Result<Vec<(String, String)>> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let text = serde_yaml::to_string(&crd)
                .with_context(|| format!("failed to write {} as YAML", crd.name_any()))?;
            Ok((format!("{}.yaml", crd.spec.names.plural), text))
        })
        .collect()
}

fn write(folder: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

fn check(folder: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    for (name, text) in files {
        let path = folder.join(name);
        let found = std::fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        if found != *text {
            bail!("{} is not what the Rust types say: run `make fix`", path.display());
        }
    }
    Ok(())
}
