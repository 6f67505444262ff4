//! Values of a fresh endorsement, on their way to members (Fabric: gossip/privdata/distributor.go).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_config::Bundle;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{Envelope, PrivatePayload};
use weft_protos::peer::CollectionConfigPackage;
use weft_types::MspId;

use super::answer::COMMITTED;
use super::link::{Kind, Question};
use super::random;
use crate::blocking::blocking;
use crate::channel::Channel;
use crate::lifecycle;
use crate::membership::scope::Scope;
use crate::membership::{Member, Membership, message};
use crate::private::Collection;
use crate::private::exchange::{Push, PushError};

/// How long an endorsement that could be signed waits for the rest of the peers. What takes longer
/// goes on without it.
const LINGER: Duration = Duration::from_millis(250);
/// Bytes of another peer's reason that are written down.
const MAX_REASON: usize = 200;

/// A peer that can take values.
struct Taker {
    peer: Arc<Member>,
    /// Whether it failed not long ago.
    sick: bool,
}

/// One collection's values, ready to be sent.
struct Parcel {
    /// Who may take it.
    bundle: Arc<Bundle>,
    nonce: u64,
    message: Envelope,
    /// Peers that are to have it.
    maximum: usize,
    /// Time for one peer.
    limit: Duration,
    what: String,
}

/// How far a push has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Peers that have it.
    reached: usize,
    /// Peers under way that are thought to be well.
    pending: usize,
}

impl Membership {
    pub(super) async fn push_private(
        &self,
        channel: &Channel,
        push: Push,
    ) -> Result<(), PushError> {
        let required = push.collection.required_peers;
        let maximum = push.collection.maximum_peers.max(required);
        let (namespace, collection) = (push.namespace.clone(), push.collection.name.clone());
        let settle = |reached: usize, required: usize| match reached >= required {
            true => Ok(()),
            false => Err(PushError { namespace, collection, reached, required }),
        };
        let takers = self.takers(channel, &push.collection);
        if maximum == 0 || takers.len() < required || takers.is_empty() {
            return settle(0, required);
        }
        let settings = &self.0.options.private_data;
        let (size, limit) = (push.writes.len(), settings.max_bytes);
        if size > limit {
            tracing::error!(
                channel = %channel.id(), chaincode = push.namespace,
                collection = push.collection.name, size, limit,
                "private writes are larger than privateData.maxBytes and cannot be passed on"
            );
            return settle(0, required.max(1));
        }
        // The collections are read.
        let parcel = blocking(|| self.parcel(channel, push, maximum)).await;
        settle(self.distribute(parcel, takers, required).await, required)
    }

    /// The peers of members, in the order in which they are tried.
    fn takers(&self, channel: &Channel, collection: &Collection) -> Vec<Taker> {
        let peers = self.channel_peers(channel).into_iter().map(|peer| peer.member);
        let bundle = channel.bundle();
        let holds = |peer: &Arc<Member>| collection.admits(bundle.msps(), &peer.identity);
        let members = peers.filter(|peer| !peer.is_self && holds(peer));
        let takers = members.map(|peer| {
            let sick = self.0.private.links.is_sick(peer.id, Kind::Push);
            let org = peer.identity.claimed_msp_id().clone();
            (org, sick, random(), Taker { peer, sick })
        });
        in_turn(takers.collect(), self.0.deps.acl.msp_id())
    }

    fn parcel(&self, channel: &Channel, push: Push, maximum: usize) -> Parcel {
        let what = format!("{}/{}", push.namespace, push.collection.name);
        let payload = PrivatePayload {
            collection_configs: Some(collections(channel, &push.namespace)),
            collection_name: push.collection.name,
            namespace: push.namespace,
            tx_id: push.tx_id.to_string(),
            private_rwset: push.writes,
            private_sim_height: push.height,
        };
        let nonce = random();
        let message = message::private_data(nonce, channel.id(), payload);
        // Half the time, so that a peer that does not answer can be replaced.
        let limit = self.0.options.private_data.push_timeout / 2;
        Parcel { bundle: channel.bundle(), nonce, message, maximum, limit, what }
    }

    /// Sends a parcel and tells how many peers have it. It ends when all have it that are to, or
    /// time is up, or enough have it and the rest takes long.
    async fn distribute(&self, parcel: Parcel, takers: Vec<Taker>, required: usize) -> usize {
        let (told, mut progress) = watch::channel(Progress { reached: 0, pending: 1 });
        let limit = self.0.options.private_data.push_timeout;
        let unattended = Arc::clone(&self.0.private.unattended).try_acquire_owned().ok();
        let may_go_on = unattended.is_some();
        let given_up = CancellationToken::new();
        let guard = given_up.clone().drop_guard();
        let membership = self.clone();
        tokio::spawn(async move {
            let _place = unattended;
            tokio::select! {
                _ = timeout(limit, membership.deliver(&parcel, takers, &told)) => {}
                () = given_up.cancelled() => {}
            }
        });
        // The waits end as well when the task has, and then all is settled.
        let enough = progress.wait_for(|now| now.reached >= required);
        let _ = timeout(limit, enough).await;
        let _ = timeout(LINGER, progress.wait_for(|now| now.pending == 0)).await;
        let reached = progress.borrow().reached;
        if may_go_on && reached >= required {
            guard.disarm();
        }
        reached
    }

    /// Sends a parcel to as many peers as are to have it, others in the place of those that fail.
    async fn deliver(&self, parcel: &Parcel, takers: Vec<Taker>, told: &watch::Sender<Progress>) {
        let mut takers = takers.into_iter();
        let mut under_way = FuturesUnordered::new();
        let mut now = Progress::default();
        loop {
            while now.reached + under_way.len() < parcel.maximum
                && let Some(taker) = takers.next()
            {
                now.pending += usize::from(!taker.sick);
                under_way.push(self.hand_over(parcel, taker));
            }
            told.send_replace(now);
            let Some((taken, sick)) = under_way.next().await else { return };
            now.reached += usize::from(taken);
            now.pending -= usize::from(!sick);
        }
    }

    /// Sends a parcel to one peer; tells whether it has it.
    async fn hand_over(&self, parcel: &Parcel, taker: Taker) -> (bool, bool) {
        let Taker { peer, sick } = taker;
        let scope = Scope::Channel(Arc::clone(&parcel.bundle));
        let question = Question { scope, nonce: parcel.nonce, message: &parcel.message };
        let answer = self.ask_peer(&peer, Kind::Push, question, parcel.limit).await;
        let reason = match answer {
            Ok(Content::Ack(ack)) if ack.error.is_empty() => return (true, sick),
            Ok(Content::Ack(ack)) => ack.error.chars().take(MAX_REASON).collect(),
            Ok(_) => "it answered something else".to_owned(),
            Err(error) => error.to_string(),
        };
        let (peer, org) = (&peer.endpoint, peer.identity.claimed_msp_id());
        if reason == COMMITTED {
            tracing::debug!(%peer, %org, collection = parcel.what, "a peer has the block already");
            return (false, sick);
        }
        tracing::warn!(%peer, %org, collection = parcel.what, %reason, "a peer did not take private data");
        (false, sick)
    }
}

/// The collections of a chaincode as they are defined now. A peer that takes values looks its own
/// up; those of Fabric keep what they are told.
fn collections(channel: &Channel, chaincode: &str) -> CollectionConfigPackage {
    let definition = lifecycle::definition(&channel.ledger().state(), chaincode);
    definition.ok().flatten().map(|found| found.parameters.collections).unwrap_or_default()
}

/// Orders peers (organization, whether it failed not long ago, random number): those that failed
/// last, those of other organizations before the own, one of each organization before a second of
/// one, otherwise at random.
fn in_turn<T>(mut peers: Vec<(MspId, bool, u64, T)>, own: &MspId) -> Vec<T> {
    peers.sort_by_key(|(_, sick, random, _)| (*sick, *random));
    let mut counts: BTreeMap<MspId, usize> = BTreeMap::new();
    let ranked = peers.into_iter().map(|(org, sick, random, peer)| {
        let count = counts.entry(org.clone()).or_default();
        *count += 1;
        ((sick, org == *own, *count, random), peer)
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, peer)| peer).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use weft_types::MspId;

    use super::in_turn;

    /// Peers as `org sick random`, in the order in which they are tried by a peer of org A.
    fn check(peers: &[(&str, bool, u64)], expect: &str) {
        let given = peers.iter().map(|(org, sick, random)| {
            let name = format!("{org}{random}");
            (MspId::new(org).unwrap(), *sick, *random, name)
        });
        let order = in_turn(given.collect(), &MspId::new("A").unwrap());
        assert_eq!(order.join(" "), expect, "{peers:?}");
    }

    #[test]
    fn peers_are_tried_in_turn() {
        check(&[], "");
        check(&[("A", false, 1), ("B", false, 9)], "B9 A1");
        check(
            &[("B", false, 1), ("B", false, 2), ("C", false, 3), ("A", false, 0), ("D", false, 4)],
            "B1 C3 D4 B2 A0",
        );
        check(&[("B", false, 5), ("B", false, 2), ("C", false, 7), ("C", false, 1)], "C1 B2 B5 C7");
        // One that failed comes last, wherever it is from.
        check(&[("B", true, 1), ("C", false, 3), ("A", false, 0), ("B", false, 9)], "C3 B9 A0 B1");
        check(&[("B", true, 1), ("A", false, 3)], "A3 B1");
    }
}
