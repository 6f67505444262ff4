//! `ChaincodeEvents`: the events of a chaincode, block by block, from a position on and then as
//! blocks are committed (Fabric: internal/pkg/gateway/chaincodeevents.go).
//!
//! Blocks are read when the client is ready for more, so nothing is buffered here. The right to read
//! is checked again after every change of the channel's configuration, which Fabric's does not.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weft_msp::policy::SignedData;
use weft_protos::common::{Block, HeaderType};
use weft_protos::ext::{decode, decode_bounded};
use weft_protos::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, SignedChaincodeEventsRequest,
};
use weft_protos::orderer::seek_position;
use weft_protos::peer::ChaincodeEvent;
use weft_rpc::budget::Slot;
use weft_types::block::metadata;
use weft_types::{BlockNumber, ParsedEnvelope, transaction::ParsedTransaction};

use super::Inner;
use super::admission::Door;
use crate::acl::GATEWAY_CHAINCODE_EVENTS;
use crate::blocking::blocking;
use crate::channel::{Channel, report};

/// The stream of responses.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<ChaincodeEventsResponse, Status>> + Send>>;

/// Reads a channel's blocks one after the other.
struct Reader {
    gateway: Arc<Inner>,
    channel: Arc<Channel>,
    signed: SignedData,
    config: watch::Receiver<u64>,
    height: watch::Receiver<u64>,
    next: BlockNumber,
    filter: Filter,
    shutdown: CancellationToken,
    _slot: Slot,
}

/// Which events are wanted.
struct Filter {
    chaincode: String,
    /// Transactions up to this one are passed over; empty when it has been seen.
    after: String,
}

impl Inner {
    pub(super) async fn chaincode_events(
        self: &Arc<Self>,
        signed: SignedChaincodeEventsRequest,
        door: &Door<'_>,
    ) -> Result<EventStream, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument("a chaincode events request is required"));
        }
        let decoded = decode_bounded("chaincode events request", signed.request.clone());
        let request: ChaincodeEventsRequest = decoded.map_err(|error| {
            let reason = error.source;
            Status::invalid_argument(format!("invalid chaincode events request: {reason}"))
        })?;
        let channel = self.channel(&request.channel_id).map_err(Status::permission_denied)?;
        let config = channel.config_watch();
        let signed = SignedData {
            data: signed.request,
            identity: request.identity.clone(),
            signature: signed.signature,
        };
        self.check(&channel, GATEWAY_CHAINCODE_EVENTS, &signed)?;
        let slot = door.enter(Some(&signed.identity))?;
        let next = blocking(|| start(&channel, &request)).await?;
        let filter =
            Filter { chaincode: request.chaincode_id, after: request.after_transaction_id };
        let reader = Reader {
            gateway: Arc::clone(self),
            height: channel.height_watch(),
            shutdown: self.deps.shutdown.clone(),
            channel,
            signed,
            config,
            next,
            filter,
            _slot: slot,
        };
        Ok(Box::pin(stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.response().await {
                Ok(response) => Some((Ok(response), Some(reader))),
                Err(status) => Some((Err(status), None)),
            }
        })))
    }
}

/// The block to begin with.
fn start(channel: &Channel, request: &ChaincodeEventsRequest) -> Result<BlockNumber, Status> {
    if !request.after_transaction_id.is_empty() {
        let known = channel.tx_status(&request.after_transaction_id);
        if let Some(known) = known.map_err(|error| Status::aborted(report(&error)))? {
            return Ok(known.block);
        }
    }
    let position = request.start_position.as_ref().and_then(|position| position.r#type.as_ref());
    match position {
        None | Some(seek_position::Type::NextCommit(_)) => Ok(channel.height()),
        Some(seek_position::Type::Specified(block)) => Ok(block.number),
        Some(seek_position::Type::Oldest(_)) => Err(unsupported("Oldest")),
        Some(seek_position::Type::Newest(_)) => Err(unsupported("Newest")),
    }
}

fn unsupported(position: &str) -> Status {
    let message = format!("invalid start position type: *orderer.SeekPosition_{position}");
    Status::invalid_argument(message)
}

impl Reader {
    /// The next block that has such events.
    async fn response(&mut self) -> Result<ChaincodeEventsResponse, Status> {
        loop {
            self.wait().await?;
            if self.config.has_changed().unwrap_or(false) {
                self.config.mark_unchanged();
                self.gateway.check(&self.channel, GATEWAY_CHAINCODE_EVENTS, &self.signed)?;
            }
            let number = self.next;
            let block = self.channel.read_block(number).await;
            let block = block.map_err(|error| Status::aborted(report(&error)))?;
            let block =
                block.ok_or_else(|| Status::aborted(format!("block {number} is missing")))?;
            self.next += 1;
            let events = self.filter.events(&block)?;
            if !events.is_empty() {
                return Ok(ChaincodeEventsResponse { events, block_number: number });
            }
            // A long way to the first event must not keep others from their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the next block is there.
    async fn wait(&mut self) -> Result<(), Status> {
        let next = self.next;
        tokio::select! {
            committed = self.height.wait_for(|height| *height > next) => {
                committed.map(|_| ()).map_err(|_| Status::unavailable("the channel is closed"))
            }
            () = self.shutdown.cancelled() => {
                Err(Status::unavailable("the peer is shutting down"))
            }
        }
    }
}

impl Filter {
    /// The events of a block's valid transactions, in order.
    fn events(&mut self, block: &Block) -> Result<Vec<ChaincodeEvent>, Status> {
        let codes = metadata::filter(block)
            .ok_or_else(|| Status::aborted("a block has no validation codes"))?;
        let mut events = Vec::new();
        for (index, raw) in weft_types::block::transactions(block).iter().enumerate() {
            if self.after.is_empty() && !codes.is_valid(index) {
                continue;
            }
            // Whatever cannot be read is not valid, and has no events.
            let Ok(envelope) = ParsedEnvelope::parse(raw.clone()) else { continue };
            if !self.after.is_empty() {
                if envelope.header().tx_id_text() == self.after {
                    self.after.clear();
                }
                continue;
            }
            if envelope.header().header_type() != Some(HeaderType::EndorserTransaction) {
                continue;
            }
            events.extend(event(&envelope).filter(|event| event.chaincode_id == self.chaincode));
        }
        Ok(events)
    }
}

/// The event of a transaction.
fn event(envelope: &ParsedEnvelope) -> Option<ChaincodeEvent> {
    let transaction = ParsedTransaction::parse(&envelope.payload).ok()?;
    if transaction.action.events.is_empty() {
        return None;
    }
    decode("chaincode event", transaction.action.events).ok()
}
