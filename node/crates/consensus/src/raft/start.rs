//! Starting: an engine from what the ledger and the store hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::HardState;
use raft::{RawNode, StateRole};

use super::engine::{InFlight, Lateness, RaftEngine, check_weights};
use super::log::{Base, Log, conf_state};
use super::options::Options;
use super::store::{Persisted, Quarantine, RestoreError, Writer};
use crate::engine::{Action, Applied, Index, Millis, NodeId};
use crate::membership::Membership;
use crate::rng::Rng;

/// What it means if nothing is persisted. If something is, the engine goes on from there and this
/// says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The channel is new, and so is this node's part in it: the ledger has the genesis block
    /// alone. Before saying so of a channel that others already run, the orderer should look
    /// whether any consenter has more blocks, and then say [`Start::Rejoin`].
    Bootstrap,
    /// This node was added to a running channel under an id that never acted before.
    Join,
    /// This node's id may have acted before, and its log is lost: it has to prove itself.
    Rejoin,
    /// This node ran before: an empty log is an error.
    Restart,
}

impl RaftEngine {
    /// Makes the engine of `node` from what the ledger holds and what was persisted: all records
    /// of the engine's part of the store, as written by its [`Action::Persist`]s, in any order.
    ///
    /// # Errors
    /// [`RestoreError`]. None of them goes away by trying again.
    pub fn restore(
        node: NodeId,
        options: Options,
        applied: Applied,
        records: impl IntoIterator<Item = (Bytes, Bytes)>,
        start: Start,
        now: Millis,
    ) -> Result<Self, RestoreError> {
        options.validate().map_err(RestoreError::Options)?;
        let (persisted, fresh) = match Persisted::decode(node, records)? {
            Some(persisted) => (persisted, false),
            None => (first_start(node, &applied, start)?, true),
        };
        let behind = applied.height < persisted.base.height;
        let last_index = persisted.last_index();
        if !behind && applied.index > last_index.max(persisted.joined_at) {
            return Err(RestoreError::LedgerAhead { applied: applied.index, last_index });
        }
        Self::assemble(node, options, applied, persisted, fresh, now)
    }

    fn assemble(
        node: NodeId,
        options: Options,
        mut applied: Applied,
        persisted: Persisted,
        fresh: bool,
        now: Millis,
    ) -> Result<Self, RestoreError> {
        let Persisted { quarantine, joined_at, mut hard_state, base, entries } = persisted;
        let last_index = base.index + entries.len() as u64;
        let catch_up = (applied.height < base.height).then(|| base.clone());
        let in_force = Arc::clone(match &catch_up {
            Some(base) => &base.membership,
            None => &applied.membership,
        });
        check_members(node, &in_force)
            .map_err(|e| e.unwrap_or(RestoreError::NotAMember { node }))?;
        if catch_up.is_none() {
            applied.index = applied.index.max(base.index);
        }
        // Where the `raft` crate starts to apply: a joined node's blocks may be ahead of its log.
        let start = if catch_up.is_some() { base.index } else { applied.index.min(last_index) };
        hard_state.commit = hard_state.commit.max(start);
        let known = if catch_up.is_some() { base.index } else { applied.index };
        let commit_seen = hard_state.commit;
        let promised = (hard_state.term, hard_state.vote);
        let point = match &catch_up {
            Some(base) => base.clone(),
            None => point_of(&applied),
        };
        let mut writer = Writer::default();
        if fresh {
            writer.meta(node, quarantine, joined_at);
            writer.hard_state(&hard_state);
            writer.base(&base);
            writer.sync();
        }
        let log = Log::new(base, entries, hard_state, conf_state(&in_force), point);
        let raw = start_raft(node, &options, start, log)?;
        let rng = Rng::new(options.seed);
        let mut engine = Self {
            node,
            raw,
            actions: Vec::new(),
            pending: VecDeque::new(),
            delivered: applied,
            voters: (known, in_force),
            promised,
            catch_up,
            commits: BTreeMap::new(),
            commit_seen,
            quarantine,
            joined_at,
            in_flight: InFlight::default(),
            lateness: Lateness::default(),
            announced: (None, 0),
            leading: None,
            evicted: false,
            broken: None,
            now,
            ticked: now,
            leaderless_since: Some(now),
            heard: BTreeMap::new(),
            snapshots_since: BTreeMap::new(),
            rng,
            drawn: ((u64::MAX, StateRole::Follower, 0), 0),
            options,
        };
        engine.redraw_timeout();
        if !writer.is_empty() {
            engine.actions.push(Action::Persist(writer.finish()));
        }
        engine.ask_for_blocks(None);
        Ok(engine)
    }
}

/// `Err(None)` if the node is no member.
fn check_members(node: NodeId, membership: &Membership) -> Result<(), Option<RestoreError>> {
    check_weights(membership).map_err(|e| Some(RestoreError::Membership(e)))?;
    if membership.contains(node) { Ok(()) } else { Err(None) }
}

fn point_of(applied: &Applied) -> Base {
    let Applied { index, height, membership } = applied;
    Base { index: *index, term: 0, height: *height, membership: Arc::clone(membership) }
}

/// The state of a node without a log, if it may have none.
fn first_start(node: NodeId, applied: &Applied, start: Start) -> Result<Persisted, RestoreError> {
    let Applied { index, height, .. } = *applied;
    let quarantine = match start {
        Start::Restart => return Err(RestoreError::LogMissing { node, applied: index }),
        Start::Bootstrap if index != 0 || height != 1 => {
            return Err(RestoreError::NotFresh { height });
        }
        Start::Rejoin if applied.membership.len() == 1 => {
            return Err(RestoreError::SoleConsenter { node });
        }
        Start::Rejoin => Quarantine::Waiting,
        Start::Bootstrap | Start::Join => Quarantine::None,
    };
    // The log starts at nothing. Blocks that are already there are skipped as their entries
    // come, so this base must not ask for any.
    let base = Base { index: 0, term: 0, height: 0, membership: Arc::clone(&applied.membership) };
    let hard_state = HardState::default();
    Ok(Persisted { quarantine, joined_at: index, hard_state, base, entries: Vec::new() })
}

fn start_raft(
    node: NodeId,
    options: &Options,
    applied: Index,
    log: Log,
) -> Result<RawNode<Log>, RestoreError> {
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&options.raft_config(node, applied), log, &logger)
        .map_err(|e| RestoreError::Raft(e.to_string()))
}
