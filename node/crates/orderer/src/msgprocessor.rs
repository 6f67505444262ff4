//! Which envelopes are let in, and what a config update becomes
//! (Fabric: `orderer/common/msgprocessor`). Pure: time and nonces come in.
//!
//! Filters, in order: the envelope is not empty; its size is at most AbsoluteMaxBytes; its
//! creator's certificate has not expired; its signature satisfies `/Channel/Writers`, in
//! maintenance `/Channel/Orderer/Writers`.

use bytes::Bytes;
use prost::Message as _;
use weft_config::transition::{self, TransitionError};
use weft_config::update::{self, UpdateError};
use weft_config::{Bundle, Consensus, ConsensusState, OrdererConfig};
use weft_msp::policy::{PolicyError, SignedData};
use weft_protos::common::{ConfigEnvelope, Envelope, HeaderType, Status};
use weft_protos::ext::{DecodeError, decode};
use weft_types::{EnvelopeError, Nonce, ParsedEnvelope, SignError, Signer, Timestamp};

/// Path of the policy of writers in maintenance.
const ORDERER_WRITERS: &str = "/Channel/Orderer/Writers";
/// Path of the policy of readers in maintenance.
const ORDERER_READERS: &str = "/Channel/Orderer/Readers";

/// Why an envelope is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The envelope or a header cannot be read.
    #[error("failed to read the message: {0}")]
    Malformed(#[source] EnvelopeError),
    /// A type that only orderers make, or that no longer exists.
    #[error("message is of type {kind}, which cannot be processed directly")]
    Direct {
        /// The type's name.
        kind: &'static str,
    },
    /// No such channel here.
    #[error("channel {channel:?} does not exist")]
    UnknownChannel {
        /// The name in the header.
        channel: String,
    },
    /// The channel is here and does not serve now.
    #[error("channel {channel:?} is out of service at this orderer")]
    OutOfService {
        /// The name in the header.
        channel: String,
    },
    /// The channel takes no transactions now.
    #[error("normal transactions are rejected: maintenance mode")]
    Maintenance,
    /// Nothing inside.
    #[error("message payload is empty")]
    Empty,
    /// Larger than the channel allows.
    #[error("message payload is {size} bytes and exceeds maximum allowed {limit} bytes")]
    TooLarge {
        /// Bytes of payload and signature.
        size: usize,
        /// AbsoluteMaxBytes.
        limit: usize,
    },
    /// The creator's certificate has expired.
    #[error("broadcast client identity expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The creator may not write, or the signature does not hold.
    #[error("implicit policy evaluation failed: permission denied: {0}")]
    Forbidden(#[source] PolicyError),
    /// The config update was refused.
    #[error("error applying config update to existing channel: {}", chain(.0))]
    Update(#[source] Box<UpdateError>),
    /// The configuration that the update leads to may not follow.
    #[error("config update did not pass the consenters' checks: {0}")]
    Transition(#[source] Box<TransitionError>),
    /// The configuration asks for a protocol that this version does not run.
    #[error("consensus type {kind} is not supported by this version")]
    Consensus {
        /// The type.
        kind: &'static str,
    },
    /// A config message without what it should hold.
    #[error("failed to read the config message: {0}")]
    Config(#[source] DecodeError),
    /// The orderer cannot sign.
    #[error("failed to sign the config message: {0}")]
    Sign(#[source] SignError),
    /// The channel has no orderer group, so nobody says what is let in.
    #[error("the channel's configuration has no orderer group")]
    NoOrderer,
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

impl Rejection {
    /// What the client is told (Fabric: `ClassifyError` in `orderer/common/broadcast`).
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Forbidden(_) => Status::Forbidden,
            Self::Update(error) if error.is_forbidden() => Status::Forbidden,
            Self::Maintenance | Self::OutOfService { .. } => Status::ServiceUnavailable,
            Self::Sign(_) => Status::InternalServerError,
            _ => Status::BadRequest,
        }
    }
}

/// What an envelope is to the orderer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anything that is ordered as it is.
    Normal,
    /// A change of the configuration.
    ConfigUpdate,
}

/// Tells envelopes apart by the type in their channel header.
///
/// # Errors
/// [`Rejection::Direct`] for types that clients may not send.
pub fn classify(envelope: &ParsedEnvelope) -> Result<Class, Rejection> {
    match envelope.header().header_type() {
        Some(HeaderType::ConfigUpdate) => Ok(Class::ConfigUpdate),
        Some(HeaderType::Config) => Err(Rejection::Direct { kind: "CONFIG" }),
        Some(HeaderType::OrdererTransaction) => {
            Err(Rejection::Direct { kind: "ORDERER_TRANSACTION" })
        }
        _ => Ok(Class::Normal),
    }
}

/// A config message that passed: the envelope to be ordered, and the configuration after it.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The CONFIG envelope, signed by this orderer.
    pub envelope: Envelope,
    /// The configuration that it leads to.
    pub next: Bundle,
}

/// Lets envelopes in under one configuration at one time.
#[derive(Clone, Copy)]
pub struct Processor<'a> {
    bundle: &'a Bundle,
    now: Timestamp,
}

impl<'a> Processor<'a> {
    /// A processor under `bundle` at `now`.
    #[must_use]
    pub fn new(bundle: &'a Bundle, now: Timestamp) -> Self {
        Self { bundle, now }
    }

    /// Checks an envelope that is ordered as it is.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn normal(&self, envelope: &ParsedEnvelope) -> Result<(), Rejection> {
        if in_maintenance(self.orderer()?) {
            return Err(Rejection::Maintenance);
        }
        self.filter(envelope)
    }

    /// Checks a config update and carries it out: the filters, the update's own rules, the
    /// filters again on the CONFIG envelope that `signer` signs, then the consenters' rules.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn config_update(
        &self,
        envelope: &ParsedEnvelope,
        signer: &dyn Signer,
        nonce: Nonce,
    ) -> Result<Configured, Rejection> {
        self.filter(envelope)?;
        let proposed = self
            .bundle
            .propose(&envelope.to_envelope(), self.now)
            .map_err(|error| Rejection::Update(Box::new(error)))?;
        let (id, now) = (self.bundle.channel_id(), self.now);
        let config = update::config_envelope(id, &proposed.envelope, signer, now, nonce)
            .map_err(Rejection::Sign)?;
        let parsed = ParsedEnvelope::from_envelope(config.clone()).map_err(Rejection::Malformed)?;
        self.filter(&parsed)?;
        self.check_consenters(&proposed.next)?;
        Ok(Configured { envelope: config, next: proposed.next })
    }

    /// Carries the update inside a CONFIG envelope out again, as when the configuration changed
    /// since it was made.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn config_again(
        &self,
        envelope: &ParsedEnvelope,
        signer: &dyn Signer,
        nonce: Nonce,
    ) -> Result<Configured, Rejection> {
        let config: ConfigEnvelope =
            decode("config envelope", envelope.payload.data.clone()).map_err(Rejection::Config)?;
        let update = config.last_update.unwrap_or_default();
        let update = ParsedEnvelope::from_envelope(update).map_err(Rejection::Malformed)?;
        self.config_update(&update, signer, nonce)
    }

    /// Checks a CONFIG envelope that another orderer made from an update: it has to follow the
    /// present configuration. Returns the configuration after it.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn config(&self, envelope: &ParsedEnvelope) -> Result<Bundle, Rejection> {
        self.filter(envelope)?;
        let config: ConfigEnvelope =
            decode("config envelope", envelope.payload.data.clone()).map_err(Rejection::Config)?;
        let next = self
            .bundle
            .validate_next(&config, self.now)
            .map_err(|error| Rejection::Update(Box::new(error)))?;
        self.check_consenters(&next)?;
        Ok(next)
    }

    /// Checks the right to read blocks. Returns when the reader's certificate expires.
    ///
    /// # Errors
    /// [`Rejection::Forbidden`].
    pub fn reader(&self, envelope: &ParsedEnvelope) -> Result<Option<Timestamp>, Rejection> {
        let maintenance = self.bundle.orderer().is_some_and(in_maintenance);
        let path =
            if maintenance { ORDERER_READERS } else { weft_config::keys::CHANNEL_READERS_PATH };
        self.evaluate(path, envelope)?;
        let creator = self.bundle.msps().deserialize_identity(envelope.header().creator());
        Ok(creator.ok().map(|creator| creator.expires_at()))
    }

    fn orderer(&self) -> Result<&'a OrdererConfig, Rejection> {
        self.bundle.orderer().ok_or(Rejection::NoOrderer)
    }

    fn filter(&self, envelope: &ParsedEnvelope) -> Result<(), Rejection> {
        if envelope.payload_bytes.is_empty() {
            return Err(Rejection::Empty);
        }
        let orderer = self.orderer()?;
        let limit = orderer.batch_size.absolute_max_bytes as usize;
        let size = envelope.payload_bytes.len() + envelope.signature.len();
        if size > limit {
            return Err(Rejection::TooLarge { size, limit });
        }
        self.check_expiry(envelope)?;
        let path = match in_maintenance(orderer) {
            true => ORDERER_WRITERS,
            false => weft_config::keys::CHANNEL_WRITERS_PATH,
        };
        self.evaluate(path, envelope)
    }

    /// Who cannot be read is left to the signature's check.
    fn check_expiry(&self, envelope: &ParsedEnvelope) -> Result<(), Rejection> {
        let creator = self.bundle.msps().deserialize_identity(envelope.header().creator());
        match creator.map(|creator| creator.expires_at()) {
            Ok(at) if at < self.now => Err(Rejection::Expired { at }),
            _ => Ok(()),
        }
    }

    fn evaluate(&self, path: &str, envelope: &ParsedEnvelope) -> Result<(), Rejection> {
        let signed = SignedData {
            data: envelope.payload_bytes.clone(),
            identity: envelope.header().creator().clone(),
            signature: envelope.signature.clone(),
        };
        let policy = self.bundle.policies().get(path).map_err(Rejection::Forbidden)?;
        policy.evaluate(&[signed], self.now).map_err(Rejection::Forbidden)
    }

    fn check_consenters(&self, next: &Bundle) -> Result<(), Rejection> {
        transition::check_consensus(self.bundle, next, self.now)
            .map_err(|error| Rejection::Transition(Box::new(error)))?;
        match next.orderer().map(|orderer| &orderer.consensus) {
            Some(bft @ Consensus::Bft(_)) => Err(Rejection::Consensus { kind: bft.name() }),
            Some(_) => Ok(()),
            None => Err(Rejection::NoOrderer),
        }
    }
}

fn in_maintenance(orderer: &OrdererConfig) -> bool {
    orderer.capabilities.consensus_migration() && orderer.state == ConsensusState::Maintenance
}

/// An envelope's encoding, as it stands in a block.
#[must_use]
pub fn encode(envelope: &Envelope) -> Bytes {
    envelope.encode_to_vec().into()
}
