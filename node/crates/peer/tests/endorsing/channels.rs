//! An identity counts under the MSPs of the channel that is asked about, and under no others.

use weft_config::edit;
use weft_msp::SigningIdentity;
use weft_protos::common::Config;
use weft_protos::peer::Response;
use weft_testkit::Network;
use weft_types::{ChannelId, Signer as _};

use crate::support::CHANNEL;
use crate::world::{TestPeer, World, spec};

/// A second channel of the peer.
const SIDE: &str = "side";

/// What a system chaincode answers to a proposal for any channel or for none.
async fn ask(
    peer: &TestPeer,
    creator: &SigningIdentity,
    channel: Option<&str>,
    (chaincode, args): (&str, &[&[u8]]),
) -> Response {
    let mut spec = spec(chaincode, args);
    spec.channel_id = channel.map(|id| ChannelId::new(id).unwrap());
    peer.send(&spec.sign(creator).unwrap()).await.response.unwrap()
}

/// Everything that `qscc` and `cscc` tell of a channel.
fn reads(channel: &str) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let id = || channel.as_bytes().to_vec();
    let arg = |text: &str| text.as_bytes().to_vec();
    vec![
        ("qscc", vec![arg("GetChainInfo"), id()]),
        ("qscc", vec![arg("GetBlockByNumber"), id(), arg("0")]),
        ("qscc", vec![arg("GetBlockByHash"), id(), arg("0")]),
        ("qscc", vec![arg("GetBlockByTxID"), id(), arg("0")]),
        ("qscc", vec![arg("GetTransactionByID"), id(), arg("0")]),
        ("cscc", vec![arg("GetConfigBlock"), id()]),
        ("cscc", vec![arg("GetChannelConfig"), id()]),
    ]
}

async fn reads_nothing_of(
    peer: &TestPeer,
    creator: &SigningIdentity,
    proposed: Option<&str>,
    channel: &str,
) {
    for (chaincode, args) in reads(channel) {
        let args: Vec<_> = args.iter().map(Vec::as_slice).collect();
        let told = ask(peer, creator, proposed, (chaincode, &args)).await;
        let function = String::from_utf8_lossy(args[0]);
        assert_eq!((told.status, told.payload.len()), (500, 0), "{function}");
        let denied = format!("access denied for [{function}][{channel}]");
        assert!(told.message.starts_with(&denied), "{function}: {}", told.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_authority_of_another_channel_reads_nothing_here() {
    let world = World::new().await;
    let peer = world.peer(1).await;
    // The same names, other authorities.
    let side = Network::new(2, 1);
    peer.channels.join(side.genesis(SIDE)).await.unwrap();
    let (intruder, admin) = (&side.org(1).client, &side.org(1).admin);
    let info: (&str, &[&[u8]]) = ("qscc", &[b"GetChainInfo", SIDE.as_bytes()]);
    let told = ask(&peer, intruder, Some(SIDE), info).await;
    assert_eq!(told.status, 200, "that is a member there: {}", told.message);
    for creator in [intruder, admin] {
        reads_nothing_of(&peer, creator, Some(SIDE), CHANNEL).await;
    }
    // Nor does a member of this channel read the other one.
    reads_nothing_of(&peer, world.client(1), Some(CHANNEL), SIDE).await;
    reads_nothing_of(&peer, world.client(1), None, SIDE).await;
    // What is for the peer's own organization is for that of the peer's own MSP.
    let told = ask(&peer, intruder, Some(SIDE), ("cscc", &[b"GetChannels"])).await;
    assert!(told.message.starts_with("access denied for [GetChannels]"), "{}", told.message);
    let install: (&str, &[&[u8]]) = ("_lifecycle", &[b"QueryInstalledChaincodes", b""]);
    let told = ask(&peer, admin, Some(SIDE), install).await;
    assert!(told.message.contains("failed ACL check"), "{}", told.message);
}

/// The configuration of the channel with a member's certificate revoked.
fn revoking(world: &World, config: &Config, org: usize, user: &SigningIdentity) -> Config {
    let mut org = world.network.org(org).clone();
    org.revoke(&[user.certificate().clone()]);
    let mut config = config.clone();
    edit::set_msp(&mut config, &org.msp_id, &org.msp_config()).unwrap();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_in_a_channel_reads_nothing_of_it_without_naming_it_either() {
    let world = World::new().await;
    let peer = world.peer(1).await;
    let user = world.network.org(1).identity("gone", weft_msp::NodeRole::Client);
    let info: (&str, &[&[u8]]) = ("qscc", &[b"GetChainInfo", CHANNEL.as_bytes()]);
    for proposed in [Some(CHANNEL), None] {
        let told = ask(&peer, &user, proposed, info).await;
        assert_eq!(told.status, 200, "{}", told.message);
    }
    let config = revoking(&world, peer.channel().bundle().config(), 1, &user);
    world.configure(&[&peer], &config).await;
    // The peer's own folder does not know of it.
    peer.parts.acl.local().deserialize_identity(&user.serialized_identity()).unwrap();
    reads_nothing_of(&peer, &user, None, CHANNEL).await;
    let other = ask(&peer, world.client(1), None, info).await;
    assert_eq!(other.status, 200, "{}", other.message);
}
