//! What is known of other peers: bounded tables that only newer messages change.
//!
//! A signed sign of life does not say when it was made: its time is when the peer started and how
//! many messages it has sent since (Fabric: gossip/discovery). Whoever keeps one can show it again
//! long after the peer is gone. So a peer counts as a member only when it has proved that it is
//! there: it spoke on a stream of its own, or answered as itself at the address that the message
//! names; both are tied to the TLS connection of the moment (see `bound`). Until then it is hearsay,
//! worth a visit. Later messages that others pass on keep a member alive, but not for longer than
//! [`PROOF`]; then it has to prove itself again. Nothing has to be remembered of peers that are
//! gone, and no message of theirs brings them back.
//!
//! Each organization has its fair share of either table ([`Shares`]).
//!
//! A peer whose certificate is renewed comes back under another id at the same endpoint. The newer
//! of two members of one organization at one endpoint takes the other's place, with what it had of
//! the channels until it says so itself; otherwise both would be counted until the old one expires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_msp::Authenticated;
use weft_protos::gossip::Envelope;
use weft_rpc::shares::{Share, Shares};
use weft_types::{ChannelId, MspId};

use super::message::{PkiId, Time};

/// An address, and the organization whose peer is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The organization.
    pub org: MspId,
    /// `host:port` of the peer's services.
    pub address: String,
}

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

impl Member {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { org: self.identity.claimed_msp_id().clone(), address: self.endpoint.clone() }
    }
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

/// How many times a peer's expiry its proof holds.
const PROOF: u32 = 10;

/// A channel's states by their time.
type Channels = BTreeMap<ChannelId, (Time, Arc<ChannelState>)>;

/// How a sign of life came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// On a stream of the peer that it is about.
    Own,
    /// From another peer.
    Hearsay,
}

struct Entry {
    member: Arc<Member>,
    time: Time,
    seen: Instant,
    proved: Instant,
    visited: Option<Instant>,
    channels: Channels,
    share: Share<MspId>,
}

/// A peer that others tell of.
struct Rumour {
    member: Member,
    time: Time,
    seen: Instant,
    visited: Option<Instant>,
    _share: Share<MspId>,
}

/// A newer member has the same place.
struct Superseded;

/// The tables. What they are told has been verified.
pub(crate) struct Table {
    entries: BTreeMap<PkiId, Entry>,
    rumours: BTreeMap<PkiId, Rumour>,
    member_shares: Shares<MspId>,
    rumour_shares: Shares<MspId>,
    expiry: Duration,
}

impl Table {
    pub(crate) fn new(capacity: usize, expiry: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            rumours: BTreeMap::new(),
            member_shares: Shares::new(capacity),
            rumour_shares: Shares::new(capacity),
            expiry,
        }
    }

    /// Whether a message of that time is news: it is worth verifying.
    pub(crate) fn is_news(&self, id: PkiId, source: Source, time: Time) -> bool {
        let told = self.rumours.get(&id).map(|rumour| rumour.time);
        // What was hearsay is news once more from the peer itself.
        let told = told.filter(|_| source == Source::Hearsay);
        let known = self.entries.get(&id).map(|entry| entry.time).max(told);
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

    /// The identity of a peer, whether or not it has proved to be there.
    pub(crate) fn identity(&self, id: PkiId) -> Option<&Authenticated> {
        let member = self.entries.get(&id).map(|entry| &*entry.member);
        let told = self.rumours.get(&id).map(|rumour| &rumour.member);
        member.or(told).map(|member| &member.identity)
    }

    /// Takes a sign of life; tells whether the membership changed by it.
    pub(crate) fn alive(
        &mut self,
        member: Member,
        time: Time,
        source: Source,
        now: Instant,
    ) -> bool {
        if !self.is_news(member.id, source, time) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&member.id)
            && entry.member.endpoint == member.endpoint
        {
            entry.member = Arc::new(member);
            (entry.time, entry.seen) = (time, now);
            return false;
        }
        match source {
            // Whoever takes the place of another is visited there first.
            Source::Own if !self.has_other(&member) => self.admit(member, time, now),
            Source::Own | Source::Hearsay => self.note(member, time, now),
        }
    }

    /// Whether another member is at this one's place.
    fn has_other(&self, member: &Member) -> bool {
        self.occupant(&member.place()).is_some_and(|(id, _)| id != member.id)
    }

    /// Takes a peer for a member, if there is room for it; tells whether the membership changed.
    fn admit(&mut self, member: Member, time: Time, now: Instant) -> bool {
        let id = member.id;
        self.rumours.remove(&id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.member = Arc::new(member);
            (entry.time, entry.seen, entry.proved) = (time, now, now);
            return true;
        }
        let Ok(before) = self.supersede(&member, time) else { return false };
        let (share, channels) = match before {
            Some(Entry { share, channels, .. }) => (Ok(share), channels),
            None => {
                (self.member_shares.try_take(member.identity.claimed_msp_id(), 1), Channels::new())
            }
        };
        let Ok(share) = share else { return false };
        let (member, visited) = (Arc::new(member), None);
        let entry = Entry { member, time, seen: now, proved: now, visited, channels, share };
        self.entries.insert(id, entry);
        true
    }

    /// Takes away the member whose place this one takes, or refuses the one that a newer one has
    /// replaced.
    fn supersede(&mut self, member: &Member, time: Time) -> Result<Option<Entry>, Superseded> {
        let Some((id, entry)) = self.occupant(&member.place()) else { return Ok(None) };
        if entry.time >= time {
            return Err(Superseded);
        }
        Ok(self.entries.remove(&id))
    }

    /// The member at a place.
    fn occupant(&self, place: &Place) -> Option<(PkiId, &Entry)> {
        let is_there = |entry: &Entry| {
            entry.member.endpoint == place.address
                && *entry.member.identity.claimed_msp_id() == place.org
        };
        let mut entries = self.entries.iter();
        entries.find(|(_, entry)| is_there(entry)).map(|(id, entry)| (*id, entry))
    }

    /// Notes where a peer is said to be. That changes nothing by itself.
    fn note(&mut self, member: Member, time: Time, now: Instant) -> bool {
        let is_replaced = self
            .occupant(&member.place())
            .is_some_and(|(id, occupant)| id != member.id && occupant.time >= time);
        if is_replaced {
            return false;
        }
        if let Some(rumour) = self.rumours.get_mut(&member.id) {
            (rumour.member, rumour.time, rumour.seen) = (member, time, now);
            return false;
        }
        let share = self.rumour_shares.try_take(member.identity.claimed_msp_id(), 1);
        let Ok(share) = share else { return false };
        let (id, visited) = (member.id, None);
        self.rumours.insert(id, Rumour { member, time, seen: now, visited, _share: share });
        false
    }

    /// A message came on a stream of this peer: it is there.
    pub(crate) fn heard(&mut self, id: PkiId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.proved = now;
        }
    }

    /// A peer answered as itself at an address; tells whether the membership changed by it.
    pub(crate) fn met(&mut self, id: PkiId, address: &str, now: Instant) -> bool {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.member.endpoint == address
        {
            entry.proved = now;
        }
        let told = self.rumours.get(&id).is_some_and(|rumour| rumour.member.endpoint == address);
        let rumour = if told { self.rumours.remove(&id) } else { None };
        rumour.is_some_and(|Rumour { member, time, .. }| {
            // What it said of itself meanwhile counts for more.
            self.is_news(id, Source::Own, time) && self.admit(member, time, now)
        })
    }

    /// Whom to visit, as its proof is missing or grows old, each with what `room` gives for it.
    /// Rumours are visited once in a peer's expiry.
    pub(crate) fn visits<R>(
        &mut self,
        now: Instant,
        room: impl Fn(&Place) -> Option<R>,
    ) -> BTreeMap<Place, R> {
        let (expiry, old) = (self.expiry, self.expiry * (PROOF / 2));
        let is_over = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        let mut visits = BTreeMap::new();
        let members = self.entries.values_mut().filter(|entry| is_over(entry.proved, old));
        let members = members.map(|entry| (entry.member.place(), &mut entry.visited));
        let told = self.rumours.values_mut();
        let told = told.map(|rumour| (rumour.member.place(), &mut rumour.visited));
        for (place, visited) in told.chain(members) {
            if visited.is_none_or(|at| is_over(at, expiry))
                && let Some(given) = room(&place)
            {
                *visited = Some(now);
                visits.insert(place, given);
            }
        }
        visits
    }

    /// A stream is being opened to a place, which is a visit as well.
    pub(crate) fn visited(&mut self, place: &Place, now: Instant) {
        let told = self.rumours.values_mut();
        for rumour in told.filter(|rumour| rumour.member.place() == *place) {
            rumour.visited = Some(now);
        }
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

    /// Drops peers that gave no sign of life for long, or no proof for longer; tells whether there
    /// were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let expiry = self.expiry;
        let within = |since: Instant, limit| now.saturating_duration_since(since) <= limit;
        self.rumours.retain(|_, rumour| within(rumour.seen, expiry));
        let before = self.entries.len();
        self.entries
            .retain(|_, entry| within(entry.seen, expiry) && within(entry.proved, expiry * PROOF));
        self.entries.len() != before
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.entries.values().map(|entry| &entry.member)
    }

    /// Where peers are, or are said to be.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let told = self.rumours.values().map(|rumour| rumour.member.place());
        self.entries.values().map(|entry| entry.member.place()).chain(told)
    }

    pub(crate) fn peers_of(&self, channel: &ChannelId) -> impl Iterator<Item = ChannelPeer> {
        self.entries.values().filter_map(|entry| {
            let (_, state) = entry.channels.get(channel)?;
            Some(ChannelPeer { member: Arc::clone(&entry.member), state: Arc::clone(state) })
        })
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
