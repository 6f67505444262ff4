//! A peer's administration by signed proposals to its system chaincodes (Fabric:
//! `core/scc/cscc`, `core/scc/qscc`, `core/chaincode/lifecycle/scc.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use weft_protos::common::{Block, BlockchainInfo};
use weft_protos::discovery::discovery_client::DiscoveryClient;
use weft_protos::discovery::{
    AuthInfo, ChaincodeQuery, PeerMembershipQuery, Peers, Query, Request, SignedRequest, query,
    query_result,
};
use weft_protos::lifecycle::{
    InstallChaincodeArgs, InstallChaincodeResult, QueryInstalledChaincodesArgs,
    QueryInstalledChaincodesResult,
};
use weft_protos::peer::endorser_client::EndorserClient;
use weft_protos::peer::{
    ChaincodeCall, ChaincodeInterest, ChannelQueryResponse, ProposalResponse, SignedProposal,
};
use weft_types::proposal::{BuiltSignedProposal, ProposalSpec};
use weft_types::{ChannelId, Signer};

use crate::connection::{Connection, MAX_MESSAGE, nonce, now};
use crate::error::ClientError;

/// One peer, asked in the name of one signer.
#[derive(Clone)]
pub struct Peer {
    connection: Connection,
    signer: Arc<dyn Signer>,
}

impl Peer {
    /// The peer behind `connection`.
    pub fn new(connection: Connection, signer: Arc<dyn Signer>) -> Peer {
        Peer { connection, signer }
    }

    /// The peer's address.
    pub fn address(&self) -> &str {
        self.connection.address()
    }

    /// Makes the peer a member of the channel whose genesis (or later config) block this is.
    ///
    /// # Errors
    /// [`ClientError::Proposal`] with what the peer said.
    pub async fn join(&self, block: &Block) -> Result<(), ClientError> {
        self.call(None, "cscc", "JoinChain", block.encode_to_vec().into()).await?;
        Ok(())
    }

    /// Ids of the channels that the peer has joined.
    ///
    /// # Errors
    /// [`ClientError::Proposal`].
    pub async fn channels(&self) -> Result<Vec<String>, ClientError> {
        let answer = self.call(None, "cscc", "GetChannels", Bytes::new()).await?;
        let channels: ChannelQueryResponse = self.read(answer)?;
        Ok(channels.channels.into_iter().map(|channel| channel.channel_id).collect())
    }

    /// Height and newest hashes of the peer's ledger of a channel.
    ///
    /// # Errors
    /// [`ClientError::Proposal`].
    pub async fn chain_info(&self, channel: &ChannelId) -> Result<BlockchainInfo, ClientError> {
        let name = Bytes::from(channel.to_string());
        let answer = self.call(Some(channel), "qscc", "GetChainInfo", name).await?;
        self.read(answer)
    }

    /// The newest config block of a channel.
    ///
    /// # Errors
    /// [`ClientError::Proposal`].
    pub async fn config_block(&self, channel: &ChannelId) -> Result<Block, ClientError> {
        let name = Bytes::from(channel.to_string());
        let answer = self.call(Some(channel), "cscc", "GetConfigBlock", name).await?;
        self.read(answer)
    }

    /// A block by number.
    ///
    /// # Errors
    /// [`ClientError::Proposal`].
    pub async fn block(&self, channel: &ChannelId, number: u64) -> Result<Block, ClientError> {
        let args = ["GetBlockByNumber".to_owned(), channel.to_string(), number.to_string()]
            .map(Bytes::from);
        let answer = self.call_args(Some(channel), "qscc", args.to_vec()).await?;
        self.read(answer)
    }

    /// Installs a chaincode package and returns its id; installing the same bytes again is no
    /// error to the caller.
    ///
    /// # Errors
    /// [`ClientError::Proposal`].
    pub async fn install(&self, package: Bytes) -> Result<String, ClientError> {
        let args = InstallChaincodeArgs { chaincode_install_package: package };
        let answer =
            self.call(None, "_lifecycle", "InstallChaincode", args.encode_to_vec().into()).await?;
        let result: InstallChaincodeResult = self.read(answer)?;
        Ok(result.package_id)
    }

    /// Ids of the packages that are installed.
    ///
    /// # Errors
    /// [`ClientError::Proposal`].
    pub async fn installed(&self) -> Result<Vec<String>, ClientError> {
        let args = QueryInstalledChaincodesArgs {}.encode_to_vec().into();
        let answer = self.call(None, "_lifecycle", "QueryInstalledChaincodes", args).await?;
        let result: QueryInstalledChaincodesResult = self.read(answer)?;
        Ok(result.installed_chaincodes.into_iter().map(|package| package.package_id).collect())
    }

    /// Whether the peer knows of endorsers that satisfy the chaincode's policy together: what its
    /// Gateway needs to endorse a transaction. A peer learns of the others a moment after a
    /// chaincode is defined.
    ///
    /// # Errors
    /// [`ClientError::Rpc`], or [`ClientError::Answer`] when the peer answers something else.
    pub async fn has_endorsers(
        &self,
        channel: &ChannelId,
        chaincode: &str,
    ) -> Result<bool, ClientError> {
        let call = ChaincodeCall { name: chaincode.to_owned(), ..Default::default() };
        let interest = ChaincodeInterest { chaincodes: vec![call] };
        let query = query::Query::CcQuery(ChaincodeQuery { interests: vec![interest] });
        match self.discover(channel, query).await? {
            Some(query_result::Result::CcQueryRes(found)) => {
                Ok(found.content.iter().any(|descriptor| !descriptor.layouts.is_empty()))
            }
            // Discovery tells with an error what it cannot satisfy.
            Some(query_result::Result::Error(_)) => Ok(false),
            _ => Err(ClientError::answer(self.address(), "no answer to a chaincode query")),
        }
    }

    /// How many peers of each organization, by MSP id, this peer knows of on a channel, itself
    /// among them. Private data goes to peers that are known, and is asked of them.
    ///
    /// # Errors
    /// As [`Peer::has_endorsers`].
    pub async fn known_peers(
        &self,
        channel: &ChannelId,
    ) -> Result<BTreeMap<String, usize>, ClientError> {
        let query = query::Query::PeerQuery(PeerMembershipQuery { filter: None });
        match self.discover(channel, query).await? {
            Some(query_result::Result::Members(found)) => {
                let count = |(org, known): (String, Peers)| (org, known.peers.len());
                Ok(found.peers_by_org.into_iter().map(count).collect())
            }
            _ => Err(ClientError::answer(self.address(), "no answer to a query for peers")),
        }
    }

    /// The answer to one question to the peer's discovery service.
    async fn discover(
        &self,
        channel: &ChannelId,
        query: query::Query,
    ) -> Result<Option<query_result::Result>, ClientError> {
        let query = Query { channel: channel.to_string(), query: Some(query) };
        let request = Request {
            authentication: Some(AuthInfo {
                client_identity: self.signer.serialized_identity(),
                client_tls_cert_hash: self.connection.tls_cert_hash(),
            }),
            queries: vec![query],
        };
        let payload: Bytes = request.encode_to_vec().into();
        let signature = self.signer.sign(&payload).map_err(ClientError::Sign)?;
        let mut rpc =
            DiscoveryClient::new(self.connection.channel()).max_decoding_message_size(MAX_MESSAGE);
        let response = rpc
            .discover(SignedRequest { payload, signature })
            .await
            .map_err(|status| ClientError::rpc(self.address(), "discover", status))?
            .into_inner();
        Ok(response.results.into_iter().next().and_then(|result| result.result))
    }

    /// Calls a system chaincode's function with one argument and returns its answer.
    ///
    /// # Errors
    /// [`ClientError::Proposal`] for an answer of status 400 and above.
    pub async fn call(
        &self,
        channel: Option<&ChannelId>,
        chaincode: &str,
        function: &str,
        arg: Bytes,
    ) -> Result<Bytes, ClientError> {
        let args = vec![Bytes::copy_from_slice(function.as_bytes()), arg];
        self.call_args(channel, chaincode, args).await
    }

    async fn call_args(
        &self,
        channel: Option<&ChannelId>,
        chaincode: &str,
        args: Vec<Bytes>,
    ) -> Result<Bytes, ClientError> {
        let proposal = self.propose(channel, chaincode, args)?;
        let response = self.endorse(chaincode, proposal.signed).await?;
        Ok(response.response.map(|response| response.payload).unwrap_or_default())
    }

    /// A proposal in the signer's name, for several peers to endorse.
    pub(crate) fn propose(
        &self,
        channel: Option<&ChannelId>,
        chaincode: &str,
        args: Vec<Bytes>,
    ) -> Result<BuiltSignedProposal, ClientError> {
        let spec = ProposalSpec {
            channel_id: channel.cloned(),
            chaincode: chaincode.to_owned(),
            args,
            transient: Default::default(),
            is_init: false,
            timestamp: now(),
            nonce: nonce()?,
        };
        spec.sign(self.signer.as_ref()).map_err(ClientError::Sign)
    }

    /// The peer's endorsement of a proposal.
    pub(crate) async fn endorse(
        &self,
        chaincode: &str,
        proposal: SignedProposal,
    ) -> Result<ProposalResponse, ClientError> {
        let mut rpc = EndorserClient::new(self.connection.channel())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let response = rpc
            .process_proposal(proposal)
            .await
            .map_err(|status| ClientError::rpc(self.address(), "process proposal", status))?
            .into_inner();
        let answer = response.response.as_ref();
        let (status, message) =
            answer.map_or((0, String::new()), |answer| (answer.status, answer.message.clone()));
        if !(200..400).contains(&status) {
            return Err(ClientError::Proposal {
                node: self.address().to_owned(),
                chaincode: chaincode.to_owned(),
                status,
                message,
            });
        }
        Ok(response)
    }

    pub(crate) fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn read<M: Message + Default>(&self, answer: Bytes) -> Result<M, ClientError> {
        M::decode(answer).map_err(|error| ClientError::answer(self.address(), error))
    }
}
