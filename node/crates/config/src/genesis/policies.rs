//! Policies as people write them, and the usual ones.

use std::collections::BTreeMap;

use prost::Message;
use weft_msp::policy::{any_of, dsl};
use weft_msp::{Principal, PrincipalRole};
use weft_protos::common::{
    self, ImplicitMetaPolicy, implicit_meta_policy::Rule, policy::PolicyType,
};
use weft_types::MspId;

use crate::keys;

/// Policies by name.
pub type Policies = BTreeMap<String, PolicyRule>;

/// A policy as people write it.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyRule {
    /// A signature policy.
    Signature(common::SignaturePolicyEnvelope),
    /// A threshold over the policies `sub_policy` of the direct subgroups.
    ImplicitMeta {
        /// How many of them must hold.
        rule: Rule,
        /// Their name.
        sub_policy: String,
    },
}

/// A policy text that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyRuleError {
    /// Neither `ANY|ALL|MAJORITY name` nor a signature policy.
    #[error("failed to read the policy {text:?}")]
    Signature {
        /// The text, cut to a readable length.
        text: String,
        /// What is wrong with it as a signature policy.
        source: dsl::ParseError,
    },
}

impl PolicyRule {
    /// Reads `ANY Readers`, `ALL Readers`, `MAJORITY Admins` or a signature policy such as
    /// `OR('Org1MSP.admin', 'Org1MSP.peer')`.
    ///
    /// # Errors
    /// Fails on any other text.
    pub fn parse(text: &str) -> Result<Self, PolicyRuleError> {
        if let Ok(meta) = dsl::parse_implicit_meta(text) {
            let rule = meta.rule();
            return Ok(Self::ImplicitMeta { rule, sub_policy: meta.sub_policy });
        }
        dsl::parse(text).map(Self::Signature).map_err(|source| PolicyRuleError::Signature {
            text: text.chars().take(256).collect(),
            source,
        })
    }

    /// At least one subgroup satisfies its policy `sub_policy`.
    #[must_use]
    pub fn any(sub_policy: &str) -> Self {
        Self::ImplicitMeta { rule: Rule::Any, sub_policy: sub_policy.to_owned() }
    }

    /// More than half of the subgroups satisfy their policy `sub_policy`.
    #[must_use]
    pub fn majority(sub_policy: &str) -> Self {
        Self::ImplicitMeta { rule: Rule::Majority, sub_policy: sub_policy.to_owned() }
    }

    /// The message it is written with.
    #[must_use]
    pub fn to_policy(&self) -> common::Policy {
        match self {
            Self::Signature(envelope) => common::Policy {
                r#type: PolicyType::Signature.into(),
                value: envelope.encode_to_vec().into(),
            },
            Self::ImplicitMeta { rule, sub_policy } => {
                let meta =
                    ImplicitMetaPolicy { sub_policy: sub_policy.clone(), rule: (*rule).into() };
                common::Policy {
                    r#type: PolicyType::ImplicitMeta.into(),
                    value: meta.encode_to_vec().into(),
                }
            }
        }
    }
}

/// Policies every group above organizations has.
pub(super) fn group_policies() -> Policies {
    [
        (keys::READERS, PolicyRule::any(keys::READERS)),
        (keys::WRITERS, PolicyRule::any(keys::WRITERS)),
        (keys::ADMINS, PolicyRule::majority(keys::ADMINS)),
    ]
    .map(|(name, rule)| (name.to_owned(), rule))
    .into()
}

/// The usual policies of an organization that transacts, for roles by organizational unit (NodeOUs):
/// Readers admin, peer, client; Writers admin, client; Admins admin; Endorsement peer.
#[must_use]
pub fn transacting_policies(msp_id: &MspId) -> Policies {
    use PrincipalRole::{Admin, Client, Peer};
    org_policies(
        msp_id,
        &[
            (keys::READERS, &[Admin, Peer, Client]),
            (keys::WRITERS, &[Admin, Client]),
            (keys::ADMINS, &[Admin]),
            (keys::ENDORSEMENT, &[Peer]),
        ],
    )
}

/// The usual policies of an organization that runs orderers, for roles by organizational unit
/// (NodeOUs): Readers and Writers admin, orderer, client; Admins admin; BlockValidation orderer, so
/// that no other key of the organization can sign a block.
#[must_use]
pub fn ordering_policies(msp_id: &MspId) -> Policies {
    use PrincipalRole::{Admin, Client, Orderer};
    org_policies(
        msp_id,
        &[
            (keys::READERS, &[Admin, Orderer, Client]),
            (keys::WRITERS, &[Admin, Orderer, Client]),
            (keys::ADMINS, &[Admin]),
            (keys::BLOCK_VALIDATION, &[Orderer]),
        ],
    )
}

/// One signature by a holder of any of the roles, for each policy.
fn org_policies(msp_id: &MspId, roles: &[(&str, &[PrincipalRole])]) -> Policies {
    let rule = |roles: &[PrincipalRole]| {
        let principals = roles.iter().map(|role| Principal::role(msp_id.as_str(), *role));
        PolicyRule::Signature(any_of(principals.collect()))
    };
    roles.iter().map(|(name, roles)| ((*name).to_owned(), rule(roles))).collect()
}
