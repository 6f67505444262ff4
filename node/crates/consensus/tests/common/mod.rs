#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use weft_consensus::raft::Options;
use weft_consensus::sim::{Chaos, Make};

/// Small limits, so that short runs reach them. The election timeout is 1 s.
pub fn options() -> Options {
    Options {
        tick_interval_ms: 100,
        snapshot_interval_bytes: 6 << 10,
        max_inflight_entries: 8,
        max_append_bytes: 2 << 10,
        ..Options::default()
    }
}

pub fn chaos(make: Make) -> Chaos {
    Chaos { make, election_timeout_ms: options().election_timeout_ms(), duration_ms: 20_000 }
}
