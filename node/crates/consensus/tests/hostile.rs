//! Malformed and implausible messages: refused by type, never a panic, state untouched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use common::options;
use proptest::prelude::*;
use prost::Message as _;
use raft::eraftpb::{
    ConfState, Entry as RaftEntry, Message, MessageType, Snapshot, SnapshotMetadata,
};
use weft_consensus::raft::{Options, RaftEngine, RestoreError, Start};
use weft_consensus::{
    Action, Applied, Engine, EngineError, Entry, Event, LogWrite, Membership, MessageError, Millis,
    NodeId, Severity,
};

fn applied(size: u64) -> Applied {
    let keys: Vec<Bytes> = (1..=size).map(|id| Bytes::from(format!("c{id}"))).collect();
    Applied { index: 0, height: 1, membership: Arc::new(Membership::genesis(&keys).unwrap()) }
}

fn engine(node: NodeId, size: u64) -> RaftEngine {
    let options = Options { seed: node, ..options() };
    RaftEngine::restore(node, options, applied(size), [], Start::Bootstrap, Millis(0)).unwrap()
}

/// Three engines with node 1 leading and a few entries delivered, and all messages exchanged.
struct Trio {
    engines: Vec<RaftEngine>,
    now: u64,
    seen: Vec<(NodeId, NodeId, Bytes)>,
}

impl Trio {
    fn new() -> Self {
        let mut trio =
            Self { engines: (1..=3).map(|id| engine(id, 3)).collect(), now: 0, seen: vec![] };
        while !trio.engines[0].status().accepts_proposals {
            trio.now += 20;
            assert!(trio.now < 10_000);
            // Only node 1 sees time pass, so it is the one that stands.
            trio.engines[0].receive(Millis(trio.now), Event::Tick).unwrap();
            trio.deliver_all();
        }
        for n in 0..5 {
            let entry = Entry::normal(vec![Bytes::from(format!("envelope {n}"))]);
            trio.engines[0].receive(Millis(trio.now), Event::Propose(entry)).unwrap();
            trio.deliver_all();
        }
        trio
    }

    fn deliver_all(&mut self) {
        let mut queue: VecDeque<(NodeId, NodeId, Bytes)> = VecDeque::new();
        loop {
            for engine in &mut self.engines {
                let from = engine.status().node;
                for action in engine.drain() {
                    if let Action::Send { to, message } = action {
                        queue.push_back((from, to, message));
                    }
                }
            }
            let Some((from, to, message)) = queue.pop_front() else { return };
            self.seen.push((from, to, message.clone()));
            let event = Event::Message { from, message };
            self.engines[to as usize - 1].receive(Millis(self.now), event).unwrap();
        }
    }

    fn node(&mut self, id: NodeId) -> &mut RaftEngine {
        &mut self.engines[id as usize - 1]
    }

    fn receive(&mut self, to: NodeId, message: &Message) -> Result<(), EngineError> {
        let now = Millis(self.now);
        let event = Event::Message { from: message.from, message: encode(message) };
        self.node(to).receive(now, event)
    }
}

fn encode(message: &Message) -> Bytes {
    let mut bytes = vec![1];
    message.encode(&mut bytes).unwrap();
    bytes.into()
}

fn message(kind: MessageType, from: NodeId, to: NodeId, term: u64) -> Message {
    Message { msg_type: kind as i32, from, to, term, ..Message::default() }
}

fn refused(trio: &mut Trio, to: NodeId, message: &Message) -> MessageError {
    let before = trio.node(to).status();
    let error = trio.receive(to, message).expect_err("to be refused");
    assert_eq!(error.severity(), Severity::Drop);
    assert_eq!(trio.node(to).status(), before, "a refused message changes nothing");
    match error {
        EngineError::BadMessage { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn check_field(trio: &mut Trio, to: NodeId, message: &Message, expected: &str) {
    match refused(trio, to, message) {
        MessageError::Implausible { field, .. } => assert_eq!(field, expected),
        other => panic!("{other}"),
    }
}

/// In Fabric an empty message took the orderer down (CVE-2022-31121).
#[test]
fn empty_inner_message() {
    let mut trio = Trio::new();
    for bytes in [&b""[..], b"\x01"] {
        let event = Event::Message { from: 1, message: Bytes::from_static(bytes) };
        let error = trio.node(2).receive(Millis(1), event).unwrap_err();
        assert!(matches!(error, EngineError::BadMessage { from: 1, reason: MessageError::Empty }));
    }
}

#[test]
fn only_what_nodes_send() {
    use MessageType as T;
    let local = [
        T::MsgHup,
        T::MsgBeat,
        T::MsgPropose,
        T::MsgUnreachable,
        T::MsgSnapStatus,
        T::MsgCheckQuorum,
        T::MsgTransferLeader,
        T::MsgReadIndex,
        T::MsgReadIndexResp,
    ];
    let mut trio = Trio::new();
    for kind in local {
        for to in [1, 2] {
            let from = 3 - to;
            let reason = refused(&mut trio, to, &message(kind, from, to, 2));
            assert!(matches!(reason, MessageError::Type(_)), "{kind:?}: {reason}");
        }
    }
    let unknown = Message { msg_type: 77, ..message(T::MsgAppend, 1, 2, 2) };
    assert!(matches!(refused(&mut trio, 2, &unknown), MessageError::Type(_)));
}

#[test]
fn addresses() {
    let mut trio = Trio::new();
    let stranger = message(MessageType::MsgHeartbeat, 0, 2, 2);
    assert_eq!(refused(&mut trio, 2, &stranger), MessageError::UnknownSender);
    let response = message(MessageType::MsgAppendResponse, 9, 1, 2);
    assert_eq!(refused(&mut trio, 1, &response), MessageError::UnknownSender);
    let elsewhere = message(MessageType::MsgHeartbeat, 1, 3, 2);
    assert_eq!(refused(&mut trio, 2, &elsewhere), MessageError::WrongReceiver { named: 3 });
    let own = message(MessageType::MsgHeartbeat, 2, 2, 2);
    assert_eq!(refused(&mut trio, 2, &own), MessageError::WrongSender { named: 2 });
    // Signed in by one, speaking as another.
    let inside = encode(&message(MessageType::MsgHeartbeat, 1, 2, 2));
    let event = Event::Message { from: 3, message: inside };
    let error = trio.node(2).receive(Millis(1), event).unwrap_err();
    let named = MessageError::WrongSender { named: 1 };
    assert!(matches!(error, EngineError::BadMessage { from: 3, reason } if reason == named));
}

#[test]
fn terms() {
    let mut trio = Trio::new();
    for kind in [MessageType::MsgAppend, MessageType::MsgHeartbeat, MessageType::MsgRequestVote] {
        check_field(&mut trio, 2, &message(kind, 1, 2, 0), "term");
        check_field(&mut trio, 2, &message(kind, 1, 2, u64::MAX), "term");
    }
}

/// Terms have an end. A member that invents terms comes nowhere near it, elections go on beyond
/// what it brings about, and nodes that were away follow.
#[test]
fn terms_near_their_end() {
    let mut trio = Trio::new();
    let (ceiling, step) = (1 << 62, 1 << 32);
    let far = |term| message(MessageType::MsgHeartbeat, 3, 2, term);
    check_field(&mut trio, 2, &far(ceiling + step + 1), "term");
    trio.receive(2, &far(ceiling + step)).unwrap();
    assert_eq!(trio.node(2).status().term, ceiling + step);
    check_field(&mut trio, 2, &far(ceiling + 2 * step + 1), "term");
    trio.deliver_all();
    let leads = |engine: &RaftEngine| {
        engine.status().accepts_proposals && engine.status().term > ceiling + step
    };
    while !trio.engines.iter().any(leads) {
        trio.now += 20;
        assert!(trio.now < 60_000, "no leader: {:?}", trio.engines);
        for engine in &mut trio.engines {
            engine.receive(Millis(trio.now), Event::Tick).unwrap();
        }
        trio.deliver_all();
    }
    assert!(trio.engines.iter().all(|engine| engine.status().term > ceiling + step));
}

/// The log of a node whose term or log is as near to the end as is taken, or nearer.
fn restored(term: u64, base: u64) -> Result<RaftEngine, RestoreError> {
    let mut records = BTreeMap::new();
    for action in engine(2, 3).drain() {
        let Action::Persist(persist) = action else { continue };
        for write in persist.writes {
            let LogWrite::Put { key, value } = write else { continue };
            records.insert(key, value);
        }
    }
    let applied = Applied { index: base, height: 1, ..applied(3) };
    let numbers = |numbers: &[u64]| {
        let mut out = Vec::new();
        for mut number in numbers.iter().copied() {
            while number >= 0x80 {
                out.push(number as u8 | 0x80);
                number >>= 7;
            }
            out.push(number as u8);
        }
        out
    };
    records.insert(Bytes::from_static(b"h"), numbers(&[term, 0, base]).into());
    let mut value = numbers(&[base, term, 1]);
    applied.membership.encode(&mut value);
    records.insert(Bytes::from_static(b"b"), value.into());
    RaftEngine::restore(2, options(), applied, records, Start::Restart, Millis(0))
}

#[test]
fn at_the_end_of_terms_and_logs() {
    let damaged = |term, base| match restored(term, base) {
        Err(RestoreError::Contradiction { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(damaged(u64::MAX - (1 << 39), 5), "the current term");
    assert_eq!(damaged(7, u64::MAX), "the base's index");
    let last = 1 << 63;
    let mut engine = restored(last, 5).unwrap();
    for (kind, term) in [
        (MessageType::MsgHeartbeat, last + 1),
        (MessageType::MsgRequestVote, last + (1 << 40)),
        (MessageType::MsgAppend, u64::MAX),
    ] {
        let message = encode(&message(kind, 1, 2, term));
        let refused = engine.receive(Millis(1), Event::Message { from: 1, message }).unwrap_err();
        assert!(matches!(refused, EngineError::BadMessage { .. }), "{refused}");
    }
    for step in 1..20 {
        engine.receive(Millis(step * 1_000), Event::Tick).unwrap();
        engine.drain();
    }
    assert_eq!(engine.status().term, last);
}

#[test]
fn commits_beyond_the_log() {
    let mut trio = Trio::new();
    let (term, last) = (trio.node(2).status().term, trio.node(2).status().last_index);
    let heartbeat = Message { commit: last + 1, ..message(MessageType::MsgHeartbeat, 1, 2, term) };
    let expected = MessageError::LogLost { commit: last + 1, last_index: last };
    assert_eq!(refused(&mut trio, 2, &heartbeat), expected);
}

#[test]
fn appends() {
    let mut trio = Trio::new();
    let status = trio.node(2).status();
    let (term, last) = (status.term, status.last_index);
    let entry = |index, term| RaftEntry { index, term, ..RaftEntry::default() };
    let append = |index, log_term, entries| Message {
        index,
        log_term,
        entries,
        ..message(MessageType::MsgAppend, 1, 2, term)
    };
    // Not contiguous, out of order, of no term, of a later term than the message.
    let holes = append(last, term, vec![entry(last + 2, term)]);
    check_field(&mut trio, 2, &holes, "entries.index");
    let repeated = append(last, term, vec![entry(last + 1, term), entry(last + 1, term)]);
    check_field(&mut trio, 2, &repeated, "entries.index");
    check_field(&mut trio, 2, &append(last, term, vec![entry(last + 1, 0)]), "entries.term");
    let later = append(last, term, vec![entry(last + 1, term + 1)]);
    check_field(&mut trio, 2, &later, "entries.term");
    // A previous entry without a term would match everything beyond the log.
    check_field(&mut trio, 2, &append(last + 5, 0, vec![entry(last + 6, term)]), "log_term");
    check_field(&mut trio, 2, &append(0, term, vec![]), "log_term");
    check_field(&mut trio, 2, &append(u64::MAX, term, vec![]), "index");
    check_field(&mut trio, 2, &append(u64::MAX - 2, term, vec![]), "index");
    // Payloads.
    let bad = |entry_type, data: &[u8]| RaftEntry {
        entry_type,
        data: data.to_vec(),
        ..entry(last + 1, term)
    };
    for (kind, data) in [(0, &b"junk"[..]), (1, b""), (1, b"junk"), (2, b""), (9, b"")] {
        let reason = refused(&mut trio, 2, &append(last, term, vec![bad(kind, data)]));
        assert!(matches!(reason, MessageError::Entry { .. }), "{kind}: {reason}");
    }
    let huge = bad(0, &vec![0; options().max_entry_bytes + 1]);
    let reason = refused(&mut trio, 2, &append(last, term, vec![huge]));
    assert!(matches!(reason, MessageError::TooLarge { .. }));
}

#[test]
fn append_responses() {
    let mut trio = Trio::new();
    let status = trio.node(1).status();
    let response = message(MessageType::MsgAppendResponse, 2, 1, status.term);
    for index in [status.last_index + 1, u64::MAX] {
        check_field(&mut trio, 1, &Message { index, ..response.clone() }, "index");
    }
    let hint = Message { reject: true, reject_hint: u64::MAX, ..response.clone() };
    check_field(&mut trio, 1, &hint, "reject_hint");
    check_field(&mut trio, 1, &Message { request_snapshot: 1, ..response }, "request_snapshot");
}

#[test]
fn snapshots() {
    let mut trio = Trio::new();
    let term = trio.node(2).status().term;
    let with = |snapshot| Message { snapshot, ..message(MessageType::MsgSnapshot, 1, 2, term) };
    check_field(&mut trio, 2, &with(None), "snapshot");
    check_field(&mut trio, 2, &with(Some(Snapshot::default())), "snapshot.metadata");
    let empty = Snapshot { metadata: Some(SnapshotMetadata::default()), ..Snapshot::default() };
    let reason = refused(&mut trio, 2, &with(Some(empty)));
    assert!(matches!(reason, MessageError::Membership(_)), "{reason}");
    let others = Membership::genesis(&[Bytes::from("only c1")]).unwrap();
    let of = |members: &Membership, height: &[u8], index| {
        let mut data = height.to_vec();
        members.encode(&mut data);
        let voters = members.ids().collect();
        let conf_state = Some(ConfState { voters, ..ConfState::default() });
        Some(Snapshot { data, metadata: Some(SnapshotMetadata { conf_state, index, term }) })
    };
    let reason = refused(&mut trio, 2, &with(of(&others, &[9], 50)));
    assert_eq!(reason, MessageError::Membership("this node is not in it".into()));
    // Points after which there is hardly any place for entries, or blocks.
    let ours = applied(3).membership;
    check_field(&mut trio, 2, &with(of(&ours, &[9], u64::MAX - 1)), "snapshot.index");
    let height = &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..];
    check_field(&mut trio, 2, &with(of(&ours, height, 50)), "snapshot.height");
}

#[test]
fn usurpers() {
    let mut trio = Trio::new();
    let term = trio.node(2).status().term;
    // Only the leader hands over.
    check_field(&mut trio, 2, &message(MessageType::MsgTimeoutNow, 3, 2, term), "from");
    check_field(&mut trio, 2, &message(MessageType::MsgTimeoutNow, 3, 2, term + 1), "term");
    assert!(trio.receive(2, &message(MessageType::MsgTimeoutNow, 1, 2, term)).is_ok());
}

#[test]
fn oversized() {
    let mut trio = Trio::new();
    let message = Bytes::from(vec![1; options().max_message_bytes() + 1]);
    let error = trio.node(2).receive(Millis(1), Event::Message { from: 1, message }).unwrap_err();
    let EngineError::BadMessage { reason, .. } = error else { panic!("{error}") };
    assert!(matches!(reason, MessageError::TooLarge { .. }));
}

/// Values around which mistakes are made.
fn number() -> impl Strategy<Value = u64> {
    let large = [u64::MAX, u64::MAX - 1, 1 << 20, 1 << 40, 1 << 62, (1 << 62) + (1 << 32), 1 << 63];
    prop_oneof![5 => 0u64..12, 2 => prop::sample::select(large.to_vec())]
}

fn mutate(message: &mut Message, field: u8, value: u64) {
    match field {
        0 => message.msg_type = (value % 24) as i32,
        1 => message.term = value,
        2 => message.log_term = value,
        3 => message.index = value,
        4 => message.commit = value,
        5 => message.commit_term = value,
        6 => message.reject = value.is_multiple_of(2),
        7 => message.reject_hint = value,
        8 => message.request_snapshot = value,
        9 => message.context = b"CampaignTransfer".to_vec(),
        10 => message.priority = value as i64,
        11 => message.entries.iter_mut().for_each(|e| e.index = value),
        12 => message.entries.iter_mut().for_each(|e| e.term = value),
        13 => message.entries.iter_mut().for_each(|e| e.entry_type = (value % 5) as i32),
        14 => message.entries.truncate(value as usize % 4),
        _ => {
            let metadata = message.snapshot.get_or_insert_with(Snapshot::default);
            metadata.metadata.get_or_insert_with(SnapshotMetadata::default).index = value;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever a member makes of the messages it sends, nobody panics. (Some of what comes out
    /// is plausible and stops progress: a member that lies is beyond what Raft survives.)
    #[test]
    fn no_message_panics(
        script in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((0u8..16, number()), 0..4), 0u64..4),
            1..60,
        ),
    ) {
        let mut trio = Trio::new();
        let seen = trio.seen.clone();
        for (at, changes, wait) in script {
            let (from, to, bytes) = &seen[at.index(seen.len())];
            let mut message = Message::decode(&bytes[1..]).unwrap();
            changes.into_iter().for_each(|(field, value)| mutate(&mut message, field, value));
            let _ = trio.receive(*to, &Message { from: *from, to: *to, ..message });
            trio.now += wait * 400;
            for engine in &mut trio.engines {
                let _ = engine.receive(Millis(trio.now), Event::Tick);
                engine.drain();
            }
        }
    }

    #[test]
    fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..200), from in 0u64..5) {
        let mut engine = engine(2, 3);
        let mut framed = vec![1];
        framed.extend_from_slice(&noise);
        for message in [noise, framed] {
            let _ = engine.receive(Millis(0), Event::Message { from, message: message.into() });
        }
        engine.drain();
    }
}
