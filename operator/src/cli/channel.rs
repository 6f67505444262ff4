//! `weft channel`: a channel's config for people, and signatures on changes of it.

use clap::{Args, Subcommand};
use weft_config::{block, inspect};

use super::cluster::channel::SignArgs;
use super::cluster::{self, patiently};
use super::target::{Target, Wanted};
use super::{CommandError, Output, put};

/// Commands on channels.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Show a channel's current config as a peer has it.
    Inspect(InspectArgs),
    /// Sign the pending change of a channel's config for an organization that runs elsewhere.
    SignUpdate(SignArgs),
}

/// Arguments of `channel inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The channel. When absent, the network's first one; in a cluster, the namespace's only one.
    #[arg(value_name = "CHANNEL")]
    channel: Option<String>,
    /// Organization whose peer is asked, by MSP id (in a cluster by name as well); any member
    /// when absent.
    #[arg(long, value_name = "MSP_ID")]
    org: Option<String>,
    /// The organization's user to act as; its administrator when absent.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Carries a command out.
pub(super) async fn run(
    target: &Target,
    command: ChannelCommand,
    output: Output,
) -> Result<(), CommandError> {
    match command {
        ChannelCommand::Inspect(args) => inspect(target, args, output).await,
        ChannelCommand::SignUpdate(args) => cluster::channel::sign(target, args, output).await,
    }
}

async fn inspect(target: &Target, args: InspectArgs, output: Output) -> Result<(), CommandError> {
    let wanted = Wanted {
        org: args.org,
        user: args.user,
        as_admin: true,
        channel: args.channel,
        any_member: true,
        ..Wanted::default()
    };
    let reached = target.reach(&wanted).await?;
    let peer = reached.peer();
    let asking = peer.config_block(&reached.channel);
    let found = patiently("asking the peer", asking).await;
    let found = found.map_err(|error| reached.explain(error))?;
    let (channel, config) = block::config_from_block(&found)?;
    let view = inspect::view(&channel, &config);
    match output {
        Output::Json => put(&format!("{}\n", view.to_json()?)),
        Output::Text | Output::Yaml => put(&view.to_yaml()?),
    }
}
