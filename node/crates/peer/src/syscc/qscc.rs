//! `qscc`: queries of the ledger (Fabric: core/scc/qscc).

use bytes::Bytes;
use prost::Message;
use weft_protos::peer::Response;
use weft_types::BlockNumber;

use super::{Named, SystemCall, SystemChaincodes, error, success};
use crate::channel::{Channel, report};

/// The function with one argument after the channel.
type Query = fn(&Channel, &[u8]) -> Result<Bytes, String>;

impl SystemChaincodes {
    pub(super) async fn qscc(&self, call: &SystemCall<'_>) -> Response {
        if call.args.len() < 2 {
            return error(format!("Incorrect number of arguments, {}", call.args.len()));
        }
        let function = call.function();
        let id = call.text(1).unwrap_or_default();
        if function != "GetChainInfo" && call.args.len() < 3 {
            return error(format!("missing 3rd argument for {function}"));
        }
        let Some(Named { bundle, stored }) = self.named(&id) else {
            return error(format!("Invalid chain ID, {id}"));
        };
        if let Err(denied) = self.check(call, Some(&bundle)) {
            return error(format!("access denied for [{function}][{id}]: [{denied}]"));
        }
        let query: Query = match function.as_ref() {
            "GetChainInfo" => |channel, _| Ok(channel.ledger().info().encode_to_vec().into()),
            "GetBlockByNumber" => block_by_number,
            "GetBlockByHash" => block_by_hash,
            "GetBlockByTxID" => block_by_tx_id,
            "GetTransactionByID" => transaction_by_id,
            _ => return error(format!("Requested function {function} not found.")),
        };
        let argument = call.args.get(2).cloned().unwrap_or_default();
        self.answer(stored.run(|channel| query(channel, &argument)).await)
    }

    fn answer(&self, found: Result<Bytes, String>) -> Response {
        match found {
            Ok(found) if found.len() > self.answer_bytes => error(format!(
                "the answer of {} bytes is larger than {} bytes; take blocks of this size from Deliver",
                found.len(),
                self.answer_bytes
            )),
            found => found.map_or_else(error, success),
        }
    }
}

fn block_by_number(channel: &Channel, argument: &[u8]) -> Result<Bytes, String> {
    let text = String::from_utf8_lossy(argument);
    let number: BlockNumber =
        text.parse().map_err(|e| format!("Failed to parse block number with error {e}"))?;
    // The largest number stands for the newest block.
    let wanted = match number {
        u64::MAX => channel.height().saturating_sub(1),
        number => number,
    };
    let failed = |e: String| format!("Failed to get block number {number}, error {e}");
    block(channel, wanted).map_err(failed)
}

fn block_by_hash(channel: &Channel, hash: &[u8]) -> Result<Bytes, String> {
    let text = hex::encode(hash);
    let failed = |e: String| format!("Failed to get block hash {text}, error {e}");
    let number = channel.ledger().blocks().number_by_hash(hash);
    let number = number.map_err(|e| failed(report(&e)))?;
    let number = number.ok_or_else(|| failed(format!("no such block hash [{text}] in index")))?;
    block(channel, number).map_err(failed)
}

fn block_by_tx_id(channel: &Channel, argument: &[u8]) -> Result<Bytes, String> {
    let id = String::from_utf8_lossy(argument);
    let failed = |e: String| format!("Failed to get block for txID {id}, error {e}");
    let status = channel.tx_status(&id).map_err(|e| failed(report(&e)))?;
    let status = status.ok_or_else(|| failed(format!("no such transaction ID [{id}] in index")))?;
    block(channel, status.block).map_err(failed)
}

fn transaction_by_id(channel: &Channel, argument: &[u8]) -> Result<Bytes, String> {
    let id = String::from_utf8_lossy(argument);
    let failed = |e: String| format!("Failed to get transaction with id {id}, error {e}");
    let found = channel.ledger().transaction(&id).map_err(|e| failed(report(&e)))?;
    let found = found.ok_or_else(|| failed(format!("no such transaction ID [{id}] in index")))?;
    Ok(found.encode_to_vec().into())
}

/// The block as it is stored, which is its encoding.
fn block(channel: &Channel, number: BlockNumber) -> Result<Bytes, String> {
    let found = channel.ledger().blocks().get(number).map_err(|e| report(&e))?;
    found.ok_or_else(|| format!("no such block number [{number}] in index"))
}
