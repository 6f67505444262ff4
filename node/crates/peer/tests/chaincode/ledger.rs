//! The runtime's state over a real ledger.

use std::sync::Arc;

use bytes::Bytes;
use weft_ledger::Ledger;
use weft_ledger::kv::memory::MemoryKv;
use weft_peer::chaincode::{LedgerState, QueryResult, StateAccess, StateError};
use weft_types::ChannelId;

fn ledger() -> Arc<Ledger> {
    let channel = ChannelId::new("supply").unwrap();
    Arc::new(Ledger::open(Arc::new(MemoryKv::default()), channel).unwrap())
}

#[test]
fn reads_and_writes_are_recorded() {
    let mut state = LedgerState::new(ledger(), true);
    assert_eq!(state.get_state("cc", "a").unwrap(), None);
    state.put_state("cc", "b", Bytes::from_static(b"1")).unwrap();
    state.put_metadata("cc", "b", [("m".to_owned(), Bytes::from_static(b"2"))].into()).unwrap();
    state.delete_state("cc", "c").unwrap();
    let range = state.open_range("cc", "", "").unwrap();
    assert_eq!(state.next(range).unwrap(), None::<QueryResult>);
    state.close(range);
    state.close(range);
    assert!(matches!(state.next(range), Err(StateError::Refused(_))));
    let history = state.open_history("cc", "a").unwrap();
    assert_eq!(state.next(history).unwrap(), None);
    let results = state.finish();
    assert_eq!(results.public.ns_rwset.len(), 1);
    assert!(!results.public_bytes.is_empty());
}

#[test]
fn pages_exclude_writes() {
    let mut state = LedgerState::new(ledger(), true);
    let page = state.open_page("cc", "", "", 10).unwrap();
    assert_eq!(state.next(page).unwrap(), None);
    assert_eq!(state.bookmark(page).unwrap(), "");
    let refused = state.put_state("cc", "a", Bytes::from_static(b"1")).unwrap_err();
    assert!(matches!(refused, StateError::Refused(_)), "{refused}");
}

#[test]
fn history_can_be_off() {
    let mut state = LedgerState::new(ledger(), false);
    let error = state.open_history("cc", "a").unwrap_err();
    assert_eq!(error.to_string(), "history database is not enabled");
}
