//! The `weft` command: a local network from a manifest, and its daily use.
//!
//! Answers go to standard output, everything else to standard error. `-o json` makes every
//! answer machine-readable. Exit code 0 is success, 1 a failure, 2 a wrong command line.

mod bench;
mod invoke;
mod network;
mod status;
mod target;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Runs a permissioned ledger network on this machine from a manifest.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, propagate_version = true)]
pub struct Cli {
    /// Folder of the network.
    #[arg(long, global = true, value_name = "DIR", default_value = ".weft", env = "WEFT_DIR")]
    dir: PathBuf,
    /// Form of the answer.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the network of a manifest, or bring a running one to what the manifest says.
    Up(network::UpArgs),
    /// Stop the network; its ledgers and keys stay.
    Down(network::DownArgs),
    /// Check a manifest without starting anything.
    Validate(network::ValidateArgs),
    /// Show nodes, heights and certificates.
    Status,
    /// Submit a transaction and wait until it is committed.
    Invoke(invoke::CallArgs),
    /// Call a function without a transaction.
    Query(invoke::CallArgs),
    /// Measure throughput and latency.
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// A command that failed: what to tell the person. The binary prints it and exits with 1.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

impl Cli {
    /// Carries the command out.
    ///
    /// # Errors
    /// What went wrong, with its causes.
    pub async fn run(self) -> Result<(), CommandError> {
        match self.command {
            Command::Up(args) => network::up(&self.dir, args, self.output).await,
            Command::Down(args) => network::down(&self.dir, args).await,
            Command::Validate(args) => network::validate(args),
            Command::Status => status::status(&self.dir, self.output).await,
            Command::Invoke(args) => invoke::invoke(&self.dir, args, self.output).await,
            Command::Query(args) => invoke::query(&self.dir, args, self.output).await,
            Command::Bench(args) => bench::bench(&self.dir, args, self.output).await,
            Command::Completions { shell } => {
                let mut command = <Cli as clap::CommandFactory>::command();
                clap_complete::generate(shell, &mut command, "weft", &mut std::io::stdout());
                Ok(())
            }
        }
    }
}

/// An error with its causes on one line, outermost first; a cause that its effect already
/// tells is not told again.
pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to open a.txt")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("no such file"));
        assert_eq!(report(&error), "failed to open a.txt: no such file");
    }
}
