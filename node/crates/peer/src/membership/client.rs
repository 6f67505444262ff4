//! The streams to other peers, and the rounds in which they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_protos::gossip::Envelope;
use weft_protos::gossip::gossip_client::GossipClient;

use super::news::{Refusal, Remote};
use super::{Membership, REFRESH, message, now};
use crate::acl::channel_peer;

/// Messages that wait for a slow peer.
const BUFFER: usize = 64;
/// Time for the other side to say who it is, and for a message to be taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often this peer looks whether it has something new to tell.
const LOOK: Duration = Duration::from_millis(100);
/// Waits between attempts to connect.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Why a stream to a peer ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("failed to connect: {0}")]
    Connect(#[source] weft_rpc::connect::ConnectError),
    #[error("failed to sign")]
    Sign(#[source] weft_types::SignError),
    #[error("the stream failed: {0}")]
    Stream(#[source] Box<tonic::Status>),
    #[error("no answer in time")]
    Timeout,
    #[error("refused: {0}")]
    Refused(#[source] Refusal),
    #[error("the address is this peer's own")]
    Own,
    #[error("this peer's identity was renewed")]
    Renewed,
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

    /// Keeps a stream to every peer that is known.
    async fn keep_streams(&self, shutdown: &CancellationToken) {
        let mut streams: BTreeMap<String, DropGuard> = BTreeMap::new();
        let mut ticks = interval(Duration::from_secs(1).min(self.0.options.interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let targets = self.targets();
            streams.retain(|address, _| targets.contains(address));
            for address in targets {
                if streams.contains_key(&address) || streams.len() >= self.0.options.max_streams {
                    continue;
                }
                let token = shutdown.child_token();
                tokio::spawn(self.clone().keep_stream(address.clone(), token.clone()));
                streams.insert(address, token.drop_guard());
            }
        }
    }

    /// The addresses to connect to: known peers, anchor peers and those who are alive.
    fn targets(&self) -> BTreeSet<String> {
        let mut targets: BTreeSet<_> = self.0.options.known.iter().cloned().collect();
        for channel in self.0.deps.channels.list() {
            let bundle = channel.bundle();
            let orgs = bundle.application().into_iter().flat_map(|all| all.orgs.values());
            let anchors = orgs.flat_map(|org| org.anchor_peers.iter());
            targets.extend(anchors.map(|anchor| match anchor.host.contains(':') {
                true => format!("[{}]:{}", anchor.host, anchor.port),
                false => format!("{}:{}", anchor.host, anchor.port),
            }));
        }
        targets.extend(self.0.table.lock().members().map(|member| member.endpoint.clone()));
        targets.remove(&self.0.options.endpoint);
        targets
    }

    async fn keep_stream(self, address: String, shutdown: CancellationToken) {
        let mut backoff = MIN_BACKOFF;
        loop {
            let mut greeted = false;
            let ended = tokio::select! {
                ended = self.session(&address, &mut greeted) => ended,
                () = shutdown.cancelled() => return,
            };
            backoff = if greeted { MIN_BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
            match ended {
                // An address can lead elsewhere later, so it is tried again, but rarely.
                Err(SessionError::Own) => backoff = MAX_BACKOFF * 6,
                Err(error) => {
                    // A connection keeps the TLS certificate of its handshake, and the first
                    // message of a stream names this peer's newest: they must be the same.
                    self.0.deps.pool.forget(&self.endpoint(&address));
                    tracing::debug!(%address, %error, "the stream to a peer ended");
                }
                Ok(()) => tracing::debug!(%address, "a peer ended the stream"),
            }
            tokio::select! {
                () = sleep(backoff) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn session(&self, address: &str, greeted: &mut bool) -> Result<(), SessionError> {
        let own = &self.0;
        let transport =
            own.deps.pool.get(&self.endpoint(address)).map_err(SessionError::Connect)?;
        let (outbound, messages) = mpsc::channel(BUFFER);
        let speaker = self.speaker();
        send(&outbound, self.hello(&speaker).map_err(SessionError::Sign)?).await?;
        let mut client =
            GossipClient::new(transport).max_decoding_message_size(own.options.max_message_bytes);
        let failed = |status| SessionError::Stream(Box::new(status));
        let opened = client.gossip_stream(ReceiverStream::new(messages));
        let opened = timeout(ANSWER_TIMEOUT, opened).await.map_err(|_| SessionError::Timeout)?;
        let mut inbound = opened.map_err(failed)?.into_inner();
        let first = timeout(ANSWER_TIMEOUT, inbound.message()).await;
        let first = first.map_err(|_| SessionError::Timeout)?.map_err(failed)?;
        let Some(first) = first else { return Ok(()) };
        let remote = self.authenticate(&first, None).map_err(SessionError::Refused)?;
        if remote.id == speaker.id {
            return Err(SessionError::Own);
        }
        *greeted = true;
        let mut ticks = interval(own.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut published = own.published.subscribe();
        let mut heard = tokio::time::Instant::now();
        loop {
            if self.id() != speaker.id {
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

    /// Tells what this peer has of the channels that the other is a peer of.
    async fn tell(
        &self,
        remote: &Remote,
        outbound: &mpsc::Sender<Envelope>,
    ) -> Result<(), SessionError> {
        for channel in self.0.deps.channels.list() {
            if channel_peer(&channel.bundle(), &remote.identity, now()).is_none() {
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
