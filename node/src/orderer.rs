//! `weft-node orderer`.

use std::sync::Arc;

use anyhow::Context;
use weft_ledger::kv::column::ORDERER_COLUMNS;
use weft_ops::health::Health;
use weft_ops::{logging, metrics};
use weft_orderer::{Orderer, OrdererParts, node};
use weft_settings::{OrdererSettings, ignored_overrides};

use crate::setup::{self, OperationsPort};
use crate::stores::RocksStores;
use crate::{NodeArgs, shutdown};

/// Runs an orderer until it is asked to end.
pub async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let text = setup::read(&args.config)?;
    let mut settings = OrdererSettings::load(&text, std::env::vars())?;
    settings.resolve_paths(&setup::base_of(&args.config)?);
    if args.print_config {
        print!("{}", serde_yaml::to_string(&settings)?);
        return Ok(());
    }
    let logging = logging::init(&settings.logging)?;
    setup::warn_of_ignored(ignored_overrides::<OrdererSettings>(std::env::vars()));
    let build = setup::build_info("orderer");
    let registry = metrics::registry(&build)?;
    let health = Health::new();
    let (identity, _) = setup::identity(&settings.msp)?;
    let tls = setup::tls(&settings.tls)?;
    // Renewed certificates are picked up while the node runs.
    let interval = settings.tls.reload_interval;
    let admins = node::admin_tls(&settings)?;
    let _watches = (!interval.is_zero()).then(|| (tls.watch(interval), admins.watch(interval)));
    let parts = OrdererParts {
        identity,
        tls,
        admin_roots: admins.client_roots().clone(),
        stores: Arc::new(RocksStores::new(&settings.data_dir, ORDERER_COLUMNS, &settings.storage)),
        registry: registry.clone(),
        health: health.clone(),
        settings: settings.clone(),
    };
    let orderer = Orderer::start(parts).await.context("failed to start the orderer")?;
    // Healthy only once it serves.
    let shown = setup::operations(registry, health, logging, build);
    let port =
        OperationsPort::start(&settings.operations, &settings.tls, &settings.limits, shown).await?;
    let signal = shutdown::requested().await.context("failed to listen for signals")?;
    tracing::info!(signal, "ending");
    orderer.shutdown().await;
    if let Some(port) = port {
        port.end().await;
    }
    Ok(())
}
