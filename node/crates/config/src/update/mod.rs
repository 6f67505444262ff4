//! Changes of a channel's configuration: computed by whoever wants one ([`compute`]), signed by those
//! whose agreement it needs ([`sign_update`]), sent in an envelope ([`update_envelope`]), checked and
//! carried out by orderers ([`Bundle::propose`], [`config_envelope`]), and checked again by everyone
//! who receives the config block ([`Bundle::validate_next`]).
//!
//! The rules (Fabric: `common/configtx/update.go`, `validator.go`): the update is for this channel;
//! every element of its read set stands at the version it says; the write set changes something; a
//! changed element's version is one above the current one, and the policy named by the *current*
//! element's mod_policy is satisfied by the signers; a new element has version 0; every written
//! element has a mod_policy.

mod apply;
mod compute;
pub(crate) mod element;

use weft_msp::{
    ValidAt,
    policy::{PolicyError, SignedData},
};
use weft_protos::{
    common::{
        Config, ConfigEnvelope, ConfigUpdate, ConfigUpdateEnvelope, Envelope, HeaderType,
        SignatureHeader,
    },
    ext::{DecodeError, decode},
};
use weft_types::{ChannelId, EnvelopeError, ParsedPayload, config::update_signed_bytes};

pub use compute::{ComputeError, compute};
pub use element::{ElementKind, ElementPath, PathError};
pub use weft_types::config::{config_envelope, sign_update, update_envelope};

use crate::{
    bundle::{Bundle, ConfigError},
    transition::{self, TransitionError},
};

/// An update that was refused. Paths read as `[Value] /Channel/Orderer/BatchSize`.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Bytes are not the message they should be.
    #[error("failed to read the configuration update")]
    Decode {
        /// What is wrong.
        source: DecodeError,
    },
    /// The envelope has no payload, or one that cannot be read.
    #[error("failed to read the envelope of the configuration update")]
    Envelope {
        /// What is wrong.
        source: EnvelopeError,
    },
    /// The envelope carries something else.
    #[error(
        "failed to read the configuration update: the envelope is of type {kind}, not CONFIG_UPDATE (2)"
    )]
    NotAnUpdate {
        /// The header's type.
        kind: i32,
    },
    /// The update is for another channel.
    #[error("failed to accept the update: it is for channel {found:?}, not {expected}")]
    Channel {
        /// The channel it names, cut to a readable length.
        found: String,
        /// This channel.
        expected: ChannelId,
    },
    /// A name or a mod_policy is not allowed.
    #[error("failed to accept the {set} set")]
    Path {
        /// `read`, `write`, or `current` for the configuration itself.
        set: &'static str,
        /// What is wrong.
        source: PathError,
    },
    /// Something the update relies on has changed, or does not exist. Computing the update anew can
    /// help.
    #[error("failed to accept the read set: {path} is expected at version {expected}, not {}", version(*current))]
    ReadVersion {
        /// The element.
        path: ElementPath,
        /// Its version in the read set.
        expected: u64,
        /// Its version in the configuration, `None` where it does not exist.
        current: Option<u64>,
    },
    /// The write set says nothing that the read set does not.
    #[error("failed to accept the update: it changes nothing")]
    NoChange,
    /// A written version does not follow the current one.
    #[error("failed to accept the write set: {path} is written at version {written}, but stands at {}", version(*current))]
    WriteVersion {
        /// The element.
        path: ElementPath,
        /// The version in the write set.
        written: u64,
        /// The version in the configuration, `None` where it does not exist (then 0 is due).
        current: Option<u64>,
    },
    /// The signers may not change an element.
    #[error("failed to change {path}: its policy {policy} is not satisfied")]
    Refused {
        /// The element.
        path: ElementPath,
        /// Absolute path of the policy that governs it.
        policy: String,
        /// Why.
        #[source]
        source: Box<PolicyError>,
    },
    /// A group lists a member that is written nowhere.
    #[error("failed to apply the update: a group lists {path}, which does not exist")]
    Missing {
        /// The member.
        path: ElementPath,
    },
    /// An element is written whose group does not list it, so that it would be dropped.
    #[error(
        "failed to apply the update: {path} is written, but its group is not changed to list it"
    )]
    Unlisted {
        /// The element.
        path: ElementPath,
    },
    /// The configuration after the update cannot be used.
    #[error("failed to accept the configuration that the update leads to")]
    Result {
        /// What is wrong.
        #[source]
        source: Box<ConfigError>,
    },
    /// The configuration after the update may not follow the present one.
    #[error("failed to accept the configuration that the update leads to")]
    Transition {
        /// What is wrong.
        #[source]
        source: Box<TransitionError>,
    },
    /// A config envelope lacks a part.
    #[error("failed to read the config envelope: it has no {part}")]
    Incomplete {
        /// `config` or `last update`.
        part: &'static str,
    },
    /// A config envelope does not have the next number.
    #[error("failed to accept the config envelope: its sequence is {found}, after {current}")]
    Sequence {
        /// The sequence it has.
        found: u64,
        /// The sequence of the present configuration.
        current: u64,
    },
    /// A config envelope's configuration is not what its update leads to.
    #[error("failed to accept the config envelope: its update does not lead to its configuration")]
    Mismatch,
}

fn version(version: Option<u64>) -> String {
    version.map_or_else(|| "absent".to_owned(), |version| format!("version {version}"))
}

impl UpdateError {
    /// Whether the update was refused for lack of rights, which clients are told as FORBIDDEN,
    /// and not for its form.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// Reads the update out of a CONFIG_UPDATE envelope.
///
/// # Errors
/// Fails where the envelope is malformed or carries something else.
pub fn update_of(envelope: &Envelope) -> Result<ConfigUpdateEnvelope, UpdateError> {
    let payload = ParsedPayload::parse(envelope.payload.clone())
        .map_err(|source| UpdateError::Envelope { source })?;
    let kind = payload.header.channel_header.r#type;
    if kind != i32::from(HeaderType::ConfigUpdate) {
        return Err(UpdateError::NotAnUpdate { kind });
    }
    decode("config update envelope", payload.data).map_err(|source| UpdateError::Decode { source })
}

/// What became of an update: the envelope that carries the outcome, and the outcome itself.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// The next configuration beside the update, to be ordered as a CONFIG transaction.
    pub envelope: ConfigEnvelope,
    /// The next configuration, validated.
    pub next: Bundle,
}

impl Bundle {
    /// Checks the update in a CONFIG_UPDATE envelope and applies it. `at` is the time by which
    /// signers' certificates must be valid; orderers pass the present.
    ///
    /// Stricter than Fabric in one thing: an element that is written but would be dropped from the
    /// result is an error, not silently without effect.
    ///
    /// # Errors
    /// Fails where any rule of this module, of [`Bundle::new`] or of [`transition::check`] is broken.
    pub fn propose(
        &self,
        update: &Envelope,
        at: impl Into<ValidAt>,
    ) -> Result<Proposed, UpdateError> {
        let config = self.authorized(update, at.into(), Unlisted::Refused)?;
        let next = self.successor(config.clone())?;
        let envelope = ConfigEnvelope { config: Some(config), last_update: Some(update.clone()) };
        Ok(Proposed { envelope, next })
    }

    /// [`Self::propose`] for those who need the envelope only.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub fn propose_update(
        &self,
        update: &Envelope,
        at: impl Into<ValidAt>,
    ) -> Result<ConfigEnvelope, UpdateError> {
        self.propose(update, at).map(|proposed| proposed.envelope)
    }

    /// Checks the content of a CONFIG transaction against this configuration, the one before it, and
    /// returns the configuration after it. Committers pass [`ValidAt::Issuance`], so that a block is
    /// judged the same whenever it is received.
    ///
    /// # Errors
    /// Fails where the sequence is not the next one, the update was not allowed, or does not lead to
    /// the configuration in the envelope.
    pub fn validate_next(
        &self,
        envelope: &ConfigEnvelope,
        at: impl Into<ValidAt>,
    ) -> Result<Bundle, UpdateError> {
        let config = envelope.config.as_ref().ok_or(UpdateError::Incomplete { part: "config" })?;
        let update =
            envelope.last_update.as_ref().ok_or(UpdateError::Incomplete { part: "last update" })?;
        if Some(config.sequence) != self.sequence().checked_add(1) {
            let (found, current) = (config.sequence, self.sequence());
            return Err(UpdateError::Sequence { found, current });
        }
        let expected = self.authorized(update, at.into(), Unlisted::Dropped)?;
        if expected != *config {
            return Err(UpdateError::Mismatch);
        }
        self.successor(expected)
    }

    fn authorized(
        &self,
        update: &Envelope,
        at: ValidAt,
        unlisted: Unlisted,
    ) -> Result<Config, UpdateError> {
        let signed = update_of(update)?;
        let signatures = signed_data(&signed)?;
        let update: ConfigUpdate = decode("config update", signed.config_update)
            .map_err(|source| UpdateError::Decode { source })?;
        if update.channel_id != self.channel_id().as_str() {
            return Err(UpdateError::Channel {
                found: update.channel_id.chars().take(249).collect(),
                expected: self.channel_id().clone(),
            });
        }
        let current = apply::elements(self.config())?;
        let delta = apply::Delta::of(&current, &update)?;
        delta.authorize(&current, self.policies(), &signatures, at)?;
        let group = delta.apply(&current)?;
        if let (Unlisted::Refused, Some(path)) = (unlisted, delta.lost_in(&group)?) {
            return Err(UpdateError::Unlisted { path });
        }
        let sequence = self.sequence().saturating_add(1);
        Ok(Config { sequence, channel_group: Some(group) })
    }

    fn successor(&self, config: Config) -> Result<Bundle, UpdateError> {
        let next = Bundle::new(self.channel_id().clone(), config)
            .map_err(|source| UpdateError::Result { source: Box::new(source) })?;
        transition::check(self, &next)
            .map_err(|source| UpdateError::Transition { source: Box::new(source) })?;
        Ok(next)
    }
}

/// What happens to written elements that no group lists.
#[derive(Clone, Copy)]
enum Unlisted {
    /// The update is refused: whoever wrote it meant something else.
    Refused,
    /// They are dropped. Every node must agree on what is in the chain, Fabric's too.
    Dropped,
}

/// The signatures of an update, each over its own header and the update.
fn signed_data(update: &ConfigUpdateEnvelope) -> Result<Vec<SignedData>, UpdateError> {
    let signatures = update.signatures.iter();
    signatures
        .map(|signature| {
            let header: SignatureHeader =
                decode("signature header", signature.signature_header.clone())
                    .map_err(|source| UpdateError::Decode { source })?;
            let data = update_signed_bytes(&signature.signature_header, &update.config_update);
            Ok(SignedData {
                data: data.into(),
                identity: header.creator,
                signature: signature.signature.clone(),
            })
        })
        .collect()
}
