//! A node's operations port in the clear: health and metrics (Fabric: `core/operations`).

use std::time::Duration;

use weft_rpc::https::{Client, ClientOptions, Response};
use weft_rpc::tls::{ReloadingTls, RootSet};

use crate::error::ClientError;

/// The operations port of one node.
#[derive(Clone, Debug)]
pub struct Operations {
    address: String,
    client: Client,
}

impl Operations {
    /// The port at `host:port`, which serves plain HTTP; `limit` is the time for a whole answer.
    pub fn new(address: impl Into<String>, limit: Duration) -> Operations {
        let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
        let options =
            ClientOptions { dial_timeout: limit, timeout: limit, ..ClientOptions::default() };
        Operations { address: address.into(), client: Client::new(tls, options) }
    }

    /// Whether the node says that it is well; `Err` with what it says when it is not.
    ///
    /// # Errors
    /// [`ClientError::Https`] when it does not answer, [`ClientError::Answer`] with the checks
    /// that failed.
    pub async fn healthy(&self) -> Result<(), ClientError> {
        let response = self.get("/healthz").await?;
        if response.status.is_success() {
            return Ok(());
        }
        Err(ClientError::answer(&self.address, response.text()))
    }

    /// The metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// [`ClientError::Https`] when it does not answer, [`ClientError::Answer`] for another
    /// status than 200.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.get("/metrics").await?;
        if response.status.as_u16() == 200 {
            return Ok(response.text());
        }
        Err(ClientError::answer(&self.address, format!("HTTP {}", response.status)))
    }

    async fn get(&self, path: &str) -> Result<Response, ClientError> {
        let url = format!("http://{}{path}", self.address);
        let failed =
            |source| ClientError::Https { node: self.address.clone(), source: Box::new(source) };
        self.client.get(&url).await.map_err(failed)
    }
}
