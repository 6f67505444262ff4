//! Deciding: what an event does to the state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeType, Entry as RaftEntry, EntryType, Message, MessageType,
};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

use super::guard::{self, Guard};
use super::log::{Base, Log};
use super::options::Options;
use super::store::Quarantine;
use crate::engine::{
    Action, Applied, Engine, EngineError, Event, Index, MessageError, Millis, NodeId, Peer, Role,
    Status,
};
use crate::entry::Entry;
use crate::membership::{Change, Difference, Membership, MembershipError};
use crate::rng::Rng;

/// How far a rejoining node moves beyond the first term that it hears of: more elections than can
/// have taken place without any other node knowing.
const BARRIER: u64 = 1 << 20;

/// The Raft engine of one channel on one node.
pub struct RaftEngine {
    pub(super) node: NodeId,
    pub(super) options: Options,
    pub(super) raw: RawNode<Log>,
    pub(super) actions: Vec<Action>,
    /// Committed, not yet delivered.
    pub(super) pending: VecDeque<RaftEntry>,
    /// What the ledger holds once all actions so far are carried out.
    pub(super) delivered: Applied,
    /// The members as the `raft` crate knows them, and the last index that it has them from.
    /// Differs from `delivered` while a joined node's log is behind its blocks.
    pub(super) voters: (Index, Arc<Membership>),
    /// Term and vote as last persisted.
    pub(super) promised: (u64, NodeId),
    /// The base whose blocks are being fetched.
    pub(super) catch_up: Option<Base>,
    /// The highest index that each other node said is committed.
    pub(super) commits: BTreeMap<NodeId, Index>,
    /// How far commits were looked through for membership changes.
    pub(super) commit_seen: Index,
    pub(super) quarantine: Quarantine,
    pub(super) joined_at: Index,
    pub(super) in_flight: InFlight,
    pub(super) lateness: Lateness,
    /// Leader and term as last announced.
    pub(super) announced: (Option<NodeId>, u64),
    /// The term for which [`Action::Leading`] was given.
    pub(super) leading: Option<u64>,
    pub(super) evicted: bool,
    pub(super) broken: Option<String>,
    pub(super) now: Millis,
    pub(super) ticked: Millis,
    pub(super) leaderless_since: Option<Millis>,
    pub(super) heard: BTreeMap<NodeId, Millis>,
    pub(super) snapshots_since: BTreeMap<NodeId, Millis>,
    pub(super) rng: Rng,
    /// The state for which the election timeout was drawn, and the timeout in ticks.
    pub(super) drawn: ((u64, StateRole, NodeId), usize),
}

impl std::fmt::Debug for RaftEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftEngine").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// What this leader proposed and has not delivered.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    queue: VecDeque<(Index, usize)>,
    bytes: usize,
    config: Option<Index>,
}

impl InFlight {
    fn push(&mut self, index: Index, bytes: usize, config: bool) {
        self.queue.push_back((index, bytes));
        self.bytes += bytes;
        if config {
            self.config = Some(index);
        }
    }

    pub(super) fn delivered(&mut self, index: Index) {
        while let Some(&(first, bytes)) = self.queue.front() {
            if first > index {
                break;
            }
            self.queue.pop_front();
            self.bytes -= bytes;
        }
        self.config = self.config.filter(|config| *config > index);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How late a leader's entries get committed.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    committed: Index,
    /// When that grew last.
    grew: Millis,
    /// The ends that the log had, with the times, as far as not all up to there is committed.
    ends: VecDeque<(Index, Millis)>,
}

impl Lateness {
    /// Takes note of a leader's log. For how long its oldest entry that is not committed has been
    /// there, milliseconds; where there is so `much` on its way that this is a matter of throughput,
    /// for how long at most none was.
    fn note(&mut self, now: Millis, committed: Index, last: Index, much: bool) -> u64 {
        if committed != self.committed {
            (self.committed, self.grew) = (committed, now);
        }
        while self.ends.front().is_some_and(|(end, _)| *end <= committed) {
            self.ends.pop_front();
        }
        if last > self.ends.back().map_or(committed, |(end, _)| *end) {
            self.ends.push_back((last, now));
        }
        let oldest = self.ends.front().map_or(now, |(_, at)| *at);
        now.since(if much { oldest.max(self.grew) } else { oldest })
    }
}

impl RaftEngine {
    /// Draws the election timeout anew where the `raft` crate did, from a generator that can be
    /// replayed: that crate's cannot.
    pub(super) fn redraw_timeout(&mut self) {
        let raft = &self.raw.raft;
        let (before, state) = (self.drawn.0, (raft.term, raft.state, raft.leader_id));
        let began = raft.election_elapsed == 0;
        if before != state {
            let low = self.options.fine_election_ticks() as u64;
            let high = self.options.fine_max_election_ticks() as u64;
            self.drawn = (state, self.rng.range(low, high) as usize);
        }
        self.raw.raft.set_randomized_election_timeout(self.drawn.1);
        let stands = |role| matches!(role, StateRole::Candidate | StateRole::PreCandidate);
        let lost = stands(before.1) && state == (before.0, StateRole::Follower, raft::INVALID_ID);
        if began && (lost || stands(state.1)) {
            self.hasten_next_try();
        }
    }

    /// A vote that was split or got no answer is held again before a whole timeout has passed:
    /// that there is no leader is known already.
    fn hasten_next_try(&mut self) {
        let timeout = self.options.fine_election_ticks() as u64;
        let wait = self.rng.range(timeout / 6, timeout * 2 / 5) as usize;
        self.raw.raft.election_elapsed = self.drawn.1.saturating_sub(wait.max(1));
    }

    fn advance_time(&mut self, now: Millis) {
        self.now = self.now.max(now);
        let step = self.options.fine_tick_ms();
        let due = self.now.since(self.ticked) / step;
        // A process that was stopped does not make up for all the time it missed.
        let most = self.options.fine_max_election_ticks() as u64;
        if due > most {
            self.ticked = self.now;
        } else {
            self.ticked = self.ticked.plus(due * step);
        }
        if due == 0 {
            return;
        }
        self.settle();
        if self.quarantine == Quarantine::None {
            for _ in 0..due.min(most) {
                self.raw.tick();
                self.redraw_timeout();
            }
        }
        self.step_down_if_late();
        self.retry_snapshots();
    }

    /// A leader that is heard and hears, but so late that nothing gets committed in time, is given up
    /// by nobody else: heartbeats that are late keep coming.
    fn step_down_if_late(&mut self) {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return self.lateness = Lateness::default();
        }
        let (committed, last) = (raft.raft_log.committed, raft.raft_log.last_index());
        let much = self.in_flight.bytes > self.options.max_append_bytes;
        let late = self.lateness.note(self.now, committed, last, much);
        if late >= self.options.lateness_limit_ms() {
            let term = raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
            self.redraw_timeout();
        }
    }

    /// Lets the `raft` crate see its entries as persisted before anything that could make this
    /// node a leader, which it asserts. The actions keep their order, so it is no lie.
    fn settle(&mut self) {
        if !self.raw.raft.raft_log.unstable_entries().is_empty() {
            self.process();
        }
    }

    /// A snapshot that was lost is sent again after an election timeout.
    fn retry_snapshots(&mut self) {
        let waiting: BTreeSet<NodeId> = match self.raw.raft.state {
            StateRole::Leader => self
                .raw
                .raft
                .prs()
                .iter()
                .filter(|(_, progress)| progress.state == ProgressState::Snapshot)
                .map(|(id, _)| *id)
                .collect(),
            _ => BTreeSet::new(),
        };
        self.snapshots_since.retain(|id, _| waiting.contains(id));
        for id in waiting {
            let since = *self.snapshots_since.entry(id).or_insert(self.now);
            if self.now.since(since) >= self.options.election_timeout_ms() {
                self.snapshots_since.remove(&id);
                self.raw.report_snapshot(id, SnapshotStatus::Failure);
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), EngineError> {
        match event {
            Event::Tick => Ok(()),
            Event::Propose(entry) => self.propose(entry),
            Event::Message { from, message } => self
                .take_message(from, &message)
                .map_err(|reason| EngineError::BadMessage { from, reason }),
            Event::CaughtUp { height } => self.caught_up(height),
            Event::Unreachable { node } => {
                self.unreachable(node);
                Ok(())
            }
            Event::TransferLeadership { to } => self.transfer(to),
            Event::Signed { .. } => Err(EngineError::Unsolicited { event: "signed" }),
            Event::Verified { .. } => Err(EngineError::Unsolicited { event: "verified" }),
        }
    }

    fn check_proposable(&self) -> Result<(), EngineError> {
        let raft = &self.raw.raft;
        let Self { node, in_flight, .. } = self;
        if raft.state != StateRole::Leader {
            return Err(EngineError::NotLeader { node: *node, leader: self.leader() });
        }
        if let Some(to) = raft.lead_transferee {
            return Err(EngineError::Transferring { to });
        }
        if self.leading != Some(raft.term) {
            return Err(EngineError::LeaderNotReady { term: raft.term });
        }
        if let Some(index) = in_flight.config {
            return Err(EngineError::ConfigInFlight { index });
        }
        if in_flight.queue.len() >= self.options.max_inflight_entries
            || in_flight.bytes >= self.options.max_inflight_bytes
        {
            let (in_flight, bytes) = (in_flight.queue.len(), in_flight.bytes);
            return Err(EngineError::Busy { in_flight, bytes });
        }
        Ok(())
    }

    fn propose(&mut self, entry: Entry) -> Result<(), EngineError> {
        entry.check().map_err(EngineError::Entry)?;
        self.check_proposable()?;
        let change = match entry.change() {
            Change::None => None,
            Change::To(next) => {
                self.check_change(next).map_err(EngineError::Membership)?;
                let difference = self.delivered.membership.difference(next);
                let difference = difference.map_err(EngineError::Membership)?;
                self.check_stays(difference)?;
                Some(conf_change(difference, self.node))
            }
        };
        let (config, bytes, payload) = (entry.is_config(), entry.size(), entry.encode());
        let limit = self.options.max_entry_bytes;
        if payload.len() > limit {
            return Err(EngineError::EntryTooLarge { size: payload.len(), limit });
        }
        let proposal = raft_entry(change, payload);
        let message = Message {
            msg_type: MessageType::MsgPropose as i32,
            from: self.node,
            entries: vec![proposal],
            ..Message::default()
        };
        self.raw.raft.step(message).map_err(|e| EngineError::Broken { what: e.to_string() })?;
        self.in_flight.push(self.raw.raft.raft_log.last_index(), bytes, config);
        Ok(())
    }

    /// A leader does not propose its own removal, but hands over to one that will: the others
    /// would have to wait for an election timeout otherwise.
    fn check_stays(&mut self, difference: Difference) -> Result<(), EngineError> {
        match self.best_successor() {
            Some(to) if difference == Difference::Removed(self.node) => {
                self.raw.transfer_leader(to);
                Err(EngineError::Transferring { to })
            }
            _ => Ok(()),
        }
    }

    fn take_message(&mut self, from: NodeId, bytes: &Bytes) -> Result<(), MessageError> {
        let mut message = guard::decode(bytes, self.options.max_message_bytes())?;
        let guard = Guard {
            node: self.node,
            membership: match &self.catch_up {
                Some(base) => &base.membership,
                None => &self.delivered.membership,
            },
            raft: &self.raw.raft,
            quarantined: self.quarantine != Quarantine::None,
            max_entry_bytes: self.options.max_entry_bytes,
        };
        guard.check(from, &mut message)?;
        self.heard.insert(from, self.now);
        let known = self.commits.entry(from).or_default();
        *known = (*known).max(message.commit);
        let kind = MessageType::from_i32(message.msg_type).unwrap_or_default();
        if self.quarantine != Quarantine::None && !self.admit_to_quarantine(&message, kind) {
            return Ok(());
        }
        match kind {
            // While blocks are fetched nothing is applied, so the log only grows; a leader that
            // gets no answer holds back.
            MessageType::MsgAppend if self.is_log_full() => return Ok(()),
            MessageType::MsgAppend | MessageType::MsgHeartbeat => {}
            _ => self.settle(),
        }
        let stepped = self.raw.step(message);
        self.redraw_timeout();
        if kind == MessageType::MsgSnapshot {
            self.process();
        }
        match stepped {
            Ok(()) => Ok(()),
            Err(raft::Error::StepPeerNotFound) => Err(MessageError::UnknownSender),
            Err(other) => Err(MessageError::Undecodable(other.to_string())),
        }
    }

    fn is_log_full(&self) -> bool {
        let limit = self.options.snapshot_interval_bytes.saturating_mul(2);
        self.catch_up.is_some() && self.raw.raft.store().bytes() > limit
    }

    /// In quarantine only replication is taken part in, beyond the barrier; the first leader that
    /// is heard of sets it.
    fn admit_to_quarantine(&mut self, message: &Message, kind: MessageType) -> bool {
        let replication = matches!(
            kind,
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        if replication && self.quarantine == Quarantine::Waiting {
            let barrier = message.term.saturating_add(BARRIER);
            self.quarantine = Quarantine::Barrier(barrier);
            self.raw.raft.become_follower(barrier, raft::INVALID_ID);
            self.redraw_timeout();
        }
        replication
    }

    fn caught_up(&mut self, height: u64) -> Result<(), EngineError> {
        let expected = self.catch_up.as_ref().map(|base| base.height);
        match self.catch_up.take() {
            Some(base) if base.height == height => {
                let Base { index, height, membership, .. } = base;
                self.delivered = Applied { index, height, membership };
                self.deliver();
                self.process();
                Ok(())
            }
            other => {
                self.catch_up = other;
                Err(EngineError::CatchUpMismatch { height, expected })
            }
        }
    }

    fn unreachable(&mut self, node: NodeId) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        let state = self.raw.raft.prs().get(node).map(|progress| progress.state);
        match state {
            Some(ProgressState::Snapshot) => {
                self.raw.report_snapshot(node, SnapshotStatus::Failure);
            }
            Some(_) => self.raw.report_unreachable(node),
            None => {}
        }
    }

    fn transfer(&mut self, to: Option<NodeId>) -> Result<(), EngineError> {
        if self.raw.raft.state != StateRole::Leader {
            return Ok(());
        }
        let target = match to {
            Some(node) if !self.delivered.membership.contains(node) => {
                return Err(EngineError::NotAVoter { node });
            }
            Some(node) => Some(node),
            None => self.best_successor(),
        };
        if let Some(target) = target.filter(|target| *target != self.node) {
            self.raw.transfer_leader(target);
        }
        Ok(())
    }

    /// The follower with the longest log among those that are alive.
    fn best_successor(&self) -> Option<NodeId> {
        let progress = self.raw.raft.prs().iter();
        progress
            .filter(|(id, _)| **id != self.node && self.is_active(**id))
            .max_by_key(|(id, progress)| (progress.matched, std::cmp::Reverse(**id)))
            .map(|(id, _)| *id)
    }

    fn is_active(&self, node: NodeId) -> bool {
        let timeout = self.options.election_timeout_ms();
        node == self.node || self.heard.get(&node).is_some_and(|at| self.now.since(*at) <= timeout)
    }

    /// Whom this node follows, or itself.
    pub(super) fn leader(&self) -> Option<NodeId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != raft::INVALID_ID)
    }

    /// Asks for the blocks up to the base, `first` being the likeliest to have them.
    pub(super) fn ask_for_blocks(&mut self, first: Option<NodeId>) {
        let Some(base) = &self.catch_up else { return };
        let others = base.membership.ids().filter(|id| *id != self.node && Some(*id) != first);
        let from: Vec<NodeId> = first.into_iter().chain(others).collect();
        let (height, membership) = (base.height, Arc::clone(&base.membership));
        self.actions.push(Action::CatchUp { from, height, membership });
    }

    fn note_leader(&mut self) {
        self.leaderless_since = match self.leader() {
            Some(_) => None,
            None => self.leaderless_since.or(Some(self.now)),
        };
    }

    fn role(&self) -> Role {
        match self.raw.raft.state {
            _ if self.evicted => Role::Evicted,
            _ if self.quarantine != Quarantine::None => Role::Quarantined,
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    fn peers(&self) -> BTreeMap<NodeId, Peer> {
        if self.raw.raft.state != StateRole::Leader {
            return BTreeMap::new();
        }
        let progress = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.node);
        progress
            .map(|(id, progress)| {
                let peer = Peer {
                    matched: progress.matched,
                    active: self.is_active(*id),
                    needs_snapshot: progress.state == ProgressState::Snapshot,
                };
                (*id, peer)
            })
            .collect()
    }
}

impl Engine for RaftEngine {
    fn receive(&mut self, now: Millis, event: Event) -> Result<(), EngineError> {
        if self.evicted {
            return Err(EngineError::Evicted { node: self.node });
        }
        if let Some(what) = &self.broken {
            return Err(EngineError::Broken { what: what.clone() });
        }
        self.advance_time(now);
        let taken = self.handle(event);
        self.note_leader();
        taken
    }

    fn drain(&mut self) -> Vec<Action> {
        if !self.evicted && self.broken.is_none() {
            self.process();
            self.note_leader();
        }
        std::mem::take(&mut self.actions)
    }

    fn limit_entries(&mut self, bytes: usize) {
        self.options.max_entry_bytes = bytes;
    }

    fn wakeup(&self) -> Option<Millis> {
        if self.evicted || self.broken.is_some() {
            return None;
        }
        let raft = &self.raw.raft;
        let ticks = match raft.state {
            StateRole::Leader => raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed()),
            _ => self.drawn.1.saturating_sub(raft.election_elapsed),
        };
        Some(self.ticked.plus(self.options.fine_tick_ms() * ticks.max(1) as u64))
    }

    fn status(&self) -> Status {
        let raft = &self.raw.raft;
        Status {
            node: self.node,
            role: self.role(),
            term: raft.term,
            leader: self.leader(),
            accepts_proposals: self.broken.is_none()
                && !self.evicted
                && self.check_proposable().is_ok(),
            committed: raft.raft_log.committed,
            applied: self.delivered.index,
            height: self.delivered.height,
            last_index: raft.raft_log.last_index(),
            first_index: raft.store().first(),
            in_flight: self.in_flight.queue.len(),
            catching_up_to: self.catch_up.as_ref().map(|base| base.height),
            leaderless_since: self.leaderless_since,
            peers: self.peers(),
            membership: Arc::clone(&self.delivered.membership),
        }
    }

    fn check_change(&self, next: &Membership) -> Result<(), MembershipError> {
        check_weights(next)?;
        let now = &self.delivered.membership;
        if self.raw.raft.state != StateRole::Leader {
            // Only a leader hears from all the others.
            return now.difference(next).map(|_| ());
        }
        let active: BTreeSet<NodeId> = now.ids().filter(|id| self.is_active(*id)).collect();
        now.check_change(next, &active).map(|_| ())
    }
}

pub(super) fn check_weights(membership: &Membership) -> Result<(), MembershipError> {
    match membership.members().iter().find(|member| member.weight != 1) {
        Some(m) => Err(MembershipError::Unweighted { id: m.id, weight: m.weight }),
        None => Ok(()),
    }
}

/// What the `raft` crate does for a difference. A node whose identity changes stays a voter, for
/// which there is no change; adding it again is one that changes nothing, and keeps all entries
/// that bring a membership of one type.
pub(super) fn conf_change(difference: Difference, node: NodeId) -> ConfChange {
    let (kind, node_id) = match difference {
        Difference::Removed(id) => (ConfChangeType::RemoveNode, id),
        Difference::Added(id) | Difference::Replaced(id) => (ConfChangeType::AddNode, id),
        Difference::None => (ConfChangeType::AddNode, node),
    };
    ConfChange { change_type: kind as i32, node_id, ..ConfChange::default() }
}

fn raft_entry(change: Option<ConfChange>, payload: Vec<u8>) -> RaftEntry {
    match change {
        None => RaftEntry { data: payload, ..RaftEntry::default() },
        Some(change) => RaftEntry {
            entry_type: EntryType::EntryConfChange as i32,
            data: change.encode_to_vec(),
            context: payload,
            ..RaftEntry::default()
        },
    }
}
