//! Envelopes that were accepted with SUCCESS and are not in a block: kept until there is a leader,
//! handed to it, or in flight in the engine. An envelope leaves for a block or is counted with the
//! reason why not. One that a leader did not answer is handed on again, to the next leader as soon as
//! there is one: of two copies one is valid, as a transaction id is used once and a configuration is
//! for one sequence, while one that is lost is lost.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use weft_consensus::{Index, Millis};

use super::{Submit, Ticket};

/// How long an envelope waits for a leader, milliseconds: several elections.
pub(super) const KEEP: u64 = 30_000;
/// Wait before the leader is asked again that just took nothing, milliseconds.
const AGAIN: u64 = 100;
/// Envelopes that may be on their way to the leader, and their bytes.
const SENT: usize = 512;
const SENT_BYTES: usize = 16 << 20;

/// Why an accepted envelope is given up: a label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// There was no leader for too long.
    NoLeader,
    /// It was handed to a leader, and none has said for too long whether it has it.
    Unanswered,
    /// The engine, or the configuration of now, refuses it.
    Refused,
    /// The channel was stopped, left, or failed.
    Stopped,
}

impl Loss {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::NoLeader, Self::Unanswered, Self::Refused, Self::Stopped];

    /// As metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::Unanswered => "unanswered",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

/// What the leader said of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has it.
    Taken,
    /// It does not have it, and another time or another leader may take it.
    NotNow,
    /// It will never take it.
    Refused,
    /// Nothing; it may have it.
    Unknown,
}

/// An envelope with the time until which it is kept.
struct Kept {
    submit: Submit,
    until: Millis,
    /// A leader may have it.
    handed: bool,
}

impl Kept {
    fn lost(self) -> (Submit, Loss) {
        (self.submit, if self.handed { Loss::Unanswered } else { Loss::NoLeader })
    }
}

/// What the engine was given.
struct Proposed {
    index: Index,
    envelopes: Vec<Bytes>,
    config: bool,
    sequence: u64,
}

/// See the module.
pub(super) struct Custody {
    waiting: VecDeque<Kept>,
    sent: BTreeMap<Ticket, Kept>,
    sent_bytes: usize,
    proposed: VecDeque<Proposed>,
    again: Millis,
    /// Since when there is no leader.
    leaderless: Option<Millis>,
}

impl Custody {
    pub fn new(now: Millis) -> Self {
        Self {
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            sent_bytes: 0,
            proposed: VecDeque::new(),
            again: now,
            leaderless: Some(now),
        }
    }

    /// Whether nothing waits here or is on its way. What the engine has is its own.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn has_proposed(&self) -> bool {
        !self.proposed.is_empty()
    }

    /// Takes note of a change of the leader, and of whether there is one. What the one before did not
    /// answer waits again.
    pub fn led(&mut self, now: Millis, led: bool) {
        self.again = now;
        self.leaderless = if led { None } else { self.leaderless.or(Some(now)) };
        for (_, kept) in std::mem::take(&mut self.sent).into_iter().rev() {
            self.waiting.push_front(Kept { handed: true, ..kept });
        }
        self.sent_bytes = 0;
    }

    /// Whether nobody leads for so long that nothing is kept for a leader any more.
    pub fn gave_up(&self, now: Millis) -> bool {
        self.leaderless.is_some_and(|since| now.since(since) >= KEEP)
    }

    pub fn keep(&mut self, submit: Submit, now: Millis) {
        self.waiting.push_back(Kept { submit, until: now.plus(KEEP), handed: false });
    }

    pub fn next(&mut self) -> Option<Submit> {
        self.waiting.pop_front().map(|kept| kept.submit)
    }

    /// What has waited too long, with what that is counted as.
    pub fn expired(&mut self, now: Millis) -> Vec<(Submit, Loss)> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (late, kept) = waiting.partition::<Vec<_>, _>(|kept| kept.until <= now);
        self.waiting = kept.into();
        late.into_iter().map(Kept::lost).collect()
    }

    /// The next that waits, given up, with what that is counted as.
    pub fn next_lost(&mut self) -> Option<(Submit, Loss)> {
        self.waiting.pop_front().map(Kept::lost)
    }

    /// Whether one more envelope may go to the leader.
    pub fn may_send(&self, now: Millis) -> bool {
        self.again <= now && self.sent.len() < SENT && self.sent_bytes < SENT_BYTES
    }

    /// The next envelope for the leader; kept under `ticket` until its answer.
    pub fn send(&mut self, ticket: Ticket, now: Millis) -> Option<(Bytes, u64)> {
        if !self.may_send(now) {
            return None;
        }
        let kept = self.waiting.pop_front()?;
        let next = (kept.submit.envelope.clone(), kept.submit.sequence);
        self.sent_bytes += next.0.len();
        self.sent.insert(ticket, kept);
        Some(next)
    }

    /// What becomes of an envelope by the leader's answer.
    pub fn answered(&mut self, ticket: Ticket, answer: Answer, now: Millis) -> Option<Loss> {
        let kept = self.sent.remove(&ticket)?;
        self.sent_bytes -= kept.submit.envelope.len();
        match answer {
            Answer::Taken => None,
            Answer::Refused => Some(Loss::Refused),
            Answer::NotNow | Answer::Unknown => {
                self.again = now.plus(AGAIN);
                let handed = kept.handed || answer == Answer::Unknown;
                self.waiting.push_front(Kept { handed, ..kept });
                None
            }
        }
    }

    /// The engine has this at `index`.
    pub fn proposed(&mut self, index: Index, envelopes: Vec<Bytes>, config: bool, sequence: u64) {
        self.proposed.push_back(Proposed { index, envelopes, config, sequence });
    }

    /// A block with these envelopes is at `index`. Where this node proposed others for that place
    /// or one before it, no block will ever hold those: they wait for a leader again.
    pub fn ordered(&mut self, index: Index, envelopes: &[Bytes], now: Millis) {
        while let Some(first) = self.proposed.pop_front() {
            if first.index > index {
                self.proposed.push_front(first);
                return;
            }
            if first.index < index || first.envelopes != envelopes {
                self.superseded(first, now);
            }
        }
    }

    /// All blocks up to `index` are known.
    pub fn applied(&mut self, index: Index, now: Millis) {
        while self.proposed.front().is_some_and(|first| first.index <= index) {
            if let Some(first) = self.proposed.pop_front() {
                self.superseded(first, now);
            }
        }
    }

    fn superseded(&mut self, lost: Proposed, now: Millis) {
        for envelope in lost.envelopes {
            let (config, sequence) = (lost.config, lost.sequence);
            let submit = Submit { envelope, config, sequence, reply: None, _share: None };
            self.keep(submit, now);
        }
    }

    /// Gives everything up that waits or is on its way; returns how much.
    pub fn abandon(&mut self) -> usize {
        let gone = self.waiting.len() + self.sent.len();
        self.waiting.clear();
        self.sent.clear();
        self.sent_bytes = 0;
        gone
    }

    /// What the engine has.
    #[cfg(test)]
    pub fn in_doubt(&self) -> impl Iterator<Item = &Bytes> {
        self.proposed.iter().flat_map(|proposed| &proposed.envelopes)
    }

    /// When something is due here; `led`: whether there is a leader.
    pub fn wakeup(&self, now: Millis, led: bool) -> Option<Millis> {
        let late = self.waiting.iter().map(|kept| kept.until).min();
        let again = (led && self.has_waiting() && self.again > now).then_some(self.again);
        let leaderless = self.leaderless.map(|since| since.plus(KEEP)).filter(|at| *at > now);
        [late, again, leaderless].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1000);

    fn submit(envelope: &'static str) -> Submit {
        let envelope = Bytes::from_static(envelope.as_bytes());
        Submit { envelope, config: false, sequence: 3, reply: None, _share: None }
    }

    fn waiting(custody: &mut Custody) -> Vec<Bytes> {
        std::iter::from_fn(|| custody.next()).map(|submit| submit.envelope).collect()
    }

    #[test]
    fn what_the_leader_does_not_take_waits_for_the_next() {
        let mut custody = Custody::new(NOW);
        custody.led(NOW, true);
        custody.keep(submit("a"), NOW);
        assert_eq!(custody.send(1, NOW), Some(("a".into(), 3)));
        assert_eq!(custody.send(2, NOW), None);
        assert_eq!(custody.answered(1, Answer::NotNow, NOW), None);
        assert!(!custody.may_send(NOW));
        assert_eq!(custody.wakeup(NOW, true), Some(NOW.plus(AGAIN)));
        assert_eq!(custody.send(2, NOW.plus(AGAIN)), Some(("a".into(), 3)));
        assert_eq!(custody.answered(2, Answer::Taken, NOW), None);
        assert!(custody.is_empty());
    }

    #[test]
    fn what_got_no_answer_is_sent_again_until_it_is_counted() {
        let mut custody = Custody::new(NOW);
        custody.keep(submit("a"), NOW);
        custody.send(1, NOW);
        assert_eq!(custody.answered(1, Answer::Unknown, NOW), None);
        assert_eq!(custody.send(2, NOW.plus(AGAIN)), Some(("a".into(), 3)));
        assert_eq!(custody.answered(2, Answer::NotNow, NOW), None);
        assert_eq!(custody.answered(1, Answer::Taken, NOW), None);
        let late: Vec<Loss> =
            custody.expired(NOW.plus(KEEP)).into_iter().map(|(_, loss)| loss).collect();
        assert_eq!(late, [Loss::Unanswered]);
        assert!(custody.is_empty());
    }

    #[test]
    fn what_a_leader_did_not_answer_goes_to_the_next_at_once() {
        let mut custody = Custody::new(NOW);
        custody.led(NOW, true);
        for (ticket, envelope) in [(1, "a"), (2, "b"), (3, "c")] {
            custody.keep(submit(envelope), NOW);
            custody.send(ticket, NOW);
        }
        custody.keep(submit("d"), NOW);
        assert_eq!(custody.answered(2, Answer::Taken, NOW), None);
        custody.led(NOW, false);
        custody.led(NOW, true);
        // An answer that comes late is about a copy.
        assert_eq!(custody.answered(1, Answer::Taken, NOW), None);
        let again: Vec<_> =
            (4..).map_while(|ticket| custody.send(ticket, NOW)).map(|(sent, _)| sent).collect();
        assert_eq!(again, ["a", "c", "d"]);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut custody = Custody::new(NOW);
        custody.keep(submit("a"), NOW);
        custody.keep(submit("b"), NOW.plus(1));
        assert_eq!(custody.wakeup(NOW, false), Some(NOW.plus(KEEP)));
        assert_eq!(custody.expired(NOW.plus(KEEP)).len(), 1);
        assert_eq!(waiting(&mut custody), ["b"]);
        assert!(custody.gave_up(NOW.plus(KEEP)));
    }

    #[test]
    fn proposals_that_others_superseded_are_kept_and_ordered_ones_are_not() {
        let mut custody = Custody::new(NOW);
        custody.proposed(4, vec!["a".into()], false, 1);
        custody.proposed(5, vec!["b".into()], false, 1);
        custody.proposed(6, vec!["c".into()], false, 1);
        custody.proposed(9, vec!["d".into()], false, 1);
        custody.ordered(4, &["a".into()], NOW);
        assert!(custody.is_empty());
        custody.ordered(6, &["x".into()], NOW);
        assert_eq!(waiting(&mut custody), ["b", "c"]);
        custody.applied(8, NOW);
        assert!(custody.is_empty());
        custody.applied(9, NOW);
        assert_eq!(waiting(&mut custody), ["d"]);
    }
}
