//! The `weft` command: a local network from a manifest, or a network in a cluster, and its
//! daily use. Called as `kubectl weft` it is always about a cluster.
//!
//! Answers go to standard output, everything else to standard error. `-o json` makes every
//! answer machine-readable. Exit code 0 is success, 1 a failure, 2 a wrong command line.

mod bench;
mod channel;
mod cluster;
mod invoke;
mod local;
mod network;
mod status;
mod target;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use target::Target;

/// Runs permissioned ledger networks: on this machine from a manifest, and in a cluster.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, propagate_version = true)]
pub struct Cli {
    /// Folder of the network on this machine.
    #[arg(long, global = true, value_name = "DIR", default_value = ".weft", env = "WEFT_DIR")]
    dir: PathBuf,
    /// Form of the answer.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: cluster::ClusterArgs,
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
    /// For programs and people.
    Yaml,
}

impl Output {
    /// The value as JSON or YAML, with a line's end; `None` when text is wanted.
    ///
    /// # Errors
    /// When the value cannot be written in that form.
    fn structured<T: Serialize>(self, value: &T) -> Result<Option<String>, CommandError> {
        match self {
            Output::Text => Ok(None),
            Output::Json => Ok(Some(format!("{}\n", serde_json::to_string_pretty(value)?))),
            Output::Yaml => Ok(Some(serde_yaml::to_string(value)?)),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the network of a manifest on this machine, or bring a running one to what the
    /// manifest says.
    Up(network::UpArgs),
    /// Stop the network on this machine; its ledgers and keys stay.
    Down(network::DownArgs),
    /// Check a manifest without starting anything.
    Validate(network::ValidateArgs),
    /// Show nodes, heights and certificates.
    Status(cluster::status::StatusArgs),
    /// Submit a transaction and wait until it is committed.
    Invoke(invoke::CallArgs),
    /// Call a function without a transaction.
    Query(invoke::CallArgs),
    /// Measure throughput and latency of the network on this machine.
    Bench(bench::BenchArgs),
    /// Look at a channel's config, or sign a change of it.
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Print what an SDK needs to use a network in a cluster.
    ConnectionProfile(cluster::profile::ProfileArgs),
    /// Make identities of people and programs in a cluster.
    #[command(subcommand)]
    Identity(cluster::identity::IdentityCommand),
    /// Print the log of a node or contract in a cluster.
    Logs(cluster::logs::LogsArgs),
    /// Show CPU, memory and transactions of a cluster's nodes, again and again.
    Top(cluster::top::TopArgs),
    /// Collect what is needed to find a fault in a cluster, without secrets.
    Report(cluster::report::ReportArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// A command that failed: what to tell the person. The binary prints it and exits with 1.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// As what the program was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `weft`: the network on this machine, unless a flag chooses a cluster.
    Weft,
    /// `kubectl-weft`, which `kubectl weft` runs: a network in a cluster.
    KubectlWeft,
}

impl Name {
    /// The name by which a program of that path was called; links to it count.
    pub fn of(program: &Path) -> Name {
        match program.file_stem().and_then(|stem| stem.to_str()) {
            Some("kubectl-weft" | "kubectl_weft") => Name::KubectlWeft,
            _ => Name::Weft,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Name::Weft => "weft",
            Name::KubectlWeft => "kubectl-weft",
        }
    }

    fn command(self) -> clap::Command {
        match self {
            Name::Weft => Cli::command(),
            Name::KubectlWeft => Cli::command().name("kubectl-weft").bin_name("kubectl weft"),
        }
    }
}

/// Does what the command line says: what the binaries' `main` comes to. `default` is the name
/// when the program's path tells no other. What it writes is its owner's alone, as is what the
/// programs write that it starts.
pub fn start(default: Name) -> ExitCode {
    weft_ops::private::by_default();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(main(default)),
        Err(error) => {
            eprintln!("error: failed to start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn main(default: Name) -> ExitCode {
    let called = std::env::args_os().next().map(|program| Name::of(Path::new(&program)));
    let name = if called == Some(Name::KubectlWeft) { Name::KubectlWeft } else { default };
    let cli = match Cli::read(name, std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match cli.run(name).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_enough(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", report(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    /// Reads a command line.
    ///
    /// # Errors
    /// What is wrong with it; also its help, when that is asked for.
    fn read(name: Name, args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let mut command = name.command();
        let matches = command.try_get_matches_from_mut(args)?;
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    fn target(&self, name: Name) -> Target {
        if name == Name::KubectlWeft || self.cluster.chosen() {
            Target::Cluster(self.cluster.clone())
        } else {
            Target::Local(self.dir.clone())
        }
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// What went wrong, with its causes.
    async fn run(self, name: Name) -> Result<(), CommandError> {
        let target = self.target(name);
        let output = self.output;
        match self.command {
            Command::Up(args) => {
                let dir = target.local("up", "in a cluster: kubectl apply -f MANIFEST")?;
                network::up(dir, args, output).await
            }
            Command::Down(args) => {
                let dir = target.local("down", "in a cluster: kubectl delete -f MANIFEST")?;
                network::down(dir, args).await
            }
            Command::Bench(args) => {
                let dir = target.local("bench", "it measures processes, which it starts itself")?;
                bench::bench(dir, args, output).await
            }
            Command::Validate(args) => network::validate(args),
            Command::Status(args) => status::run(&target, args, output).await,
            Command::Invoke(args) => invoke::invoke(&target, args, output).await,
            Command::Query(args) => invoke::query(&target, args, output).await,
            Command::Channel(command) => channel::run(&target, command, output).await,
            Command::Completions { shell } => put(&completions(name, shell)?),
            command => on_cluster(&target, command, output).await,
        }
    }
}

/// The completion script of a shell, for the name by which the program was called.
fn completions(name: Name, shell: clap_complete::Shell) -> Result<String, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut name.command(), name.file(), &mut script);
    Ok(String::from_utf8(script)?)
}

/// Commands that are about a cluster only.
async fn on_cluster(target: &Target, command: Command, output: Output) -> Result<(), CommandError> {
    match command {
        Command::ConnectionProfile(args) => {
            let context = target.cluster("connection-profile").await?;
            cluster::profile::profile(&context, args, output).await
        }
        Command::Identity(command) => {
            let context = target.cluster("identity").await?;
            cluster::identity::run(&context, command, output).await
        }
        Command::Logs(args) => {
            cluster::logs::logs(&target.cluster("logs").await?, args, output).await
        }
        Command::Top(args) => cluster::top::top(&target.cluster("top").await?, args, output).await,
        Command::Report(args) => {
            cluster::report::report(&target.cluster("report").await?, args, output).await
        }
        _ => Ok(()),
    }
}

/// Writes an answer to standard output.
///
/// # Errors
/// When it cannot be written. Whoever reads it may have had enough ([`is_enough`]).
fn put(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether the command ended because nobody reads its answer any more, as with `| head`.
fn is_enough(error: &CommandError) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
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
        Name::Weft.command().debug_assert();
        Name::KubectlWeft.command().debug_assert();
    }

    fn read(name: Name, line: &str) -> Result<Cli, clap::Error> {
        Cli::read(name, line.split_whitespace().map(OsString::from))
    }

    fn is_cluster(name: Name, line: &str) -> bool {
        matches!(read(name, line).unwrap().target(name), Target::Cluster(_))
    }

    #[test]
    fn the_programs_name_and_flags_choose_the_cluster() {
        assert!(!is_cluster(Name::Weft, "weft status"));
        assert!(!is_cluster(Name::Weft, "weft --dir a invoke Put -1 --cluster"));
        assert!(is_cluster(Name::Weft, "weft status --cluster"));
        assert!(is_cluster(Name::Weft, "weft -n ledger status"));
        assert!(is_cluster(Name::Weft, "weft query --context test Get a"));
        assert!(is_cluster(Name::Weft, "weft --kubeconfig a.yaml top --once"));
        assert!(is_cluster(Name::KubectlWeft, "kubectl-weft status net"));
    }

    #[test]
    fn a_link_is_known_by_its_name() {
        assert_eq!(Name::of(Path::new("/usr/local/bin/kubectl-weft")), Name::KubectlWeft);
        assert_eq!(Name::of(Path::new("kubectl-weft.exe")), Name::KubectlWeft);
        assert_eq!(Name::of(Path::new("./weft")), Name::Weft);
        assert_eq!(Name::of(Path::new("weft-0.1.0")), Name::Weft);
    }

    #[test]
    fn the_commands_are_those_of_the_documentation() {
        let lines = [
            "status -A",
            "status net -o yaml",
            "connection-profile org1 --channel supply --user ada --in-cluster",
            "connection-profile Org1MSP --local-port 17051 --out a.json",
            "invoke --org org1 --user ada --channel supply --chaincode asset Put a -1",
            "invoke --transient price=7 --transient deal=@deal.json --endorsers Org1MSP Sell a",
            "query --transient price=7 Check a",
            "identity issue org1 ada --role admin --out keys",
            "channel inspect supply -o yaml",
            "channel sign-update supply --msp keys/msp --msp-id PartnerMSP --update a.yaml",
            "channel sign-update supply --msp keys --msp-id PartnerMSP --apply",
            "logs org1-peer-0 -f --tail -1 --since 10m --previous",
            "top --once --interval 5 -o json",
            "report --out a.tar.gz --log-lines 100",
            "completions fish",
        ];
        for line in lines {
            let line = format!("kubectl-weft {line}");
            assert!(read(Name::KubectlWeft, &line).is_ok(), "{line}");
        }
        let refused = [
            "connection-profile org1 --in-cluster --local-port 1",
            "status net -A",
            "identity issue org1 ada --role owner",
            "logs a --since soon",
            "top --interval 0",
            "invoke --transient price Sell a",
        ];
        for line in refused {
            let line = format!("kubectl-weft {line}");
            assert_eq!(read(Name::KubectlWeft, &line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn completions_are_for_the_name_that_was_called() {
        for shell in
            [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
        {
            for name in [Name::Weft, Name::KubectlWeft] {
                let script = completions(name, shell).unwrap();
                assert!(script.contains(name.file()), "{shell} {}", name.file());
                assert!(script.contains("connection-profile"), "{shell} {}", name.file());
            }
        }
    }

    #[tokio::test]
    async fn a_command_of_the_other_place_says_where_it_belongs() {
        let told =
            async |name, line| read(name, line).unwrap().run(name).await.unwrap_err().to_string();
        let error = told(Name::KubectlWeft, "kubectl-weft up -f a.yaml").await;
        assert_eq!(
            error,
            "up is for a network on this machine; in a cluster: kubectl apply -f MANIFEST"
        );
        let error = told(Name::Weft, "weft logs org1-peer-0").await;
        assert!(
            error.ends_with("`kubectl weft logs`, or add --cluster or -n NAMESPACE"),
            "{error}"
        );
    }

    #[test]
    fn every_answer_has_three_forms() {
        let value = serde_json::json!({"a": 1});
        assert_eq!(Output::Text.structured(&value).unwrap(), None);
        assert_eq!(Output::Json.structured(&value).unwrap().unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(Output::Yaml.structured(&value).unwrap().unwrap(), "a: 1\n");
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
