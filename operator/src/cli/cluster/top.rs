//! `kubectl weft top`: what each node uses and does, from its own metrics.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::context::{Context, patiently};
use super::error::ClusterError;
use super::metrics::Scraped;
use super::pods;
use super::table::Table;
use crate::cli::{CommandError, Output, put, report};
use crate::cluster::ledger::exposition::{self, Sample};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds from one look to the next; CPU and transactions are averages over them.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub interval: u64,
    /// Show once and end.
    #[arg(long)]
    pub once: bool,
}

/// A node, over an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeLoad {
    /// Its name.
    name: String,
    /// CPU cores used, on average.
    cpu_cores: Option<f64>,
    /// Resident memory in bytes.
    resident_bytes: Option<u64>,
    /// Transactions committed a second, valid or not; peers only.
    transactions_per_second: Option<f64>,
    /// Number of blocks by channel.
    heights: BTreeMap<String, u64>,
    /// Channels whose Raft group it leads.
    leads: Vec<String>,
    /// Why it could not be asked.
    problem: Option<String>,
}

/// Shows the nodes, again and again.
pub(in crate::cli) async fn top(
    context: &Context,
    args: TopArgs,
    output: Output,
) -> Result<(), CommandError> {
    let mut watch = Watch::default();
    patiently("opening port-forwards to the nodes", watch.refresh(context)).await?;
    watch.look().await;
    let clears = output == Output::Text && !args.once && std::io::stdout().is_terminal();
    loop {
        tokio::time::sleep(Duration::from_secs(args.interval)).await;
        watch.refresh(context).await?;
        let loads = watch.look().await;
        match output {
            Output::Json => put(&format!("{}\n", serde_json::to_string(&loads)?))?,
            Output::Yaml => put(&format!("---\n{}", serde_yaml::to_string(&loads)?))?,
            // To the top left, and everything below it away.
            Output::Text if clears => put(&format!("\x1b[H\x1b[J{}", render(&loads)))?,
            Output::Text => put(&render(&loads))?,
        }
        if args.once {
            return Ok(());
        }
    }
}

/// The nodes and what they told last.
#[derive(Default)]
struct Watch {
    reached: BTreeMap<String, Scraped>,
    unreached: BTreeMap<String, String>,
    last: BTreeMap<String, (Instant, Vec<Sample>)>,
}

impl Watch {
    /// Opens the way to nodes that it is not open to yet.
    async fn refresh(&mut self, context: &Context) -> Result<(), ClusterError> {
        let pods = pods::ours(context).await?;
        let nodes: Vec<(&str, &Pod)> =
            pods.iter().filter_map(|pod| Some((pods::node(pod)?, pod))).collect();
        if nodes.is_empty() {
            let namespace = context.namespace.clone();
            return Err(ClusterError::None { what: "node", namespace, elsewhere: Vec::new() });
        }
        self.reached.retain(|name, _| nodes.iter().any(|(node, _)| node == name));
        self.unreached.clear();
        let missing = nodes.iter().filter(|(node, _)| !self.reached.contains_key(*node));
        let opened = missing.map(|(node, pod)| async move {
            if !pods::is_ready(pod) {
                return ((*node).to_owned(), Err(pods::state(pod)));
            }
            let opened = Scraped::open(context, pod).await;
            ((*node).to_owned(), opened.map_err(|error| report(error.as_ref())))
        });
        for (node, opened) in futures::future::join_all(opened).await {
            match opened {
                Ok(Some(scraped)) => {
                    self.reached.insert(node, scraped);
                }
                Ok(None) => {}
                Err(problem) => {
                    self.unreached.insert(node, problem);
                }
            }
        }
        Ok(())
    }

    /// Asks every node, and compares with what it said before.
    async fn look(&mut self) -> Vec<NodeLoad> {
        let asked = self
            .reached
            .values()
            .map(|scraped| async { (scraped.node.clone(), Instant::now(), scraped.read().await) });
        let mut loads = Vec::new();
        for (node, at, told) in futures::future::join_all(asked).await {
            match told {
                Ok(text) => {
                    let samples = exposition::read(&text);
                    let before = self.last.get(&node);
                    let before = before.map(|(then, samples)| (at - *then, samples.as_slice()));
                    loads.push(load(&node, &samples, before));
                    self.last.insert(node, (at, samples));
                }
                Err(_) => {
                    // The pod may have been replaced: the next look opens a new way, and says
                    // what the pod does if there is none.
                    self.reached.remove(&node);
                    self.unreached.insert(node, "no answer".to_owned());
                }
            }
        }
        loads.extend(self.unreached.iter().map(|(node, problem)| unknown(node, problem)));
        loads.sort_by(|a, b| a.name.cmp(&b.name));
        loads
    }
}

fn unknown(node: &str, problem: &str) -> NodeLoad {
    NodeLoad {
        name: node.to_owned(),
        cpu_cores: None,
        resident_bytes: None,
        transactions_per_second: None,
        heights: BTreeMap::new(),
        leads: Vec::new(),
        problem: Some(problem.to_owned()),
    }
}

/// What the samples say; `before` are those of that long ago.
fn load(node: &str, now: &[Sample], before: Option<(Duration, &[Sample])>) -> NodeLoad {
    let rate = |name: &str| {
        let (elapsed, then) = before?;
        let grown = sum(now, name)? - sum(then, name).unwrap_or_default();
        // A counter that shrank began anew with its process.
        (grown >= 0.0 && !elapsed.is_zero()).then(|| grown / elapsed.as_secs_f64())
    };
    NodeLoad {
        name: node.to_owned(),
        cpu_cores: rate("process_cpu_seconds_total"),
        resident_bytes: sum(now, "process_resident_memory_bytes").map(|bytes| bytes as u64),
        transactions_per_second: rate("ledger_transaction_count"),
        heights: heights(now),
        leads: leads(now),
        problem: None,
    }
}

fn sum(samples: &[Sample], name: &str) -> Option<f64> {
    let mut values = samples.iter().filter(|one| one.name == name).map(|one| one.value).peekable();
    values.peek()?;
    Some(values.sum())
}

fn heights(samples: &[Sample]) -> BTreeMap<String, u64> {
    let names = ["ledger_blockchain_height", "participation_height"];
    let of = |one: &Sample| Some((one.labels.get("channel")?.clone(), one.value as u64));
    samples.iter().filter(|one| names.contains(&one.name.as_str())).filter_map(of).collect()
}

fn leads(samples: &[Sample]) -> Vec<String> {
    let is_leader = |one: &&Sample| one.name == "consensus_etcdraft_is_leader" && one.value > 0.0;
    samples.iter().filter(is_leader).filter_map(|one| one.labels.get("channel").cloned()).collect()
}

fn render(loads: &[NodeLoad]) -> String {
    let mut table = Table::new(&["NODE", ">CPU %", ">RSS MiB", ">TX/S", "LEDGERS"]);
    for load in loads {
        let number = |value: Option<f64>| value.map(|value| format!("{value:.1}"));
        let mebibytes = load.resident_bytes.map(|bytes| bytes as f64 / (1024.0 * 1024.0));
        table.row(vec![
            load.name.clone(),
            number(load.cpu_cores.map(|cores| cores * 100.0)).unwrap_or_default(),
            number(mebibytes).unwrap_or_default(),
            number(load.transactions_per_second).unwrap_or_default(),
            load.problem.clone().unwrap_or_else(|| ledgers(load)),
        ]);
    }
    table.render()
}

fn ledgers(load: &NodeLoad) -> String {
    let one = |(channel, height): (&String, &u64)| {
        let leads = if load.leads.contains(channel) { " (leader)" } else { "" };
        format!("{channel} {height}{leads}")
    };
    load.heights.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "process_cpu_seconds_total 10\n\
        process_resident_memory_bytes 1048576\n\
        ledger_transaction_count{channel=\"a\",code=\"VALID\"} 100\n";
    const NOW: &str = "process_cpu_seconds_total 11\n\
        process_resident_memory_bytes 2097152\n\
        ledger_blockchain_height{channel=\"a\"} 7\n\
        ledger_blockchain_height{channel=\"b\"} 2\n\
        ledger_transaction_count{channel=\"a\",code=\"VALID\"} 150\n\
        ledger_transaction_count{channel=\"b\",code=\"MVCC_READ_CONFLICT\"} 10\n";

    #[test]
    fn counters_become_rates_over_all_their_labels() {
        let before = exposition::read(BEFORE);
        let found =
            load("org1-peer-0", &exposition::read(NOW), Some((Duration::from_secs(2), &before)));
        assert_eq!(found.cpu_cores, Some(0.5));
        assert_eq!(found.transactions_per_second, Some(30.0));
        let orderer = "participation_height{channel=\"a\"} 7\n\
            consensus_etcdraft_is_leader{channel=\"a\"} 1\n";
        let text = render(&[
            found,
            load("net-orderer-0", &exposition::read(orderer), None),
            unknown("org2-peer-0", "CrashLoopBackOff"),
        ]);
        assert_eq!(
            text,
            "NODE           CPU %  RSS MiB  TX/S  LEDGERS\n\
             org1-peer-0     50.0      2.0  30.0  a 7, b 2\n\
             net-orderer-0                        a 7 (leader)\n\
             org2-peer-0                          CrashLoopBackOff\n"
        );
    }

    #[test]
    fn a_counter_that_began_anew_has_no_rate() {
        let before = exposition::read(NOW);
        let found = load("a", &exposition::read(BEFORE), Some((Duration::from_secs(2), &before)));
        assert_eq!(found.cpu_cores, None);
        assert_eq!(found.transactions_per_second, None);
    }
}
