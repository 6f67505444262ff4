//! Signatures that are known to hold because they were made here.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use lru::LruCache;
use parking_lot::Mutex;
use weft_crypto::sha256_parts;

/// Signatures remembered of one identity: those of the last seconds at full load.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8191);

/// What tells a message with its signature.
type Key = [u8; 32];

/// Signatures of one identity that need not be checked. Takes no memory until there is one.
#[derive(Default)]
pub(crate) struct Vouched(OnceLock<Mutex<LruCache<Key, ()>>>);

impl Vouched {
    pub(crate) fn add(&self, message: &[u8], signature: &[u8]) {
        // Room is taken as it is needed, not for the whole capacity at once.
        let known = self.0.get_or_init(|| {
            let mut known = LruCache::unbounded();
            known.resize(CAPACITY);
            Mutex::new(known)
        });
        known.lock().put(key(message, signature), ());
    }

    /// Whether it was added. It is forgotten by that: who asks again has to check.
    pub(crate) fn take(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(known) = self.0.get() else { return false };
        let key = key(message, signature);
        known.lock().pop(&key).is_some()
    }
}

/// The length keeps a message's end from being taken for a signature's beginning.
fn key(message: &[u8], signature: &[u8]) -> Key {
    let length = (message.len() as u64).to_le_bytes();
    sha256_parts([&length[..], message, signature])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_known_once_and_for_its_message_only() {
        let vouched = Vouched::default();
        assert!(!vouched.take(b"message", b"signature"));
        vouched.add(b"message", b"signature");
        assert!(!vouched.take(b"messages", b"ignature"));
        assert!(!vouched.take(b"message", b"another"));
        assert!(vouched.take(b"message", b"signature"));
        assert!(!vouched.take(b"message", b"signature"));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let vouched = Vouched::default();
        for number in 0..=CAPACITY.get() {
            vouched.add(&number.to_le_bytes(), b"");
        }
        assert!(!vouched.take(&0_usize.to_le_bytes(), b""));
        assert!(vouched.take(&CAPACITY.get().to_le_bytes(), b""));
    }
}
