//! `weft-node`: one node of a ledger network, an orderer or a peer.
//!
//! Reads a YAML file with overrides from the environment (`WEFT_…`), sets logging and the
//! operations port up, starts the node and ends it in order on SIGTERM or SIGINT. Everything
//! else is in the crates.

mod identity;
mod orderer;
mod peer;
mod setup;
mod shutdown;
mod stores;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "weft-node", version, about = "One node of a ledger network")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an orderer.
    Orderer(NodeArgs),
    /// Run a peer.
    Peer(NodeArgs),
}

/// What every kind of node takes.
#[derive(Args)]
struct NodeArgs {
    /// The settings file. Relative paths in it are taken from its own folder.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the settings as they are after overrides, and end.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    weft_ops::private::by_default();
    match start(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        match command {
            Command::Orderer(args) => orderer::run(args).await,
            Command::Peer(args) => peer::run(args).await,
        }
    })
}
