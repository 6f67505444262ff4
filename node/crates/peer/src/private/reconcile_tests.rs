#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weft_ledger::Ledger;
use weft_ledger::kv::memory::MemoryKv;
use weft_testkit::Network;

use super::*;

const OWN: &str = "_implicit_org_Org1MSP";

/// A channel on which the writes of these transactions to a collection are missing.
fn channel(missing: &[(&str, &str, u64, u32)]) -> (Channel, Authenticated) {
    let network = Network::new(2, 1);
    let bundle = network.bundle("supply");
    let id = bundle.channel_id().clone();
    let ledger = Ledger::open(Arc::new(MemoryKv::new()), id.clone()).unwrap();
    let mut batch = Batch::new();
    for (namespace, collection, block, place) in missing.iter().copied() {
        let key = WritesKey { namespace, collection, block, place }.encode();
        batch.put(MISSING_PRIVATE, key, Bytes::new());
    }
    ledger.kv().write(batch, Durability::Buffered).unwrap();
    (Channel::new(id, Arc::new(ledger), bundle, 1), network.org(1).peer.authenticated())
}

fn places(list: &List) -> Vec<(&str, Place)> {
    list.missing.iter().map(|missing| (missing.namespace.as_str(), missing.place)).collect()
}

#[test]
fn rounds_go_from_the_newest_to_the_oldest() {
    let all =
        [("a", OWN, 1, 0), ("b", OWN, 2, 0), ("a", OWN, 2, 0), ("a", OWN, 3, 1), ("b", OWN, 9, 9)];
    let (channel, org) = channel(&all);
    let first = list(&channel, &org, None, 2).unwrap();
    assert_eq!((places(&first), first.is_cut), (vec![("b", (9, 9)), ("a", (3, 1))], true));
    // Two collections of one transaction are on both sides of the cut.
    let second = list(&channel, &org, first.missing.last(), 1).unwrap();
    assert_eq!((places(&second), second.is_cut), (vec![("b", (2, 0))], true));
    let third = list(&channel, &org, second.missing.last(), 2).unwrap();
    assert_eq!((places(&third), third.is_cut), (vec![("a", (2, 0)), ("a", (1, 0))], false));
    let whole = list(&channel, &org, None, 5).unwrap();
    assert_eq!((whole.missing.len(), whole.is_cut), (5, false));
    assert_eq!(whole.collections.len(), 2);
}

#[test]
fn collections_of_others_are_passed_over() {
    let other = "_implicit_org_Org2MSP";
    let all = [("a", OWN, 1, 0), ("a", other, 5, 0), ("a", "undefined", 6, 0), ("z", OWN, 2, 0)];
    let (channel, org) = channel(&all);
    let found = list(&channel, &org, None, 9).unwrap();
    assert_eq!(places(&found), [("z", (2, 0)), ("a", (1, 0))]);
    let stranger = weft_testkit::Org::new("Org3MSP").peer.authenticated();
    assert!(list(&channel, &stranger, None, 9).unwrap().missing.is_empty());
}

#[test]
fn a_stored_key_that_is_none_is_told() {
    let (channel, org) = channel(&[]);
    let mut batch = Batch::new();
    batch.put(MISSING_PRIVATE, "\u{7f}", Bytes::new());
    channel.ledger().kv().write(batch, Durability::Buffered).unwrap();
    assert!(matches!(list(&channel, &org, None, 9), Err(ReconcileError::Key(_))));
}
