//! A chaincode definition from approval to commit (Fabric: `core/chaincode/lifecycle`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use weft_protos::lifecycle::chaincode_source::{Local, Type as SourceType, Unavailable};
use weft_protos::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ChaincodeSource, CheckCommitReadinessArgs,
    CheckCommitReadinessResult, CommitChaincodeDefinitionArgs,
    QueryApprovedChaincodeDefinitionArgs, QueryApprovedChaincodeDefinitionResult,
    QueryChaincodeDefinitionArgs, QueryChaincodeDefinitionResult,
};
use weft_protos::peer::CollectionConfigPackage;
use weft_types::transaction::assemble_signed;
use weft_types::{ChannelId, TxId, ValidationCode};

use crate::error::ClientError;
use crate::gateway::Gateway;
use crate::orderer::Orderer;
use crate::peer::Peer;

/// Name of the system chaincode.
const LIFECYCLE: &str = "_lifecycle";

/// A chaincode as the channel's members agree on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Name on the channel.
    pub name: String,
    /// Version.
    pub version: String,
    /// 1 for the first definition, then one more at each change.
    pub sequence: i64,
    /// Encoded `ApplicationPolicy`; empty for the channel's default.
    pub policy: Bytes,
    /// Whether `Init` must be called first.
    pub init_required: bool,
    /// Collections of private data; none when absent.
    pub collections: Option<CollectionConfigPackage>,
}

/// What is committed on the channel, or `None` when no definition is.
///
/// # Errors
/// [`ClientError::Proposal`] for anything but "not defined".
pub async fn committed(
    peer: &Peer,
    channel: &ChannelId,
    name: &str,
) -> Result<Option<QueryChaincodeDefinitionResult>, ClientError> {
    let args = QueryChaincodeDefinitionArgs { name: name.to_owned() }.encode_to_vec().into();
    match peer.call(Some(channel), LIFECYCLE, "QueryChaincodeDefinition", args).await {
        Ok(answer) => peer.read(answer).map(Some),
        // Fabric answers 404 with this text for a name that is not defined.
        Err(ClientError::Proposal { status: 404, .. }) => Ok(None),
        Err(ClientError::Proposal { message, .. }) if message.contains("is not defined") => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What the peer's organization has approved at a sequence, or `None`.
///
/// # Errors
/// [`ClientError::Proposal`] for anything but "not approved".
pub async fn approved(
    peer: &Peer,
    channel: &ChannelId,
    name: &str,
    sequence: i64,
) -> Result<Option<QueryApprovedChaincodeDefinitionResult>, ClientError> {
    let args = QueryApprovedChaincodeDefinitionArgs { name: name.to_owned(), sequence };
    let args = args.encode_to_vec().into();
    match peer.call(Some(channel), LIFECYCLE, "QueryApprovedChaincodeDefinition", args).await {
        Ok(answer) => peer.read(answer).map(Some),
        Err(ClientError::Proposal { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Approves a definition in the name of the peers' organization, and waits for the commit.
/// `peers` are the organization's own: each learns which package runs the chaincode.
///
/// # Errors
/// [`ClientError`] of the step that failed.
pub async fn approve(
    peers: &[Peer],
    orderers: &[Orderer],
    channel: &ChannelId,
    definition: &Definition,
    package_id: Option<&str>,
) -> Result<TxId, ClientError> {
    let source = match package_id {
        Some(id) => SourceType::LocalPackage(Local { package_id: id.to_owned() }),
        None => SourceType::Unavailable(Unavailable {}),
    };
    let args = ApproveChaincodeDefinitionForMyOrgArgs {
        sequence: definition.sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.policy.clone(),
        init_required: definition.init_required,
        collections: definition.collections.clone(),
        source: Some(ChaincodeSource { r#type: Some(source) }),
        ..Default::default()
    };
    let args = args.encode_to_vec().into();
    transact(peers, orderers, channel, "ApproveChaincodeDefinitionForMyOrg", args).await
}

/// Which organizations, by MSP id, have approved exactly this definition.
///
/// # Errors
/// [`ClientError::Proposal`].
pub async fn readiness(
    peer: &Peer,
    channel: &ChannelId,
    definition: &Definition,
) -> Result<BTreeMap<String, bool>, ClientError> {
    let args = CheckCommitReadinessArgs {
        sequence: definition.sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.policy.clone(),
        init_required: definition.init_required,
        collections: definition.collections.clone(),
        ..Default::default()
    };
    let args = args.encode_to_vec().into();
    let answer = peer.call(Some(channel), LIFECYCLE, "CheckCommitReadiness", args).await?;
    let result: CheckCommitReadinessResult = peer.read(answer)?;
    Ok(result.approvals)
}

/// Commits a definition that enough organizations have approved, endorsed by `peers`, and
/// waits for the commit.
///
/// # Errors
/// [`ClientError`] of the step that failed.
pub async fn commit(
    peers: &[Peer],
    orderers: &[Orderer],
    channel: &ChannelId,
    definition: &Definition,
) -> Result<TxId, ClientError> {
    let args = CommitChaincodeDefinitionArgs {
        sequence: definition.sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.policy.clone(),
        init_required: definition.init_required,
        collections: definition.collections.clone(),
        ..Default::default()
    };
    let args = args.encode_to_vec().into();
    transact(peers, orderers, channel, "CommitChaincodeDefinition", args).await
}

/// One transaction of `_lifecycle`: endorsed by every one of `peers`, sent, and waited for at
/// the first of them.
async fn transact(
    peers: &[Peer],
    orderers: &[Orderer],
    channel: &ChannelId,
    function: &'static str,
    args: Bytes,
) -> Result<TxId, ClientError> {
    let first =
        peers.first().ok_or_else(|| ClientError::answer("", "there is no peer to endorse"))?;
    let args = vec![Bytes::from_static(function.as_bytes()), args];
    let proposal = first.propose(Some(channel), LIFECYCLE, args)?;
    let mut responses = Vec::with_capacity(peers.len());
    for peer in peers {
        responses.push(peer.endorse(function, proposal.signed.clone()).await?);
    }
    let envelope = assemble_signed(&proposal.proposal, &responses, first.signer().as_ref())
        .map_err(ClientError::Assemble)?;
    Orderer::broadcast_to_any(orderers, &envelope).await?;
    let gateway = Gateway::new(first.connection().clone(), channel.clone(), first.signer().clone());
    match gateway.commit_status(&proposal.tx_id).await? {
        (ValidationCode::Valid, _) => Ok(proposal.tx_id),
        (code, block) => Err(ClientError::Invalid { tx_id: proposal.tx_id, block, code }),
    }
}
