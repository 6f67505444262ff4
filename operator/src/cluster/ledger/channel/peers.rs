//! The peers of a channel: who joins, and what each still lacks.

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use weft_types::ChannelId;

use super::{POLL, Run, SETTLE, hash_of, members_of};
use crate::cluster::ledger::Waiting;
use crate::cluster::ledger::access::{Access, NodeRef};
use crate::cluster::ledger::observe::{Observation, OrdererChannel};

impl Run<'_> {
    /// Peers of members join, and what is still missing then.
    pub(super) async fn join_peers(&mut self) -> Option<Waiting> {
        let Some(members) = self.current.as_ref().map(|current| members_of(&current.bundle)) else {
            return Some(Waiting::new("ChannelNotReady", "the channel has not begun yet"));
        };
        let peers: Vec<&NodeRef> = (self.input.peers.iter())
            .filter(|node| members.iter().any(|member| *member == node.msp_id.as_str()))
            .collect();
        if self.join_missing(&peers).await {
            let deadline = Instant::now() + SETTLE;
            self.look_at_peers().await;
            while self.peers_lack(&peers).is_some() && Instant::now() < deadline {
                sleep(POLL).await;
                self.look_at_peers().await;
            }
        }
        self.peers_lack(&peers)
    }

    async fn look_at_peers(&mut self) {
        self.seen.again(self.access, self.input.peers).await;
        self.set_aside();
    }

    async fn join_missing(&mut self, peers: &[&NodeRef]) -> bool {
        let missing = peers.iter().filter(|node| {
            let Some(facts) = self.seen.peers.get(&node.name) else { return false };
            let joined = |heights: &BTreeMap<String, u64>| heights.contains_key(self.id.as_str());
            let foreign = facts.foreign.contains_key(self.id.as_str());
            facts.heights.as_ref().is_some_and(|heights| !joined(heights) && !foreign)
        });
        let (access, genesis) = (self.access, self.input.genesis);
        let joining = missing.map(|node| async move {
            let call = async { access.peer(node)?.join(genesis).await };
            (node.name.clone(), access.within(node, "joining the channel", call).await)
        });
        let joined = join_all(joining).await;
        let mut any = false;
        for (name, result) in joined {
            match result {
                Ok(()) => {
                    any = true;
                    self.has_joined(name);
                }
                Err(error) => self.note(&name, &error),
            }
        }
        any
    }

    fn peers_lack(&self, peers: &[&NodeRef]) -> Option<Waiting> {
        let newest = self.height();
        let lacks = peers.iter().filter_map(|node| {
            let facts = self.seen.peers.get(&node.name)?;
            let name = &node.name;
            let Some(heights) = &facts.heights else {
                return Some(("PeersNotReady", format!("{name} does not answer")));
            };
            if let Some(genesis) = facts.foreign.get(self.id.as_str()) {
                let message = format!(
                    "{name} has a ledger of an earlier channel of this name (genesis block \
                     {genesis}): give it an empty volume"
                );
                return Some(("ForeignLedger", message));
            }
            if let Some(why) = facts.failures.get(self.id.as_str()) {
                return Some(("ChannelFailed", format!("the channel has failed at {name}: {why}")));
            }
            match heights.get(self.id.as_str()) {
                None => {
                    let why = facts.problem.as_deref().unwrap_or("it is about to");
                    Some(("PeersNotReady", format!("{name} has not joined: {why}")))
                }
                Some(height) if height + OrdererChannel::LAG < newest || *height == 0 => {
                    Some(("CatchingUp", format!("{name} has {height} of {newest} blocks")))
                }
                Some(_) => None,
            }
        });
        let lacks: Vec<_> = lacks.collect();
        let reason = lacks.first()?.0;
        let all: Vec<_> = lacks.into_iter().map(|(_, message)| message).collect();
        Some(Waiting::new(reason, all.join("; ")))
    }
}

/// The hash of the first block of each peer that has joined and tells it.
pub(super) async fn first_blocks(
    access: &Access,
    peers: &[NodeRef],
    seen: &Observation,
    channel: &ChannelId,
) -> BTreeMap<String, String> {
    let joined = |node: &&NodeRef| {
        let heights = seen.peers.get(&node.name).and_then(|facts| facts.heights.as_ref());
        heights.is_some_and(|heights| heights.contains_key(channel.as_str()))
    };
    let asked = peers.iter().filter(joined).map(|node| async move {
        let call = async { access.peer(node)?.block(channel, 0).await };
        let first = access.within(node, "its first block", call).await.ok()?;
        Some((node.name.clone(), hash_of(&first)))
    });
    join_all(asked).await.into_iter().flatten().collect()
}
