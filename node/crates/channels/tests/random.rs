#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! Random events against a node that does as it is told: no ledger is deleted but what a join
//! created or an administrator left, and no channel that has a ledger is ever out of sight.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use weft_channels::{Aftermath, Backoff, Channels, Created, Cure, Left, Run, State};
use weft_types::ChannelId;

#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Open { channel: u8, works: bool, damaged: bool },
    Breaks { channel: u8, damaged: bool },
    Late { channel: u8 },
    Leave(u8),
    Removed { channel: u8, works: bool },
    Wait(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..3u8;
    prop_oneof![
        channel.clone().prop_map(Step::Join),
        (channel.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(channel, works, damaged)| Step::Open { channel, works, damaged }),
        (channel.clone(), any::<bool>())
            .prop_map(|(channel, damaged)| Step::Breaks { channel, damaged }),
        channel.clone().prop_map(|channel| Step::Late { channel }),
        channel.clone().prop_map(Step::Leave),
        (channel, any::<bool>()).prop_map(|(channel, works)| Step::Removed { channel, works }),
        (0..90u8).prop_map(Step::Wait),
        Just(Step::Restart),
    ]
}

/// What is on the disk, and what is under way.
struct Node {
    channels: Channels,
    now: Duration,
    /// Ledgers: whether the join that created it has come to its end.
    ledgers: BTreeMap<ChannelId, bool>,
    /// Runs whose report is awaited; with the token of what they created.
    opening: BTreeMap<ChannelId, (Run, Option<Created>)>,
    leaving: BTreeMap<ChannelId, (Run, weft_channels::Removal)>,
    running: BTreeMap<ChannelId, Run>,
    over: Vec<Run>,
    /// Ledgers that may be deleted now.
    allowed: BTreeSet<ChannelId>,
}

fn id(channel: u8) -> ChannelId {
    ChannelId::new(&format!("channel{channel}")).unwrap()
}

fn cure(damaged: bool) -> Cure {
    if damaged { Cure::Repair } else { Cure::Retry }
}

impl Node {
    fn new() -> Self {
        Self {
            channels: Channels::new(Backoff::default()),
            now: Duration::ZERO,
            ledgers: BTreeMap::new(),
            opening: BTreeMap::new(),
            leaving: BTreeMap::new(),
            running: BTreeMap::new(),
            over: Vec::new(),
            allowed: BTreeSet::new(),
        }
    }

    /// The store is opened as soon as a run begins; what it finds is in the token.
    fn begin(&mut self, run: Run) {
        let channel = run.channel().clone();
        let finished = *self.ledgers.entry(channel.clone()).or_insert(false);
        let created = (!finished).then(|| Created::new(channel.clone()));
        self.opening.insert(channel, (run, created));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(channel) => {
                if let Ok(run) = self.channels.join(&id(channel)) {
                    self.begin(run);
                }
            }
            Step::Open { channel, works, damaged } => {
                if let Some((run, created)) = self.opening.remove(&id(channel)) {
                    self.end_of_opening(run, created, works, damaged);
                }
            }
            Step::Breaks { channel, damaged } => {
                if let Some(run) = self.running.remove(&id(channel)) {
                    self.fail(run, Left::Ledger, damaged);
                }
            }
            Step::Late { channel } => {
                let late = self.over.iter().find(|run| *run.channel() == id(channel)).cloned();
                if let Some(run) = late {
                    assert!(!self.channels.opened(&run, self.now));
                    let left = Left::Created(Created::new(id(channel)));
                    let after =
                        self.channels.failed(&run, self.now, left, "late".into(), Cure::Retry);
                    assert_eq!(after, Aftermath::Stale);
                    self.channels.left(&run);
                }
            }
            Step::Leave(channel) => {
                if let Ok((run, removal)) = self.channels.leave(&id(channel)) {
                    self.over.extend(self.running.remove(&id(channel)));
                    self.allowed.insert(id(channel));
                    self.leaving.insert(id(channel), (run, removal));
                }
            }
            Step::Removed { channel, works } => {
                if let Some((run, removal)) = self.leaving.remove(&id(channel)) {
                    self.removed(run, &removal, works);
                }
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds.into());
                for run in self.channels.due(self.now) {
                    self.begin(run);
                }
            }
            Step::Restart => self.restart(),
        }
    }

    fn end_of_opening(&mut self, run: Run, created: Option<Created>, works: bool, damaged: bool) {
        if works {
            assert!(self.channels.opened(&run, self.now));
            self.ledgers.insert(run.channel().clone(), true);
            self.running.insert(run.channel().clone(), run);
        } else {
            self.fail(run, created.into(), damaged);
        }
    }

    fn fail(&mut self, run: Run, left: Left, damaged: bool) {
        let channel = run.channel().clone();
        if matches!(left, Left::Created(_)) && !self.ledgers[&channel] {
            self.allowed.insert(channel.clone());
        }
        let after = self.channels.failed(&run, self.now, left, "x".into(), cure(damaged));
        match after {
            Aftermath::Discard(removal) => self.removed(run, &removal, !damaged),
            Aftermath::Listed(_) => self.over.push(run),
            Aftermath::Forgotten | Aftermath::Stale => panic!("{after:?}"),
        }
    }

    fn removed(&mut self, run: Run, removal: &weft_channels::Removal, works: bool) {
        let channel = removal.channel();
        assert!(self.allowed.contains(channel), "{channel}: nobody may delete it");
        if works {
            self.ledgers.remove(channel);
            self.allowed.remove(channel);
            self.channels.left(&run);
        } else {
            self.channels.not_left(&run, "busy".into());
        }
        self.over.push(run);
    }

    /// A crash: what is on the disk stays, what is under way is gone.
    fn restart(&mut self) {
        let ledgers = std::mem::take(&mut self.ledgers);
        *self = Self { ledgers, now: self.now, ..Self::new() };
        for channel in self.ledgers.keys().cloned().collect::<Vec<_>>() {
            let run = self.channels.found(&channel).unwrap();
            self.begin(run);
        }
    }

    fn check(&self) {
        for channel in self.ledgers.keys() {
            assert!(self.channels.get(channel.as_str()).is_some(), "{channel} is out of sight");
        }
        for (channel, state) in self.channels.iter() {
            let busy = self.opening.contains_key(channel) || self.leaving.contains_key(channel);
            match state {
                State::Running => assert!(self.running.contains_key(channel), "{channel}"),
                State::Joining | State::Leaving => assert!(busy, "{channel} hangs"),
                State::Failed(failure) => {
                    assert!(!failure.reason.is_empty() && !self.running.contains_key(channel));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_ledger_is_lost_and_no_channel_is_out_of_sight(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut node = Node::new();
        for step in steps {
            node.take(step);
            node.check();
        }
    }
}
