//! A harness for tests with real pods on the cluster of `$KUBECONFIG`.
//!
//! [`Namespace`] is a namespace that enforces the `restricted` Pod Security profile, and the
//! networks in it; [`Operator`] is the one operator of the cluster, installed by its chart;
//! [`Restless`] keeps killing it while something else happens. Nodes are reached as a user on
//! another machine reaches them: through the API server ([`forward`]), with the certificates in
//! the Secrets ([`access`]).
//!
//! What a test wants to know it asks the nodes themselves, not the operator's status, wherever
//! both could tell. `make e2e` builds the images, loads them and runs the tests, which are
//! ignored otherwise.

pub mod access;
pub mod figures;
pub mod fixture;
pub mod forward;
pub mod load;
pub mod namespace;
pub mod node;
pub mod operator;
pub mod prometheus;
pub mod tools;

pub use access::Identity;
pub use fixture::Fixture;
pub use namespace::{Namespace, patience};
pub use operator::{Operator, Restless};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};

/// The kinds of `weft.dev`, in the order in which people write them.
pub const KINDS: [&str; 4] = ["LedgerNetwork", "Organization", "Channel", "Chaincode"];

/// A cluster, through its API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// The cluster of `$KUBECONFIG`.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub async fn connect() -> anyhow::Result<Cluster> {
        let client = Client::try_default().await.context("set KUBECONFIG: see make e2e")?;
        client.apiserver_version().await.context("the cluster does not answer")?;
        Ok(Cluster { client })
    }

    /// The client of the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Answer to `GET` of a pod's HTTP port, through the API server.
    ///
    /// # Errors
    /// When the pod does not answer, or not with success.
    pub async fn get(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> anyhow::Result<String> {
        let url = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let request = http::Request::get(&url).body(Vec::new())?;
        self.client.request_text(request).await.with_context(|| format!("failed to get {url}"))
    }

    /// Pods of a namespace with these labels.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn pods(&self, namespace: &str, labels: &str) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client(), namespace);
        Ok(api.list(&kube::api::ListParams::default().labels(labels)).await?.items)
    }
}

/// How the API server calls a kind: ours, and what tests look at.
pub(crate) fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "StatefulSet" | "Deployment" => ("apps", "v1"),
        _ if KINDS.contains(&kind) => ("weft.dev", "v1alpha1"),
        _ => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}
