//! What orderers and peers are set up with alike.

use std::path::Path;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weft_ops::health::Health;
use weft_ops::logging::LogHandle;
use weft_ops::metrics::BuildInfo;
use weft_ops::service::Operations;
use weft_rpc::https::HttpsOptions;
use weft_rpc::listen::Security;
use weft_rpc::tls::{ReloadingTls, TlsFiles, WatchGuard};
use weft_settings::{Limits, Operations as OperationsSettings, Tls};

/// The folder from which a settings file's relative paths are taken.
pub fn base_of(config: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = std::path::absolute(config)
        .with_context(|| format!("failed to find {}", config.display()))?;
    Ok(path.parent().map(Path::to_owned).unwrap_or_default())
}

/// The text of a settings file.
pub fn read(config: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(config).with_context(|| format!("failed to read {}", config.display()))
}

/// Takes the rights of others from what an earlier version left. A node whose volume does not
/// permit that serves nevertheless.
pub fn tighten(data_dir: &Path) {
    if let Err(error) = weft_ops::private::tighten(data_dir) {
        tracing::warn!(%error, "failed to make all files of the node its owner's alone");
    }
}

/// Warns of variables that look like overrides and override nothing.
pub fn warn_of_ignored(names: Vec<String>) {
    for name in names {
        tracing::warn!(%name, "the environment variable overrides no setting");
    }
}

/// The node's TLS certificate and roots.
pub fn tls(settings: &Tls) -> anyhow::Result<ReloadingTls> {
    ReloadingTls::load(TlsFiles::from(settings)).context("failed to load TLS certificates")
}

/// What is running.
pub fn build_info(component: &str) -> BuildInfo {
    BuildInfo {
        component: component.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("WEFT_COMMIT").unwrap_or_default().to_owned(),
    }
}

/// Makes a node unhealthy until it serves.
pub struct Starting<'a>(&'a Health);

impl<'a> Starting<'a> {
    /// The name of the check.
    const CHECK: &'static str = "start";

    /// From now on the node is starting.
    pub fn tell(health: &'a Health) -> Self {
        health.register(Self::CHECK, || async { Err("the node does not serve yet".to_owned()) });
        Self(health)
    }

    /// The node serves.
    pub fn done(self) {
        self.0.deregister(Self::CHECK);
    }
}

/// The operations port, served until it is dropped or ended.
pub struct OperationsPort {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Picks up renewed certificates of the port.
    _watch: Option<WatchGuard>,
}

impl OperationsPort {
    /// Binds and serves the port; `None` when the settings turn it off.
    pub async fn start(
        settings: &OperationsSettings,
        node_tls: &Tls,
        limits: &Limits,
        operations: Operations,
    ) -> anyhow::Result<Option<OperationsPort>> {
        if settings.listen.is_empty() {
            return Ok(None);
        }
        let (security, watch) = security(settings, node_tls)?;
        let server = operations
            .bind(&settings.listen, HttpsOptions::from(limits), security)
            .await
            .with_context(|| format!("failed to serve operations at {}", settings.listen))?;
        tracing::info!(address = %server.local_addr(), "operations are served");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            // Dropping the sender ends it as well.
            let _ = stopped.await;
        }));
        Ok(Some(OperationsPort { stop, task, _watch: watch }))
    }

    /// Ends the port; the last thing that a node does, so that its end can be watched.
    pub async fn end(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

fn security(
    settings: &OperationsSettings,
    node: &Tls,
) -> anyhow::Result<(Security, Option<WatchGuard>)> {
    let tls = &settings.tls;
    if !tls.enabled {
        return Ok((Security::Plain, None));
    }
    let or = |own: &Path, other: &Path| {
        if own.as_os_str().is_empty() { other.to_owned() } else { own.to_owned() }
    };
    let roots = if tls.client_root_cas.is_empty() {
        node.root_cas.clone()
    } else {
        tls.client_root_cas.clone()
    };
    let files = TlsFiles {
        cert: or(&tls.cert, &node.cert),
        key: or(&tls.key, &node.key),
        root_cas: roots.clone(),
        client_root_cas: roots,
        crls: node.crls.clone(),
    };
    let reloading =
        ReloadingTls::load(files).context("failed to load the TLS certificates of operations")?;
    let interval = node.reload_interval;
    let watch = (!interval.is_zero()).then(|| reloading.watch(interval));
    Ok((Security::tls(&reloading, tls.client_auth), watch))
}

/// What the operations port shows.
pub fn operations(
    registry: prometheus::Registry,
    health: Health,
    logging: LogHandle,
    build: BuildInfo,
) -> Operations {
    Operations { health, registry, logging, build }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_unhealthy_until_it_serves() {
        let health = Health::new();
        let starting = Starting::tell(&health);
        let failed = health.run().await;
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].reason, "the node does not serve yet");
        starting.done();
        assert!(health.run().await.is_empty());
    }
}
