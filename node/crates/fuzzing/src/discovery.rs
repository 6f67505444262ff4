//! Requests to discovery.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use weft_msp::SigningIdentity;
use weft_peer::discovery::endorsers::Endorsers;
use weft_peer::discovery::{Discovery, Options};
use weft_peer::membership::message::{self, PkiId, Time};
use weft_peer::membership::{GossipService, Membership};
use weft_protos::discovery::discovery_server::DiscoveryServer;
use weft_protos::discovery::query_result::Result as Outcome;
use weft_protos::discovery::{Request, Response, SignedRequest, query};
use weft_protos::gossip::Chaincode;
use weft_protos::gossip::gossip_server::GossipServer;
use weft_types::{ChannelId, Signer};

use crate::grpc;
use crate::peer::{CHAINCODE, CHANNEL, PEER};

const PATH: &str = "/discovery.Discovery/Discover";
/// Bytes of an answer.
const ANSWER: usize = 1 << 20;
/// Bytes that results take beside their contents.
const OVERHEAD: usize = 64 * 1024;

static DISCOVERY: LazyLock<Discovery> = LazyLock::new(|| {
    let options = Options { org_members_allowed: false, concurrency: 8, answer_bytes: ANSWER };
    let endorsers = Endorsers::new(membership());
    Discovery::new(Arc::clone(&PEER.channels), PEER.acl.clone(), endorsers, options)
});

/// A membership that has met a peer of the other organization.
fn membership() -> Membership {
    let membership = PEER.membership();
    let other = &PEER.network.org(2).peer;
    let id = PkiId::of(&other.serialized_identity()).expect("an identity");
    let channel = ChannelId::new(CHANNEL).expect("a valid id");
    let time = Time { started: 1, sequence: 1 };
    let chaincode = |name: &str, version: &str| Chaincode {
        name: name.to_owned(),
        version: version.to_owned(),
        metadata: Bytes::new(),
    };
    let installed = vec![chaincode(CHAINCODE, "1"), chaincode("_lifecycle", "1")];
    let told = [
        message::connect(other, id, Bytes::new()),
        message::alive(other, id, "peer0.org2:7051", time),
        message::state_info(other, id, &channel, time, 1, installed),
    ];
    let frames = told.map(|told| grpc::frame(&told.expect("a key that signs").encode_to_vec()));
    let service = GossipService::new(membership.clone(), CancellationToken::new());
    let frames = futures::stream::iter(frames);
    let path = "/gossip.Gossip/GossipStream";
    let met = PEER.run(grpc::call(GossipServer::new(service), path, frames, None));
    assert_eq!(met.code, Code::Ok);
    assert_eq!(membership.channel_peers(&PEER.channel()).len(), 2, "the other peer is known");
    membership
}

/// The first byte says who signs the request; without a signer it is as the input has it.
pub(crate) fn discovery(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let network = &PEER.network;
    let signer = match first % 5 {
        0 => None,
        1 => Some(&network.org(1).admin),
        2 => Some(&network.org(1).client),
        3 => Some(&network.org(2).client),
        _ => Some(&network.orderer_org.client),
    };
    let encoded = match signer {
        None => rest.to_vec(),
        Some(signer) => signed(signer, rest).encode_to_vec(),
    };
    let frames = futures::stream::iter([grpc::frame(&encoded)]);
    let service = DiscoveryServer::new(DISCOVERY.clone());
    let answer = PEER.run(grpc::call(service, PATH, frames, None));
    let answered: Vec<Response> = answer.decoded();
    assert_eq!(answered.len(), usize::from(answer.code == Code::Ok));
    for response in &answered {
        check(response, signer, &encoded);
    }
}

/// A request of this signer, who is named where the request names nobody.
fn signed(signer: &SigningIdentity, request: &[u8]) -> SignedRequest {
    let payload = match Request::decode(request) {
        Err(_) => Bytes::copy_from_slice(request),
        Ok(mut request) => {
            let authentication = request.authentication.get_or_insert_default();
            if authentication.client_identity.is_empty() {
                authentication.client_identity = signer.serialized_identity();
            }
            request.encode_to_vec().into()
        }
    };
    let signature = signer.sign(&payload).expect("a key that signs");
    SignedRequest { payload, signature }
}

fn check(response: &Response, signer: Option<&SigningIdentity>, encoded: &[u8]) {
    let request = SignedRequest::decode(encoded).expect("it was answered");
    let request = Request::decode(request.payload).expect("it was answered");
    assert_eq!(response.results.len(), request.queries.len(), "each query has its result");
    assert!(response.encoded_len() <= ANSWER + OVERHEAD);
    let has_room = response.encoded_len() < ANSWER / 2;
    let network = &PEER.network;
    let is = |one: &SigningIdentity| {
        signer.is_some_and(|signer| signer.serialized_identity() == one.serialized_identity())
    };
    for (query, result) in request.queries.iter().zip(&response.results) {
        let may = match query.channel.as_str() {
            "" => is(&network.org(1).admin),
            CHANNEL => signer.is_some() && !is(&network.orderer_org.client),
            _ => false,
        };
        let refused = matches!(result.result, Some(Outcome::Error(_)));
        assert!(may || refused, "answered whoever may not ask: {query:?}");
        let asks = matches!(query.query, Some(query::Query::ConfigQuery(_)));
        let named = request.authentication.as_ref().map(|named| &named.client_identity);
        let is_own = signer.is_some_and(|it| named == Some(&it.serialized_identity()));
        let on_channel = query.channel == CHANNEL && may && is_own;
        assert!(!(asks && on_channel && refused && has_room), "refused whoever may ask");
    }
}
