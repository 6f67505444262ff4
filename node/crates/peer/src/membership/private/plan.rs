//! Whom to ask for which missing values: what was found, who was asked, who is next. No I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use weft_ledger::private::WritesProof;
use weft_protos::gossip::{PvtDataDigest, PvtDataElement};

use crate::membership::Member;
use crate::membership::message::PkiId;
use crate::private::exchange::{Digest, Found, Wanted};

/// Values asked for in one question.
pub(super) const BATCH: usize = 64;

/// One question for one peer.
pub(super) struct Question {
    pub(super) peer: Arc<Member>,
    pub(super) digests: Vec<Digest>,
}

struct Missing {
    proof: WritesProof,
    /// Whom to ask, the next one first.
    peers: VecDeque<Arc<Member>>,
    is_asked: bool,
}

/// What an answer came to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What is what was wanted.
    pub(super) found: Vec<Found>,
    /// What the peer sent something else for.
    pub(super) wrong: Vec<Digest>,
}

/// What is still missing.
#[derive(Default)]
pub(super) struct Plan {
    missing: BTreeMap<Digest, Missing>,
    busy: BTreeSet<PkiId>,
}

impl Plan {
    /// Adds what is wanted, and whom to ask for it, the best one first.
    pub(super) fn add(&mut self, wanted: Wanted, peers: impl IntoIterator<Item = Arc<Member>>) {
        let peers = peers.into_iter().collect();
        let missing = Missing { proof: wanted.proof, peers, is_asked: false };
        self.missing.insert(wanted.digest, missing);
    }

    /// The next question that can be asked: each peer is asked one at a time, and each value of one
    /// peer at a time.
    pub(super) fn next(&mut self) -> Option<Question> {
        let waiting = self.missing.values().filter(|missing| !missing.is_asked);
        let mut peers = waiting.filter_map(|missing| missing.peers.front());
        let peer = Arc::clone(peers.find(|peer| !self.busy.contains(&peer.id))?);
        let same = self.missing.iter_mut().filter(|(_, missing)| {
            !missing.is_asked && missing.peers.front().is_some_and(|next| next.id == peer.id)
        });
        let digests = same.take(BATCH).map(|(digest, missing)| {
            missing.is_asked = true;
            digest.clone()
        });
        let digests = digests.collect();
        self.busy.insert(peer.id);
        Some(Question { peer, digests })
    }

    /// Takes the answer to a question. A peer that had something is asked again for the rest, which
    /// can have been too much for one answer; else it is somebody else's turn.
    pub(super) fn take(&mut self, question: Question, answer: Vec<PvtDataElement>) -> Taken {
        self.busy.remove(&question.peer.id);
        let mut taken = Taken::default();
        let mut left: BTreeSet<_> = question.digests.into_iter().collect();
        for element in answer {
            let Some(digest) = element.digest.and_then(digest) else { continue };
            if element.payload.is_empty() || !left.contains(&digest) {
                continue;
            }
            let Some(missing) = self.missing.get(&digest) else { continue };
            let hit = element.payload.into_iter().find(|writes| missing.proof.accepts(writes));
            left.remove(&digest);
            match hit {
                Some(writes) => {
                    self.missing.remove(&digest);
                    taken.found.push(Found { digest, writes });
                }
                None => {
                    self.pass_on(&digest);
                    taken.wrong.push(digest);
                }
            }
        }
        for digest in left {
            if taken.found.is_empty() {
                self.pass_on(&digest);
            } else if let Some(missing) = self.missing.get_mut(&digest) {
                missing.is_asked = false;
            }
        }
        taken
    }

    /// Values that are not found.
    pub(super) fn missing(&self) -> usize {
        self.missing.len()
    }

    fn pass_on(&mut self, digest: &Digest) {
        if let Some(missing) = self.missing.get_mut(digest) {
            missing.is_asked = false;
            missing.peers.pop_front();
        }
    }
}

/// As messages hold it.
pub(super) fn encode(digest: Digest) -> PvtDataDigest {
    PvtDataDigest {
        tx_id: digest.tx_id,
        namespace: digest.namespace,
        collection: digest.collection,
        block_seq: digest.block,
        seq_in_block: digest.index.into(),
    }
}

/// As messages hold it; `None` when a block cannot have so many transactions.
pub(super) fn digest(digest: PvtDataDigest) -> Option<Digest> {
    Some(Digest {
        block: digest.block_seq,
        index: u32::try_from(digest.seq_in_block).ok()?,
        tx_id: digest.tx_id,
        namespace: digest.namespace,
        collection: digest.collection,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
