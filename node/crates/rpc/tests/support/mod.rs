//! Certificates and a small gRPC service for tests.

#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::BoxStream;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use weft_protos::common::Envelope;
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_protos::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use weft_protos::orderer::{BroadcastResponse, DeliverResponse};
use weft_rpc::connect::{ConnectOptions, Connector};
use weft_rpc::listen::{ListenOptions, PeerInfo, Security};
use weft_rpc::metrics::GrpcMetrics;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::{CertificateDer, ReloadingTls, RootSet, TlsIdentity};
use weft_settings::Limits;

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

pub struct Leaf {
    pub cert: String,
    pub key: String,
    pub serial: u64,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn leaf(&self, sans: &[&str], serial: u64) -> Leaf {
        let sans: Vec<_> = sans.iter().map(|san| (*san).to_owned()).collect();
        let mut params = CertificateParams::new(sans).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Leaf { cert: cert.pem(), key: key.serialize_pem(), serial }
    }

    pub fn crl(&self, revoked: &[u64]) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub fn roots(&self) -> RootSet {
        RootSet::fixed(vec![self.der()]).unwrap()
    }

    /// TLS with a certificate for `localhost` and 127.0.0.1 that trusts this CA.
    pub fn tls(&self) -> ReloadingTls {
        self.tls_for(&["localhost", "127.0.0.1"])
    }

    pub fn tls_for(&self, sans: &[&str]) -> ReloadingTls {
        let identity = self.leaf(sans, 7).identity();
        ReloadingTls::from_parts(Some(identity), self.roots(), self.roots())
    }

    /// A client that trusts this CA and has no certificate.
    pub fn anonymous(&self) -> ReloadingTls {
        ReloadingTls::from_parts(None, self.roots(), RootSet::new())
    }

    /// A client that trusts this CA and shows a certificate of `other`.
    pub fn client_of(&self, other: &Ca) -> ReloadingTls {
        let identity = other.leaf(&["client"], 9).identity();
        ReloadingTls::from_parts(Some(identity), self.roots(), RootSet::new())
    }
}

/// A certificate that its holder signed, with its key.
pub fn self_signed() -> TlsIdentity {
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    TlsIdentity::from_pem(cert.as_bytes(), key.as_bytes(), "test").unwrap()
}

impl Leaf {
    pub fn identity(&self) -> TlsIdentity {
        TlsIdentity::from_pem(self.cert.as_bytes(), self.key.as_bytes(), "test").unwrap()
    }

    pub fn write(&self, dir: &Path) {
        std::fs::write(dir.join("server.crt"), &self.cert).unwrap();
        std::fs::write(dir.join("server.key"), &self.key).unwrap();
    }
}

/// Broadcast answers each envelope with the SHA-256 of the client's certificate, in hex, as
/// `info`, with a `?` where it proves nothing. An envelope of `hold` first waits for `release`.
#[derive(Clone, Default)]
pub struct Echo {
    pub held: Arc<Notify>,
    pub release: Arc<Notify>,
}

#[tonic::async_trait]
impl AtomicBroadcast for Echo {
    type BroadcastStream = BoxStream<'static, Result<BroadcastResponse, Status>>;
    type DeliverStream = BoxStream<'static, Result<DeliverResponse, Status>>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        let peer = PeerInfo::of(&request).cloned().unwrap();
        let mut info = peer.certificates.leaf_sha256().map_or_else(String::new, hex);
        if !info.is_empty() && peer.certificates.leaf().is_none() {
            info.push('?');
        }
        let echo = self.clone();
        let requests = request.into_inner();
        let responses = futures::stream::unfold(requests, move |mut requests| {
            let (echo, info) = (echo.clone(), info.clone());
            async move {
                let envelope: Envelope = match requests.message().await {
                    Ok(Some(envelope)) => envelope,
                    Ok(None) => return None,
                    Err(status) => return Some((Err(status), requests)),
                };
                if envelope.payload.as_ref() == b"hold" {
                    echo.held.notify_one();
                    echo.release.notified().await;
                }
                Some((Ok(BroadcastResponse { status: 200, info }), requests))
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn deliver(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        Err(Status::not_found("no blocks here"))
    }
}

pub fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn grpc_options() -> GrpcOptions {
    GrpcOptions {
        listen: ListenOptions {
            max_connections: 64,
            stranger_connections: 64,
            handshake_timeout: Duration::from_secs(10),
        },
        max_concurrent_streams: 100,
        keepalive_interval: Duration::from_secs(60),
        keepalive_timeout: Duration::from_secs(20),
        shutdown_timeout: Duration::from_secs(10),
        budget: (&Limits::default()).into(),
    }
}

pub struct Server {
    pub address: String,
    pub connections: weft_rpc::listen::Connections,
    pub echo: Echo,
    pub stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start(security: Security) -> Self {
        Self::start_with("127.0.0.1:0", grpc_options(), security, None).await
    }

    pub async fn start_with(
        address: &str,
        options: GrpcOptions,
        security: Security,
        metrics: Option<GrpcMetrics>,
    ) -> Self {
        let server = GrpcServer::bind(address, options, security, metrics).await.unwrap();
        let address = server.local_addr().to_string();
        let connections = server.connections();
        let echo = Echo::default();
        let service = AtomicBroadcastServer::new(echo.clone()).max_decoding_message_size(1 << 20);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.serve(Routes::new(service), shutdown).await.unwrap();
        });
        Self { address, connections, echo, stop: Some(stop), task }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

pub fn connector(tls: ReloadingTls) -> Connector {
    let options = ConnectOptions {
        dial_timeout: Duration::from_secs(10),
        keepalive_interval: Duration::from_secs(60),
        keepalive_timeout: Duration::from_secs(20),
    };
    Connector::new(tls, options)
}

/// The certificate hash that the server saw.
pub async fn call(channel: Channel) -> Result<String, Status> {
    let (_requests, mut responses) = open(channel, "x").await?;
    let response = responses.message().await?;
    Ok(response.expect("a response").info)
}

/// A call that was begun with one envelope. It is open while both halves live.
pub async fn open(
    channel: Channel,
    payload: &'static str,
) -> Result<(tokio::sync::mpsc::Sender<Envelope>, Streaming<BroadcastResponse>), Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    sender.send(envelope(payload)).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let responses = AtomicBroadcastClient::new(channel).broadcast(requests).await?;
    Ok((sender, responses.into_inner()))
}

pub fn envelope(payload: &'static str) -> Envelope {
    Envelope { payload: payload.as_bytes().into(), ..Envelope::default() }
}

/// Waits until something holds; fails after 20 s.
pub async fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..2000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true");
}

pub fn stream_of<T: Send + 'static>(items: Vec<T>) -> impl Stream<Item = T> + Send {
    futures::stream::iter(items)
}
