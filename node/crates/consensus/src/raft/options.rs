//! Times and limits of the engine.

/// Ticks of the `raft` crate in one `tick_interval`; see the module's text on time.
const FINE_TICKS: u64 = 10;

/// Options of a Raft channel; the first five are in the channel's config
/// (`etcdraft.Options`), the others are the node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Milliseconds of one tick (Fabric: `tick_interval`, 500 ms).
    pub tick_interval_ms: u64,
    /// Ticks without a leader before an election (Fabric: 10).
    pub election_tick: u32,
    /// Ticks between a leader's heartbeats (Fabric: 1).
    pub heartbeat_tick: u32,
    /// Proposals in flight at once (Fabric: `max_inflight_blocks`, 5).
    pub max_inflight_entries: usize,
    /// Bytes of log kept in memory before the older half is dropped (Fabric:
    /// `snapshot_interval_size`, 16 MiB).
    pub snapshot_interval_bytes: usize,
    /// Bytes of envelopes in flight at once; one entry is always allowed.
    pub max_inflight_bytes: usize,
    /// Bytes of entries in one message to a follower; one entry always fits.
    pub max_append_bytes: usize,
    /// Bytes of an encoded entry; larger proposals and messages are refused.
    pub max_entry_bytes: usize,
    /// Seeds the random part of election timeouts. Different on every node; the same events with
    /// the same seed give the same actions.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tick_interval_ms: 500,
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_entries: 5,
            snapshot_interval_bytes: 16 << 20,
            max_inflight_bytes: 64 << 20,
            max_append_bytes: 1 << 20,
            max_entry_bytes: 100 << 20,
            seed: 0,
        }
    }
}

/// What is wrong with [`Options`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A value that has to be at least 1 is 0.
    #[error("failed to use raft options: {0} is 0")]
    Zero(&'static str),
    /// A leader has to be heard several times before it is given up.
    #[error(
        "failed to use raft options: election_tick {election_tick} is not above heartbeat_tick \
         {heartbeat_tick}"
    )]
    Ticks {
        /// Ticks before an election.
        election_tick: u32,
        /// Ticks between heartbeats.
        heartbeat_tick: u32,
    },
    /// A value beyond reason: times over a day, sizes over 1 GiB.
    #[error("failed to use raft options: {name} is {value}, over {limit}")]
    TooLarge {
        /// The option.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
}

impl Options {
    /// Checks the values and the relations between them.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.check_nonzero()?;
        if self.election_tick <= self.heartbeat_tick {
            return Err(OptionsError::Ticks {
                election_tick: self.election_tick,
                heartbeat_tick: self.heartbeat_tick,
            });
        }
        self.check_limits()
    }

    fn check_nonzero(&self) -> Result<(), OptionsError> {
        let values = [
            ("tick_interval", self.tick_interval_ms),
            ("heartbeat_tick", u64::from(self.heartbeat_tick)),
            ("max_inflight_blocks", self.max_inflight_entries as u64),
            ("snapshot_interval_size", self.snapshot_interval_bytes as u64),
            ("max_inflight_bytes", self.max_inflight_bytes as u64),
            ("max_append_bytes", self.max_append_bytes as u64),
            ("max_entry_bytes", self.max_entry_bytes as u64),
        ];
        match values.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(OptionsError::Zero(name)),
            None => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), OptionsError> {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        const GIB: u64 = 1 << 30;
        let election_ms = self.tick_interval_ms.saturating_mul(u64::from(self.election_tick));
        let values = [
            ("tick_interval × election_tick (ms)", election_ms, DAY_MS),
            ("election_tick", u64::from(self.election_tick), 100_000),
            ("max_inflight_blocks", self.max_inflight_entries as u64, 100_000),
            ("max_append_bytes", self.max_append_bytes as u64, GIB),
            ("max_entry_bytes", self.max_entry_bytes as u64, GIB),
        ];
        match values.iter().find(|(_, value, limit)| value > limit) {
            Some(&(name, value, limit)) => Err(OptionsError::TooLarge { name, value, limit }),
            None => Ok(()),
        }
    }

    /// The election timeout: `election_tick × tick_interval`, in milliseconds.
    #[must_use]
    pub fn election_timeout_ms(&self) -> u64 {
        self.tick_interval_ms.saturating_mul(u64::from(self.election_tick))
    }

    /// How long an entry of a leader may take to be committed, milliseconds. Beyond the time in which
    /// an election is decided: a leader is not given up for less.
    pub(super) fn lateness_limit_ms(&self) -> u64 {
        self.election_timeout_ms().saturating_mul(2)
    }

    /// Milliseconds of one of the `raft` crate's ticks.
    pub(super) fn fine_tick_ms(&self) -> u64 {
        (self.tick_interval_ms / self.fine_ticks()).max(1)
    }

    fn fine_ticks(&self) -> u64 {
        FINE_TICKS.min(self.tick_interval_ms).max(1)
    }

    /// The `raft` crate's ticks of an election timeout without its random part.
    pub(super) fn fine_election_ticks(&self) -> usize {
        (self.fine_ticks() as usize) * self.election_tick as usize
    }

    /// The upper end (exclusive) of the election timeout, in the `raft` crate's ticks.
    pub(super) fn fine_max_election_ticks(&self) -> usize {
        let base = self.fine_election_ticks();
        base + (base / 2).max(1)
    }

    /// The largest message that can be well-formed, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        const FRAMING: usize = 64 << 10;
        self.max_entry_bytes.saturating_add(self.max_append_bytes).saturating_add(FRAMING)
    }

    /// These options in the `raft` crate's terms.
    pub(super) fn raft_config(&self, node: u64, applied: u64) -> raft::Config {
        raft::Config {
            id: node,
            applied,
            election_tick: self.fine_election_ticks(),
            heartbeat_tick: self.fine_ticks() as usize * self.heartbeat_tick as usize,
            min_election_tick: self.fine_election_ticks(),
            max_election_tick: self.fine_max_election_ticks(),
            max_size_per_msg: self.max_append_bytes as u64,
            max_inflight_msgs: self.max_inflight_entries.max(16),
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        }
    }
}
