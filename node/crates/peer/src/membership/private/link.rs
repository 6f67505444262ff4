//! Streams on which other peers are asked something and answer.
//!
//! A link is opened when it is first needed and closed when nobody used it for a while. It speaks
//! as one identity of this peer; after a renewal the next question opens another. A question that
//! fails because its link ended is asked once more, on a new link. Each link has its own connection,
//! and both ends have proved who they are (see [`Bound`]). A question that is asked in a channel
//! goes only to whom that channel's MSPs know at that moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Streaming;
use weft_protos::gossip::Envelope;
use weft_protos::gossip::gossip_message::Content;
use weft_rpc::connect::Connection;

use crate::membership::bound::{Bound, OpenError};
use crate::membership::message::{self, PkiId};
use crate::membership::news::Remote;
use crate::membership::scope::Scope;
use crate::membership::{Member, Membership};

/// Messages that wait to be sent on one link.
const BUFFER: usize = 4;
/// Questions under way on one link.
const MAX_WAITING: usize = 1024;
/// How long a peer that failed is asked after all others.
const SICK: Duration = Duration::from_secs(10);

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Values go out.
    Push,
    /// Values are asked for.
    Pull,
}

/// A peer did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Open(#[source] OpenError),
    #[error("who answers is no peer of the channel")]
    Stranger,
    #[error("the stream ended")]
    Closed,
    #[error("too many questions wait for an answer")]
    Busy,
    #[error("no answer in time")]
    Timeout,
}

impl CallError {
    /// Whether a new connection can help.
    fn can_retry(&self) -> bool {
        match self {
            Self::Open(error) => error.can_retry(),
            Self::Closed => true,
            Self::Stranger | Self::Busy | Self::Timeout => false,
        }
    }
}

/// The links to all peers.
#[derive(Default)]
pub(super) struct Links(Mutex<BTreeMap<(PkiId, Kind), Arc<Slot>>>);

/// The place of a link.
#[derive(Default)]
struct Slot {
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    failed: Mutex<Option<Instant>>,
}

impl Links {
    fn slot(&self, id: PkiId, kind: Kind) -> Arc<Slot> {
        Arc::clone(self.0.lock().entry((id, kind)).or_default())
    }

    /// Whether a peer failed to answer not long ago.
    pub(super) fn is_sick(&self, id: PkiId, kind: Kind) -> bool {
        let links = self.0.lock();
        let failed = links.get(&(id, kind)).and_then(|slot| *slot.failed.lock());
        failed.is_some_and(|at| at.elapsed() < SICK)
    }

    /// Closes what nobody used for `idle`, and forgets peers of which nothing is known then.
    pub(super) fn sweep(&self, idle: Duration) {
        self.0.lock().retain(|_, slot| {
            // Whoever holds it, or waits for it, uses it.
            let Ok(mut link) = slot.link.try_lock() else { return true };
            link.take_if(|link| !link.is_open() || link.is_idle(idle));
            let sick = slot.failed.lock().is_some_and(|at| at.elapsed() < SICK);
            link.is_some() || sick || Arc::strong_count(slot) > 1
        });
    }
}

impl Slot {
    fn settle(&self, outcome: &Result<Content, CallError>) {
        match outcome {
            Ok(_) => *self.failed.lock() = None,
            Err(CallError::Busy) => {}
            Err(_) => *self.failed.lock() = Some(Instant::now()),
        }
    }
}

/// A stream to a peer. Its reader ends with it.
struct Link {
    outbound: mpsc::Sender<Envelope>,
    waiting: Arc<Mutex<Waiting>>,
    spoke_as: PkiId,
    remote: Remote,
    _connection: Connection,
    _stop: DropGuard,
}

/// One question.
pub(super) struct Question<'a> {
    /// In which channel it is asked.
    pub(super) scope: Scope,
    pub(super) nonce: u64,
    pub(super) message: &'a Envelope,
}

/// Who waits for an answer.
struct Waiting {
    calls: BTreeMap<u64, oneshot::Sender<Content>>,
    open: bool,
    used: Instant,
    heard: Instant,
}

/// Takes a question off the list when whoever asked has the answer, or has given up.
struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    nonce: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.lock().calls.remove(&self.nonce);
    }
}

impl Link {
    fn new(bound: Bound) -> Self {
        let Bound { remote, spoke_as, outbound, inbound, connection } = bound;
        let now = Instant::now();
        let waiting = Waiting { calls: BTreeMap::new(), open: true, used: now, heard: now };
        let waiting = Arc::new(Mutex::new(waiting));
        let stop = CancellationToken::new();
        tokio::spawn(read(inbound, Arc::clone(&waiting), stop.clone()));
        let (_connection, _stop) = (connection, stop.drop_guard());
        Self { outbound, waiting, spoke_as, remote, _connection, _stop }
    }

    fn is_open(&self) -> bool {
        self.waiting.lock().open
    }

    fn is_idle(&self, idle: Duration) -> bool {
        let waiting = self.waiting.lock();
        waiting.calls.is_empty() && waiting.used.elapsed() > idle
    }

    /// Ends the link if nothing came on it since `then`: its connection may be dead.
    fn close_if_silent(&self, then: Instant) {
        let mut waiting = self.waiting.lock();
        if waiting.heard < then {
            waiting.open = false;
            waiting.calls.clear();
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Content, CallError> {
        if !question.scope.includes(&self.remote.identity) {
            return Err(CallError::Stranger);
        }
        let nonce = question.nonce;
        let (told, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if !waiting.open {
                return Err(CallError::Closed);
            }
            if waiting.calls.len() >= MAX_WAITING {
                return Err(CallError::Busy);
            }
            waiting.used = Instant::now();
            waiting.calls.insert(nonce, told);
        }
        let _place = Place { waiting: &self.waiting, nonce };
        let message = question.message.clone();
        self.outbound.send(message).await.map_err(|_| CallError::Closed)?;
        answer.await.map_err(|_| CallError::Closed)
    }
}

/// Gives answers to those who wait for them. What nobody asked for is dropped.
async fn read(
    mut inbound: Streaming<Envelope>,
    waiting: Arc<Mutex<Waiting>>,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = inbound.message() => message,
            () = stop.cancelled() => break,
        };
        let Ok(Some(envelope)) = message else { break };
        let Ok(message) = message::open(&envelope) else { continue };
        let mut waiting = waiting.lock();
        waiting.heard = Instant::now();
        let call = waiting.calls.remove(&message.nonce);
        if let (Some(call), Some(content)) = (call, message.content) {
            // Whoever asked can have given up.
            let _ = call.send(content);
        }
    }
    let mut waiting = waiting.lock();
    waiting.open = false;
    waiting.calls.clear();
}

impl Membership {
    /// Asks a peer, and gives what it answers under the same nonce.
    pub(super) async fn ask_peer(
        &self,
        peer: &Member,
        kind: Kind,
        question: Question<'_>,
        limit: Duration,
    ) -> Result<Content, CallError> {
        let slot = self.0.private.links.slot(peer.id, kind);
        let begun = Instant::now();
        let asked = timeout(limit, self.ask_twice(&slot, peer, &question)).await;
        let outcome = asked.unwrap_or(Err(CallError::Timeout));
        if let Err(CallError::Timeout) = outcome
            && let Ok(link) = slot.link.try_lock()
            && let Some(link) = &*link
        {
            link.close_if_silent(begun);
        }
        slot.settle(&outcome);
        outcome
    }

    async fn ask_twice(
        &self,
        slot: &Slot,
        peer: &Member,
        question: &Question<'_>,
    ) -> Result<Content, CallError> {
        let first = match self.link(slot, peer).await {
            Ok(link) => link.ask(question).await,
            Err(error) => Err(error),
        };
        if !first.as_ref().is_err_and(CallError::can_retry) {
            return first;
        }
        self.link(slot, peer).await?.ask(question).await
    }

    /// The link in a slot, opened if there is none that can be used.
    async fn link(&self, slot: &Slot, peer: &Member) -> Result<Arc<Link>, CallError> {
        let mut place = slot.link.lock().await;
        if let Some(link) = &*place
            && link.is_open()
            && link.spoke_as == self.id()
        {
            return Ok(Arc::clone(link));
        }
        // Whoever still waits for an answer on the one before keeps it until then.
        *place = None;
        // The peer can have renewed its identity meanwhile; what counts is its organization.
        let bound = self.open(&peer.place(), BUFFER, self.message_limit()).await;
        let link = Arc::new(Link::new(bound.map_err(CallError::Open)?));
        *place = Some(Arc::clone(&link));
        Ok(link)
    }
}
