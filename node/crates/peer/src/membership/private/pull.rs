//! Values that are missing here, asked for (Fabric: gossip/privdata/pull.go).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;
use weft_protos::gossip::PvtDataElement;
use weft_protos::gossip::gossip_message::Content;

use super::link::{self, Kind};
use super::plan::{self, Plan, Question};
use super::random;
use crate::channel::Channel;
use crate::membership::message::PkiId;
use crate::membership::scope::Scope;
use crate::membership::{Member, Membership, message};
use crate::private::exchange::{Found, Wanted};

/// Peers asked at one time.
const AT_ONCE: usize = 4;
/// Time for a pull that no block waits for.
const UNHURRIED: Duration = Duration::from_secs(5);
/// Shortest time in which a pull can get anywhere.
const SHORTEST: Duration = Duration::from_secs(1);

impl Membership {
    pub(super) async fn pull_private(&self, channel: &Channel, wanted: Vec<Wanted>) -> Vec<Found> {
        let mut plan = self.plan(channel, wanted);
        let mut found = Vec::new();
        let limit = pull_limit(self.0.options.private_data.pull_timeout);
        let asking = async {
            let mut under_way = FuturesUnordered::new();
            loop {
                while under_way.len() < AT_ONCE
                    && let Some(question) = plan.next()
                {
                    under_way.push(self.ask_for(channel, question, limit / 2));
                }
                let Some((question, answer)) = under_way.next().await else { return };
                let peer = Arc::clone(&question.peer);
                let taken = plan.take(question, answer);
                if let Some(digest) = taken.wrong.first() {
                    tracing::warn!(
                        peer = %peer.endpoint, org = %peer.identity.claimed_msp_id(),
                        channel = %channel.id(), chaincode = digest.namespace,
                        collection = digest.collection, tx_id = digest.tx_id, block = digest.block,
                        dropped = taken.wrong.len(),
                        "dropped private data from a peer: the block has another hash"
                    );
                }
                found.extend(taken.found);
            }
        };
        let _ = timeout(limit, asking).await;
        let missing = plan.missing();
        tracing::debug!(channel = %channel.id(), found = found.len(), missing, "pulled private data");
        found
    }

    /// Whom to ask for what: the peers that endorsed first, then those of members.
    fn plan(&self, channel: &Channel, wanted: Vec<Wanted>) -> Plan {
        let bundle = channel.bundle();
        let peers = self.channel_peers(channel).into_iter().map(|peer| peer.member);
        let mut peers: Vec<_> = peers.filter(|peer| !peer.is_self).collect();
        // One order for everything, so that what goes to one peer goes in one question.
        peers.sort_by_cached_key(|peer| {
            (self.0.private.links.is_sick(peer.id, Kind::Pull), random())
        });
        let by_id: BTreeMap<PkiId, &Arc<Member>> =
            peers.iter().map(|peer| (peer.id, peer)).collect();
        let mut plan = Plan::default();
        for wanted in wanted {
            let endorsers = wanted.endorsers.iter().filter_map(|it| PkiId::of(it).ok());
            let endorsers: Vec<_> = endorsers.filter_map(|id| by_id.get(&id).copied()).collect();
            let others = peers.iter().filter(|peer| {
                wanted.collection.admits(bundle.msps(), &peer.identity)
                    && endorsers.iter().all(|endorser| endorser.id != peer.id)
            });
            // An endorser that fails is asked last, as others are.
            let sick = |peer: &&Arc<Member>| self.0.private.links.is_sick(peer.id, Kind::Pull);
            let (sick, well): (Vec<_>, Vec<_>) = endorsers.iter().copied().partition(sick);
            let order: Vec<_> = well.into_iter().chain(others).chain(sick).cloned().collect();
            plan.add(wanted, order);
        }
        plan
    }

    async fn ask_for(
        &self,
        channel: &Channel,
        question: Question,
        limit: Duration,
    ) -> (Question, Vec<PvtDataElement>) {
        let nonce = random();
        let digests = question.digests.iter().cloned().map(plan::encode).collect();
        let message = message::private_request(nonce, channel.id(), digests);
        let peer = &question.peer;
        let ask = link::Question { scope: Scope::of(channel), nonce, message: &message };
        let answer = match self.ask_peer(peer, Kind::Pull, ask, limit).await {
            Ok(Content::PrivateRes(response)) => response.elements,
            Ok(_) => {
                tracing::warn!(peer = %peer.endpoint, "a peer did not answer what it was asked");
                Vec::new()
            }
            Err(error) => {
                tracing::debug!(peer = %peer.endpoint, %error, "failed to ask a peer for private data");
                Vec::new()
            }
        };
        (question, answer)
    }
}

/// Time for a whole pull. A block waits for `timeout`, so it ends somewhat earlier: what came by then
/// would be lost otherwise.
fn pull_limit(timeout: Duration) -> Duration {
    if timeout < SHORTEST { UNHURRIED } else { timeout / 10 * 9 }
}
