//! `weft up`, `weft down`, `weft validate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, Output, put};
use crate::local::progress::{Progress, Terminal};
use crate::local::{self, Runner, UpOptions, connection::ConnectionFile};
use crate::words::counted;

/// Arguments of `weft up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// The manifest.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    /// Return when the network is ready, and leave it running.
    #[arg(long)]
    detach: bool,
    /// Do not say what to try next.
    #[arg(short, long)]
    quiet: bool,
}

/// Arguments of `weft down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Delete the folder with its ledgers, keys and logs as well.
    #[arg(long)]
    delete: bool,
}

/// Arguments of `weft validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The manifest.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
}

/// Brings a network up, and looks after it unless it is to be left alone.
pub(super) async fn up(dir: &Path, args: UpArgs, output: Output) -> Result<(), CommandError> {
    let begun = Instant::now();
    let progress: Arc<dyn Progress> = Arc::new(Terminal);
    let weft = std::env::current_exe()?;
    let options = UpOptions {
        manifest: args.file.clone(),
        manifest_folder: None,
        folder: dir.to_owned(),
        weft: weft.clone(),
    };
    eprintln!("{} in {}", args.file.display(), dir.display());
    let mut runner = Runner::prepare(&options, progress.clone())?;
    if !args.detach {
        runner.supervise()?;
    }
    let connection = runner.bring_up().await?;
    let connection_file = runner.layout().connection();
    drop(runner);
    eprintln!("ready in {:.1} s", begun.elapsed().as_secs_f64());
    match output.structured(&connection)? {
        Some(text) => put(&text)?,
        None if args.quiet => {}
        None => hint(dir, &connection, &connection_file, args.detach),
    }
    if !args.detach {
        look_after(dir, &weft, progress).await?;
    }
    Ok(())
}

fn hint(dir: &Path, connection: &ConnectionFile, file: &Path, detached: bool) {
    let dir = dir.display();
    // As it was called, so that the lines can be copied.
    let weft = std::env::args().next().unwrap_or_else(|| "weft".to_owned());
    eprintln!("\nnext:");
    if connection.chaincode == "asset" {
        eprintln!("  {weft} invoke --dir {dir} CreateAsset asset7 red 10 ada 700");
        eprintln!("  {weft} query --dir {dir} ReadAsset asset7");
    } else if !connection.chaincode.is_empty() {
        eprintln!("  {weft} query --dir {dir} FUNCTION ARGUMENT...");
    }
    eprintln!("  {weft} status --dir {dir}");
    eprintln!("  programs of yours connect with {}", file.display());
    if detached {
        eprintln!("  {weft} down --dir {dir}");
    } else {
        eprintln!("  Ctrl-C stops the network; its ledgers stay");
    }
}

/// Until Ctrl-C, SIGTERM, or a `weft down` somewhere else.
async fn look_after(
    dir: &Path,
    weft: &Path,
    progress: Arc<dyn Progress>,
) -> Result<(), CommandError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = local::supervise(dir, weft, progress) => {
            eprintln!("the network was stopped by another weft");
            return Ok(());
        }
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("stopping");
    let stopped = local::down(dir, false).await?;
    eprintln!("{stopped} processes stopped");
    Ok(())
}

/// Stops a network.
pub(super) async fn down(dir: &Path, args: DownArgs) -> Result<(), CommandError> {
    let stopped = local::down(dir, args.delete).await?;
    let rest = if args.delete { ", folder deleted" } else { "; ledgers and keys stay" };
    eprintln!("{stopped} processes stopped{rest}");
    Ok(())
}

/// Checks a manifest.
pub(super) fn validate(args: ValidateArgs) -> Result<(), CommandError> {
    let (network, _) = local::read_manifest(&args.file)?;
    println!(
        "{}: network {} with {}, {}, {}",
        args.file.display(),
        network.name,
        counted(network.ordering.replicas as usize, "orderer"),
        counted(network.organizations.len(), "organization"),
        counted(network.channels.len(), "channel"),
    );
    Ok(())
}
