//! `weft`: ledger networks on this machine and in clusters. Called by a link named
//! `kubectl-weft`, it is that program.

use std::process::ExitCode;

use weft_operator::cli::{self, Name};

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(Name::Weft).await
}
