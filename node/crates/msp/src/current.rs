//! What a running node signs as and judges its own organization's members by, and the rules under
//! which it takes over a renewed folder.
//!
//! Handles are shared and swapped as a whole. [`CurrentIdentity`] is deliberately no
//! [`Signer`](weft_types::Signer): a message names its signer and carries its signature, and both
//! have to be of the same certificate. Whoever makes a message takes [`CurrentIdentity::current`]
//! once and signs all of it with that.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use weft_protos::msp::FabricMspConfig;
use weft_types::{MspId, Signer as _, Timestamp};

use crate::identity::Roles;
use crate::{DeserializeError, Identity, IdentityError, Msp, MspError, MspManager};
use crate::{SigningIdentity, ValidAt};

/// The identity that a node signs as now. Clones share it.
#[derive(Debug, Clone)]
pub struct CurrentIdentity(Arc<ArcSwap<SigningIdentity>>);

impl CurrentIdentity {
    /// The identity as it is now: creator and key belong together, whatever is swapped later.
    #[must_use]
    pub fn current(&self) -> Arc<SigningIdentity> {
        self.0.load_full()
    }

    fn set(&self, identity: SigningIdentity) {
        self.0.store(Arc::new(identity));
    }
}

impl From<SigningIdentity> for CurrentIdentity {
    fn from(identity: SigningIdentity) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(identity)))
    }
}

/// The MSPs that a node judges by now. Clones share them.
#[derive(Debug, Clone)]
pub struct CurrentMsps(Arc<ArcSwap<MspManager>>);

impl CurrentMsps {
    /// The MSPs as they are now.
    #[must_use]
    pub fn current(&self) -> Arc<MspManager> {
        self.0.load_full()
    }
}

impl From<Arc<MspManager>> for CurrentMsps {
    fn from(msps: Arc<MspManager>) -> Self {
        Self(Arc::new(ArcSwap::new(msps)))
    }
}

/// Why a renewed folder is not taken over. What was in use stays in use.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The definition cannot be used.
    #[error("failed to set up the renewed MSP")]
    Msp(#[source] Box<MspError>),
    /// None of the roots in use is a root of the renewed definition: it is somebody else's. To
    /// replace a root, both stand in the folder for a while.
    #[error("failed to take over the renewed MSP: it has none of the roots in use")]
    Roots,
    /// The identity is of another MSP.
    #[error(
        "failed to take over the renewed identity: it is of {found}, the node is of {expected}"
    )]
    OtherMsp {
        /// The node's MSP.
        expected: MspId,
        /// The renewed identity's.
        found: MspId,
    },
    /// The certificate is not one of the MSP's.
    #[error("failed to take over the renewed certificate of {subject:?}")]
    Stranger {
        /// The certificate's subject.
        subject: String,
        /// Why not.
        #[source]
        source: Box<DeserializeError>,
    },
    /// The certificate is not valid now.
    #[error("failed to take over the renewed certificate of {subject:?}")]
    Invalid {
        /// The certificate's subject.
        subject: String,
        /// Why not.
        #[source]
        source: Box<IdentityError>,
    },
    /// The certificate lacks a role that the node had before.
    #[error(
        "failed to take over the renewed certificate of {subject:?}: its roles are {found:?}, the node's {expected:?}"
    )]
    Roles {
        /// The certificate's subject.
        subject: String,
        /// The roles so far.
        expected: Roles,
        /// The roles of the renewed certificate.
        found: Roles,
    },
}

/// What a renewal changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// The certificate, perhaps with its key.
    pub identity: bool,
    /// The MSP's definition: revocation lists, administrators, authorities, units.
    pub definition: bool,
}

impl Renewal {
    /// Whether anything changed.
    #[must_use]
    pub fn is_some(self) -> bool {
        self.identity || self.definition
    }
}

/// The MSP folder of a node, as it was last taken over.
#[derive(Debug)]
pub struct NodeMsp {
    id: MspId,
    identity: CurrentIdentity,
    msps: CurrentMsps,
    accepted: Mutex<Accepted>,
}

/// What a renewal is compared with.
#[derive(Debug)]
struct Accepted {
    definition: FabricMspConfig,
    /// Roles that the identity has; none where it is not a member of its MSP.
    roles: Roles,
}

/// A definition and an identity that were found good.
struct Judged {
    msps: MspManager,
    roles: Roles,
}

impl NodeMsp {
    /// The state at the node's start. An identity that is no valid member is not refused here, so
    /// that a node whose certificate ended can start and be given another; see
    /// [`NodeMsp::check`].
    ///
    /// # Errors
    /// [`MspError`] when the definition cannot be used.
    pub fn new(definition: FabricMspConfig, identity: SigningIdentity) -> Result<Self, MspError> {
        let msp = Msp::new(&definition)?;
        let member = member(&msp, &identity);
        let roles = member.map_or_else(|_| Roles::default(), |member| member.roles());
        Ok(Self {
            id: msp.id().clone(),
            identity: identity.into(),
            msps: Arc::new(MspManager::of(msp)).into(),
            accepted: Mutex::new(Accepted { definition, roles }),
        })
    }

    /// What the node signs as.
    #[must_use]
    pub fn identity(&self) -> &CurrentIdentity {
        &self.identity
    }

    /// The node's own MSP.
    #[must_use]
    pub fn msps(&self) -> &CurrentMsps {
        &self.msps
    }

    /// Whether the identity in use is a valid member of the MSP in use.
    ///
    /// # Errors
    /// [`RenewalError::Stranger`] and [`RenewalError::Invalid`] say why not.
    pub fn check(&self, now: Timestamp) -> Result<(), RenewalError> {
        let (identity, msps) = (self.identity.current(), self.msps.current());
        match msps.get(self.id.as_str()) {
            Some(msp) => valid_member(msp, &identity, now).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Takes over what changed, all or nothing: the definition has to share a root with the one
    /// in use, and the identity to be a valid member of it with the roles that the node had.
    ///
    /// # Errors
    /// [`RenewalError`] says what is wrong with it.
    pub fn renew(
        &self,
        definition: FabricMspConfig,
        identity: SigningIdentity,
        now: Timestamp,
    ) -> Result<Renewal, RenewalError> {
        let mut accepted = self.accepted.lock();
        let before = self.identity.current().serialized_identity();
        let renewal = Renewal {
            identity: before != identity.serialized_identity(),
            definition: accepted.definition != definition,
        };
        if !renewal.is_some() {
            return Ok(renewal);
        }
        let Judged { msps, roles } = self.judge(&definition, &identity, accepted.roles, now)?;
        // The MSP first: it knows the renewed identity, and most often the one before as well.
        if renewal.definition {
            self.msps.0.store(Arc::new(msps));
        }
        if renewal.identity {
            self.identity.set(identity);
        }
        *accepted = Accepted { definition, roles };
        Ok(renewal)
    }

    fn judge(
        &self,
        definition: &FabricMspConfig,
        identity: &SigningIdentity,
        roles: Roles,
        now: Timestamp,
    ) -> Result<Judged, RenewalError> {
        if identity.msp_id() != &self.id {
            let (expected, found) = (self.id.clone(), identity.msp_id().clone());
            return Err(RenewalError::OtherMsp { expected, found });
        }
        let msp = Msp::new(definition).map_err(|error| RenewalError::Msp(Box::new(error)))?;
        if !self.shares_root(&msp) {
            return Err(RenewalError::Roots);
        }
        let found = valid_member(&msp, identity, now)?.roles();
        if roles.iter().any(|role| !found.contains(role)) {
            let subject = subject(identity);
            return Err(RenewalError::Roles { subject, expected: roles, found });
        }
        Ok(Judged { msps: MspManager::of(msp), roles: found })
    }

    fn shares_root(&self, renewed: &Msp) -> bool {
        let msps = self.msps.current();
        let present = msps.get(self.id.as_str()).map(|msp| msp.root_certificates());
        let is_root = |root| renewed.root_certificates().contains(root);
        renewed.id() == &self.id && present.unwrap_or_default().iter().any(is_root)
    }
}

fn subject(identity: &SigningIdentity) -> String {
    identity.certificate().subject_text().to_owned()
}

fn member(msp: &Msp, identity: &SigningIdentity) -> Result<Identity, RenewalError> {
    let member = msp.deserialize_identity(&identity.serialized_identity());
    member.map_err(|source| RenewalError::Stranger {
        subject: subject(identity),
        source: Box::new(source),
    })
}

fn valid_member(
    msp: &Msp,
    identity: &SigningIdentity,
    now: Timestamp,
) -> Result<Identity, RenewalError> {
    let member = member(msp, identity)?;
    let valid = member.validate(ValidAt::Time(now));
    valid.map_err(|source| RenewalError::Invalid {
        subject: subject(identity),
        source: Box::new(source),
    })?;
    Ok(member)
}
