//! The running operator: a port for health and metrics, leader election, controllers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use tokio::sync::watch::{Receiver, Sender};
use weft_ops::health::Health;
use weft_ops::logging::{self, LogHandle, LoggingError};
use weft_ops::metrics::{self as ops_metrics, BuildInfo};
use weft_ops::service::Operations;
use weft_rpc::https::HttpsOptions;
use weft_rpc::listen::{ListenError, Security};
use weft_settings::{Limits, LogFormat, Logging};

use super::apply::Applier;
use super::controllers::{self, context, context::Context, watch};
use super::election::{Election, Times};
use super::events::Events;
use super::ledger::Connections;
use super::metrics::Metrics;
use super::resources::group::BudgetApi;

/// How often connections that nobody used are let go, and how long they are kept.
const PRUNE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(300));

/// What the operator is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Image of nodes whose spec names none.
    #[arg(long, env = "WEFT_NODE_IMAGE", default_value = concat!("weft-node:", env!("CARGO_PKG_VERSION")))]
    pub node_image: String,
    /// Namespaces to look at, separated by commas; all when empty.
    #[arg(long, env = "WEFT_NAMESPACE", default_value = "", value_delimiter = ',')]
    pub namespace: Vec<String>,
    /// Address of the port for health and metrics.
    #[arg(long, env = "WEFT_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: String,
    /// Whether replicas elect a leader; without it there must be one only.
    #[arg(long, env = "WEFT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of the Lease by which they do.
    #[arg(long, env = "WEFT_LEASE_NAME", default_value = "weft-operator")]
    pub lease_name: String,
    /// Namespace of that Lease.
    #[arg(long, env = "WEFT_LEASE_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// Name of this replica; that of its pod in a cluster.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Form of log lines: text or json.
    #[arg(long, env = "WEFT_LOG_FORMAT", default_value = "text", value_parser = log_format)]
    pub log_format: LogFormat,
    /// Log filter, such as `info` or `info,weft_operator=debug`.
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} is neither text nor json")),
    }
}

/// Why the operator cannot run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logging.
    #[error("failed to set logging up")]
    Logging(#[source] LoggingError),
    /// Metrics.
    #[error("failed to set metrics up")]
    Metrics(#[source] prometheus::Error),
    /// The API server.
    #[error("failed to reach the Kubernetes API server")]
    Client(#[source] Box<kube::Error>),
    /// The port.
    #[error("failed to serve health and metrics at {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: Box<ListenError>,
    },
    /// The system gives no signals.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// Another replica leads now: this one must not go on.
    #[error("lost the lease: another replica may lead now")]
    LeaseLost,
}

/// Runs the operator until it is asked to end.
///
/// # Errors
/// [`RunError`].
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let logging = Logging { spec: args.log.clone(), format: args.log_format, ..Logging::default() };
    let logging = logging::init(&logging).map_err(RunError::Logging)?;
    let build = BuildInfo {
        component: "operator".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("WEFT_COMMIT").unwrap_or_default().to_owned(),
    };
    let registry = ops_metrics::registry(&build).map_err(RunError::Metrics)?;
    let metrics = Metrics::register(&registry).map_err(RunError::Metrics)?;
    let client = Client::try_default().await.map_err(|error| RunError::Client(Box::new(error)))?;
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let port = serve(&args, registry, logging, build, ended(stopped.clone())).await?;
    signals(stopping)?;
    let result = lead(&args, &client, &metrics, stopped).await;
    port.abort();
    result
}

async fn serve(
    args: &RunArgs,
    registry: prometheus::Registry,
    logging: LogHandle,
    build: BuildInfo,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<tokio::task::JoinHandle<()>, RunError> {
    let operations = Operations { health: Health::new(), registry, logging, build };
    let options = HttpsOptions::from(&Limits::default());
    let server =
        operations.bind(&args.listen, options, Security::Plain).await.map_err(|source| {
            RunError::Listen { address: args.listen.clone(), source: Box::new(source) }
        })?;
    tracing::info!(address = %server.local_addr(), "health and metrics are served");
    Ok(tokio::spawn(server.serve(stop)))
}

fn signals(stopping: Sender<bool>) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        let _ = stopping.send(true);
    });
    Ok(())
}

/// Resolves when the operator is asked to end.
async fn ended(mut stopped: Receiver<bool>) {
    // Without a sender there is nothing left to run for.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn lead(
    args: &RunArgs,
    client: &Client,
    metrics: &Metrics,
    stopped: Receiver<bool>,
) -> Result<(), RunError> {
    if !args.leader_elect {
        metrics.leads(true);
        reconcile(args, client, metrics, ended(stopped)).await;
        return Ok(());
    }
    let identity = args.identity.clone().unwrap_or_else(own_name);
    let (namespace, name) = (&args.lease_namespace, &args.lease_name);
    let election = Election::new(client.clone(), namespace, name, &identity, Times::default());
    let mut leadership = tokio::select! {
        leadership = election.lead() => leadership,
        () = ended(stopped.clone()) => return Ok(()),
    };
    metrics.leads(true);
    let lost = AtomicBool::new(false);
    tokio::select! {
        () = leadership.keep() => lost.store(true, Ordering::Relaxed),
        () = reconcile(args, client, metrics, ended(stopped)) => {}
    }
    metrics.leads(false);
    if lost.load(Ordering::Relaxed) {
        return Err(RunError::LeaseLost);
    }
    leadership.release().await;
    Ok(())
}

/// A name that no other process has, for an operator that runs outside of a cluster.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

/// Watches and reconciles until `stop` resolves: every namespace, or each of those named.
async fn reconcile(
    args: &RunArgs,
    client: &Client,
    metrics: &Metrics,
    stop: impl Future<Output = ()>,
) {
    let named: Vec<Option<String>> =
        args.namespace.iter().filter(|name| !name.is_empty()).cloned().map(Some).collect();
    let scopes = if named.is_empty() { vec![None] } else { named };
    let shared = Arc::new(Shared {
        applier: Applier::new(client.clone(), metrics.clone()),
        events: Events::new(client.clone(), args.identity.clone()),
        connections: Connections::default(),
        budgets: budgets(client).await,
    });
    let (ending, ended_here) = tokio::sync::watch::channel(false);
    let controllers = scopes.into_iter().map(|namespace| {
        in_scope(args, client, metrics, &shared, namespace, ended(ended_here.clone()))
    });
    let controllers = futures::future::join_all(controllers);
    tokio::pin!(controllers);
    let mut prune = tokio::time::interval(PRUNE.0);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = &mut controllers => return,
            _ = prune.tick() => shared.connections.prune(PRUNE.1),
        }
    }
    let _ = ending.send(true);
    controllers.await;
}

/// What the controllers of all namespaces share.
struct Shared {
    applier: Applier,
    events: Events,
    connections: Connections,
    budgets: Option<BudgetApi>,
}

async fn in_scope(
    args: &RunArgs,
    client: &Client,
    metrics: &Metrics,
    shared: &Shared,
    namespace: Option<String>,
    stop: impl Future<Output = ()>,
) {
    let (stores, requests, drive) = watch::start(client, namespace.as_deref(), metrics);
    let context = Context {
        client: client.clone(),
        stores: stores.clone(),
        applier: shared.applier.clone(),
        events: shared.events.clone(),
        metrics: metrics.clone(),
        connections: shared.connections.clone(),
        budgets: shared.budgets,
        options: context::Options { node_image: args.node_image.clone(), namespace },
    };
    // The watches run on their own: controllers wait for the caches that they fill.
    let drive = tokio::spawn(drive);
    let mut stop = Box::pin(stop);
    let seen = tokio::select! {
        seen = stores.wait_until_ready() => seen,
        () = &mut stop => Ok(()),
    };
    match seen {
        Ok(()) => controllers::run(context, requests, stop).await,
        Err(error) => tracing::error!(%error, "the operator cannot see the cluster"),
    }
    drive.abort();
}

/// How the API server serves PodDisruptionBudgets.
async fn budgets(client: &Client) -> Option<BudgetApi> {
    let groups = client.list_api_groups().await;
    let groups = groups.map_err(|error| tracing::warn!(%error, "failed to list APIs")).ok()?;
    let policy = groups.groups.into_iter().find(|group| group.name == "policy")?;
    let serves = |version: &str| policy.versions.iter().any(|one| one.version == version);
    [BudgetApi::V1, BudgetApi::V1Beta1].into_iter().find(|api| serves(api.version()))
}
