//! Contracts, runtimes and calls for the tests.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use weft_contract::{Contract, RegisterOptions, ServeOptions, ServerTls, SessionLimits};
use weft_peer::blocking::Blocking;
use weft_peer::chaincode::package::{Connection, Label, Package, PackageStore};
use weft_peer::chaincode::{
    Call, ChaincodeError, ChaincodeSupport, Outcome, Runtime, RuntimeConfig,
};
use weft_protos::peer::ChaincodeInput;
use weft_rpc::listen::Security;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_settings::{ClientAuth, Limits};

use crate::host::MemoryHost;
use crate::pki;
use crate::state::MemoryState;

/// A runtime, its packages, and a host.
pub struct Peer {
    pub runtime: Runtime,
    pub host: MemoryHost,
    _dir: TempDir,
}

/// Short times, so that tests of failures do not take long.
pub fn config() -> RuntimeConfig {
    RuntimeConfig {
        execute_timeout: Duration::from_secs(5),
        startup_timeout: Duration::from_secs(5),
        ..RuntimeConfig::default()
    }
}

impl Peer {
    pub fn new(config: RuntimeConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packages = PackageStore::open(dir.path().join("packages")).unwrap();
        Self {
            runtime: Runtime::new(config, packages, None),
            host: MemoryHost::default(),
            _dir: dir,
        }
    }

    /// Installs a package of this connection, and defines a chaincode over it.
    pub fn install(&mut self, name: &str, connection: &Connection) -> String {
        let package = Package::build(&Label::new(name).unwrap(), connection).unwrap();
        let id = self.runtime.packages().save(&package).unwrap().id().to_string();
        self.host.chaincodes.insert(name.to_owned(), id.clone());
        id
    }

    /// Installs and starts a contract as a service.
    pub async fn serve(&mut self, name: &str, contract: impl Contract) -> Service {
        let address = free_address().await;
        let id = self.install(name, &Connection::plain(address.to_string()));
        start(&id, address, None, contract).await
    }

    pub async fn invoke(
        &self,
        state: &mut MemoryState,
        call: Call,
    ) -> Result<Outcome, ChaincodeError> {
        let mut held = Blocking::new(std::mem::take(state));
        let outcome = self.runtime.invoke(call, &mut held, &self.host).await;
        held.finish(|held| *state = held).await;
        outcome
    }

    /// Calls a function and gives the payload as text, or the error's or response's text.
    pub async fn ask(&self, state: &mut MemoryState, args: &[&str]) -> Result<String, String> {
        let outcome = self.invoke(state, call("tx", args)).await.map_err(|e| e.to_string())?;
        if outcome.response.status >= 400 {
            return Err(format!("{} {}", outcome.response.status, outcome.response.message));
        }
        Ok(String::from_utf8_lossy(&outcome.response.payload).into_owned())
    }

    /// Serves `ChaincodeSupport` for contracts that dial.
    pub async fn listen(&self) -> SocketAddr {
        self.listen_at("127.0.0.1:0", ClientAuth::Required).await.0
    }

    /// As [`listen`](Self::listen), at a given address.
    pub async fn listen_at(&self, address: &str, auth: ClientAuth) -> (SocketAddr, JoinHandle<()>) {
        let options = GrpcOptions::from(&Limits::default());
        let security = Security::tls(&pki::server(), auth);
        let server = GrpcServer::bind(address, options, security, None).await.unwrap();
        let address = server.local_addr();
        let routes = Routes::new(ChaincodeSupport::new(&self.runtime).into_server());
        let serving = async move { server.serve(routes, std::future::pending()).await.unwrap() };
        (address, tokio::spawn(serving))
    }
}

/// A contract that runs as a service.
pub struct Service {
    pub id: String,
    task: JoinHandle<()>,
}

impl Service {
    /// Stops listening; connections stay.
    pub async fn stop_listening(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A contract that can crash, with all its connections, as it has a runtime of its own.
pub struct Process {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Process {
    pub async fn start(id: &str, address: SocketAddr, contract: impl Contract) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let id = id.to_owned();
        let service = runtime.spawn(async move { start(&id, address, None, contract).await });
        service.await.unwrap();
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub async fn start(
    id: &str,
    address: SocketAddr,
    tls: Option<ServerTls>,
    contract: impl Contract,
) -> Service {
    let (started, ready) = oneshot::channel();
    let options = ServeOptions {
        chaincode_id: id.to_owned(),
        address: address.to_string(),
        tls,
        limits: SessionLimits::default(),
    };
    let started = move |address| started.send(address).unwrap();
    let task = tokio::spawn(async move {
        weft_contract::serve(contract, options, started, std::future::pending()).await.unwrap();
    });
    ready.await.unwrap();
    Service { id: id.to_owned(), task }
}

/// A contract that dials the peer with the certificate of its package, until the handle is aborted.
pub fn register(id: &str, peer: SocketAddr, contract: impl Contract) -> JoinHandle<()> {
    register_showing(id, peer, Some(pki::certificate(&[id])), contract)
}

/// As [`register`], with another certificate or none.
pub fn register_showing(
    id: &str,
    peer: SocketAddr,
    shown: Option<pki::Shown>,
    contract: impl Contract,
) -> JoinHandle<()> {
    let options = RegisterOptions {
        chaincode_id: id.to_owned(),
        peer_address: peer.to_string(),
        tls: Some(pki::client(shown)),
        limits: SessionLimits::default(),
    };
    tokio::spawn(async move {
        weft_contract::register(contract, options, std::future::pending()).await.unwrap();
    })
}

/// A call of the chaincode `cc`.
pub fn call(tx_id: &str, args: &[&str]) -> Call {
    let args = args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
    Call {
        channel_id: "supply".into(),
        tx_id: tx_id.into(),
        chaincode: "cc".into(),
        input: ChaincodeInput { args, ..Default::default() },
        ..Default::default()
    }
}

/// Polls until `condition` holds; fails after ten seconds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
