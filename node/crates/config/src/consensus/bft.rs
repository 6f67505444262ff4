//! Settings and members of BFT channels.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use prost::Message;
use weft_protos::{common, msp, smartbft};
use weft_types::MspId;

use super::{ConsensusError, above_zero, certificate, endpoint, no_shared_certificate, positive};
use crate::{duration, endpoint::Endpoint};

/// A member of a BFT channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BftConsenter {
    /// Number of the node within the channel, above zero.
    pub id: u32,
    /// Where it serves the others.
    pub endpoint: Endpoint,
    /// The MSP of its identity.
    pub msp_id: MspId,
    /// Its enrolment certificate, PEM.
    pub identity: Bytes,
    /// The TLS certificate it dials with, PEM.
    pub client_tls_cert: Bytes,
    /// The TLS certificate it listens with, PEM.
    pub server_tls_cert: Bytes,
}

/// Timing and limits of a BFT channel. Fabric: `orderer/consensus/smartbft/util`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BftOptions {
    /// Most requests in a batch.
    pub request_batch_max_count: u64,
    /// Most bytes in a batch.
    pub request_batch_max_bytes: u64,
    /// Longest wait for a batch to fill.
    pub request_batch_max_interval: Duration,
    /// Messages held for each member before more are dropped.
    pub incoming_message_buffer_size: u64,
    /// Requests held before submitters must wait.
    pub request_pool_size: u64,
    /// Age at which a request is forwarded to the leader.
    pub request_forward_timeout: Duration,
    /// Further age at which the node complains about the leader.
    pub request_complain_timeout: Duration,
    /// Further age at which the request is dropped.
    pub request_auto_remove_timeout: Duration,
    /// Largest request in bytes.
    pub request_max_bytes: u64,
    /// Time after which a view change message is sent again.
    pub view_change_resend_interval: Duration,
    /// Time a view change may take.
    pub view_change_timeout: Duration,
    /// Silence of the leader that leads to a complaint.
    pub leader_heartbeat_timeout: Duration,
    /// Heartbeats the leader sends within that time.
    pub leader_heartbeat_count: u64,
    /// Time to collect the others' state while catching up.
    pub collect_timeout: Duration,
    /// Whether a node catches up when it starts.
    pub sync_on_start: bool,
    /// Whether a node joins a view change before a quorum asks for it.
    pub speed_up_view_change: bool,
    /// After how many decisions the lead passes on; `None` where it stays until a view change.
    pub decisions_per_leader: Option<u64>,
}

impl BftConsenter {
    /// Reads the value `Orderers`.
    ///
    /// # Errors
    /// Fails where an address, an MSP id or a certificate cannot be read, or two members share a
    /// number or a TLS certificate.
    pub fn read_all(orderers: &common::Orderers) -> Result<Vec<Self>, ConsensusError> {
        let mut taken = BTreeSet::new();
        let mut consenters = Vec::new();
        for consenter in &orderers.consenter_mapping {
            let consenter = Self::read(consenter)?;
            if consenter.id == 0 || !taken.insert(consenter.id) {
                return Err(ConsensusError::Id { id: consenter.id, endpoint: consenter.endpoint });
            }
            consenters.push(consenter);
        }
        no_shared_certificate(
            consenters.iter().map(|c| (&c.endpoint, [&c.client_tls_cert, &c.server_tls_cert])),
        )?;
        Ok(consenters)
    }

    fn read(consenter: &common::Consenter) -> Result<Self, ConsensusError> {
        let endpoint = endpoint(&consenter.host, consenter.port)?;
        certificate("identity", &endpoint, &consenter.identity)?;
        certificate("client TLS", &endpoint, &consenter.client_tls_cert)?;
        certificate("server TLS", &endpoint, &consenter.server_tls_cert)?;
        let msp_id = MspId::new(&consenter.msp_id)
            .map_err(|source| ConsensusError::MspId { endpoint: endpoint.clone(), source })?;
        Ok(Self {
            id: consenter.id,
            endpoint,
            msp_id,
            identity: consenter.identity.clone(),
            client_tls_cert: consenter.client_tls_cert.clone(),
            server_tls_cert: consenter.server_tls_cert.clone(),
        })
    }

    /// The member as the message it is written with.
    #[must_use]
    pub fn to_message(&self) -> common::Consenter {
        common::Consenter {
            id: self.id,
            host: self.endpoint.host.clone(),
            port: u32::from(self.endpoint.port),
            msp_id: self.msp_id.to_string(),
            identity: self.identity.clone(),
            client_tls_cert: self.client_tls_cert.clone(),
            server_tls_cert: self.server_tls_cert.clone(),
        }
    }
}

impl Default for BftOptions {
    /// The defaults of the library that Fabric uses, with the lead staying until a view change.
    fn default() -> Self {
        Self {
            request_batch_max_count: 100,
            request_batch_max_bytes: 10 * 1024 * 1024,
            request_batch_max_interval: Duration::from_millis(50),
            incoming_message_buffer_size: 200,
            request_pool_size: 400,
            request_forward_timeout: Duration::from_secs(2),
            request_complain_timeout: Duration::from_secs(20),
            request_auto_remove_timeout: Duration::from_secs(180),
            request_max_bytes: 10 * 1024 * 1024,
            view_change_resend_interval: Duration::from_secs(5),
            view_change_timeout: Duration::from_secs(20),
            leader_heartbeat_timeout: Duration::from_secs(60),
            leader_heartbeat_count: 10,
            collect_timeout: Duration::from_secs(1),
            sync_on_start: false,
            speed_up_view_change: false,
            decisions_per_leader: None,
        }
    }
}

impl BftOptions {
    /// Reads and checks BFT settings.
    ///
    /// # Errors
    /// Fails on settings that cannot work.
    pub fn read(options: &smartbft::Options) -> Result<Self, ConsensusError> {
        let o = options;
        above_zero("RequestBatchMaxCount", o.request_batch_max_count)?;
        above_zero("RequestBatchMaxBytes", o.request_batch_max_bytes)?;
        above_zero("IncomingMessageBufferSize", o.incoming_message_buffer_size)?;
        above_zero("RequestPoolSize", o.request_pool_size)?;
        above_zero("LeaderHeartbeatCount", o.leader_heartbeat_count)?;
        let rotates = o.leader_rotation == i32::from(smartbft::options::Rotation::On);
        if rotates {
            above_zero("DecisionsPerLeader", o.decisions_per_leader)?;
        }
        let request_max_bytes = match o.request_max_bytes {
            0 => o.request_batch_max_bytes,
            bytes => bytes,
        };
        let read = Self {
            request_batch_max_count: o.request_batch_max_count,
            request_batch_max_bytes: o.request_batch_max_bytes,
            request_batch_max_interval: positive(
                "RequestBatchMaxInterval",
                &o.request_batch_max_interval,
            )?,
            incoming_message_buffer_size: o.incoming_message_buffer_size,
            request_pool_size: o.request_pool_size,
            request_forward_timeout: positive("RequestForwardTimeout", &o.request_forward_timeout)?,
            request_complain_timeout: positive(
                "RequestComplainTimeout",
                &o.request_complain_timeout,
            )?,
            request_auto_remove_timeout: positive(
                "RequestAutoRemoveTimeout",
                &o.request_auto_remove_timeout,
            )?,
            request_max_bytes,
            view_change_resend_interval: positive(
                "ViewChangeResendInterval",
                &o.view_change_resend_interval,
            )?,
            view_change_timeout: positive("ViewChangeTimeout", &o.view_change_timeout)?,
            leader_heartbeat_timeout: positive(
                "LeaderHeartbeatTimeout",
                &o.leader_heartbeat_timeout,
            )?,
            leader_heartbeat_count: o.leader_heartbeat_count,
            collect_timeout: positive("CollectTimeout", &o.collect_timeout)?,
            sync_on_start: o.sync_on_start,
            speed_up_view_change: o.speed_up_view_change,
            decisions_per_leader: rotates.then_some(o.decisions_per_leader),
        };
        read.check_relations()?;
        Ok(read)
    }

    fn check_relations(&self) -> Result<(), ConsensusError> {
        let at_most = |holds: bool, smaller, larger| match holds {
            true => Ok(()),
            false => Err(ConsensusError::Relation { smaller, relation: "at most", larger }),
        };
        at_most(
            self.request_batch_max_count <= self.request_batch_max_bytes,
            "RequestBatchMaxCount",
            "RequestBatchMaxBytes",
        )?;
        at_most(
            self.request_max_bytes <= self.request_batch_max_bytes,
            "RequestMaxBytes",
            "RequestBatchMaxBytes",
        )?;
        at_most(
            self.request_forward_timeout <= self.request_complain_timeout,
            "RequestForwardTimeout",
            "RequestComplainTimeout",
        )?;
        at_most(
            self.request_complain_timeout <= self.request_auto_remove_timeout,
            "RequestComplainTimeout",
            "RequestAutoRemoveTimeout",
        )?;
        at_most(
            self.view_change_resend_interval <= self.view_change_timeout,
            "ViewChangeResendInterval",
            "ViewChangeTimeout",
        )
    }

    /// The options as the message they are written with.
    #[must_use]
    pub fn to_message(&self) -> smartbft::Options {
        use smartbft::options::Rotation;
        let rotation = match self.decisions_per_leader {
            Some(_) => Rotation::On,
            None => Rotation::Off,
        };
        smartbft::Options {
            request_batch_max_count: self.request_batch_max_count,
            request_batch_max_bytes: self.request_batch_max_bytes,
            request_batch_max_interval: duration::format(self.request_batch_max_interval),
            incoming_message_buffer_size: self.incoming_message_buffer_size,
            request_pool_size: self.request_pool_size,
            request_forward_timeout: duration::format(self.request_forward_timeout),
            request_complain_timeout: duration::format(self.request_complain_timeout),
            request_auto_remove_timeout: duration::format(self.request_auto_remove_timeout),
            request_max_bytes: self.request_max_bytes,
            view_change_resend_interval: duration::format(self.view_change_resend_interval),
            view_change_timeout: duration::format(self.view_change_timeout),
            leader_heartbeat_timeout: duration::format(self.leader_heartbeat_timeout),
            leader_heartbeat_count: self.leader_heartbeat_count,
            collect_timeout: duration::format(self.collect_timeout),
            sync_on_start: self.sync_on_start,
            speed_up_view_change: self.speed_up_view_change,
            leader_rotation: rotation.into(),
            decisions_per_leader: self.decisions_per_leader.unwrap_or_default(),
        }
    }
}

/// Members that must sign a block of a BFT channel of `members`: with F = (N − 1) / 3 faulty ones,
/// ⌈(N + F + 1) / 2⌉.
#[must_use]
pub fn bft_quorum(members: usize) -> usize {
    let faulty = members.saturating_sub(1) / 3;
    (members + faulty + 1).div_ceil(2)
}

/// The block validation policy of a BFT channel: a quorum of its members, each by identity.
/// Fabric: `common/policies/bft.go`.
#[must_use]
pub fn bft_block_validation(consenters: &[BftConsenter]) -> common::Policy {
    use weft_protos::common::{
        MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope, msp_principal, policy,
        signature_policy,
    };

    let identity = |consenter: &BftConsenter| MspPrincipal {
        principal_classification: msp_principal::Classification::Identity.into(),
        principal: msp::SerializedIdentity {
            mspid: consenter.msp_id.to_string(),
            id_bytes: consenter.identity.clone(),
        }
        .encode_to_vec()
        .into(),
    };
    let signed_by =
        |index| SignaturePolicy { r#type: Some(signature_policy::Type::SignedBy(index)) };
    let rules = (0..).take(consenters.len()).map(signed_by).collect();
    let n = i32::try_from(bft_quorum(consenters.len())).unwrap_or(i32::MAX);
    let threshold = signature_policy::NOutOf { n, rules };
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy { r#type: Some(signature_policy::Type::NOutOf(threshold)) }),
        identities: consenters.iter().map(identity).collect(),
    };
    common::Policy {
        r#type: policy::PolicyType::Signature.into(),
        value: envelope.encode_to_vec().into(),
    }
}
