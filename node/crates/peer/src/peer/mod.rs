//! A running peer: everything put together.
//!
//! [`Peer::start`] binds the listeners, opens the channels of earlier runs at once, and serves. What
//! the services do is in their own modules; here is only what belongs to all of them: identity,
//! TLS, limits, metrics, health, and an orderly end.
//!
//! # The end
//!
//! [`Peer::shutdown`] first stops what would go on for ever (Deliver and event streams), then lets
//! open calls end for the time that the settings give, then lets every channel write the blocks it
//! holds. A channel that cannot go on ([`crate::channel::Fault`]) leaves the peer and its other
//! channels serving; [`crate::channel::Channels`] opens it again.

mod chaincodes;
mod error;
mod health;
mod parts;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_channels::Stores;
use weft_msp::{CurrentIdentity, CurrentMsps};
use weft_ops::health::Health;
use weft_rpc::tls::{ReloadingTls, TlsError, TlsFiles, WatchGuard};
use weft_settings::PeerSettings;
use weft_types::ChannelId;

pub use error::StartError;

use crate::channel::Channels;
use parts::Parts;

/// What a peer is started with.
pub struct PeerOptions {
    /// The settings, validated.
    pub settings: PeerSettings,
    /// Who the peer is. What it signs names the certificate that is current then.
    pub identity: CurrentIdentity,
    /// The MSP of the peer's organization, as the peer's own folder defines it.
    pub local_msp: CurrentMsps,
    /// The peer's TLS certificate and roots.
    pub tls: ReloadingTls,
    /// The same certificate, with the authorities of contracts that register; see [`contract_tls`].
    pub contract_tls: ReloadingTls,
    /// Where channels are stored.
    pub stores: Arc<dyn Stores>,
    /// The channels that have a store.
    pub existing: Vec<ChannelId>,
    /// Where metrics go.
    pub registry: Registry,
    /// Where health checks go.
    pub health: Health,
}

/// What the certificates of contracts that register are checked against: the authorities of
/// `chaincode.clientRootCas`, or else those of clients, and the revocation lists of `tls.crls`. The
/// authorities of the channels' members are never among them. It follows the files when it is watched.
///
/// # Errors
/// Fails where a file cannot be read or used.
pub fn contract_tls(settings: &PeerSettings) -> Result<ReloadingTls, TlsError> {
    let own = &settings.chaincode.client_root_cas;
    let mut files = TlsFiles::from(&settings.tls);
    if !own.is_empty() {
        files.client_root_cas.clone_from(own);
    }
    ReloadingTls::load(files)
}

/// A running peer.
pub struct Peer {
    address: SocketAddr,
    chaincode_address: Option<SocketAddr>,
    parts: Parts,
    servers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    _tls: Vec<WatchGuard>,
}

impl Peer {
    /// Starts a peer. When this returns it serves.
    ///
    /// # Errors
    /// [`StartError`] names the step that failed.
    pub async fn start(options: PeerOptions) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let watch = options.settings.tls.reload_interval;
        let watched =
            [&options.tls, &options.contract_tls].into_iter().filter(|_| !watch.is_zero());
        let watch = watched.map(|tls| tls.watch(watch)).collect();
        // Bound first, so that an address in use is told before stores are opened.
        let listeners = parts::bind(&options).await?;
        let existing = options.existing.clone();
        let health = options.health.clone();
        let parts = Parts::new(options, stop.clone())?;
        parts.channels().open_existing(existing).await;
        health::register(&health, parts.channels());
        let address = listeners.address();
        let chaincode_address = listeners.chaincode_address();
        let servers = listeners.serve(&parts, &stop);
        tracing::info!(%address, channels = parts.channels().list().len(), "the peer serves");
        Ok(Self { address, chaincode_address, parts, servers, stop, _tls: watch })
    }

    /// Where clients and nodes are served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where contracts that dial are served, if they are.
    #[must_use]
    pub fn chaincode_address(&self) -> Option<SocketAddr> {
        self.chaincode_address
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &Arc<Channels> {
        self.parts.channels()
    }

    /// Ends the peer. What is received is written first.
    pub async fn shutdown(self) {
        tracing::info!("the peer is shutting down");
        self.stop.cancel();
        for server in self.servers {
            // A server that failed has said so.
            let _ = server.await;
        }
        self.parts.shutdown().await;
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}
