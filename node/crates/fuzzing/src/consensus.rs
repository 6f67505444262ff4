//! Messages between orderers, at a leader and at a follower.

use std::sync::Arc;

use bytes::Bytes;
use weft_consensus::raft::{Options, RaftEngine, Start};
use weft_consensus::{
    Action, Applied, Engine, Entry, Event, Membership, Millis, NodeId, Severity,
};

/// Longest message in an input: its length is two bytes.
const LENGTH: usize = 2;

/// Messages one after another: two bytes of length, then the message. The first byte of an input
/// says who sends and who receives them.
pub(crate) fn step(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let mut trio = Trio::new();
    let receiver = usize::from(first % 2);
    let sender = if first & 2 == 0 { 3 } else { 2 - NodeId::from(first % 2) };
    while let Some((message, left)) = take(rest) {
        rest = left;
        trio.step(sender, receiver, message);
    }
    let _ = Entry::decode(Bytes::copy_from_slice(data));
}

fn take(data: &[u8]) -> Option<(Bytes, &[u8])> {
    let (length, rest) = data.split_at_checked(LENGTH)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let (message, rest) = rest.split_at_checked(length.min(rest.len()))?;
    (!message.is_empty()).then(|| (Bytes::copy_from_slice(message), rest))
}

/// A leader and two followers.
struct Trio {
    engines: Vec<RaftEngine>,
    now: u64,
}

impl Trio {
    fn new() -> Self {
        let mut trio = Self { engines: (1..=3).map(engine).collect(), now: 0 };
        while !trio.engines[0].status().accepts_proposals {
            trio.now += 20;
            trio.engines[0].receive(Millis(trio.now), Event::Tick).expect("time passes");
            trio.exchange();
        }
        let entry = Entry::normal(vec![Bytes::from_static(b"envelope")]);
        trio.engines[0].receive(Millis(trio.now), Event::Propose(entry)).expect("it leads");
        trio.exchange();
        trio
    }

    fn exchange(&mut self) {
        loop {
            let mut sent = Vec::new();
            for engine in &mut self.engines {
                let from = engine.status().node;
                sent.extend(engine.drain().into_iter().filter_map(|action| match action {
                    Action::Send { to, message } => Some((from, to, message)),
                    _ => None,
                }));
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, message) in sent {
                let event = Event::Message { from, message };
                let receiver = &mut self.engines[to as usize - 1];
                receiver.receive(Millis(self.now), event).expect("messages of honest nodes");
            }
        }
    }

    /// An authenticated consenter sends what it likes: what is refused must leave the engine able
    /// to go on.
    fn step(&mut self, from: NodeId, receiver: usize, message: Bytes) {
        self.now += 10;
        let engine = &mut self.engines[receiver];
        let received = engine.receive(Millis(self.now), Event::Message { from, message });
        if let Err(error) = received {
            assert_ne!(error.severity(), Severity::Stop, "{error}");
        }
        engine.drain();
    }
}

fn engine(node: NodeId) -> RaftEngine {
    let keys: Vec<Bytes> = (1..=3).map(|id| Bytes::from(format!("c{id}"))).collect();
    let membership = Arc::new(Membership::genesis(&keys).expect("three consenters"));
    let applied = Applied { index: 0, height: 1, membership };
    let options = Options { seed: node, ..Options::default() };
    RaftEngine::restore(node, options, applied, [], Start::Bootstrap, Millis(0)).expect("an engine")
}
