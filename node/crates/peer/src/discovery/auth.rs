//! Requests that were found good. Clients send the same request again and again, and a signature
//! takes longer to verify than to look up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weft_crypto::sha256_parts;
use weft_msp::policy::SignedData;

/// Requests remembered, as in Fabric.
const MAX_ENTRIES: usize = 1000;
/// For how long: certificates can expire.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The requests.
#[derive(Default)]
pub(super) struct AuthCache(Mutex<HashMap<[u8; 32], Entry>>);

struct Entry {
    config: u64,
    made: Instant,
}

impl AuthCache {
    /// Whether a request for a channel was found good under the same configuration.
    pub(super) fn knows(&self, channel: &str, config: u64, signed: &SignedData) -> bool {
        let entries = self.0.lock();
        let entry = entries.get(&key(channel, signed));
        entry.is_some_and(|entry| entry.config == config && entry.made.elapsed() < MAX_AGE)
    }

    /// A request was found good.
    pub(super) fn remember(&self, channel: &str, config: u64, signed: &SignedData) {
        let mut entries = self.0.lock();
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| entry.made.elapsed() < MAX_AGE);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key(channel, signed), Entry { config, made: Instant::now() });
    }
}

/// The parts with their lengths, so that no bytes can pass from one to the next.
fn key(channel: &str, signed: &SignedData) -> [u8; 32] {
    let parts = [channel.as_bytes(), &signed.data, &signed.signature, &signed.identity];
    let hashes = parts.map(|part| sha256_parts([part]));
    sha256_parts(hashes)
}
