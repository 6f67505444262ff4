//! Endorsement policies of single keys (Fabric: fabric-chaincode-go pkg/statebased).

use bytes::Bytes;
use prost::Message;
use weft_protos::common::signature_policy::{NOutOf, Type};
use weft_protos::common::{MspPrincipal, MspRole, msp_principal, msp_role};
use weft_protos::common::{SignaturePolicy, SignaturePolicyEnvelope};

/// Name of the metadata that holds a key's policy (Fabric:
/// core/ledger … VALIDATION_PARAMETER).
pub(crate) const METADATA_KEY: &str = "VALIDATION_PARAMETER";

/// Role of an endorser in its organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Anybody of the organization.
    Member,
    /// A peer of the organization.
    Peer,
}

/// An endorsement policy of one key, in place of the contract's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPolicy {
    envelope: SignaturePolicyEnvelope,
}

impl KeyPolicy {
    /// Every one of these organizations must endorse.
    pub fn all_of<'a>(organizations: impl IntoIterator<Item = (&'a str, Role)>) -> Self {
        let identities: Vec<_> = organizations.into_iter().map(principal).collect();
        let n = i32::try_from(identities.len()).unwrap_or(i32::MAX);
        Self::n_of(n, identities)
    }

    /// Any `n` of these organizations must endorse.
    pub fn any_of<'a>(n: u16, organizations: impl IntoIterator<Item = (&'a str, Role)>) -> Self {
        Self::n_of(n.into(), organizations.into_iter().map(principal).collect())
    }

    fn n_of(n: i32, identities: Vec<MspPrincipal>) -> Self {
        let rules = (0..).take(identities.len()).map(signed_by).collect();
        let rule = SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n, rules })) };
        Self { envelope: SignaturePolicyEnvelope { version: 0, rule: Some(rule), identities } }
    }

    /// The policy's encoding, as the ledger keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.envelope.encode_to_vec().into()
    }
}

fn signed_by(index: i32) -> SignaturePolicy {
    SignaturePolicy { r#type: Some(Type::SignedBy(index)) }
}

fn principal((msp_id, role): (&str, Role)) -> MspPrincipal {
    let role = match role {
        Role::Member => msp_role::MspRoleType::Member,
        Role::Peer => msp_role::MspRoleType::Peer,
    };
    let role = MspRole { msp_identifier: msp_id.to_owned(), role: role.into() };
    MspPrincipal {
        principal_classification: msp_principal::Classification::Role.into(),
        principal: role.encode_to_vec().into(),
    }
}
