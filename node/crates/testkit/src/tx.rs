//! Signed messages: proposals, transactions, configuration updates, blocks.

use bytes::Bytes;
use prost::Message;
use weft_config::{Bundle, update};
use weft_crypto::random_bytes;
use weft_protos::{
    common::{Block, Config, ConfigUpdateEnvelope, Envelope},
    peer::{ChaincodeId, Response},
};
use weft_types::{
    ChannelId, Nonce, Signer, TxId,
    block::{
        self,
        metadata::{self, OrdererMetadata},
    },
    proposal::{self, BuiltSignedProposal, ParsedProposal, ProposalSpec, Simulation},
    transaction,
};

use crate::clock::NOW;

/// A nonce drawn anew.
#[must_use]
pub fn nonce() -> Nonce {
    random_bytes().expect("random bytes")
}

/// A signed proposal to call `chaincode` with `args` on `channel`.
#[must_use]
pub fn proposal(
    channel: &ChannelId,
    chaincode: &str,
    args: &[&[u8]],
    creator: &dyn Signer,
) -> BuiltSignedProposal {
    let spec = ProposalSpec {
        channel_id: Some(channel.clone()),
        chaincode: chaincode.to_owned(),
        args: args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect(),
        transient: Default::default(),
        is_init: false,
        timestamp: NOW,
        nonce: nonce(),
    };
    spec.sign(creator).expect("a proposal can be signed")
}

/// An endorser transaction: what `chaincode` (at version `1.0`) is said to have read and written
/// (`results`, an encoded `rwset.TxReadWriteSet`), endorsed by `endorsers`.
#[must_use]
pub fn endorser_transaction(
    channel: &ChannelId,
    chaincode: &str,
    results: Bytes,
    creator: &dyn Signer,
    endorsers: &[&dyn Signer],
) -> (TxId, Envelope) {
    let built = proposal(channel, chaincode, &[b"invoke"], creator);
    let parsed = ParsedProposal::parse(built.signed.clone()).expect("the proposal is well-formed");
    let simulation = Simulation {
        results,
        events: Bytes::new(),
        response: Response { status: 200, ..Response::default() },
        chaincode_id: ChaincodeId {
            name: chaincode.to_owned(),
            version: "1.0".to_owned(),
            ..ChaincodeId::default()
        },
    };
    let endorse = |endorser: &&dyn Signer| {
        proposal::endorse(&parsed, simulation.clone(), *endorser).expect("an endorsement")
    };
    let responses: Vec<_> = endorsers.iter().map(endorse).collect();
    let envelope = transaction::assemble_signed(&built.proposal, &responses, creator)
        .expect("the responses agree");
    (built.tx_id, envelope)
}

/// A CONFIG_UPDATE envelope that turns the configuration of `bundle` into `changed`, supported by
/// `signers` and sent by the first of them.
///
/// # Panics
/// Where nothing differs, or there is no signer.
#[must_use]
pub fn config_update(bundle: &Bundle, changed: &Config, signers: &[&dyn Signer]) -> Envelope {
    let computed = update::compute(bundle.channel_id(), bundle.config(), changed)
        .expect("the configurations differ");
    signed_update(bundle.channel_id(), computed.encode_to_vec().into(), signers)
}

/// A CONFIG_UPDATE envelope around any bytes that should be a `ConfigUpdate`.
///
/// # Panics
/// Where there is no signer.
#[must_use]
pub fn signed_update(channel: &ChannelId, encoded: Bytes, signers: &[&dyn Signer]) -> Envelope {
    let sign = |signer: &&dyn Signer| {
        update::sign_update(&encoded, *signer, nonce()).expect("an update can be signed")
    };
    let signatures = signers.iter().map(sign).collect();
    let submitter = *signers.first().expect("at least one signer");
    let signed = ConfigUpdateEnvelope { config_update: encoded, signatures };
    update::update_envelope(channel, signed, submitter, NOW, nonce())
        .expect("an envelope can be signed")
}

/// A block after `previous` with these envelopes, signed by `orderer`. Consensus metadata is empty.
///
/// # Panics
/// Where `previous` has no header.
#[must_use]
pub fn next_block(
    previous: &Block,
    last_config: u64,
    envelopes: &[Envelope],
    orderer: &dyn Signer,
) -> Block {
    let header = previous.header.as_ref().expect("the previous block has a header");
    let data = envelopes.iter().map(|envelope| envelope.encode_to_vec().into()).collect();
    let previous_hash = Bytes::copy_from_slice(&block::header_hash(header));
    let mut next = block::new(header.number + 1, previous_hash, data);
    let orderer_metadata = OrdererMetadata { last_config, ..OrdererMetadata::default() };
    metadata::sign(&mut next, &orderer_metadata, orderer, nonce()).expect("a block can be signed");
    next
}

/// The config block after `previous` that carries out a CONFIG_UPDATE, with the bundle after it.
///
/// # Panics
/// Where the update is refused.
#[must_use]
pub fn config_block(
    bundle: &Bundle,
    previous: &Block,
    update: &Envelope,
    orderer: &dyn Signer,
) -> (Block, Bundle) {
    let proposed = bundle.propose(update, NOW).expect("the update is allowed");
    let channel = bundle.channel_id();
    let envelope = update::config_envelope(channel, &proposed.envelope, orderer, NOW, nonce())
        .expect("an envelope can be signed");
    let number = previous.header.as_ref().map_or(0, |header| header.number) + 1;
    (next_block(previous, number, &[envelope], orderer), proposed.next)
}
