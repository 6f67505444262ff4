//! The consensus protocol of a channel with its settings and members.

mod bft;
mod raft;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use weft_crypto::{Certificate, CertificateError};
use weft_protos::ext::{DecodeError, decode};

pub use bft::{BftConsenter, BftOptions, bft_block_validation, bft_quorum};
pub use raft::{DEFAULT_SNAPSHOT_INTERVAL, RaftConfig, RaftConsenter, RaftOptions};

use crate::{
    duration::{self, DurationError},
    endpoint::Endpoint,
};

/// Type of a channel ordered by one node, for development; no fault is tolerated.
pub const SOLO: &str = "solo";
/// Type of a channel ordered by Raft.
pub const RAFT: &str = "etcdraft";
/// Type of a channel ordered by a BFT protocol.
pub const BFT: &str = "BFT";

/// The consensus protocol of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consensus {
    /// One orderer without agreement; not a type that Fabric's orderers run.
    Solo,
    /// Raft.
    Raft(RaftConfig),
    /// A BFT protocol. Its members stand in [`crate::OrdererConfig::consenters`].
    Bft(BftOptions),
}

/// Consensus settings that cannot work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsensusError {
    /// A protocol this node does not know.
    #[error("failed to read consensus type {name:?}: only etcdraft, BFT and solo are known")]
    UnknownType {
        /// The type.
        name: String,
    },
    /// The settings are not the message they should be.
    #[error("failed to read the settings of consensus type {name}")]
    Decode {
        /// The type.
        name: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// A required setting is absent or zero.
    #[error("failed to accept the consensus settings: {field} must be set and above zero")]
    Zero {
        /// The setting, as the wire protocol names it.
        field: &'static str,
    },
    /// A duration cannot be read.
    #[error("failed to read the consensus setting {field}")]
    Duration {
        /// The setting, as the wire protocol names it.
        field: &'static str,
        /// What is wrong.
        source: DurationError,
    },
    /// Two settings contradict each other.
    #[error("failed to accept the consensus settings: {smaller} must be {relation} {larger}")]
    Relation {
        /// The setting that must be the smaller one.
        smaller: &'static str,
        /// `below` or `at most`.
        relation: &'static str,
        /// The setting that must be the larger one.
        larger: &'static str,
    },
    /// No member is listed.
    #[error("failed to accept the consenters: the list is empty")]
    NoConsenters,
    /// A member's address cannot be used.
    #[error("failed to accept consenter {host}:{port}: it has no usable address")]
    Address {
        /// Its host.
        host: String,
        /// Its port.
        port: u32,
    },
    /// A member's certificate cannot be read.
    #[error("failed to read the {which} certificate of consenter {endpoint}")]
    Certificate {
        /// Which certificate: `client TLS`, `server TLS` or `identity`.
        which: &'static str,
        /// The member.
        endpoint: Endpoint,
        /// What is wrong.
        #[source]
        source: Box<CertificateError>,
    },
    /// Two members share a certificate.
    #[error("failed to accept the consenters: {second} has a certificate of {first}")]
    SharedCertificate {
        /// The member listed first.
        first: Endpoint,
        /// The other one.
        second: Endpoint,
    },
    /// Two BFT members share a number, or a number is zero.
    #[error("failed to accept the consenters: id {id} of {endpoint} is zero or taken")]
    Id {
        /// The number.
        id: u32,
        /// The member.
        endpoint: Endpoint,
    },
    /// A BFT member's MSP id is not valid.
    #[error("failed to accept consenter {endpoint}: its MSP id is not valid")]
    MspId {
        /// The member.
        endpoint: Endpoint,
        /// What is wrong.
        #[source]
        source: weft_types::MspIdError,
    },
}

impl Consensus {
    /// Reads a consensus type with its settings.
    ///
    /// # Errors
    /// Fails on an unknown type and on settings that cannot work.
    pub fn read(name: &str, metadata: &Bytes) -> Result<Self, ConsensusError> {
        match name {
            SOLO => Ok(Self::Solo),
            RAFT => {
                let metadata = decode("etcdraft metadata", metadata.clone())
                    .map_err(|source| ConsensusError::Decode { name: RAFT, source })?;
                RaftConfig::read(&metadata).map(Self::Raft)
            }
            BFT => {
                let options = decode("BFT options", metadata.clone())
                    .map_err(|source| ConsensusError::Decode { name: BFT, source })?;
                BftOptions::read(&options).map(Self::Bft)
            }
            _ => Err(ConsensusError::UnknownType { name: name.chars().take(64).collect() }),
        }
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Solo => SOLO,
            Self::Raft(_) => RAFT,
            Self::Bft(_) => BFT,
        }
    }

    /// The Raft settings, where the channel is ordered by Raft.
    #[must_use]
    pub fn raft(&self) -> Option<&RaftConfig> {
        match self {
            Self::Raft(config) => Some(config),
            Self::Solo | Self::Bft(_) => None,
        }
    }
}

fn above_zero(field: &'static str, value: u64) -> Result<(), ConsensusError> {
    match value {
        0 => Err(ConsensusError::Zero { field }),
        _ => Ok(()),
    }
}

fn positive(field: &'static str, text: &str) -> Result<Duration, ConsensusError> {
    let read =
        duration::parse(text).map_err(|source| ConsensusError::Duration { field, source })?;
    if read.is_zero() { Err(ConsensusError::Zero { field }) } else { Ok(read) }
}

fn endpoint(host: &str, port: u32) -> Result<Endpoint, ConsensusError> {
    let fail = || ConsensusError::Address { host: host.chars().take(256).collect(), port };
    let number = u16::try_from(port).map_err(|_| fail())?;
    // Through the text form, so that what is accepted can be written and read back.
    Endpoint::new(host, number).to_string().parse().map_err(|_| fail())
}

fn certificate(
    which: &'static str,
    endpoint: &Endpoint,
    pem: &Bytes,
) -> Result<Certificate, ConsensusError> {
    // Bytes that are no text are no PEM either: what replaces them does not decode.
    Certificate::from_pem(&String::from_utf8_lossy(pem)).map_err(|source| {
        ConsensusError::Certificate { which, endpoint: endpoint.clone(), source: Box::new(source) }
    })
}

/// One node may use one certificate for both directions; two nodes may not share any.
fn no_shared_certificate<'a>(
    consenters: impl Iterator<Item = (&'a Endpoint, [&'a Bytes; 2])>,
) -> Result<(), ConsensusError> {
    let mut seen: HashMap<&[u8], &Endpoint> = HashMap::new();
    for (index_endpoint, certs) in consenters {
        if let Some(first) = certs.iter().find_map(|cert| seen.get(cert.as_ref())) {
            let (first, second) = ((*first).clone(), index_endpoint.clone());
            return Err(ConsensusError::SharedCertificate { first, second });
        }
        seen.extend(certs.map(|cert| (cert.as_ref(), index_endpoint)));
    }
    Ok(())
}
