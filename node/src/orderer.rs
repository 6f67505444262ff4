//! `weft-node orderer`.

use std::sync::Arc;

use anyhow::Context;
use weft_ledger::kv::column::ORDERER_COLUMNS;
use weft_ops::health::Health;
use weft_ops::{logging, metrics};
use weft_orderer::{Orderer, OrdererParts, node};
use weft_settings::{OrdererSettings, ignored_overrides};

use crate::NodeArgs;
use crate::identity::{MspFolder, show_expiry};
use crate::setup::{self, OperationsPort, Starting};
use crate::shutdown::Signals;
use crate::stores::RocksStores;

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
    setup::tighten(&settings.data_dir);
    setup::warn_of_ignored(ignored_overrides::<OrdererSettings>(std::env::vars()));
    let build = setup::build_info("orderer");
    let registry = metrics::registry(&build)?;
    let health = Health::new();
    let mut signals = Signals::listen()?;
    let folder = MspFolder::load(&settings.msp, &registry)?;
    let identity = folder.msp().identity().clone();
    let tls = setup::tls(&settings.tls)?;
    show_expiry(&registry, folder.msp(), &tls)?;
    // Renewed certificates are picked up while the node runs.
    let interval = settings.tls.reload_interval;
    let admins = node::admin_tls(&settings)?;
    let _watches = (!interval.is_zero()).then(|| (tls.watch(interval), admins.watch(interval)));
    let _folder = folder.watch(interval);
    let starting = Starting::tell(&health);
    let shown = setup::operations(registry.clone(), health.clone(), logging, build);
    let port =
        OperationsPort::start(&settings.operations, &settings.tls, &settings.limits, shown).await?;
    let parts = OrdererParts {
        identity,
        tls,
        admin_roots: admins.client_roots().clone(),
        stores: Arc::new(RocksStores::new(&settings.data_dir, ORDERER_COLUMNS, &settings.storage)),
        registry,
        health: health.clone(),
        settings: settings.clone(),
    };
    let orderer = tokio::select! {
        started = Orderer::start(parts) => started.context("failed to start the orderer")?,
        signal = signals.requested() => {
            tracing::info!(signal, "ending before it served");
            return Ok(());
        }
    };
    starting.done();
    let signal = signals.requested().await;
    tracing::info!(signal, "ending");
    orderer.shutdown().await;
    if let Some(port) = port {
        port.end().await;
    }
    Ok(())
}
