//! The channel that inputs are held against. Its keys are gone, its certificates are not: what was
//! signed when the fixture was made verifies in every later run.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message as _;
use weft_config::Bundle;
use weft_config::block::bundle_from_block;
use weft_protos::common::Block;

static GENESIS: &[u8] = include_bytes!("../fixtures/genesis.block");

/// The genesis block of the channel `supply`: two organizations, three orderers with Raft.
///
/// # Panics
/// Where the fixture is damaged.
pub static BLOCK: LazyLock<Block> =
    LazyLock::new(|| Block::decode(Bytes::from_static(GENESIS)).expect("the fixture is a block"));

/// The configuration of that channel.
///
/// # Panics
/// Where the fixture is damaged.
pub static BUNDLE: LazyLock<Bundle> =
    LazyLock::new(|| bundle_from_block(&BLOCK).expect("the fixture configures a channel"));
