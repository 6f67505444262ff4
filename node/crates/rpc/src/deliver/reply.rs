//! How blocks and statuses are wrapped for each Deliver method.

use weft_protos::common::{Block, Envelope, HeaderType, Status};
use weft_protos::ext::decode;
use weft_protos::peer::filtered_transaction::Data;
use weft_protos::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, FilteredBlock,
    FilteredChaincodeAction, FilteredTransaction, FilteredTransactionActions,
    ProposalResponsePayload, Transaction, TransactionAction,
};
use weft_protos::{orderer, peer};
use weft_types::{ParsedPayload, ValidationCode, block};

use super::{DataType, SeekRequest};

/// Wraps what a Deliver method sends. `C` is the channel, for replies that need more than the
/// block.
pub trait Reply<C: Sync>: Send + Sync + 'static {
    /// The response message.
    type Message: prost::Message + 'static;

    /// What is sent, which says what right a reader needs.
    fn data_type(&self) -> DataType;

    /// The response that ends a request.
    fn status(&self, status: Status) -> Self::Message;

    /// The response with a block. What else it holds may have to be read.
    ///
    /// # Errors
    /// A status that ends the request.
    fn block(
        &self,
        channel: &C,
        request: &SeekRequest,
        block: Block,
    ) -> impl Future<Output = Result<Self::Message, Status>> + Send;
}

/// `orderer.AtomicBroadcast/Deliver`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrdererReply;

impl<C: Sync> Reply<C> for OrdererReply {
    type Message = orderer::DeliverResponse;

    fn data_type(&self) -> DataType {
        DataType::Block
    }

    fn status(&self, status: Status) -> Self::Message {
        let content = orderer::deliver_response::Type::Status(status as i32);
        orderer::DeliverResponse { r#type: Some(content) }
    }

    async fn block(&self, _: &C, _: &SeekRequest, block: Block) -> Result<Self::Message, Status> {
        let content = orderer::deliver_response::Type::Block(block);
        Ok(orderer::DeliverResponse { r#type: Some(content) })
    }
}

/// `protos.Deliver/Deliver`.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockReply;

impl<C: Sync> Reply<C> for BlockReply {
    type Message = peer::DeliverResponse;

    fn data_type(&self) -> DataType {
        DataType::Block
    }

    fn status(&self, status: Status) -> Self::Message {
        peer_status(status)
    }

    async fn block(&self, _: &C, _: &SeekRequest, block: Block) -> Result<Self::Message, Status> {
        let content = peer::deliver_response::Type::Block(block);
        Ok(peer::DeliverResponse { r#type: Some(content) })
    }
}

/// `protos.Deliver/DeliverFiltered`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FilteredReply;

impl<C: Sync> Reply<C> for FilteredReply {
    type Message = peer::DeliverResponse;

    fn data_type(&self) -> DataType {
        DataType::FilteredBlock
    }

    fn status(&self, status: Status) -> Self::Message {
        peer_status(status)
    }

    async fn block(
        &self,
        _: &C,
        request: &SeekRequest,
        block: Block,
    ) -> Result<Self::Message, Status> {
        let filtered = filtered_block(request.channel(), &block);
        let content = peer::deliver_response::Type::FilteredBlock(filtered);
        Ok(peer::DeliverResponse { r#type: Some(content) })
    }
}

fn peer_status(status: Status) -> peer::DeliverResponse {
    peer::DeliverResponse { r#type: Some(peer::deliver_response::Type::Status(status as i32)) }
}

/// A block without its contents: ids, kinds, validation codes, and events without payload
/// (Fabric: `core/peer/deliverevents.go`). A transaction that cannot be read has its code
/// only, and keeps its place.
pub fn filtered_block(channel: &str, source: &Block) -> FilteredBlock {
    let filter = block::metadata::filter(source);
    let code = |index| filter.as_ref().and_then(|filter| filter.get(index));
    let transactions = block::transactions(source).iter().enumerate();
    FilteredBlock {
        channel_id: channel.to_owned(),
        number: source.header.as_ref().map_or(0, |header| header.number),
        filtered_transactions: transactions
            .map(|(index, raw)| {
                let code = code(index).unwrap_or(ValidationCode::NotValidated);
                let transaction = decode::<Envelope>("envelope", raw.clone())
                    .ok()
                    .and_then(|envelope| ParsedPayload::parse(envelope.payload).ok())
                    .map(|payload| filtered_transaction(&payload))
                    .unwrap_or_default();
                FilteredTransaction { tx_validation_code: code as i32, ..transaction }
            })
            .collect(),
    }
}

fn filtered_transaction(payload: &ParsedPayload) -> FilteredTransaction {
    let header = &payload.header.channel_header;
    let endorsed = header.r#type == HeaderType::EndorserTransaction as i32;
    let actions = endorsed.then(|| {
        let transaction = decode::<Transaction>("transaction", payload.data.clone());
        let actions = transaction.map(|transaction| transaction.actions).unwrap_or_default();
        let chaincode_actions = actions.into_iter().filter_map(filtered_action).collect();
        Data::TransactionActions(FilteredTransactionActions { chaincode_actions })
    });
    FilteredTransaction {
        txid: header.tx_id.clone(),
        r#type: header.r#type,
        data: actions,
        ..FilteredTransaction::default()
    }
}

/// Only actions with an event have an entry.
fn filtered_action(action: TransactionAction) -> Option<FilteredChaincodeAction> {
    let payload: ChaincodeActionPayload = decode("chaincode action", action.payload).ok()?;
    let response: ProposalResponsePayload =
        decode("response payload", payload.action?.proposal_response_payload).ok()?;
    let action: ChaincodeAction = decode("chaincode action", response.extension).ok()?;
    let event: ChaincodeEvent = decode("chaincode event", action.events).ok()?;
    let event = ChaincodeEvent { payload: bytes::Bytes::new(), ..event };
    (!event.chaincode_id.is_empty())
        .then(|| FilteredChaincodeAction { chaincode_event: Some(event) })
}
