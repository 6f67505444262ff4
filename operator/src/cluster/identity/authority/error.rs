//! What can be wrong with an authority.

use weft_crypto::{CaError, CertificateError, KeyError};
use weft_types::{MspId, Timestamp};

use crate::cluster::names::key;
use crate::pki::{IssueError, RootUse};

/// Why a certificate authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The user's own Secret is not there yet.
    #[error("the Secret {secret}, which is to hold a certificate authority, does not exist")]
    Missing {
        /// Name of the Secret.
        secret: String,
    },
    /// The Secret was there, and is gone.
    #[error(
        "the certificate authority in Secret {secret} is gone (its fingerprint is {expected}): put the Secret back from a backup; it is never made anew, because everything it signed would stop working"
    )]
    Gone {
        /// Name of the Secret.
        secret: String,
        /// What was recorded.
        expected: String,
    },
    /// The Secret holds another authority than before.
    #[error(
        "the certificate authority in Secret {secret} was altered: its fingerprint is {found}, expected {expected}; put the original back, or a renewal of it with the same name and key"
    )]
    Altered {
        /// Name of the Secret.
        secret: String,
        /// What stands there.
        found: String,
        /// What was recorded.
        expected: String,
    },
    /// A part is missing.
    #[error("failed to read the certificate authority in Secret {secret}: it has no {key}")]
    NoKey {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
    },
    /// A part is not text.
    #[error("failed to read the certificate authority in Secret {secret}: {key} is not UTF-8 text")]
    NotText {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
    },
    /// A certificate cannot be read.
    #[error("failed to read the certificates in {key} of Secret {secret}")]
    Certificate {
        /// Name of the Secret.
        secret: String,
        /// The key of its data.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// The private key cannot be read.
    #[error("failed to read the private key of the certificate authority in Secret {secret}")]
    PrivateKey {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The certificate is no authority's, or the key is not the certificate's.
    #[error("failed to use the certificate authority in Secret {secret}")]
    Unusable {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: CaError,
    },
    /// A certificate of the chain is not signed by the one after it.
    #[error(
        "failed to follow the chain of the certificate authority in Secret {secret}: {subject:?} is not signed by the certificate after it"
    )]
    Chain {
        /// Name of the Secret.
        secret: String,
        /// The lower one.
        subject: String,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// The chain ends below a root.
    #[error(
        "failed to follow the chain of the certificate authority in Secret {secret}: it ends with {subject:?}, which is not a root; add the certificates above it to {}, up to the root",
        key::CA_CERT
    )]
    NoRoot {
        /// Name of the Secret.
        secret: String,
        /// The last one.
        subject: String,
    },
    /// An authority of the chain may not have that many below it.
    #[error(
        "the certificate authority in Secret {secret} cannot issue: {subject:?} allows {limit} authorities below it, and there are {below}"
    )]
    PathLength {
        /// Name of the Secret.
        secret: String,
        /// Whose limit it is.
        subject: String,
        /// The limit.
        limit: u32,
        /// How many there are.
        below: usize,
    },
    /// A certificate of the chain has ended.
    #[error(
        "the certificate authority in Secret {secret} cannot issue: {subject:?} ended at {not_after}"
    )]
    Expired {
        /// Name of the Secret.
        secret: String,
        /// Which certificate.
        subject: String,
        /// When it ended.
        not_after: Timestamp,
    },
    /// A certificate of the chain is not valid yet.
    #[error(
        "the certificate authority in Secret {secret} cannot issue: {subject:?} is valid from {not_before}"
    )]
    NotYetValid {
        /// Name of the Secret.
        secret: String,
        /// Which certificate.
        subject: String,
        /// When it begins.
        not_before: Timestamp,
    },
    /// A managed authority cannot be made.
    #[error("failed to make the {} of {msp_id}", use_.label())]
    Make {
        /// The MSP.
        msp_id: MspId,
        /// Which of its two.
        use_: RootUse,
        /// What is wrong.
        #[source]
        source: IssueError,
    },
    /// A made authority's key cannot be written.
    #[error("failed to write the key of the {} of {msp_id}", use_.label())]
    WriteKey {
        /// The MSP.
        msp_id: MspId,
        /// Which of its two.
        use_: RootUse,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
}

impl AuthorityError {
    /// Whether this is a state of waiting for the user's Secret, not a fault of one that is there.
    pub fn is_waiting(&self) -> bool {
        matches!(self, AuthorityError::Missing { .. } | AuthorityError::NotYetValid { .. })
    }
}
