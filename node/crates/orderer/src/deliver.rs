//! Who reads which chain: the orderer's side of [`weft_rpc::deliver`] (Fabric:
//! `orderer/common/server/server.go`).

use std::sync::Arc;

use tokio::sync::watch;
use weft_protos::common::Block;
use weft_rpc::deliver::{BoxError, DataType, DeliverChannel, DeliverSource, SeekRequest};
use weft_types::{BlockNumber, ChannelId, Timestamp};

use crate::chain::Channel;
use crate::msgprocessor::Processor;
use crate::registrar::Registrar;

/// A channel as Deliver reads it.
#[derive(Clone)]
pub struct Reader(Arc<Channel>);

impl DeliverSource for Registrar {
    type Channel = Reader;

    fn channel(&self, id: &ChannelId) -> Option<Reader> {
        self.find(id.as_str()).map(Reader)
    }
}

impl DeliverChannel for Reader {
    fn height(&self) -> watch::Receiver<BlockNumber> {
        self.0.height()
    }

    fn config_sequence(&self) -> watch::Receiver<u64> {
        self.0.sequence()
    }

    fn available(&self) -> watch::Receiver<bool> {
        self.0.available()
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, BoxError> {
        self.0.block(number).await.map_err(Into::into)
    }

    fn authorize(
        &self,
        request: &SeekRequest,
        _: DataType,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, BoxError> {
        let bundle = self.0.bundle();
        Processor::new(&bundle, now).reader(&request.envelope).map_err(Into::into)
    }
}
