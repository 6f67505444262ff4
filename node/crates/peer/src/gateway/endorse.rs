//! `Endorse`: enough endorsements for a transaction (Fabric: internal/pkg/gateway/endorse.go).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use weft_protos::common::Envelope;
use weft_protos::gateway::{EndorseRequest, EndorseResponse, ErrorDetail};
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest, ProposalResponse, SignedProposal};
use weft_types::transaction::assemble;

use super::Inner;
use super::broadcast::until;
use super::endorser::detail;
use super::error::with_details;
use super::plan::{Plan, Step};
use super::request::{Call, RequestError};
use crate::channel::Channel;
use crate::discovery::analysis::Descriptor;
use crate::membership::Member;

/// How long it is waited for enough endorsers to be known, and how often looked.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// What a client is told of two different results.
const MISMATCH: &str = "ProposalResponsePayloads do not match";
const NOT_ENOUGH: &str =
    "failed to collect enough transaction endorsements, see attached details for more info";

/// Peers, and the plan by which they are asked.
struct Round {
    plan: Plan,
    peers: Vec<Arc<Member>>,
    responses: BTreeMap<usize, ProposalResponse>,
}

impl Inner {
    pub(super) async fn endorse(&self, request: EndorseRequest) -> Result<EndorseResponse, Status> {
        let proposal = request.proposed_transaction.unwrap_or_default();
        let call = Call::read(&proposal).map_err(|error| {
            Status::invalid_argument(match error {
                RequestError::Missing => {
                    "the proposed transaction must contain a signed proposal".to_owned()
                }
                error => error.to_string(),
            })
        })?;
        let channel = self.channel(&call.channel).map_err(Status::unavailable)?;
        let round = match request.endorsing_organizations.is_empty() {
            true => self.begin(&channel, &call, &proposal).await?,
            false => self.round_for(&channel, &call, &request.endorsing_organizations)?,
        };
        let responses = self.collect(&channel, round, &proposal).await?;
        let payload = assemble(&call.proposal, &responses).map_err(|error| {
            Status::aborted(format!(
                "failed to assemble transaction: {}",
                crate::channel::report(&error)
            ))
        })?;
        let envelope = Envelope { payload, signature: Bytes::new() };
        Ok(EndorseResponse { prepared_transaction: Some(envelope) })
    }

    /// One peer of each of these organizations: the client knows what it is doing.
    fn round_for(
        &self,
        channel: &Channel,
        call: &Call,
        organizations: &[String],
    ) -> Result<Round, Status> {
        let mut orgs = self.candidates(channel, &call.chaincode).by_org(self.turn());
        let mut wanted: Vec<&String> = organizations.iter().collect();
        wanted.sort();
        wanted.dedup();
        let missing: Vec<_> =
            wanted.iter().filter(|org| !orgs.contains_key(**org)).map(|org| org.as_str()).collect();
        if !missing.is_empty() {
            return Err(Status::unavailable(format!(
                "failed to find any endorsing peers for org(s): {}",
                missing.join(", ")
            )));
        }
        let mut peers = Vec::new();
        let mut groups = Vec::new();
        for org in wanted {
            let members = orgs.remove(org).unwrap_or_default();
            let members = self.healthy_first(members);
            groups.push((peers.len()..peers.len() + members.len()).collect());
            peers.extend(members);
        }
        let layout = (0..groups.len()).map(|group| (group, 1)).collect();
        let plan = Plan::new(peers.len(), groups, vec![layout]);
        Ok(Round { plan, peers, responses: BTreeMap::new() })
    }

    /// The first endorsement says which chaincodes and collections are concerned, and with that who
    /// else has to endorse.
    async fn begin(
        &self,
        channel: &Channel,
        call: &Call,
        proposal: &SignedProposal,
    ) -> Result<Round, Status> {
        let interest = ChaincodeInterest {
            chaincodes: vec![ChaincodeCall { name: call.chaincode.clone(), ..Default::default() }],
        };
        let turn = self.turn();
        let mut orgs = self.candidates(channel, &call.chaincode).by_org(turn);
        let own = orgs.remove(self.deps.acl.msp_id().as_str()).unwrap_or_default();
        let first = match (own.is_empty(), call.has_transient) {
            (false, _) => own,
            (true, true) => {
                return Err(Status::failed_precondition(
                    "no endorsers found in the gateway's organization; retry specifying endorsing organization(s) to protect transient data",
                ));
            }
            (true, false) => {
                // This tells a chaincode that does not exist from one that nobody here has.
                self.describe(channel, &interest)?;
                orgs.into_values().flatten().collect()
            }
        };
        let first = self.healthy_first(first);
        let (peer, mut response) = self.first(channel, &first, proposal).await?;
        let interest = match response.interest.take() {
            Some(found) if !found.chaincodes.is_empty() => found,
            _ => interest,
        };
        let descriptor = self.describe_patiently(channel, call, &interest).await?;
        let (plan, peers) = self.plan(channel, &descriptor, &peer, turn);
        Ok(Round { plan, peers, responses: BTreeMap::from([(0, response)]) })
    }

    /// The first answer of peers of which one is enough.
    async fn first(
        &self,
        channel: &Channel,
        peers: &[Arc<Member>],
        proposal: &SignedProposal,
    ) -> Result<(Arc<Member>, ProposalResponse), Status> {
        let failures = match self.propose_to_any(channel, peers, proposal, |_| false).await {
            Ok(first) => return Ok(first),
            Err(failures) => failures,
        };
        let details: Vec<_> =
            failures.iter().map(|(peer, failure)| detail(peer, failure.message.clone())).collect();
        let message = "failed to endorse transaction, see attached details for more info";
        Err(with_details(Code::Aborted, message, &details))
    }

    fn describe(
        &self,
        channel: &Channel,
        interest: &ChaincodeInterest,
    ) -> Result<Arc<Descriptor>, Status> {
        self.deps.endorsers.describe(channel, interest).map_err(|error| {
            Status::failed_precondition(format!(
                "no combination of peers can be derived which satisfy the endorsement policy: {error}"
            ))
        })
    }

    /// Who can endorse. Other peers' word that they have a chaincode that was just defined, or defined
    /// anew, takes a moment to come.
    async fn describe_patiently(
        &self,
        channel: &Channel,
        call: &Call,
        interest: &ChaincodeInterest,
    ) -> Result<Arc<Descriptor>, Status> {
        let begun = Instant::now();
        loop {
            let described = match call.has_transient {
                false => self.describe(channel, interest),
                true => self.describe_protected(channel, interest),
            };
            match described {
                Err(_) if begun.elapsed() < PATIENCE => {
                    let membership = self.deps.endorsers.membership();
                    let _ = membership.fresh_channel_peers(channel);
                    sleep(LOOK).await;
                }
                described => return described,
            }
        }
    }

    /// As [`describe`](Self::describe), with those endorsers only who may hold the collections
    /// concerned: they get to see the transient data.
    fn describe_protected(
        &self,
        channel: &Channel,
        interest: &ChaincodeInterest,
    ) -> Result<Arc<Descriptor>, Status> {
        let mut careful = interest.clone();
        let mut protected = Vec::new();
        for call in careful.chaincodes.iter_mut().filter(|call| call.no_private_reads) {
            call.no_private_reads = false;
            protected.extend(call.collection_names.iter().cloned());
        }
        match self.describe(channel, &careful) {
            Err(_) if !protected.is_empty() && self.describe(channel, interest).is_ok() => {
                Err(Status::failed_precondition(format!(
                    "requires endorsement from organisation(s) that are not in the distribution policy of the private data collection(s): [{}]; retry specifying trusted endorsing organizations to protect transient data",
                    protected.join(" ")
                )))
            }
            result => result,
        }
    }

    /// Asks by the plan until there are enough endorsements of one result. For a peer that takes
    /// longer than usual the plan may name another one.
    async fn collect(
        &self,
        channel: &Channel,
        mut round: Round,
        proposal: &SignedProposal,
    ) -> Result<Vec<ProposalResponse>, Status> {
        let mut expected = round.responses.values().next().map(|first| first.payload.clone());
        let mut details: Vec<ErrorDetail> = Vec::new();
        let mut asked = FuturesUnordered::new();
        let mut due: BTreeMap<usize, Instant> = BTreeMap::new();
        loop {
            match round.plan.step() {
                Step::Done(chosen) => {
                    let responses = chosen.iter().filter_map(|peer| round.responses.remove(peer));
                    return Ok(responses.collect());
                }
                Step::Exhausted if asked.is_empty() => {
                    return Err(with_details(Code::Aborted, NOT_ENOUGH, &details));
                }
                // Those who are still at it may say more of why.
                Step::Exhausted => {}
                Step::Ask(indices) => {
                    for index in indices {
                        let Some(peer) = round.peers.get(index).cloned() else { continue };
                        let now = Instant::now();
                        due.insert(index, now + self.endorser_health.delay(&peer.endpoint, now));
                        asked.push(async move {
                            let answer = self.propose(channel, &peer, proposal).await;
                            (index, peer, answer)
                        });
                    }
                }
            }
            let answer = tokio::select! {
                answer = asked.next() => answer,
                () = until(due.values().min().copied()) => {
                    self.note_late(&mut round, &mut due);
                    continue;
                }
            };
            let Some((index, peer, answer)) = answer else {
                return Err(with_details(Code::Aborted, NOT_ENOUGH, &details));
            };
            due.remove(&index);
            let failed = match answer {
                Ok(response) => {
                    let expected = expected.get_or_insert_with(|| response.payload.clone());
                    if *expected == response.payload {
                        round.plan.endorsed(index);
                        round.responses.insert(index, response);
                        continue;
                    }
                    MISMATCH.to_owned()
                }
                Err(failure) => failure.message,
            };
            tracing::debug!(endpoint = %peer.endpoint, reason = %failed, "a peer did not endorse");
            details.push(detail(&peer, failed));
            round.plan.failed(index);
        }
    }

    /// Tells the plan of peers that are late, where another one may be asked.
    fn note_late(&self, round: &mut Round, due: &mut BTreeMap<usize, Instant>) {
        let now = Instant::now();
        let late: Vec<_> =
            due.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| *peer).collect();
        for index in late {
            let address = round.peers.get(index).map_or("", |peer| &peer.endpoint);
            if !round.plan.has_other(index) || self.endorser_health.may_hedge(address, now) {
                round.plan.late(index);
                due.remove(&index);
            } else {
                due.insert(index, now + self.endorser_health.delay(address, now));
            }
        }
    }
}
