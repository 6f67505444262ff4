//! What goes into the Secrets and ConfigMaps of certificate authorities, nodes and users. Pure.
//!
//! [`authority`] reads, judges and makes the two authorities of a holder; [`holder`] issues what
//! its nodes and users need; [`bundle`] is its MSP without keys, for others to trust; [`actor`]
//! reads an identity back to sign and connect with.
//!
//! For each holder: judge both CA Secrets ([`authority::decide`]), create what is to be made,
//! record the fingerprints, put both together ([`Authorities::new`]), publish the bundle
//! ([`bundle::bundle`]), then keep each identity ([`Authorities::ensure`]).
//!
//! The renewal of an authority. Channels pin the *certificates* of authorities, while what an
//! authority issued verifies by its *name and key*. So a CA Secret that holds another
//! certificate than the recorded one is refused ([`authority::AuthorityError::Altered`]) unless
//! it is the recorded authority's own renewal: same subject, issuer, key and key identifier as
//! the certificate of that fingerprint in the published bundle. Then it is taken over
//! ([`authority::Decision::Renewed`]); the certificate before stays in the MSP until it ends, so
//! that what others hold goes on working, and identities issued before the new certificate began
//! are issued again with their keys.

pub mod actor;
pub mod authority;
pub mod bundle;
pub mod holder;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use weft_crypto::Hasher;

pub use actor::{Actor, ActorError};
pub use authority::{Authority, AuthorityError, Decision, Held, Made, Origin};
pub use bundle::BundleError;
pub use holder::{Authorities, Ensured, Hold, IdentityError, Issued};

use super::names::key;

/// The data of a Secret. It may hold keys: it is never shown.
pub type SecretData = BTreeMap<String, ByteString>;

/// The parts of an identity Secret that anybody may know, in the order of their keys.
const PUBLIC_KEYS: [&str; 7] = [
    key::CA_CERTS,
    key::SIGN_CERT,
    key::CONFIG,
    key::INTERMEDIATE_CERTS,
    key::TLS_CERT,
    key::TLS_CA_CERTS,
    key::TLS_INTERMEDIATE_CERTS,
];

/// SHA-256 over the public parts of an identity Secret, hexadecimal: it changes whenever a node
/// has something new to read, and says nothing about keys.
pub fn hash(data: &SecretData) -> String {
    let mut hasher = Hasher::new();
    for name in PUBLIC_KEYS {
        let Some(value) = data.get(name) else { continue };
        for part in [name.as_bytes(), value.0.as_slice()] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finish().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a key as text; `None` when it is not there or not text.
fn text<'a>(data: &'a SecretData, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&data.get(key)?.0).ok()
}
