//! What is known of other peers: a bounded table that only newer messages change.
//!
//! A peer whose certificate is renewed comes back under another id at the same endpoint. The newer
//! of two members of one organization at one endpoint takes the other's place, with what it had of
//! the channels until it says so itself; otherwise both would be counted until the old one expires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_msp::Authenticated;
use weft_protos::gossip::Envelope;
use weft_types::ChannelId;

use super::message::{PkiId, Time};

/// A peer.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub id: PkiId,
    /// Its identity. What it is on a channel, the channel's MSPs say.
    pub identity: Authenticated,
    /// `host:port` of its services.
    pub endpoint: String,
    /// The signed `AliveMessage` that says so.
    pub alive: Envelope,
    /// Whether it is this peer.
    pub is_self: bool,
}

/// A chaincode that a peer can run, as its channel defines it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstalledChaincode {
    /// Its name.
    pub name: String,
    /// The definition's sequence, in decimal: what Fabric's peers tell as version.
    pub version: String,
}

/// What a peer has of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelState {
    /// Blocks committed.
    pub height: u64,
    /// Chaincodes that it can run.
    pub chaincodes: Vec<InstalledChaincode>,
    /// The signed `StateInfo` that says so.
    pub envelope: Envelope,
}

impl ChannelState {
    /// Whether the peer has the chaincode, in any version.
    #[must_use]
    pub fn has(&self, chaincode: &str) -> bool {
        self.chaincodes.iter().any(|one| one.name == chaincode)
    }

    /// Whether the peer has the chaincode as defined by `version`.
    #[must_use]
    pub fn has_version(&self, chaincode: &str, version: &str) -> bool {
        self.chaincodes.iter().any(|one| one.name == chaincode && one.version == version)
    }
}

/// A peer of a channel.
#[derive(Debug, Clone)]
pub struct ChannelPeer {
    /// The peer.
    pub member: Arc<Member>,
    /// What it has of the channel.
    pub state: Arc<ChannelState>,
}

struct Entry {
    member: Arc<Member>,
    time: Time,
    seen: Instant,
    channels: BTreeMap<ChannelId, (Time, Arc<ChannelState>)>,
}

/// A newer member has the same place.
struct Superseded;

/// The table. What it is told has been verified.
pub(crate) struct Table {
    entries: BTreeMap<PkiId, Entry>,
    /// Until when older messages of peers that were dropped are refused.
    dead: BTreeMap<PkiId, (Time, Instant)>,
    capacity: usize,
    expiry: Duration,
}

impl Table {
    pub(crate) fn new(capacity: usize, expiry: Duration) -> Self {
        Self { entries: BTreeMap::new(), dead: BTreeMap::new(), capacity, expiry }
    }

    /// Whether a message of that time is news: it is worth verifying.
    pub(crate) fn is_news(&self, id: PkiId, time: Time) -> bool {
        let known = self.entries.get(&id).map(|entry| entry.time);
        let known = known.or_else(|| self.dead.get(&id).map(|(time, _)| *time));
        known.is_none_or(|known| known < time)
    }

    /// Whether a channel's state of that time is news. A peer must be known to be alive first.
    pub(crate) fn is_state_news(&self, id: PkiId, channel: &ChannelId, time: Time) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.channels.get(channel).is_none_or(|(known, _)| *known < time))
    }

    pub(crate) fn member(&self, id: PkiId) -> Option<&Arc<Member>> {
        self.entries.get(&id).map(|entry| &entry.member)
    }

    /// Takes a sign of life; tells whether the membership changed by it.
    pub(crate) fn alive(&mut self, member: Member, time: Time, now: Instant) -> bool {
        if !self.is_news(member.id, time) {
            return false;
        }
        self.dead.remove(&member.id);
        if let Some(entry) = self.entries.get_mut(&member.id) {
            let changed = entry.member.endpoint != member.endpoint;
            entry.member = Arc::new(member);
            entry.time = time;
            entry.seen = now;
            return changed;
        }
        let Ok(channels) = self.supersede(&member, time, now) else { return false };
        if self.entries.len() >= self.capacity {
            return false;
        }
        let id = member.id;
        let member = Arc::new(member);
        self.entries.insert(id, Entry { member, time, seen: now, channels });
        true
    }

    /// Drops the member whose place this one takes and gives what it had of the channels, or
    /// refuses the one that a newer one has replaced.
    fn supersede(
        &mut self,
        member: &Member,
        time: Time,
        now: Instant,
    ) -> Result<BTreeMap<ChannelId, (Time, Arc<ChannelState>)>, Superseded> {
        let same_place = |entry: &Entry| {
            entry.member.endpoint == member.endpoint
                && entry.member.identity.claimed_msp_id() == member.identity.claimed_msp_id()
        };
        let found = self.entries.iter().find(|(_, entry)| same_place(entry));
        let Some((id, entry)) = found.map(|(id, entry)| (*id, entry)) else {
            return Ok(BTreeMap::new());
        };
        if entry.time >= time {
            return Err(Superseded);
        }
        let Some(entry) = self.entries.remove(&id) else { return Ok(BTreeMap::new()) };
        if self.dead.len() < self.capacity {
            self.dead.insert(id, (entry.time, now));
        }
        Ok(entry.channels)
    }

    /// Takes what a peer has of a channel; tells whether more than the height changed.
    pub(crate) fn state(
        &mut self,
        id: PkiId,
        channel: &ChannelId,
        time: Time,
        state: ChannelState,
    ) -> bool {
        if !self.is_state_news(id, channel, time) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let before = entry.channels.insert(channel.clone(), (time, Arc::new(state.clone())));
        before.is_none_or(|(_, before)| before.chaincodes != state.chaincodes)
    }

    /// Forgets what a peer had of a channel that it left.
    pub(crate) fn left(&mut self, id: PkiId, channel: &ChannelId) -> bool {
        let entry = self.entries.get_mut(&id);
        entry.is_some_and(|entry| entry.channels.remove(channel).is_some())
    }

    /// Drops peers that gave no sign of life for long; tells whether there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let expiry = self.expiry;
        let silent = |seen: Instant| now.saturating_duration_since(seen) > expiry;
        self.dead.retain(|_, (_, since)| now.saturating_duration_since(*since) < expiry * 10);
        let gone: BTreeSet<_> =
            self.entries.iter().filter(|(_, e)| silent(e.seen)).map(|(id, _)| *id).collect();
        for id in &gone {
            if let Some(entry) = self.entries.remove(id)
                && self.dead.len() < self.capacity
            {
                self.dead.insert(*id, (entry.time, now));
            }
        }
        !gone.is_empty()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.entries.values().map(|entry| &entry.member)
    }

    pub(crate) fn peers_of(&self, channel: &ChannelId) -> impl Iterator<Item = ChannelPeer> {
        self.entries.values().filter_map(|entry| {
            let (_, state) = entry.channels.get(channel)?;
            Some(ChannelPeer { member: Arc::clone(&entry.member), state: Arc::clone(state) })
        })
    }
}
