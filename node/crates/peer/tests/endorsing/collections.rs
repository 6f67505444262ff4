//! Private data at endorsement: who may read and write it, and who gets it before anything is
//! signed.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use weft_contract::{Context, ContractError, Functions, Json};
use weft_msp::policy::dsl;
use weft_peer::channel::Channel;
use weft_peer::commit::private::{self, Slot};
use weft_peer::endorser::{Endorser, EndorserParts};
use weft_peer::private::exchange::Push;
use weft_peer::private::{Exchange, Found, PushError, Wanted};
use weft_protos::kvrwset::KvrwSet;
use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_protos::peer::{
    ChaincodeCall, CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig,
    StaticCollectionConfig,
};
use weft_testkit::clock::NOW;
use weft_types::ValidationCode;

use crate::contracts::start_with;
use crate::layout::rwset;
use crate::world::{Draft, TestPeer, World, propose};

type Outcome<T> = Result<T, ContractError>;

fn contract() -> Functions {
    Functions::new()
        .on("Put", put)
        .on("PutBoth", put_both)
        .on("PutAndFail", put_and_fail)
        .on("Get", get)
        .on("Hash", hash)
        .on("List", list)
        .on("Purge", purge)
        .on("Public", public)
        .on("Other", other)
}

async fn put(ctx: Context, collection: String, key: String, value: Bytes) -> Outcome<()> {
    ctx.put_private(&collection, &key, value).await
}

async fn put_both(ctx: Context, value: Bytes) -> Outcome<()> {
    ctx.put_state("key", value.clone()).await?;
    for collection in ["secrets", "shared", "_implicit_org_Org2MSP"] {
        ctx.put_private(collection, "key", value.clone()).await?;
    }
    Ok(())
}

/// Has its write reach the peer, and fails then.
async fn put_and_fail(ctx: Context, status: i32) -> Outcome<()> {
    ctx.put_private("shared", "key", "1").await?;
    // A call sends what was written before it.
    ctx.invoke_chaincode("nothing", "Get", &[]).await.unwrap_err();
    Err(ContractError::with_status(status, "no"))
}

async fn get(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    Ok(ctx.get_private(&collection, &key).await?.unwrap_or_else(|| Bytes::from_static(b"none")))
}

async fn hash(ctx: Context, collection: String, key: String) -> Outcome<Bytes> {
    Ok(ctx.get_private_hash(&collection, &key).await?.unwrap_or_default())
}

async fn list(ctx: Context, collection: String) -> Outcome<Json<Vec<String>>> {
    let entries = ctx.private_range(&collection, "", "").await?.collect().await?;
    Ok(Json(entries.into_iter().map(|entry| entry.key).collect()))
}

async fn purge(ctx: Context, collection: String, key: String) -> Outcome<()> {
    ctx.purge_private(&collection, &key).await
}

async fn public(ctx: Context) -> Outcome<()> {
    ctx.put_state("key", "1").await
}

async fn other(ctx: Context, name: String) -> Outcome<Bytes> {
    ctx.invoke_chaincode(&name, "Put", &["shared", "key", "theirs"]).await
}

fn of(name: &str, members: &str) -> StaticCollectionConfig {
    StaticCollectionConfig {
        name: name.to_owned(),
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(Members::SignaturePolicy(dsl::parse(members).unwrap())),
        }),
        maximum_peer_count: 2,
        ..Default::default()
    }
}

fn package(
    collections: impl IntoIterator<Item = StaticCollectionConfig>,
) -> CollectionConfigPackage {
    let config = |collection| CollectionConfig {
        payload: Some(Payload::StaticCollectionConfig(collection)),
    };
    CollectionConfigPackage { config: collections.into_iter().map(config).collect() }
}

/// `secrets` for `Org1MSP` alone and its clients only, `shared` for both organizations.
fn collections() -> CollectionConfigPackage {
    let secrets = StaticCollectionConfig {
        member_only_read: true,
        member_only_write: true,
        ..of("secrets", "OR('Org1MSP.member')")
    };
    let shared = StaticCollectionConfig {
        required_peer_count: 1,
        block_to_live: 100,
        ..of("shared", "OR('Org1MSP.member', 'Org2MSP.member')")
    };
    package([secrets, shared])
}

async fn start(world: &World, peers: &[&TestPeer], name: &str) {
    let draft = Draft { collections: Some(collections()), ..Draft::new(name) };
    start_with(world, peers, draft, contract()).await;
}

/// Writes that wait for their commit.
fn held(channel: &Channel, tx_id: &str, namespace: &str, collection: &str) -> Vec<Bytes> {
    let slot = Slot { tx_id, namespace, collection };
    private::held(channel.ledger(), slot, usize::MAX).unwrap()
}

/// Other members, who take everything but what is of one collection.
#[derive(Default)]
struct Recorder {
    refuses: Option<&'static str>,
    /// What came, and whether the peer had it in its transient store then.
    pushes: Mutex<Vec<(Push, bool)>>,
}

#[async_trait]
impl Exchange for Recorder {
    async fn push(&self, channel: &Channel, push: Push) -> Result<(), PushError> {
        let (tx_id, name) = (push.tx_id.to_string(), push.collection.name.clone());
        let kept = held(channel, &tx_id, &push.namespace, &name);
        let refused = self.refuses == Some(name.as_str());
        let error = PushError {
            namespace: push.namespace.clone(),
            collection: name,
            reached: 0,
            required: push.collection.required_peers,
        };
        self.pushes.lock().push((push.clone(), kept.contains(&push.writes)));
        if refused { Err(error) } else { Ok(()) }
    }

    async fn pull(&self, _: &Channel, _: Vec<Wanted>) -> Vec<Found> {
        Vec::new()
    }
}

impl Recorder {
    fn of(peer: &TestPeer, refuses: Option<&'static str>) -> Arc<Self> {
        let recorder = Arc::new(Self { refuses, ..Self::default() });
        peer.exchange.set(Arc::clone(&recorder) as Arc<dyn Exchange>);
        recorder
    }

    /// Namespaces and collections that came, in order of their names.
    fn names(&self) -> Vec<(String, String)> {
        let pushes = self.pushes.lock();
        let names = pushes.iter().map(|(push, _)| &push.collection.name);
        let mut names: Vec<_> =
            pushes.iter().map(|(push, _)| push.namespace.clone()).zip(names.cloned()).collect();
        names.sort();
        names
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_have_the_values_before_the_endorsement() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let recorder = Recorder::of(&one, None);
    start(&world, &[&one, &two], "asset").await;
    assert!(recorder.pushes.lock().is_empty(), "what _lifecycle writes stays here");

    let put = propose(world.client(1), "asset", &[b"PutBoth", b"value"]);
    let response = one.send(&put).await;
    let set = rwset(response);
    let pushes = std::mem::take(&mut *recorder.pushes.lock());
    assert_eq!(pushes.len(), 3);
    for (push, kept) in &pushes {
        assert!(kept, "it was kept before it was passed on");
        assert_eq!((push.tx_id, push.namespace.as_str()), (put.tx_id, "asset"));
        assert_eq!(push.height, one.channel().height());
        let shown = format!("{push:?}");
        assert!(!shown.contains("value") && !shown.contains(&format!("{:?}", push.writes)));
        let writes = KvrwSet::decode(push.writes.clone()).unwrap();
        let [write] = &writes.writes[..] else { panic!("{writes:?}") };
        assert_eq!((write.key.as_str(), write.value.as_ref()), ("key", b"value".as_ref()));
        let part = set.namespace("asset").unwrap();
        let name = &push.collection.name;
        let hashed = part.collections.iter().find(|hashed| hashed.collection == *name).unwrap();
        assert_eq!(hashed.private_hash, weft_crypto::sha256(&push.writes).as_slice());
    }
    let collection = |name: &str| {
        let found = pushes.iter().find(|(push, _)| push.collection.name == name);
        found.unwrap().0.collection.clone()
    };
    let members = |name: &str| weft_msp::policy::dsl::describe(&collection(name).policy);
    let members = ["secrets", "shared", "_implicit_org_Org2MSP"].map(members);
    assert_eq!(
        members,
        ["OR('Org1MSP.member')", "OR('Org1MSP.member', 'Org2MSP.member')", "OR('Org2MSP.member')"]
    );
    let shared = collection("shared");
    assert_eq!((shared.required_peers, shared.maximum_peers, shared.block_to_live), (1, 2, 100));

    one.send(&propose(world.client(1), "asset", &[b"Public"])).await;
    one.send(&propose(world.client(1), "asset", &[b"Hash", b"shared", b"key"])).await;
    assert!(recorder.pushes.lock().is_empty(), "nothing private was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_enough_members_there_is_no_endorsement() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    start(&world, &[&one, &two], "asset").await;
    let client = world.client(1);
    let put = |collection: &str| {
        propose(client, "asset", &[b"Put", collection.as_bytes(), b"key", b"secret value"])
    };
    let refused = async |built: &weft_types::proposal::BuiltSignedProposal| {
        let response = one.send(built).await;
        assert!(response.endorsement.is_none() && response.payload.is_empty());
        let told = response.response.unwrap();
        assert_eq!((told.status, told.payload.len()), (500, 0));
        told.message
    };
    let expect = |tx_id: &dyn std::fmt::Display, collection: &str, required: usize| {
        format!(
            "error in simulation: failed to distribute private collection, txID {tx_id}, \
             channel supply: failed to distribute private collection {collection} of chaincode \
             asset: 0 peers have it, {required} must"
        )
    };
    // Nobody is reached yet: that is enough for some collections, and not for others.
    let shared = put("shared");
    assert_eq!(refused(&shared).await, expect(&shared.tx_id, "shared", 1));
    assert!(one.send(&put("secrets")).await.endorsement.is_some());

    let recorder = Recorder::of(&one, Some("secrets"));
    assert!(one.send(&put("shared")).await.endorsement.is_some());
    let secrets = put("secrets");
    assert_eq!(refused(&secrets).await, expect(&secrets.tx_id, "secrets", 0));
    let both = propose(client, "asset", &[b"PutBoth", b"value"]);
    assert_eq!(refused(&both).await, expect(&both.tx_id, "secrets", 0));
    assert!(recorder.names().contains(&("asset".to_owned(), "secrets".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exchange_values_stay_here() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let recorder = Recorder::of(&one, Some("shared"));
    start(&world, &[&one, &two], "asset").await;
    let alone = Endorser::new(EndorserParts { exchange: None, ..one.parts.clone() });
    let put = propose(world.client(1), "asset", &[b"Put", b"shared", b"key", b"value"]);
    let response = alone.process_at(put.signed.clone(), NOW).await.unwrap();
    assert!(response.endorsement.is_some(), "{:?}", response.response);
    let channel = one.channel();
    let kept = held(&channel, &put.tx_id.to_string(), "asset", "shared");
    assert_eq!(kept.len(), 1);
    assert!(recorder.pushes.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refused_transaction_wrote_stays_nowhere() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let recorder = Recorder::of(&one, None);
    start(&world, &[&one, &two], "asset").await;
    for status in ["400", "500"] {
        let put = propose(world.client(1), "asset", &[b"PutAndFail", status.as_bytes()]);
        let response = one.send(&put).await;
        assert!(response.endorsement.is_none());
        assert_eq!(response.response.unwrap().status.to_string(), status);
        let ledger = one.channel();
        let kept = held(&ledger, &put.tx_id.to_string(), "asset", "shared");
        assert!(kept.is_empty(), "{status}");
    }
    assert!(recorder.pushes.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_called_contract_writes_to_its_own_collections() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let recorder = Recorder::of(&one, None);
    for name in ["asset", "other"] {
        start(&world, &[&one, &two], name).await;
    }
    let call = propose(world.client(1), "asset", &[b"Other", b"other"]);
    assert!(one.send(&call).await.endorsement.is_some());
    assert_eq!(recorder.names(), [("other".to_owned(), "shared".to_owned())]);
}

/// A member is who satisfies the policy, not everybody of an organization that it names.
#[tokio::test(flavor = "multi_thread")]
async fn policies_keep_their_roles() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let members_only = |name: &str, members: &str| StaticCollectionConfig {
        member_only_read: true,
        member_only_write: true,
        ..of(name, members)
    };
    let defined = package([
        members_only("staff", "OR('Org1MSP.admin', 'Org1MSP.peer')"),
        members_only("admins", "OR('Org1MSP.admin')"),
    ]);
    let draft = Draft { collections: Some(defined), ..Draft::new("asset") };
    start_with(&world, &[&one, &two], draft, contract()).await;
    let get = |collection: &'static str| [b"Get".as_ref(), collection.as_bytes(), b"key"];
    let put = |collection: &'static str| [b"Put".as_ref(), collection.as_bytes(), b"key", b"1"];
    for collection in ["staff", "admins"] {
        let told = one.call(world.client(1), "asset", &get(collection)).await;
        assert!(told.message.contains("does not have read access"), "{}", told.message);
        let told = one.call(world.client(1), "asset", &put(collection)).await;
        assert!(told.message.contains("does not have write access"), "{}", told.message);
        let told = one.call(world.admin(2), "asset", &get(collection)).await;
        assert!(told.message.contains("does not have read access"), "{}", told.message);
        let told = one.call(world.admin(1), "asset", &put(collection)).await;
        assert_eq!(told.status, 200, "{}", told.message);
    }
    let told = one.call(world.admin(1), "asset", &get("staff")).await;
    assert_eq!((told.status, told.payload.as_ref()), (200, b"none".as_ref()));
    // No peer is a member of this one, so none holds it.
    let told = one.call(world.admin(1), "asset", &[b"List", b"admins"]).await;
    assert!(told.status >= 400 && !told.message.contains("access"), "{}", told.message);
    let told = one.call(world.admin(1), "asset", &[b"List", b"staff"]).await;
    assert_eq!((told.status, told.payload.as_ref()), (200, b"[]".as_ref()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_members_only() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    start(&world, &[&one, &two], "asset").await;
    let may_not = |what: &str| {
        format!(
            "tx creator does not have {what} access permission on privatedata in \
             chaincodeName:asset collectionName: secrets"
        )
    };
    let stranger = world.client(2);
    for (args, what) in [
        (&[b"Get".as_ref(), b"secrets", b"key"][..], "read"),
        (&[b"List", b"secrets"], "read"),
        (&[b"Put", b"secrets", b"key", b"1"], "write"),
        (&[b"Purge", b"secrets", b"key"], "write"),
    ] {
        for peer in [&one, &two] {
            let told = peer.call(stranger, "asset", args).await;
            assert!(told.status >= 400);
            assert!(told.message.ends_with(&may_not(what)), "{}", told.message);
        }
    }
    let told = one.call(stranger, "asset", &[b"Get", b"_implicit_org_Org1MSP", b"key"]).await;
    assert_eq!((told.status, told.payload.as_ref()), (200, b"none".as_ref()));
    for unknown in ["nothing", "_implicit_org_Org9MSP", "_implicit_org_OrdererMSP"] {
        let told = one.call(stranger, "asset", &[b"Get", unknown.as_bytes(), b"key"]).await;
        let expect = format!("collection supply/asset/{unknown} could not be found");
        assert!(told.message.ends_with(&expect), "{}", told.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_at_peers_of_members_and_hashes_at_all() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    start(&world, &peers, "asset").await;
    let member = world.client(1);
    let put = propose(member, "asset", &[b"Put", b"secrets", b"key", b"value"]);
    let response = one.send(&put).await;
    assert_eq!(two.send(&put).await.payload, response.payload, "peers agree byte by byte");
    let code = world.transact(member, &put, &peers, &peers).await;
    assert_eq!(code, ValidationCode::Valid);

    let get: [&[u8]; 3] = [b"Get", b"secrets", b"key"];
    let told = one.call(member, "asset", &get).await;
    assert_eq!((told.status, told.payload.as_ref()), (200, b"value".as_ref()));
    let told = one.call(member, "asset", &[b"List", b"secrets"]).await;
    assert_eq!(told.payload.as_ref(), br#"["key"]"#);
    // The other peer has endorsed the write too, and still has the hash only.
    let told = two.call(member, "asset", &get).await;
    let version = format!("{{BlockNum: {}, TxNum: 0}}", two.channel().height() - 1);
    let expect = format!(
        "private data matching public hash version is not available. Public hash version = \
         {version}, Private data version = <nil>"
    );
    assert!(told.status >= 400 && told.message.ends_with(&expect), "{}", told.message);
    let told = two.call(member, "asset", &[b"List", b"secrets"]).await;
    assert!(told.message.contains("private data is not available"), "{}", told.message);
    let told = two.call(member, "asset", &[b"Get", b"secrets", b"never"]).await;
    assert_eq!(told.payload.as_ref(), b"none");
    for peer in peers {
        let told = peer.call(world.client(2), "asset", &[b"Hash", b"secrets", b"key"]).await;
        assert_eq!(hex(&told.payload), hex(&weft_crypto::sha256(b"value")));
    }

    let purge = propose(member, "asset", &[b"Purge", b"secrets", b"key"]);
    assert_eq!(world.transact(member, &purge, &[&two], &peers).await, ValidationCode::Valid);
    for peer in peers {
        let told = peer.call(member, "asset", &[b"Hash", b"secrets", b"key"]).await;
        assert_eq!((told.status, told.payload.len()), (200, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_names_the_collections() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    Recorder::of(&one, None);
    start(&world, &[&one, &two], "asset").await;
    let client = world.client(1);
    let needs = async |args: &[&[u8]]| {
        one.send(&propose(client, "asset", args)).await.interest.unwrap().chaincodes
    };
    let public = || ChaincodeCall { name: "asset".to_owned(), ..Default::default() };
    let private = |collection: &str, no_private_reads| ChaincodeCall {
        collection_names: vec![collection.to_owned()],
        no_private_reads,
        ..public()
    };
    assert_eq!(needs(&[b"Put", b"shared", b"key", b"1"]).await, [private("shared", true)]);
    assert_eq!(needs(&[b"Purge", b"shared", b"key"]).await, [private("shared", true)]);
    let read = needs(&[b"Get", b"secrets", b"key"]).await;
    assert_eq!(read, [public(), private("secrets", false)]);
    assert_eq!(needs(&[b"Hash", b"secrets", b"key"]).await, [public()]);
    let both = needs(&[b"PutBoth", b"1"]).await;
    let implicit = private("_implicit_org_Org2MSP", true);
    assert_eq!(both, [public(), implicit, private("secrets", true), private("shared", true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_without_the_capability_do_not_purge() {
    let world = World::with(|profile| {
        let application = profile.application.as_mut().unwrap();
        application.capabilities = ["V2_0".to_owned()].into();
    })
    .await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    start(&world, &[&one, &two], "asset").await;
    let told = one.call(world.client(1), "asset", &[b"Purge", b"secrets", b"key"]).await;
    assert!(
        told.message.ends_with(
            "purge private data is not enabled, channel application capability of V2_5 or later \
             is required"
        ),
        "{}",
        told.message
    );
    let put = propose(world.client(1), "asset", &[b"Put", b"secrets", b"key", b"value"]);
    assert!(one.send(&put).await.endorsement.is_some());
}
