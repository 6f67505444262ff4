//! Which cluster and namespace a command means, and the client for it.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::ClusterError;

/// How a cluster is chosen.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Use a network in a Kubernetes cluster, not one on this machine. Always so when called
    /// as `kubectl weft`, and when one of the three flags below is given.
    #[arg(long, global = true)]
    pub cluster: bool,
    /// Namespace of the network; the context's when absent.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Kubeconfig file; $KUBECONFIG, ~/.kube/config or a pod's service account when absent.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one when absent.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

impl ClusterArgs {
    /// Whether the flags by themselves mean a cluster.
    pub(in crate::cli) fn chosen(&self) -> bool {
        self.cluster
            || self.namespace.is_some()
            || self.kubeconfig.is_some()
            || self.context.is_some()
    }
}

/// A cluster and a namespace in it.
#[derive(Clone)]
pub(in crate::cli) struct Context {
    /// Client of the API server.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Context {
    /// Reads the kubeconfig. Nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// [`ClusterError`] when there is no kubeconfig or it cannot be used.
    pub(in crate::cli) async fn open(args: &ClusterArgs) -> Result<Context, ClusterError> {
        let config = config(args).await?;
        let server = config.cluster_url.to_string();
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|source| ClusterError::Client { server, source })?;
        Ok(Context { client, namespace })
    }

    /// An API of a namespaced kind, in the context's namespace.
    pub(super) fn api<K>(&self) -> kube::Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        kube::Api::namespaced(self.client.clone(), &self.namespace)
    }
}

async fn config(args: &ClusterArgs) -> Result<Config, ClusterError> {
    let options =
        KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &args.kubeconfig {
        let at = |source| ClusterError::Kubeconfig { path: path.clone(), source };
        let file = Kubeconfig::read_from(path).map_err(at)?;
        return Config::from_custom_kubeconfig(file, &options).await.map_err(at);
    }
    if let Some(context) = &args.context {
        return Config::from_kubeconfig(&options)
            .await
            .map_err(|source| ClusterError::Context { context: context.clone(), source });
    }
    Config::infer().await.map_err(ClusterError::NoKubeconfig)
}

/// Does the work, and says what is being waited for when it takes longer than a second.
pub(in crate::cli) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        Ok(done) => done,
        Err(_) => {
            eprintln!("{what} …");
            work.await
        }
    }
}
