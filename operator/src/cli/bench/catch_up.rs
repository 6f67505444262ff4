//! `weft bench --catch-up`: how fast a peer without a ledger takes the whole chain.
//!
//! The network's last peer is stopped and its data set aside; it is started with none, joins its
//! channel from the genesis block and takes every block from the orderers, verifying all of it.
//! Afterwards the data set aside is put back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use weft_rpc::https::{Client, ClientOptions};
use weft_rpc::tls::{ReloadingTls, RootSet};

use super::super::{CommandError, Output};
use crate::local::layout::Layout;
use crate::local::nodes::{Kind, Node};
use crate::local::process::ProcessId;
use crate::local::progress::Silent;
use crate::local::state::State;
use crate::local::{LocalError, Runner, UpOptions};

/// How often the peer is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Time without a new block after which the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for the peer to end.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Where the peer's data is while another peer's is made anew.
const ASIDE: &str = "data.aside";

/// What catching up came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUpReport {
    /// The peer that was started without a ledger.
    pub peer: String,
    /// Blocks it took, the genesis block included.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// From the start of the peer's process until it had committed the last block.
    pub seconds: f64,
    /// Transactions a second.
    pub throughput: f64,
    /// CPU of the peer in that time, for each transaction, in milliseconds.
    pub cpu_per_transaction: f64,
    /// The most memory that the peer had resident, in bytes (proc(5), `VmHWM`).
    pub peak_resident_bytes: u64,
}

/// Measures and prints.
pub(super) async fn catch_up(dir: &Path, output: Output) -> Result<(), CommandError> {
    let layout = Layout::new(std::path::absolute(dir)?);
    let folder = layout.root().to_owned();
    let state = State::load(&layout)?.ok_or(LocalError::NoNetwork { folder })?;
    let options = UpOptions {
        manifest: layout.manifest(),
        manifest_folder: Some(state.manifest_folder),
        folder: layout.root().to_owned(),
        weft: std::env::current_exe()?,
    };
    // Holds the network's lock, so that nobody starts the peer in between.
    let mut runner = Runner::prepare(&options, Arc::new(Silent))?;
    runner.bring_up().await?;
    let mut peers = runner.nodes().iter().filter(|node| node.kind == Kind::Peer);
    let peer = peers.next_back().cloned().ok_or("the network has no peer")?;
    let expected = Progress::of(&peer).await.ok_or("the peer does not tell its height")?.blocks;

    let (data, aside) = (peer.folder.join("data"), peer.folder.join(ASIDE));
    stop(&layout, &peer).await?;
    std::fs::rename(&data, &aside)?;
    let measured = measure(&mut runner, &layout, &peer, expected).await;
    let restored = restore(&mut runner, &layout, &peer, &data, &aside).await;
    let report = measured?;
    restored?;
    match output.structured(&report)? {
        Some(text) => print!("{text}"),
        None => print(&report),
    }
    Ok(())
}

async fn measure(
    runner: &mut Runner,
    layout: &Layout,
    peer: &Node,
    expected: u64,
) -> Result<CatchUpReport, CommandError> {
    let begun = Instant::now();
    let (ready, reached) = tokio::join!(runner.bring_up(), reach(peer, expected, begun));
    ready?;
    let (progress, took) = reached?;
    let process = process(layout, peer)?;
    let usage = process.usage().ok_or("the peer has ended")?;
    let transactions = progress.transactions.max(1) as f64;
    Ok(CatchUpReport {
        peer: peer.name.clone(),
        blocks: progress.blocks,
        transactions: progress.transactions,
        seconds: took.as_secs_f64(),
        throughput: progress.transactions as f64 / took.as_secs_f64(),
        cpu_per_transaction: usage.cpu.as_secs_f64() * 1000.0 / transactions,
        peak_resident_bytes: peak(process).ok_or("the system does not tell the peer's memory")?,
    })
}

/// Waits until the peer has that many blocks.
async fn reach(
    peer: &Node,
    expected: u64,
    begun: Instant,
) -> Result<(Progress, Duration), CommandError> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        if let Some(progress) = Progress::of(peer).await {
            if progress.blocks >= expected {
                return Ok((progress, begun.elapsed()));
            }
            if progress.blocks > last {
                (last, since) = (progress.blocks, Instant::now());
            }
        }
        if since.elapsed() > PATIENCE {
            let name = &peer.name;
            return Err(format!("{name} stays at {last} blocks of {expected}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Puts the peer's own data back and starts it with them.
async fn restore(
    runner: &mut Runner,
    layout: &Layout,
    peer: &Node,
    data: &Path,
    aside: &Path,
) -> Result<(), CommandError> {
    stop(layout, peer).await?;
    if data.exists() {
        std::fs::remove_dir_all(data)?;
    }
    std::fs::rename(aside, data)?;
    runner.bring_up().await?;
    Ok(())
}

fn process(layout: &Layout, peer: &Node) -> Result<ProcessId, CommandError> {
    let state = State::load(layout)?.unwrap_or_default();
    let process = state.processes.get(&peer.name).copied();
    Ok(process.ok_or_else(|| format!("{} does not run", peer.name))?)
}

async fn stop(layout: &Layout, peer: &Node) -> Result<(), CommandError> {
    Ok(process(layout, peer)?.stop(&peer.name, STOP_PATIENCE).await?)
}

/// What a process had resident at most, in bytes.
fn peak(process: ProcessId) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    parse_peak(&status)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// How far a peer is, as its metrics tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    blocks: u64,
    transactions: u64,
}

impl Progress {
    async fn of(peer: &Node) -> Option<Self> {
        let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
        let client = Client::new(tls, ClientOptions::default());
        let url = format!("http://127.0.0.1:{}/metrics", peer.operations);
        let response = client.get(&url).await.ok()?;
        Self::read(&response.text())
    }

    /// Sums over channels; `None` where no height is told.
    fn read(metrics: &str) -> Option<Self> {
        let sum = |name: &str| {
            let values = metrics.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?.strip_prefix('{')?;
                rest.rsplit_once(' ')?.1.parse::<f64>().ok()
            });
            let values: Vec<f64> = values.collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
        };
        Some(Self {
            blocks: sum("ledger_blockchain_height")?,
            transactions: sum("ledger_transaction_count").unwrap_or(0),
        })
    }
}

fn print(report: &CatchUpReport) {
    println!(
        "{} took {} blocks with {} transactions in {:.2} s: {:.0} tx/s",
        report.peer, report.blocks, report.transactions, report.seconds, report.throughput
    );
    println!(
        "CPU a transaction: {:.3} ms; peak memory {:.1} MiB",
        report.cpu_per_transaction,
        report.peak_resident_bytes as f64 / (1024.0 * 1024.0)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_metrics() {
        let text = "# HELP ledger_blockchain_height x\n\
            ledger_blockchain_height{channel=\"a\"} 12\n\
            ledger_transaction_count{channel=\"a\",code=\"VALID\"} 40\n\
            ledger_transaction_count{channel=\"a\",code=\"MVCC_READ_CONFLICT\"} 2\n\
            ledger_transaction_count_other{channel=\"a\"} 7\n";
        assert_eq!(Progress::read(text), Some(Progress { blocks: 12, transactions: 42 }));
        assert_eq!(Progress::read("# nothing yet\n"), None);
    }

    #[test]
    fn the_peak_is_in_kibibytes() {
        assert_eq!(parse_peak("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(parse_peak("VmRSS:\t 9 kB\n"), None);
    }
}
