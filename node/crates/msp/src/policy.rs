//! Policies: who has to sign.
//!
//! A [`Policy`] is either a signature policy (thresholds over principals) or one over the policies
//! of a name in the direct subgroups (implicit meta policy). A [`PolicyManager`] holds the policies
//! of a channel configuration as a tree. [`dsl`] is the text form of signature policies,
//! [`application`] the form in which chaincodes name theirs, [`plan`] turns one into the sets of
//! principals that satisfy it.
//!
//! Signatures that do not hold, and identities that cannot be read, are left out of the count
//! rather than being errors; an identity that signed twice counts once (Fabric:
//! common/policies/policy.go, `SignatureSetToValidIdentities`).

pub mod application;
pub mod dsl;
mod evaluation;
mod implicit_meta;
mod manager;
pub mod plan;
mod signature;
mod unsatisfied;

use std::sync::Arc;

use bytes::Bytes;
use weft_crypto::SignatureError;
use weft_protos::{
    common::{self, ImplicitMetaPolicy, SignaturePolicyEnvelope, policy::PolicyType},
    ext::{DecodeError, decode},
};

pub use manager::{PolicyManager, PolicyTree, PolicyTreeError};
pub use signature::any_of;
pub use unsatisfied::{IgnoredSignature, Unsatisfied};

use self::{
    evaluation::Evaluation,
    implicit_meta::ImplicitMeta,
    signature::{Signature, merge_into},
};
use crate::{
    authenticated::Authenticated,
    identity::{Identity, ValidAt},
    manager::MspManager,
    msp::DeserializeError,
};

/// Bytes, and somebody's signature over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedData {
    /// What was signed.
    pub data: Bytes,
    /// Encoded `msp.SerializedIdentity` of the signer.
    pub identity: Bytes,
    /// The signature, DER.
    pub signature: Bytes,
}

/// A policy cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The policy is empty.
    #[error("the policy is empty")]
    Empty,
    /// The type is not one this software knows: 1 is a signature policy, 3 an implicit meta policy.
    #[error("policy type {0} is not supported, only 1 (signature) and 3 (implicit meta)")]
    Type(i32),
    /// The policy's bytes are not what its type says.
    #[error("failed to read the policy")]
    Decode(#[source] DecodeError),
    /// The version of the signature policy is not 0.
    #[error("version {0} of signature policies is not supported, only 0")]
    Version(i32),
    /// A rule names a principal that is not there.
    #[error("a rule asks for principal {index}, and there are {count}")]
    PrincipalIndex {
        /// Index of the principal.
        index: i32,
        /// Number of principals.
        count: usize,
    },
    /// The rule of an implicit meta policy is not ANY, ALL or MAJORITY.
    #[error("rule {0} of implicit meta policies is not known")]
    ImplicitRule(i32),
}

/// A policy is not satisfied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is no such policy, so nothing satisfies it.
    #[error("policy {path:?} does not exist")]
    Missing {
        /// The path that was asked for.
        path: String,
    },
    /// Too few of those who have to sign did.
    #[error("{0}")]
    Unsatisfied(Box<Unsatisfied>),
    /// The policy refers to one that does not exist, so it cannot be written as a signature policy.
    #[error("policy {path:?} depends on {missing:?}, which does not exist")]
    Incomplete {
        /// The policy.
        path: String,
        /// What it depends on.
        missing: String,
    },
}

/// A policy, ready to be evaluated.
pub struct Policy {
    name: Arc<str>,
    kind: Kind,
    msps: Arc<MspManager>,
}

enum Kind {
    Signature(Signature),
    ImplicitMeta(ImplicitMeta),
}

impl Policy {
    /// A signature policy of its own, outside any channel configuration. `name` is what errors call
    /// it; identities are read by `msps`.
    ///
    /// A principal that cannot be read is no error: nobody satisfies it.
    ///
    /// # Errors
    /// [`CompileError`] when a rule is empty or refers to a principal that is not there.
    pub fn signature(
        name: &str,
        envelope: &SignaturePolicyEnvelope,
        msps: Arc<MspManager>,
    ) -> Result<Self, CompileError> {
        let kind = Kind::Signature(Signature::new(envelope)?);
        Ok(Self { name: name.into(), kind, msps })
    }

    /// A policy of a channel configuration. `children` are the managers of the direct subgroups.
    fn of_config(
        name: &str,
        policy: &common::Policy,
        children: &[(&String, &PolicyManager)],
        msps: Arc<MspManager>,
    ) -> Result<Self, CompileError> {
        let value = policy.value.clone();
        if policy.r#type == i32::from(PolicyType::Signature) {
            let envelope: SignaturePolicyEnvelope =
                decode("signature policy", value).map_err(CompileError::Decode)?;
            return Self::signature(name, &envelope, msps);
        }
        if policy.r#type == i32::from(PolicyType::ImplicitMeta) {
            let meta: ImplicitMetaPolicy =
                decode("implicit meta policy", value).map_err(CompileError::Decode)?;
            let kind = Kind::ImplicitMeta(ImplicitMeta::new(&meta, children)?);
            return Ok(Self { name: name.into(), kind, msps });
        }
        Err(CompileError::Type(policy.r#type))
    }

    /// The policy's path, or what it was called when it was made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks that those who signed satisfy the policy. Every signature is verified; signatures and
    /// identities that do not hold are left out and named in the error.
    ///
    /// # Errors
    /// [`PolicyError::Unsatisfied`] when they do not.
    pub fn evaluate(
        &self,
        signatures: &[SignedData],
        at: impl Into<ValidAt>,
    ) -> Result<(), PolicyError> {
        let at = at.into();
        let (identities, ignored) = self.signers(signatures);
        let evaluation = Evaluation { identities: &identities, at };
        if self.holds(evaluation) {
            return Ok(());
        }
        Err(self.unsatisfied(evaluation, ignored))
    }

    /// Checks that `signers`, whose signatures the caller has verified, satisfy the policy. Each is
    /// read by the policy's own MSPs, whichever read it before; one that those do not know is left
    /// out and named in the error, and one that stands there twice counts once.
    ///
    /// # Errors
    /// [`PolicyError::Unsatisfied`] when they do not.
    pub fn evaluate_authenticated(
        &self,
        signers: &[Authenticated],
        at: impl Into<ValidAt>,
    ) -> Result<(), PolicyError> {
        let (identities, ignored) = self.known(signers);
        let evaluation = Evaluation { identities: &identities, at: at.into() };
        if self.holds(evaluation) {
            return Ok(());
        }
        Err(self.unsatisfied(evaluation, ignored))
    }

    /// The policy as a signature policy: the subgroups' policies become rules of a threshold
    /// (Fabric: common/policies/convert.go).
    ///
    /// # Errors
    /// [`PolicyError::Incomplete`] when a policy it depends on does not exist.
    pub fn to_envelope(&self) -> Result<SignaturePolicyEnvelope, PolicyError> {
        match &self.kind {
            Kind::Signature(signature) => Ok(signature.envelope().clone()),
            Kind::ImplicitMeta(meta) => {
                let mut rules = Vec::new();
                let mut principals = Vec::new();
                for sub in meta.subs() {
                    let policy = sub.policy.as_ref().ok_or_else(|| PolicyError::Incomplete {
                        path: self.name.to_string(),
                        missing: sub.path.clone(),
                    })?;
                    rules.push(merge_into(&mut principals, &policy.to_envelope()?));
                }
                Ok(signature::envelope(meta.threshold(), rules, principals))
            }
        }
    }

    /// Those of `signers` that the policy's MSPs know, and why others were left out.
    fn known(&self, signers: &[Authenticated]) -> (Vec<Arc<Identity>>, Vec<IgnoredSignature>) {
        let mut identities = Vec::with_capacity(signers.len());
        let mut ignored = Vec::new();
        for (index, signer) in signers.iter().enumerate() {
            match self.msps.identity_of(signer) {
                Ok(identity) => identities.push(identity),
                Err(error) => {
                    let reason = IgnoredReason::Identity(error);
                    ignored.push(IgnoredSignature { index, reason });
                }
            }
        }
        (identities, ignored)
    }

    /// The identities whose signatures hold, each once, and why others were left out.
    fn signers(&self, signatures: &[SignedData]) -> (Vec<Arc<Identity>>, Vec<IgnoredSignature>) {
        let mut identities: Vec<Arc<Identity>> = Vec::with_capacity(signatures.len());
        let mut ignored = Vec::new();
        for (index, signed) in signatures.iter().enumerate() {
            match self.signer(signed, &identities) {
                Ok(identity) => identities.push(identity),
                Err(reason) => ignored.push(IgnoredSignature { index, reason }),
            }
        }
        (identities, ignored)
    }

    /// Looks for a duplicate before verifying, so that nobody can make this node verify the same
    /// signature over and over.
    fn signer(
        &self,
        signed: &SignedData,
        before: &[Arc<Identity>],
    ) -> Result<Arc<Identity>, IgnoredReason> {
        let identity =
            self.msps.deserialize_identity(&signed.identity).map_err(IgnoredReason::Identity)?;
        if before.iter().any(|other| other.is_same(&identity)) {
            return Err(IgnoredReason::Duplicate);
        }
        match identity.verify(&signed.data, &signed.signature) {
            Ok(()) => Ok(identity),
            Err(source) => Err(IgnoredReason::Signature(source)),
        }
    }

    fn holds(&self, evaluation: Evaluation<'_>) -> bool {
        match &self.kind {
            Kind::Signature(signature) => signature.holds(evaluation),
            Kind::ImplicitMeta(meta) => meta.holds(evaluation),
        }
    }

    /// Works out, again and in detail, how far the signers got.
    fn unsatisfied(
        &self,
        evaluation: Evaluation<'_>,
        ignored: Vec<IgnoredSignature>,
    ) -> PolicyError {
        let (satisfied, needed, detail) = match &self.kind {
            Kind::Signature(signature) => signature.explain(evaluation),
            Kind::ImplicitMeta(meta) => meta.explain(evaluation),
        };
        PolicyError::Unsatisfied(Box::new(Unsatisfied {
            policy: Arc::clone(&self.name),
            satisfied,
            needed,
            detail,
            signers: evaluation.identities.iter().map(ToString::to_string).collect(),
            ignored,
        }))
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoredReason {
    /// The signer cannot be read or is not trusted.
    #[error("{0}")]
    Identity(DeserializeError),
    /// The signer signed before.
    #[error("the same identity signed before")]
    Duplicate,
    /// The signature does not hold.
    #[error("{0}")]
    Signature(SignatureError),
}
