//! `weft bench`: throughput, latency and the nodes' cost, through the Gateway.
//!
//! Closed loop by default: each client sends its next transaction when the last one is
//! committed, which finds the most that the network does. With `--rate` the loop is open:
//! transactions are due at fixed times whatever the network does, and a latency counts from
//! when the transaction was *due*, so that a stall shows in every transaction it held up.

mod catch_up;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use weft_client::{Call, ClientError, Gateway};
use weft_types::ValidationCode;

use super::{CommandError, Output, local, put, report};
use crate::local::layout::Layout;
use crate::local::process::Usage;
use crate::local::state::State;

/// What to send, how much and how fast.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Transactions in flight at one time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Stop after this many transactions instead of after a time.
    #[arg(long)]
    transactions: Option<u64>,
    /// Send this many transactions a second (open loop) instead of as many as there is room for.
    #[arg(long)]
    rate: Option<u32>,
    /// Size of the value that a transaction writes, in bytes.
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    /// Function that is called with a key and a value.
    #[arg(long, default_value = "Put")]
    function: String,
    /// Chaincode; the channel's first one when absent.
    #[arg(long)]
    chaincode: Option<String>,
    /// Organizations whose peers the clients use, by MSP id; all of them when absent.
    #[arg(long, value_delimiter = ',')]
    orgs: Vec<String>,
    /// Call the function without a transaction (Evaluate).
    #[arg(long)]
    query: bool,
    /// Measure how fast the network's last peer takes the chain from its first block on, started
    /// without a ledger. Its data are set aside meanwhile and put back. With --transactions, that
    /// many are sent first.
    #[arg(long)]
    catch_up: bool,
}

/// What a run came to. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchReport {
    /// Transactions committed as valid (or queries answered) while measuring.
    pub transactions: u64,
    /// Calls that failed, and transactions that were committed as invalid.
    pub failed: u64,
    /// What the first failure said.
    pub first_failure: Option<String>,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Transactions a second.
    pub throughput: f64,
    /// From the start (or the due time) to the commit status.
    pub total: Percentiles,
    /// Each stage of a transaction.
    pub stages: Vec<Stage>,
    /// Each process of the network.
    pub processes: Vec<ProcessCost>,
    /// CPU of orderers and peers for each transaction, in milliseconds.
    pub node_cpu_per_transaction: f64,
    /// CPU of everything, this client and contracts included, for each transaction.
    pub all_cpu_per_transaction: f64,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// One stage of a transaction.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// `endorse`, `submit` or `commit`.
    pub name: &'static str,
    /// Its latencies.
    pub latency: Percentiles,
    /// Its part of the total time, 0 to 1.
    pub share: f64,
}

/// What a process used while measuring.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessCost {
    /// Node or chaincode; `client` is this program.
    pub name: String,
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Resident memory at the end, in bytes.
    pub resident_bytes: u64,
}

/// When a transaction's stages ended, from its start.
#[derive(Clone, Copy, Debug)]
struct Timing {
    endorsed: Duration,
    submitted: Duration,
    committed: Duration,
}

#[derive(Default)]
struct Tally {
    timings: Vec<Timing>,
    failed: u64,
    first_failure: Option<String>,
}

struct Plan {
    args: BenchArgs,
    chaincode: String,
    value: String,
    /// Distinguishes this run's keys from those of earlier runs.
    run: u64,
    next: AtomicU64,
    begin: Instant,
    measure_from: Instant,
    end: Option<Instant>,
}

/// Runs the load and prints the report.
pub(super) async fn bench(dir: &Path, args: BenchArgs, output: Output) -> Result<(), CommandError> {
    if args.catch_up {
        if args.transactions.is_some() {
            load(dir, BenchArgs { warm_up: 0, ..args }).await?;
        }
        return catch_up::catch_up(dir, output).await;
    }
    let report = load(dir, args).await?;
    match output.structured(&report)? {
        Some(text) => put(&text)?,
        None => print(&report),
    }
    Ok(())
}

async fn load(dir: &Path, args: BenchArgs) -> Result<BenchReport, CommandError> {
    let file = local::connection_file(dir)?;
    let chaincode = args.chaincode.clone().unwrap_or_else(|| file.chaincode.clone());
    let mut gateways = Vec::new();
    for org in &file.orgs {
        if args.orgs.is_empty() || args.orgs.contains(&org.msp_id) {
            gateways.push(local::gateway(&file, org, &org.peer, None)?);
        }
    }
    if gateways.is_empty() {
        return Err(format!("no organization of {} is in the network", args.orgs.join(", ")).into());
    }
    let state = State::load(&Layout::new(std::path::absolute(dir)?))?.unwrap_or_default();
    run(args, chaincode, gateways, &state).await
}

async fn run(
    args: BenchArgs,
    chaincode: String,
    gateways: Vec<Gateway>,
    state: &State,
) -> Result<BenchReport, CommandError> {
    let begin = Instant::now();
    let warm_up = Duration::from_secs(args.warm_up);
    let plan = Arc::new(Plan {
        end: args
            .transactions
            .is_none()
            .then(|| begin + warm_up + Duration::from_secs(args.seconds)),
        measure_from: begin + warm_up,
        begin,
        chaincode,
        value: "x".repeat(args.value_size),
        run: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
        next: AtomicU64::new(0),
        args,
    });
    let mut clients = JoinSet::new();
    for index in 0..plan.args.clients {
        let gateway = gateways[index as usize % gateways.len()].clone();
        clients.spawn(client(plan.clone(), gateway));
    }
    tokio::time::sleep_until(plan.measure_from.into()).await;
    let before = usages(state);
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        let tally = tally?;
        all.timings.extend(tally.timings);
        all.failed += tally.failed;
        all.first_failure = all.first_failure.or(tally.first_failure);
    }
    let elapsed = plan.measure_from.elapsed();
    let measured = plan.end.map_or(elapsed, |_| Duration::from_secs(plan.args.seconds));
    Ok(summarize(all, measured, &before, &usages(state)))
}

async fn client(plan: Arc<Plan>, gateway: Gateway) -> Tally {
    let mut tally = Tally::default();
    while let Some(number) = plan.take() {
        let due = plan.due(number);
        tokio::time::sleep_until(due.into()).await;
        if plan.end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        // Closed loop: a transaction is due when there is room for it.
        let started = if plan.args.rate.is_some() { due } else { Instant::now() };
        let outcome = transact(&plan, &gateway, number, started).await;
        let now = Instant::now();
        if now < plan.measure_from || plan.end.is_some_and(|end| now > end) {
            continue;
        }
        match outcome {
            Ok(timing) => tally.timings.push(timing),
            Err(error) => {
                tally.failed += 1;
                tally.first_failure.get_or_insert_with(|| report(&error));
            }
        }
    }
    tally
}

async fn transact(
    plan: &Plan,
    gateway: &Gateway,
    number: u64,
    started: Instant,
) -> Result<Timing, ClientError> {
    let key = format!("bench-{}-{number}", plan.run);
    let args = [key, plan.value.clone()];
    let call = Call::new(&plan.chaincode, &plan.args.function, args);
    if plan.args.query {
        gateway.evaluate(call).await?;
        let answered = started.elapsed();
        return Ok(Timing { endorsed: answered, submitted: answered, committed: answered });
    }
    let (envelope, submitted) = gateway.endorse(call).await?;
    let endorsed = started.elapsed();
    gateway.send(envelope, &submitted.tx_id).await?;
    let sent = started.elapsed();
    match gateway.commit_status(&submitted.tx_id).await? {
        (ValidationCode::Valid, _) => {
            Ok(Timing { endorsed, submitted: sent, committed: started.elapsed() })
        }
        (code, block) => Err(ClientError::Invalid { tx_id: submitted.tx_id, block, code }),
    }
}

impl Plan {
    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.args.transactions.is_none_or(|count| number < count).then_some(number)
    }

    fn due(&self, number: u64) -> Instant {
        match self.args.rate {
            Some(rate) => {
                self.begin + Duration::from_secs_f64(number as f64 / f64::from(rate.max(1)))
            }
            None => self.begin,
        }
    }
}

fn usages(state: &State) -> Vec<(String, Usage)> {
    let mut all: Vec<(String, Usage)> = state
        .processes
        .iter()
        .filter_map(|(name, process)| Some((name.clone(), process.usage()?)))
        .collect();
    all.extend(
        crate::local::process::ProcessId::current()
            .and_then(|own| Some(("client".to_owned(), own.usage()?))),
    );
    all
}

fn summarize(
    tally: Tally,
    measured: Duration,
    before: &[(String, Usage)],
    after: &[(String, Usage)],
) -> BenchReport {
    let count = tally.timings.len();
    let column = |of: fn(&Timing) -> Duration| tally.timings.iter().map(of).collect::<Vec<_>>();
    let total = column(|t| t.committed);
    let sum = seconds(&total).max(f64::MIN_POSITIVE);
    let stage = |name, times: Vec<Duration>| Stage {
        name,
        share: seconds(&times) / sum,
        latency: percentiles(times),
    };
    let stages = vec![
        stage("endorse", column(|t| t.endorsed)),
        stage("submit", column(|t| t.submitted.saturating_sub(t.endorsed))),
        stage("commit", column(|t| t.committed.saturating_sub(t.submitted))),
    ];
    let processes: Vec<ProcessCost> = after
        .iter()
        .map(|(name, usage)| {
            let earlier =
                before.iter().find(|(other, _)| other == name).map(|(_, usage)| usage.cpu);
            ProcessCost {
                name: name.clone(),
                cpu_seconds: usage.cpu.saturating_sub(earlier.unwrap_or_default()).as_secs_f64(),
                resident_bytes: usage.resident_bytes,
            }
        })
        .collect();
    let cpu = |of: &dyn Fn(&ProcessCost) -> bool| {
        let seconds: f64 =
            processes.iter().filter(|cost| of(cost)).map(|cost| cost.cpu_seconds).sum();
        seconds * 1000.0 / (count.max(1) as f64)
    };
    let is_node =
        |cost: &ProcessCost| cost.name != "client" && !cost.name.starts_with("chaincode/");
    BenchReport {
        transactions: count as u64,
        failed: tally.failed,
        first_failure: tally.first_failure,
        seconds: measured.as_secs_f64(),
        throughput: count as f64 / measured.as_secs_f64(),
        total: percentiles(total),
        stages,
        node_cpu_per_transaction: cpu(&is_node),
        all_cpu_per_transaction: cpu(&|_| true),
        processes,
    }
}

fn seconds(times: &[Duration]) -> f64 {
    times.iter().map(Duration::as_secs_f64).sum()
}

fn percentiles(mut times: Vec<Duration>) -> Percentiles {
    times.sort_unstable();
    // Nearest rank: the smallest time that at least this part of all times does not exceed.
    let at = |part: f64| {
        let rank = (part * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
}

fn print(report: &BenchReport) {
    println!(
        "{} transactions in {:.1} s: {:.0} tx/s, {} failed",
        report.transactions, report.seconds, report.throughput, report.failed
    );
    if let Some(failure) = &report.first_failure {
        println!("first failure: {failure}");
    }
    println!("\n{:<10}{:>9}{:>9}{:>9}{:>9}{:>8}", "ms", "p50", "p95", "p99", "max", "share");
    let row = |name: &str, latency: &Percentiles, share: f64| {
        println!(
            "{name:<10}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>7.0}%",
            latency.p50,
            latency.p95,
            latency.p99,
            latency.max,
            share * 100.0
        );
    };
    for stage in &report.stages {
        row(stage.name, &stage.latency, stage.share);
    }
    row("total", &report.total, 1.0);
    println!("\n{:<28}{:>10}{:>12}", "process", "CPU s", "RSS MiB");
    for process in &report.processes {
        let mebibytes = process.resident_bytes as f64 / (1024.0 * 1024.0);
        println!("{:<28}{:>10.2}{:>12.1}", process.name, process.cpu_seconds, mebibytes);
    }
    println!(
        "\nCPU a transaction: {:.2} ms in nodes, {:.2} ms in all",
        report.node_cpu_per_transaction, report.all_cpu_per_transaction
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let found = percentiles(times);
        assert_eq!((found.p50, found.p95, found.p99, found.max), (50.0, 95.0, 99.0, 100.0));
        assert_eq!(percentiles(Vec::new()).max, 0.0);
    }

    #[test]
    fn shares_add_up_and_clients_are_not_nodes() {
        let timing = Timing {
            endorsed: Duration::from_millis(2),
            submitted: Duration::from_millis(3),
            committed: Duration::from_millis(10),
        };
        let usage =
            |milliseconds| Usage { cpu: Duration::from_millis(milliseconds), resident_bytes: 1 };
        let names = ["peer0.org1", "chaincode/c.asset", "client"];
        let at = |milliseconds| names.map(|name| (name.to_owned(), usage(milliseconds))).to_vec();
        let tally = Tally { timings: vec![timing; 4], ..Tally::default() };
        let report = summarize(tally, Duration::from_secs(2), &at(100), &at(108));
        assert_eq!(report.throughput, 2.0);
        let shares: f64 = report.stages.iter().map(|stage| stage.share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
        assert!((report.node_cpu_per_transaction - 2.0).abs() < 1e-9);
        assert!((report.all_cpu_per_transaction - 6.0).abs() < 1e-9);
    }
}
