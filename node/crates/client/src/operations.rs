//! A node's operations port in the clear: health and metrics (Fabric: `core/operations`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
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

    /// Whether the node says that it is well; `Err` with what it says when it is not. With the
    /// channels that do not serve although the node does, each with the reason.
    ///
    /// # Errors
    /// [`ClientError::Https`] when it does not answer, [`ClientError::Answer`] with the checks
    /// that failed.
    pub async fn healthy(&self) -> Result<BTreeMap<String, String>, ClientError> {
        let response = self.get("/healthz").await?;
        if response.status.is_success() {
            return Ok(failed_channels(&response.body));
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

#[derive(Default, Deserialize)]
struct Health {
    #[serde(default)]
    degraded: Vec<Degraded>,
}

#[derive(Deserialize)]
struct Degraded {
    component: String,
    reason: String,
}

/// Of what does not serve, the channels. A node of Fabric tells none.
fn failed_channels(body: &[u8]) -> BTreeMap<String, String> {
    let health: Health = serde_json::from_slice(body).unwrap_or_default();
    let channel = |part: Degraded| {
        let channel = part.component.strip_prefix("channels/")?.to_owned();
        Some((channel, part.reason))
    };
    health.degraded.into_iter().filter_map(channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_channels_are_read_from_the_health_of_a_node() {
        let body = br#"{"status":"OK","degraded":[
            {"component":"channels/supply","reason":"disk full"},
            {"component":"other","reason":"x"}]}"#;
        let expected = BTreeMap::from([("supply".to_owned(), "disk full".to_owned())]);
        assert_eq!(failed_channels(body), expected);
        assert_eq!(failed_channels(br#"{"status":"OK","time":"now"}"#), BTreeMap::new());
        assert_eq!(failed_channels(b"OK"), BTreeMap::new());
    }
}
