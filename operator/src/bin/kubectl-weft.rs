//! `kubectl-weft`, which `kubectl weft` runs: `weft` for networks in clusters.

use std::process::ExitCode;

use weft_operator::cli::{self, Name};

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(Name::KubectlWeft).await
}
