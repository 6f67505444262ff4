//! Which messages of other nodes reach the `raft` crate.
//!
//! The crate trusts its peers: a field that contradicts the log, an unknown enum value or a
//! number near 2⁶⁴ makes it panic. Everything that it asserts about a message is checked here
//! first, so that the worst a member can do with malformed bytes is to have them refused.
//! (A member that lies consistently can still stop progress: Raft survives crashes, not traitors.)
//!
//! Terms and indices have ceilings, so that no sum overflows. A member that invents terms brings
//! the others to 2⁶² with one message, which harms nobody: elections and rejoining go on from there,
//! and nodes that were away follow. Beyond that it moves a node by 2³² a message. A node that it
//! moves further than the others, or not with them, no longer hears them and has to rejoin; after
//! 2³⁰ messages, at 2⁶³, nobody is elected any more.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{Entry as RaftEntry, EntryType, Message, MessageType, Snapshot};
use raft::{Raft, StateRole};

use super::log::{Base, Log};
use crate::engine::{MessageError, NodeId};
use crate::entry::{Entry, EntryError};
use crate::membership::{Change, Membership};

/// The first byte of every message: what follows is the `raft` crate's `Message`.
const FORMAT_RAFT: u8 = 1;

/// The highest index and height in a message, and the term that a message may be of whatever the
/// receiver's is. Terms grow by one an election and by 2²⁰ when a node rejoins, the others by one
/// an entry: no channel lives to see it. From here to 2⁶⁴ there is room for all that is added to
/// such a number, here and in the `raft` crate.
const CEILING: u64 = 1 << 62;

/// How far a message's term may be beyond the receiver's, above [`CEILING`].
const TERM_STEP: u64 = 1 << 32;

/// The highest term of a message.
const TERM_LIMIT: u64 = 1 << 63;

/// The highest term or index that this engine persists: a message's, and what a node adds to it
/// as it stands or rejoins.
pub(super) const PERSISTED_LIMIT: u64 = TERM_LIMIT + TERM_STEP;

/// The bytes to send for a message.
pub(super) fn encode(message: &Message) -> Bytes {
    let mut out = Vec::with_capacity(message.encoded_len() + 1);
    out.push(FORMAT_RAFT);
    // Fails only if the buffer has no room, and a vector grows.
    let _ = message.encode(&mut out);
    out.into()
}

/// Reads the bytes of a message.
pub(crate) fn decode(bytes: &Bytes, limit: usize) -> Result<Message, MessageError> {
    if bytes.len() > limit {
        return Err(MessageError::TooLarge { size: bytes.len(), limit });
    }
    match bytes.split_first() {
        None => Err(MessageError::Empty),
        Some((&FORMAT_RAFT, [])) => Err(MessageError::Empty),
        Some((&FORMAT_RAFT, rest)) => {
            Message::decode(rest).map_err(|e| MessageError::Undecodable(e.to_string()))
        }
        Some((&format, _)) => Err(MessageError::UnknownFormat { format }),
    }
}

/// What a message is checked against.
pub(super) struct Guard<'a> {
    pub node: NodeId,
    pub membership: &'a Membership,
    pub raft: &'a Raft<Log>,
    /// A node that lost its log is told about commits that it does not have, rightly.
    pub quarantined: bool,
    pub max_entry_bytes: usize,
}

fn implausible(field: &'static str, value: u64) -> MessageError {
    MessageError::Implausible { field, value }
}

fn ensure(holds: bool, field: &'static str, value: u64) -> Result<(), MessageError> {
    if holds { Ok(()) } else { Err(implausible(field, value)) }
}

impl Guard<'_> {
    /// Checks a message, and makes it the way that this node can take it.
    pub(super) fn check(&self, from: NodeId, message: &mut Message) -> Result<(), MessageError> {
        let kind = MessageType::from_i32(message.msg_type)
            .filter(is_sent_between_nodes)
            .ok_or_else(|| MessageError::Type(message.msg_type.to_string()))?;
        self.check_addresses(from, message, kind)?;
        self.check_term(message.term)?;
        match kind {
            MessageType::MsgAppend => self.check_append(message),
            MessageType::MsgAppendResponse => self.check_append_response(message),
            MessageType::MsgHeartbeat => self.check_heartbeat(message),
            MessageType::MsgSnapshot => self.check_snapshot(message),
            MessageType::MsgTimeoutNow => self.check_timeout_now(message),
            _ => Ok(()),
        }
    }

    fn check_term(&self, term: u64) -> Result<(), MessageError> {
        let limit = self.raft.term.max(CEILING).saturating_add(TERM_STEP).min(TERM_LIMIT);
        ensure(term > 0 && term <= limit, "term", term)
    }

    fn check_addresses(
        &self,
        from: NodeId,
        message: &Message,
        kind: MessageType,
    ) -> Result<(), MessageError> {
        if message.from != from || from == self.node {
            return Err(MessageError::WrongSender { named: message.from });
        }
        if message.to != self.node {
            return Err(MessageError::WrongReceiver { named: message.to });
        }
        // An id not yet assigned here may be of a member that was added by an entry which is
        // still on its way, and which only that member, leading, can bring.
        let newer = from >= self.membership.next_id() && !is_response(kind);
        if self.membership.contains(from) || newer {
            Ok(())
        } else {
            Err(MessageError::UnknownSender)
        }
    }

    fn check_append(&self, message: &mut Message) -> Result<(), MessageError> {
        let Message { index, log_term, term, .. } = *message;
        ensure(index <= CEILING, "index", index)?;
        ensure((index == 0) == (log_term == 0), "log_term", log_term)?;
        ensure(log_term <= term, "log_term", log_term)?;
        let mut previous = (index, log_term.max(1));
        for entry in &mut message.entries {
            self.check_entry(entry)?;
            let next = previous.0.checked_add(1).filter(|next| *next <= CEILING);
            ensure(Some(entry.index) == next, "entries.index", entry.index)?;
            let in_order = entry.term >= previous.1 && entry.term <= term;
            ensure(in_order, "entries.term", entry.term)?;
            previous = (entry.index, entry.term);
        }
        Ok(())
    }

    fn check_entry(&self, entry: &mut RaftEntry) -> Result<(), MessageError> {
        let size = entry.data.len() + entry.context.len();
        if size > self.max_entry_bytes {
            return Err(MessageError::TooLarge { size, limit: self.max_entry_bytes });
        }
        let index = entry.index;
        check_payload(entry).map_err(|reason| MessageError::Entry { index, reason })
    }

    fn check_append_response(&self, message: &Message) -> Result<(), MessageError> {
        ensure(message.request_snapshot == 0, "request_snapshot", message.request_snapshot)?;
        if self.raft.state != StateRole::Leader || message.term != self.raft.term {
            return Ok(());
        }
        // What it answers was in this leader's log, which has only grown since.
        let last = self.raft.raft_log.last_index();
        ensure(message.index <= last, "index", message.index)?;
        ensure(message.reject_hint <= last, "reject_hint", message.reject_hint)
    }

    fn check_heartbeat(&self, message: &mut Message) -> Result<(), MessageError> {
        let last_index = self.raft.raft_log.last_index();
        if message.term < self.raft.term || message.commit <= last_index {
            return Ok(());
        }
        if self.quarantined {
            message.commit = 0;
            return Ok(());
        }
        Err(MessageError::LogLost { commit: message.commit, last_index })
    }

    fn check_snapshot(&self, message: &Message) -> Result<(), MessageError> {
        let Some(snapshot) = &message.snapshot else {
            return Err(implausible("snapshot", 0));
        };
        let base = snapshot_base(snapshot)?;
        ensure(base.index > 0 && base.index <= CEILING, "snapshot.index", base.index)?;
        ensure(base.term > 0 && base.term <= message.term, "snapshot.term", base.term)?;
        ensure(base.height > 0 && base.height <= CEILING, "snapshot.height", base.height)?;
        if !base.membership.contains(self.node) {
            return Err(MessageError::Membership("this node is not in it".into()));
        }
        let plain = snapshot.metadata.as_ref().and_then(|m| m.conf_state.as_ref());
        if plain != Some(&super::log::conf_state(&base.membership)) {
            return Err(MessageError::Membership("it differs from the voters".into()));
        }
        Ok(())
    }

    fn check_timeout_now(&self, message: &Message) -> Result<(), MessageError> {
        ensure(message.term <= self.raft.term, "term", message.term)?;
        // One that comes late may find this node without a leader; in one term there is one.
        let late = message.term < self.raft.term || self.raft.leader_id == raft::INVALID_ID;
        ensure(late || message.from == self.raft.leader_id, "from", message.from)
    }
}

/// The base that a snapshot brings.
pub(super) fn snapshot_base(snapshot: &Snapshot) -> Result<Base, MessageError> {
    let metadata = snapshot.metadata.as_ref().ok_or_else(|| implausible("snapshot.metadata", 0))?;
    let data = Bytes::copy_from_slice(&snapshot.data);
    let base = Base::decode_data(metadata.index, metadata.term, data)
        .map_err(|e| MessageError::Membership(e.to_string()))?;
    match base.membership.members().iter().find(|m| m.weight != 1) {
        Some(member) => Err(implausible("snapshot.weight", member.weight)),
        None => Ok(base),
    }
}

fn is_sent_between_nodes(kind: &MessageType) -> bool {
    use MessageType as T;
    matches!(
        kind,
        T::MsgAppend
            | T::MsgAppendResponse
            | T::MsgHeartbeat
            | T::MsgHeartbeatResponse
            | T::MsgRequestVote
            | T::MsgRequestVoteResponse
            | T::MsgRequestPreVote
            | T::MsgRequestPreVoteResponse
            | T::MsgSnapshot
            | T::MsgTimeoutNow
    )
}

fn is_response(kind: MessageType) -> bool {
    use MessageType as T;
    matches!(
        kind,
        T::MsgAppendResponse
            | T::MsgHeartbeatResponse
            | T::MsgRequestVoteResponse
            | T::MsgRequestPreVoteResponse
    )
}

/// The payload of a Raft entry: in the data, or beside the conf change.
pub(super) fn payload(entry: &mut RaftEntry) -> &mut Vec<u8> {
    let is_change = entry.entry_type == EntryType::EntryConfChange as i32;
    if is_change { &mut entry.context } else { &mut entry.data }
}

fn check_payload(entry: &mut RaftEntry) -> Result<(), EntryError> {
    let kind = EntryType::from_i32(entry.entry_type);
    let is_change = kind == Some(EntryType::EntryConfChange);
    match kind {
        Some(EntryType::EntryNormal) if entry.data.is_empty() => {
            return if entry.context.is_empty() { Ok(()) } else { Err(EntryError::NoEnvelope) };
        }
        Some(EntryType::EntryNormal | EntryType::EntryConfChange) => {}
        // Joint consensus is not used.
        _ => return Err(EntryError::Kind(entry.entry_type as u8)),
    }
    let decoded = inspect(payload(entry))?;
    let brings_change = matches!(decoded.change(), Change::To(_));
    if brings_change != is_change || entry.data.is_empty() {
        return Err(EntryError::Change("it is not where a change belongs".into()));
    }
    Ok(())
}

/// Decodes a payload in place: the vector is lent as `Bytes` and taken back, not copied.
fn inspect(payload: &mut Vec<u8>) -> Result<Entry, EntryError> {
    let bytes = Bytes::from(std::mem::take(payload));
    let mut decoded = Entry::decode(bytes.clone());
    if let Ok(entry) = &mut decoded {
        entry.envelopes.clear();
    }
    *payload = Vec::from(bytes);
    decoded
}
