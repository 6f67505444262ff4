//! Services and methods have the names that existing clients and nodes call.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use tonic::body::Body;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Request, Status};

/// What each server answers to.
macro_rules! check_name {
    ($module:ident::$inner:ident::$server:ident, $expect:literal) => {
        assert_eq!(<weft_protos::$module::$inner::$server<()> as NamedService>::NAME, $expect);
    };
}

#[test]
fn servers() {
    check_name!(discovery::discovery_server::DiscoveryServer, "discovery.Discovery");
    check_name!(gateway::gateway_server::GatewayServer, "gateway.Gateway");
    check_name!(gossip::gossip_server::GossipServer, "gossip.Gossip");
    check_name!(orderer::atomic_broadcast_server::AtomicBroadcastServer, "orderer.AtomicBroadcast");
    check_name!(orderer::cluster_server::ClusterServer, "orderer.Cluster");
    check_name!(
        orderer::cluster_node_service_server::ClusterNodeServiceServer,
        "orderer.ClusterNodeService"
    );
    check_name!(peer::chaincode_server::ChaincodeServer, "protos.Chaincode");
    check_name!(peer::chaincode_support_server::ChaincodeSupportServer, "protos.ChaincodeSupport");
    check_name!(peer::deliver_server::DeliverServer, "protos.Deliver");
    check_name!(peer::endorser_server::EndorserServer, "protos.Endorser");
    check_name!(peer::snapshot_server::SnapshotServer, "protos.Snapshot");
}

/// Where each client method goes.
macro_rules! check_paths {
    ($module:ident::$inner:ident::$client:ident, {
        $($method:ident($request:expr) => $path:literal)*
    }) => {{
        let (sender, paths) = mpsc::channel();
        let mut client = weft_protos::$module::$inner::$client::new(Recorder(sender));
        $(
            assert!(run(client.$method($request)).is_err());
            assert_eq!(paths.try_recv().as_deref(), Ok($path));
        )*
    }};
}

#[test]
fn clients_of_peers() {
    check_paths!(peer::endorser_client::EndorserClient, {
        process_proposal(one()) => "/protos.Endorser/ProcessProposal"
    });
    check_paths!(peer::deliver_client::DeliverClient, {
        deliver(stream()) => "/protos.Deliver/Deliver"
        deliver_filtered(stream()) => "/protos.Deliver/DeliverFiltered"
        deliver_with_private_data(stream()) => "/protos.Deliver/DeliverWithPrivateData"
    });
    check_paths!(peer::snapshot_client::SnapshotClient, {
        generate(one()) => "/protos.Snapshot/Generate"
        cancel(one()) => "/protos.Snapshot/Cancel"
        query_pendings(one()) => "/protos.Snapshot/QueryPendings"
    });
    check_paths!(gateway::gateway_client::GatewayClient, {
        endorse(one()) => "/gateway.Gateway/Endorse"
        submit(one()) => "/gateway.Gateway/Submit"
        commit_status(one()) => "/gateway.Gateway/CommitStatus"
        evaluate(one()) => "/gateway.Gateway/Evaluate"
        chaincode_events(one()) => "/gateway.Gateway/ChaincodeEvents"
    });
    check_paths!(discovery::discovery_client::DiscoveryClient, {
        discover(one()) => "/discovery.Discovery/Discover"
    });
    check_paths!(gossip::gossip_client::GossipClient, {
        gossip_stream(stream()) => "/gossip.Gossip/GossipStream"
        ping(one()) => "/gossip.Gossip/Ping"
    });
}

#[test]
fn clients_of_orderers() {
    check_paths!(orderer::atomic_broadcast_client::AtomicBroadcastClient, {
        broadcast(stream()) => "/orderer.AtomicBroadcast/Broadcast"
        deliver(stream()) => "/orderer.AtomicBroadcast/Deliver"
    });
    check_paths!(orderer::cluster_client::ClusterClient, {
        step(stream()) => "/orderer.Cluster/Step"
    });
    check_paths!(orderer::cluster_node_service_client::ClusterNodeServiceClient, {
        step(stream()) => "/orderer.ClusterNodeService/Step"
    });
}

#[test]
fn clients_of_chaincode() {
    check_paths!(peer::chaincode_support_client::ChaincodeSupportClient, {
        register(stream()) => "/protos.ChaincodeSupport/Register"
    });
    check_paths!(peer::chaincode_client::ChaincodeClient, {
        connect(stream()) => "/protos.Chaincode/Connect"
    });
}

/// A channel that reports each path called and answers with an error.
#[derive(Clone)]
struct Recorder(mpsc::Sender<String>);

impl Service<http::Request<Body>> for Recorder {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let _ = self.0.send(request.uri().path().to_owned());
        ready(Ok(Status::unimplemented("recorded").into_http()))
    }
}

/// Runs a future that never has to wait, as calls on the recorder do not.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn one<T: Default>() -> Request<T> {
    Request::new(T::default())
}

fn stream<T: Send + 'static>() -> impl Stream<Item = T> + Send {
    tokio_stream::empty()
}
