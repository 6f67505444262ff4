//! Making an engine from what is stored.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;
use tracing::info;
use weft_config::{Bundle, Consensus, OrdererConfig, RaftConfig};
use weft_consensus::raft::{Options, RaftEngine, Start};
use weft_consensus::solo::SoloEngine;
use weft_consensus::{Applied, Engine, Millis, NodeId};
use weft_settings::OrdererSettings;
use weft_types::ChannelId;

use super::{ChainError, Context};
use crate::membership;
use crate::replication::{self, Source};

/// Time to ask the other consenters of a new channel how far they are.
const PROBE: std::time::Duration = std::time::Duration::from_secs(1);

/// Bytes of an entry beside its envelopes.
const FRAMING: usize = 1 << 20;
/// The largest entry that an engine can be set to take.
const LARGEST: usize = 1 << 30;

/// An engine with what has to be known to run it.
pub(super) struct Running {
    pub engine: Box<dyn Engine>,
    pub node: NodeId,
    /// Whether the store knows of the id.
    pub recorded: bool,
    /// Whether the engine's log holds every entry durably before it is delivered.
    pub durable_log: bool,
    /// The election timeout, milliseconds; 0 without elections.
    pub election_ms: u64,
    /// Whether this node should stand at once and not wait for an election timeout: it alone
    /// can win, or it is the first of the consenters. In a cluster that starts, new or not,
    /// somebody has to begin; where there is a leader, pre-vote keeps it in office.
    pub stand_at_once: bool,
}

/// What an engine is made from.
pub(super) struct From {
    pub node: NodeId,
    pub applied: Applied,
    pub records: Vec<(Bytes, Bytes)>,
    /// What it means if there are no records.
    pub start: Start,
    /// For the random part of election timeouts.
    pub seed: u64,
}

/// This node's id among the consenters, if it is one.
pub(super) fn own_id(bundle: &Bundle, applied: &Applied, tls_key: &[u8]) -> Option<NodeId> {
    if membership::is_solo(bundle) {
        return applied.membership.ids().next();
    }
    membership::ClusterView::new(bundle, &applied.membership).id_of(tls_key)
}

/// How an engine without a log is to be started; `None` where that depends on how far the other
/// consenters are: anybody ahead means that this node has lost its disk.
///
/// A consenter of the genesis block on a chain that is just that block is new to it, unless
/// another consenter has more blocks. One that has the id assigned last was just added, unless it
/// `acted` under it before. Any other did, too.
pub(super) fn fresh(node: NodeId, applied: &Applied, acted: bool) -> Option<Start> {
    let alone = applied.membership.len() == 1;
    if acted && !alone {
        return Some(Start::Rejoin);
    }
    if applied.height == 1 && applied.index == 0 {
        return alone.then_some(Start::Bootstrap);
    }
    let added_last = node + 1 == applied.membership.next_id();
    Some(if added_last { Start::Join } else { Start::Rejoin })
}

/// Whether any of these orderers has more than a genesis block.
pub(super) async fn any_ahead(
    context: Arc<Context>,
    channel: ChannelId,
    others: Vec<Source>,
) -> bool {
    let probes = others.into_iter().map(|source| {
        let (context, channel) = (context.clone(), channel.clone());
        async move {
            let asked = replication::newest(&context, &channel, &source);
            timeout(PROBE, asked).await.ok().and_then(Result::ok)
        }
    });
    join_all(probes).await.into_iter().flatten().any(|number| number > 0)
}

/// The engine of a channel's consensus type.
pub(super) fn engine(
    settings: &OrdererSettings,
    bundle: &Bundle,
    from: From,
    now: Millis,
) -> Result<Running, ChainError> {
    let From { node, applied, records, start, seed } = from;
    let orderer = bundle.orderer().ok_or(ChainError::NotJoined)?;
    match &orderer.consensus {
        Consensus::Solo => {
            let engine = SoloEngine::restore(node, applied).map_err(ChainError::Solo)?;
            Ok(Running {
                engine: Box::new(engine),
                node,
                recorded: true,
                durable_log: false,
                election_ms: 0,
                stand_at_once: false,
            })
        }
        Consensus::Raft(raft) => {
            let first = applied.membership.ids().min() == Some(node);
            let alone = applied.membership.len() == 1;
            let height = applied.height;
            let options = options(settings, raft, max_entry_bytes(orderer), seed);
            let election_ms = options.election_timeout_ms();
            let engine = RaftEngine::restore(node, options, applied, records, start, now)
                .map_err(ChainError::Restore)?;
            info!(channel = %bundle.channel_id(), node, height, ?start, "started raft");
            Ok(Running {
                engine: Box::new(engine),
                node,
                recorded: false,
                durable_log: true,
                election_ms,
                stand_at_once: alone || (first && start != Start::Rejoin),
            })
        }
        other => Err(ChainError::Consenters(membership::ConsentersError::Unsupported {
            kind: other.name(),
        })),
    }
}

/// The largest entry: a batch of one envelope of AbsoluteMaxBytes with room for its framing, or
/// the engine's own limit where that is more.
pub(super) fn max_entry_bytes(orderer: &OrdererConfig) -> usize {
    let absolute = orderer.batch_size.absolute_max_bytes as usize;
    Options::default().max_entry_bytes.max(absolute.saturating_add(FRAMING)).min(LARGEST)
}

fn options(
    settings: &OrdererSettings,
    raft: &RaftConfig,
    max_entry_bytes: usize,
    seed: u64,
) -> Options {
    let (overrides, channel) = (&settings.raft, &raft.options);
    let tick = overrides.tick_interval.unwrap_or(channel.tick_interval);
    let snapshot = overrides
        .snapshot_interval_bytes
        .unwrap_or_else(|| u64::from(channel.snapshot_interval_size));
    let in_flight = (channel.max_inflight_blocks as usize).min(settings.batching.max_in_flight);
    Options {
        tick_interval_ms: u64::try_from(tick.as_millis()).unwrap_or(u64::MAX).max(1),
        election_tick: channel.election_tick,
        heartbeat_tick: channel.heartbeat_tick,
        max_inflight_entries: in_flight.max(1),
        snapshot_interval_bytes: usize::try_from(snapshot).unwrap_or(usize::MAX).max(1),
        max_entry_bytes,
        seed,
        ..Options::default()
    }
}
