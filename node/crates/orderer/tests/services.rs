#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! What clients and administrators see of one orderer.

mod support;

use std::sync::Arc;

use support::*;
use weft_client::{ClientError, Connection};
use weft_config::{BatchSize, ConsensusState, edit};
use weft_msp::SigningIdentity;
use weft_protos::common::{Block, Envelope, HeaderType, Status};
use weft_testkit::clock::EXPIRED;
use weft_testkit::network::Network;
use weft_testkit::org::Org;
use weft_types::seek::Position;
use weft_types::{ChannelId, block};

async fn one() -> (Network, Node) {
    let network = network(1);
    let node = started(&network, &network.genesis("supply")).await.remove(0);
    eventually("it leads", || node.leads()).await;
    (network, node)
}

async fn send(node: &Node, signer: &SigningIdentity, envelope: Envelope) -> Status {
    status_of(node.client(signer).broadcast(envelope).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envelopes_are_refused_with_fabrics_statuses() {
    let (network, mut node) = one().await;
    let client = &network.org(1).client;
    let good = transaction(client, "good");
    assert_eq!(send(&node, client, good.clone()).await, Status::Success);

    let empty = Envelope::default();
    assert_eq!(send(&node, client, empty).await, Status::BadRequest);
    let garbage = Envelope { payload: "garbage".into(), ..good.clone() };
    assert_eq!(send(&node, client, garbage).await, Status::BadRequest);
    let forged = Envelope { signature: "forged".into(), ..good.clone() };
    assert_eq!(send(&node, client, forged).await, Status::Forbidden);
    let stranger = Org::new("Org9MSP").client;
    assert_eq!(send(&node, client, transaction(&stranger, "x")).await, Status::Forbidden);
    let expired = network.org(1).identity_valid("old", weft_msp::NodeRole::Client, EXPIRED);
    assert_eq!(send(&node, client, transaction(&expired, "x")).await, Status::BadRequest);
    for kind in [HeaderType::Config, HeaderType::OrdererTransaction] {
        let direct = envelope(kind, client, "x".into());
        assert_eq!(send(&node, client, direct).await, Status::BadRequest, "{kind:?}");
    }
    let large = transaction(client, &"x".repeat(10 * 1024 * 1024 + 1));
    assert_eq!(send(&node, client, large).await, Status::BadRequest);

    eventually("just the good one is ordered", || node.height() == 2).await;
    assert_eq!(transactions(&node), vec![encoded(&good)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_changes_need_the_right_people() {
    let (network, mut node) = one().await;
    let size = BatchSize { max_message_count: 3, ..BatchSize::default() };
    let change = |config: &mut _| edit::set_batch_size(config, size).unwrap();
    let bundle = node.channel().bundle();

    let mut changed = bundle.config().clone();
    change(&mut changed);
    let client = &network.org(1).client;
    let alone = weft_testkit::tx::config_update(&bundle, &changed, &[client]);
    assert_eq!(send(&node, client, alone).await, Status::Forbidden);
    assert_eq!(reconfigure(&node, &network, change).await, Status::Success);
    eventually("it is in force", || node.channel().bundle().sequence() == 1).await;
    assert_eq!(node.channel().bundle().orderer().unwrap().batch_size, size);
    eventually("its block can be read", || *node.channel().height().borrow() == 2).await;

    // The same update again is not based on the present configuration.
    let stale = update(&bundle, &network, change);
    assert_eq!(send(&node, client, stale).await, Status::BadRequest);

    let last = newest(&node.client(client)).await;
    assert_eq!(block::metadata::last_config(&last).unwrap(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_maintenance_only_configurations_are_taken() {
    let (network, mut node) = one().await;
    let client = &network.org(1).client;
    let enter = |config: &mut _| {
        edit::set_consensus_state(config, ConsensusState::Maintenance).unwrap();
    };
    let orderer_admin = &network.orderer_org.admin;
    let maintain = update(&node.channel().bundle(), &network, enter);
    assert_eq!(send(&node, orderer_admin, maintain).await, Status::Success);
    eventually("it is in force", || node.channel().bundle().sequence() == 1).await;
    let refused = send(&node, client, transaction(client, "x")).await;
    assert_eq!(refused, Status::ServiceUnavailable);
    // Readers outside the ordering organization are locked out as well.
    let denied = node.client(client).block(&channel(), Position::Newest).await;
    let forbidden = |error: &ClientError| {
        matches!(error, ClientError::Deliver { status: Status::Forbidden, .. })
    };
    assert!(denied.is_err_and(|error| forbidden(&error)));
    node.client(orderer_admin).block(&channel(), Position::Newest).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_delivered_to_members_and_verify() {
    let (network, mut node) = one().await;
    let client = &network.org(1).client;
    broadcast(&node.client(client), &transaction(client, "one")).await;
    eventually("it is ordered", || node.height() == 2).await;
    let reader = node.client(client);
    let genesis = reader.block(&channel(), Position::Oldest).await.unwrap();
    assert_eq!(genesis, network.genesis_like(&genesis));
    let one = reader.block(&channel(), Position::Block(1)).await.unwrap();
    let bundle = node.channel().bundle();
    weft_config::block::verify(&bundle, &one, now()).unwrap();
    let (first, second) = (genesis.header.unwrap(), one.header.clone().unwrap());
    block::check_link(&first, &second).unwrap();

    let status = |result: Result<Block, ClientError>| match result {
        Err(ClientError::Deliver { status, .. }) => status,
        other => panic!("no status: {other:?}"),
    };
    assert_eq!(status(reader.block(&channel(), Position::Block(9)).await), Status::NotFound);
    let elsewhere = ChannelId::new("elsewhere").unwrap();
    assert_eq!(status(reader.block(&elsewhere, Position::Newest).await), Status::NotFound);
    let stranger = node.client(&Org::new("Org9MSP").client);
    assert_eq!(status(stranger.block(&channel(), Position::Newest).await), Status::Forbidden);
    node.stop().await;
}

trait GenesisLike {
    fn genesis_like(&self, block: &Block) -> Block;
}

impl GenesisLike for Network {
    /// A genesis block is the same for everybody.
    fn genesis_like(&self, block: &Block) -> Block {
        block::check(block).unwrap();
        assert!(weft_config::block::is_config_block(block));
        block.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_participation_api_joins_lists_and_removes() {
    let network = network(1);
    let mut node = Node::new(&network, &network.orderers[0]);
    node.start(&network).await;
    let admin = node.admin(&network);
    assert!(admin.channels().await.unwrap().is_empty());
    assert_eq!(admin.channel(&channel()).await.unwrap(), None);
    let genesis = network.genesis("supply");
    let joined = admin.join(&genesis).await.unwrap();
    assert_eq!(joined.name, "supply");
    assert_eq!(joined.consensus_relation, "consenter");
    assert_eq!((joined.status.as_str(), joined.height), ("active", 1));
    assert_eq!(admin.channels().await.unwrap(), ["supply"]);
    assert_eq!(admin.channel(&channel()).await.unwrap().unwrap().height, 1);

    let code = |error: ClientError| match error {
        ClientError::Participation { status, .. } => status,
        other => panic!("no status: {other}"),
    };
    assert_eq!(code(admin.join(&genesis).await.unwrap_err()), 405);
    let mut damaged = network.genesis("other");
    damaged.header.as_mut().unwrap().data_hash = "x".into();
    assert_eq!(code(admin.join(&damaged).await.unwrap_err()), 400);
    assert_eq!(code(admin.join(&Block::default()).await.unwrap_err()), 400);

    admin.remove(&channel()).await.unwrap();
    assert_eq!(code(admin.remove(&channel()).await.unwrap_err()), 404);
    assert!(admin.channels().await.unwrap().is_empty());
    // A channel that was left can be joined again.
    admin.join(&genesis).await.unwrap();
    eventually("it leads again", || node.leads()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_get_through_tls() {
    let (network, mut node) = one().await;
    let stranger = Org::new("Org9MSP").tls("stranger", &[]);
    let nobody = node.admin_with(None).channels().await;
    assert!(matches!(nobody, Err(ClientError::Https { .. })), "{nobody:?}");
    let wrong = node.admin_with(Some(tls_identity(&stranger))).channels().await;
    assert!(matches!(wrong, Err(ClientError::Https { .. })), "{wrong:?}");
    // A member's certificate is good for the channel's port, and not for the administrators'.
    let member = tls_identity(&network.org(1).tls("app", &[]));
    let member_admin = node.admin_with(Some(member.clone())).channels().await;
    assert!(matches!(member_admin, Err(ClientError::Https { .. })), "{member_admin:?}");
    let client = &network.org(1).client;
    let connect = |identity| {
        let connection = Connection::new(&node.spec(Some(identity))).unwrap();
        weft_client::Orderer::new(connection, Arc::new(client.clone()))
    };
    newest(&connect(member)).await;
    let refused = connect(tls_identity(&stranger)).block(&channel(), Position::Newest).await;
    assert!(matches!(refused, Err(ClientError::Rpc { .. })), "{refused:?}");
    node.stop().await;
}
