//! `cscc` and `qscc`.

use prost::Message;
use weft_peer::endorser::{Endorser, EndorserParts};
use weft_protos::common::{Block, BlockchainInfo, Config};
use weft_protos::peer::{ChannelQueryResponse, ProcessedTransaction};
use weft_types::block;

use crate::support::CHANNEL;
use crate::world::{Draft, World, propose};

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_joined_and_told_about() {
    let world = World::new().await;
    let one = world.lone_peer(1);
    let (admin, client) = (world.admin(1), world.client(1));
    let genesis = world.genesis().encode_to_vec();
    let list = async || {
        let response = one.call_local(client, "cscc", &[b"GetChannels"]).await;
        let found = ChannelQueryResponse::decode(response.payload).unwrap();
        found.channels.into_iter().map(|channel| channel.channel_id).collect::<Vec<_>>()
    };
    assert!(list().await.is_empty());
    let refused = one.call_local(client, "cscc", &[b"JoinChain", &genesis]).await;
    assert!(refused.message.starts_with("access denied for [JoinChain]: "), "{}", refused.message);
    let junk = one.call_local(admin, "cscc", &[b"JoinChain", b"\xff"]).await;
    assert!(
        junk.message.starts_with("Failed to reconstruct the genesis block"),
        "{}",
        junk.message
    );
    let empty = one.call_local(admin, "cscc", &[b"JoinChain", b""]).await;
    assert!(empty.message.starts_with("\"JoinChain\" failed: "), "{}", empty.message);

    let joined = one.call_local(admin, "cscc", &[b"JoinChain", &genesis]).await;
    assert_eq!(joined.status, 200, "{}", joined.message);
    assert_eq!(list().await, [CHANNEL]);
    let again = one.call_local(admin, "cscc", &[b"JoinChain", &genesis]).await;
    assert_eq!(
        (again.status, again.message.as_str()),
        (
            500,
            "cannot create ledger from genesis block: ledger [supply] already exists with state [ACTIVE]"
        )
    );

    let id = CHANNEL.as_bytes();
    let newest = one.call_local(client, "cscc", &[b"GetConfigBlock", id]).await;
    let newest = Block::decode(newest.payload).unwrap();
    assert_eq!(newest.header, world.genesis().header);
    let config = one.call(client, "cscc", &[b"GetChannelConfig", id]).await;
    assert_eq!(&Config::decode(config.payload).unwrap(), one.channel().bundle().config());

    let cases: [(&[&[u8]], &str); 6] = [
        (&[], "Incorrect number of arguments, 0"),
        (&[b"GetConfigBlock"], "Incorrect number of arguments, 1"),
        (&[b"GetConfigBlock", b"none"], "Unknown channel ID, none"),
        (&[b"GetChannelConfig", b""], "empty channel name provided"),
        (&[b"Nothing", b""], "Requested function Nothing not found."),
        (&[b"JoinChainBySnapshot", b"/dir"], "JoinChainBySnapshot is not supported"),
    ];
    for (args, text) in cases {
        let response = one.call_local(admin, "cscc", args).await;
        assert_eq!(response.status, 500, "{text}");
        assert!(response.message.contains(text), "{text}: {}", response.message);
    }
    let other = one.send(&propose(world.client(2), "cscc", &[b"GetChannels"])).await;
    assert!(other.endorsement.is_none(), "the list is for the peer's own organization");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_transactions_are_found() {
    let world = World::new().await;
    let one = world.peer(1).await;
    let approve = Draft::new("asset").approve(world.admin(1), "label:00");
    world.transact(world.admin(1), &approve, &[&one], &[&one]).await;
    let client = world.client(2);
    let ask = async |args: &[&[u8]]| one.call(client, "qscc", args).await;
    let id = CHANNEL.as_bytes();

    let info = ask(&[b"GetChainInfo", id]).await;
    let info = BlockchainInfo::decode(info.payload).unwrap();
    assert_eq!(info.height, 2);
    let second = one.channel().block(1).unwrap().unwrap();
    let tx_id = approve.tx_id.to_string();
    let numbers: [&[&[u8]]; 4] = [
        &[b"GetBlockByNumber", id, b"1"],
        &[b"GetBlockByNumber", id, b"18446744073709551615"],
        &[b"GetBlockByHash", id, &info.current_block_hash],
        &[b"GetBlockByTxID", id, tx_id.as_bytes()],
    ];
    for args in numbers {
        let response = ask(args).await;
        assert_eq!(response.status, 200, "{}", response.message);
        assert_eq!(&Block::decode(response.payload).unwrap(), second.as_ref());
    }
    let found = ask(&[b"GetTransactionByID", id, tx_id.as_bytes()]).await;
    let found = ProcessedTransaction::decode(found.payload).unwrap();
    assert_eq!(found.validation_code, 0);
    assert_eq!(
        found.transaction_envelope.unwrap().encode_to_vec(),
        block::transactions(&second)[0]
    );

    let cases: [(&[&[u8]], &str); 9] = [
        (&[b"GetChainInfo"], "Incorrect number of arguments, 1"),
        (&[b"GetBlockByNumber", id], "missing 3rd argument for GetBlockByNumber"),
        (&[b"GetChainInfo", b"none"], "Invalid chain ID, none"),
        (&[b"GetBlockByNumber", id, b"one"], "Failed to parse block number with error"),
        (
            &[b"GetBlockByNumber", id, b"2"],
            "Failed to get block number 2, error no such block number [2] in index",
        ),
        (
            &[b"GetBlockByHash", id, b"\x01"],
            "Failed to get block hash 01, error no such block hash [01] in index",
        ),
        (
            &[b"GetBlockByTxID", id, b"ab"],
            "Failed to get block for txID ab, error no such transaction ID [ab] in index",
        ),
        (
            &[b"GetTransactionByID", id, b"ab"],
            "Failed to get transaction with id ab, error no such transaction ID [ab] in index",
        ),
        (&[b"Nothing", id, b""], "access denied for [Nothing][supply]"),
    ];
    for (args, text) in cases {
        let response = ask(args).await;
        assert_eq!(response.status, 500, "{text}");
        assert!(response.message.contains(text), "{text}: {}", response.message);
    }
    // Queries are endorsed with nothing read or written.
    let response = one.send(&propose(client, "qscc", &[b"GetChainInfo", id])).await;
    assert!(crate::layout::rwset(response).namespaces.is_empty());
}

/// A block that would fill a message twice over, as the answer of a call and in what is signed of
/// it, is left to Deliver.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_larger_than_an_answer_is_refused() {
    let world = World::new().await;
    let mut one = world.peer(1).await;
    let genesis = one.channel().block(0).unwrap().unwrap().encoded_len();
    let message = genesis.div_ceil(12) * 25;
    for (message, status) in [(message, 200), (message - 25, 500)] {
        let system = one.parts.system.clone().with_message_limit(message);
        one.endorser = Endorser::new(EndorserParts { system, ..one.parts.clone() });
        let args: &[&[u8]] = &[b"GetBlockByNumber", CHANNEL.as_bytes(), b"0"];
        let told = one.call(world.client(1), "qscc", args).await;
        assert_eq!((told.status, told.payload.is_empty()), (status, status == 500));
        let refused = told.message.contains("take blocks of this size from Deliver");
        assert_eq!(refused, status == 500, "{}", told.message);
    }
}
