//! The messages that the corpora of streams and of discovery begin with. They hold nothing of a
//! network: targets fill that in.

use prost::Message;
use weft_fuzzing::chaincode::AS_IT_IS;
use weft_fuzzing::parts::join;
use weft_fuzzing::peer::{BOTH, CHAINCODE, CHANNEL, ONE, TX_ID};
use weft_protos::discovery::{
    ChaincodeQuery, ConfigQuery, LocalPeerQuery, PeerMembershipQuery, Query, Request, query,
};
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{
    AliveMessage, Chaincode, Envelope, GossipMessage, Member, MembershipRequest,
    MembershipResponse, PeerTime, PrivateDataMessage, PrivatePayload, Properties, PvtDataDigest,
    RemotePvtDataRequest, StateInfo, StateInfoPullRequest, StateInfoSnapshot,
};
use weft_protos::kvrwset::{KvWrite, KvrwSet};
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    ChaincodeCall, ChaincodeId, ChaincodeInput, ChaincodeInterest, ChaincodeMessage, ChaincodeSpec,
    GetState, GetStateByRange, GetStateMultiple, PutState, QueryMetadata, QueryStateClose,
    QueryStateNext, Response,
};

pub type Seed = (&'static str, &'static str, Vec<u8>);

pub fn seeds() -> Vec<Seed> {
    [gossip(), discovery(), chaincode()].concat()
}

/// A message that the target completes and signs.
fn authored(content: Content) -> (u8, Vec<u8>) {
    (3, message(content))
}

fn message(content: Content) -> Vec<u8> {
    GossipMessage { content: Some(content), ..GossipMessage::default() }.encode_to_vec()
}

fn alive() -> Content {
    let member = Member { endpoint: "peer1:7051".into(), ..Member::default() };
    let timestamp = Some(PeerTime { inc_num: 1, seq_num: 1 });
    Content::AliveMsg(AliveMessage { membership: Some(member), timestamp, ..Default::default() })
}

fn state() -> Content {
    let chaincode = Chaincode { name: CHAINCODE.into(), version: "1".into(), ..Default::default() };
    let properties =
        Properties { ledger_height: 1, left_channel: false, chaincodes: vec![chaincode] };
    let timestamp = Some(PeerTime { inc_num: 1, seq_num: 1 });
    Content::StateInfo(StateInfo { timestamp, properties: Some(properties), ..Default::default() })
}

fn wrapped(content: Content) -> Envelope {
    Envelope { payload: message(content).into(), ..Envelope::default() }
}

fn gossip() -> Vec<Seed> {
    let own = MembershipRequest { self_information: Some(wrapped(alive())), known: Vec::new() };
    let told = MembershipResponse { alive: vec![wrapped(alive())], dead: Vec::new() };
    let snapshot = StateInfoSnapshot { elements: vec![wrapped(state())] };
    let pull = Content::StateInfoPullReq(StateInfoPullRequest::default());
    let membership = [Content::MemReq(own), state(), pull, Content::StateSnapshot(snapshot)];
    let membership = membership.map(authored);
    let told = [alive(), Content::MemRes(told)].map(authored);
    let opening = authored(Content::Conn(Default::default()));
    let opened = [opening, (1, message(Content::Empty(Default::default())))];
    vec![
        ("gossip", "membership", join(2, &membership)),
        ("gossip", "told", join(1, &told)),
        ("gossip", "opened", join(0, &opened)),
        ("gossip", "unsigned", join(0, &[(0, wrapped(alive()).encode_to_vec())])),
        ("gossip", "client", join(3, &[authored(alive())])),
        ("gossip", "asked", join(1, &[authored(ask())])),
        ("gossip", "asked-other", join(2, &[authored(ask())])),
        ("gossip", "pushed", join(2, &[authored(push())])),
    ]
}

fn ask() -> Content {
    let digest = |collection: &str| PvtDataDigest {
        tx_id: TX_ID.into(),
        namespace: CHAINCODE.into(),
        collection: collection.into(),
        ..PvtDataDigest::default()
    };
    let digests = [ONE, BOTH, "_implicit_org_Org1MSP"].map(digest).to_vec();
    Content::PrivateReq(RemotePvtDataRequest { digests })
}

fn push() -> Content {
    let write = KvWrite { key: "key".into(), value: "value".into(), is_delete: false };
    let set = KvrwSet { writes: vec![write], ..KvrwSet::default() };
    let payload = PrivatePayload {
        collection_name: BOTH.into(),
        namespace: CHAINCODE.into(),
        tx_id: TX_ID.into(),
        private_rwset: set.encode_to_vec().into(),
        private_sim_height: 1,
        ..PrivatePayload::default()
    };
    Content::PrivateData(PrivateDataMessage { payload: Some(payload) })
}

fn discovery() -> Vec<Seed> {
    let call = |name: &str, collections: &[&str]| ChaincodeCall {
        name: name.into(),
        collection_names: collections.iter().map(ToString::to_string).collect(),
        ..ChaincodeCall::default()
    };
    let interest = |calls: &[ChaincodeCall]| ChaincodeInterest { chaincodes: calls.to_vec() };
    let one = interest(&[call(CHAINCODE, &[])]);
    let two = interest(&[call(CHAINCODE, &[BOTH, ONE]), call("_lifecycle", &[])]);
    let peers = PeerMembershipQuery { filter: Some(two.clone()) };
    let on_channel = |query| Query { channel: CHANNEL.into(), query: Some(query) };
    let queries = vec![
        on_channel(query::Query::ConfigQuery(ConfigQuery {})),
        on_channel(query::Query::PeerQuery(peers)),
        on_channel(query::Query::PeerQuery(PeerMembershipQuery::default())),
        on_channel(query::Query::CcQuery(ChaincodeQuery { interests: vec![one, two] })),
        Query { query: Some(query::Query::LocalPeers(LocalPeerQuery {})), ..Query::default() },
    ];
    let of_keys = ["OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer')", "OR('Org2MSP.member')"];
    let key_policies = of_keys.map(|policy| weft_msp::policy::dsl::parse(policy).unwrap());
    let keys = ChaincodeCall { key_policies: key_policies.to_vec(), ..call(CHAINCODE, &[]) };
    let keys = ChaincodeQuery { interests: vec![interest(&[keys])] };
    let keys = vec![on_channel(query::Query::CcQuery(keys))];
    let keys = Request { authentication: None, queries: keys }.encode_to_vec();
    let request = Request { authentication: None, queries }.encode_to_vec();
    let by = |first: u8| [&[first], &request[..]].concat();
    vec![
        ("discovery", "keys", [&[2], &keys[..]].concat()),
        ("discovery", "unsigned", by(0)),
        ("discovery", "admin", by(1)),
        ("discovery", "client", by(2)),
        ("discovery", "other", by(3)),
        ("discovery", "orderer", by(4)),
    ]
}

fn of(kind: Type, message: &impl Message) -> (u8, Vec<u8>) {
    (u8::try_from(i32::from(kind)).unwrap(), message.encode_to_vec())
}

fn chaincode() -> Vec<Seed> {
    let get = |collection: &str| GetState { key: "key1".into(), collection: collection.into() };
    let put = |collection: &str| PutState {
        key: "key1".into(),
        value: "other".into(),
        collection: collection.into(),
    };
    let completed = of(Type::Completed, &Response { status: 200, ..Response::default() });
    let plain = [
        of(Type::GetState, &get("")),
        of(Type::PutState, &put("")),
        of(
            Type::DelState,
            &weft_protos::peer::DelState { key: "key2".into(), ..Default::default() },
        ),
        of(Type::GetStateMetadata, &get("")),
        of(Type::GetHistoryForKey, &weft_protos::peer::GetHistoryForKey { key: "key1".into() }),
        completed.clone(),
    ];
    let private = [
        of(Type::GetState, &get(ONE)),
        of(Type::GetPrivateDataHash, &get(BOTH)),
        of(Type::PutState, &put(BOTH)),
        of(Type::PurgePrivateData, &get(ONE)),
        completed.clone(),
    ];
    let page = QueryMetadata { page_size: 2, bookmark: String::new() };
    let range = |metadata: Vec<u8>| GetStateByRange {
        start_key: "key1".into(),
        end_key: "key9".into(),
        metadata: metadata.into(),
        ..GetStateByRange::default()
    };
    let query = |id: &str| of(Type::QueryStateNext, &QueryStateNext { id: id.into() });
    let keys = vec!["key1".to_owned(), "key2".to_owned()];
    let queries = [
        of(Type::GetStateByRange, &range(Vec::new())),
        query("1"),
        of(Type::QueryStateClose, &QueryStateClose { id: "1".into() }),
        of(Type::GetStateByRange, &range(page.encode_to_vec())),
        of(Type::GetStateMultiple, &GetStateMultiple { keys, ..GetStateMultiple::default() }),
        completed.clone(),
    ];
    let large = GetStateMultiple { keys: vec!["L".to_owned(); 4096], ..Default::default() };
    let large = [of(Type::GetStateMultiple, &large), completed.clone()];
    let spec = |name: &str| ChaincodeSpec {
        chaincode_id: Some(ChaincodeId { name: name.into(), ..ChaincodeId::default() }),
        input: Some(ChaincodeInput { args: vec!["f".into()], ..ChaincodeInput::default() }),
        ..ChaincodeSpec::default()
    };
    let calls = ["qscc", CHAINCODE, "other/elsewhere"];
    let calls = calls.map(|name| of(Type::InvokeChaincode, &spec(name)));
    let register = ChaincodeMessage {
        r#type: Type::Register.into(),
        payload: ChaincodeId { name: "asset:1".into(), ..Default::default() }
            .encode_to_vec()
            .into(),
        ..ChaincodeMessage::default()
    };
    let stray = ChaincodeMessage { r#type: Type::GetState.into(), ..ChaincodeMessage::default() };
    let raw = [register, stray].map(|message| (AS_IT_IS, message.encode_to_vec()));
    vec![
        ("chaincode", "plain", join(0b0011, &plain)),
        ("chaincode", "private", join(0b0011, &private)),
        ("chaincode", "queries", join(0b0101, &queries)),
        ("chaincode", "calls", join(0b0101, &calls)),
        ("chaincode", "large", join(0b0011, &large)),
        ("chaincode", "flood", join(0b1011, &plain)),
        ("chaincode", "registers", join(0b0100, &raw)),
        ("chaincode", "stranger", join(0b0001, &[completed])),
    ]
}
