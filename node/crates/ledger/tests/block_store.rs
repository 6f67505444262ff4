//! The chain of blocks: what is appended, refused, found again and noticed as damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::kv::column::{BLOCKS, CHAIN, CONSENSUS_STATE};
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Durability, Kv, KvRead};
use weft_ledger::{BlockAppend, BlockStore, BlockStoreError, Tip, TransactionLocation};
use weft_protos::common::{Block, ChannelHeader, Envelope, Header, HeaderType, Payload};
use weft_types::block::{self, BlockError};
use weft_types::{TxFilter, ValidationCode};

fn store() -> (Arc<MemoryKv>, BlockStore) {
    let kv = Arc::new(MemoryKv::new());
    (Arc::clone(&kv), BlockStore::open(kv).unwrap())
}

fn config() -> Bytes {
    let channel_header =
        ChannelHeader { r#type: HeaderType::Config.into(), ..ChannelHeader::default() };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: Bytes::new(),
    };
    let payload = Payload { header: Some(header), data: Bytes::new() }.encode_to_vec().into();
    Envelope { payload, signature: Bytes::new() }.encode_to_vec().into()
}

fn next(chain: &BlockStore, data: Vec<Bytes>) -> Block {
    let tip = chain.tip();
    block::new(tip.height, tip.last_hash, data)
}

fn append(chain: &BlockStore, data: Vec<Bytes>) -> Block {
    let block = next(chain, data);
    chain.append(BlockAppend::new(&block)).unwrap();
    block
}

fn transaction(id: &str) -> Bytes {
    common::envelope(id, Bytes::new())
}

#[test]
fn blocks_are_found_by_number_and_hash_and_in_order() {
    let (kv, chain) = store();
    assert_eq!(chain.tip(), Tip::default());
    assert_eq!(chain.last_config_block().unwrap(), None);
    let blocks: Vec<Block> =
        (0..20).map(|n| append(&chain, vec![transaction(&format!("t{n}"))])).collect();
    assert_eq!(chain.height(), 20);
    for (number, block) in (0u64..).zip(&blocks) {
        assert_eq!(chain.get(number).unwrap().unwrap(), block.encode_to_vec());
        assert_eq!(chain.block(number).unwrap().as_ref(), Some(block));
        let hash = block::header_hash(block.header.as_ref().unwrap());
        assert_eq!(chain.number_by_hash(&hash).unwrap(), Some(number));
    }
    assert_eq!(chain.get(20).unwrap(), None);
    assert_eq!(chain.number_by_hash(&[7; 32]).unwrap(), None);
    let numbers: Vec<u64> = chain.iter(3).map(|entry| entry.unwrap().0).collect();
    assert_eq!(numbers, (3..20).collect::<Vec<_>>());
    assert_eq!(BlockStore::open(kv).unwrap().tip(), chain.tip());
}

#[test]
fn only_the_next_block_of_this_chain_is_appended() {
    let (_, chain) = store();
    append(&chain, vec![config()]);
    let right = next(&chain, vec![transaction("a")]);
    for wrong in [0, 2, u64::MAX] {
        let mut block = right.clone();
        block.header.as_mut().unwrap().number = wrong;
        let refused = chain.append(BlockAppend::new(&block)).unwrap_err();
        assert!(
            matches!(refused, BlockStoreError::Refused { source: BlockError::Number { number, expected: 1 } } if number == wrong)
        );
    }
    let mut block = right.clone();
    block.header.as_mut().unwrap().previous_hash = Bytes::from_static(&[1; 32]);
    let refused = chain.append(BlockAppend::new(&block)).unwrap_err();
    assert!(matches!(
        refused,
        BlockStoreError::Refused { source: BlockError::PreviousHash { number: 1 } }
    ));
    let mut block = right.clone();
    block.header = None;
    assert!(chain.append(BlockAppend::new(&block)).is_err());
    assert_eq!(chain.height(), 1);
    chain.append(BlockAppend::new(&right)).unwrap();
    // The same block again.
    assert!(chain.append(BlockAppend::new(&right)).is_err());
    assert_eq!(chain.height(), 2);
}

#[test]
fn the_newest_configuration_is_known() {
    let (kv, chain) = store();
    let newest = |chain: &BlockStore| {
        let found = chain.last_config_block().unwrap().unwrap();
        found.header.unwrap().number
    };
    append(&chain, vec![config()]);
    append(&chain, vec![transaction("a")]);
    assert_eq!(newest(&chain), 0);
    append(&chain, vec![config()]);
    append(&chain, vec![transaction("b")]);
    // A configuration beside others is no configuration block.
    append(&chain, vec![config(), transaction("c")]);
    assert_eq!(newest(&chain), 2);
    assert_eq!(newest(&BlockStore::open(kv).unwrap()), 2);
}

#[test]
fn a_transaction_keeps_its_first_place() {
    use ValidationCode::{BadProposalTxid, DuplicateTxid, MvccReadConflict, Valid};
    let (_, chain) = store();
    append(&chain, vec![config()]);
    let add = |ids: &[&str], codes: &[ValidationCode]| {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let block = next(&chain, ids.iter().map(|id| transaction(id)).collect());
        let codes = TxFilter::from_codes(codes);
        chain.append(BlockAppend::new(&block).transactions(&ids, &codes)).unwrap();
    };
    add(&["a", "b", "a", ""], &[Valid, MvccReadConflict, DuplicateTxid, BadProposalTxid]);
    add(&["b", "c"], &[DuplicateTxid, BadProposalTxid]);
    let at = |block, index, code| Some(TransactionLocation { block, index, code });
    assert_eq!(chain.transaction("a").unwrap(), at(1, 0, Valid));
    assert_eq!(chain.transaction("b").unwrap(), at(1, 1, MvccReadConflict));
    assert_eq!(chain.transaction("c").unwrap(), at(2, 1, BadProposalTxid));
    assert_eq!(chain.transaction("d").unwrap(), None);
    assert!(!chain.contains_transaction("").unwrap());
    assert_eq!(chain.contain_transactions(&["c", "d", "a"]).unwrap(), [true, false, true]);
    assert_eq!(chain.envelope(2, 1).unwrap(), transaction("c"));
    assert!(chain.envelope(2, 2).is_err());
}

#[test]
fn ids_must_be_of_the_block() {
    let (_, chain) = store();
    let block = next(&chain, vec![config(), config()]);
    let (ids, codes) = (vec![String::new()], TxFilter::new(2));
    let refused = chain.append(BlockAppend::new(&block).transactions(&ids, &codes)).unwrap_err();
    assert!(matches!(refused, BlockStoreError::Transactions { number: 0, given: 1, actual: 2 }));
    assert_eq!(chain.height(), 0);
}

#[test]
fn what_comes_with_a_block_is_written_with_it() {
    let (kv, chain) = store();
    let mut extra = Batch::new();
    extra.put(CONSENSUS_STATE, "applied", "7");
    let block = next(&chain, vec![config()]);
    let append = BlockAppend::new(&block).extend(extra).durability(Durability::Buffered);
    chain.append(append).unwrap();
    assert_eq!(kv.get(CONSENSUS_STATE, b"applied").unwrap().unwrap(), "7");
}

#[test]
fn a_damaged_end_is_noticed() {
    let number = |n: u64| n.to_be_bytes().to_vec();
    type Damage = Box<dyn Fn(&mut Batch)>;
    let damages: [(&str, Damage); 5] = [
        ("newest block gone", Box::new(move |batch| batch.delete(BLOCKS, number(2)))),
        ("a block more", Box::new(move |batch| batch.put(BLOCKS, number(3), Bytes::new()))),
        ("not a block", Box::new(move |batch| batch.put(BLOCKS, number(2), "no block"))),
        ("end is gone", Box::new(|batch| batch.delete(CHAIN, "tip"))),
        ("end is unreadable", Box::new(|batch| batch.put(CHAIN, "tip", "xx"))),
    ];
    for (what, damage) in damages {
        let (kv, chain) = store();
        for id in ["a", "b", "c"] {
            append(&chain, vec![transaction(id)]);
        }
        let mut batch = Batch::new();
        damage(&mut batch);
        kv.write(batch, Durability::Synced).unwrap();
        assert!(BlockStore::open(kv).is_err(), "{what}");
    }
    // Another block in the newest one's place.
    let (kv, chain) = store();
    append(&chain, vec![transaction("a")]);
    let other = block::new(0, Bytes::new(), vec![transaction("b")]);
    let mut batch = Batch::new();
    batch.put(BLOCKS, number(0), other.encode_to_vec());
    kv.write(batch, Durability::Synced).unwrap();
    assert!(matches!(BlockStore::open(kv), Err(BlockStoreError::Corrupt { .. })));
}
