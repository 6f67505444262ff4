//! What orderers and administrators send: blocks, configurations, updates of them.

use bytes::Bytes;
use prost::Message as _;
use weft_config::{Bundle, block as config_block, inspect, transition, update};
use weft_msp::ValidAt;
use weft_orderer::membership;
use weft_protos::common::{Block, Config, ConfigUpdate};
use weft_testkit::clock::NOW;
use weft_types::block::{self, metadata};

use crate::fixture::BUNDLE;

/// A block from Deliver, or one that a channel is joined with.
pub(crate) fn block(data: &[u8]) {
    let Ok(received) = Block::decode(Bytes::copy_from_slice(data)) else { return };
    let _ = metadata::filter(&received).map(|filter| filter.iter().count());
    let _ = metadata::commit_hash(&received);
    let _ = metadata::orderer_metadata(&received);
    let _ = metadata::signatures(&received);
    let _ = config_block::last_config_index(&received);
    let _ = config_block::verify_signatures(&BUNDLE, &received, ValidAt::Issuance);
    if block::check(&received).is_ok() {
        let header = block::header(&received).expect("a block that was checked has a header");
        assert_eq!(block::data_hash(block::transactions(&received))[..], header.data_hash[..]);
    }
    if let Ok(bundle) = config_block::bundle_from_block(&received) {
        let _ = membership::keys(&bundle);
        let _ = bundle.tls_root_certs();
    }
}

/// The configuration of a channel.
pub(crate) fn config(data: &[u8]) {
    let Ok(config) = Config::decode(Bytes::copy_from_slice(data)) else { return };
    let _ = inspect::view(BUNDLE.channel_id(), &config).to_json();
    let Ok(next) = Bundle::new(BUNDLE.channel_id().clone(), config) else { return };
    let _ = transition::check(&BUNDLE, &next);
    let _ = transition::check_consensus(&BUNDLE, &next, NOW);
    let _ = update::compute(BUNDLE.channel_id(), BUNDLE.config(), next.config());
}

/// A config update, as its signers sign it.
pub(crate) fn config_update(data: &[u8]) {
    let Ok(decoded) = ConfigUpdate::decode(data) else { return };
    let signed = weft_protos::common::ConfigUpdateEnvelope {
        config_update: decoded.encode_to_vec().into(),
        signatures: Vec::new(),
    };
    let envelope = unsigned_update(&signed);
    let _ = BUNDLE.propose(&envelope, NOW);
}

fn unsigned_update(
    update: &weft_protos::common::ConfigUpdateEnvelope,
) -> weft_protos::common::Envelope {
    use weft_protos::common::{ChannelHeader, Envelope, Header, HeaderType, Payload};
    let header = ChannelHeader {
        r#type: HeaderType::ConfigUpdate.into(),
        channel_id: BUNDLE.channel_id().to_string(),
        ..ChannelHeader::default()
    };
    let header = Header { channel_header: header.encode_to_vec().into(), ..Header::default() };
    let payload = Payload { header: Some(header), data: update.encode_to_vec().into() };
    Envelope { payload: payload.encode_to_vec().into(), signature: Bytes::new() }
}
