//! Principals: descriptions of sets of identities (Fabric: msp/mspimpl.go, `SatisfiesPrincipal`).

use std::fmt;

use bytes::Bytes;
use weft_crypto::Certificate;
use weft_protos::{
    common,
    common::{
        msp_identity_anonymity::MspIdentityAnonymityType, msp_principal::Classification,
        msp_role::MspRoleType,
    },
    ext::{DecodeError, decode},
    msp,
};

use crate::{
    canonical,
    identity::{Identity, IdentityError, IdentityId, NodeRole, ValidAt},
};

/// How deep combinations may nest. Fabric sets no limit; a principal nests inside opaque bytes, so
/// without one a small message could exhaust the stack.
const MAX_DEPTH: usize = 16;

/// Why an identity does not satisfy a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    /// The principal's bytes are not what its classification says.
    #[error("failed to read a principal")]
    Decode(#[source] DecodeError),
    /// The certificate of an identity principal cannot be read.
    #[error("failed to read the certificate of a principal: {reason}")]
    Certificate {
        /// What the reader says.
        reason: String,
    },
    /// The classification is not one this software knows.
    #[error("failed to read a principal: classification {0} is not known")]
    UnknownClassification(i32),
    /// The role is not one this software knows.
    #[error("failed to read a principal: role {0} is not known")]
    UnknownRole(i32),
    /// The anonymity is not one this software knows.
    #[error("failed to read a principal: anonymity {0} is not known")]
    UnknownAnonymity(i32),
    /// A combination of nothing.
    #[error("failed to read a principal: it combines no principals")]
    EmptyCombination,
    /// Combinations nest too deeply.
    #[error("failed to read a principal: combinations nest more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The identity belongs to another MSP.
    #[error("the identity is a member of another MSP")]
    OtherMsp,
    /// The identity is not valid.
    #[error("the identity is not valid")]
    Invalid(#[source] IdentityError),
    /// The MSP does not tell roles by organizational unit, so nobody has this one.
    #[error("the MSP does not tell identities apart by role, so none is a {0}")]
    RolesDisabled(PrincipalRole),
    /// The identity does not have the role.
    #[error("the identity is not a {0}")]
    NotInRole(PrincipalRole),
    /// The identity is not in the organizational unit.
    #[error("the identity is not in the organizational unit")]
    NotInUnit,
    /// The identity is another one.
    #[error("the identity is not the one named")]
    OtherIdentity,
    /// Identities with X.509 certificates are never anonymous.
    #[error("the identity must be anonymous, and one with an X.509 certificate is not")]
    NotAnonymous,
}

/// A role within an MSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalRole {
    /// Every valid identity.
    Member,
    /// An administrator, listed in the MSP or by organizational unit.
    Admin,
    /// A client by organizational unit.
    Client,
    /// A peer by organizational unit.
    Peer,
    /// An orderer by organizational unit.
    Orderer,
}

impl PrincipalRole {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Member, Self::Admin, Self::Client, Self::Peer, Self::Orderer];

    /// The role's name in the policy language.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Orderer => "orderer",
        }
    }

    const fn to_proto(self) -> MspRoleType {
        match self {
            Self::Member => MspRoleType::Member,
            Self::Admin => MspRoleType::Admin,
            Self::Client => MspRoleType::Client,
            Self::Peer => MspRoleType::Peer,
            Self::Orderer => MspRoleType::Orderer,
        }
    }

    const fn from_proto(role: MspRoleType) -> Self {
        match role {
            MspRoleType::Member => Self::Member,
            MspRoleType::Admin => Self::Admin,
            MspRoleType::Client => Self::Client,
            MspRoleType::Peer => Self::Peer,
            MspRoleType::Orderer => Self::Orderer,
        }
    }

    const fn node_role(self) -> Option<NodeRole> {
        match self {
            Self::Member => None,
            Self::Admin => Some(NodeRole::Admin),
            Self::Client => Some(NodeRole::Client),
            Self::Peer => Some(NodeRole::Peer),
            Self::Orderer => Some(NodeRole::Orderer),
        }
    }
}

impl fmt::Display for PrincipalRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A principal, decoded: checking an identity against it compares values and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The valid identities of an MSP that have a role.
    Role {
        /// The MSP's id.
        msp_id: String,
        /// The role.
        role: PrincipalRole,
    },
    /// The valid identities of an MSP in an organizational unit.
    OrganizationUnit {
        /// The MSP's id.
        msp_id: String,
        /// The unit.
        unit: String,
        /// [`Identity::certifiers_identifier`] that the unit is tied to.
        certifiers: Bytes,
    },
    /// One identity.
    Identity {
        /// The MSP's id.
        msp_id: String,
        /// [`Identity::id`].
        id: IdentityId,
    },
    /// Every identity that is not anonymous: all that have an X.509 certificate.
    Nominal,
    /// Every anonymous identity: none that has an X.509 certificate.
    Anonymous,
    /// The identities that satisfy all of these.
    Combined(Vec<Principal>),
}

impl Principal {
    /// Reads a principal.
    ///
    /// # Errors
    /// [`PrincipalError`] when its bytes are malformed or say something this software does not know.
    pub fn decode(principal: &common::MspPrincipal) -> Result<Self, PrincipalError> {
        Self::decode_within(principal, MAX_DEPTH)
    }

    fn decode_within(
        principal: &common::MspPrincipal,
        depth: usize,
    ) -> Result<Self, PrincipalError> {
        let bytes = principal.principal.clone();
        let classification = principal.principal_classification;
        match Classification::try_from(classification) {
            Ok(Classification::Role) => decode_role(bytes),
            Ok(Classification::OrganizationUnit) => decode_unit(bytes),
            Ok(Classification::Identity) => decode_identity(bytes),
            Ok(Classification::Anonymity) => decode_anonymity(bytes),
            Ok(Classification::Combined) => decode_combined(bytes, depth),
            Err(_) => Err(PrincipalError::UnknownClassification(classification)),
        }
    }

    /// Checks that `identity` is one that this principal describes, and valid.
    ///
    /// A listed administrator must be valid too; Fabric asks that only when the MSP is set up.
    ///
    /// # Errors
    /// [`PrincipalError`] saying why it is not.
    pub fn check(&self, identity: &Identity, at: impl Into<ValidAt>) -> Result<(), PrincipalError> {
        let at = at.into();
        match self {
            Self::Role { msp_id, role } => {
                of_msp(identity, msp_id)?;
                identity.validate(at).map_err(PrincipalError::Invalid)?;
                check_role(identity, *role)
            }
            Self::OrganizationUnit { msp_id, unit, certifiers } => {
                of_msp(identity, msp_id)?;
                identity.validate(at).map_err(PrincipalError::Invalid)?;
                let certified = identity.certifiers_identifier()[..] == certifiers[..];
                let member = identity.organizational_units().contains(unit);
                (certified && member).then_some(()).ok_or(PrincipalError::NotInUnit)
            }
            Self::Identity { msp_id, id } => {
                of_msp(identity, msp_id)?;
                if identity.id() != id {
                    return Err(PrincipalError::OtherIdentity);
                }
                identity.validate(at).map_err(PrincipalError::Invalid)
            }
            Self::Nominal => Ok(()),
            Self::Anonymous => Err(PrincipalError::NotAnonymous),
            Self::Combined(all) => all.iter().try_for_each(|one| one.check(identity, at)),
        }
    }

    /// The principal of everybody with `role` in the MSP `msp_id`, encoded.
    #[must_use]
    pub fn role(msp_id: &str, role: PrincipalRole) -> common::MspPrincipal {
        let role =
            common::MspRole { msp_identifier: msp_id.to_owned(), role: role.to_proto().into() };
        encoded(Classification::Role, &role)
    }

    /// The principal of one identity, encoded; `serialized` is its `msp.SerializedIdentity`.
    #[must_use]
    pub fn identity(serialized: Bytes) -> common::MspPrincipal {
        common::MspPrincipal {
            principal_classification: Classification::Identity.into(),
            principal: serialized,
        }
    }

    /// The MSP whose identities can satisfy it; `None` when it does not name one.
    #[must_use]
    pub fn msp_id(&self) -> Option<&str> {
        match self {
            Self::Role { msp_id, .. }
            | Self::OrganizationUnit { msp_id, .. }
            | Self::Identity { msp_id, .. } => Some(msp_id),
            Self::Nominal | Self::Anonymous => None,
            Self::Combined(all) => all.iter().find_map(Self::msp_id),
        }
    }
}

fn encoded(classification: Classification, message: &impl prost::Message) -> common::MspPrincipal {
    common::MspPrincipal {
        principal_classification: classification.into(),
        principal: message.encode_to_vec().into(),
    }
}

fn of_msp(identity: &Identity, msp_id: &str) -> Result<(), PrincipalError> {
    if identity.msp_id().as_str() == msp_id { Ok(()) } else { Err(PrincipalError::OtherMsp) }
}

fn check_role(identity: &Identity, role: PrincipalRole) -> Result<(), PrincipalError> {
    let Some(node_role) = role.node_role() else { return Ok(()) };
    if role == PrincipalRole::Admin && identity.listed_admin {
        return Ok(());
    }
    if role != PrincipalRole::Admin && !identity.roles_enabled {
        return Err(PrincipalError::RolesDisabled(role));
    }
    if identity.roles().contains(node_role) { Ok(()) } else { Err(PrincipalError::NotInRole(role)) }
}

fn decode_role(bytes: Bytes) -> Result<Principal, PrincipalError> {
    let role: common::MspRole = decode("role principal", bytes).map_err(PrincipalError::Decode)?;
    let known =
        MspRoleType::try_from(role.role).map_err(|_| PrincipalError::UnknownRole(role.role))?;
    Ok(Principal::Role { msp_id: role.msp_identifier, role: PrincipalRole::from_proto(known) })
}

fn decode_unit(bytes: Bytes) -> Result<Principal, PrincipalError> {
    let unit: common::OrganizationUnit =
        decode("organizational unit principal", bytes).map_err(PrincipalError::Decode)?;
    Ok(Principal::OrganizationUnit {
        msp_id: unit.msp_identifier,
        unit: unit.organizational_unit_identifier,
        certifiers: unit.certifiers_identifier,
    })
}

fn decode_identity(bytes: Bytes) -> Result<Principal, PrincipalError> {
    let identity: msp::SerializedIdentity =
        decode("identity principal", bytes).map_err(PrincipalError::Decode)?;
    let unreadable = |reason: String| PrincipalError::Certificate { reason };
    let text = std::str::from_utf8(&identity.id_bytes).map_err(|e| unreadable(e.to_string()))?;
    let certificate = Certificate::from_pem(text).map_err(|e| unreadable(e.to_string()))?;
    Ok(Principal::Identity { msp_id: identity.mspid, id: canonical::digest(&certificate) })
}

fn decode_anonymity(bytes: Bytes) -> Result<Principal, PrincipalError> {
    let anonymity: common::MspIdentityAnonymity =
        decode("anonymity principal", bytes).map_err(PrincipalError::Decode)?;
    match MspIdentityAnonymityType::try_from(anonymity.anonymity_type) {
        Ok(MspIdentityAnonymityType::Nominal) => Ok(Principal::Nominal),
        Ok(MspIdentityAnonymityType::Anonymous) => Ok(Principal::Anonymous),
        Err(_) => Err(PrincipalError::UnknownAnonymity(anonymity.anonymity_type)),
    }
}

fn decode_combined(bytes: Bytes, depth: usize) -> Result<Principal, PrincipalError> {
    let depth = depth.checked_sub(1).ok_or(PrincipalError::TooDeep)?;
    let combined: common::CombinedPrincipal =
        decode("combined principal", bytes).map_err(PrincipalError::Decode)?;
    if combined.principals.is_empty() {
        return Err(PrincipalError::EmptyCombination);
    }
    let all = combined.principals.iter().map(|one| Principal::decode_within(one, depth));
    Ok(Principal::Combined(all.collect::<Result<_, _>>()?))
}
