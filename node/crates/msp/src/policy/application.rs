//! The policies that chaincodes and collections name: written out, or a path into the channel's
//! configuration (Fabric: core/policy/application.go).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_protos::{
    common::SignaturePolicyEnvelope,
    ext::{DecodeError, decode},
    peer::{self, application_policy::Type},
};

use super::{CompileError, Policy, PolicyError, PolicyManager};

/// The channel's policy that a chaincode has when its definition names none
/// (Fabric: core/chaincode/lifecycle/endorsement_info.go).
pub const DEFAULT_ENDORSEMENT: &str = "/Channel/Application/Endorsement";

/// An application policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationPolicyError {
    /// The bytes are not an application policy.
    #[error("failed to read an application policy")]
    Decode(#[source] DecodeError),
    /// The policy says nothing.
    #[error("failed to read an application policy: it is empty")]
    Empty,
    /// The signature policy in it cannot be set up.
    #[error("failed to set up an application policy")]
    Compile(#[source] CompileError),
    /// The policy it refers to does not exist.
    #[error("failed to find the policy that an application policy refers to")]
    Reference(#[source] PolicyError),
}

/// An application policy.
#[derive(Debug, Clone, PartialEq)]
pub enum ApplicationPolicy {
    /// Written out.
    Signature(SignaturePolicyEnvelope),
    /// Path of a policy of the channel's configuration.
    ChannelReference(String),
}

impl ApplicationPolicy {
    /// Reads an encoded `protos.ApplicationPolicy`.
    ///
    /// # Errors
    /// [`ApplicationPolicyError`] when the bytes are malformed or say nothing.
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, ApplicationPolicyError> {
        let policy: peer::ApplicationPolicy =
            decode("application policy", bytes).map_err(ApplicationPolicyError::Decode)?;
        Self::try_from(policy)
    }

    /// Encodes it as `protos.ApplicationPolicy`.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        peer::ApplicationPolicy::from(self.clone()).encode_to_vec().into()
    }

    /// The policy to evaluate. `channel` is the manager of the whole configuration; `name` is what
    /// errors call a policy that is written out.
    ///
    /// # Errors
    /// [`ApplicationPolicyError`] when it cannot be set up or what it refers to does not exist.
    pub fn resolve(
        &self,
        name: &str,
        channel: &PolicyManager,
    ) -> Result<Arc<Policy>, ApplicationPolicyError> {
        match self {
            Self::Signature(envelope) => {
                let policy = Policy::signature(name, envelope, Arc::clone(channel.msps()));
                policy.map(Arc::new).map_err(ApplicationPolicyError::Compile)
            }
            Self::ChannelReference(path) => {
                channel.get(path).cloned().map_err(ApplicationPolicyError::Reference)
            }
        }
    }
}

impl TryFrom<peer::ApplicationPolicy> for ApplicationPolicy {
    type Error = ApplicationPolicyError;

    fn try_from(policy: peer::ApplicationPolicy) -> Result<Self, ApplicationPolicyError> {
        match policy.r#type {
            Some(Type::SignaturePolicy(envelope)) => Ok(Self::Signature(envelope)),
            Some(Type::ChannelConfigPolicyReference(path)) => Ok(Self::ChannelReference(path)),
            None => Err(ApplicationPolicyError::Empty),
        }
    }
}

impl From<ApplicationPolicy> for peer::ApplicationPolicy {
    fn from(policy: ApplicationPolicy) -> Self {
        let r#type = match policy {
            ApplicationPolicy::Signature(envelope) => Type::SignaturePolicy(envelope),
            ApplicationPolicy::ChannelReference(path) => Type::ChannelConfigPolicyReference(path),
        };
        Self { r#type: Some(r#type) }
    }
}
