//! One orderer: its disk, and the channel that runs on it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_consensus::NodeId;
use weft_testkit::network::OrdererNode;

use super::disk::Disk;
use crate::chain::core::{Core, Effect, Input, Submit, Ticket};
use crate::membership::ClusterView;
use crate::replication::{Pull, Source};
use crate::store::ChainStore;

/// Blocks that are being fetched.
pub struct Fetch {
    pub ticket: Ticket,
    pub pull: Pull,
    /// Who is asked, and until when it may be silent.
    pub asked: Option<(Source, u64)>,
}

/// A channel that runs.
pub struct Running {
    pub core: Core,
    pub store: Arc<ChainStore>,
    /// What is to be carried out.
    pub effects: VecDeque<Effect>,
    /// What comes first, and what arrived.
    pub answers: VecDeque<Input>,
    pub inbox: VecDeque<Input>,
    /// Accepted envelopes.
    pub queue: VecDeque<Submit>,
    pub bundle: Arc<Bundle>,
    pub view: ClusterView,
    pub node: Option<NodeId>,
    pub fetch: Option<Fetch>,
    pub timer: Option<u64>,
    /// What is written, while the disk syncs it.
    pub syncing: Option<usize>,
    pub stopping: bool,
}

/// Why no channel runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// It was never joined.
    NotJoined,
    /// The process is down.
    Crashed,
    /// The channel failed, and is opened again after a while.
    Failed,
}

/// An orderer.
pub struct Host {
    pub node: OrdererNode,
    pub key: Vec<u8>,
    pub disk: Disk,
    pub running: Option<Running>,
    pub down: Down,
    /// Which process, or which life of the channel this is: what was meant for an earlier one is
    /// dropped.
    pub life: u64,
    pub paused: bool,
    /// Envelopes that were accepted here in this life and are in no block yet.
    pub holds: BTreeSet<Bytes>,
}

impl Host {
    pub fn new(node: OrdererNode) -> Self {
        Self {
            key: node.tls.certificate.public_key().spki_der().to_vec(),
            node,
            disk: Disk::default(),
            running: None,
            down: Down::NotJoined,
            life: 0,
            paused: false,
            holds: BTreeSet::new(),
        }
    }

    /// The channel, unless its process is stalled.
    pub fn awake(&mut self) -> Option<&mut Running> {
        self.running.as_mut().filter(|_| !self.paused)
    }

    /// Number of blocks.
    pub fn height(&self) -> u64 {
        self.running.as_ref().map_or(0, |running| running.store.height())
    }

    /// What it is at the moment, for failures.
    pub fn describe(&self) -> String {
        let Some(running) = &self.running else { return format!("{:?}", self.down) };
        let view = running.core.view();
        let engine = view.engine.map(|engine| {
            let members: Vec<_> = engine.membership.ids().collect();
            let log = (engine.first_index, engine.last_index, engine.committed, engine.applied);
            (engine.role, log, engine.catching_up_to, members, engine.peers)
        });
        format!(
            "height {}, {:?}, engine {engine:?}, effects {}, inbox {}, timer {:?} (due {:?}), queue {}, fetches {}, syncing {}, paused {}",
            running.store.height(),
            view.status,
            running.effects.len(),
            running.inbox.len(),
            running.timer,
            running.core.wakeup(),
            running.queue.len(),
            running.fetch.is_some(),
            running.syncing.is_some(),
            self.paused,
        )
    }
}
