//! What a client may try that has the right to send, and tries twice: replays, double spends,
//! joining again, config updates that were altered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use support::{BASIC, PATIENCE, authority, channel, node_named, nonce, now, user, user_tls};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weft_client::{Call, ClientError, Connection, ConnectionSpec, Gateway, Orderer, Participation};
use weft_config::{BatchSize, Bundle, edit};
use weft_e2e::LocalNetwork;
use weft_operator::local::layout::ORDERING;
use weft_operator::pki::RootUse;
use weft_protos::common::{Envelope, Status};
use weft_protos::peer::endorser_client::EndorserClient;
use weft_testkit::tx;
use weft_types::proposal::ProposalSpec;
use weft_types::{ChannelId, Signer, TxId, ValidationCode, block, transaction};

fn supply() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

fn orderer(network: &LocalNetwork, name: &str) -> Orderer {
    let node = node_named(network, name);
    let root = authority(network, ORDERING, RootUse::Tls);
    let spec = ConnectionSpec {
        address: node.grpc,
        server_name: None,
        roots: vec![root.certificate().clone()],
        client: None,
    };
    let signer = Arc::new(user(network, ORDERING, "admin"));
    Orderer::new(Connection::new(&spec).unwrap(), signer)
}

/// Codes of every copy of a transaction on an organization's first peer.
async fn copies(network: &LocalNetwork, org: usize, tx_id: &TxId) -> Vec<ValidationCode> {
    let peer = network.peer(org, 0).unwrap();
    let height = peer.chain_info(&supply()).await.unwrap().height;
    let mut codes = Vec::new();
    for number in 0..height {
        let block = peer.block(&supply(), number).await.unwrap();
        let filter = block::metadata::filter(&block).unwrap();
        for (index, raw) in block::transactions(&block).iter().enumerate() {
            let parsed = weft_types::ParsedEnvelope::parse(raw.clone()).unwrap();
            if parsed.header().tx_id_text() == tx_id.to_string() {
                codes.push(filter.get(index).unwrap());
            }
        }
    }
    codes
}

/// Waits until both peers have as many copies, and gives their codes.
async fn all_copies(network: &LocalNetwork, tx_id: &TxId, many: usize) -> Vec<ValidationCode> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let both = [copies(network, 0, tx_id).await, copies(network, 1, tx_id).await];
        if both.iter().all(|codes| codes.len() == many) {
            assert_eq!(both[0], both[1], "the peers agree");
            return both[0].clone();
        }
        assert!(Instant::now() < deadline, "{many} copies do not come: {both:?}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sent_again_counts_once() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    let asset = ["a1", "blue", "5", "Ann", "300"];
    let (envelope, submitted) =
        gateway.endorse(Call::new("asset", "CreateAsset", asset)).await.unwrap();
    // By two orderers, and twice on one of them: each takes it, as none of them knows it.
    for name in ["orderer0", "orderer1", "orderer1"] {
        orderer(&network, name).broadcast(envelope.clone()).await.unwrap();
    }
    let once = |copies: usize| {
        let mut codes = vec![ValidationCode::DuplicateTxid; copies];
        codes[0] = ValidationCode::Valid;
        codes
    };
    assert_eq!(all_copies(&network, &submitted.tx_id, 3).await, once(3));
    // The Gateway tells of the copy that counts.
    assert_eq!(gateway.commit_status(&submitted.tx_id).await.unwrap().0, ValidationCode::Valid);
    // Peers know it after a restart as well.
    for name in ["peer0.org1", "peer0.org2"] {
        network.kill(name).await.unwrap();
    }
    network.up().await.unwrap();
    orderer(&network, "orderer2").broadcast(envelope).await.unwrap();
    assert_eq!(all_copies(&network, &submitted.tx_id, 4).await, once(4));
    let gateway = network.gateway(1).unwrap();
    let steps = gateway.evaluate(Call::new("asset", "GetAssetHistory", ["a1"])).await.unwrap();
    let steps: serde_json::Value = serde_json::from_slice(&steps).unwrap();
    assert_eq!(steps.as_array().unwrap().len(), 1, "it was written once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_sent_again_makes_no_second_transaction() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let client = user(&network, "org1", "user1");
    let args = ["CreateAsset", "a1", "blue", "5", "Ann", "300"];
    let spec = ProposalSpec {
        channel_id: Some(supply()),
        chaincode: "asset".to_owned(),
        args: args.map(Bytes::from).to_vec(),
        transient: BTreeMap::new(),
        is_init: false,
        timestamp: now(),
        nonce: nonce(),
    };
    let built = spec.sign(&client).unwrap();
    let node = node_named(&network, "peer0.org1");
    let mut endorser = EndorserClient::new(channel(&network, &node, &node.grpc, None));
    let mut envelopes = Vec::new();
    // Before it is on the ledger nobody can know: both copies are endorsed.
    for _ in 0..2 {
        let response = endorser.process_proposal(built.signed.clone()).await.unwrap().into_inner();
        assert_eq!(response.response.as_ref().unwrap().status, 200);
        envelopes
            .push(transaction::assemble_signed(&built.proposal, &[response], &client).unwrap());
    }
    for (envelope, name) in envelopes.into_iter().zip(["orderer0", "orderer2"]) {
        orderer(&network, name).broadcast(envelope).await.unwrap();
    }
    let codes = all_copies(&network, &built.tx_id, 2).await;
    assert_eq!(codes, [ValidationCode::Valid, ValidationCode::DuplicateTxid]);
    let refused = endorser.process_proposal(built.signed).await;
    let refusal = match refused {
        Err(status) => status.message().to_owned(),
        Ok(answer) => answer.into_inner().response.unwrap().message,
    };
    assert!(refusal.contains("duplicate transaction"), "{refusal}");
}

/// Value and owners of every asset, and the sum of the values.
async fn assets(gateway: &Gateway) -> (u64, BTreeMap<String, String>) {
    let all = gateway.evaluate(Call::new("asset", "GetAllAssets", [""; 0])).await.unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&all).unwrap();
    let text = |asset: &serde_json::Value, field: &str| asset[field].as_str().unwrap().to_owned();
    let sum = all.iter().map(|asset| asset["AppraisedValue"].as_u64().unwrap()).sum();
    (sum, all.iter().map(|asset| (text(asset, "ID"), text(asset, "Owner"))).collect())
}

/// 100 clients give the same asset away at one time; all have seen that it is theirs to give.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_spends_one_is_valid() {
    const SPENDS: usize = 100;
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateways = [network.gateway(0).unwrap(), network.gateway(1).unwrap()];
    gateways[0].submit(Call::new("asset", "InitLedger", [""; 0])).await.unwrap();
    network.settled().await.unwrap();
    let (sum, before) = assets(&gateways[0]).await;
    for round in 0..3 {
        network.settled().await.unwrap();
        let mut endorsed = JoinSet::new();
        for spend in 0..SPENDS {
            let gateway = gateways[spend % 2].clone();
            let call =
                Call::new("asset", "TransferAsset", ["asset1", &format!("r{round}s{spend}")]);
            endorsed.spawn(async move { (spend, gateway.endorse(call).await.unwrap()) });
        }
        let endorsed = endorsed.join_all().await;
        let mut spends = JoinSet::new();
        for (spend, (envelope, submitted)) in endorsed {
            let gateway = gateways[spend % 2].clone();
            spends.spawn(async move {
                gateway.send(envelope, &submitted.tx_id).await.unwrap();
                (spend, gateway.commit_status(&submitted.tx_id).await.unwrap().0)
            });
        }
        let outcomes = spends.join_all().await;
        let (valid, lost): (Vec<_>, Vec<_>) =
            outcomes.into_iter().partition(|(_, code)| *code == ValidationCode::Valid);
        let [(winner, _)] = valid[..] else { panic!("round {round}: {valid:?} are valid") };
        assert!(lost.iter().all(|(_, code)| *code == ValidationCode::MvccReadConflict), "{lost:?}");
        network.settled().await.unwrap();
        let winner = format!("r{round}s{winner}");
        for gateway in &gateways {
            let (now, owners) = assets(gateway).await;
            assert_eq!(now, sum, "no value is made or lost");
            assert_eq!(owners["asset1"], winner);
            assert!(owners.keys().eq(before.keys()));
            // The index, which the same transactions wrote, agrees.
            let call = Call::new("asset", "GetAssetsByOwner", [winner.clone()]);
            let owned = gateway.evaluate(call).await.unwrap();
            let owned: Vec<serde_json::Value> = serde_json::from_slice(&owned).unwrap();
            assert_eq!(owned.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_again_is_refused_and_harms_nothing() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let gateway = network.gateway(0).unwrap();
    gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
    let (height, hash) = network.settled().await.unwrap();
    let genesis = orderer(&network, "orderer0").config_block(&supply()).await.unwrap();
    let peer = network.peer(0, 0).unwrap();
    let node = node_named(&network, "orderer0");
    let spec = ConnectionSpec {
        address: node.extra.clone(),
        server_name: None,
        roots: vec![authority(&network, ORDERING, RootUse::Tls).certificate().clone()],
        client: Some(user_tls(&network, ORDERING, "admin")),
    };
    let participation = Participation::new(&spec).unwrap();
    let mut joins = JoinSet::new();
    for _ in 0..10 {
        let (peer, participation, block) = (peer.clone(), participation.clone(), genesis.clone());
        joins.spawn(async move { (peer.join(&block).await, participation.join(&block).await) });
    }
    for (at_peer, at_orderer) in joins.join_all().await {
        let error = at_peer.unwrap_err();
        assert!(matches!(error, ClientError::Proposal { status: 500, .. }), "{error}");
        assert!(error.to_string().contains("already"), "{error}");
        let error = at_orderer.unwrap_err();
        assert!(matches!(error, ClientError::Participation { status: 405, .. }), "{error}");
        assert!(error.to_string().contains("already exists"), "{error}");
    }
    assert_eq!(network.settled().await.unwrap(), (height, hash));
    assert_eq!(peer.channels().await.unwrap(), ["supply"]);
    gateway.submit(Call::new("asset", "Put", ["k", "w"])).await.unwrap();
    for name in ["peer0.org1", "orderer0"] {
        network.kill(name).await.unwrap();
    }
    network.up().await.unwrap();
    network.settled().await.unwrap();
    let gateway = network.gateway(0).unwrap();
    assert_eq!(gateway.evaluate(Call::new("asset", "Get", ["k"])).await.unwrap(), "w");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_updates_that_were_altered_are_refused() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    let orderer = orderer(&network, "orderer0");
    let bundle = async || -> Bundle {
        let block = orderer.config_block(&supply()).await.unwrap();
        weft_config::block::bundle_from_block(&block).unwrap()
    };
    let update = |bundle: &Bundle, most: u32, signers: &[&dyn Signer]| {
        let mut config = bundle.config().clone();
        let size = BatchSize { max_message_count: most, ..BatchSize::default() };
        edit::set_batch_size(&mut config, size).unwrap();
        tx::config_update(bundle, &config, signers)
    };
    let refused = async |what: &str, envelope: Envelope| match orderer.broadcast(envelope).await {
        Err(ClientError::Broadcast { status, info, .. }) => {
            println!("{what}: {status:?}: {info}");
            status
        }
        other => panic!("{what}: {other:?}"),
    };
    let admin = user(&network, ORDERING, "admin");
    let member = user(&network, "org1", "admin");
    let current = bundle().await;
    // Members do not decide how blocks are cut.
    let status = refused("of a member", update(&current, 7, &[&member])).await;
    assert_eq!(status, Status::Forbidden);
    let status =
        refused("of a client", update(&current, 7, &[&user(&network, "org1", "user1")])).await;
    assert_eq!(status, Status::Forbidden);
    // Every byte of a sound update counts: one that is changed makes it another.
    let sound = update(&current, 7, &[&admin]);
    let mut seeded = support::Random::seeded();
    for _ in 0..20 {
        let mut altered = sound.payload.to_vec();
        let place = seeded.below(altered.len());
        altered[place] ^= 1 << seeded.below(8);
        let envelope = Envelope { payload: altered.into(), signature: sound.signature.clone() };
        let status = refused(&format!("byte {place} altered"), envelope).await;
        assert!(matches!(status, Status::Forbidden | Status::BadRequest), "{status:?}");
    }
    assert_eq!(bundle().await.sequence(), current.sequence());
    // The sound one passes, once.
    orderer.broadcast(sound.clone()).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while bundle().await.sequence() == current.sequence() {
        assert!(Instant::now() < deadline, "the update does not take effect");
        sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = refused("sent again", sound).await;
    assert_eq!(status, Status::BadRequest);
    assert_eq!(bundle().await.orderer().unwrap().batch_size.max_message_count, 7);
    let gateway = network.gateway(0).unwrap();
    gateway.submit(Call::new("asset", "Put", ["k", "v"])).await.unwrap();
    network.settled().await.unwrap();
}
