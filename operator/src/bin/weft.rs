//! `weft`: ledger networks on this machine and in clusters. Called by a link named
//! `kubectl-weft`, it is that program.

use std::process::ExitCode;

use weft_operator::cli::{self, Name};

fn main() -> ExitCode {
    cli::start(Name::Weft)
}
