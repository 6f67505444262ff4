//! Making an engine from what is stored.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;
use tracing::info;
use weft_config::{Bundle, Consensus, RaftConfig};
use weft_consensus::raft::{Options, RaftEngine, Start};
use weft_consensus::solo::SoloEngine;
use weft_consensus::{Applied, Engine, Millis, NodeId};
use weft_settings::OrdererSettings;
use weft_types::BlockNumber;

use super::{ChainError, Context};
use crate::membership::{self, raft_consenters};
use crate::replication::{self, Source};

/// Time to ask the other consenters of a new channel how far they are.
const PROBE: std::time::Duration = std::time::Duration::from_secs(1);

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

/// This node's id among the consenters, if it is one.
pub(super) fn own_id(bundle: &Bundle, applied: &Applied, tls_key: &[u8]) -> Option<NodeId> {
    if membership::is_solo(bundle) {
        return applied.membership.ids().next();
    }
    membership::ClusterView::new(bundle, &applied.membership).id_of(tls_key)
}

/// How an engine without a log is to be started.
///
/// A consenter of the genesis block on a chain that is just that block is new to it, unless
/// another consenter has more blocks: then this node may have lost its disk. One that has the id
/// assigned last was just added, unless it `acted` under it before. Any other did, too.
pub(super) async fn fresh_start(
    context: &Arc<Context>,
    bundle: &Bundle,
    node: NodeId,
    applied: &Applied,
    acted: bool,
) -> Start {
    let alone = applied.membership.len() == 1;
    if acted && !alone {
        return Start::Rejoin;
    }
    if applied.height == 1 && applied.index == 0 {
        let ahead = !alone && others_are_ahead(context, bundle, node, applied).await;
        return if ahead { Start::Rejoin } else { Start::Bootstrap };
    }
    if node + 1 == applied.membership.next_id() { Start::Join } else { Start::Rejoin }
}

async fn others_are_ahead(
    context: &Arc<Context>,
    bundle: &Bundle,
    node: NodeId,
    applied: &Applied,
) -> bool {
    let view = membership::ClusterView::new(bundle, &applied.membership);
    let others = view.nodes().iter().filter(|(id, _)| **id != node);
    let probes = others.map(|(_, other)| {
        let source = Source { address: other.endpoint.to_string() };
        let (shared, channel) = (context.clone(), bundle.channel_id().clone());
        context.runtime.spawn(async move {
            let asked = replication::newest(&shared, &channel, &source);
            timeout(PROBE, asked).await.ok().and_then(Result::ok)
        })
    });
    let newest: Vec<Option<BlockNumber>> =
        join_all(probes).await.into_iter().map(|probe| probe.ok().flatten()).collect();
    newest.into_iter().flatten().any(|number| number > 0)
}

/// The engine of a channel's consensus type.
pub(super) fn engine(
    settings: &OrdererSettings,
    bundle: &Bundle,
    node: NodeId,
    applied: Applied,
    records: Vec<(Bytes, Bytes)>,
    start: Start,
    now: Millis,
) -> Result<Running, ChainError> {
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
            let options = options(settings, raft, orderer.batch_size.absolute_max_bytes, node);
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

fn options(settings: &OrdererSettings, raft: &RaftConfig, absolute: u32, node: NodeId) -> Options {
    let (overrides, channel) = (&settings.raft, &raft.options);
    let tick = overrides.tick_interval.unwrap_or(channel.tick_interval);
    let snapshot = overrides
        .snapshot_interval_bytes
        .unwrap_or_else(|| u64::from(channel.snapshot_interval_size));
    let in_flight = (channel.max_inflight_blocks as usize).min(settings.batching.max_in_flight);
    let defaults = Options::default();
    let seed = weft_crypto::random_bytes::<8>().map(u64::from_le_bytes).unwrap_or(node);
    Options {
        tick_interval_ms: u64::try_from(tick.as_millis()).unwrap_or(u64::MAX).max(1),
        election_tick: channel.election_tick,
        heartbeat_tick: channel.heartbeat_tick,
        max_inflight_entries: in_flight.max(1),
        snapshot_interval_bytes: usize::try_from(snapshot).unwrap_or(usize::MAX).max(1),
        // A batch of one envelope of the largest size, with room for its framing.
        max_entry_bytes: defaults.max_entry_bytes.max(absolute as usize + (1 << 20)),
        seed,
        ..defaults
    }
}

/// Addresses of everybody who should have the channel's blocks, consenters first; without this
/// node.
pub(crate) fn sources(context: &Context, bundle: &Bundle) -> Vec<Source> {
    let own = &context.settings.external_address;
    let consenters = raft_consenters(bundle).iter().map(|c| c.endpoint.to_string());
    let endpoints = bundle.orderer_endpoints().into_iter().map(|(_, at)| at.to_string());
    let mut addresses: Vec<String> = Vec::new();
    for address in consenters.chain(endpoints) {
        if address != *own && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.into_iter().map(|address| Source { address }).collect()
}
