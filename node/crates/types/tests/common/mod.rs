#![allow(dead_code)]

use bytes::Bytes;
use weft_crypto::PrivateKey;
use weft_types::{ChannelId, Nonce, SignError, Signer, Timestamp};

/// A signer whose identity is just a name.
pub struct TestSigner {
    pub name: Bytes,
    pub key: PrivateKey,
}

impl TestSigner {
    pub fn new(name: &'static str) -> Self {
        Self { name: Bytes::from_static(name.as_bytes()), key: PrivateKey::generate().unwrap() }
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.public_key().verify(message, signature).is_ok()
    }
}

impl Signer for TestSigner {
    fn serialized_identity(&self) -> Bytes {
        self.name.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.key.sign(message).map(Bytes::from).map_err(|error| SignError::new("a test", error))
    }
}

pub const NONCE: Nonce = [9; 24];

pub fn channel() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::new(1_767_225_600, 5).unwrap()
}
