//! `kubectl weft status`: what the objects' status says, put together. Nodes are not asked:
//! the controllers have written down what they said.

mod view;

use clap::Args;

use super::context::{Context, patiently};
use super::error::ClusterError;
use super::objects::Objects;
use super::pods;
use crate::cli::{CommandError, Output, put};

/// Arguments of `status`.
#[derive(Debug, Default, Args)]
pub struct StatusArgs {
    /// Show this network only, in a cluster.
    #[arg(value_name = "NETWORK")]
    pub network: Option<String>,
    /// Show the networks of all namespaces of a cluster.
    #[arg(short = 'A', long, conflicts_with_all = ["network", "namespace"])]
    pub all_namespaces: bool,
}

/// Prints the status of a namespace's networks.
pub(in crate::cli) async fn status(
    context: Context,
    args: StatusArgs,
    output: Output,
) -> Result<(), CommandError> {
    let mut views = Vec::new();
    for context in contexts(context, args.all_namespaces).await? {
        views.extend(gather(&context, args.network.as_deref()).await?);
    }
    match output.structured(&views)? {
        Some(text) => put(&text),
        None => put(&view::render(&views, super::table::seconds(super::now()))),
    }
}

/// The status of a namespace as text.
pub(super) fn text(objects: &Objects, pods: &[k8s_openapi::api::core::v1::Pod]) -> String {
    view::render(&view::networks(objects, pods), super::table::seconds(super::now()))
}

async fn contexts(context: Context, all: bool) -> Result<Vec<Context>, ClusterError> {
    if !all {
        return Ok(vec![context]);
    }
    let namespaces = Objects::elsewhere(&context).await;
    if namespaces.is_empty() {
        return Err(ClusterError::Refused {
            step: "find networks in all namespaces".to_owned(),
            message: "there are none, or you may not list them; name a namespace with -n".into(),
        });
    }
    let client = context.client;
    let of = |namespace| Context { client: client.clone(), namespace };
    Ok(namespaces.into_iter().map(of).collect())
}

async fn gather(
    context: &Context,
    network: Option<&str>,
) -> Result<Vec<view::NetworkView>, ClusterError> {
    let objects = Objects::read(context).await?;
    if let Some(name) = network {
        objects.network(name)?;
    }
    if objects.networks.is_empty() {
        let elsewhere = Objects::elsewhere(context).await;
        let namespace = context.namespace.clone();
        return Err(ClusterError::None { what: "network", namespace, elsewhere });
    }
    // Objects tell what matters; who may not see pods still gets that.
    let pods = patiently("reading pods", pods::ours(context)).await.unwrap_or_else(|error| {
        eprintln!("note: {error}");
        Vec::new()
    });
    let mut views = view::networks(&objects, &pods);
    views.retain(|view| network.is_none_or(|name| name == view.network));
    Ok(views)
}
