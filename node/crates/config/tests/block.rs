//! Config blocks and the orderers' signatures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use prost::Message;
use weft_config::{
    Bundle,
    block::{self, BlockError},
    edit, genesis,
};
use weft_msp::ValidAt;
use weft_protos::common::{
    Block, BlockMetadataIndex, Envelope, IdentifierHeader, Metadata, MetadataSignature,
};
use weft_testkit::{
    Network, Org,
    clock::{EXPIRED, NOW},
    network, tx,
};
use weft_types::{
    Signer,
    block::metadata::{self, OrdererMetadata, signed_bytes},
};

fn start() -> (Network, Bundle, Block) {
    let network = Network::new(1, 4);
    let bundle = network.bundle("supply");
    let genesis = network.genesis("supply");
    (network, bundle, genesis)
}

fn transaction(network: &Network, bundle: &Bundle) -> Envelope {
    let org = network.org(1);
    tx::endorser_transaction(bundle.channel_id(), "asset", Bytes::new(), &org.client, &[&org.peer])
        .1
}

#[test]
fn a_config_block_leads_to_the_next_bundle() {
    let (network, bundle, genesis) = start();
    let mut wanted = bundle.config().clone();
    edit::set_batch_timeout(&mut wanted, std::time::Duration::from_secs(9)).unwrap();
    let update = tx::config_update(&bundle, &wanted, &[&network.orderer_org.admin]);
    let orderer = &network.orderers[0].identity;
    let (config_block, next) = tx::config_block(&bundle, &genesis, &update, orderer);
    assert!(block::is_config_block(&config_block));
    assert_eq!(block::last_config_index(&config_block).unwrap(), 1);
    block::verify(&bundle, &config_block, NOW).unwrap();
    let received = block::next_bundle(&bundle, &config_block, ValidAt::Issuance).unwrap();
    assert_eq!(received.config(), next.config());

    let other = network.bundle("other");
    let refused = block::next_bundle(&other, &config_block, NOW);
    assert!(matches!(refused, Err(BlockError::OtherChannel { number: 1, .. })));
    let again = block::next_bundle(&received, &config_block, NOW);
    assert!(matches!(again, Err(BlockError::Update { .. })));
}

#[test]
fn a_block_of_transactions_holds_no_configuration() {
    let (network, bundle, genesis) = start();
    let envelope = transaction(&network, &bundle);
    let orderer = &network.orderers[0].identity;
    for envelopes in [vec![], vec![envelope.clone()], vec![envelope.clone(), envelope]] {
        let block = tx::next_block(&genesis, 0, &envelopes, orderer);
        assert!(!block::is_config_block(&block));
        let refused = block::config_from_block(&block);
        assert!(matches!(refused, Err(BlockError::NotConfig { number: 1 })));
    }
}

#[test]
fn malformed_config_blocks_are_errors() {
    let (_, _, genesis) = start();
    assert!(block::config_from_block(&Block::default()).is_err());
    let with = |data: Vec<u8>| {
        let mut block = genesis.clone();
        block.data.as_mut().unwrap().data = vec![data.into()];
        block::bundle_from_block(&block).unwrap_err()
    };
    assert!(matches!(with(vec![]), BlockError::Envelope { .. }));
    assert!(matches!(with(vec![0xff]), BlockError::Envelope { .. }));
    assert!(matches!(with(Envelope::default().encode_to_vec()), BlockError::Envelope { .. }));
    let mut envelope = Envelope::decode(genesis.data.as_ref().unwrap().data[0].clone()).unwrap();
    let mut payload = weft_protos::common::Payload::decode(envelope.payload.clone()).unwrap();
    payload.data = Bytes::new();
    envelope.payload = payload.encode_to_vec().into();
    assert!(matches!(with(envelope.encode_to_vec()), BlockError::NoConfig { .. }));
}

#[test]
fn blocks_are_signed_by_an_orderer_of_the_channel() {
    let (network, bundle, genesis) = start();
    let envelopes = [transaction(&network, &bundle)];
    let signed_by = |signer: &dyn Signer| {
        let block = tx::next_block(&genesis, 0, &envelopes, signer);
        block::verify(&bundle, &block, ValidAt::Issuance)
    };
    signed_by(&network.orderers[0].identity).unwrap();
    for stranger in
        [&Org::new("OrdererMSP").orderer, &network.org(1).orderer, &network.org(1).admin]
            .into_iter()
            .chain([&network.orderer_org.client, &network.orderer_org.admin])
    {
        let refused = signed_by(stranger);
        assert!(matches!(refused, Err(BlockError::Signatures { number: 1, .. })), "{refused:?}");
    }
    // The age of the certificate is not the block's fault.
    let old = network.orderer_org.identity_valid("old", weft_msp::NodeRole::Orderer, EXPIRED);
    signed_by(&old).unwrap();
}

/// Channels that were made elsewhere, or before, are judged by the policy that they have.
#[test]
fn a_channel_goes_on_by_its_own_policy_for_blocks() {
    let network = Network::new(1, 4);
    let mut profile = network.profile("supply");
    let any_writer = genesis::PolicyRule::any(weft_config::keys::WRITERS);
    profile.orderer.policies.insert(weft_config::keys::BLOCK_VALIDATION.into(), any_writer);
    let bundle = network::bundle(&profile);
    let genesis = genesis::block(&profile).unwrap();
    for signer in [&network.orderers[0].identity, &network.orderer_org.client] {
        let block = tx::next_block(&genesis, 0, &[transaction(&network, &bundle)], signer);
        block::verify(&bundle, &block, NOW).unwrap();
    }
}

#[test]
fn altered_blocks_are_refused() {
    let (network, bundle, genesis) = start();
    let envelopes = [transaction(&network, &bundle), transaction(&network, &bundle)];
    let good = tx::next_block(&genesis, 0, &envelopes, &network.orderers[0].identity);
    block::verify(&bundle, &good, NOW).unwrap();
    type Alter = fn(&mut Block);
    let cases: [(&str, Alter); 9] = [
        ("no header", |b| b.header = None),
        ("number", |b| b.header.as_mut().unwrap().number += 1),
        ("previous hash", |b| b.header.as_mut().unwrap().previous_hash = Bytes::from_static(b"x")),
        ("data hash", |b| b.header.as_mut().unwrap().data_hash = Bytes::from_static(b"x")),
        ("no data", |b| b.data = None),
        ("a transaction less", |b| _ = b.data.as_mut().unwrap().data.pop()),
        ("another order", |b| b.data.as_mut().unwrap().data.reverse()),
        ("no metadata", |b| b.metadata = None),
        ("no signatures", |b| {
            let metadata = OrdererMetadata { last_config: 0, ..Default::default() };
            metadata::set_unsigned(b, &metadata);
        }),
    ];
    for (name, alter) in cases {
        let mut block = good.clone();
        alter(&mut block);
        assert!(block::verify(&bundle, &block, NOW).is_err(), "{name}");
    }
    // The newest config block is under the signature too.
    let mut block = good.clone();
    let mut slot = metadata::get(&block, BlockMetadataIndex::Signatures).unwrap();
    slot.value = OrdererMetadata { last_config: 1, ..Default::default() }.to_value();
    metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, slot.encode_to_vec().into());
    assert!(matches!(block::verify(&bundle, &block, NOW), Err(BlockError::Signatures { .. })));
}

/// CVE-2023-46132: bytes moved between envelopes keep the data hash.
#[test]
fn envelopes_can_be_cut_in_one_way_only() {
    let (network, bundle, genesis) = start();
    let envelopes = [transaction(&network, &bundle), transaction(&network, &bundle)];
    let mut block = tx::next_block(&genesis, 0, &envelopes, &network.orderers[0].identity);
    let data = &mut block.data.as_mut().unwrap().data;
    let joined: Bytes = data.concat().into();
    *data = vec![joined.clone()];
    let refused = block::verify(&bundle, &block, NOW);
    assert!(matches!(refused, Err(BlockError::Structure { .. })), "{refused:?}");
    let data = &mut block.data.as_mut().unwrap().data;
    *data = vec![joined.slice(..10), joined.slice(10..)];
    let refused = block::verify(&bundle, &block, NOW);
    assert!(matches!(refused, Err(BlockError::Structure { .. })), "{refused:?}");
}

#[test]
fn a_bft_block_needs_a_quorum_of_numbered_members() {
    let network = Network::new(1, 4);
    let profile = network.bft_profile("supply");
    let bundle = network::bundle(&profile);
    let genesis = genesis::block(&profile).unwrap();
    let unsigned = {
        let signer = &network.orderers[0].identity;
        let mut block = tx::next_block(&genesis, 0, &[transaction(&network, &bundle)], signer);
        metadata::set_unsigned(&mut block, &OrdererMetadata::default());
        block
    };
    let sign = |signers: &[(u32, usize)]| {
        let mut block = unsigned.clone();
        let value = OrdererMetadata::default().to_value();
        let header = block.header.clone().unwrap();
        let signatures = signers.iter().map(|(id, node)| {
            let identifier = IdentifierHeader { identifier: *id, nonce: Bytes::from_static(b"n") };
            let identifier_header: Bytes = identifier.encode_to_vec().into();
            let message = signed_bytes(&value, &identifier_header, &header);
            let signature = network.orderers[*node].identity.sign(&message).unwrap();
            MetadataSignature { signature_header: Bytes::new(), signature, identifier_header }
        });
        let slot = Metadata { value: value.clone(), signatures: signatures.collect() };
        metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, slot.encode_to_vec().into());
        block::verify(&bundle, &block, NOW)
    };
    sign(&[(1, 0), (2, 1), (3, 2)]).unwrap();
    sign(&[(9, 0), (1, 0), (2, 1), (4, 3)]).unwrap();
    assert!(sign(&[(1, 0), (2, 1)]).is_err(), "too few");
    assert!(sign(&[(1, 0), (2, 1), (2, 1), (1, 0)]).is_err(), "twice is once");
    assert!(sign(&[(1, 0), (2, 1), (3, 3)]).is_err(), "another's number");
    assert!(sign(&[(1, 0), (2, 1), (9, 2)]).is_err(), "nobody's number");
}

#[test]
fn numbers_sign_for_nobody_where_no_members_are_listed() {
    let (network, bundle, genesis) = start();
    let signer = &network.orderers[0].identity;
    let mut block = tx::next_block(&genesis, 0, &[transaction(&network, &bundle)], signer);
    let identifier = IdentifierHeader { identifier: 1, nonce: Bytes::new() };
    let mut slot = metadata::get(&block, BlockMetadataIndex::Signatures).unwrap();
    slot.signatures[0].signature_header = Bytes::new();
    slot.signatures[0].identifier_header = identifier.encode_to_vec().into();
    metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, slot.encode_to_vec().into());
    let refused = block::verify(&bundle, &block, NOW);
    assert!(matches!(refused, Err(BlockError::Signatures { .. })), "{refused:?}");
}
