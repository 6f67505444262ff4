//! Messages of a contract to the peer, on the stream that the contract opens.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::{Either, FutureExt, join, select};
use prost::Message as _;
use weft_crypto::{LeafProfile, LeafUsage, Name, SubjectAltName};
use weft_ledger::SimulationResults;
use weft_ledger::rwset::TxRwSet;
use weft_peer::blocking::Blocking;
use weft_peer::chaincode::package::{Connection, Label, Package, PackageId};
use weft_peer::chaincode::{
    BlockingState, Call, ChaincodeError, ChaincodeSupport, CollectionAccess, Host, HostError,
    LedgerState, Outcome, Runtime, RuntimeConfig, StateAccess, Target,
};
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{ChaincodeId, ChaincodeInput, ChaincodeMessage, Response, SignedProposal};
use weft_rpc::listen::{PeerCertificates, PeerInfo};
use weft_rpc::tls::CertificateDer;
use weft_testkit::{clock::ALWAYS, org};

use crate::grpc::{self, Answer};
use crate::parts;
use crate::peer::{BOTH, CHAINCODE, CHANNEL, ONE, PEER};

const PATH: &str = "/protos.ChaincodeSupport/Register";
const TX_ID: &str = "tx";
/// A part with this first byte is a message as it stands; another first byte is the type of a
/// message of the transaction, whose payload the part is.
pub const AS_IT_IS: u8 = 0xff;
/// Bytes of a message. An answer of this size is in memory several times on its way, which is far
/// below what an input may take.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
/// How often everything that can go on does, before the next message comes.
const TURNS: usize = 6;

/// The package of the contract, and the certificate that lets it register.
struct Contract {
    id: PackageId,
    certificate: CertificateDer<'static>,
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let label = Label::new(CHAINCODE).expect("a label");
    let package = Package::build(&label, &Connection::plain("")).expect("a package");
    let id = PEER.packages.save(&package).expect("a folder").id().clone();
    let profile = LeafProfile {
        name: Name::common("contract"),
        sans: vec![SubjectAltName::Uri(id.certificate_name())],
        usage: LeafUsage::Tls,
        validity: ALWAYS,
    };
    let key = org::key();
    let certificate = PEER.network.org(1).tls_ca.issue(key.public_key(), &profile);
    let certificate = certificate.expect("a certificate").der().to_vec().into();
    Contract { id, certificate }
});

/// The peer around the runtime: one chaincode, two collections, one system chaincode.
struct Around;

#[async_trait]
impl Host for Around {
    fn resolve(
        &self,
        channel: &str,
        chaincode: &str,
        is_init: bool,
        _: &mut dyn StateAccess,
    ) -> Result<Target, HostError> {
        match (channel, chaincode) {
            (CHANNEL, "qscc") => Ok(Target::System),
            (CHANNEL, CHAINCODE) => {
                Ok(Target::Contract { package_id: CONTRACT.id.to_string(), init: is_init })
            }
            _ => Err(HostError::new("it is not defined")),
        }
    }

    fn check_call(&self, _: &str, _: &str, _: Option<&SignedProposal>) -> Result<(), HostError> {
        Ok(())
    }

    fn is_system(&self, chaincode: &str) -> bool {
        chaincode == "qscc"
    }

    fn open_state(&self, channel: &str, tx_id: &str) -> Result<Box<BlockingState>, HostError> {
        match channel {
            CHANNEL => Ok(Box::new(Blocking::new(state(tx_id)))),
            _ => Err(HostError::new("it is not joined")),
        }
    }

    async fn invoke_system(
        &self,
        _: &str,
        _: &str,
        _: &str,
        input: &ChaincodeInput,
        _: Option<&SignedProposal>,
        _: &mut BlockingState,
    ) -> Result<Response, HostError> {
        let payload = input.args.first().cloned().unwrap_or_default();
        Ok(Response { status: 200, message: String::new(), payload })
    }

    fn key_level_endorsement(&self, _: &str) -> bool {
        true
    }

    fn purges_private_data(&self, _: &str) -> bool {
        true
    }

    fn collection(
        &self,
        _: &str,
        _: &str,
        collection: &str,
    ) -> Result<Option<CollectionAccess>, HostError> {
        let access = CollectionAccess { may_read: true, may_write: true, held: true };
        Ok([BOTH, ONE].contains(&collection).then_some(access))
    }
}

fn state(tx_id: &str) -> LedgerState {
    LedgerState::new(Arc::clone(PEER.channel().ledger()), tx_id, true)
}

/// How an input is played, as its first byte says.
#[derive(Clone, Copy)]
struct Scene {
    /// The peer takes any contract.
    development: bool,
    /// The client shows the package's certificate.
    shows: bool,
    /// A good REGISTER comes first.
    registers: bool,
    /// All messages come at once, as no contract that waits for answers sends them.
    floods: bool,
}

impl Scene {
    fn of(first: u8) -> Self {
        let bit = |place: u8| first & (1 << place) != 0;
        Self { registers: bit(0), shows: bit(1), development: bit(2), floods: bit(3) }
    }
}

/// What came of an input.
struct Played {
    answer: Answer,
    outcome: Option<Result<Outcome, ChaincodeError>>,
    results: SimulationResults,
    runtime: Runtime,
}

/// Messages on a stream, to a peer that has a transaction for the contract.
pub(crate) fn chaincode(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let scene = Scene::of(*first);
    let messages: Vec<_> = parts::split(rest).map(|(kind, part)| message(kind, part)).collect();
    let count = messages.len();
    let Played { answer, outcome, results, runtime } = PEER.run(play(scene, messages));
    let told: Vec<ChaincodeMessage> = answer.decoded();
    let of = |kinds: &[Type]| told.iter().filter(|one| kinds.contains(&one.r#type())).count();
    assert_eq!(told.len(), of(FROM_PEER), "a message that peers do not send");
    assert!(of(&[Type::Response, Type::Error]) <= count, "answers that nobody asked for");
    assert!(of(&[Type::Init, Type::Transaction]) <= 1, "the transaction is started once");
    if !scene.shows && !scene.development {
        assert!(told.is_empty() && outcome.is_none(), "whoever shows nothing is nobody");
    }
    assert!(!runtime.is_connected(&CONTRACT.id.to_string()), "the stream has ended");
    TxRwSet::parse(results.public_bytes).expect("what is simulated can be committed");
}

/// What a peer says to a contract.
const FROM_PEER: &[Type] = &[
    Type::Registered,
    Type::Ready,
    Type::Init,
    Type::Transaction,
    Type::Response,
    Type::Error,
    Type::Keepalive,
];

fn message(kind: u8, part: &[u8]) -> Vec<u8> {
    if kind == AS_IT_IS {
        return part.to_vec();
    }
    let message = ChaincodeMessage {
        r#type: i32::from(kind % 27),
        payload: Bytes::copy_from_slice(part),
        txid: TX_ID.to_owned(),
        channel_id: CHANNEL.to_owned(),
        ..ChaincodeMessage::default()
    };
    message.encode_to_vec()
}

async fn play(scene: Scene, messages: Vec<Vec<u8>>) -> Played {
    let config = RuntimeConfig {
        development: scene.development,
        max_message_bytes: MAX_MESSAGE,
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::new(config, PEER.packages.clone(), None);
    let (outbox, body) = unbounded();
    let service = ChaincodeSupport::new(&runtime).into_server();
    let stream = grpc::call(service, PATH, body, scene.shows.then(client));
    let talked = join(stream, talk(scene, messages, outbox)).map(|(answer, ())| answer);
    let mut state = Blocking::new(state(TX_ID));
    let (answer, outcome) = {
        let invoked = runtime.invoke(call(), &mut state, &Around);
        match select(Box::pin(invoked), Box::pin(talked)).await {
            Either::Left((outcome, talked)) => (talked.await, Some(outcome)),
            // Without a contract the transaction would wait for one.
            Either::Right((answer, invoked)) => (answer, invoked.now_or_never()),
        }
    };
    let results = state.finish(LedgerState::finish).await;
    Played { answer, outcome, results, runtime }
}

/// Sends the messages, each when the peer has done what it does about the one before.
async fn talk(scene: Scene, messages: Vec<Vec<u8>>, outbox: UnboundedSender<Bytes>) {
    let register = scene.registers.then(|| {
        let id = ChaincodeId { name: CONTRACT.id.to_string(), ..ChaincodeId::default() };
        let (kind, payload) = (Type::Register.into(), id.encode_to_vec().into());
        ChaincodeMessage { r#type: kind, payload, ..ChaincodeMessage::default() }.encode_to_vec()
    });
    turns().await;
    for message in register.into_iter().chain(messages) {
        // A stream that the peer has ended takes nothing more.
        let _ = outbox.unbounded_send(grpc::frame(&message));
        if !scene.floods {
            turns().await;
        }
    }
    turns().await;
}

async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

fn client() -> PeerInfo {
    PeerInfo {
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        secure: true,
        certificates: PeerCertificates::new(vec![CONTRACT.certificate.clone()]),
    }
}

fn call() -> Call {
    Call {
        channel_id: CHANNEL.to_owned(),
        tx_id: TX_ID.to_owned(),
        chaincode: CHAINCODE.to_owned(),
        input: ChaincodeInput { args: vec!["f".into()], ..ChaincodeInput::default() },
        ..Call::default()
    }
}

#[cfg(test)]
mod tests {
    use weft_protos::peer::{GetState, GetStateMultiple, PutState, WriteBatchState};

    use super::*;

    fn played(first: u8, parts: &[(Type, Vec<u8>)]) -> Played {
        let kind = |kind: Type| u8::try_from(i32::from(kind)).unwrap();
        let messages = parts.iter().map(|(of, part)| message(kind(*of), part)).collect();
        PEER.run(play(Scene::of(first), messages))
    }

    #[test]
    fn a_transaction_is_played_to_its_end() {
        let get = GetState { key: "key1".into(), ..GetState::default() }.encode_to_vec();
        let put = PutState { key: "k".into(), value: "v".into(), ..PutState::default() };
        let response = Response { status: 200, ..Response::default() }.encode_to_vec();
        let parts = [
            (Type::GetState, get),
            (Type::PutState, put.encode_to_vec()),
            (Type::Completed, response),
        ];
        for first in [0b0011, 0b0101] {
            let Played { answer, outcome, results, .. } = played(first, &parts);
            assert_eq!(answer.code, tonic::Code::Ok);
            let told = answer.decoded::<ChaincodeMessage>().into_iter();
            let told: Vec<_> = told.map(|message| message.r#type()).collect();
            let expect =
                [Type::Registered, Type::Ready, Type::Transaction, Type::Response, Type::Response];
            assert_eq!(told, expect);
            assert_eq!(outcome.unwrap().unwrap().response.status, 200);
            let set = TxRwSet::parse(results.public_bytes).unwrap();
            assert_eq!(set.namespaces.len(), 1);
        }
    }

    fn refusal(kind: Type, request: Vec<u8>) -> String {
        let told = played(0b0011, &[(kind, request)]).answer.decoded::<ChaincodeMessage>();
        let last = told.last().unwrap();
        assert_eq!(last.r#type(), Type::Error);
        String::from_utf8(last.payload.to_vec()).unwrap()
    }

    #[test]
    fn a_request_takes_no_more_memory_than_its_bytes_allow() {
        let batch = WriteBatchState { rec: vec![Default::default(); 10_000] }.encode_to_vec();
        let text = refusal(Type::WriteBatchState, batch);
        assert!(text.contains("unmarshal failed"), "{text}");
        let keys = vec![String::new(); 30_000];
        let get = GetStateMultiple { keys, ..Default::default() }.encode_to_vec();
        let text = refusal(Type::GetStateMultiple, get);
        assert!(text.contains("unmarshal failed"), "{text}");
    }

    #[test]
    fn nobody_registers_without_a_certificate() {
        let Played { answer, outcome, .. } = played(0b0001, &[(Type::Completed, Vec::new())]);
        assert_eq!(answer.code, tonic::Code::PermissionDenied);
        assert!(outcome.is_none());
    }
}
