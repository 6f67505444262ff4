//! The messages between peers, made and read: what is signed, and how peers and channels are named
//! in them (Fabric: gossip/protoext, internal/peer/gossip/mcs.go).

use bytes::Bytes;
use prost::Message as _;
use weft_crypto::sha256_parts;
use weft_protos::ext::{DecodeError, decode, decode_bounded};
use weft_protos::gossip::gossip_message::{Content, Tag};
use weft_protos::gossip::{
    Acknowledgement, AliveMessage, Chaincode, ConnEstablish, Envelope, GossipMessage, Member,
    MembershipRequest, MembershipResponse, PeerTime, PrivateDataMessage, PrivatePayload,
    Properties, PvtDataDigest, PvtDataElement, RemotePvtDataRequest, RemotePvtDataResponse,
    StateInfo, StateInfoPullRequest, StateInfoSnapshot,
};
use weft_protos::msp::SerializedIdentity;
use weft_types::{ChannelId, SignError, Signer};

/// Names a peer: the hash of its MSP id and certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PkiId(pub [u8; 32]);

impl PkiId {
    /// The id of whoever has this encoded `msp.SerializedIdentity`.
    ///
    /// # Errors
    /// Fails when the bytes are not one.
    pub fn of(identity: &Bytes) -> Result<Self, DecodeError> {
        let identity: SerializedIdentity = decode("identity of a peer", identity.clone())?;
        Ok(Self(sha256_parts([identity.mspid.as_bytes(), &identity.id_bytes[..]])))
    }

    /// As messages hold it; `None` when it has not the length of one.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl std::fmt::Debug for PkiId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Orders the messages of a peer: when it started, then how many it has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Nanoseconds since 1970 at which the peer started.
    pub started: u64,
    /// Counts up.
    pub sequence: u64,
}

impl From<PeerTime> for Time {
    fn from(time: PeerTime) -> Self {
        Self { started: time.inc_num, sequence: time.seq_num }
    }
}

impl From<Time> for PeerTime {
    fn from(time: Time) -> Self {
        Self { inc_num: time.started, seq_num: time.sequence }
    }
}

/// Names a channel in the messages of a peer, to those only who know the channel.
#[must_use]
pub fn channel_mac(peer: PkiId, channel: &ChannelId) -> Bytes {
    sha256_parts([&peer.0[..], channel.as_str().as_bytes()]).to_vec().into()
}

/// Reads what an envelope holds.
///
/// # Errors
/// Fails when the payload is not a gossip message, or would take much more memory than its bytes:
/// the first one of a stream is read before it is known who is there.
pub fn open(envelope: &Envelope) -> Result<GossipMessage, DecodeError> {
    decode_bounded("gossip message", envelope.payload.clone())
}

/// A message that needs no signature, as its parts have their own or the stream is authenticated.
#[must_use]
pub fn unsigned(tag: Tag, content: Content) -> Envelope {
    Envelope { payload: encoded(tag, content), ..Envelope::default() }
}

fn encoded(tag: Tag, content: Content) -> Bytes {
    let message =
        GossipMessage { tag: tag.into(), content: Some(content), ..GossipMessage::default() };
    message.encode_to_vec().into()
}

fn signed(signer: &dyn Signer, tag: Tag, content: Content) -> Result<Envelope, SignError> {
    let payload = encoded(tag, content);
    let signature = signer.sign(&payload)?;
    Ok(Envelope { payload, signature, secret_envelope: None })
}

/// Begins a stream: who is there, and with which TLS certificate (its hash; empty without one).
///
/// # Errors
/// Fails when the signer does.
pub fn connect(
    signer: &dyn Signer,
    id: PkiId,
    tls_cert_hash: Bytes,
) -> Result<Envelope, SignError> {
    let content = ConnEstablish {
        pki_id: id.bytes(),
        identity: signer.serialized_identity(),
        tls_cert_hash,
        probe: false,
    };
    signed(signer, Tag::Empty, Content::Conn(content))
}

/// Tells that a peer is alive, and where.
///
/// # Errors
/// Fails when the signer does.
pub fn alive(
    signer: &dyn Signer,
    id: PkiId,
    endpoint: &str,
    time: Time,
) -> Result<Envelope, SignError> {
    let member =
        Member { endpoint: endpoint.to_owned(), metadata: Bytes::new(), pki_id: id.bytes() };
    let content = AliveMessage {
        membership: Some(member),
        timestamp: Some(time.into()),
        identity: signer.serialized_identity(),
    };
    signed(signer, Tag::Empty, Content::AliveMsg(content))
}

/// Tells what a peer has of a channel.
///
/// # Errors
/// Fails when the signer does.
pub fn state_info(
    signer: &dyn Signer,
    id: PkiId,
    channel: &ChannelId,
    time: Time,
    height: u64,
    chaincodes: Vec<Chaincode>,
) -> Result<Envelope, SignError> {
    let properties = Properties { ledger_height: height, left_channel: false, chaincodes };
    let content = StateInfo {
        timestamp: Some(time.into()),
        pki_id: id.bytes(),
        channel_mac: channel_mac(id, channel),
        properties: Some(properties),
    };
    signed(signer, Tag::ChanOrOrg, Content::StateInfo(content))
}

/// Asks who is there, and tells of oneself.
#[must_use]
pub fn membership_request(own: Envelope) -> Envelope {
    let content = MembershipRequest { self_information: Some(own), known: Vec::new() };
    unsigned(Tag::Empty, Content::MemReq(content))
}

/// Tells who is there.
#[must_use]
pub fn membership_response(alive: Vec<Envelope>) -> Envelope {
    let content = MembershipResponse { alive, dead: Vec::new() };
    unsigned(Tag::Empty, Content::MemRes(content))
}

/// Asks what the peers of a channel have.
#[must_use]
pub fn state_request(id: PkiId, channel: &ChannelId) -> Envelope {
    let content = StateInfoPullRequest { channel_mac: channel_mac(id, channel) };
    unsigned(Tag::ChanOrOrg, Content::StateInfoPullReq(content))
}

/// Tells what the peers of a channel have.
#[must_use]
pub fn state_snapshot(elements: Vec<Envelope>) -> Envelope {
    unsigned(Tag::ChanOrOrg, Content::StateSnapshot(StateInfoSnapshot { elements }))
}

/// A message of a channel, or the answer to one, told apart by its nonce. The stream says who sends
/// it.
fn in_channel(nonce: u64, channel: Bytes, content: Content) -> Envelope {
    let tag = Tag::ChanOnly.into();
    let message = GossipMessage { nonce, channel, tag, content: Some(content) };
    Envelope { payload: message.encode_to_vec().into(), ..Envelope::default() }
}

fn name_of(channel: &ChannelId) -> Bytes {
    Bytes::copy_from_slice(channel.as_str().as_bytes())
}

/// Sends private values of a fresh endorsement; asks for an [`acknowledgement`].
#[must_use]
pub fn private_data(nonce: u64, channel: &ChannelId, payload: PrivatePayload) -> Envelope {
    let content = PrivateDataMessage { payload: Some(payload) };
    in_channel(nonce, name_of(channel), Content::PrivateData(content))
}

/// Says that a message is taken (`error` is empty), or why it is not.
#[must_use]
pub fn acknowledgement(nonce: u64, error: String) -> Envelope {
    let content = Content::Ack(Acknowledgement { error });
    let message = GossipMessage { nonce, content: Some(content), ..GossipMessage::default() };
    Envelope { payload: message.encode_to_vec().into(), ..Envelope::default() }
}

/// Asks for private values that are missing.
#[must_use]
pub fn private_request(nonce: u64, channel: &ChannelId, digests: Vec<PvtDataDigest>) -> Envelope {
    let content = RemotePvtDataRequest { digests };
    in_channel(nonce, name_of(channel), Content::PrivateReq(content))
}

/// Sends private values that were asked for.
#[must_use]
pub fn private_response(nonce: u64, channel: Bytes, elements: Vec<PvtDataElement>) -> Envelope {
    let content = RemotePvtDataResponse { elements };
    in_channel(nonce, channel, Content::PrivateRes(content))
}
