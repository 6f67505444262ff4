//! What carries a transaction's requests: a stream to a peer, or the ledger of `testing`.

use async_trait::async_trait;
use bytes::Bytes;
use weft_protos::peer::chaincode_message::Type;

use crate::ContractError;

/// Carries the requests of one transaction.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Carries out one request and gives the response's payload.
    async fn request(&self, kind: Type, payload: Bytes) -> Result<Bytes, ContractError>;

    /// Most writes in one message; `None` where each must be a message of its own.
    fn write_batch(&self) -> Option<usize>;

    /// Most keys read by one message; `None` where each must be a message of its own.
    fn read_batch(&self) -> Option<usize>;
}
