//! Streams whose two ends have proved who they are.
//!
//! The first message of either side, `ConnEstablish`, is signed and names the TLS certificate that
//! its sender shows. Each side compares that with the certificate which it has seen on the very
//! connection, so that nobody in between can pass on another's message as his own (Fabric:
//! `authenticateRemotePeer` in gossip/comm/comm_impl.go). A [`Bound`] exists only after that, on a
//! connection of its own that is never made again.
//!
//! The certificate of a server must also be of the organization whose peer is visited: only that
//! one's TLS authorities are trusted for its addresses.
//!
//! Without TLS there is nothing to compare; then neither side may name a certificate. Fabric's peers
//! show the same certificate both ways unless `peer.tls.clientCert` is set, name what they show on
//! the side in question, and always show one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_protos::gossip::Envelope;
use weft_protos::gossip::gossip_client::GossipClient;
use weft_rpc::connect::{ClientIdentity, ConnectError, Connection, Endpoint, EndpointTls, Roots};
use weft_rpc::tls::{CertificateDer, ReloadingTls, TlsIdentity};
use weft_types::{MspId, SignError};

use super::message::PkiId;
use super::news::{Refusal, Remote};
use super::table::Place;
use super::{Membership, message};

/// Time for the other side to say who it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the other side of a connection has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The connection has no TLS.
    Nothing,
    /// The SHA-256 of its certificate (DER).
    Certificate([u8; 32]),
}

impl Shown {
    /// Whether a first message names just this.
    pub(crate) fn is(self, named: &[u8]) -> bool {
        match self {
            Self::Nothing => named.is_empty(),
            Self::Certificate(hash) => named == hash,
        }
    }
}

/// There is no stream to a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("failed to connect: {0}")]
    Connect(#[source] ConnectError),
    #[error("failed to sign")]
    Sign(#[source] SignError),
    #[error("the stream failed: {0}")]
    Stream(#[source] Box<tonic::Status>),
    #[error("refused: {0}")]
    Refused(#[source] Refusal),
    #[error("the stream ended")]
    Closed,
    #[error("no answer in time")]
    Timeout,
    #[error("the address is this peer's own")]
    Own,
    #[error("a peer of {0} answers at the address")]
    Other(MspId),
}

impl OpenError {
    /// Whether another connection can help right away: either side may have renewed its
    /// certificate meanwhile.
    pub(super) fn can_retry(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Closed | Self::Refused(Refusal::Binding))
    }
}

/// A stream whose two ends have proved who they are.
pub(super) struct Bound {
    /// The other side.
    pub(super) remote: Remote,
    /// As whom this peer speaks on it.
    pub(super) spoke_as: PkiId,
    pub(super) outbound: mpsc::Sender<Envelope>,
    pub(super) inbound: Streaming<Envelope>,
    /// What the stream runs on, and nothing else does.
    pub(super) connection: Connection,
}

impl Membership {
    /// Opens a stream to the peer at a place. `waiting` is how many messages wait for a slow peer,
    /// `limit` the bytes of the largest message that it may send.
    pub(super) async fn open(
        &self,
        place: &Place,
        waiting: usize,
        limit: usize,
    ) -> Result<Bound, OpenError> {
        let opening = self.open_stream(place, waiting, limit);
        let (mut opened, connection) = opening.await?;
        let first = timeout(ANSWER_TIMEOUT, opened.inbound.message()).await;
        let first = first.map_err(|_| OpenError::Timeout)?.map_err(failed)?;
        let first = first.ok_or(OpenError::Closed)?;
        let shown = connection.served_sha256().map_or(Shown::Nothing, Shown::Certificate);
        let remote = self.authenticate(&first, shown).map_err(OpenError::Refused)?;
        if remote.id == opened.spoke_as {
            return Err(OpenError::Own);
        }
        if remote.org != place.org {
            return Err(OpenError::Other(remote.org));
        }
        self.met(&remote, place);
        let Opened { spoke_as, outbound, inbound } = opened;
        Ok(Bound { remote, spoke_as, outbound, inbound, connection })
    }

    /// Opens a stream on a new connection and says who is there.
    async fn open_stream(
        &self,
        place: &Place,
        waiting: usize,
        limit: usize,
    ) -> Result<(Opened, Connection), OpenError> {
        let shows = self.0.deps.tls.as_ref().and_then(ReloadingTls::identity);
        let endpoint = self.endpoint(place, shows.clone());
        let connection = self.0.deps.connector.connection(&endpoint).await;
        let connection = connection.map_err(OpenError::Connect)?;
        let (outbound, messages) = mpsc::channel(waiting);
        let speaker = self.speaker();
        let hello = message::connect(&*speaker.signer, speaker.id, hash_of(shows.as_ref()));
        let hello = hello.map_err(OpenError::Sign)?;
        outbound.send(hello).await.map_err(|_| OpenError::Closed)?;
        let mut client = GossipClient::new(connection.channel()).max_decoding_message_size(limit);
        let opened = client.gossip_stream(ReceiverStream::new(messages));
        let opened = timeout(ANSWER_TIMEOUT, opened).await.map_err(|_| OpenError::Timeout)?;
        let inbound = opened.map_err(failed)?.into_inner();
        Ok((Opened { spoke_as: speaker.id, outbound, inbound }, connection))
    }

    /// How to connect to a peer and what to show it.
    fn endpoint(&self, place: &Place, shows: Option<TlsIdentity>) -> Endpoint {
        if self.0.deps.tls.is_none() {
            return Endpoint::plain(&place.address);
        }
        let client = shows.map_or(ClientIdentity::Anonymous, ClientIdentity::Fixed);
        let roots = Roots::Fixed(self.tls_roots(&place.org));
        let tls = EndpointTls { roots, client, ..EndpointTls::default() };
        Endpoint { address: place.address.clone(), tls: Some(tls) }
    }

    /// The TLS authorities of an organization, as this peer's own MSP and the channels have them.
    fn tls_roots(&self, org: &MspId) -> Vec<CertificateDer<'static>> {
        let scopes = self.scopes();
        let msps = scopes.iter().filter_map(|scope| scope.msp(org));
        let all = msps.flat_map(|msp| {
            msp.tls_root_certificates().iter().chain(msp.tls_intermediate_certificates())
        });
        let mut ders: Vec<_> = all.map(|certificate| certificate.der().to_vec()).collect();
        ders.sort_unstable();
        ders.dedup();
        ders.into_iter().map(CertificateDer::from).collect()
    }

    /// The peer has proved to be at the place.
    fn met(&self, remote: &Remote, place: &Place) {
        if self.0.table.lock().met(remote.id, &place.address, Instant::now()) {
            tracing::info!(peer = ?remote.id, endpoint = %place.address, "a peer is there");
            self.changed();
        }
    }
}

/// A stream whose other side may be anybody.
struct Opened {
    spoke_as: PkiId,
    outbound: mpsc::Sender<Envelope>,
    inbound: Streaming<Envelope>,
}

fn failed(status: tonic::Status) -> OpenError {
    OpenError::Stream(Box::new(status))
}

/// As messages name a certificate: empty where there is none.
pub(super) fn hash_of(identity: Option<&TlsIdentity>) -> Bytes {
    identity.map_or_else(Bytes::new, |it| Bytes::copy_from_slice(&it.leaf_sha256()))
}
