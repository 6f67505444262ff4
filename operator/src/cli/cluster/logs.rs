//! `kubectl weft logs`: the log of a node or of a contract, by its name and not its pod's.

use clap::Args;
use futures::StreamExt;
use futures::io::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;
use serde_json::Value;

use super::context::Context;
use super::error::ClusterError;
use super::pods;
use crate::cli::{CommandError, Output, put};
use crate::cluster::names::label;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A node such as `org1-peer-0`, or a Chaincode.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Go on with what is logged from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// The last lines to begin with; all of them with -1.
    #[arg(long, default_value_t = 200, allow_hyphen_values = true, value_name = "LINES")]
    pub tail: i64,
    /// What was logged within this time, such as `10m`.
    #[arg(long, value_name = "DURATION", value_parser = weft_settings::duration::parse)]
    pub since: Option<std::time::Duration>,
    /// The log of the container before it was last restarted.
    #[arg(long)]
    pub previous: bool,
}

/// Prints logs; several pods of a contract together, each line with its pod's name.
pub(in crate::cli) async fn logs(
    context: &Context,
    args: LogsArgs,
    output: Output,
) -> Result<(), CommandError> {
    let all = pods::ours(context).await?;
    let chosen: Vec<&Pod> = all.iter().filter(|pod| is_of(pod, &args.node)).collect();
    if chosen.is_empty() {
        return Err(ClusterError::Unknown {
            what: "node or chaincode with pods",
            name: args.node,
            namespace: context.namespace.clone(),
            known: names(&all),
        }
        .into());
    }
    let several = chosen.len() > 1;
    let printed = chosen.into_iter().map(|pod| {
        let prefix = if several { format!("{} ", pod.name_any()) } else { String::new() };
        print(context, pod.name_any(), prefix, &args, output)
    });
    futures::future::try_join_all(printed).await?;
    Ok(())
}

fn is_of(pod: &Pod, name: &str) -> bool {
    let labels = pod.labels();
    pod.name_any() == name
        || labels.get(label::NODE).is_some_and(|node| node == name)
        || labels.get(label::CHAINCODE).is_some_and(|chaincode| chaincode == name)
}

fn names(pods: &[Pod]) -> Vec<String> {
    let name = |pod: &Pod| {
        let labels = pod.labels();
        labels.get(label::NODE).or_else(|| labels.get(label::CHAINCODE)).cloned()
    };
    let mut names: Vec<String> = pods.iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

async fn print(
    context: &Context,
    pod: String,
    prefix: String,
    args: &LogsArgs,
    output: Output,
) -> Result<(), CommandError> {
    let params = LogParams {
        follow: args.follow,
        previous: args.previous,
        tail_lines: (args.tail >= 0).then_some(args.tail),
        since_seconds: args.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        ..LogParams::default()
    };
    let step = format!("read the log of pod {}/{pod}", context.namespace);
    let stream = context.api::<Pod>().log_stream(&pod, &params).await;
    let stream = stream.map_err(ClusterError::at(step.clone()))?;
    lines(&step, stream, |line| match output {
        Output::Text => put(&format!("{prefix}{}\n", text(line))),
        Output::Json | Output::Yaml => put(&format!("{line}\n")),
    })
    .await?;
    if args.follow {
        eprintln!("{pod} has stopped logging: its container has ended");
    }
    Ok(())
}

async fn lines(
    step: &str,
    stream: impl AsyncBufRead,
    mut each: impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut lines = std::pin::pin!(stream.lines());
    while let Some(line) = lines.next().await {
        each(&line.map_err(|source| format!("failed to {step}: {source}"))?)?;
    }
    Ok(())
}

/// The last lines of a pod's log.
///
/// # Errors
/// [`ClusterError`] when it cannot be read.
pub(super) async fn last_lines(
    context: &Context,
    pod: &str,
    container: Option<&str>,
    count: i64,
    previous: bool,
) -> Result<String, ClusterError> {
    let params = LogParams {
        container: container.map(str::to_owned),
        tail_lines: Some(count),
        limit_bytes: Some(4 * 1024 * 1024),
        previous,
        ..LogParams::default()
    };
    let step = format!("read the log of pod {}/{pod}", context.namespace);
    context.api::<Pod>().logs(pod, &params).await.map_err(ClusterError::at(step))
}

/// A line of a node's log for people: nodes in a cluster log JSON. Any other line stays.
fn text(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return line.to_owned();
    };
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (time, level) = (take("timestamp"), take("level"));
    let (target, message) = (take("target"), take("message"));
    let rest: String = fields.iter().map(|(name, value)| field(name, value)).collect();
    format!("{time} {level:>5} {target}: {message}{rest}").trim_start().to_owned()
}

fn field(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!(" {name}={text}"),
        other => format!(" {name}={other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pods::tests::{pod, ready};
    use super::*;

    #[test]
    fn json_lines_are_put_into_words() {
        let line = r#"{"timestamp":"2025-11-21T12:00:00.5Z","level":"INFO","message":"joined","channel":"supply","height":7,"target":"weft_peer::channel"}"#;
        assert_eq!(
            text(line),
            "2025-11-21T12:00:00.5Z  INFO weft_peer::channel: joined channel=supply height=7"
        );
        assert_eq!(text("thread 'main' panicked"), "thread 'main' panicked");
        assert_eq!(text("17"), "17");
    }

    #[test]
    fn a_pod_is_found_by_its_node_its_contract_and_its_name() {
        let node = ready("org1-peer-0", "peer", "org1");
        assert!(is_of(&node, "org1-peer-0") && is_of(&node, "org1-peer-0-0"));
        assert!(!is_of(&node, "org1-peer"));
        let contract = pod("metadata: {name: asset-1a-x, labels: {weft.dev/chaincode: asset}}");
        assert!(is_of(&contract, "asset"));
        assert_eq!(names(&[contract.clone(), node, contract]), ["asset", "org1-peer-0"]);
    }
}
