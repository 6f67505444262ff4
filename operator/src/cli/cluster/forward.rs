//! A port of a pod, reached through the API server: no Service, ingress or DNS of the cluster
//! has to be in this machine's reach, and NetworkPolicies do not stand in the way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::context::Context;
use super::error::ClusterError;

/// A port on 127.0.0.1 behind which a pod's port is, as long as this value lives.
pub(in crate::cli) struct Forward {
    address: SocketAddr,
    pod: String,
    problem: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Forward {
    /// Opens the port. The first stream to the pod is opened at once, so that what stands in
    /// the way is told here and not by a call that ends for no clear reason.
    ///
    /// # Errors
    /// [`ClusterError::Forbidden`] and the like, [`ClusterError::Listen`].
    pub(super) async fn open(
        context: &Context,
        pod: &str,
        port: u16,
    ) -> Result<Forward, ClusterError> {
        let tunnel = Tunnel { pods: context.api(), pod: pod.to_owned(), port };
        let first = tunnel.open(&context.namespace).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(ClusterError::Listen)?;
        let address = listener.local_addr().map_err(ClusterError::Listen)?;
        let problem = Arc::new(Mutex::new(None));
        let served = serve(listener, tunnel, first, problem.clone(), context.namespace.clone());
        Ok(Forward { address, pod: pod.to_owned(), problem, task: tokio::spawn(served) })
    }

    /// `host:port` to connect to.
    pub(in crate::cli) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The pod.
    pub(in crate::cli) fn pod(&self) -> &str {
        &self.pod
    }

    /// Why the last connection that failed did so.
    pub(in crate::cli) fn problem(&self) -> Option<String> {
        self.problem.lock().ok().and_then(|problem| problem.clone())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Tunnel {
    pods: Api<Pod>,
    pod: String,
    port: u16,
}

impl Tunnel {
    async fn open(&self, namespace: &str) -> Result<Portforwarder, ClusterError> {
        let (pod, port) = (&self.pod, self.port);
        let step = format!("forward port {port} of pod {namespace}/{pod}");
        self.pods.portforward(pod, &[port]).await.map_err(ClusterError::at(step))
    }
}

/// Takes connections until it is aborted; the connections end with it.
async fn serve(
    listener: TcpListener,
    tunnel: Tunnel,
    first: Portforwarder,
    problem: Arc<Mutex<Option<String>>>,
    namespace: String,
) {
    let mut ready = Some(first);
    let mut bridges = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while bridges.try_join_next().is_some() {}
        let (ready, tunnel) = (ready.take(), tunnel.clone());
        let (problem, namespace) = (problem.clone(), namespace.clone());
        bridges.spawn(async move {
            let bridged = match ready {
                Some(forwarder) => bridge(client, forwarder, &tunnel, &namespace).await,
                None => match tunnel.open(&namespace).await {
                    Ok(forwarder) => bridge(client, forwarder, &tunnel, &namespace).await,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = bridged
                && let Ok(mut problem) = problem.lock()
            {
                *problem = Some(crate::cli::report(&error));
            }
        });
    }
}

/// Carries bytes both ways until one side ends.
async fn bridge(
    mut client: TcpStream,
    mut forwarder: Portforwarder,
    tunnel: &Tunnel,
    namespace: &str,
) -> Result<(), ClusterError> {
    let failed = |message: String| ClusterError::Forward {
        pod: format!("{namespace}/{}", tunnel.pod),
        message,
    };
    let mut pod = forwarder
        .take_stream(tunnel.port)
        .ok_or_else(|| failed(format!("there is no stream for port {}", tunnel.port)))?;
    let refused = forwarder.take_error(tunnel.port);
    let refused = async {
        match refused {
            Some(told) => told.await,
            None => None,
        }
    };
    let carried = tokio::io::copy_bidirectional(&mut client, &mut pod);
    let outcome = tokio::select! {
        carried = carried => carried.map(|_| ()).map_err(|error| failed(error.to_string())),
        Some(message) = refused => Err(failed(message.trim().to_owned())),
    };
    // The client learns at once that there is nothing more to come.
    client.shutdown().await.ok();
    outcome
}
