//! Ports of pods on this machine, through the API server, as `kubectl port-forward` does it.
//!
//! Unlike that, a connection to a Service chooses among the pods that are ready then, and ends
//! when its pod is gone: clients meet what clients in the cluster meet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Endpoints, Pod};
use kube::{Api, Client};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Where connections end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A pod's port.
    Pod(String, u16),
    /// A port of whichever pods the Service has that are ready.
    Service(String, u16),
}

/// A listening port; it is closed when this is dropped.
#[derive(Debug)]
pub struct Forward {
    address: String,
    task: JoinHandle<()>,
}

impl Forward {
    /// Listens at a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(client: Client, namespace: &str, target: Target) -> anyhow::Result<Forward> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("127.0.0.1:{}", listener.local_addr()?.port());
        let namespace = namespace.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (client, namespace) = (client.clone(), namespace.clone());
                let target = target.clone();
                tokio::spawn(async move {
                    // The client sees that its connection ends, and tries again.
                    let _ = carry(client, &namespace, target, stream).await;
                });
            }
        });
        Ok(Forward { address, task })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    client: Client,
    namespace: &str,
    target: Target,
    mut stream: TcpStream,
) -> anyhow::Result<()> {
    let (pod, port) = match target {
        Target::Pod(pod, port) => (pod, port),
        Target::Service(service, port) => (ready_pod(&client, namespace, &service).await?, port),
    };
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut forward = pods.portforward(&pod, &[port]).await?;
    let mut remote = forward.take_stream(port).context("no stream")?;
    tokio::select! {
        result = tokio::io::copy_bidirectional(&mut stream, &mut remote) => {
            result?;
        }
        () = until_gone(&pods, &pod) => {}
    }
    Ok(())
}

/// One of the Service's ready pods, another one each time.
async fn ready_pod(client: &Client, namespace: &str, service: &str) -> anyhow::Result<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let api: Api<Endpoints> = Api::namespaced(client.clone(), namespace);
    let subsets = api.get(service).await?.subsets.unwrap_or_default();
    let addresses = subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default());
    let pods: Vec<String> = addresses.filter_map(|one| one.target_ref?.name).collect();
    let turn = NEXT.fetch_add(1, Ordering::Relaxed) % pods.len().max(1);
    pods.into_iter().nth(turn).with_context(|| format!("{service} has no pod that is ready"))
}

/// Returns when the container that runs now does so no longer.
async fn until_gone(pods: &Api<Pod>, name: &str) {
    let first = container(pods, name).await;
    loop {
        sleep(Duration::from_secs(1)).await;
        if container(pods, name).await != first {
            return;
        }
    }
}

/// What identifies a running container; `None` when the pod is gone.
async fn container(pods: &Api<Pod>, name: &str) -> Option<(String, i32)> {
    let pod = pods.get_opt(name).await.ok()??;
    let restarts = pod.status?.container_statuses?.first()?.restart_count;
    Some((pod.metadata.uid?, restarts))
}
