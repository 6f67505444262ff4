//! `weft-node peer`.

use std::sync::Arc;

use anyhow::{Context, bail};
use weft_ledger::kv::column::PEER_COLUMNS;
use weft_ops::health::Health;
use weft_ops::{logging, metrics};
use weft_peer::peer::{Peer, PeerOptions};
use weft_settings::{PeerSettings, ignored_overrides};
use weft_types::ChannelId;

use crate::setup::{self, OperationsPort};
use crate::stores::RocksStores;
use crate::{NodeArgs, shutdown};

/// Runs a peer until it is asked to end, or cannot go on.
pub async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let text = setup::read(&args.config)?;
    let mut settings = PeerSettings::load(&text, std::env::vars())?;
    settings.resolve_paths(&setup::base_of(&args.config)?);
    if args.print_config {
        print!("{}", serde_yaml::to_string(&settings)?);
        return Ok(());
    }
    let logging = logging::init(&settings.logging)?;
    setup::warn_of_ignored(ignored_overrides::<PeerSettings>(std::env::vars()));
    let build = setup::build_info("peer");
    let registry = metrics::registry(&build)?;
    let health = Health::new();
    let (identity, local_msp) = setup::identity(&settings.msp)?;
    let stores = RocksStores::new(&settings.data_dir, PEER_COLUMNS, &settings.storage);
    let existing = stores.list().context("failed to list the ledgers")?;
    let open = move |channel: &ChannelId| stores.open(channel);
    let options = PeerOptions {
        tls: setup::tls(&settings.tls)?,
        identity,
        local_msp,
        stores: Arc::new(open),
        existing,
        registry: registry.clone(),
        health: health.clone(),
        settings: settings.clone(),
    };
    let peer = Peer::start(options).await.context("failed to start the peer")?;
    // Healthy only once it serves.
    let shown = setup::operations(registry, health, logging, build);
    let port =
        OperationsPort::start(&settings.operations, &settings.tls, &settings.limits, shown).await?;
    let fault = tokio::select! {
        signal = shutdown::requested() => {
            tracing::info!(signal = signal.context("failed to listen for signals")?, "ending");
            None
        }
        fault = peer.faulted() => Some(fault),
    };
    peer.shutdown().await;
    if let Some(port) = port {
        port.end().await;
    }
    match fault {
        Some(fault) => bail!("the peer cannot go on: {fault}"),
        None => Ok(()),
    }
}
