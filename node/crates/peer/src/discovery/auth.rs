//! Requests that were found good under a configuration of a channel: they count under no other, not
//! even that of another channel of the same name. Clients send the same request again and again, and a signature
//! takes longer to verify than to look up.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weft_config::Bundle;
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
    bundle: Weak<Bundle>,
    made: Instant,
}

impl AuthCache {
    /// Whether a request for a channel was found good under this very configuration.
    pub(super) fn knows(&self, bundle: &Arc<Bundle>, signed: &SignedData) -> bool {
        let entries = self.0.lock();
        let entry = entries.get(&key(bundle, signed));
        entry.is_some_and(|entry| {
            entry.bundle.as_ptr() == Arc::as_ptr(bundle) && entry.made.elapsed() < MAX_AGE
        })
    }

    /// A request was found good.
    pub(super) fn remember(&self, bundle: &Arc<Bundle>, signed: &SignedData) {
        let mut entries = self.0.lock();
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| entry.made.elapsed() < MAX_AGE);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        let entry = Entry { bundle: Arc::downgrade(bundle), made: Instant::now() };
        entries.insert(key(bundle, signed), entry);
    }
}

/// The parts with their lengths, so that no bytes can pass from one to the next.
fn key(bundle: &Bundle, signed: &SignedData) -> [u8; 32] {
    let channel = bundle.channel_id().as_str().as_bytes();
    let parts = [channel, &signed.data, &signed.signature, &signed.identity];
    let hashes = parts.map(|part| sha256_parts([part]));
    sha256_parts(hashes)
}
