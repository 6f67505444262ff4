//! Blocks with the private data that a client may see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use tokio_util::sync::CancellationToken;
use weft_msp::SigningIdentity;
use weft_msp::policy::SignedData;
use weft_peer::channel::Channel;
use weft_peer::deliver::{EventAccess, PeerBlocks, PrivateDataReply};
use weft_protos::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use weft_protos::orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position};
use weft_protos::peer::deliver_response::Type;
use weft_protos::rwset::TxPvtReadWriteSet;
use weft_rpc::deliver::{BoxError, DeliverOptions, DeliverService, TlsBinding};
use weft_types::{Signer, Timestamp};

use crate::support::{CHAINCODE, CHANNEL};
use crate::world::{BOTH, ONE, Peer, SHORT, World, values};

struct Everybody;

impl EventAccess for Everybody {
    fn check(&self, _: &Channel, _: &str, _: &SignedData) -> Result<(), BoxError> {
        Ok(())
    }
}

fn seek(client: &SigningIdentity, number: u64) -> Envelope {
    let at = |number| SeekPosition {
        r#type: Some(seek_position::Type::Specified(SeekSpecified { number })),
    };
    let channel_header = ChannelHeader {
        r#type: HeaderType::DeliverSeekInfo.into(),
        timestamp: Some(Timestamp::from_system_time(SystemTime::now()).into()),
        channel_id: CHANNEL.to_owned(),
        ..Default::default()
    };
    let signature_header = SignatureHeader {
        creator: client.serialized_identity(),
        nonce: Bytes::copy_from_slice(&weft_testkit::tx::nonce()),
    };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: signature_header.encode_to_vec().into(),
    };
    let seek = SeekInfo { start: Some(at(number)), stop: Some(at(number)), ..Default::default() };
    let payload = Payload { header: Some(header), data: seek.encode_to_vec().into() };
    let payload: Bytes = payload.encode_to_vec().into();
    Envelope { signature: client.sign(&payload).unwrap(), payload }
}

/// What a client of an organization gets beside a block.
async fn sees(
    world: &World,
    peer: &Peer,
    org: usize,
    block: u64,
) -> BTreeMap<u64, TxPvtReadWriteSet> {
    let blocks = PeerBlocks::new(Arc::clone(&peer.channels), Arc::new(Everybody));
    let limits = weft_settings::Limits::default();
    let options = DeliverOptions::new(&limits, TlsBinding::WhenSent, CancellationToken::new());
    let service = DeliverService::new(Arc::new(blocks), options);
    let request = seek(&world.network.org(org).client, block);
    let requests = futures::stream::iter([Ok(request)]);
    let mut responses = service.serve(None, requests, PrivateDataReply);
    let first = responses.next().await.unwrap().unwrap().r#type.unwrap();
    let Type::BlockAndPrivateData(sent) = first else { panic!("{first:?}") };
    assert_eq!(sent.block.unwrap().header.unwrap().number, block);
    let last = responses.next().await.unwrap().unwrap().r#type.unwrap();
    assert_eq!(last, Type::Status(Status::Success.into()));
    sent.private_data_map
}

#[tokio::test(flavor = "multi_thread")]
async fn members_get_private_data_with_blocks() {
    let mut world = World::new().await;
    let peer = world.peer(1).await;
    let mut shared = world.tx(BOTH, &[("a", Some("1"))]);
    let mut own = world.tx(ONE, &[("b", Some("2"))]);
    let part = own.draft.set.namespace(CHAINCODE).2.remove(0);
    shared.draft.set.namespace(CHAINCODE).2.push(part);
    own.draft = shared.draft.clone();
    let mut failing = world.tx(BOTH, &[("c", Some("3"))]);
    failing.draft.endorsers.clear();
    let missing = world.tx(BOTH, &[("d", Some("4"))]);
    let ends = world.tx(SHORT, &[("e", Some("5"))]);
    for tx in [&shared, &own, &failing, &ends] {
        tx.keep(&peer);
    }
    let all = [&failing, &shared, &missing, &ends].map(|tx| tx.envelope());
    world.order(&all);
    peer.reaches(3).await;

    let mut both = values(BOTH, &shared.bytes);
    let short = values(SHORT, &ends.bytes);
    let two = sees(&world, &peer, 2, 2).await;
    assert_eq!(two, BTreeMap::from([(1, both.clone()), (3, short.clone())]));
    let part = values(ONE, &own.bytes).ns_pvt_rwset.remove(0).collection_pvt_rwset.remove(0);
    both.ns_pvt_rwset[0].collection_pvt_rwset.push(part);
    let one = sees(&world, &peer, 1, 2).await;
    assert_eq!(one, BTreeMap::from([(1, both.clone()), (3, short)]));

    world.order_other();
    world.order_other();
    peer.reaches(5).await;
    let later = sees(&world, &peer, 1, 2).await;
    assert_eq!(later, BTreeMap::from([(1, both)]), "what has ended is not sent");
    assert!(sees(&world, &peer, 1, 1).await.is_empty());
    peer.channels.shutdown().await;
}
