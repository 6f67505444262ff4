//! The consenters of a channel: their ids, addresses and keys, as its configuration and the
//! newest block say. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use weft_config::{Bundle, Consensus, Endpoint, RaftConsenter};
use weft_consensus::{Applied, Membership, MembershipError, NodeId};
use weft_crypto::{Certificate, CertificateError};
use weft_protos::common::Block;
use weft_protos::etcdraft::BlockMetadata;
use weft_types::block::metadata::MetadataError;

use crate::blockwriter::read_engine_metadata;

/// What stands for the one consenter of a solo channel.
const SOLO: &[u8] = b"solo";

/// Why the consenters of a channel cannot be worked out.
#[derive(Debug, thiserror::Error)]
pub enum ConsentersError {
    /// The configuration has no orderer group.
    #[error("failed to find the consenters: the configuration has no orderer group")]
    NoOrderer,
    /// This version does not run the protocol.
    #[error("failed to take part in consensus: type {kind} is not supported by this version")]
    Unsupported {
        /// The consensus type.
        kind: &'static str,
    },
    /// The newest block's metadata cannot be read.
    #[error("failed to read the consenters' ids")]
    Metadata(#[source] MetadataError),
    /// Configuration and metadata do not belong together.
    #[error("failed to assign the consenters' ids")]
    Membership(#[source] MembershipError),
}

/// What tells the channel's consenters apart, in the order of the configuration.
///
/// # Errors
/// [`ConsentersError::Unsupported`] for BFT.
pub fn keys(bundle: &Bundle) -> Result<Vec<Bytes>, ConsentersError> {
    let orderer = bundle.orderer().ok_or(ConsentersError::NoOrderer)?;
    match &orderer.consensus {
        Consensus::Solo => Ok(vec![Bytes::from_static(SOLO)]),
        Consensus::Raft(raft) => {
            Ok(raft.consenters.iter().map(|member| member.client_tls_cert.clone()).collect())
        }
        other => Err(ConsentersError::Unsupported { kind: other.name() }),
    }
}

/// What the ledger holds, for an engine: from the newest block and the configuration after it.
///
/// # Errors
/// [`ConsentersError`].
pub fn applied(bundle: &Bundle, newest: &Block, height: u64) -> Result<Applied, ConsentersError> {
    let said = read_engine_metadata(newest).map_err(ConsentersError::Metadata)?;
    applied_from(bundle, said.as_ref(), height)
}

/// The same from what the newest block says of consensus; `None` for a genesis block.
///
/// # Errors
/// [`ConsentersError`].
pub fn applied_from(
    bundle: &Bundle,
    said: Option<&BlockMetadata>,
    height: u64,
) -> Result<Applied, ConsentersError> {
    let keys = keys(bundle)?;
    let (membership, index) = match said {
        None => (Membership::genesis(&keys), 0),
        Some(said) => {
            let (ids, next_id) = (&said.consenter_ids, said.next_consenter_id);
            (Membership::from_metadata(ids, next_id, &keys), said.raft_index)
        }
    };
    let membership = membership.map_err(ConsentersError::Membership)?;
    Ok(Applied { index, height, membership: membership.into() })
}

/// Whether `certificate` has the key that a consenter dials with.
fn has_key(consenter: &RaftConsenter, key: &[u8]) -> bool {
    client_key(consenter).is_ok_and(|client| client == key)
}

fn client_key(consenter: &RaftConsenter) -> Result<Vec<u8>, CertificateError> {
    let pem = String::from_utf8_lossy(&consenter.client_tls_cert);
    Ok(Certificate::from_pem(&pem)?.public_key().spki_der().to_vec())
}

/// The consenters of a Raft channel; none for other types.
#[must_use]
pub fn raft_consenters(bundle: &Bundle) -> &[RaftConsenter] {
    match bundle.orderer().map(|orderer| &orderer.consensus) {
        Some(Consensus::Raft(raft)) => &raft.consenters,
        _ => &[],
    }
}

/// Whether the channel is ordered by one node without agreement.
#[must_use]
pub fn is_solo(bundle: &Bundle) -> bool {
    matches!(bundle.orderer().map(|orderer| &orderer.consensus), Some(Consensus::Solo))
}

/// Whether the node whose TLS key (SubjectPublicKeyInfo, DER) this is belongs to the channel's
/// consenters. A key and not a certificate, so that a renewed certificate is recognised
/// (Fabric: `orderer/common/cluster/util.go`).
#[must_use]
pub fn is_consenter(bundle: &Bundle, key: &[u8]) -> bool {
    is_solo(bundle) || raft_consenters(bundle).iter().any(|consenter| has_key(consenter, key))
}

/// A consenter as the others reach and recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it serves.
    pub endpoint: Endpoint,
    /// The certificate that it serves with, PEM.
    pub server_tls_cert: Bytes,
}

/// The members of a Raft channel's cluster by id, and ids by TLS key. Empty for other types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    nodes: BTreeMap<NodeId, Node>,
    ids: HashMap<Vec<u8>, NodeId>,
}

impl ClusterView {
    /// The view under a configuration with these ids. Members whose certificate cannot be read
    /// are left out; the configuration's own checks refuse those.
    #[must_use]
    pub fn new(bundle: &Bundle, membership: &Membership) -> Self {
        let mut view = Self::default();
        for consenter in raft_consenters(bundle) {
            let id = membership.id_of(&consenter.client_tls_cert);
            let (Some(id), Ok(key)) = (id, client_key(consenter)) else { continue };
            let endpoint = consenter.endpoint.clone();
            let server_tls_cert = consenter.server_tls_cert.clone();
            view.nodes.insert(id, Node { endpoint, server_tls_cert });
            view.ids.insert(key, id);
        }
        view
    }

    /// Adds what a later configuration says: members where they are then, and their keys beside
    /// those that they have now.
    pub fn look_ahead(&mut self, later: ClusterView) {
        self.nodes.extend(later.nodes);
        self.ids.extend(later.ids);
    }

    /// The member with this TLS key.
    #[must_use]
    pub fn id_of(&self, key: &[u8]) -> Option<NodeId> {
        self.ids.get(key).copied()
    }

    /// The member with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// All members by id.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }
}
