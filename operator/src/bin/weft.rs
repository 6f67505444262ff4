//! `weft`: a ledger network on this machine from one manifest.

use std::process::ExitCode;

use clap::Parser;
use weft_operator::cli::{Cli, report};

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", report(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
