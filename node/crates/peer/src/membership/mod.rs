//! The other peers: who is alive, where, and what each has of the channels.
//!
//! Peers tell each other over `gossip.Gossip/GossipStream`, in Fabric's messages: `ConnEstablish`
//! authenticates a stream, `AliveMessage` says where a peer is, `StateInfo` what it has of a
//! channel. The last two are signed by the peer they are about, so they are as good from a third
//! one. Whoever gives no sign of life for some rounds is dropped.
//!
//! On streams of their own, peers pass private data on to members of its collection: the membership
//! is the [`Exchange`](crate::private::Exchange) of the peer (see `private`).
//!
//! # Where this differs from Fabric
//!
//! - Every peer keeps a stream to every other one (bounded by [`Options::max_streams`]) and asks on
//!   it; nothing is spread at random. Blocks are not passed on.
//! - Where an MSP gives roles by organizational unit, only identities with the role `peer` are
//!   taken for peers, so that no client can draw proposals to itself.
//! - An `AliveMessage` always holds the identity.
//! - A peer that others tell of is a member once it has proved to be there (see `table`).
//! - The peer that is visited says who it is once it knows who calls; Fabric's says it to anybody.

mod bound;
mod client;
pub mod message;
mod news;
mod own;
mod private;
mod scope;
mod service;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_msp::CurrentIdentity;
use weft_protos::ext::DecodeError;
use weft_rpc::connect::Connector;
use weft_rpc::tls::ReloadingTls;
use weft_types::{SignError, Timestamp};

use crate::acl::Acl;
use crate::channel::{Channel, Channels};
use message::Time;
use own::Own;
use private::Private;
use scope::Scope;
pub use service::GossipService;
use table::Table;
pub use table::{ChannelPeer, ChannelState, InstalledChaincode, Member, Place};

/// The chaincodes that this peer can run.
pub trait LocalChaincodes: Send + Sync + 'static {
    /// Those that are defined on `channel` and can be run here, with their definitions' sequences.
    fn chaincodes(&self, channel: &Channel) -> Vec<(String, i64)>;
}

/// What the membership is made of.
#[derive(Clone)]
pub struct Deps {
    /// The channels.
    pub channels: Arc<Channels>,
    /// The peer's own organization.
    pub acl: Acl,
    /// The peer's identity.
    pub identity: CurrentIdentity,
    /// The chaincodes here.
    pub chaincodes: Arc<dyn LocalChaincodes>,
    /// The peer's TLS, for the hash of its certificate; `None` without TLS.
    pub tls: Option<ReloadingTls>,
    /// Makes connections to other peers.
    pub connector: Connector,
}

/// Settings of the membership.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` at which this peer is reached.
    pub endpoint: String,
    /// Peers to begin with, beside the channels' anchor peers.
    pub known: Vec<Place>,
    /// How often others are asked.
    pub interval: Duration,
    /// How long a peer may be silent.
    pub expiry: Duration,
    /// Peers remembered at most, in fair shares of their organizations; as many that others tell of.
    pub max_members: usize,
    /// Peers that streams are opened to at most; as many are accepted, with a few streams each. Both
    /// in fair shares of the peers' organizations.
    pub max_streams: usize,
    /// Bytes of one message without private data.
    pub max_message_bytes: usize,
    /// How private data is exchanged.
    pub private_data: weft_settings::PrivateData,
}

impl Options {
    /// Fabric's expiry and bounds that fit networks of some hundred peers.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            known: Vec::new(),
            interval: Duration::from_secs(5),
            expiry: Duration::from_secs(25),
            max_members: 1024,
            max_streams: 256,
            max_message_bytes: 4 * 1024 * 1024,
            private_data: weft_settings::PrivateData::default(),
        }
    }
}

/// The membership cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The peer's identity cannot be read.
    #[error("failed to set up the membership: the peer's identity cannot be read")]
    Identity(#[source] weft_msp::DeserializeError),
    /// The peer's identity cannot be read.
    #[error("failed to set up the membership")]
    Decode(#[source] DecodeError),
    /// The peer's messages cannot be signed.
    #[error("failed to set up the membership")]
    Sign(#[source] SignError),
}

/// Who is there. Clones share everything.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

struct Inner {
    deps: Deps,
    options: Options,
    started: u64,
    sequence: AtomicU64,
    table: Mutex<Table>,
    own: Mutex<Own>,
    generation: AtomicU64,
    published: watch::Sender<u64>,
    private: Private,
}

/// How often a new height is told, and chaincodes are looked up where no block came.
const REFRESH: Duration = Duration::from_millis(500);
/// How old the list of this peer's chaincodes may be where it is only used.
const TOLERATED: Duration = Duration::from_secs(2);
/// How old it may be where a chaincode is missing in it.
const REFRESH_MISSING: Duration = Duration::from_millis(20);

impl Membership {
    /// A membership of this peer only; [`run`](Self::run) finds others.
    ///
    /// # Errors
    /// [`MembershipError`] when the peer's own identity cannot be used.
    pub fn new(deps: Deps, options: Options) -> Result<Self, MembershipError> {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let started = started.map_or(1, |since| u64::try_from(since.as_nanos()).unwrap_or(1));
        let time = Time { started, sequence: 0 };
        let own = Own::new(&deps, &options, time)?;
        Ok(Self(Arc::new(Inner {
            table: Mutex::new(Table::new(options.max_members, options.expiry)),
            own: Mutex::new(own),
            deps,
            options,
            started,
            sequence: AtomicU64::new(1),
            generation: AtomicU64::new(1),
            published: watch::Sender::new(0),
            private: Private::new(),
        })))
    }

    /// Changes whenever a peer comes, goes or moves, or the chaincodes of one change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Bytes of the largest message that a peer may send: one collection's writes of a transaction,
    /// and what says where they belong.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        let options = &self.0.options;
        options.max_message_bytes.saturating_add(options.private_data.max_bytes)
    }

    /// All peers that are alive, this one first.
    #[must_use]
    pub fn peers(&self) -> Vec<Arc<Member>> {
        let mut peers = vec![self.own()];
        peers.extend(self.0.table.lock().members().cloned());
        peers
    }

    /// The peers of a channel, as its MSPs know them, this one first. This one's height is as it is
    /// now.
    #[must_use]
    pub fn channel_peers(&self, channel: &Channel) -> Vec<ChannelPeer> {
        let mut peers = Vec::new();
        if let Some(state) = self.own_state(channel, TOLERATED) {
            peers.push(ChannelPeer { member: self.own(), state: live(&state, channel) });
        }
        peers.extend(self.others_of(channel));
        peers
    }

    /// The other peers of a channel.
    fn others_of(&self, channel: &Channel) -> Vec<ChannelPeer> {
        let scope = Scope::of(channel);
        let peers: Vec<_> = self.0.table.lock().peers_of(channel.id()).collect();
        peers.into_iter().filter(|peer| scope.includes(&peer.member.identity)).collect()
    }

    /// As [`channel_peers`](Self::channel_peers), after a look at what this peer has right now. For
    /// when a chaincode is missing that may just have been defined or installed.
    #[must_use]
    pub fn fresh_channel_peers(&self, channel: &Channel) -> Vec<ChannelPeer> {
        let _ = self.own_state(channel, REFRESH_MISSING);
        self.channel_peers(channel)
    }

    /// What this peer has of a channel, signed, its chaincodes as of at most `age` ago.
    fn own_state(&self, channel: &Channel, age: Duration) -> Option<Arc<ChannelState>> {
        let known = self.0.own.lock().states.get(channel.id()).map(|own| {
            let fresh = own.checked.elapsed() < age;
            (Arc::clone(&own.state), fresh)
        });
        match known {
            Some((state, true)) => Some(state),
            _ => self.look(channel),
        }
    }

    /// Looks at this peer's state of a channel after a block, or after a while; tells of a change.
    fn watch(&self, channel: &Channel) {
        let due = self.0.own.lock().states.get(channel.id()).is_none_or(|own| {
            let behind = own.state.height != channel.height() && own.signed.elapsed() >= REFRESH;
            own.height != channel.height() || behind || own.checked.elapsed() >= REFRESH
        });
        if due {
            let _ = self.look(channel);
        }
    }

    /// Looks up this peer's chaincodes. What changed is signed anew: chaincodes at once, the height
    /// after a while, as it changes all the time.
    fn look(&self, channel: &Channel) -> Option<Arc<ChannelState>> {
        let height = channel.height();
        let chaincodes = self.chaincodes_of(channel);
        if let Some(own) = self.0.own.lock().states.get_mut(channel.id())
            && own.state.chaincodes == chaincodes
            && (own.state.height == height || own.signed.elapsed() < REFRESH)
        {
            own.checked = Instant::now();
            own.height = height;
            return Some(Arc::clone(&own.state));
        }
        self.publish(channel, height, chaincodes)
    }

    fn chaincodes_of(&self, channel: &Channel) -> Vec<InstalledChaincode> {
        let defined = self.0.deps.chaincodes.chaincodes(channel);
        let defined = defined
            .into_iter()
            .map(|(name, sequence)| InstalledChaincode { name, version: sequence.to_string() });
        // Every peer has the lifecycle; Fabric's peers say so in this form.
        let lifecycle = InstalledChaincode {
            name: crate::lifecycle::NAMESPACE.to_owned(),
            version: LIFECYCLE_VERSION.to_owned(),
        };
        let all: BTreeSet<_> = defined.chain([lifecycle]).collect();
        all.into_iter().collect()
    }

    fn publish(
        &self,
        channel: &Channel,
        height: u64,
        chaincodes: Vec<InstalledChaincode>,
    ) -> Option<Arc<ChannelState>> {
        let told = chaincodes.iter().map(|one| weft_protos::gossip::Chaincode {
            name: one.name.clone(),
            version: one.version.clone(),
            metadata: Bytes::new(),
        });
        let speaker = self.speaker();
        let envelope = message::state_info(
            &*speaker.signer,
            speaker.id,
            channel.id(),
            self.next_time(),
            height,
            told.collect(),
        );
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(%error, "failed to sign what this peer tells of itself");
                return None;
            }
        };
        let state = Arc::new(ChannelState { height, chaincodes, envelope });
        let before = self.store_own(channel.id(), speaker.id, Arc::clone(&state));
        if before.is_none_or(|before| before.chaincodes != state.chaincodes) {
            self.changed();
        }
        self.0.published.send_modify(|count| *count += 1);
        Some(state)
    }

    fn next_time(&self) -> Time {
        let sequence = self.0.sequence.fetch_add(1, Ordering::Relaxed);
        Time { started: self.0.started, sequence }
    }

    fn changed(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// What Fabric's peers tell as the version of the lifecycle system chaincode.
const LIFECYCLE_VERSION: &str = "1";

/// The state with the height as it is now.
fn live(state: &Arc<ChannelState>, channel: &Channel) -> Arc<ChannelState> {
    let height = channel.height();
    if state.height == height {
        return Arc::clone(state);
    }
    Arc::new(ChannelState { height, ..ChannelState::clone(state) })
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
