//! An identity: a certificate under an MSP, with everything about it that does not change.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use weft_crypto::{Certificate, SignatureError};
use weft_protos::common::MspPrincipal;
use weft_types::{MspId, Timestamp};

use crate::authenticated::Authenticated;
use crate::principal::{Principal, PrincipalError};
use crate::realm::Realm;
use crate::vouched::Vouched;

/// When a certificate has to be within its validity period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidAt {
    /// At this time, together with every authority of its chain (RFC 5280, 6.1.3).
    Time(Timestamp),
    /// At the time it was issued: whether it has expired since is not asked. This is the rule for
    /// everything that is read back from a chain, as the answer must be the same on every node and
    /// in every year (Fabric: msp/mspimplvalidate.go, `getValidityOptsForCert`).
    Issuance,
}

impl From<Timestamp> for ValidAt {
    fn from(at: Timestamp) -> Self {
        Self::Time(at)
    }
}

/// A period of time, both ends included: it ends with the last nanosecond of its last second, as
/// certificates tell time in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First point in time within.
    pub not_before: Timestamp,
    /// Last second within.
    pub not_after: Timestamp,
}

impl Window {
    /// The validity period of a certificate.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Self {
        Self { not_before: certificate.not_before(), not_after: certificate.not_after() }
    }

    /// Whether `at` is within.
    #[must_use]
    pub fn contains(self, at: Timestamp) -> bool {
        self.not_before <= at && at.seconds() <= self.not_after.seconds()
    }

    /// What both periods have in common; it contains nothing when they do not overlap.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// A role that a certificate can carry as an organizational unit (Fabric: NodeOUs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRole {
    /// An application.
    Client,
    /// A peer.
    Peer,
    /// An administrator.
    Admin,
    /// An orderer.
    Orderer,
}

impl NodeRole {
    /// All roles, in the order in which a later one of the same unit name wins.
    pub const ALL: [Self; 4] = [Self::Client, Self::Peer, Self::Admin, Self::Orderer];

    /// The role's name in policies and the customary name of its unit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Admin => "admin",
            Self::Orderer => "orderer",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`NodeRole`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// Whether `role` is in the set.
    #[must_use]
    pub const fn contains(self, role: NodeRole) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// The set with `role`.
    #[must_use]
    pub const fn with(self, role: NodeRole) -> Self {
        Self(self.0 | 1 << role as u8)
    }

    /// The roles in the set.
    pub fn iter(self) -> impl Iterator<Item = NodeRole> {
        NodeRole::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(NodeRole::as_str)).finish()
    }
}

/// SHA-256 of the certificate, with its signature brought to low-S first: the two forms in which
/// anybody can write the same certificate are one identity (Fabric: msp/identities.go).
pub type IdentityId = [u8; 32];

/// Why an identity is not a valid member of its MSP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate, or an authority above it, is not valid yet.
    #[error("the certificate is not valid before {not_before} (judged at {at})")]
    NotYetValid {
        /// Start of the common validity period of the chain.
        not_before: Timestamp,
        /// The time it was judged at.
        at: Timestamp,
    },
    /// The certificate, or an authority above it, has expired.
    #[error("the certificate expired at {not_after} (judged at {at})")]
    Expired {
        /// End of the common validity period of the chain.
        not_after: Timestamp,
        /// The time it was judged at.
        at: Timestamp,
    },
    /// The certificate is one of an authority.
    #[error("the certificate is one of an authority and cannot be an identity")]
    IsAuthority,
    /// The authority that issued it has subordinate authorities in this MSP, so only those may
    /// issue identities (Fabric: msp/mspimpl.go, `getValidationChain`).
    #[error(
        "the issuing authority {issuer:?} has intermediate authorities and may not issue identities"
    )]
    IssuerNotLeaf {
        /// Common name of the issuing authority.
        issuer: String,
    },
    /// A revocation list names it.
    #[error("the certificate with serial number {serial} has been revoked")]
    Revoked {
        /// Serial number in hexadecimal.
        serial: String,
    },
    /// The MSP asks for certain organizational units and the certificate is in none of them.
    #[error("none of the organizational units {units:?} is one that the MSP recognizes")]
    UnitNotRecognized {
        /// The certificate's units.
        units: Vec<String>,
    },
    /// The unit stands for a role, but under another authority than the one the role is tied to.
    #[error(
        "organizational unit {unit:?} was certified by another authority than its role asks for"
    )]
    WrongCertifier {
        /// The unit.
        unit: String,
    },
    /// The MSP tells roles by organizational unit and the certificate has none of them.
    #[error("none of the organizational units {units:?} stands for client, peer, admin or orderer")]
    NoRole {
        /// The certificate's units.
        units: Vec<String>,
    },
    /// The certificate has more than one role.
    #[error(
        "the organizational units {units:?} stand for more than one of client, peer, admin and orderer"
    )]
    SeveralRoles {
        /// The certificate's units.
        units: Vec<String>,
    },
}

/// A certificate under an MSP.
///
/// Made by [`Msp`](crate::Msp) or [`MspManager`](crate::MspManager), which only make one when the
/// certificate's chain leads to a root of the MSP. Everything that does not depend on time is worked
/// out then, so that the checks below compare a few values and allocate nothing.
pub struct Identity {
    pub(crate) msp_id: MspId,
    pub(crate) certificate: Certificate,
    pub(crate) serialized: Bytes,
    pub(crate) id: IdentityId,
    pub(crate) certifiers: [u8; 32],
    pub(crate) roles: Roles,
    pub(crate) roles_enabled: bool,
    pub(crate) listed_admin: bool,
    pub(crate) window: Window,
    pub(crate) verdict: Result<(), IdentityError>,
    pub(crate) vouched: Vouched,
    pub(crate) realm: Realm,
}

impl Identity {
    /// The MSP it belongs to.
    #[must_use]
    pub fn msp_id(&self) -> &MspId {
        &self.msp_id
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The encoded `msp.SerializedIdentity` it was read from.
    #[must_use]
    pub fn serialized(&self) -> &Bytes {
        &self.serialized
    }

    /// What tells it from other identities of the same MSP.
    #[must_use]
    pub fn id(&self) -> &IdentityId {
        &self.id
    }

    /// Whether both are the same identity of the same MSP.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.msp_id == other.msp_id
    }

    /// Organizational units of the certificate's subject, in order.
    #[must_use]
    pub fn organizational_units(&self) -> &[String] {
        self.certificate.subject_ous()
    }

    /// SHA-256 over the authorities' certificates, from the issuer up to the root: what an
    /// organizational unit is tied to (Fabric: msp/mspimpl.go, `getCertificationChainIdentifier`).
    #[must_use]
    pub fn certifiers_identifier(&self) -> &[u8; 32] {
        &self.certifiers
    }

    /// The roles its units stand for; empty when the MSP does not tell roles by unit. More than one
    /// makes the identity invalid.
    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Whether it administers its MSP, by role or by being listed. Does not say that it is valid.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.listed_admin || self.roles.contains(NodeRole::Admin)
    }

    /// The period in which the certificate and every authority of its chain are valid.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// When the certificate itself expires.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.certificate.not_after()
    }

    /// Checks that `signature` over `message` is this identity's: ECDSA over SHA-256, DER, low-S.
    ///
    /// # Errors
    /// [`SignatureError`] when it is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        if self.vouched.take(message, signature) {
            return Ok(());
        }
        self.certificate.public_key().verify(message, signature)
    }

    /// [`verify`](Self::verify), and what is proven by it: that the holder of this identity's key
    /// is there. Access is checked with that, under the MSPs of whatever is accessed.
    ///
    /// # Errors
    /// [`SignatureError`] when the signature is not this identity's.
    pub fn authenticate(
        self: &Arc<Self>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<Authenticated, SignatureError> {
        self.verify(message, signature)?;
        Ok(Authenticated::of(self))
    }

    /// Records that `signature` over `message` holds, because it was made here with this identity's
    /// own key: a peer that endorses a transaction need not check its endorsement when the
    /// transaction comes back in a block. The next [`verify`](Self::verify) of the two is answered
    /// by that; only the last few thousand are remembered.
    pub fn vouch(&self, message: &[u8], signature: &[u8]) {
        self.vouched.add(message, signature);
    }

    /// Checks that it is a valid member of its MSP.
    ///
    /// # Errors
    /// [`IdentityError`] when it is revoked, has not exactly one role where the MSP asks for roles,
    /// is in no unit that the MSP recognizes, or is outside its validity period.
    pub fn validate(&self, at: impl Into<ValidAt>) -> Result<(), IdentityError> {
        if let Err(error) = &self.verdict {
            return Err(error.clone());
        }
        let ValidAt::Time(at) = at.into() else { return Ok(()) };
        let Window { not_before, not_after } = self.window;
        if at < not_before {
            return Err(IdentityError::NotYetValid { not_before, at });
        }
        if at.seconds() > not_after.seconds() {
            return Err(IdentityError::Expired { not_after, at });
        }
        Ok(())
    }

    /// Checks that it is one of the identities that `principal` describes, and valid.
    ///
    /// A principal that is used more than once is better decoded once ([`Principal::decode`]).
    ///
    /// # Errors
    /// [`PrincipalError`] when it is not, or the principal cannot be read.
    pub fn satisfies(
        &self,
        principal: &MspPrincipal,
        at: impl Into<ValidAt>,
    ) -> Result<(), PrincipalError> {
        Principal::decode(principal)?.check(self, at)
    }
}

/// `Org1MSP/common name`, for messages to people.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.msp_id, self.certificate.subject_cn().unwrap_or("?"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &format_args!("{self}"))
            .field("roles", &self.roles)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}
