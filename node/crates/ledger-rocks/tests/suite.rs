//! The store on RocksDB passes the suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::cell::RefCell;

use tempfile::TempDir;
use weft_ledger::kv::suite;
use weft_ledger_rocks::{RocksKv, RocksOptions};

#[test]
fn passes_the_suite() {
    let dirs = RefCell::new(Vec::new());
    suite::run(|| {
        let dir = TempDir::new().unwrap();
        let kv = RocksKv::open(dir.path(), suite::COLUMNS, RocksOptions::default()).unwrap();
        dirs.borrow_mut().push(dir);
        kv
    })
    .unwrap();
}
