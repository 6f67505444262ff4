//! A peer whose MSP folder is renewed while it endorses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_msp::NodeRole;
use weft_testkit::Org;
use weft_types::Signer as _;

use crate::support::CHANNEL;
use crate::world::{TestPeer, World, propose};

async fn endorser_of(world: &World, peer: &TestPeer) -> bytes::Bytes {
    let args: [&[u8]; 2] = [b"GetChainInfo", CHANNEL.as_bytes()];
    let response = peer.send(&propose(world.client(1), "qscc", &args)).await;
    let endorsement = response.endorsement.expect("it is endorsed");
    // The signature is of the certificate that the endorsement names.
    let signed = [&response.payload[..], &endorsement.endorser[..]].concat();
    let msps = peer.channel().bundle().msps().clone();
    let endorser = msps.deserialize_identity(&endorsement.endorser).unwrap();
    endorser.verify(&signed, &endorsement.signature).unwrap();
    endorsement.endorser
}

#[tokio::test(flavor = "multi_thread")]
async fn endorsements_name_the_certificate_that_is_current() {
    let world = World::new().await;
    let peer = world.peer(1).await;
    let org = world.network.org(1);
    let now = weft_testkit::clock::NOW;
    assert_eq!(endorser_of(&world, &peer).await, org.peer.serialized_identity());

    let renewed = org.identity("peer0", NodeRole::Peer);
    assert!(peer.msp.renew(org.msp_config(), renewed.clone(), now).unwrap().identity);
    assert_eq!(endorser_of(&world, &peer).await, renewed.serialized_identity());

    let other = Org::new("Org1MSP");
    peer.msp.renew(org.msp_config(), other.peer.clone(), now).unwrap_err();
    peer.msp.renew(other.msp_config(), other.peer.clone(), now).unwrap_err();
    peer.msp.renew(org.msp_config(), org.admin.clone(), now).unwrap_err();
    assert_eq!(endorser_of(&world, &peer).await, renewed.serialized_identity());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endorsement_holds_while_certificates_change() {
    let world = Arc::new(World::new().await);
    let peer = Arc::new(world.peer(1).await);
    let done = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let (world, peer, done) = (world.clone(), peer.clone(), done.clone());
            tokio::spawn(async move {
                let mut asked = 0;
                while !done.load(Ordering::Acquire) || asked == 0 {
                    endorser_of(&world, &peer).await;
                    asked += 1;
                }
            })
        })
        .collect();
    let org = world.network.org(1);
    for n in 0..50 {
        let renewed = org.identity(&format!("peer{n}"), NodeRole::Peer);
        peer.msp.renew(org.msp_config(), renewed, weft_testkit::clock::NOW).unwrap();
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Release);
    for task in asking {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_administrator_is_refused_without_a_restart() {
    let world = World::new().await;
    let peer = world.peer(1).await;
    let mut org = world.network.org(1).clone();
    let joined = async || peer.call_local(world.admin(1), "cscc", &[b"GetChannels"]).await.status;
    assert_eq!(joined().await, 200);
    let admin = org.admin.certificate().clone();
    org.revoke(&[admin]);
    let renewal =
        peer.msp.renew(org.msp_config(), org.peer.clone(), weft_testkit::clock::NOW).unwrap();
    assert!(renewal.definition && !renewal.identity);
    let spec = crate::world::spec("cscc", &[b"GetChannels"]);
    let mut local = spec;
    local.channel_id = None;
    let refused = peer.try_send(&local.sign(world.admin(1)).unwrap()).await;
    assert!(refused.is_err(), "{refused:?}");
}
