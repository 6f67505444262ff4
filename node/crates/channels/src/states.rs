//! The states of a node's channels, and what follows from what happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_types::ChannelId;

use crate::cure::Cure;
use crate::stores::{Created, Removal};

/// What a channel is to this node. All times are since any one moment that the owner chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Being joined, or opened for the first time since the node started.
    Joining,
    /// In service.
    Running,
    /// Out of service; its ledger is as it was.
    Failed(Failure),
    /// Being left: its ledger goes.
    Leaving,
}

impl State {
    /// Names of all states, as [`State::word`] gives them.
    pub const WORDS: [&'static str; 4] = ["joining", "running", "failed", "leaving"];

    /// The state in one word, as metrics have it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Running => "running",
            Self::Failed(_) => "failed",
            Self::Leaving => "leaving",
        }
    }
}

/// Why a channel is out of service, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed, with its causes.
    pub reason: String,
    /// When it is opened again.
    pub retry: Retry,
}

/// When a failed channel is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before then.
    At(Duration),
    /// It is being opened.
    Now,
    /// Not before the node is started again: somebody has to repair the data.
    Never,
}

/// One attempt at a channel: a join, an opening with the service after it, or a leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    channel: ChannelId,
    number: u64,
}

impl Run {
    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }
}

/// What a failed run leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// No ledger: none was found, and none created.
    Nothing,
    /// A ledger that this run created.
    Created(Created),
    /// A ledger that was there before, or it is not known.
    Ledger,
}

impl From<Option<Created>> for Left {
    fn from(created: Option<Created>) -> Self {
        created.map_or(Self::Ledger, Self::Created)
    }
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// The channel is listed as failed. At that time, if any, ask [`Channels::due`].
    Listed(Option<Duration>),
    /// Delete what the run created, then report [`Channels::left`].
    Discard(Removal),
    /// The channel is listed no more: nothing is left of it.
    Forgotten,
    /// The run is over already; nothing follows.
    Stale,
}

/// Why a channel is not joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// The node has it, in whatever state.
    #[error("channel already exists")]
    Exists,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Stopping,
}

/// Why a channel is not left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveRefused {
    /// The node does not have it.
    #[error("channel does not exist")]
    Unknown,
    /// It is being joined, opened or left; ask again when its state has changed.
    #[error("channel is being opened or left")]
    Busy,
}

/// Times between attempts to open a failed channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first attempt; each further one waits twice as long.
    pub first: Duration,
    /// At most this long.
    pub longest: Duration,
    /// A channel that was in service for so long begins with `first` again.
    pub steady: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: seconds(1), longest: seconds(60), steady: seconds(60) }
    }
}

impl Backoff {
    fn after(&self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// The channels of a node.
#[derive(Debug)]
pub struct Channels {
    channels: BTreeMap<ChannelId, Entry>,
    backoff: Backoff,
    runs: u64,
    stopping: bool,
}

#[derive(Debug)]
struct Entry {
    run: u64,
    state: State,
    /// Failed openings in a row.
    attempts: u32,
    /// Since when it runs.
    since: Duration,
}

impl Entry {
    /// Whether somebody works at it whose report is awaited.
    fn is_busy(&self) -> bool {
        match &self.state {
            State::Joining | State::Leaving => true,
            State::Failed(failure) => failure.retry == Retry::Now,
            State::Running => false,
        }
    }
}

impl Channels {
    /// No channels.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { channels: BTreeMap::new(), backoff, runs: 0, stopping: false }
    }

    /// Begins to join a channel.
    ///
    /// # Errors
    /// [`JoinRefused`]; a failed channel exists as well.
    pub fn join(&mut self, channel: &ChannelId) -> Result<Run, JoinRefused> {
        match self.channels.contains_key(channel) {
            _ if self.stopping => Err(JoinRefused::Stopping),
            true => Err(JoinRefused::Exists),
            false => Ok(self.begin(channel)),
        }
    }

    /// Begins to open a channel whose ledger was found at the start; `None` when it is known.
    pub fn found(&mut self, channel: &ChannelId) -> Option<Run> {
        let new = !self.stopping && !self.channels.contains_key(channel);
        new.then(|| self.begin(channel))
    }

    fn begin(&mut self, channel: &ChannelId) -> Run {
        let run = self.next_run(channel);
        let (state, since) = (State::Joining, Duration::ZERO);
        let entry = Entry { run: run.number, state, attempts: 0, since };
        self.channels.insert(channel.clone(), entry);
        run
    }

    fn next_run(&mut self, channel: &ChannelId) -> Run {
        self.runs += 1;
        Run { channel: channel.clone(), number: self.runs }
    }

    fn current(&mut self, run: &Run) -> Option<&mut Entry> {
        self.channels.get_mut(&run.channel).filter(|entry| entry.run == run.number)
    }

    /// The run has opened its channel, which is in service now. `false` when the run is over:
    /// whoever opened it has to close it.
    #[must_use]
    pub fn opened(&mut self, run: &Run, now: Duration) -> bool {
        let Some(entry) = self.current(run) else { return false };
        let opening = entry.is_busy() && entry.state != State::Leaving;
        if opening {
            (entry.state, entry.since) = (State::Running, now);
        }
        opening
    }

    /// The run has failed, whether it was opening its channel or served it.
    pub fn failed(
        &mut self,
        run: &Run,
        now: Duration,
        left: Left,
        reason: String,
        cure: Cure,
    ) -> Aftermath {
        let (backoff, stopping) = (self.backoff, self.stopping);
        let Some(entry) = self.current(run) else { return Aftermath::Stale };
        match (&entry.state, left) {
            (State::Leaving, _) => return Aftermath::Stale,
            (State::Failed(failure), _) if failure.retry != Retry::Now => {
                return Aftermath::Stale;
            }
            (State::Joining, Left::Nothing) => {
                self.channels.remove(&run.channel);
                return Aftermath::Forgotten;
            }
            (State::Joining, Left::Created(created)) if *created.channel() == run.channel => {
                entry.state = State::Leaving;
                return Aftermath::Discard(Removal::new(run.channel.clone()));
            }
            (State::Running, _) if now.saturating_sub(entry.since) >= backoff.steady => {
                entry.attempts = 0;
            }
            _ => {}
        }
        let next = now.saturating_add(backoff.after(entry.attempts));
        let at = (cure == Cure::Retry && !stopping).then_some(next);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.state = State::Failed(Failure { reason, retry: at.map_or(Retry::Never, Retry::At) });
        Aftermath::Listed(at)
    }

    /// The failed channels whose time has come, each with the run that opens it.
    pub fn due(&mut self, now: Duration) -> Vec<Run> {
        if self.stopping {
            return Vec::new();
        }
        let mut runs = Vec::new();
        for (channel, entry) in &mut self.channels {
            let State::Failed(failure) = &mut entry.state else { continue };
            if matches!(failure.retry, Retry::At(at) if at <= now) {
                failure.retry = Retry::Now;
                self.runs += 1;
                entry.run = self.runs;
                runs.push(Run { channel: channel.clone(), number: entry.run });
            }
        }
        runs
    }

    /// When [`Channels::due`] has something next.
    #[must_use]
    pub fn wakeup(&self) -> Option<Duration> {
        let retries = self.channels.values().filter_map(|entry| match &entry.state {
            State::Failed(Failure { retry: Retry::At(at), .. }) => Some(*at),
            _ => None,
        });
        retries.min().filter(|_| !self.stopping)
    }

    /// Begins to leave a channel, whether it runs or has failed. Stop it, delete its ledger,
    /// then report [`Channels::left`] or [`Channels::not_left`].
    ///
    /// # Errors
    /// [`LeaveRefused`].
    pub fn leave(&mut self, channel: &ChannelId) -> Result<(Run, Removal), LeaveRefused> {
        let entry = self.channels.get(channel).ok_or(LeaveRefused::Unknown)?;
        if entry.is_busy() {
            return Err(LeaveRefused::Busy);
        }
        let run = self.next_run(channel);
        if let Some(entry) = self.channels.get_mut(channel) {
            (entry.run, entry.state) = (run.number, State::Leaving);
        }
        Ok((run, Removal::new(channel.clone())))
    }

    /// The ledger is deleted.
    pub fn left(&mut self, run: &Run) {
        if self.current(run).is_some_and(|entry| entry.state == State::Leaving) {
            self.channels.remove(&run.channel);
        }
    }

    /// The ledger could not be deleted: the channel stays listed, and can be left once more.
    pub fn not_left(&mut self, run: &Run, reason: String) {
        if let Some(entry) = self.current(run).filter(|entry| entry.state == State::Leaving) {
            entry.state = State::Failed(Failure { reason, retry: Retry::Never });
        }
    }

    /// From now on nothing is joined or opened. What is under way comes to its end; wait until
    /// [`Channels::is_busy`] is false before closing what runs.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether the report of any run is awaited.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.channels.values().any(Entry::is_busy)
    }

    /// A channel's state.
    #[must_use]
    pub fn get(&self, channel: &str) -> Option<&State> {
        self.channels.get(channel).map(|entry| &entry.state)
    }

    /// All channels, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ChannelId, &State)> {
        self.channels.iter().map(|(channel, entry)| (channel, &entry.state))
    }

    /// The channels that have failed, each with its failure.
    pub fn failures(&self) -> impl Iterator<Item = (&ChannelId, &Failure)> {
        self.iter().filter_map(|(channel, state)| match state {
            State::Failed(failure) => Some((channel, failure)),
            _ => None,
        })
    }
}
