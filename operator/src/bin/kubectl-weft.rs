//! `kubectl-weft`, which `kubectl weft` runs: `weft` for networks in clusters.

use std::process::ExitCode;

use weft_operator::cli::{self, Name};

fn main() -> ExitCode {
    cli::start(Name::KubectlWeft)
}
