//! `discovery.Discovery` (Fabric: discovery/service.go).

use std::sync::Arc;
use std::time::SystemTime;

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_msp::policy::SignedData;
use weft_protos::discovery::discovery_server::Discovery as DiscoveryRpc;
use weft_protos::discovery::{self, Query, QueryResult, SignedRequest, query, query_result};
use weft_protos::ext::decode_bounded;
use weft_protos::peer::ChaincodeInterest;
use weft_rpc::budget::{self, Refusals, Slots};
use weft_rpc::listen::PeerInfo;
use weft_types::Timestamp;

use super::answers;
use super::auth::AuthCache;
use super::endorsers::Endorsers;
use crate::acl::{Acl, WRITERS};
use crate::caller;
use crate::channel::{Channel, Channels, report};

/// Queries of one request at most.
const MAX_QUERIES: usize = 64;
/// Chaincode calls in all queries of one request at most: each is looked up, and its policies are
/// worked through.
const MAX_CALLS: usize = 256;
/// Collections in all queries of one request at most.
const MAX_COLLECTIONS: usize = 1024;
/// Key policies in all queries of one request at most. They are the caller's own, and merging them
/// takes the most time.
const MAX_KEY_POLICIES: usize = 8;

/// Settings of discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether every member of the peer's organization may ask about the peer as a whole; else only
    /// its administrators.
    pub org_members_allowed: bool,
    /// Requests at one time, shared by organizations.
    pub concurrency: usize,
    /// Largest answer, bytes.
    pub answer_bytes: usize,
}

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Discovery {
    channels: Arc<Channels>,
    acl: Acl,
    endorsers: Endorsers,
    options: Options,
    admitted: Arc<AuthCache>,
    slots: Slots,
}

/// A query is not answered. The text reaches the client.
struct Refusal(String);

/// The channel that a query may ask about, or `None` for the peer.
type Admitted = Result<Option<Arc<Channel>>, Refusal>;

impl Discovery {
    /// The service for the channels' members.
    #[must_use]
    pub fn new(channels: Arc<Channels>, acl: Acl, endorsers: Endorsers, options: Options) -> Self {
        let slots = Slots::new("discovery_requests", options.concurrency);
        Self { channels, acl, endorsers, options, admitted: Arc::default(), slots }
    }

    /// Counts requests that are refused.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { slots: self.slots.counted(refusals), ..self }
    }

    /// The answers to queries, as far as they have room.
    fn answers(&self, queries: Vec<(Query, Admitted)>) -> discovery::Response {
        let mut left = self.options.answer_bytes;
        let mut results = Vec::with_capacity(queries.len());
        for (query, admitted) in queries {
            let result = admitted.and_then(|channel| match channel {
                Some(channel) => self.channel_query(&channel, query, left),
                None => self.local_query(&query),
            });
            let result = result.and_then(|result| self.fits(result, &mut left));
            let result = result.unwrap_or_else(|Refusal(content)| {
                query_result::Result::Error(discovery::Error { content })
            });
            results.push(QueryResult { result: Some(result) });
        }
        discovery::Response { results }
    }

    fn fits(
        &self,
        result: query_result::Result,
        left: &mut usize,
    ) -> Result<query_result::Result, Refusal> {
        *left = left.checked_sub(result.encoded_len()).ok_or_else(|| self.too_large())?;
        Ok(result)
    }

    fn too_large(&self) -> Refusal {
        let limit = self.options.answer_bytes;
        Refusal(format!("the answer would be larger than {limit} bytes; ask for less at a time"))
    }

    /// Checks that whoever signed may ask about a channel, or about the peer where none is named.
    fn admit(&self, name: &str, signed: &SignedData) -> Admitted {
        let denied = |reason: String| {
            weft_rpc::sampled!(
                warn,
                "discovery",
                channel = name,
                reason,
                "refused a discovery query"
            );
            Refusal("access denied".to_owned())
        };
        let now = Timestamp::from_system_time(SystemTime::now());
        if name.is_empty() {
            let checked = match self.options.org_members_allowed {
                true => self.acl.check_member(signed, now),
                false => self.acl.check_admin(signed, now),
            };
            return checked.map(|()| None).map_err(|error| denied(error.to_string()));
        }
        let channel = self.channels.get_str(name);
        let channel = channel.ok_or_else(|| denied("no such channel".to_owned()))?;
        let bundle = channel.bundle();
        if !self.admitted.knows(&bundle, signed) {
            let policy = bundle.policies().get(WRITERS);
            let policy = policy.map_err(|error| denied(report(&error)))?;
            policy
                .evaluate(std::slice::from_ref(signed), now)
                .map_err(|error| denied(report(&error)))?;
            self.admitted.remember(&bundle, signed);
        }
        Ok(Some(channel))
    }

    fn local_query(&self, query: &Query) -> Result<query_result::Result, Refusal> {
        match query.query {
            Some(query::Query::LocalPeers(_)) => {
                let members = answers::local_peers(self.endorsers.membership());
                Ok(query_result::Result::Members(members))
            }
            _ => Err(unknown()),
        }
    }

    fn channel_query(
        &self,
        channel: &Channel,
        query: Query,
        room: usize,
    ) -> Result<query_result::Result, Refusal> {
        match query.query {
            Some(query::Query::ConfigQuery(_)) => {
                let config = answers::config(&channel.bundle());
                Ok(query_result::Result::ConfigResult(config))
            }
            Some(query::Query::PeerQuery(query)) => {
                let peers = self.endorsers.peers(channel, query.filter.as_ref());
                let peers = peers.map_err(|error| Refusal(error.to_string()))?;
                Ok(query_result::Result::Members(answers::channel_peers(peers)))
            }
            Some(query::Query::CcQuery(query)) => self.chaincodes(channel, &query.interests, room),
            _ => Err(unknown()),
        }
    }

    fn chaincodes(
        &self,
        channel: &Channel,
        interests: &[ChaincodeInterest],
        mut room: usize,
    ) -> Result<query_result::Result, Refusal> {
        check_interests(interests)?;
        let mut content = Vec::with_capacity(interests.len());
        for interest in interests {
            let descriptor = self.endorsers.describe(channel, interest).map_err(|error| {
                let call = text(interest);
                weft_rpc::sampled!(info, "endorsers", channel = %channel.id(), call, %error, "nobody can endorse");
                Refusal(format!("failed constructing descriptor for {call}"))
            })?;
            let peers = self.endorsers.membership().channel_peers(channel);
            let descriptor = answers::descriptor(&descriptor, &peers);
            room = room.checked_sub(descriptor.encoded_len()).ok_or_else(|| self.too_large())?;
            content.push(descriptor);
        }
        let result = discovery::ChaincodeQueryResult { content };
        Ok(query_result::Result::CcQueryRes(result))
    }
}

fn unknown() -> Refusal {
    Refusal("unknown or missing request type".to_owned())
}

fn check_interests(interests: &[ChaincodeInterest]) -> Result<(), Refusal> {
    let refuse = |text: &str| Err(Refusal(text.to_owned()));
    if interests.is_empty() {
        return refuse("chaincode query must have at least one chaincode interest");
    }
    if interests.iter().any(|interest| interest.chaincodes.is_empty()) {
        return refuse("chaincode interest must contain at least one chaincode");
    }
    let mut calls = interests.iter().flat_map(|interest| &interest.chaincodes);
    if calls.any(|call| call.name.is_empty()) {
        return refuse("chaincode name in interest cannot be empty");
    }
    Ok(())
}

/// Checks how much a request asks for, before anything is looked up.
fn check_extent(queries: &[Query]) -> Result<(), Status> {
    let within = |what: &str, count: usize, limit: usize| match count > limit {
        true => Err(invalid(format!("more than {limit} {what} in a request"))),
        false => Ok(()),
    };
    within("queries", queries.len(), MAX_QUERIES)?;
    let interests = queries.iter().flat_map(|query| match &query.query {
        Some(query::Query::CcQuery(query)) => &query.interests[..],
        Some(query::Query::PeerQuery(query)) => query.filter.as_slice(),
        _ => &[],
    });
    let (mut empty, mut calls, mut collections, mut policies) = (0, 0, 0, 0);
    for interest in interests {
        empty += usize::from(interest.chaincodes.is_empty());
        for call in &interest.chaincodes {
            calls += 1;
            collections += call.collection_names.len();
            policies += call.key_policies.len();
        }
    }
    within("chaincode calls", calls + empty, MAX_CALLS)?;
    within("collections", collections, MAX_COLLECTIONS)?;
    within("key policies", policies, MAX_KEY_POLICIES)
}

/// An interest in the form in which Fabric's peers show it.
fn text(interest: &ChaincodeInterest) -> String {
    let calls = interest.chaincodes.iter().map(|call| {
        let mut fields = vec![format!("name:{:?}", call.name)];
        fields.extend(call.collection_names.iter().map(|n| format!("collection_names:{n:?}")));
        if call.no_private_reads {
            fields.push("no_private_reads:true".to_owned());
        }
        if call.disregard_namespace_policy {
            fields.push("disregard_namespace_policy:true".to_owned());
        }
        format!("chaincodes:{{{}}}", fields.join(" "))
    });
    calls.collect::<Vec<_>>().join(" ")
}

/// What is refused before any query is looked at. The texts are Fabric's, and so is the code.
fn invalid(text: impl Into<String>) -> Status {
    Status::unknown(text)
}

/// Reads a request and checks that it was made for this connection.
///
/// A client that shows no TLS certificate cannot bind its request to the connection; its request
/// must not name one either, so that nobody can pass on the request of a client that does.
fn open(
    signed: SignedRequest,
    info: Option<&PeerInfo>,
) -> Result<(SignedData, Vec<Query>), Status> {
    let request: discovery::Request = decode_bounded("request", signed.payload.clone())
        .map_err(|error| invalid(format!("failed parsing request: {}", error.source)))?;
    let Some(authentication) = request.authentication else {
        return Err(invalid("access denied, no authentication info in request"));
    };
    if authentication.client_identity.is_empty() {
        return Err(invalid("access denied, client identity wasn't supplied"));
    }
    if let Some(info) = info.filter(|info| info.secure) {
        let shown = info.certificates.leaf_sha256();
        let claimed = &authentication.client_tls_cert_hash;
        if shown.is_none() && !claimed.is_empty() {
            return Err(invalid("client didn't send a TLS certificate"));
        }
        if shown.is_some_and(|shown| *claimed != shown[..]) {
            return Err(invalid(
                "client claimed TLS hash doesn't match computed TLS hash from gRPC stream",
            ));
        }
    }
    check_extent(&request.queries)?;
    let signed = SignedData {
        data: signed.payload,
        identity: authentication.client_identity,
        signature: signed.signature,
    };
    Ok((signed, request.queries))
}

#[tonic::async_trait]
impl DiscoveryRpc for Discovery {
    async fn discover(
        &self,
        request: Request<SignedRequest>,
    ) -> Result<Response<discovery::Response>, Status> {
        let (info, call) = (PeerInfo::of(&request).cloned(), budget::Call::of(&request).cloned());
        let (signed, queries) = open(request.into_inner(), info.as_ref())?;
        let admit = |query: Query| {
            let admitted = self.admit(&query.channel, &signed);
            (query, admitted)
        };
        let queries: Vec<_> = queries.into_iter().map(admit).collect();
        // Whoever may ask nothing here counts as a stranger, whoever it says it is.
        let known = queries.iter().any(|(_, admitted)| admitted.is_ok());
        let caller = caller::of(call.as_ref(), known.then_some(&signed.identity))?;
        let slot = self.slots.enter(&caller)?;
        let service = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            service.answers(queries)
        });
        work.await.map(Response::new).map_err(|_| Status::internal("the query was not answered"))
    }
}
