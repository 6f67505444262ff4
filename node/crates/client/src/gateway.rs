//! Transactions and queries through a peer's Gateway service (Fabric: `gateway/gateway.proto`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use weft_protos::common::Envelope;
use weft_protos::gateway::gateway_client::GatewayClient;
use weft_protos::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, CommitStatusRequest, EndorseRequest,
    EvaluateRequest, SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest,
};
use weft_protos::orderer::SeekPosition;
use weft_protos::peer::{ChaincodeAction, ProposalResponsePayload};
use weft_types::proposal::{BuiltSignedProposal, ProposalSpec};
use weft_types::transaction::ParsedTransaction;
use weft_types::{ChannelId, ParsedPayload, Signer, TxId, ValidationCode};

use crate::connection::{Connection, MAX_MESSAGE, nonce, now};
use crate::error::ClientError;

/// A call of a chaincode's function.
#[derive(Clone, Default)]
pub struct Call {
    /// Name of the chaincode.
    pub chaincode: String,
    /// Name of the function, then its arguments.
    pub args: Vec<Bytes>,
    /// Data for the chaincode that is not part of the transaction.
    pub transient: BTreeMap<String, Bytes>,
    /// Whether this is the required first call.
    pub is_init: bool,
    /// MSP ids of the organizations that endorse; the Gateway works them out when empty.
    pub organizations: Vec<String>,
}

impl fmt::Debug for Call {
    /// Transient data is nobody's business but the contract's: its keys are enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("chaincode", &self.chaincode)
            .field("args", &self.args)
            .field("transient", &self.transient.keys().collect::<Vec<_>>())
            .field("is_init", &self.is_init)
            .field("organizations", &self.organizations)
            .finish()
    }
}

impl Call {
    /// A call with text arguments.
    pub fn new(
        chaincode: &str,
        function: &str,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> Call {
        let mut all = vec![Bytes::copy_from_slice(function.as_bytes())];
        all.extend(args.into_iter().map(|arg| Bytes::from(arg.into().into_bytes())));
        Call { chaincode: chaincode.to_owned(), args: all, ..Call::default() }
    }

    /// The same call with one more value of transient data.
    #[must_use]
    pub fn with_transient(mut self, key: &str, value: impl Into<Bytes>) -> Call {
        self.transient.insert(key.to_owned(), value.into());
        self
    }

    /// The same call, endorsed by these organizations.
    #[must_use]
    pub fn endorsed_by(
        mut self,
        organizations: impl IntoIterator<Item = impl Into<String>>,
    ) -> Call {
        self.organizations = organizations.into_iter().map(Into::into).collect();
        self
    }
}

/// A transaction that an orderer took.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// Its id.
    pub tx_id: TxId,
    /// What the chaincode answered.
    pub result: Bytes,
}

/// A client of one channel through one peer.
#[derive(Clone)]
pub struct Gateway {
    connection: Connection,
    channel_id: ChannelId,
    signer: Arc<dyn Signer>,
}

impl Gateway {
    /// A client that signs as `signer`.
    pub fn new(connection: Connection, channel_id: ChannelId, signer: Arc<dyn Signer>) -> Gateway {
        Gateway { connection, channel_id, signer }
    }

    /// The peer's address.
    pub fn address(&self) -> &str {
        self.connection.address()
    }

    /// Runs a function without a transaction and returns its answer.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] with what the chaincode or the peer said.
    pub async fn evaluate(&self, call: Call) -> Result<Bytes, ClientError> {
        let organizations = call.organizations.clone();
        let proposal = self.propose(call)?;
        let request = EvaluateRequest {
            transaction_id: proposal.tx_id.to_string(),
            channel_id: self.channel_id.to_string(),
            proposed_transaction: Some(proposal.signed),
            target_organizations: organizations,
        };
        let response = self.rpc().evaluate(request).await.map_err(self.error("evaluate"))?;
        Ok(response.into_inner().result.map(|result| result.payload).unwrap_or_default())
    }

    /// Endorses a call and returns the transaction, signed and not yet sent.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] with what each endorser said.
    pub async fn endorse(&self, call: Call) -> Result<(Envelope, Submitted), ClientError> {
        let organizations = call.organizations.clone();
        let proposal = self.propose(call)?;
        let request = EndorseRequest {
            transaction_id: proposal.tx_id.to_string(),
            channel_id: self.channel_id.to_string(),
            proposed_transaction: Some(proposal.signed),
            endorsing_organizations: organizations,
        };
        let response = self.rpc().endorse(request).await.map_err(self.error("endorse"))?;
        let mut envelope = response
            .into_inner()
            .prepared_transaction
            .ok_or_else(|| ClientError::answer(self.address(), "no prepared transaction"))?;
        envelope.signature = self.signer.sign(&envelope.payload).map_err(ClientError::Sign)?;
        let result = self.result_of(&envelope)?;
        Ok((envelope, Submitted { tx_id: proposal.tx_id, result }))
    }

    /// Sends an endorsed transaction to the orderers.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] when no orderer takes it.
    pub async fn send(&self, envelope: Envelope, tx_id: &TxId) -> Result<(), ClientError> {
        let request = SubmitRequest {
            transaction_id: tx_id.to_string(),
            channel_id: self.channel_id.to_string(),
            prepared_transaction: Some(envelope),
        };
        self.rpc().submit(request).await.map_err(self.error("submit"))?;
        Ok(())
    }

    /// Endorses and sends, without waiting for the commit.
    ///
    /// # Errors
    /// As [`Gateway::endorse`] and [`Gateway::send`].
    pub async fn submit_async(&self, call: Call) -> Result<Submitted, ClientError> {
        let (envelope, submitted) = self.endorse(call).await?;
        self.send(envelope, &submitted.tx_id).await?;
        Ok(submitted)
    }

    /// Endorses, sends, and waits until the transaction is committed as valid.
    ///
    /// # Errors
    /// As [`Gateway::submit_async`], and [`ClientError::Invalid`].
    pub async fn submit(&self, call: Call) -> Result<Submitted, ClientError> {
        let submitted = self.submit_async(call).await?;
        let (code, block) = self.commit_status(&submitted.tx_id).await?;
        match code {
            ValidationCode::Valid => Ok(submitted),
            code => Err(ClientError::Invalid { tx_id: submitted.tx_id, block, code }),
        }
    }

    /// Waits until the transaction is committed: its code and its block.
    ///
    /// # Errors
    /// [`ClientError::Rpc`].
    pub async fn commit_status(&self, tx_id: &TxId) -> Result<(ValidationCode, u64), ClientError> {
        let request = CommitStatusRequest {
            transaction_id: tx_id.to_string(),
            channel_id: self.channel_id.to_string(),
            identity: self.signer.serialized_identity(),
        };
        let request: Bytes = request.encode_to_vec().into();
        let signature = self.signer.sign(&request).map_err(ClientError::Sign)?;
        let signed = SignedCommitStatusRequest { request, signature };
        let response =
            self.rpc().commit_status(signed).await.map_err(self.error("commit status"))?;
        let status = response.into_inner();
        let code = ValidationCode::try_from(status.result)
            .map_err(|_| ClientError::answer(self.address(), "an unknown validation code"))?;
        Ok((code, status.block_number))
    }

    /// The chaincode's events, block by block, from `start` on (the next block when `None`).
    ///
    /// # Errors
    /// [`ClientError::Rpc`], for the call and for each item of the stream.
    pub async fn chaincode_events(
        &self,
        chaincode: &str,
        start: Option<SeekPosition>,
    ) -> Result<impl Stream<Item = Result<ChaincodeEventsResponse, ClientError>> + use<>, ClientError>
    {
        let request = ChaincodeEventsRequest {
            channel_id: self.channel_id.to_string(),
            chaincode_id: chaincode.to_owned(),
            identity: self.signer.serialized_identity(),
            start_position: start,
            after_transaction_id: String::new(),
        };
        let request: Bytes = request.encode_to_vec().into();
        let signature = self.signer.sign(&request).map_err(ClientError::Sign)?;
        let signed = SignedChaincodeEventsRequest { request, signature };
        let stream =
            self.rpc().chaincode_events(signed).await.map_err(self.error("chaincode events"))?;
        let node = self.address().to_owned();
        let stream = stream.into_inner().map(move |item| {
            item.map_err(|status| ClientError::rpc(&node, "chaincode events", status))
        });
        Ok(stream)
    }

    fn propose(&self, call: Call) -> Result<BuiltSignedProposal, ClientError> {
        let spec = ProposalSpec {
            channel_id: Some(self.channel_id.clone()),
            chaincode: call.chaincode,
            args: call.args,
            transient: call.transient,
            is_init: call.is_init,
            timestamp: now(),
            nonce: nonce()?,
        };
        spec.sign(self.signer.as_ref()).map_err(ClientError::Sign)
    }

    fn result_of(&self, envelope: &Envelope) -> Result<Bytes, ClientError> {
        let bad = |error: &dyn std::fmt::Display| ClientError::answer(self.address(), error);
        let payload = ParsedPayload::parse(envelope.payload.clone()).map_err(|e| bad(&e))?;
        let transaction = ParsedTransaction::parse(&payload).map_err(|e| bad(&e))?;
        let response = ProposalResponsePayload::decode(transaction.response_payload.clone())
            .map_err(|e| bad(&e))?;
        let action = ChaincodeAction::decode(response.extension).map_err(|e| bad(&e))?;
        Ok(action.response.map(|response| response.payload).unwrap_or_default())
    }

    fn rpc(&self) -> GatewayClient<tonic::transport::Channel> {
        GatewayClient::new(self.connection.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn error(&self, method: &'static str) -> impl FnOnce(tonic::Status) -> ClientError + use<'_> {
        move |status| ClientError::rpc(self.address(), method, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_values_are_not_shown() {
        let call = Call::new("cc", "Sell", ["a"]).with_transient("price", "s3cret");
        let shown = format!("{call:?}");
        assert!(shown.contains("price") && shown.contains("Sell"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
