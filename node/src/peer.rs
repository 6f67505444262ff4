//! `weft-node peer`.

use std::sync::Arc;

use anyhow::Context;
use weft_channels::Stores as _;
use weft_ledger::kv::column::PEER_COLUMNS;
use weft_ops::health::Health;
use weft_ops::{logging, metrics};
use weft_peer::peer::{Peer, PeerOptions, contract_tls};
use weft_settings::{PeerSettings, ignored_overrides};

use crate::NodeArgs;
use crate::identity::{MspFolder, show_expiry};
use crate::setup::{self, OperationsPort, Starting};
use crate::shutdown::Signals;
use crate::stores::RocksStores;

/// Runs a peer until it is asked to end.
pub async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let text = setup::read(&args.config)?;
    let mut settings = PeerSettings::load(&text, std::env::vars())?;
    settings.resolve_paths(&setup::base_of(&args.config)?);
    if args.print_config {
        print!("{}", serde_yaml::to_string(&settings)?);
        return Ok(());
    }
    let logging = logging::init(&settings.logging)?;
    setup::tighten(&settings.data_dir);
    setup::warn_of_ignored(ignored_overrides::<PeerSettings>(std::env::vars()));
    let build = setup::build_info("peer");
    let registry = metrics::registry(&build)?;
    let health = Health::new();
    let mut signals = Signals::listen()?;
    let folder = MspFolder::load(&settings.msp, &registry)?;
    let tls = setup::tls(&settings.tls)?;
    show_expiry(&registry, folder.msp(), &tls)?;
    let (identity, local_msp) = (folder.msp().identity().clone(), folder.msp().msps().clone());
    let _folder = folder.watch(settings.tls.reload_interval);
    let starting = Starting::tell(&health);
    let shown = setup::operations(registry.clone(), health.clone(), logging, build);
    let port =
        OperationsPort::start(&settings.operations, &settings.tls, &settings.limits, shown).await?;
    let stores = RocksStores::new(&settings.data_dir, PEER_COLUMNS, &settings.storage);
    let existing = stores.list().context("failed to list the ledgers")?;
    let contract_tls = contract_tls(&settings)
        .context("failed to load the authorities of contracts' certificates")?;
    let options = PeerOptions {
        tls,
        contract_tls,
        identity,
        local_msp,
        stores: Arc::new(stores),
        existing,
        registry,
        health: health.clone(),
        settings: settings.clone(),
    };
    let peer = tokio::select! {
        started = Peer::start(options) => started.context("failed to start the peer")?,
        signal = signals.requested() => {
            tracing::info!(signal, "ending before it served");
            return Ok(());
        }
    };
    starting.done();
    let signal = signals.requested().await;
    tracing::info!(signal, "ending");
    peer.shutdown().await;
    if let Some(port) = port {
        port.end().await;
    }
    Ok(())
}
