//! The streams to other peers, and the rounds in which they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_protos::gossip::Envelope;
use weft_rpc::shares::{Share, Shares};
use weft_types::MspId;

use super::bound::{Bound, OpenError};
use super::news::Remote;
use super::scope::Scope;
use super::table::Place;
use super::{Membership, REFRESH, message};

/// Messages that wait for a slow peer.
const BUFFER: usize = 64;
/// Time for a message to be taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often this peer looks whether it has something new to tell.
const LOOK: Duration = Duration::from_millis(100);
/// Waits between attempts to connect.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Visits at one time.
const VISITS: usize = 32;

/// Why a stream to a peer ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("{0}")]
    Open(#[source] OpenError),
    #[error("the stream failed: {0}")]
    Stream(#[source] Box<tonic::Status>),
    #[error("no answer in time")]
    Timeout,
    #[error("this peer's identity was renewed")]
    Renewed,
}

/// A stream that is kept while this is.
struct Kept {
    _stop: DropGuard,
    _share: Share<MspId>,
}

impl Membership {
    /// Finds other peers and keeps in touch with them, until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::join!(self.publish_changes(&shutdown), self.keep_streams(&shutdown));
    }

    /// Looks at what this peer has, and tells when it changes.
    async fn publish_changes(&self, shutdown: &CancellationToken) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            self.follow_identity();
            for channel in self.0.deps.channels.list() {
                self.watch(&channel);
            }
            self.expire();
            self.0.private.sweep(self.0.options.expiry);
        }
    }

    /// Keeps a stream to every peer that is known, as far as its organization's share goes. Others
    /// are visited now and then, which is how they prove to be there.
    async fn keep_streams(&self, shutdown: &CancellationToken) {
        let mut streams: BTreeMap<Place, Kept> = BTreeMap::new();
        let shares = Shares::new(self.0.options.max_streams);
        let visits = Shares::new(VISITS);
        let mut ticks = interval(Duration::from_secs(1).min(self.0.options.interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let mut targets = self.targets();
            streams.retain(|place, _| targets.contains(place));
            targets.retain(|place| !streams.contains_key(place));
            for place in targets {
                let Ok(share) = shares.try_take(&place.org, 1) else { continue };
                let token = shutdown.child_token();
                tokio::spawn(self.clone().keep_stream(place.clone(), token.clone()));
                self.0.table.lock().visited(&place, Instant::now());
                streams.insert(place, Kept { _stop: token.drop_guard(), _share: share });
            }
            self.visit(&visits, shutdown);
        }
    }

    /// Visits peers that have not proved for a while that they are there. A stream that is kept to
    /// the same place is no proof: it can be older than the peer's certificate.
    fn visit(&self, visits: &Shares<MspId>, shutdown: &CancellationToken) {
        let room = |place: &Place| visits.try_take(&place.org, 1).ok();
        let due = self.0.table.lock().visits(Instant::now(), room);
        for (place, share) in due {
            let (membership, shutdown) = (self.clone(), shutdown.clone());
            tokio::spawn(async move {
                let _share = share;
                let limit = membership.0.options.max_message_bytes;
                let visited = tokio::select! {
                    visited = membership.open(&place, 1, limit) => visited,
                    () = shutdown.cancelled() => return,
                };
                if let Err(error) = visited {
                    tracing::debug!(address = %place.address, org = %place.org, %error, "found no peer");
                }
            });
        }
    }

    /// Where to connect to: known peers, anchor peers and those that are alive or said to be.
    fn targets(&self) -> BTreeSet<Place> {
        let mut targets: BTreeSet<_> = self.0.options.known.iter().cloned().collect();
        for channel in self.0.deps.channels.list() {
            let bundle = channel.bundle();
            let orgs = bundle.application().into_iter().flat_map(|all| all.orgs.values());
            targets.extend(orgs.flat_map(|org| {
                org.anchor_peers.iter().map(|anchor| Place {
                    org: org.org.msp_id.clone(),
                    address: match anchor.host.contains(':') {
                        true => format!("[{}]:{}", anchor.host, anchor.port),
                        false => format!("{}:{}", anchor.host, anchor.port),
                    },
                })
            }));
        }
        targets.extend(self.0.table.lock().places());
        targets.retain(|place| place.address != self.0.options.endpoint);
        targets
    }

    async fn keep_stream(self, place: Place, shutdown: CancellationToken) {
        let address = &place.address;
        let mut backoff = MIN_BACKOFF;
        loop {
            let mut greeted = false;
            let ended = tokio::select! {
                ended = self.session(&place, &mut greeted) => ended,
                () = shutdown.cancelled() => return,
            };
            backoff = if greeted { MIN_BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
            match ended {
                // An address can lead elsewhere later, so it is tried again, but rarely.
                Err(SessionError::Open(OpenError::Own)) => backoff = MAX_BACKOFF * 6,
                Err(error) => tracing::debug!(%address, %error, "the stream to a peer ended"),
                Ok(()) => tracing::debug!(%address, "a peer ended the stream"),
            }
            tokio::select! {
                () = sleep(backoff) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn session(&self, place: &Place, greeted: &mut bool) -> Result<(), SessionError> {
        let own = &self.0;
        let opened = self.open(place, BUFFER, own.options.max_message_bytes).await;
        let opened = opened.map_err(SessionError::Open)?;
        let Bound { remote, spoke_as, outbound, mut inbound, connection: _connection } = opened;
        let failed = |status| SessionError::Stream(Box::new(status));
        *greeted = true;
        let mut ticks = interval(own.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut published = own.published.subscribe();
        let mut heard = tokio::time::Instant::now();
        loop {
            if self.id() != spoke_as {
                return Err(SessionError::Renewed);
            }
            tokio::select! {
                _ = ticks.tick() => {
                    if heard.elapsed() > own.options.expiry {
                        return Err(SessionError::Timeout);
                    }
                    self.ask(&outbound).await?;
                }
                _ = published.changed() => self.tell(&remote, &outbound).await?,
                message = inbound.message() => {
                    let Some(message) = message.map_err(failed)? else { return Ok(()) };
                    heard = tokio::time::Instant::now();
                    let Ok(opened) = message::open(&message) else { continue };
                    for answer in self.receive(&remote, &message, opened) {
                        send(&outbound, answer).await?;
                    }
                }
            }
        }
    }

    /// Asks who is there and what they have.
    async fn ask(&self, outbound: &mpsc::Sender<Envelope>) -> Result<(), SessionError> {
        send(outbound, message::membership_request(self.renew())).await?;
        for channel in self.0.deps.channels.list() {
            if let Some(state) = self.own_state(&channel, REFRESH) {
                send(outbound, state.envelope.clone()).await?;
            }
            send(outbound, message::state_request(self.id(), channel.id())).await?;
        }
        Ok(())
    }

    /// Tells what this peer has of the channels that the other is in.
    async fn tell(
        &self,
        remote: &Remote,
        outbound: &mpsc::Sender<Envelope>,
    ) -> Result<(), SessionError> {
        for channel in self.0.deps.channels.list() {
            if !Scope::of(&channel).includes(&remote.identity) {
                continue;
            }
            if let Some(state) = self.own_state(&channel, REFRESH) {
                send(outbound, state.envelope.clone()).await?;
            }
        }
        Ok(())
    }
}

async fn send(outbound: &mpsc::Sender<Envelope>, message: Envelope) -> Result<(), SessionError> {
    let sent = timeout(ANSWER_TIMEOUT, outbound.send(message)).await;
    sent.ok().and_then(Result::ok).ok_or(SessionError::Timeout)
}
