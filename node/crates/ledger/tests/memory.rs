//! The store in memory passes the suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::suite;

#[test]
fn passes_the_suite() {
    suite::run(|| Arc::new(MemoryKv::new())).unwrap();
}
