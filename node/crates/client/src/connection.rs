//! A connection to one node.

use std::time::Duration;

use tonic::transport::Channel;
use weft_crypto::Certificate;
use weft_rpc::connect::{
    ClientIdentity, ConnectError, ConnectOptions, Connector, Endpoint, EndpointTls, Roots,
};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity};

use crate::error::ClientError;

/// Largest message accepted from a node, bytes (Fabric's default of 100 MiB).
pub(crate) const MAX_MESSAGE: usize = 100 * 1024 * 1024;

/// How a node is reached and recognised.
#[derive(Clone, Debug)]
pub struct ConnectionSpec {
    /// `host:port`.
    pub address: String,
    /// Name that the node's certificate must hold; the address's host when `None`.
    pub server_name: Option<String>,
    /// Who may have signed the node's certificate.
    pub roots: Vec<Certificate>,
    /// Certificate and key shown to the node, when it asks for one.
    pub client: Option<TlsIdentity>,
}

impl ConnectionSpec {
    /// The TLS certificate that the node serves with now. It is checked as for a call.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when the node cannot be reached or its certificate is not
    /// trusted, [`ClientError::Answer`] when it shows none that can be read.
    pub async fn served_certificate(&self) -> Result<Certificate, ClientError> {
        let served = connector().served_certificate(&self.endpoint()).await;
        let leaf = served
            .map_err(|source| self.failed(source))?
            .ok_or_else(|| ClientError::answer(&self.address, "it serves without TLS"))?;
        Certificate::from_der(&leaf).map_err(|error| ClientError::answer(&self.address, error))
    }

    fn endpoint(&self) -> Endpoint {
        let roots = self.roots.iter().map(|root| root.der().to_vec().into()).collect();
        let client = match &self.client {
            Some(identity) => ClientIdentity::Fixed(identity.clone()),
            None => ClientIdentity::Anonymous,
        };
        Endpoint {
            address: self.address.clone(),
            tls: Some(EndpointTls {
                server_name: self.server_name.clone(),
                roots: Roots::Fixed(roots),
                pinned: None,
                client,
            }),
        }
    }

    fn failed(&self, source: ConnectError) -> ClientError {
        ClientError::Connect { node: self.address.clone(), source: Box::new(source) }
    }
}

fn connector() -> Connector {
    let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
    let options = ConnectOptions {
        dial_timeout: Duration::from_secs(5),
        keepalive_interval: Duration::from_secs(60),
        keepalive_timeout: Duration::from_secs(20),
    };
    Connector::new(tls, options)
}

/// A lazy, reconnecting connection to one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    address: String,
    tls_cert_hash: Option<[u8; 32]>,
    channel: Channel,
}

impl Connection {
    /// A connection that is made when it is first used.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when the address or the TLS material cannot be used.
    pub fn new(spec: &ConnectionSpec) -> Result<Connection, ClientError> {
        let channel =
            connector().channel(&spec.endpoint()).map_err(|source| spec.failed(source))?;
        Ok(Connection {
            address: spec.address.clone(),
            tls_cert_hash: spec.client.as_ref().map(TlsIdentity::leaf_sha256),
            channel,
        })
    }

    /// `host:port` of the node.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// SHA-256 of the client's TLS certificate, for Deliver; empty without one.
    pub(crate) fn tls_cert_hash(&self) -> bytes::Bytes {
        self.tls_cert_hash.map(|hash| bytes::Bytes::copy_from_slice(&hash)).unwrap_or_default()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// The time now; the one place of this crate that reads the clock.
pub(crate) fn now() -> weft_types::Timestamp {
    weft_types::Timestamp::from_system_time(std::time::SystemTime::now())
}

/// A fresh nonce.
pub(crate) fn nonce() -> Result<weft_types::Nonce, ClientError> {
    weft_crypto::random_bytes().map_err(ClientError::Nonce)
}
