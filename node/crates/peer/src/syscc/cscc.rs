//! `cscc`: joining channels and reading their configuration (Fabric: core/scc/cscc).

use prost::Message;
use weft_protos::common::Block;
use weft_protos::ext::decode;
use weft_protos::peer::{ChannelInfo, ChannelQueryResponse, Response};

use super::{Named, SystemCall, SystemChaincodes, error, success};
use crate::channel::{JoinError, report};

impl SystemChaincodes {
    pub(super) async fn cscc(&self, call: &SystemCall<'_>) -> Response {
        let function = call.function().into_owned();
        let alone = matches!(function.as_str(), "GetChannels" | "JoinBySnapshotStatus");
        if call.args.is_empty() || (!alone && call.args.len() < 2) {
            return error(format!("Incorrect number of arguments, {}", call.args.len()));
        }
        match function.as_str() {
            "JoinChain" => self.join_chain(call).await,
            "GetConfigBlock" => self.config(call, |newest, _| newest.encode_to_vec()).await,
            "GetChannelConfig" => self.config(call, |_, config| config).await,
            "GetChannels" => self.channels(call),
            "JoinChainBySnapshot" | "JoinBySnapshotStatus" => {
                if let Err(denied) = self.check(call, None) {
                    return error(format!("access denied for [{function}]: [{denied}]"));
                }
                error(format!("{function} is not supported: this peer has no ledger snapshots"))
            }
            _ => error(format!("Requested function {function} not found.")),
        }
    }

    async fn join_chain(&self, call: &SystemCall<'_>) -> Response {
        if let Err(denied) = self.check(call, None) {
            return error(format!("access denied for [JoinChain]: [{denied}]"));
        }
        let genesis = call.args.get(1).cloned().unwrap_or_default();
        let genesis: Block = match decode("genesis block", genesis) {
            Ok(genesis) => genesis,
            Err(e) => return error(format!("Failed to reconstruct the genesis block, {e}")),
        };
        match self.channels.join(genesis).await {
            Ok(channel) => {
                tracing::info!(channel = %channel.id(), "joined a channel");
                success(Vec::new())
            }
            // In the words that Fabric's tools look for.
            Err(JoinError::AlreadyJoined { channel }) => error(format!(
                "cannot create ledger from genesis block: ledger [{channel}] already exists with state [ACTIVE]"
            )),
            Err(refused) => error(format!("\"JoinChain\" failed: {}", report(&refused))),
        }
    }

    /// Answers with something made from the newest config block and the encoded configuration.
    async fn config(
        &self,
        call: &SystemCall<'_>,
        answer: impl FnOnce(Block, Vec<u8>) -> Vec<u8>,
    ) -> Response {
        let (function, name) = (call.function(), call.text(1).unwrap_or_default());
        if name.is_empty() {
            return error("empty channel name provided");
        }
        let Some(Named { bundle, stored }) = self.named(&name) else {
            return error(format!("Unknown channel ID, {name}"));
        };
        if let Err(denied) = self.check(call, Some(&bundle)) {
            return error(format!("access denied for [{function}][{name}]: {denied}"));
        }
        match stored.run(|channel| channel.ledger().blocks().last_config_block()).await {
            Ok(Some(newest)) => success(answer(newest, bundle.config().encode_to_vec())),
            Ok(None) => error(format!("channel {name} has no config block")),
            Err(failed) => error(report(&failed)),
        }
    }

    fn channels(&self, call: &SystemCall<'_>) -> Response {
        if let Err(denied) = self.check(call, None) {
            return error(format!("access denied for [GetChannels]: {denied}"));
        }
        // Also those that have failed: the peer has joined them.
        let channels = self.channels.names().into_iter();
        let channels = channels.map(|channel| ChannelInfo { channel_id: channel.to_string() });
        success(ChannelQueryResponse { channels: channels.collect() }.encode_to_vec())
    }
}
