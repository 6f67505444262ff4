//! Doing: from what the `raft` crate has decided to actions, in an order that keeps promises.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry as RaftEntry, EntryType, Message, MessageType};
use raft::{Ready, StateRole};

use super::engine::{RaftEngine, conf_change};
use super::guard;
use super::log::{Base, is_block};
use super::store::{Quarantine, Writer};
use crate::engine::{Action, Applied, Delivered, Index, NodeId};
use crate::entry::Entry;
use crate::membership::{Change, Membership};

impl RaftEngine {
    /// Turns everything that is decided into actions.
    pub(super) fn process(&mut self) {
        loop {
            // An entry may have waited for what the others know by now.
            self.deliver();
            if self.evicted || self.broken.is_some() || !self.raw.has_ready() {
                break;
            }
            let ready = self.raw.ready();
            if let Err(what) = self.process_ready(ready) {
                self.broken = Some(what);
            }
        }
        if !self.evicted && self.broken.is_none() {
            self.announce();
            self.compact();
        }
    }

    fn process_ready(&mut self, mut ready: Ready) -> Result<(), String> {
        let commits_change = self.commits_change(ready.hs().map_or(0, |state| state.commit));
        let (early, late) = self.sort_messages(&mut ready, commits_change);
        self.send(early);
        let mut writer = Writer::default();
        let installed = self.install_snapshot(&ready, &mut writer)?;
        self.append(&mut ready, &mut writer, commits_change);
        let committed = ready.take_committed_entries();
        let mut light = self.raw.advance_append(ready);
        self.check_release(&mut writer);
        if self.commits_change(light.commit_index().unwrap_or(0)) {
            writer.hard_state(&self.raw.raft.hard_state());
            writer.sync();
        }
        if !writer.is_empty() {
            self.actions.push(Action::Persist(writer.finish()));
        }
        self.send(late);
        self.send(light.take_messages());
        if let Some(base) = installed {
            self.raw.advance_apply_to(base.index);
            self.adopt(base);
        }
        self.pending.extend(committed);
        self.pending.extend(light.take_committed_entries());
        self.deliver();
        Ok(())
    }

    /// Splits messages into those that a leader may send before it has synced its own log and
    /// those that promise something. While the term or the vote is not yet synced, or the commit
    /// of a membership change, all do.
    fn sort_messages(
        &mut self,
        ready: &mut Ready,
        commits_change: bool,
    ) -> (Vec<Message>, Vec<Message>) {
        let promises = ready.hs().map_or(self.promised, |state| (state.term, state.vote));
        let mut late = ready.take_persisted_messages();
        let free = ready.take_messages();
        if promises != self.promised || commits_change {
            self.promised = promises;
            late.extend(free);
            return (Vec::new(), late);
        }
        let (early, rest) = free.into_iter().partition(|message| {
            message.msg_type == MessageType::MsgAppend as i32
                || message.msg_type == MessageType::MsgHeartbeat as i32
        });
        late.extend::<Vec<Message>>(rest);
        (early, late)
    }

    fn send(&mut self, messages: Vec<Message>) {
        let sends = messages
            .into_iter()
            .filter(|message| message.to != self.node)
            .map(|message| Action::Send { to: message.to, message: guard::encode(&message) });
        self.actions.extend(sends);
    }

    fn install_snapshot(
        &mut self,
        ready: &Ready,
        writer: &mut Writer,
    ) -> Result<Option<Base>, String> {
        if ready.snapshot().is_empty() {
            return Ok(None);
        }
        let base = guard::snapshot_base(ready.snapshot()).map_err(|e| e.to_string())?;
        writer.delete(self.raw.mut_store().install(base.clone()));
        writer.base(&base);
        writer.sync();
        Ok(Some(base))
    }

    /// Whether a membership change is committed by going up to `commit`. The others may count on
    /// this node to know that: see [`RaftEngine::may_leave`].
    fn commits_change(&mut self, commit: Index) -> bool {
        let from = self.commit_seen;
        self.commit_seen = from.max(commit);
        let log = &self.raw.raft.raft_log;
        let unstable = log.unstable_entries();
        let first_unstable = unstable.first().map_or(Index::MAX, |entry| entry.index);
        (log.first_index().max(from + 1)..=commit).any(|index| {
            let entry = match index.checked_sub(first_unstable) {
                Some(at) => unstable.get(at as usize),
                None => log.store.entry(index),
            };
            entry.is_some_and(|e| e.entry_type == EntryType::EntryConfChange as i32)
        })
    }

    fn append(&mut self, ready: &mut Ready, writer: &mut Writer, commits_change: bool) {
        let entries = ready.take_entries();
        writer.entries(&entries);
        writer.delete(self.raw.mut_store().append(entries));
        let sync = ready.must_sync() || commits_change;
        if let Some(state) = ready.hs().filter(|_| sync) {
            writer.hard_state(state);
        }
        if sync {
            writer.sync();
        }
        if let (Quarantine::Barrier(_), Some(_)) = (self.quarantine, ready.hs()) {
            self.write_meta(writer);
        }
    }

    fn write_meta(&self, writer: &mut Writer) {
        writer.meta(self.node, self.quarantine, self.joined_at);
        writer.sync();
    }

    /// Ends the quarantine once an entry of a term beyond the barrier is committed here: this log
    /// then holds everything that was ever committed.
    fn check_release(&mut self, writer: &mut Writer) {
        let Quarantine::Barrier(barrier) = self.quarantine else { return };
        let log = &self.raw.raft.raft_log;
        let term = self.raw.raft.store().term_at(log.committed.min(log.persisted));
        if term.is_some_and(|term| term > barrier) {
            self.quarantine = Quarantine::None;
            self.write_meta(writer);
        }
    }

    /// Takes over a base that was installed: asks for the blocks before it, unless they are here.
    fn adopt(&mut self, base: Base) {
        self.pending.clear();
        self.voters = (base.index, Arc::clone(&base.membership));
        self.catch_up = None;
        if self.delivered.height < base.height {
            self.raw.mut_store().set_point(base.clone());
            let leader = self.leader();
            self.catch_up = Some(base);
            self.ask_for_blocks(leader);
        } else {
            self.delivered.index = self.delivered.index.max(base.index);
        }
    }

    /// Delivers what is committed, unless blocks before it are still missing.
    pub(super) fn deliver(&mut self) {
        while self.catch_up.is_none() && !self.evicted {
            if !self.pending.front().is_none_or(|entry| self.may_leave(entry)) {
                return;
            }
            let Some(entry) = self.pending.pop_front() else { return };
            if let Err(what) = self.deliver_one(entry) {
                self.broken = Some(what);
                return;
            }
        }
    }

    /// Whether an entry may be delivered as far as it removes this node. Once it is, this node
    /// votes no more, though it may be needed: those who do not know yet that the entry is
    /// committed still count it in. So it waits until others of the new membership know: a quorum
    /// of them if it leads, at least one if it follows. (They sync that before they say so.)
    fn may_leave(&self, entry: &RaftEntry) -> bool {
        if entry.entry_type != EntryType::EntryConfChange as i32 || entry.index <= self.voters.0 {
            return true;
        }
        // What does not decode is found out when it is delivered.
        let Ok(decoded) = Entry::decode(Bytes::copy_from_slice(&entry.context)) else {
            return true;
        };
        let Change::To(next) = decoded.change() else { return true };
        if next.contains(self.node) {
            return true;
        }
        let knows = |id: &NodeId| self.commits.get(id).is_some_and(|c| *c >= entry.index);
        let leads = self.raw.raft.state == StateRole::Leader;
        next.ids().filter(knows).count() >= if leads { next.quorum() } else { 1 }
    }

    fn deliver_one(&mut self, mut entry: RaftEntry) -> Result<(), String> {
        let (index, term) = (entry.index, entry.term);
        if is_block(&entry) {
            let payload = Bytes::from(std::mem::take(guard::payload(&mut entry)));
            let decoded = Entry::decode(payload)
                .map_err(|e| format!("entry {index} does not decode: {e}"))?;
            self.apply(index, decoded)?;
        }
        if self.evicted {
            return Ok(());
        }
        self.in_flight.delivered(index);
        self.raw.advance_apply_to(index);
        if index > self.delivered.index {
            self.delivered.index = index;
        }
        if self.delivered.index == index {
            let Applied { height, membership, .. } = self.delivered.clone();
            self.raw.mut_store().set_point(Base { index, term, height, membership });
        }
        Ok(())
    }

    /// Applies an entry that is a block: delivers it if it is new to the ledger, and tells the
    /// `raft` crate about the members if it is new to that.
    fn apply(&mut self, index: Index, entry: Entry) -> Result<(), String> {
        let next = match entry.change() {
            Change::None => None,
            Change::To(next) => Some(Arc::new(next.clone())),
        };
        if index > self.delivered.index {
            let membership = Arc::clone(next.as_ref().unwrap_or(&self.delivered.membership));
            let number = self.delivered.height;
            self.delivered =
                Applied { index, height: number + 1, membership: Arc::clone(&membership) };
            let delivered = Delivered { index, number, entry, membership, proof: None };
            self.actions.push(Action::Deliver(delivered));
        }
        match next {
            Some(next) if index > self.voters.0 => self.change_members(index, next),
            _ => Ok(()),
        }
    }

    fn change_members(&mut self, index: Index, next: Arc<Membership>) -> Result<(), String> {
        let broken = |e: String| format!("entry {index} changes the membership wrongly: {e}");
        let difference = self.voters.1.difference(&next).map_err(|e| broken(e.to_string()))?;
        let change = conf_change(difference, self.node);
        self.raw.apply_conf_change(&change).map_err(|e| broken(e.to_string()))?;
        let leaves = !next.contains(self.node);
        self.voters = (index, next);
        if leaves {
            self.leave();
        }
        Ok(())
    }

    /// Ends this engine.
    fn leave(&mut self) {
        self.evicted = true;
        self.pending.clear();
        self.in_flight.clear();
        self.actions.push(Action::Evicted);
    }

    fn announce(&mut self) {
        let (leader, term) = (self.leader(), self.raw.raft.term);
        let (known, known_term) = self.announced;
        if leader != known || (leader.is_some() && term != known_term) {
            self.announced = (leader, term);
            self.actions.push(Action::LeaderChanged { leader, term });
        }
        if self.raw.raft.state != StateRole::Leader {
            self.leading = None;
            self.in_flight.clear();
        } else if self.leading != Some(term) {
            self.announce_leading(term);
        }
    }

    /// The first entry of this term is this leader's own, so once it is applied, so is everything
    /// from before.
    fn announce_leading(&mut self, term: u64) {
        if self.leading.is_some() {
            self.leading = None;
            self.in_flight.clear();
        }
        if self.catch_up.is_none() && self.raw.raft.apply_to_current_term() {
            self.leading = Some(term);
            self.actions.push(Action::Leading { term });
        }
    }

    /// Drops old entries. Not while blocks are missing, nor before a joined node's log has reached
    /// its blocks: until then the point is not in the log.
    fn compact(&mut self) {
        let reached = self.raw.raft.raft_log.applied >= self.raw.raft.store().point().index;
        if self.catch_up.is_some() || !reached {
            return;
        }
        let limit = self.options.snapshot_interval_bytes;
        if let Some(dropped) = self.raw.mut_store().compact(limit) {
            let mut writer = Writer::default();
            writer.base(self.raw.raft.store().base());
            writer.delete(dropped);
            self.actions.push(Action::Persist(writer.finish()));
        }
    }
}
