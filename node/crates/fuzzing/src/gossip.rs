//! Streams between peers.

use bytes::Bytes;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use weft_msp::SigningIdentity;
use weft_peer::membership::GossipService;
use weft_peer::membership::message::{PkiId, channel_mac};
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::gossip_server::GossipServer;
use weft_protos::gossip::{Envelope, GossipMessage};
use weft_types::{ChannelId, Signer};

use crate::grpc::{self, Answer};
use crate::parts;
use crate::peer::{CHANNEL, PEER};

const PATH: &str = "/gossip.Gossip/GossipStream";

/// Who opens the stream, as the first byte of an input says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Whoever the first part says it is.
    Unknown,
    /// A peer of the same organization.
    Sibling,
    /// A peer of the other organization.
    Other,
    /// A client of the other organization.
    Client,
}

impl Caller {
    fn of(first: u8) -> Self {
        [Self::Unknown, Self::Sibling, Self::Other, Self::Client][usize::from(first % 4)]
    }

    fn identity(self) -> &'static SigningIdentity {
        match self {
            Self::Sibling | Self::Unknown => &PEER.sibling,
            Self::Other => &PEER.network.org(2).peer,
            Self::Client => &PEER.network.org(2).client,
        }
    }
}

/// A stream: the first byte says who opens it, the parts are messages. A part is, as its first byte
/// says, an envelope; or a payload without or with a signature; or a message in which what depends
/// on keys is filled in before it is signed.
pub(crate) fn gossip(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let caller = Caller::of(*first);
    let answer = stream(caller, rest);
    let answers = answer.decoded::<Envelope>();
    let contents = answers.iter().map(|envelope| {
        let message = GossipMessage::decode(envelope.payload.clone());
        message.expect("an answer decodes").content.expect("an answer says something")
    });
    let contents: Vec<_> = contents.collect();
    if let Some(first) = contents.first() {
        assert!(matches!(first, Content::Conn(_)), "the peer says first who it is");
    }
    assert!(answers.len() <= 1 + parts::split(rest).count(), "one answer to a message");
    match caller {
        Caller::Client => {
            assert!(answers.is_empty(), "a client is no peer");
            assert_eq!(answer.code, Code::Unauthenticated);
        }
        Caller::Other => assert!(!holds_secret(&answer), "the value is of Org1 alone"),
        Caller::Sibling | Caller::Unknown => {}
    }
}

fn holds_secret(answer: &Answer) -> bool {
    let secret = &PEER.secret;
    answer.messages.iter().any(|bytes| bytes.windows(secret.len()).any(|part| part == secret))
}

fn stream(caller: Caller, rest: &[u8]) -> Answer {
    let identity = caller.identity();
    let opening = Content::Conn(Default::default());
    let opening = GossipMessage { content: Some(opening), ..GossipMessage::default() };
    let opening = (caller != Caller::Unknown).then(|| authored(identity, opening));
    let told = parts::split(rest).filter_map(|(kind, part)| told(identity, kind, part));
    let envelopes = opening.map(|envelope| envelope.encode_to_vec()).into_iter().chain(told);
    let frames: Vec<_> = envelopes.map(|envelope| grpc::frame(&envelope)).collect();
    PEER.forget_pushed();
    let service = GossipService::new(PEER.membership(), CancellationToken::new());
    let service = GossipServer::new(service);
    PEER.run(grpc::call(service, PATH, futures::stream::iter(frames), None))
}

/// An encoded envelope around a part.
fn told(by: &SigningIdentity, kind: u8, part: &[u8]) -> Option<Vec<u8>> {
    let payload = Bytes::copy_from_slice(part);
    let envelope = match kind % 4 {
        0 => return Some(part.to_vec()),
        1 => Envelope { payload, ..Envelope::default() },
        2 => signed(by, payload),
        _ => authored(by, GossipMessage::decode(payload).ok()?),
    };
    Some(envelope.encode_to_vec())
}

fn signed(by: &SigningIdentity, payload: Bytes) -> Envelope {
    let signature = by.sign(&payload).expect("a key that signs");
    Envelope { payload, signature, secret_envelope: None }
}

/// A message as its sender would write it: what is empty and depends on keys is filled in, and
/// messages in it are signed.
fn authored(by: &SigningIdentity, mut message: GossipMessage) -> Envelope {
    let id = PkiId::of(&by.serialized_identity()).expect("an identity");
    let own = Bytes::copy_from_slice(&id.0);
    let mac = channel_mac(id, &ChannelId::new(CHANNEL).expect("a valid id"));
    match &mut message.content {
        Some(Content::Conn(connect)) => {
            fill(&mut connect.pki_id, own);
            fill(&mut connect.identity, by.serialized_identity());
        }
        Some(Content::AliveMsg(alive)) => {
            fill(&mut alive.identity, by.serialized_identity());
            fill(&mut alive.membership.get_or_insert_default().pki_id, own);
        }
        Some(Content::StateInfo(state)) => {
            fill(&mut state.pki_id, own);
            fill(&mut state.channel_mac, mac);
        }
        Some(Content::StateInfoPullReq(request)) => fill(&mut request.channel_mac, mac),
        Some(Content::MemReq(request)) => request.self_information.iter_mut().for_each(sign(by)),
        Some(Content::MemRes(response)) => response.alive.iter_mut().for_each(sign(by)),
        Some(Content::StateSnapshot(snapshot)) => snapshot.elements.iter_mut().for_each(sign(by)),
        Some(Content::PrivateData(_) | Content::PrivateReq(_)) => {
            fill(&mut message.channel, Bytes::from_static(CHANNEL.as_bytes()));
        }
        _ => {}
    }
    signed(by, message.encode_to_vec().into())
}

fn fill(field: &mut Bytes, value: Bytes) {
    if field.is_empty() {
        *field = value;
    }
}

/// Signs a message in a message, unless it holds others itself: inputs nest no deeper.
fn sign(by: &SigningIdentity) -> impl FnMut(&mut Envelope) {
    let mut left = 8;
    move |envelope| {
        let inner = GossipMessage::decode(envelope.payload.clone());
        let Ok(inner) = inner else { return };
        let is_leaf = matches!(inner.content, Some(Content::AliveMsg(_) | Content::StateInfo(_)));
        if is_leaf && envelope.signature.is_empty() && left > 0 {
            left -= 1;
            *envelope = authored(by, inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_protos::gossip::{
        MembershipResponse, PrivateDataMessage, PrivatePayload, PvtDataDigest, RemotePvtDataRequest,
    };
    use weft_protos::kvrwset::{KvRead, KvWrite, KvrwSet};

    use super::*;
    use crate::peer::{BOTH, CHAINCODE, ONE, TX_ID};

    fn question() -> Vec<u8> {
        let digest = PvtDataDigest {
            tx_id: TX_ID.to_owned(),
            namespace: CHAINCODE.to_owned(),
            collection: ONE.to_owned(),
            ..PvtDataDigest::default()
        };
        let content = Content::PrivateReq(RemotePvtDataRequest { digests: vec![digest] });
        GossipMessage { content: Some(content), ..GossipMessage::default() }.encode_to_vec()
    }

    #[test]
    fn an_opening_takes_no_more_memory_than_its_bytes_allow() {
        let by = Caller::Sibling.identity();
        let open = |told: usize| {
            let response =
                MembershipResponse { alive: vec![Default::default(); told], dead: vec![] };
            let discarded = Content::MemRes(response);
            let discarded = GossipMessage { content: Some(discarded), ..GossipMessage::default() };
            let opening = Content::Conn(Default::default());
            let opening = GossipMessage { content: Some(opening), ..GossipMessage::default() };
            // Of two contents the last one counts; both are decoded.
            let payload =
                [discarded.encode_to_vec().into(), authored(by, opening).payload].concat();
            let opening = signed(by, payload.into()).encode_to_vec();
            stream(Caller::Unknown, &parts::join(0, &[(0, opening)])[1..]).code
        };
        assert_eq!(open(10), Code::Ok);
        assert_eq!(open(10_000), Code::Unauthenticated);
    }

    #[test]
    fn pushed_writes_take_no_more_memory_than_their_bytes_allow() {
        let push = |reads: usize| {
            let write = KvWrite { key: "key".to_owned(), ..KvWrite::default() };
            let reads = vec![KvRead::default(); reads];
            let set = KvrwSet { reads, writes: vec![write], ..KvrwSet::default() };
            let payload = PrivatePayload {
                collection_name: BOTH.to_owned(),
                namespace: CHAINCODE.to_owned(),
                tx_id: TX_ID.to_owned(),
                private_rwset: set.encode_to_vec().into(),
                ..PrivatePayload::default()
            };
            let content = Content::PrivateData(PrivateDataMessage { payload: Some(payload) });
            let message = GossipMessage { content: Some(content), ..GossipMessage::default() };
            let input = parts::join(0, &[(3, message.encode_to_vec())]);
            let answers = stream(Caller::Other, &input[1..]).decoded::<Envelope>();
            let last = GossipMessage::decode(answers.last().unwrap().payload.clone()).unwrap();
            let Some(Content::Ack(acknowledgement)) = last.content else { panic!("{last:?}") };
            acknowledgement.error
        };
        assert_eq!(push(10), "");
        assert_eq!(push(20_000), "the writes cannot be read");
    }

    #[test]
    fn a_question_gets_as_far_as_the_values() {
        let input = parts::join(0, &[(3, question())]);
        assert!(holds_secret(&stream(Caller::Sibling, &input[1..])));
        assert!(!holds_secret(&stream(Caller::Other, &input[1..])));
        let to_other = stream(Caller::Other, &input[1..]);
        assert_eq!((to_other.code, to_other.messages.len()), (Code::Ok, 2));
    }
}
